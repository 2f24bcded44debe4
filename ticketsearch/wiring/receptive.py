"""Receptive positions: the weights between two units that can influence an output, by the shapes of values.

A kernel position that reads padding alone multiplies zeros, and a position whose products reach no output (a
strip that a pooling leaves out) has no influence. Both follow from the steps with all weights kept: forward
from the entries of values that can be non-zero, and backward from the entries on which an output depends.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from ticketsearch.masks import Piece
from ticketsearch.wiring.operations import Convolution
from ticketsearch.wiring.steps import Step, Wiring

__all__ = ["positions_read"]

# Random samples of a value in one run.
DRAWS = 16
# Operations on single entries of one value, apart from statistics.
POINTWISE = ("elementwise", "dropout", "normalize", "mix")


class Maps(NamedTuple):
    """Two ``(units, *positions)`` bool maps of the entries of a value.

    ``every`` has the entries that can be non-zero or, backward, those on which an output depends. ``data``
    ignores biases, shifts and statistics of batches and samples.
    """

    data: Tensor
    every: Tensor


def positions_read(wiring: Wiring) -> tuple[tuple[int, ...], ...]:
    """Return the ``reads`` of :class:`ticketsearch.masks.MaskSpec` for the steps of a network.

    For a network without steps all positions count as read.
    """
    if not wiring.steps or wiring.dense:
        return ()
    codes = _backward(wiring, _forward(wiring))
    return codes if any(codes) else ()


def _forward(wiring: Wiring) -> list[Maps]:
    """Return for each value the entries that can be non-zero."""
    values: list[Maps] = []
    for node, step in zip(wiring.spec.nodes, wiring.steps, strict=True):
        inputs = [values[i] for i in step.inputs]
        if step.operation == "input":
            value = Maps(*[torch.ones(step.shape, dtype=torch.bool)] * 2)
        elif step.operation == "linear":
            value = _layer(wiring, step, inputs[0])
        elif _is_pointwise(step):
            value = inputs[0]
            if node.constant or step.operation in ("normalize", "mix"):
                value = value._replace(every=torch.ones_like(value.every))
        elif step.operation == "zeros":
            value = Maps(*[torch.zeros(step.shape, dtype=torch.bool)] * 2)
        elif step.operation == "concatenate":
            value = Maps(*map(torch.cat, zip(*inputs, strict=True)))
        else:
            sample = _Sample(wiring, step, inputs)
            value = Maps(*(part[sample.unit] for part in sample.made()))
        values.append(value)
    return values


def _layer(wiring: Wiring, step: Step, source: Maps) -> Maps:
    """Return the value of a layer that keeps all its weights."""
    made = Maps(*(torch.zeros(step.shape, dtype=torch.bool) for _ in Maps._fields))
    units = _Units(wiring, step)
    for index in wiring.spec.layer_pieces[step.layer]:
        piece = wiring.spec.pieces[index]
        rows, columns = units.ends(piece)
        for whole, part in zip(made, source, strict=True):
            whole[rows] |= units.forward(piece, part[columns])
    return made if step.names[1] is None else made._replace(every=torch.ones_like(made.every))


def _backward(wiring: Wiring, values: Sequence[Maps]) -> tuple[tuple[int, ...], ...]:
    """Return for each piece the codes of its positions; ``()`` where data reach all of them."""
    wanted = [Maps(*map(torch.zeros_like, value)) for value in values]
    wanted[-1] = Maps(*map(torch.ones_like, wanted[-1]))
    codes: list[tuple[int, ...]] = [()] * len(wiring.spec.pieces)
    for index in range(len(values) - 1, 0, -1):
        step = wiring.steps[index]
        inputs = [values[i] for i in step.inputs]
        if step.operation == "linear":
            units, into = _Units(wiring, step), wanted[step.inputs[0]]
            for piece_index in wiring.spec.layer_pieces[step.layer]:
                codes[piece_index] = _reads(
                    units, wiring.spec.pieces[piece_index], inputs[0], wanted[index], into
                )
        else:
            parts = _sources(wiring, step, inputs, wanted[index])
            for source, asked in zip(step.inputs, parts, strict=True):
                for whole, more in zip(wanted[source], asked, strict=True):
                    whole |= more
    return tuple(codes)


def _reads(units: _Units, piece: Piece, source: Maps, wanted: Maps, into: Maps) -> tuple[int, ...]:
    """Return the codes of a piece's positions, and mark in ``into`` the entries on which it depends."""
    rows, columns = units.ends(piece)
    reads = torch.zeros(piece.positions, dtype=torch.int64)
    for part, target, whole in zip(source, wanted, into, strict=True):
        read, entries = units.backward(piece, part[columns], target[rows])
        reads += read
        whole[columns] |= entries
    return () if bool(reads.eq(2).all()) else tuple(reads.tolist())


