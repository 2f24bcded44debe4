"""The live part of a mask by compiled loops: the computation of a network as a table of operations.

It agrees with :func:`ticketsearch.masks.live_ends`, which knows products and batches of masks too.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ticketsearch.compiled import AVAILABLE
from ticketsearch.masks import Mask, MaskSpec, Node
from ticketsearch.typing import Indices

__all__ = ["live_parts", "live_program"]


Row = tuple[int, ...]


class Program(NamedTuple):
    """The computation of a network, for the loops of :mod:`ticketsearch.canonical.live_kernels`.

    Attributes
    ----------
    operations : (kind, first target unit, first source unit, number of units or piece) in forward order.
        Units are those of all values, one after the other.
    pieces : (first weight, weights of a row, target group, source group, positions, whether diagonal, rows,
        columns, first target unit, first source unit).
    slots : (first unit, group, units) of each group of each value.
    output : first unit of the last value.
    groups : (first unit, units, whether hidden).
    """

    operations: Indices
    pieces: Indices
    slots: Indices
    output: int
    groups: Indices


@lru_cache(maxsize=16)
def live_program(spec: MaskSpec) -> Program | None:
    """Return the program of a spec, or None without numba, and for products and groups without nodes."""
    from ticketsearch.canonical.live_kernels import PIECE

    if not AVAILABLE or not spec.nodes or any(node.operation == "multiply" for node in spec.nodes):
        return None
    sizes = [group.size for group in spec.groups]
    starts: list[list[int]] = []  # of each group of each value
    slots: list[Row] = []
    end = 0
    for node in spec.nodes:
        starts.append([])
        for group in node.groups:
            starts[-1].append(end)
            slots.append((end, group, sizes[group]))
            end += sizes[group]
    operations: list[Row] = []
    ends = [(0, 0)] * len(spec.pieces)
    for own, node in zip(starts, spec.nodes, strict=True):
        inputs = [starts[source] for source in node.inputs]
        if node.operation == "linear":
            for index in spec.layer_pieces[node.layer]:
                piece = spec.pieces[index]
                ends[index] = own[piece.to], inputs[0][piece.of]
                operations.append((PIECE, *ends[index], index))
        operations += _unit_operations(node, own, inputs, [sizes[group] for group in node.groups])
    pieces: list[Row] = []
    for index, piece in enumerate(spec.pieces):
        layer, (rows, columns, positions) = spec.layers[piece.layer], spec.piece_shapes[index]
        stride = layer.size // layer.shape[0]
        first = layer.offset + piece.row * stride + piece.column * layer.kernel
        shape = piece.target, piece.source, positions, piece.diagonal, rows, columns
        pieces.append((first, stride, *shape, *ends[index]))
    firsts = np.cumsum([0, *sizes[:-1]]).tolist()
    groups: list[Row] = [(firsts[i], size, spec.groups[i].kind == "hidden") for i, size in enumerate(sizes)]
    return Program(_table(operations), _table(pieces), _table(slots), starts[-1][0], _table(groups))


def _unit_operations(node: Node, own: list[int], inputs: list[list[int]], sizes: list[int]) -> Iterator[Row]:
    """Yield the operations of a node that take units to units; ``own`` and ``inputs`` are first units."""
    from ticketsearch.canonical.live_kernels import FILL, JOIN, MIX

    joined = inputs
    if node.operation == "linear":
        joined = []
    elif node.operation == "concatenate":
        joined = [[start for whole in inputs for start in whole]]
    elif node.operation == "select":
        joined = [[inputs[0][place] for place in node.places]]
    for whole in joined:
        for target, source, size in zip(own, whole, sizes, strict=True):
            yield JOIN, target, source, size
    if node.operation == "input" or node.constant:
        yield FILL, own[0], 0, sum(sizes)
    if node.operation == "mix":
        yield MIX, own[0], 0, sum(sizes)


def _table(rows: list[Row]) -> Indices:
    return np.array(rows, dtype=np.int64)


def live_parts(mask: Mask, spec: MaskSpec, program: Program) -> tuple[list[Indices], list[NDArray[Any]]]:
    """Return for each group its live units, and for each piece ``(targets, sources, positions)`` bits.

    All units of inputs and outputs count as live. A diagonal piece has 1 source.
    """
    from ticketsearch.canonical import live_kernels

    kept = np.ascontiguousarray(mask).view(np.uint8)
    kept.flags.writeable = False  # one type of array, one compilation
    members, bounds, weights, ends = live_kernels.living(kept, *program)
    units = [members[first:last] for first, last in pairwise(bounds.tolist())]
    bits, first = weights.view(np.bool_), 0
    parts: list[NDArray[Any]] = []
    for piece, last in zip(spec.pieces, ends[1:].tolist(), strict=True):
        sources = 1 if piece.diagonal else len(units[piece.source])
        parts.append(bits[first:last].reshape(len(units[piece.target]), sources, piece.positions))
        first = last
    return units, parts
