"""Ties: units that share a colour, and their canonical places in it.

Units with equal neighbourhoods, twins, are interchangeable, so one stands for each class. Where the classes'
sizes and weights to settled units do not order them, they are the remainder.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ticketsearch.canonical.graph import MaskGraph, piece_matrix
from ticketsearch.canonical.individualisation import canonical_sequence
from ticketsearch.canonical.refinement import are_discrete, refine
from ticketsearch.canonical.remainder import Remainder
from ticketsearch.masks import Mask

__all__ = ["places"]

Integers = NDArray[np.intp]


def places(graph: MaskGraph) -> list[Integers]:
    """Return for each group ``(units,)`` the canonical place of each unit among those of its colour."""
    spec = graph.spec
    positions = [np.zeros(group.size, dtype=np.intp) for group in spec.groups]
    if are_discrete(graph.colours, graph.units, spec):
        return positions
    split = [_settled(graph, group) for group in range(len(spec.groups))]
    settled = [units for units, _ in split]
    vertices: list[tuple[int, int]] = []
    cells: list[tuple[int, int, int, bytes]] = []
    members: list[list[int]] = []
    for group in spec.hidden:
        for (colour, wiring), twins in _twins(graph, group, split[group][1], settled):
            vertices.append((group, twins[0]))
            cells.append((group, colour, len(twins), wiring))
            members.append(twins)
    known = sorted(set(cells))
    if len(known) == len(cells):
        sequence = [cells.index(cell) for cell in known]
    else:
        remainder = _remainder(graph, np.array(vertices))
        rank = {cell: number for number, cell in enumerate(known)}
        ranks, _ = refine(remainder, np.array([rank[cell] for cell in cells]))
        sequence = canonical_sequence(remainder, ranks).tolist()
    for place, vertex in enumerate(sequence):
        positions[vertices[vertex][0]][members[vertex]] = place
    return positions


def _settled(graph: MaskGraph, group: int) -> tuple[Integers, Integers]:
    """Return the units of a group that are told apart, in canonical order, and the live ones that are not."""
    if graph.spec.groups[group].kind != "hidden":
        return np.arange(graph.spec.groups[group].size), np.arange(0)
    alive = np.flatnonzero(graph.units[group])
    _, first, cell, sizes = np.unique(
        graph.colours[group][alive], return_index=True, return_inverse=True, return_counts=True
    )
    return alive[first[sizes == 1]], alive[sizes[cell] > 1]


def _twins(
    graph: MaskGraph, group: int, units: Integers, settled: list[Integers]
) -> Iterator[tuple[tuple[int, bytes], list[int]]]:
    """Yield ((colour, weights that join it to ``settled`` units), units) for each class of twins.

    Twins have the same weights from and to the same units in every piece, so any order among them gives the
    same mask. The weights to settled units follow from the colour, unless hashes collided: with them it is
    exact. Weights that join units to themselves alone are settled too.
    """
    if not len(units):
        return
    wirings, known = [np.empty((len(units), 0), dtype=np.bool_)], [np.empty((len(units), 0), dtype=np.bool_)]

    def collect(part: Mask, chosen: Integers | slice) -> None:
        wirings.append(part.reshape(len(units), -1))
        known.append(part[:, chosen].reshape(len(units), -1))

    for index, piece in enumerate(graph.spec.pieces):
        if piece.target == group:
            chosen = slice(None) if piece.diagonal else settled[piece.source]
            collect(piece_matrix(graph, index)[units], chosen)
        if piece.source == group and not piece.diagonal:
            collect(piece_matrix(graph, index)[:, units].swapaxes(0, 1), settled[piece.target])
    rows, parts = np.packbits(np.hstack(wirings), axis=1), np.packbits(np.hstack(known), axis=1)
    classes: dict[bytes, list[int]] = {}
    for number, row in enumerate(rows):
        classes.setdefault(row.tobytes(), []).append(number)
    for numbers in classes.values():
        colour = int(graph.colours[group][units[numbers[0]]])
        yield (colour, parts[numbers[0]].tobytes()), units[numbers].tolist()


def _remainder(graph: MaskGraph, vertices: Integers) -> Remainder:
    """Return the graph among ``vertices``, rows of (group, unit).

    An arc's label ranks piece and pattern, which of the weights between two units are kept, among those here.
    """
    tails, heads, labels, first = [], [], [], 0
    for index, piece in enumerate(graph.spec.pieces):
        if piece.diagonal:
            first += 1
            continue
        sources = np.flatnonzero(vertices[:, 0] == piece.source)
        targets = np.flatnonzero(vertices[:, 0] == piece.target)
        part = piece_matrix(graph, index)[np.ix_(vertices[targets, 1], vertices[sources, 1])]
        rows, columns = np.nonzero(part.any(axis=2))
        tails.append(sources[columns])
        heads.append(targets[rows])
        ranks, count = _ranked(part[rows, columns])
        labels.append(2 * (first + ranks) + (tails[-1] == heads[-1]))
        first += count
    return Remainder(len(vertices), *(np.concatenate(parts) for parts in (tails, heads, labels)))


def _ranked(patterns: Mask) -> tuple[Integers, int]:
    """Return the rank of each row of ``(arcs, positions)`` among the distinct ones, and their number."""
    if patterns.shape[1] == 1 or not len(patterns):
        return np.zeros(len(patterns), dtype=np.intp), 1
    distinct, ranks = np.unique(np.packbits(patterns, axis=1), axis=0, return_inverse=True)
    return ranks.reshape(-1), len(distinct)
