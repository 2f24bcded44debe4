"""Parts: networks of a cohort that one engine trains, and what all engines have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ticketsearch.masks import Guidance, Mask, MaskSpec
from ticketsearch.training.dropout import Noise
from ticketsearch.training.recipe import Recipe
from ticketsearch.training.saliency import Slopes
from ticketsearch.wiring import Compaction, Wiring

__all__ = ["AutogradPart", "Part", "PartTraining", "State", "loss_gradient"]

# Kept weights, biases, their optimizer state, and buffers; the engine names the arrays.
State = dict[str, NDArray[Any]]


class PartTraining(Protocol):
    """The training of a part; ``at_once`` is the number of steps of one call of reasonable length."""

    @property
    def at_once(self) -> int: ...  # noqa: D102 - see the engines

    def advance(self, begin: int, until: int) -> None: ...  # noqa: D102

    def states(self) -> list[State]: ...  # noqa: D102

    def restore(self, states: Sequence[State]) -> None: ...  # noqa: D102

    def guidance(  # noqa: D102
        self, begin: int, share: float, saliency: str, specs: Sequence[MaskSpec] | None
    ) -> list[Guidance | None]: ...


class Part(Protocol):
    """Networks of a cohort that one engine trains; first axes have length ``size``."""

    size: int
    block: int
    compactions: Sequence[Compaction]
    whole_mask: Mask

    def training(  # noqa: D102 - see the engines
        self, recipe: Recipe, x: Tensor, y: Tensor, order: NDArray[np.int64]
    ) -> PartTraining: ...

    def forward(self, x: Tensor, *, masked: bool | None = None) -> Tensor: ...  # noqa: D102

    def parameters(self) -> dict[str, Tensor]: ...  # noqa: D102

    def buffers(self) -> dict[str, Tensor]: ...  # noqa: D102


class AutogradPart(Protocol):
    """Networks whose gradients torch computes."""

    size: int
    stacked: bool
    device: torch.device
    dtype: torch.dtype
    wiring: Wiring
    compactions: Sequence[Compaction]
    whole_mask: Mask
    moved: dict[str, Tensor]

    @property
    def classes(self) -> int: ...  # noqa: D102 - see the engines

    @property
    def trainable(self) -> list[Tensor]: ...  # noqa: D102

    @property
    def keeps(self) -> Sequence[Tensor | None]: ...  # noqa: D102

    def forward(  # noqa: D102
        self, x: Tensor, noise: Noise | None = None, *, masked: bool | None = None
    ) -> Tensor: ...

    def backward(self, logits: Tensor, gradient: Tensor) -> None: ...  # noqa: D102

    def slopes(  # noqa: D102
        self, x: Tensor, gradient: Callable[[Tensor, slice], Tensor], *, curved: bool
    ) -> Slopes: ...

    def parameters(self) -> Mapping[str, Tensor]: ...  # noqa: D102


def loss_gradient(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the gradient of each network's mean cross-entropy by its logits ``(P, classes, samples)``.

    ``targets`` hold 1 at each sample's class, ``(samples, classes)`` for all or ``(P, samples, classes)``.
    """
    gradient = F.softmax(logits.to(targets.dtype), dim=1)
    gradient -= targets.transpose(-1, -2)
    return gradient.div_(logits.shape[2]).to(logits.dtype)
