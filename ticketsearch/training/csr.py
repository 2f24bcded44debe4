"""The engine of sparse networks: P networks of Linear layers, computed by their live weights alone, on CPUs.

A layer is one matrix in compressed sparse rows (CSR) with the weights of all networks, one below the other
where they share the samples, and else along a diagonal. Its sums run over one network's weights in a fixed
order, so that each network gets the bits that it would get alone.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ticketsearch.masks import Mask
from ticketsearch.training.batched_forward import ALIGNMENT, Stacked
from ticketsearch.training.dropout import Noise
from ticketsearch.training.saliency import Slopes, gradients, outer
from ticketsearch.wiring import Compaction

__all__ = ["Sparse"]


class Sparse(Stacked):
    """P networks of one architecture of Linear layers, each with its own mask, under masking ``parameter``.

    Parameters
    ----------
    compactions : of the whole network, one for each mask.
    masks : ``(P, weights)`` bool.
    live : kept weights between live units, ``(P, weights)`` bool; the others keep their values.
    initial : initial parameters ``{name: tensor}``; one for all or one for each mask.
    dtype : precision of the training.
    """

    def __init__(
        self,
        compactions: Sequence[Compaction],
        masks: Mask,
        live: Mask,
        initial: Sequence[Mapping[str, Tensor]],
        *,
        dtype: torch.dtype,
    ) -> None:
        super().__init__(compactions, initial, device=torch.device("cpu"), dtype=dtype)
        self.whole_mask = masks
        parts = self.wiring.spec.split(live)
        names = [*(name for name in self.wiring.biases if name is not None), *parts]
        frozen = self.wiring.frozen
        self._learning = _Rows({n: parts.get(n) for n in names if n not in frozen}, self.whole, dtype)
        # Frozen parameters have rows apart, which no optimizer moves.
        self._fixed = _Rows({n: parts.get(n) for n in names if n in frozen}, self.whole, dtype)
        self.values, self._kept = self._learning.values, self._learning.kept
        self.values.grad = torch.zeros_like(self.values)
        layers = {**self._learning.layers, **self._fixed.layers}
        self._layers = {name: layers[name] for name in parts}
        self._biases = {
            **{
                name: self._learning.values[:, place].requires_grad_()
                for name, place in self._learning.biases.items()
            },
            **{name: self._fixed.values[:, place] for name, place in self._fixed.biases.items()},
        }
        for layer in self._fixed.layers.values():
            layer.leaf.requires_grad_(False)

    @property
    def trainable(self) -> list[Tensor]:
        """Tensors that an optimizer moves; :meth:`backward` sets their gradients."""
        return [self.values]

    @property
    def keeps(self) -> list[Tensor | None]:
        """Mask of each of :attr:`trainable`: 1 for weights and biases, 0 for padding."""
        return [self._kept]

    def bias(self, name: str) -> Tensor:
        """Return the biases ``(P, units)`` of a layer."""
        return self._biases[name]

    def forward(self, x: Tensor, noise: Noise | None = None, *, masked: bool | None = None) -> Tensor:
        """Return logits ``(P, classes, samples)`` of resident samples, one batch for all or one for each.

        ``noise`` is given in training. Weights that masks do not keep are zero, whatever ``masked``.
        """
        return self._logits(x, noise)

    def _logits(
        self, x: Tensor, noise: Noise | None, made: dict[str, tuple[Tensor, Tensor]] | None = None
    ) -> Tensor:
        """Return logits; ``made`` gets each layer's inputs ``(…, inputs, samples)`` and its outputs."""

        def product(name: str, bias: Tensor | None, value: Tensor) -> Tensor:
            if name in self.first:
                value = self.features(value).contiguous()
            outputs = self._layers[name].product(value)
            if bias is not None:
                outputs = outputs + bias[:, :, None]
            if made is not None:
                # Frozen layers on samples need gradients too.
                outputs = outputs if outputs.requires_grad else outputs.requires_grad_()
                made[name] = value.detach(), outputs
            return outputs

        for layer in self._layers.values():
            layer.read()
        return self.run(x, product, noise)

    def backward(self, logits: Tensor, gradient: Tensor) -> None:
        """Set the gradients of :attr:`trainable`, from those of the logits ``(P, classes, samples)``."""
        layers, places = [*self._learning.layers.values()], self._learning.biases
        leaves = [*(layer.leaf for layer in layers), *map(self.bias, places)]
        leaf_gradients = gradients(logits, leaves, gradient)
        into = self.values.grad
        assert into is not None
        for layer, weights in zip(layers, leaf_gradients, strict=False):
            into.view(-1)[layer.indices] = weights
        for place, biases in zip(places.values(), leaf_gradients[len(layers) :], strict=True):
            into[:, place] = biases

    def slopes(self, x: Tensor, gradient: Callable[[Tensor, slice], Tensor], *, curved: bool) -> Slopes:
        """Return gradients by all weights, kept or not, ``{layer: (P, *shape)}``.

        ``x`` are resident samples; ``gradient(logits, samples)`` is the gradient of the mean loss by the
        logits of a range of samples. ``curved`` adds the mean of the samples' squared gradients.
        """
        made: dict[str, tuple[Tensor, Tensor]] = {}
        logits = self._logits(x, None, made)
        samples = logits.shape[2]
        outputs = [made[layer.name][1] for layer in self.wiring.spec.layers]
        changes = gradients(logits, outputs, gradient(logits.detach(), slice(0, samples)))
        # A weight's gradient by a sample is its input times the gradient by its output.
        slopes, squares = {}, {}
        for layer, change in zip(self.wiring.spec.layers, changes, strict=True):
            read, _ = made[layer.name]
            slopes[layer.name] = outer(change, read)
            if curved:
                squares[layer.name] = outer(change.square(), read.square()).mul_(samples)
        return Slopes(slopes, squares if curved else None)

    def parameters(self) -> dict[str, Tensor]:
        """Return ``{name: (P, *shape) tensor}``: copies of trained parameters; pruned weights are zero."""
        named: dict[str, Tensor] = {}
        masks = self.wiring.spec.split(self.whole_mask)
        for name, layer in self._layers.items():
            named[name] = self.whole(name) * torch.from_numpy(masks[name].copy())
            named[name][layer.place] = layer.values
        return named | {name: bias.detach().clone() for name, bias in self._biases.items()}


