"""Colour refinement: of all units of a mask, and of the few that are left when it has settled the others.

A colour is a hash of what a unit sees; colours are refined until they tell no more units apart.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ticketsearch.canonical.remainder import Remainder
from ticketsearch.masks import Edges, Mask, MaskSpec

__all__ = ["Colours", "are_discrete", "individualised", "refine", "unit_colours"]

Integers = NDArray[np.intp]
Colours = NDArray[np.uint64]


def unit_colours(found: list[Edges], units: list[Mask], spec: MaskSpec) -> list[Colours]:
    """Return ``(units,)`` stable colours of each group: functions of the graph alone, as is their order.

    One sweep passes colours forward through the layers and then back; most masks need half of one.
    """
    colours = []
    for index, group in enumerate(spec.groups):
        fixed = np.uint64(group.kind != "hidden")
        colours.append(_mix(np.arange(group.size, dtype=np.uint64) * fixed + np.uint64(index << 32)))
    joins = [(2 * index, *ends) for index, ends in enumerate(spec.layer_groups)]
    live, cells = _live(units, spec), -1
    while True:
        for salt, source, target in joins:
            if target in spec.hidden:
                arcs = found[salt // 2]
                colours[target] = _absorb(colours[target], arcs.rows, arcs.columns, colours[source], salt)
        if _cells(colours, units, spec) == live:
            return colours
        for salt, source, target in reversed(joins):
            if source in spec.hidden:
                arcs = found[salt // 2]
                colours[source] = _absorb(colours[source], arcs.columns, arcs.rows, colours[target], salt + 1)
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


def _absorb(colours: Colours, ends: Integers, others: Integers, neighbours: Colours, salt: int) -> Colours:
    """Return ``colours`` mixed with the sums of their neighbours' colours over the arcs ends–others.

    The sums are of integers and stay below 2^53, so float64 holds them exactly, in whatever order.
    """
    bits = 53 - len(neighbours).bit_length()
    drawn = (_mix(neighbours + np.uint64(salt)) >> np.uint64(64 - bits)).astype(np.float64)
    sums = np.bincount(ends, drawn[others], len(colours)).astype(np.uint64)
    return _mix(colours + _mix(sums + np.uint64(salt)))


def refine(graph: Remainder, ranks: Integers) -> tuple[Integers, bytes]:
    """Return stable cell numbers ``(vertices,)`` that refine ``ranks``, and their trace.

    Both depend on structure alone; equal traces are necessary for an isomorphism, not sufficient.
    """
    ends, index, salts = graph.incidence
    most = int(np.bincount(ends).max()) if len(ends) else 1
    shift = np.uint64(64 - 53 + most.bit_length())
    cells = -1
    while True:
        before = cells
        numbers = ranks.astype(np.uint64)
        table = (_mix(salts + numbers) >> shift).astype(np.float64).ravel()
        sums = np.bincount(ends, table[index], graph.size).astype(np.uint64)
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
