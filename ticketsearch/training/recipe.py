"""The recipe of a training, and its data order."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ticketsearch.checks import is_integer, is_number
from ticketsearch.errors import BadInput, unknown
from ticketsearch.training.mask_modes import MASKINGS

__all__ = ["OPTIMIZERS", "PRECISIONS", "SCHEDULES", "Recipe", "check_batch", "data_order"]

# Fused: one pass over weights, gradients and momenta. On CUDA steps are recorded in graphs, in which a
# changing rate is a tensor.
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
# Factor of the learning rate after a share in [0, 1] of the steps.
SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "linear": lambda done: 1.0 - done,
    "cosine": lambda done: (1.0 + math.cos(math.pi * done)) / 2,
}
# Sample indices of one data order: 2 GiB.
MAX_ORDER = 2**28
PRECISIONS = ("float32", "tf32", "bfloat16")


@dataclass(frozen=True)
class Recipe:
    """Recipe of a training: optimizer, learning rate, masking and precision.

    Attributes
    ----------
    steps : number of optimizer steps.
    batch : number of samples of a step.
    optimizer : ``sgd`` (with momentum), ``nesterov``, ``adam`` or ``adamw``.
    lr, momentum, weight_decay : as in torch.optim; momentum is for ``sgd`` and ``nesterov``.
    lr_schedule : schedule of the learning rate: ``constant``, or to zero over all steps, ``linear`` or
        ``cosine`` (Loshchilov & Hutter 2017, "SGDR", equation 5, without restarts). A training that ends
        with small steps depends much less on its data order, so that fewer trainings rank masks. Training
        that stops earlier, as at the lower rungs of successive halving, stops the schedule with it.
    masking : effect of the mask on the forward pass and its gradient: ``parameter``, ``gradient`` or
        ``forward``; see :mod:`ticketsearch.training.mask_modes`.
    precision : precision of products and convolutions in training: ``float32`` (or float64 for tensors of
        that type), ``tf32``, which only CUDA devices have, or ``bfloat16``. Weights, losses and evaluations
        keep their type.

    Raises :class:`BadInput` for a value out of its range.
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
                f"steps x batch must be <= {MAX_ORDER:,}, since a data order is held whole, but got "
                f"{self.steps} x {self.batch}; take fewer steps"
            )
        if self.optimizer == "nesterov" and self.momentum == 0:
            raise BadInput("nesterov needs momentum > 0, but got 0; take sgd for training without momentum")

    def rate(self, step: int) -> float:
        """Return the learning rate of step 0, 1, …; after the last step, the final value of the schedule."""
        return self.lr * SCHEDULES[self.lr_schedule](step / self.steps if step < self.steps else 1.0)


def _rate(parameters: Sequence[Tensor], recipe: Recipe) -> float | Tensor:
    """Return the learning rate in the form that an optimizer holds."""
    if recipe.lr_schedule == "constant" or not parameters[0].is_cuda:
        return recipe.lr
    # Fused kernels take rates in float32 only, whatever type the weights have.
    return torch.tensor(recipe.lr, dtype=torch.float32, device=parameters[0].device)


def data_order(
    samples: int, recipe: Recipe, seed: np.random.SeedSequence | Sequence[int]
) -> NDArray[np.int64]:
    """Return sample indices ``(steps, batch)``: one random permutation of the training part after another.

    ``seed`` is a ``SeedSequence`` (see :mod:`ticketsearch.random_streams`), or entropy for one.
    Raises :class:`BadInput` if a batch is larger than the training part.
    """
    check_batch(samples, recipe)
    rng = np.random.default_rng(seed)
    epochs = -(-recipe.steps * recipe.batch // samples)
    order = np.concatenate([rng.permutation(samples) for _ in range(max(epochs, 1))])
    return order[: recipe.steps * recipe.batch].reshape(recipe.steps, recipe.batch).astype(np.int64)


def check_batch(samples: int, recipe: Recipe) -> None:
    """Raise :class:`BadInput` if a batch is larger than a training part of this many samples."""
    if recipe.batch > samples:
        raise BadInput(
            f"a batch is at most the training part, {samples} samples, but got batch={recipe.batch}; "
            "take a smaller one (training.batch)"
        )
