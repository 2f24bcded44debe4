"""Flows through maskable layers; the work follows the number of kept weights.

A layer stores the kept weights of all copies, ordered by copy and index. ``forward`` takes the flow into it,
``backward`` the flow from its value to the outputs; ``cut`` drops weights.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ticketsearch.masks import Layer
from ticketsearch.typing import Floats, Indices
from ticketsearch.wiring import Convolution

__all__ = ["ConvolutionFlow", "FlowLayer", "LinearFlow"]

# Below this share of kept weights a Linear layer is computed from them alone. Measured: a product with a
# dense matrix costs about a twentieth a weight of one by indices.
SPARSE = 0.04
# A convolution is made smaller when no more than this share of its rows and columns still has weights.
SHRINK = 0.8


class FlowLayer:
    """Base of the layers: the kept weights of all copies.

    Parameters
    ----------
    layer : the layer.
    weights : ``(copies, *shape)`` non-negative weights; the array is reused.
    numbers : for each copy the ascending indices of its kept weights within the layer.
    slopes : score pruned weights too: initial weight times slope of all weights.
    """

    def __init__(self, layer: Layer, weights: Tensor, numbers: list[Indices], *, slopes: bool) -> None:
        self.size = layer.size
        self.shape = layer.shape
        self.copies = len(weights)
        self.full = weights.clone() if slopes else None
        self.bounds = np.cumsum([0, *(len(copy_numbers) for copy_numbers in numbers)])
        self.numbers = np.concatenate(
            [copy_numbers + copy * layer.size for copy, copy_numbers in enumerate(numbers)]
        )
        self.dense: Tensor | None = weights
        if len(self.numbers) < weights.numel():
            flat = weights.view(-1).numpy()
            values = flat[self.numbers]
            flat[:] = 0.0
            flat[self.numbers] = values

    def cut(self, keep: NDArray[np.bool_]) -> None:
        """Drop the weights that are not kept."""
        spans = itertools.pairwise(self.bounds)
        self.bounds = np.cumsum([0, *(np.count_nonzero(keep[a:b]) for a, b in spans)])
        self._drop(keep)

    def _drop(self, keep: NDArray[np.bool_]) -> None:
        assert self.dense is not None
        self.dense.view(-1).numpy()[self.numbers[~keep]] = 0.0
        self.numbers = self.numbers[keep]

    def forward(self, value: Tensor) -> Tensor:
        """Return the layer's value ``(copies, *)`` for the flow into it."""
        raise NotImplementedError

    def backward(self, out: Tensor) -> tuple[Floats, Tensor]:
        """Return the scores of the kept weights, and the flow from the layer's input to the outputs."""
        raise NotImplementedError


class LinearFlow(FlowLayer):
    """A Linear layer: a stack of matrices, and lists of weights when few are left."""

    def __init__(self, layer: Layer, weights: Tensor, numbers: list[Indices], *, slopes: bool) -> None:
        super().__init__(layer, weights, numbers, slopes=slopes)
        self.values: Floats = np.empty(0)
        self.rows = self.columns = np.empty(0, dtype=np.intp)
        self.into = torch.empty(0)
        self.products: Floats = np.empty(0)
        self._thin_out()

    def _drop(self, keep: NDArray[np.bool_]) -> None:
        if self.dense is None:
            self.values, self.rows, self.columns = self.values[keep], self.rows[keep], self.columns[keep]
        else:
            super()._drop(keep)
            self._thin_out()

    def _thin_out(self) -> None:
        if self.dense is None or len(self.numbers) >= SPARSE * self.dense.numel():
            return
        # Rows and columns of the copies side by side: row r of copy p is p * rows + r.
        self.rows = self.numbers // self.shape[1]
        copies = self.numbers // self.size
        self.columns = self.numbers - self.rows * self.shape[1] + copies * self.shape[1]
        self.values = self.dense.view(-1).numpy()[self.numbers]
        self.dense = None

    def forward(self, value: Tensor) -> Tensor:
        """Return the products with each copy's matrix, ``(copies, targets)``."""
        self.into = value
        if self.dense is not None:
            return torch.bmm(self.dense, value[:, :, None])[:, :, 0]
        self.products = self.values * value.reshape(-1).numpy().take(self.columns)
        return _sums(self.rows, self.products, self.copies * self.shape[0]).view(self.copies, -1)

    def backward(self, out: Tensor) -> tuple[Floats, Tensor]:
        """Return the scores of the kept weights and the products with the transposed matrices."""
        if self.dense is None:
            drawn = out.reshape(-1).numpy().take(self.rows)
            back = _sums(self.columns, self.values * drawn, self.copies * self.shape[1])
            back = back.view(self.copies, -1)
            scores = self.products * drawn
        else:
            back = torch.bmm(out[:, None], self.dense)[:, 0]
            whole = (self.dense * self.into[:, None]).mul_(out[:, :, None]).view(-1).numpy()
            scores = whole if len(self.numbers) == whole.size else whole.take(self.numbers)
        if self.full is not None:
            scores = (self.full * self.into[:, None]).mul_(out[:, :, None]).view(-1).numpy()
        return scores, back