def _sources(wiring: Wiring, step: Step, inputs: Sequence[Maps], wanted: Maps) -> list[Maps]:
    """Return for each input of a step the entries on which the wanted entries of its value depend."""
    if step.operation == "mix" and _is_pointwise(step):
        return [wanted._replace(every=wanted.every.any().expand_as(wanted.every))]
    if step.operation == "normalize":
        units = wanted.every.reshape(len(wanted.every), -1).any(1).reshape(-1, *[1] * (wanted.every.ndim - 1))
        return [wanted._replace(every=units.expand_as(wanted.every))]
    if _is_pointwise(step):
        return [wanted]
    if step.operation == "zeros":
        return []
    if step.operation == "concatenate":
        sizes = [len(value.every) for value in inputs]
        return [Maps(*parts) for parts in zip(*(torch.split(part, sizes) for part in wanted), strict=True)]
    sample, asked = _Sample(wiring, step, inputs, wanted), []
    same = all(torch.equal(*maps) for maps in (*inputs, wanted))
    for place in range(len(inputs)):
        every = sample.depended_on(place, "every")
        data = every if same else sample.depended_on(place, "data")
        asked.append(Maps(data[sample.unit], every[sample.unit]))
    return asked


def _is_pointwise(step: Step) -> bool:
    return step.operation in POINTWISE and len(step.inputs) == 1


class _Sample:
    """A step, run on random numbers where its inputs can be non-zero.

    A step that treats units one by one is run on one unit of each kind; ``unit`` maps each unit of the values
    to the unit of these runs that represents it.
    """

    def __init__(
        self, wiring: Wiring, step: Step, inputs: Sequence[Maps], wanted: Maps | None = None
    ) -> None:
        self.wiring, self.step = wiring, step
        self.generator = torch.Generator().manual_seed(0)
        tensors = dict(wiring.module.named_parameters()) | dict(wiring.module.named_buffers())
        self.tensors = {name: self.drawn(tensors[name].shape)[0] for name in step.names if name is not None}
        whole = [*inputs, *([] if wanted is None else [wanted])]
        self.unit: Tensor | slice = slice(None)
        if not step.names and {len(value.every) for value in whole} == {step.shape[0]}:
            rows = torch.cat([part.reshape(len(part), -1) for value in whole for part in value], dim=1)
            kinds, unit = torch.unique(rows, dim=0, return_inverse=True)
            first = torch.zeros(len(kinds), dtype=torch.int64).scatter_(0, unit, torch.arange(len(unit)))
            if self._fits([value.every[first] for value in inputs]):
                self.unit, whole = unit, [Maps(*(part[first] for part in value)) for value in whole]
        self.inputs, self.wanted = whole[: len(inputs)], whole[-1]

    def _fits(self, values: list[Tensor]) -> bool:
        """Return whether the step accepts fewer units: some functions contain the number of units."""
        try:
            result = self.run([torch.zeros((DRAWS, *value.shape), dtype=torch.float64) for value in values])
        except (RuntimeError, ValueError, IndexError):
            return False
        return result.shape == (DRAWS, len(values[0]), *self.step.shape[1:])

    def made(self) -> Maps:
        """Return the entries of the step's value that can be non-zero."""
        out = torch.cat([self.run(values) for values in self.values()])
        return Maps(out.ne(out[:1]).any(0), out.ne(0).any(0))

    def depended_on(self, place: int, which: Literal["data", "every"]) -> Tensor:
        """Return the non-zero entries of one input that receive a gradient from the wanted entries.

        A maximum passes its gradient to one entry alone. So entries that have received one are set to zero
        and the others drawn again, until no further entry receives one.
        """
        wanted, left = getattr(self.wanted, which), getattr(self.inputs[place], which).clone()
        depended = torch.zeros_like(left)
        while wanted.any() and left.any():
            marked = torch.zeros_like(left)
            for values in self.values():
                values[place] = self.drawn(left.shape).mul_(left).requires_grad_()
                out = self.run(values)
                if out.requires_grad:
                    slopes = self.drawn(wanted.shape).mul_(wanted)
                    marked |= torch.autograd.grad(out, values[place], slopes)[0].ne(0).any(0)
            marked &= left
            if not marked.any():
                break
            depended |= marked
            left &= ~marked
        return depended

    def drawn(self, shape: Sequence[int]) -> Tensor:
        """Return ``(DRAWS, *shape)`` positive numbers."""
        return torch.rand((DRAWS, *shape), dtype=torch.float64, generator=self.generator).add_(0.5)

    def values(self) -> Iterator[list[Tensor]]:
        """Yield inputs: random of either sign where data reach, constant where biases do, 0 elsewhere."""
        fixed = [self.drawn(maps.every.shape)[:1] * (maps.every & ~maps.data) for maps in self.inputs]
        # Each of two values must be the larger one at times, and both signs must occur.
        for signs in itertools.product((1.0, -1.0), repeat=min(len(self.inputs), 2)):
            yield [
                still + sign * self.drawn(maps.every.shape).mul_(maps.data)
                for maps, still, sign in zip(self.inputs, fixed, itertools.cycle(signs), strict=False)
            ]

    def run(self, values: list[Tensor]) -> Tensor:
        """Return the step's value for these inputs, ``(DRAWS, *shape)``."""
        return self.wiring.evaluate(self.step, values, self.tensors)


