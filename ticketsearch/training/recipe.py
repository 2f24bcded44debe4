"""The recipe of a training, its data order, and where it runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ticketsearch.checks import is_integer
from ticketsearch.checks import is_number as is_number
from ticketsearch.errors import BadInput, unknown
from ticketsearch.training.mask_modes import MASKINGS

__all__ = [
    "OPTIMIZERS",
    "PRECISIONS",
    "SCHEDULES",
    "Recipe",
    "check_batch",
    "data_order",
    "find_device",
    "in_precision",
    "is_number",
    "one_thread",
    "reproducible",
    "with_tf32",
]

# Fused: one pass over weights, gradients and momenta. On CUDA they are recorded in graphs, where a rate that
# changes is a tensor.
OPTIMIZERS: dict[str, Callable[[list[Tensor], Recipe], torch.optim.Optimizer]] = {
    "sgd": lambda p, r: torch.optim.SGD(
        p, lr=_rate(p, r), momentum=r.momentum, weight_decay=r.weight_decay, fused=True
    ),
    "nesterov": lambda p, r: torch.optim.SGD(
        p, lr=_rate(p, r), momentum=r.momentum, weight_decay=r.weight_decay, nesterov=True, fused=True
    ),
    "adam": lambda p, r: torch.optim.Adam(
        p, lr=_rate(p, r), weight_decay=r.weight_decay, fused=True, capturable=p[0].is_cuda
    ),
    "adamw": lambda p, r: torch.optim.AdamW(
        p, lr=_rate(p, r), weight_decay=r.weight_decay, fused=True, capturable=p[0].is_cuda
    ),
}
# What the learning rate is multiplied by after a share in [0, 1] of the steps.
SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "linear": lambda done: 1.0 - done,
    "cosine": lambda done: (1.0 + math.cos(math.pi * done)) / 2,
}
# Sample numbers in one data order: 2 GiB of them.
MAX_ORDER = 2**28
PRECISIONS = ("float32", "tf32", "bfloat16")


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes
    ----------
    steps : optimizer steps.
    batch : samples a step.
    optimizer : ``sgd`` (with momentum), ``nesterov``, ``adam`` or ``adamw``.
    lr, momentum, weight_decay : as in torch.optim; momentum is for ``sgd`` and ``nesterov``.
    lr_schedule : of the learning rate: ``constant``, or over all steps to zero, ``linear`` or ``cosine``
        (Loshchilov & Hutter 2017, "SGDR", equation 5, without restarts). A training that ends with small
        steps depends much less on its data order, so that masks are told apart by fewer trainings. Where
        training is stopped before, as at the lower rungs of a ladder, so is the schedule.
    masking : ``parameter``, ``gradient`` or ``forward``; see :mod:`ticketsearch.training.mask_modes`.
    precision : of products and convolutions in training: ``float32`` (or float64 where tensors are),
        ``tf32``, which only CUDA devices have, or ``bfloat16``. Weights, losses and evaluations stay as they
        are.
    """

    steps: int = 200
    batch: int = 128
    optimizer: str = "sgd"
    lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 0.0
    lr_schedule: str = "constant"
    masking: str = "parameter"
    precision: str = "float32"

    def __post_init__(self) -> None:
        names: dict[str, Collection[str]] = {
            "optimizer": OPTIMIZERS,
            "lr_schedule": SCHEDULES,
            "masking": MASKINGS,
            "precision": PRECISIONS,
        }
        for kind, known in names.items():
            name = getattr(self, kind)
            if not isinstance(name, str) or name not in known:
                raise unknown(kind, name, known)
        rules = {
            "steps": (is_integer(self.steps) and self.steps >= 0, "an integer >= 0"),
            "batch": (is_integer(self.batch) and self.batch >= 1, "an integer >= 1"),
            "lr": (is_number(self.lr) and 0 < self.lr < math.inf, "> 0 and finite"),
            "momentum": (is_number(self.momentum) and 0 <= self.momentum < 1, "in [0, 1)"),
            "weight_decay": (
                is_number(self.weight_decay) and 0 <= self.weight_decay < math.inf,
                ">= 0 and finite",
            ),
        }
        for name, (holds, rule) in rules.items():
            if not holds:
                raise BadInput(f"{name} must be {rule}, but got {getattr(self, name)!r}")
        if self.steps * self.batch > MAX_ORDER:
            raise BadInput(
                f"steps x batch must be <= {MAX_ORDER:,}, as a data order is held whole, but got "
                f"{self.steps} x {self.batch}; take fewer steps"
            )
        if self.optimizer == "nesterov" and self.momentum == 0:
            raise BadInput("nesterov needs momentum > 0, but got 0; use sgd for none")

    def rate(self, step: int) -> float:
        """Return the learning rate of step 0, 1, …; after the last one, what the schedule ends with."""
        return self.lr * SCHEDULES[self.lr_schedule](step / self.steps if step < self.steps else 1.0)


