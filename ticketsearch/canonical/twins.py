"""Twins: units of equal neighbourhoods among those that share a colour, and their canonical order.

Twins are interchangeable, so one unit represents each class. Classes that their sizes and their weights to
settled units do not order are the vertices of the residual graph.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ticketsearch.canonical.graph import MaskGraph, Part, row_bytes
from ticketsearch.canonical.refinement import Colours, are_discrete, refine
from ticketsearch.canonical.residual_graph import ResidualGraph, is_discrete
from ticketsearch.canonical.search_tree import Budget, canonical_sequence
from ticketsearch.typing import Indices

__all__ = ["Ties", "canonical_orders", "ties"]

# A class of twins: group, colour, number of twins, and the weights that join it to settled units.
Cell = tuple[int, int, int, bytes]


class Ties(NamedTuple):
    """The units that colours do not distinguish.

    Attributes
    ----------
    settled : for each group the members that colours distinguish, in canonical order.
    twins : for each vertex of the residual graph its group and its class of twins.
    cells : for each vertex its rank and its cell, in order.
    patterns : the meaning of the residual graph's labels.
    residual : the residual graph.
    ranks : ``(vertices,)`` stable cell numbers in it.
    trace : of its refinement; empty where no refinement was needed.
    """

    settled: list[Indices]
    twins: list[tuple[int, list[int]]]
    cells: list[tuple[int, Cell]]
    patterns: list[bytes]
    residual: ResidualGraph
    ranks: Indices
    trace: bytes


def canonical_orders(
    graph: MaskGraph, colours: list[Colours], tied: Ties | None, budget: Budget
) -> list[Indices]:
    """Return the members of each group in canonical order; inputs and outputs stay.

    ``tied`` are the :func:`ties`, if any. Raises :class:`Exhausted` if the budget does not suffice.
    """
    if tied is None:
        return [
            np.argsort(ranked) if group.kind == "hidden" else np.arange(len(ranked))
            for group, ranked in zip(graph.spec.groups, colours, strict=True)
        ]
    places = [np.zeros(size, dtype=np.intp) for size in graph.sizes]
    for place, vertex in enumerate(canonical_sequence(tied.residual, tied.ranks, budget).tolist()):
        group, members = tied.twins[vertex]
        places[group][members] = place
    hidden = set(graph.spec.hidden)
    return [
        np.lexsort((places[group], colours[group])) if group in hidden else np.arange(size)
        for group, size in enumerate(graph.sizes)
    ]


def ties(graph: MaskGraph, colours: list[Colours]) -> Ties | None:
    """Return the units of a graph that its colours do not distinguish, or None if there are none."""
    if are_discrete(colours, graph):
        return None
    split = [_split(graph, colours, group) for group in range(len(graph.sizes))]
    settled = [units for units, _ in split]
    twins: list[tuple[int, list[int]]] = []
    cells: list[Cell] = []
    for group in graph.spec.hidden:
        for members, wiring in _twins(graph, group, split[group][1], settled):
            twins.append((group, members))
            cells.append((group, int(colours[group][members[0]]), len(members), wiring))
    known = {cell: rank for rank, cell in enumerate(sorted(set(cells)))}
    ranks, trace = np.array([known[cell] for cell in cells]), b""
    residual, patterns = _residual_graph(graph, np.array([(group, members[0]) for group, members in twins]))
    if not is_discrete(ranks):
        ranks, trace = refine(residual, ranks)
    return Ties(
        settled, twins, sorted(zip(ranks.tolist(), cells, strict=True)), patterns, residual, ranks, trace
    )


def _split(graph: MaskGraph, colours: list[Colours], group: int) -> tuple[Indices, Indices]:
    """Return the units of a group that colours distinguish, in canonical order, and the other ones."""
    if graph.spec.groups[group].kind != "hidden":
        return np.arange(graph.sizes[group]), np.arange(0)
    _, first, cell, sizes = np.unique(
        colours[group], return_index=True, return_inverse=True, return_counts=True
    )
    return first[sizes == 1], np.flatnonzero(sizes[cell] > 1)


def _twins(
    graph: MaskGraph, group: int, units: Indices, settled: list[Indices]
) -> Iterator[tuple[list[int], bytes]]:
    """Yield the units of each class of twins, and the weights that join it to ``settled`` units.

    Twins have the same weights from and to the same units in every piece, so any order among them gives the
    same mask. The weights to settled units follow from the colour unless hashes collide; comparing them makes
    the result exact. Weights that join units to themselves alone count as settled too.
    """
    if not len(units):
        return
    wirings: list[Part] = []
    known: list[Part] = []

    def collect(part: Part, chosen: Indices | slice) -> None:
        wirings.append(part.reshape(len(units), -1))
        known.append(part[:, chosen].reshape(len(units), -1))

    for piece, part in zip(graph.spec.pieces, graph.parts, strict=True):
        if piece.target == group:
            collect(part[units], slice(None) if piece.diagonal else settled[piece.source])
        if piece.source == group and not piece.diagonal:
            collect(part[:, units].swapaxes(0, 1), settled[piece.target])
    classes: dict[bytes, list[int]] = {}
    for index, row in enumerate(row_bytes(np.hstack(wirings))):
        classes.setdefault(row, []).append(index)
    parts = row_bytes(np.hstack(known))
    for numbers in classes.values():
        yield units[numbers].tolist(), parts[numbers[0]]


def _residual_graph(graph: MaskGraph, vertices: Indices) -> tuple[ResidualGraph, list[bytes]]:
    """Return the graph among ``vertices``, rows of (group, unit), and the meaning of its labels.

    An arc's label is the rank of its piece and its pattern, i.e. the kept positions between the two units.
    """
    tails, heads, labels, first = [], [], [], 0
    patterns = []
    for piece, part in zip(graph.spec.pieces, graph.parts, strict=True):
        if piece.diagonal:
            continue
        sources = np.flatnonzero(vertices[:, 0] == piece.source)
        targets = np.flatnonzero(vertices[:, 0] == piece.target)
        part = part[np.ix_(vertices[targets, 1], vertices[sources, 1])]
        rows, columns = np.nonzero(part.any(axis=2))
        tails.append(sources[columns])
        heads.append(targets[rows])
        distinct, ranks = np.unique(part[rows, columns], axis=0, return_inverse=True)
        labels.append(2 * (first + ranks.reshape(-1)) + (tails[-1] == heads[-1]))
        patterns.append(distinct.tobytes())
        first += max(len(distinct), 1)
    return ResidualGraph(
        len(vertices), *(np.concatenate(parts) for parts in (tails, heads, labels))
    ), patterns
