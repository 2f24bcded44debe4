"""Functions of steps: sums, products, selections and maps by a tensor, as plain callables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ticketsearch.typing import Indices

__all__ = ["Expansion", "Index", "Operand", "Padding", "Scale", "Select", "Shift", "Sum", "Zeros"]


@dataclass(frozen=True)
class Sum:
    """``a + scale * b``; a difference where the scale is -1."""

    scale: float = 1.0

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the sum."""
        return torch.add(a, b, alpha=self.scale)


@dataclass(frozen=True)
class Operand:
    """A parameter or buffer as the other operand of values: maps of its entries, then a shape.

    The shape is that of a value with its axis of samples, 1 along broadcast axes, and -1 along the axis of
    units if units have entries of their own: compaction changes their number.
    """

    maps: tuple[Callable[[Tensor], Tensor], ...]
    shape: tuple[int, ...]

    def __call__(self, tensor: Tensor) -> Tensor:
        """Return the tensor as ``(1, ...)``."""
        for function in self.maps:
            tensor = function(tensor)
        return tensor.reshape(self.shape)


@dataclass(frozen=True)
class Scale:
    """A value times a tensor, or over it."""

    operand: Operand
    inverse: bool = False

    def __call__(self, x: Tensor, tensor: Tensor) -> Tensor:
        """Return the multiple of ``x``."""
        other = self.operand(tensor)
        return x / other if self.inverse else x * other

    def factor(self, tensor: Tensor) -> Tensor:
        """Return the factor of values, ``(1, ...)``."""
        other = self.operand(tensor)
        return 1 / other if self.inverse else other


@dataclass(frozen=True)
class Shift:
    """A value plus a multiple of a tensor; ``negative`` negates the value.

    ``learned`` says that the tensor is a parameter, not a buffer.
    """

    operand: Operand
    scale: float = 1.0
    negative: bool = False
    learned: bool = True

    def __call__(self, x: Tensor, tensor: Tensor) -> Tensor:
        """Return the sum."""
        return torch.add(-x if self.negative else x, self.operand(tensor), alpha=self.scale)

    def added(self, tensor: Tensor) -> Tensor:
        """Return the summand of values, ``(1, ...)``."""
        return self.operand(tensor) * self.scale


@dataclass(frozen=True)
class Select:
    """Some of the features along the neuron axis, by number."""

    numbers: tuple[int, ...]

    def __call__(self, x: Tensor) -> Tensor:
        """Return the features of ``x``, a view where they are consecutive."""
        first, count = self.numbers[0], len(self.numbers)
        if self.numbers == tuple(range(first, first + count)):
            return x.narrow(1, first, count)
        return x.index_select(1, torch.tensor(self.numbers, device=x.device))

    def among(self, kept: Indices) -> tuple[Indices, Select]:
        """Return the features that remain if the source keeps some of its own, and their selection."""
        numbers = np.array(self.numbers)
        remaining = np.flatnonzero(np.isin(numbers, kept))
        return remaining, Select(tuple(np.searchsorted(kept, numbers[remaining]).tolist()))


@dataclass(frozen=True)
class Zeros:
    """Zeros of a shape, one for each sample."""

    shape: tuple[int, ...]

    def __call__(self, x: Tensor) -> Tensor:
        """Return zeros ``(samples, *shape)``."""
        return x.new_zeros(len(x), *self.shape)


@dataclass(frozen=True)
class Index:
    """Slices and single indices of positions; the axes of samples and units stay whole."""

    index: tuple[slice | int | None, ...]

    def __call__(self, x: Tensor) -> Tensor:
        """Return the indexed positions of ``x``."""
        return x[self.index]


@dataclass(frozen=True)
class Padding:
    """More positions: zeros, or those that a mode of ``torch.nn.functional.pad`` repeats."""

    margins: tuple[int, ...]
    mode: str

    def __call__(self, x: Tensor) -> Tensor:
        """Return ``x`` with margins."""
        return F.pad(x, self.margins, mode=self.mode)


@dataclass(frozen=True)
class Expansion:
    """Single positions repeated; units and samples stay as they are."""

    positions: tuple[int, ...]

    def __call__(self, x: Tensor) -> Tensor:
        """Return ``x`` as ``(samples, units, *positions)``."""
        return x.expand(*x.shape[:2], *self.positions)