class ConvolutionFlow(FlowLayer):
    """A convolution: dense among the channels that still have weights."""

    def __init__(
        self, layer: Layer, weights: Tensor, numbers: list[Indices], function: Convolution, *, slopes: bool
    ) -> None:
        super().__init__(layer, weights, numbers, slopes=slopes)
        self.function = replace(function, groups=function.groups * self.copies)
        self.shrinkable = self.copies == 1 and function.groups == 1 and not slopes
        self.checked = len(self.numbers)
        self.rows = torch.arange(layer.shape[0])
        self.columns = torch.arange(layer.shape[1] * function.groups)
        self.value = self.weight = self.result = torch.empty(0)
        self.channels = 0
        self._shrink()

    def _drop(self, keep: NDArray[np.bool_]) -> None:
        super()._drop(keep)
        if len(self.numbers) <= SHRINK * self.checked:
            self._shrink()

    def _shrink(self) -> None:
        """Remove rows and columns without weights; the order of the remaining ones is unchanged."""
        self.checked = len(self.numbers)
        if not self.shrinkable or self.dense is None or not self.checked:
            return
        height, width = self.dense.shape[1:3]
        kernel = self.dense[0, 0, 0].numel()
        pairs, places = np.divmod(self.numbers, kernel)
        rows, columns = np.divmod(pairs, width)
        kept_rows, kept_columns = _present(rows, height), _present(columns, width)
        if len(kept_rows) * len(kept_columns) > SHRINK * height * width:
            return
        self.dense = self.dense[:, kept_rows][:, :, kept_columns].contiguous()
        self.rows, self.columns = self.rows[kept_rows], self.columns[kept_columns]
        rows, columns = np.searchsorted(kept_rows, rows), np.searchsorted(kept_columns, columns)
        self.numbers = (rows * len(kept_columns) + columns) * kernel + places

    def forward(self, value: Tensor) -> Tensor:
        """Return the convolutions of each copy's value, ``(copies, channels, *positions)``."""
        assert self.dense is not None
        self.channels = value.shape[1]
        x = value.reshape(1, -1, *value.shape[2:])
        if len(self.columns) < self.channels:
            x = x[:, self.columns]
        with torch.enable_grad():
            self.value = x.detach().requires_grad_()
            self.weight = self.dense.flatten(0, 1).detach().requires_grad_()
            self.result = self.function(self.value, self.weight, None)
        out = self.result.detach()
        if len(self.rows) < self.shape[0]:
            whole = out.new_zeros(1, self.shape[0], *out.shape[2:])
            whole[:, self.rows] = out
            return whole
        return out.reshape(self.copies, -1, *out.shape[2:])

    def backward(self, out: Tensor) -> tuple[Floats, Tensor]:
        """Return the scores of the kept weights and the flow from the input."""
        assert self.dense is not None
        out = out[:, self.rows] if len(self.rows) < self.shape[0] else out.reshape(self.result.shape)
        back, slope = torch.autograd.grad(self.result, (self.value, self.weight), out)
        if self.full is not None:
            scores = (slope.view_as(self.full) * self.full).view(-1).numpy()
        else:
            slopes, weights = slope.reshape(-1).numpy(), self.dense.view(-1).numpy()
            scores = slopes.take(self.numbers) * weights.take(self.numbers)
        if len(self.columns) < self.channels:
            whole = back.new_zeros(1, self.channels, *back.shape[2:])
            whole[:, self.columns] = back
            return scores, whole
        return scores, back.reshape(self.copies, -1, *back.shape[2:])


def _sums(places: Indices, values: Floats, size: int) -> Tensor:
    """Return ``(size,)`` sums of the values at equal places."""
    # For no values at all bincount returns integers.
    return torch.from_numpy(np.bincount(places, values, size).astype(np.float64, copy=False))


def _present(numbers: Indices, size: int) -> Indices:
    """Return the indices below ``size`` that occur, ascending."""
    present = np.zeros(size, dtype=np.bool_)
    present[numbers] = True
    return np.flatnonzero(present)