class _Units:
    """A layer between one unit of a source group and one of a target group, which represent all units."""

    def __init__(self, wiring: Wiring, step: Step) -> None:
        self.spec, self.layer = wiring.spec, wiring.spec.layers[step.layer]
        self.function: Any = step.function
        self.divisions = 1
        if isinstance(step.function, Convolution):
            self.divisions, self.function = step.function.groups, replace(step.function, groups=1)
        self.known: dict[tuple[int, bytes, bytes], tuple[Tensor, Tensor]] = {}

    def ends(self, piece: Piece) -> tuple[slice, slice]:
        """Return the ranges of a piece's targets in the layer's value and of its sources in the input."""
        division = piece.row // (self.layer.shape[0] // self.divisions)
        first = division * self.layer.shape[1] + piece.column
        width = self.spec.groups[piece.source].size * piece.block
        return slice(piece.row, piece.row + self.spec.groups[piece.target].size), slice(first, first + width)

    def forward(self, piece: Piece, source: Tensor) -> Tensor:
        """Return the ``(1, *positions)`` entries of a target unit that a source unit's entries reach."""
        value: Tensor = self.function(self._unit(piece, source), self._weight(piece), None)
        return value[0].ne(0)

    def backward(self, piece: Piece, source: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """Return the positions that join a source's entries to wanted ones, and the entries they depend on.

        They are ``(positions,)`` and, for all units of the source, ``(units * block, *positions)``.
        """
        unit, target = self._unit(piece, source), wanted.any(0)
        key = piece.block, unit.numpy().tobytes(), target.numpy().tobytes()
        if key not in self.known:
            weight = self._weight(piece).requires_grad_()
            value = self.function(unit.requires_grad_(), weight, None)
            slopes = torch.autograd.grad(value, (weight, unit), target.reshape(value.shape).double())
            self.known[key] = slopes[0].flatten().ne(0), slopes[1][0].ne(0)
        read, entries = self.known[key]
        return read, entries.repeat(len(source) // piece.block, *[1] * (entries.ndim - 1))

    def _unit(self, piece: Piece, source: Tensor) -> Tensor:
        return source.reshape(-1, piece.block, *source.shape[1:]).any(0)[None].double()

    def _weight(self, piece: Piece) -> Tensor:
        return torch.ones((1, piece.block, *self.layer.shape[2:]), dtype=torch.float64)
