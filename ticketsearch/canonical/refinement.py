"""Colour refinement of all units of a mask, and of the vertices of a residual graph.

A colour is a hash of a unit's neighbourhood; colours are refined until they distinguish no more units.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ticketsearch.canonical.graph import MaskGraph, Part
from ticketsearch.canonical.residual_graph import ResidualGraph
from ticketsearch.typing import Floats, Indices

__all__ = ["Colours", "are_discrete", "refine", "unit_colours"]

Colours = NDArray[np.uint64]
ODD = np.uint64(0x9E3779B97F4A7C15)


def unit_colours(graph: MaskGraph) -> list[Colours]:
    """Return ``(units,)`` colours of each hidden group's members; they depend on structure alone.

    Initial colours come from the weights from inputs, bit by bit. One sweep passes them forward through the
    layers and then back; most masks need half a sweep. Inputs and outputs have no colours: their numbers
    distinguish them.
    """
    from ticketsearch.canonical import kernels

    hidden = set(graph.spec.hidden)
    colours = [np.zeros(size, dtype=np.uint64) for size in graph.sizes]
    forward, back = [], []

    def blend(group: int, sums: Colours) -> None:
        with np.errstate(over="ignore"):  # of plain Python
            colours[group] = kernels.blended(colours[group], sums)

    for piece, part in zip(graph.spec.pieces, graph.parts, strict=True):
        target, source = piece.target, piece.source
        if target in hidden and (piece.diagonal or source not in hidden):
            blend(target, _contents(part))
        elif target in hidden:
            forward.append((target, source, part))
        if source in hidden and not piece.diagonal:
            back.append((target, source, part))
    live, cells = sum(graph.sizes[group] for group in hidden), -1
    while True:
        for target, source, part in forward:
            blend(target, _gathered(part, colours[source]))
        before, cells = cells, _cells(colours, hidden)
        if cells == live or cells <= before:
            return colours
        for target, source, part in reversed(back):
            seen = colours[target] if target in hidden else _numbered(len(part))
            blend(source, _scattered(part, seen))
        if _cells(colours, hidden) == live:
            return colours


def are_discrete(colours: list[Colours], graph: MaskGraph) -> bool:
    """Return whether each live hidden unit has a colour of its own."""
    return _cells(colours, graph.spec.hidden) == sum(graph.sizes[group] for group in graph.spec.hidden)


def _cells(colours: list[Colours], hidden: Collection[int]) -> int:
    """Return the number of different colours."""
    from ticketsearch.canonical import kernels

    return sum(kernels.distinct(colours[group]) for group in hidden)


def _contents(part: Part) -> Colours:
    """Return for each target a hash of its row; bits are hashed eight at a time."""
    rows = part.reshape(len(part), math.prod(part.shape[1:]))
    if part.dtype != np.bool_:
        return _summed(rows, _numbered(rows.shape[1]))
    bits = np.packbits(rows, axis=1)
    return (bits @ _exact(_numbered(bits.shape[1]), 256 * bits.shape[1])).astype(np.uint64)


def _gathered(part: Part, colours: Colours) -> Colours:
    """Return for each target the sum of the sources' colours over its weights."""
    if part.shape[2] > 1:
        colours = _mixed_by_position(colours[:, None], part.shape[2]).ravel()
    return _summed(part.reshape(len(part), len(colours)), colours)


def _scattered(part: Part, colours: Colours) -> Colours:
    """Return for each source the sum of the targets' colours over its weights, position by position."""
    sums = _summed(part.reshape(len(part), math.prod(part.shape[1:])).T, colours).reshape(part.shape[1:])
    if part.shape[2] == 1:
        return sums[:, 0]
    mixed: Colours = _mixed_by_position(sums, part.shape[2]).sum(axis=1)
    return mixed


def _mixed_by_position(colours: Colours, positions: int) -> Colours:
    numbers: Colours = np.arange(positions, dtype=np.uint64)
    return _mix(np.add(colours, numbers, dtype=np.uint64))


def _summed(matrix: Part, colours: Colours) -> Colours:
    """Return the product of a matrix and colours: modulo 2^64, or of bits and the colours' high bits."""
    if matrix.dtype != np.bool_:
        return np.asarray(matrix @ colours, dtype=np.uint64)
    return (matrix @ _exact(colours, len(colours))).astype(np.uint64)


def _exact(colours: Colours, terms: int) -> Floats:
    """Return the high bits of colours, few enough that float64 sums ``terms`` of them exactly."""
    return (colours >> np.uint64(64 - 53 + terms.bit_length())).astype(np.float64)


def refine(graph: ResidualGraph, ranks: Indices, chosen: int = -1) -> tuple[Indices, bytes]:
    """Return stable cell numbers ``(vertices,)`` that refine ``ranks``, and their trace.

    The vertex ``chosen``, if any, comes first in its cell. Cells and trace depend on structure alone; equal
    traces are necessary for an isomorphism, not sufficient.
    """
    from ticketsearch.canonical import kernels

    with np.errstate(over="ignore"):  # of plain Python
        refined, hashes, _ = kernels.refined(graph.tails, graph.heads, graph.labels, ranks, chosen)
    return refined, hashes.tobytes()


@lru_cache(maxsize=64)
def _numbered(count: int) -> Colours:
    """Return the hashes of the numbers below ``count``."""
    return _mix(np.arange(count, dtype=np.uint64))


def _mix(values: Colours) -> Colours:
    """Return pseudo-random 64 bits for each value: a bijection, the same in every process."""
    mixed = values * np.uint64(0xA0761D6478BD642F)
    mixed += ODD
    mixed ^= mixed >> np.uint64(32)
    mixed *= np.uint64(0xE7037ED1A0B428DB)
    mixed ^= mixed >> np.uint64(29)
    return mixed
