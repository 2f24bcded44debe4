"""The engine: trains a whole cohort of masked networks as one tensor program.

The weights of P networks are stacked along a first axis and every layer is one batched product, on the
CPU or a CUDA device. A mask multiplies its weights in the forward pass, so by equation 3 of the seed note
the gradient is masked too, and pruned weights stay exactly zero under every optimizer here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ticketsearch.datasets import Dataset
from ticketsearch.errors import BadInput, unknown
from ticketsearch.masks import Mask
from ticketsearch.wiring import Wiring

__all__ = [
    "OPTIMIZERS",
    "Cohort",
    "Evaluation",
    "Recipe",
    "check_batch",
    "data_order",
    "evaluate",
    "find_device",
    "one_thread",
    "train",
]

OPTIMIZERS: dict[str, Callable[[list[Tensor], Recipe], torch.optim.Optimizer]] = {
    "sgd": lambda p, r: torch.optim.SGD(p, lr=r.lr, momentum=r.momentum, weight_decay=r.weight_decay),
    "nesterov": lambda p, r: torch.optim.SGD(
        p, lr=r.lr, momentum=r.momentum, weight_decay=r.weight_decay, nesterov=True
    ),
    "adam": lambda p, r: torch.optim.Adam(p, lr=r.lr, weight_decay=r.weight_decay),
    "adamw": lambda p, r: torch.optim.AdamW(p, lr=r.lr, weight_decay=r.weight_decay),
}
# Samples an evaluation takes at once: bounds its memory; fixed, since a sum's last bits follow its blocks.
EVALUATION_BATCH = 1024
# Sample numbers in one data order: 2 GiB of them.
MAX_ORDER = 2**28
# Widths are filled up with masked units to a multiple of this, so that every network of a cohort begins on a
# cache line and ends on a whole vector: kernels round by alignment and at the tail, i.e. by position.
ALIGNMENT = 32


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes
    ----------
    steps : optimizer steps.
    batch : samples a step.
    optimizer : ``sgd`` (with momentum), ``nesterov``, ``adam`` or ``adamw``.
    lr, momentum, weight_decay : as in torch.optim; momentum is for ``sgd`` and ``nesterov``.
    """

    steps: int = 200
    batch: int = 128
    optimizer: str = "sgd"
    lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise unknown("optimizer", self.optimizer, OPTIMIZERS)
        rules = (
            ("steps", self.steps, self.steps >= 0, ">= 0"),
            ("batch", self.batch, self.batch >= 1, ">= 1"),
            ("lr", self.lr, 0 < self.lr < math.inf, "> 0 and finite"),
            ("momentum", self.momentum, 0 <= self.momentum < 1, "in [0, 1)"),
            ("weight_decay", self.weight_decay, self.weight_decay >= 0, ">= 0"),
        )
        for name, value, holds, rule in rules:
            if not holds:
                raise BadInput(f"{name} must be {rule}, but got {value}")
        if self.steps * self.batch > MAX_ORDER:
            raise BadInput(
                f"steps x batch must be <= {MAX_ORDER:,}, as a data order is held whole, but got "
                f"{self.steps} x {self.batch}; take fewer steps"
            )
        if self.optimizer == "nesterov" and self.momentum == 0:
            raise BadInput("nesterov needs momentum > 0, but got 0; use sgd for none")


class Evaluation(NamedTuple):
    """Mean cross-entropy (nats) and accuracy in [0, 1] of each network of a cohort, both ``(P,)`` float64."""

    loss: NDArray[np.float64]
    accuracy: NDArray[np.float64]


