"""The engine of sparse networks: P networks of Linear layers, of which nothing but live weights is computed.

A layer is one matrix in compressed rows (CSR) that holds the weights of all networks, one below the other
where they share the samples, and else along a diagonal. Its sums run over a network's own weights in their
own order, so that each network gets the bits that it would get alone. On CPUs.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
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
    compactions : of the whole network, one for each.
    masks : ``(P, weights)`` bool.
    live : of these the weights between live units; the others are left as they are.
    initial : initial parameters ``{name: tensor}``; one for all or one for each mask.
    dtype : the precision in which networks are trained.
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
        # In rows of their own, which no optimizer moves.
        self._fixed = _Rows({n: parts.get(n) for n in names if n in frozen}, self.whole, dtype)
        self.values, self._kept = self._learning.values, self._learning.kept
        self.values.grad = torch.zeros_like(self.values)
        layers = {**self._learning.layers, **self._fixed.layers}
        self._layers = {name: layers[name] for name in parts}
        self._biases = {
            **{
                name: self._learning.values[:, own].requires_grad_()
                for name, own in self._learning.biases.items()
            },
            **{name: self._fixed.values[:, own] for name, own in self._fixed.biases.items()},
        }
        for layer in self._fixed.layers.values():
            layer.leaf.requires_grad_(False)

    @property
    def trainable(self) -> list[Tensor]:
        """The tensors that an optimizer moves; :meth:`backward` gives them their gradients."""
        return [self.values]

    @property
    def keeps(self) -> list[Tensor | None]:
        """For each of :attr:`trainable` what of it a network has."""
        return [self._kept]

    def bias(self, name: str) -> Tensor:
        """Return the biases ``(P, units)`` of a layer."""
        return self._biases[name]

    def forward(self, x: Tensor, noise: Noise | None = None, *, masked: bool | None = None) -> Tensor:
        """Return logits ``(P, classes, samples)`` of resident samples, one batch for all or one for each.

        ``noise`` says that this is training. Weights that masks do not keep are zero, whatever ``masked``.
        """
        return self._logits(x, noise)

    def _logits(
        self, x: Tensor, noise: Noise | None, made: dict[str, tuple[Tensor, Tensor]] | None = None
    ) -> Tensor:
        """Return logits; ``made`` gets what each layer reads ``(…, inputs, samples)`` and what it makes."""

        def product(name: str, bias: Tensor | None, value: Tensor) -> Tensor:
            if name in self.first:
                value = self.features(value).contiguous()
            found = self._layers[name].product(value)
            if bias is not None:
                found = found + bias[:, :, None]
            if made is not None:
                # Of a frozen layer on samples, too, the gradient is asked for.
                found = found if found.requires_grad else found.requires_grad_()
                made[name] = value.detach(), found
            return found

        for layer in self._layers.values():
            layer.read()
        return self.run(x, product, noise)

    def backward(self, logits: Tensor, gradient: Tensor) -> None:
        """Give :attr:`trainable` their gradients, from those of the logits ``(P, classes, samples)``."""
        layers, places = [*self._learning.layers.values()], self._learning.biases
        found = gradients(logits, [*(layer.leaf for layer in layers), *map(self.bias, places)], gradient)
        into = self.values.grad
        assert into is not None
        for layer, own in zip(layers, found, strict=False):
            into.view(-1)[layer.numbers] = own
        for place, own in zip(places.values(), found[len(layers) :], strict=True):
            into[:, place] = own

    def slopes(self, x: Tensor, gradient: Callable[[Tensor, slice], Tensor], *, curved: bool) -> Slopes:
        """Return gradients by all weights, kept or not, ``{layer: (P, *shape)}``.

        Of resident samples ``x``; ``gradient`` gives that of the mean loss by the logits it is given, those
        of a range of samples. ``curved`` asks for the mean of the samples' squared gradients as well.
        """
        made: dict[str, tuple[Tensor, Tensor]] = {}
        logits = self._logits(x, None, made)
        samples = logits.shape[2]
        found = [made[layer.name][1] for layer in self.wiring.spec.layers]
        changes = gradients(logits, found, gradient(logits.detach(), slice(0, samples)))
        # A weight's gradient by a sample is a product of what it reads and of what its output changes.
        slopes, squares = {}, {}
        for layer, change in zip(self.wiring.spec.layers, changes, strict=True):
            read, _ = made[layer.name]
            slopes[layer.name] = outer(change, read)
            if curved:
                squares[layer.name] = outer(change.square(), read.square()).mul_(samples)
        return Slopes(slopes, squares if curved else None)

    def parameters(self) -> dict[str, Tensor]:
        """Return ``{name: (P, *shape) tensor}``: copies of what was trained; pruned weights are zero."""
        named: dict[str, Tensor] = {}
        masks = self.wiring.spec.split(self.whole_mask)
        for name, layer in self._layers.items():
            named[name] = self.whole(name) * torch.from_numpy(masks[name].copy())
            named[name][layer.place] = layer.values
        return named | {name: own.detach().clone() for name, own in self._biases.items()}


class _Rows:
    """A row for each network: biases, its weights layer by layer, zeros up to whole vectors.

    Attributes
    ----------
    values, kept : ``(P, length)``, and 1 for what a network has, 0 for what fills its row up.
    biases : where each lies in the rows.
    layers : of the weights.
    """

    def __init__(
        self, live: Mapping[str, Mask | None], whole: Callable[[str], Tensor], dtype: torch.dtype
    ) -> None:
        biases = {name: whole(name) for name, own in live.items() if own is None}
        weights = {name: own for name, own in live.items() if own is not None}
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
        for number, own in enumerate(weights.values()):
            counts[:, number] = np.count_nonzero(own, axis=(1, 2))
        ends = begin + np.cumsum(counts, axis=1)
        last = ends[:, -1:] if weights else np.full((size, 1), begin)
        length = -(-int(last.max()) // ALIGNMENT) * ALIGNMENT
        self.kept = torch.from_numpy(np.arange(length) < last).to(dtype)
        self.values = torch.zeros_like(self.kept)
        starts = np.arange(size)[:, None] * length + ends - counts
        for number, (name, own) in enumerate(weights.items()):
            self.layers[name] = layer = _Layer(own, starts[:, number], self.values)
            self.values.view(-1)[layer.numbers] = whole(name)[layer.place]
        for name, bias in biases.items():
            self.values[:, self.biases[name]] = bias


class _Matrices(NamedTuple):
    """A layer of all networks; its transpose, and which weights that holds; a place for its gradient.

    The first holds the weights themselves.
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
    starts : for each network where its weights begin in flat ``values``.
    values : ``(P, length)``, what an optimizer moves.

    Network by network, ``numbers`` are those of the weights in flat ``values``, and ``place`` in tensors
    ``(P, units, inputs)``; ``leaf`` is a copy of them, which :meth:`read` makes, and what gradients are
    taken by.
    """

    def __init__(self, live: Mask, starts: NDArray[np.int64], values: Tensor) -> None:
        self._shape = live.shape
        self._place = np.nonzero(live)
        self.place = tuple(map(torch.from_numpy, self._place))
        counts = np.count_nonzero(live, axis=(1, 2))
        inside = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        self.numbers = torch.from_numpy(np.repeat(starts, counts) + inside)
        self._flat = values.view(-1)
        self._values = torch.zeros(len(self.numbers), dtype=values.dtype)
        self.leaf = self._values.detach().requires_grad_()
        self._made: dict[bool, _Matrices] = {}

    @property
    def values(self) -> Tensor:
        """The weights as they are now, network by network."""
        return self._flat[self.numbers]

    def read(self) -> None:
        """Take the values of the weights as they are now."""
        torch.index_select(self._flat, 0, self.numbers, out=self._values)
        for made in self._made.values():
            torch.index_select(self._values, 0, made.order, out=made.backward.values())

    def product(self, x: Tensor) -> Tensor:
        """Return ``(P, units, samples)`` of values ``(inputs, samples)``, shared, or one for each network."""
        size, units, _ = self._shape
        shared, samples = x.ndim == 2, x.shape[-1]
        if shared not in self._made:
            self._made[shared] = self._matrices(shared)
        found: Tensor = _Product.apply(self.leaf, x.reshape(-1, samples), self._made[shared])  # type: ignore[no-untyped-call]
        return found.view(size, units, samples)

    def _matrices(self, shared: bool) -> _Matrices:
        """Return the layer ``(P units, inputs)`` of values that are shared, or ``(P units, P inputs)``."""
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
            _rows(row, column, self._values, shape),
            _rows(column[order], row[order], self._values[transposed], shape[::-1]),
            transposed,
            _rows(row, column, torch.zeros_like(self._values), shape),
        )


class _Product(torch.autograd.Function):
    """The product of a sparse matrix and ``(inputs, samples)``, and its gradient by the entries there are."""

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
        own = None
        if ctx.needs_input_grad[0]:
            own = torch.sparse.sampled_addmm(matrices.gradient, gradient, x.t(), beta=0.0).values()
        return own, _times(matrices.backward, gradient) if ctx.needs_input_grad[1] else None, None


def _rows(
    row: NDArray[np.int64], column: NDArray[np.int64], values: Tensor, shape: tuple[int, int]
) -> Tensor:
    """Return a matrix in compressed rows of entries that are in order; it holds ``values`` themselves."""
    ends = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=shape[0]))])
    # MKL's kind of numbers.
    begins, columns = (torch.from_numpy(part.astype(np.int32)) for part in (ends, column))
    return torch.sparse_csr_tensor(begins, columns, values, shape, check_invariants=False)


def _times(matrix: Tensor, x: Tensor) -> Tensor:
    found = x.new_empty(matrix.shape[0], x.shape[1])
    return torch.addmm(found, matrix, x, beta=0.0, out=found)


# The first of these tensors in a process has torch warn of their being new; here it speaks to nobody.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    _rows(np.zeros(1, np.int64), np.zeros(1, np.int64), torch.zeros(1), (1, 1))
