"""Colour refinement: of all units of a mask, and of the few that are left when it has settled the others.

A colour is a hash of what a unit sees; colours are refined until they tell no more units apart.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ticketsearch.canonical.remainder import Remainder
from ticketsearch.masks import Edges, Mask, MaskSpec, Piece

__all__ = ["Colours", "are_discrete", "individualised", "refine", "unit_colours"]

Integers = NDArray[np.intp]
Colours = NDArray[np.uint64]


class _Arcs(NamedTuple):
    """The pairs of units that a piece joins; ``patterns`` hash the weights of each, if they can differ."""

    ends: Integers
    others: Integers
    patterns: Colours | None


def unit_colours(found: list[Edges], units: list[Mask], spec: MaskSpec) -> list[Colours]:
    """Return ``(units,)`` stable colours of each group: functions of the graph alone, as is their order.

    One sweep passes colours forward through the layers and then back; most masks need half of one.
    """
    colours = _first(spec)
    hidden, joins = set(spec.hidden), []
    for index, (piece, part) in enumerate(zip(spec.pieces, found, strict=True)):
        arcs = _arcs(part, piece, spec.groups[piece.source].size)
        if not piece.diagonal:
            joins.append((2 * index, piece.source, piece.target, arcs))
        elif piece.target in hidden:
            colours[piece.target] = _marked(colours[piece.target], arcs, 2 * index)
    live, cells = _live(units, spec), -1
    while True:
        for salt, source, target, arcs in joins:
            if target in hidden:
                colours[target] = _absorb(colours[target], arcs, colours[source], salt)
        if _cells(colours, units, spec) == live:
            return colours
        for salt, source, target, (rows, columns, patterns) in reversed(joins):
            if source in hidden:
                back = _Arcs(columns, rows, patterns)
                colours[source] = _absorb(colours[source], back, colours[target], salt + 1)
        before, cells = cells, _cells(colours, units, spec)
        if cells <= before or cells == live:
            return colours


def are_discrete(colours: list[Colours], units: list[Mask], spec: MaskSpec) -> bool:
    """Return whether each live hidden unit has a colour of its own."""
    return _cells(colours, units, spec) == _live(units, spec)


def _live(units: list[Mask], spec: MaskSpec) -> int:
    return sum(int(np.count_nonzero(units[group])) for group in spec.hidden)


def _cells(colours: list[Colours], units: list[Mask], spec: MaskSpec) -> int:
    return sum(len(np.unique(colours[group][units[group]])) for group in spec.hidden)


def _first(spec: MaskSpec) -> list[Colours]:
    """Return one colour for all units of each hidden group, and one for each unit of the others."""
    ends = np.cumsum([group.size for group in spec.groups]).tolist()
    numbers = np.empty(ends[-1], dtype=np.uint64)
    parts = [slice(end - group.size, end) for group, end in zip(spec.groups, ends, strict=True)]
    for index, (group, part) in enumerate(zip(spec.groups, parts, strict=True)):
        units = 0 if group.kind == "hidden" else np.arange(group.size, dtype=np.uint64)
        numbers[part] = units + np.uint64(index << 32)
    mixed = _mix(numbers)
    return [mixed[part] for part in parts]


def _arcs(found: Edges, piece: Piece, sources: int) -> _Arcs:
    """Return the pairs of units that the weights of a piece join; those of one pair follow one another."""
    if piece.positions == 1 and not piece.diagonal:
        return _Arcs(found.rows, found.columns, None)
    pairs = found.rows * sources + found.columns
    first = np.flatnonzero(np.diff(pairs, prepend=-1))
    patterns = np.add.reduceat(_mix(np.arange(piece.positions, dtype=np.uint64))[found.positions], first)
    # Mixed once more, or a colour and a pattern would add up to what two others do.
    return _Arcs(found.rows[first], found.columns[first], _mix(patterns))


def _marked(colours: Colours, arcs: _Arcs, salt: int) -> Colours:
    """Return ``colours`` mixed with the weights that join units to themselves alone."""
    marks = np.zeros_like(colours)
    if arcs.patterns is not None:
        marks[arcs.ends] = arcs.patterns
    return _mix(colours + _mix(marks + np.uint64(salt)))


def _absorb(colours: Colours, arcs: _Arcs, neighbours: Colours, salt: int) -> Colours:
    """Return ``colours`` mixed with the sums of their neighbours' colours over the arcs.

    The sums are of integers and stay below 2^53, so float64 holds them exactly, in whatever order.
    """
    shift = np.uint64(64 - 53 + len(neighbours).bit_length())
    if arcs.patterns is None:
        drawn = (_mix(neighbours + np.uint64(salt)) >> shift).astype(np.float64)[arcs.others]
    else:
        seen = neighbours[arcs.others] + arcs.patterns
        drawn = (_mix(seen + np.uint64(salt)) >> shift).astype(np.float64)
    sums = np.bincount(arcs.ends, drawn, len(colours)).astype(np.uint64)
    return _mix(colours + _mix(sums + np.uint64(salt)))


def refine(graph: Remainder, ranks: Integers) -> tuple[Integers, bytes]:
    """Return stable cell numbers ``(vertices,)`` that refine ``ranks``, and their trace.

    Both depend on structure alone; equal traces are necessary for an isomorphism, not sufficient.
    """
    ends, seen, vertices, salts = graph.incidence
    most = int(np.bincount(ends).max()) if len(ends) else 1
    shift = np.uint64(64 - 53 + most.bit_length())
    cells = -1
    while True:
        before = cells
        numbers = ranks.astype(np.uint64)
        drawn = (_mix(salts + numbers[vertices]) >> shift).astype(np.float64)
        sums = np.bincount(ends, drawn[seen], graph.size).astype(np.uint64)
        hashes = _mix(numbers + _mix(sums))
        order = np.lexsort((hashes, ranks))
        hashes, old = hashes[order], ranks[order]
        steps = (hashes[1:] != hashes[:-1]) | (old[1:] != old[:-1])
        ranks = np.zeros(graph.size, dtype=np.intp)
        ranks[order[1:]] = np.cumsum(steps)
        cells = int(np.count_nonzero(steps)) + 1
        if cells in (before, graph.size):
            return ranks, hashes.tobytes()


def individualised(graph: Remainder, ranks: Integers, vertex: int) -> tuple[Integers, bytes]:
    """Return the refinement of ``ranks`` in which ``vertex`` comes first in its cell."""
    chosen = 2 * ranks + 1
    chosen[vertex] -= 1
    return refine(graph, chosen)


def _mix(values: Colours) -> Colours:
    """Return pseudo-random 64 bits for each value: a bijection, the same in every process."""
    mixed = (values + np.uint64(0x9E3779B97F4A7C15)) * np.uint64(0xD6E8FEB86659FD93)
    mixed ^= mixed >> np.uint64(32)
    mixed *= np.uint64(0xA0761D6478BD642F)
    mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(0xE7037ED1A0B428DB)
    mixed ^= mixed >> np.uint64(32)
    return mixed