class Cohort:
    """P networks of one architecture, each with its own mask, stacked.

    Parameters
    ----------
    wiring : of the architecture.
    masks : ``(P, weights)`` bool.
    initial : initial parameters ``{name: tensor}``; one for all or one for each mask.
    device, dtype : where and in what precision the networks are trained.
    """

    def __init__(
        self,
        wiring: Wiring,
        masks: Mask,
        initial: Sequence[dict[str, Tensor]],
        *,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if len(initial) not in (1, len(masks)):
            raise BadInput(f"initial parameters are 1 or one a mask ({len(masks)}), but got {len(initial)}")
        self.wiring = wiring
        self.size = len(masks)
        self.device = device
        self.dtype = dtype

        def stack(name: str) -> Tensor:
            tensor = torch.stack([_filled(parameters[name]) for parameters in initial]).to(device, dtype)
            return tensor if len(initial) == self.size else tensor.repeat(self.size, *[1] * (tensor.ndim - 1))

        bits = torch.from_numpy(np.packbits(masks, axis=1))  # one transfer, an eighth of the bytes
        shifts = torch.arange(7, -1, -1, dtype=torch.uint8)
        flat = (
            ((bits.to(device)[:, :, None] >> shifts.to(device)) & 1).flatten(1)[:, : masks.shape[1]].to(dtype)
        )
        self.masks = [
            _filled(flat[:, layer.slice].reshape(self.size, *layer.shape), axes=2)
            for layer in wiring.spec.layers
        ]
        self.weights = [
            (stack(layer.name) * mask).requires_grad_()
            for layer, mask in zip(wiring.spec.layers, self.masks, strict=True)
        ]
        self.biases = [None if name is None else stack(name).requires_grad_() for name in wiring.biases]

    @property
    def trainable(self) -> list[Tensor]:
        """The stacked tensors that an optimizer moves."""
        return [*self.weights, *(bias for bias in self.biases if bias is not None)]

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(P, samples, classes)`` of ``(samples, features)``, one for all or one for each."""
        x = _filled(x, axes=1)
        if x.ndim == 2:
            x = x.expand(self.size, *x.shape)

        def linear(layer: int, value: Tensor) -> Tensor:
            weight = (self.weights[layer] * self.masks[layer]).transpose(1, 2)
            bias = self.biases[layer]
            return torch.bmm(value, weight) if bias is None else torch.baddbmm(bias[:, None], value, weight)

        values = self.wiring.run(x, linear=linear, elementwise=lambda f, v: f(v), add=torch.add)
        return values[-1][:, :, : self.wiring.spec.groups[self.wiring.spec.nodes[-1].group].size]

    def parameters(self) -> dict[str, Tensor]:
        """Return ``{name: (P, *shape) tensor}``: copies of the present parameters, pruned weights zero."""
        named: dict[str, Tensor] = {}
        layers = zip(
            self.wiring.spec.layers, self.weights, self.masks, self.wiring.biases, self.biases, strict=True
        )
        for layer, weight, mask, name, bias in layers:
            rows, columns = layer.shape
            named[layer.name] = (weight.detach() * mask)[:, :rows, :columns].clone()
            if name is not None and bias is not None:
                named[name] = bias.detach()[:, :rows].clone()
        return named


def train(
    cohort: Cohort,
    dataset: Dataset,
    recipe: Recipe,
    orders: Sequence[NDArray[np.int64]],
    *,
    after_step: Callable[[int], Any] | None = None,
) -> None:
    """Train a cohort in place on the training part.

    ``orders`` holds one data order ``(steps, batch)`` of sample numbers for all networks, or one for each.
    ``after_step(step)`` is called after each optimizer step; nothing else synchronises with the device.
    """
    x, y = _resident(dataset.x_train, dataset.y_train, cohort)
    order = torch.from_numpy(np.stack(orders)).to(cohort.device)
    optimizer = OPTIMIZERS[recipe.optimizer](cohort.trainable, recipe)
    for step in range(recipe.steps):
        chosen = order[0, step] if len(orders) == 1 else order[:, step]
        logits = cohort.forward(x[chosen])
        labels = y[chosen].expand(cohort.size, -1)
        # Each network's loss is its own mean; their sum keeps the gradients apart.
        loss = F.cross_entropy(logits.flatten(0, 1), labels.reshape(-1), reduction="sum") / labels.shape[1]
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if after_step is not None:
            after_step(step)


@torch.no_grad()
def evaluate(cohort: Cohort, x: Tensor, y: Tensor) -> Evaluation:
    """Return each network's mean cross-entropy and accuracy on samples ``x`` with labels ``y``."""
    x, y = _resident(x, y, cohort)
    loss = torch.zeros(cohort.size, dtype=torch.float64, device=cohort.device)
    correct = torch.zeros(cohort.size, dtype=torch.int64, device=cohort.device)
    blocks = [torch.split(whole, EVALUATION_BATCH) for whole in (x, y)]
    for samples, labels in zip(*blocks, strict=True):
        logits = cohort.forward(samples)
        each = F.cross_entropy(
            logits.flatten(0, 1), labels.expand(cohort.size, -1).reshape(-1), reduction="none"
        )
        loss += each.view(cohort.size, -1).sum(1, dtype=torch.float64)
        correct += (logits.argmax(2) == labels).sum(1)
    return Evaluation((loss / len(y)).cpu().numpy(), (correct.double() / len(y)).cpu().numpy())


def data_order(
    samples: int, recipe: Recipe, seed: np.random.SeedSequence | Sequence[int]
) -> NDArray[np.int64]:
    """Return sample numbers ``(steps, batch)``: one random permutation of the training part after another.

    ``seed`` is a ``SeedSequence`` (see :mod:`ticketsearch.streams`), or entropy for one.
    Raises :class:`BadInput` if a batch is larger than the training part.
    """
    check_batch(samples, recipe)
    rng = np.random.default_rng(seed)
    epochs = -(-recipe.steps * recipe.batch // samples)
    order = np.concatenate([rng.permutation(samples) for _ in range(max(epochs, 1))])
    return order[: recipe.steps * recipe.batch].reshape(recipe.steps, recipe.batch).astype(np.int64)


def check_batch(samples: int, recipe: Recipe) -> None:
    """Raise :class:`BadInput` if a batch is larger than a training part of so many samples."""
    if recipe.batch > samples:
        raise BadInput(
            f"a batch is at most the training part, but got batch={recipe.batch} for {samples} samples"
        )


def find_device(device: str) -> torch.device:
    """Return the device that ``auto``, ``cpu``, ``cuda`` or ``cuda:N`` names.

    Raises :class:`BadInput` for another name or a CUDA device that is not there.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError:
        found = torch.device("meta")
    if found.type not in ("cpu", "cuda"):
        raise BadInput(f"a device is auto, cpu, cuda or cuda:N, but got {device!r}")
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise BadInput(
            f"device {device!r} was asked for, but {torch.cuda.device_count()} CUDA devices are here"
        )
    return found


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one CPU thread inside: with two, slices of one product may differ in their last bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _resident(x: Tensor, y: Tensor, cohort: Cohort) -> tuple[Tensor, Tensor]:
    return _filled(x.flatten(1).to(cohort.device, cohort.dtype), axes=1), y.to(cohort.device)


def _filled(tensor: Tensor, axes: int | None = None) -> Tensor:
    """Fill the last ``axes`` axes (by default all) with zeros to multiples of ALIGNMENT."""
    sizes = tensor.shape if axes is None else tensor.shape[-axes:]
    missing = [-size % ALIGNMENT for size in reversed(sizes)]
    return F.pad(tensor, [amount for size in missing for amount in (0, size)]) if any(missing) else tensor