class _Rows:
    """A row for each network: its biases, its weights layer by layer, and padding to whole vectors.

    Attributes
    ----------
    values : ``(P, length)`` biases, weights and padding.
    kept : ``(P, length)``, 1 for biases and weights, 0 for padding.
    biases : place of each in the rows.
    layers : weights of each layer.
    """

    def __init__(
        self, live: Mapping[str, Mask | None], whole: Callable[[str], Tensor], dtype: torch.dtype
    ) -> None:
        biases = {name: whole(name) for name, mask in live.items() if mask is None}
        weights = {name: mask for name, mask in live.items() if mask is not None}
        self.biases: dict[str, slice] = {}
        begin = 0
        for name, bias in biases.items():
            self.biases[name] = slice(begin, begin := begin + bias.shape[1])
        self.layers: dict[str, _Layer] = {}
        if not live:
            self.values = self.kept = torch.zeros(0, 0, dtype=dtype)
            return
        size = len(whole(next(iter(live))))
        counts = np.zeros((size, len(weights)), dtype=np.int64)
        for index, mask in enumerate(weights.values()):
            counts[:, index] = np.count_nonzero(mask, axis=(1, 2))
        ends = begin + np.cumsum(counts, axis=1)
        last = ends[:, -1:] if weights else np.full((size, 1), begin)
        length = -(-int(last.max()) // ALIGNMENT) * ALIGNMENT
        self.kept = torch.from_numpy(np.arange(length) < last).to(dtype)
        self.values = torch.zeros_like(self.kept)
        starts = np.arange(size)[:, None] * length + ends - counts
        for index, (name, mask) in enumerate(weights.items()):
            self.layers[name] = layer = _Layer(mask, starts[:, index], self.values)
            self.values.view(-1)[layer.indices] = whole(name)[layer.place]
        for name, bias in biases.items():
            self.values[:, self.biases[name]] = bias


class _Matrices(NamedTuple):
    """CSR matrices of a layer of all networks.

    ``forward`` shares memory with the weights. ``backward`` is its transpose, with the weights in ``order``.
    ``gradient`` has the pattern of ``forward``, for the gradient by its weights.
    """

    forward: Tensor
    backward: Tensor
    order: Tensor
    gradient: Tensor


class _Layer:
    """The weights of one layer of P networks.

    Parameters
    ----------
    live : ``(P, units, inputs)`` bool.
    starts : index of each network's first weight in flat ``values``.
    values : ``(P, length)`` tensor that an optimizer moves.

    Attributes
    ----------
    indices : of the weights in flat ``values``, network by network.
    place : of the weights in tensors ``(P, units, inputs)``.
    leaf : copy of the weights, by which gradients are taken; :meth:`read` updates it.
    """

    def __init__(self, live: Mask, starts: NDArray[np.int64], values: Tensor) -> None:
        self._shape = live.shape
        self._place = np.nonzero(live)
        self.place = tuple(map(torch.from_numpy, self._place))
        counts = np.count_nonzero(live, axis=(1, 2))
        inside = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        self.indices = torch.from_numpy(np.repeat(starts, counts) + inside)
        self._flat = values.view(-1)
        self._values = torch.zeros(len(self.indices), dtype=values.dtype)
        self.leaf = self._values.detach().requires_grad_()
        self._matrices: dict[bool, _Matrices] = {}  # by whether networks share the values

    @property
    def values(self) -> Tensor:
        """Current weights, network by network."""
        return self._flat[self.indices]

    def read(self) -> None:
        """Copy the current weights into ``leaf`` and the matrices."""
        torch.index_select(self._flat, 0, self.indices, out=self._values)
        for matrices in self._matrices.values():
            torch.index_select(self._values, 0, matrices.order, out=matrices.backward.values())

    def product(self, x: Tensor) -> Tensor:
        """Return ``(P, units, samples)`` of values ``(inputs, samples)``, shared, or one for each network."""
        size, units, _ = self._shape
        shared, samples = x.ndim == 2, x.shape[-1]
        if shared not in self._matrices:
            self._matrices[shared] = self._built(shared)
        flat, matrices = x.reshape(-1, samples), self._matrices[shared]
        outputs: Tensor = _Product.apply(self.leaf, flat, matrices)  # type: ignore[no-untyped-call]
        return outputs.view(size, units, samples)

    def _built(self, shared: bool) -> _Matrices:
        """Return matrices ``(P units, inputs)`` for shared values, else ``(P units, P inputs)``."""
        size, units, inputs = self._shape
        network, unit, column = self._place
        row = network * units + unit
        shape = size * units, inputs
        if not shared:
            column = network * inputs + column
            shape = size * units, size * inputs
        order = np.lexsort((row, column))
        transposed = torch.from_numpy(order)
        return _Matrices(
            _csr(row, column, self._values, shape),
            _csr(column[order], row[order], self._values[transposed], shape[::-1]),
            transposed,
            _csr(row, column, torch.zeros_like(self._values), shape),
        )


class _Product(torch.autograd.Function):
    """Product of a sparse matrix and ``(inputs, samples)``; its gradient by the stored entries alone."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, x: Tensor, matrices: _Matrices) -> Tensor:
        ctx.save_for_backward(x)
        ctx.matrices = matrices
        return _times(matrices.forward, x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (x,) = ctx.saved_tensors
        matrices: _Matrices = ctx.matrices
        gradient = gradient.contiguous()
        of_values = of_x = None
        if ctx.needs_input_grad[0]:
            of_values = torch.sparse.sampled_addmm(matrices.gradient, gradient, x.t(), beta=0.0).values()
        if ctx.needs_input_grad[1]:
            of_x = _times(matrices.backward, gradient)
        return of_values, of_x, None


def _csr(row: NDArray[np.int64], column: NDArray[np.int64], values: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return a CSR matrix of entries in row order; it shares memory with ``values``."""
    with _lock:
        _silence_beta_warning()
    ends = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=shape[0]))])
    # MKL's integers.
    begins, columns = (torch.from_numpy(part.astype(np.int32)) for part in (ends, column))
    return torch.sparse_csr_tensor(begins, columns, values, shape, check_invariants=False)


def _times(matrix: Tensor, x: Tensor) -> Tensor:
    outputs = x.new_empty(matrix.shape[0], x.shape[1])
    return torch.addmm(outputs, matrix, x, beta=0.0, out=outputs)


_lock = threading.Lock()


@cache
def _silence_beta_warning() -> None:
    """Build a first CSR tensor: torch warns once in a process that CSR support is in beta."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.sparse_csr_tensor([0, 1], [0], [1.0], (1, 1))