def _rate(parameters: Sequence[Tensor], recipe: Recipe) -> float | Tensor:
    """Return the learning rate as an optimizer is to hold it."""
    if recipe.lr_schedule == "constant" or not parameters[0].is_cuda:
        return recipe.lr
    # Fused kernels take it in float32 only, whatever the weights are.
    return torch.tensor(recipe.lr, dtype=torch.float32, device=parameters[0].device)


def data_order(
    samples: int, recipe: Recipe, seed: np.random.SeedSequence | Sequence[int]
) -> NDArray[np.int64]:
    """Return sample numbers ``(steps, batch)``: one random permutation of the training part after another.

    ``seed`` is a ``SeedSequence`` (see :mod:`ticketsearch.random_streams`), or entropy for one.
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


def in_precision(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """Return a context in which forward passes go in bfloat16, and so their gradients, if asked for."""
    if precision != "bfloat16":
        return nullcontext()
    # Without the cache: inside another autocast it would outlive the step, and the weights it holds.
    return torch.autocast(device.type, dtype=torch.bfloat16, cache_enabled=False)


@contextmanager
def with_tf32(precision: str) -> Iterator[None]:
    """Let a CUDA device round the factors of products and convolutions to TF32 inside, if asked for."""
    if precision != "tf32":
        yield
        return
    backends: Any = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [backend.allow_tf32 for backend in backends]
    for backend in backends:
        backend.allow_tf32 = True
    try:
        yield
    finally:
        for backend, allowed in zip(backends, before, strict=True):
            backend.allow_tf32 = allowed


def find_device(device: str) -> torch.device:
    """Return the device that ``auto``, ``cpu``, ``cuda`` or ``cuda:N`` names.

    Raises :class:`BadInput` for another name or a CUDA device that is not there.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError, ValueError):
        found = torch.device("meta")
    if found.type not in ("cpu", "cuda") or (found.type == "cpu" and found.index):
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


@contextmanager
def reproducible() -> Iterator[None]:
    """Run torch on one CPU thread inside, and convolutions on CUDA in full precision and one fixed way.

    Left to itself cuDNN rounds to TF32 and adds up gradients in an order that varies from run to run. What a
    caller may have switched on, autocast or a mode without gradients, is off inside.
    """
    cudnn: Any = torch.backends.cudnn
    wanted = {"deterministic": True, "benchmark": False, "allow_tf32": False}
    before = {name: getattr(cudnn, name) for name in wanted}
    plain = (torch.autocast(kind, enabled=False) for kind in ("cpu", "cuda"))
    with one_thread(), torch.inference_mode(False), torch.enable_grad(), ExitStack() as stack:
        for context in plain:
            stack.enter_context(context)
        for name, value in wanted.items():
            setattr(cudnn, name, value)
        try:
            yield
        finally:
            for name, value in before.items():
                setattr(cudnn, name, value)
