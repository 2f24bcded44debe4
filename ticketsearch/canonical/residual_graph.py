"""The residual graph of the units that neither colours nor twins order, and its connected components.

Its vertices lie in cells, numbered by ranks ``(vertices,)``: sets of units not distinguished so far.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from ticketsearch.typing import Indices

__all__ = ["ResidualGraph", "coloured_form", "components", "is_discrete", "target_cell"]


@dataclass(frozen=True, eq=False)
class ResidualGraph:
    """A directed graph with labelled arcs from ``tails`` to ``heads``; odd labels are those of loops."""

    size: int
    tails: Indices
    heads: Indices
    labels: Indices

    @cached_property
    def incidence(self) -> tuple[Indices, Indices, Indices, NDArray[np.uint64]]:
        """For both ends of each arc its vertex, and the index of the distinct neighbour at the other end.

        For each distinct neighbour its vertex and its salt, which encodes label and direction.
        """
        neighbours = np.concatenate([self.tails, self.heads])
        ways = np.concatenate([2 * self.labels, 2 * self.labels + 1])
        things, seen = np.unique(ways * self.size + neighbours, return_inverse=True)
        salts, vertices = np.divmod(things, self.size)
        ends = np.concatenate([self.heads, self.tails])
        return ends, seen, vertices, salts.astype(np.uint64) << np.uint64(32)

    def arcs(self, chosen: NDArray[np.generic] | slice) -> tuple[Indices, Indices, Indices]:
        """Return tails, heads and labels of some arcs."""
        return self.tails[chosen], self.heads[chosen], self.labels[chosen]


def is_discrete(ranks: Indices) -> bool:
    """Return whether each vertex has a cell of its own."""
    return int(np.bincount(ranks).max(initial=0)) <= 1


def target_cell(graph: ResidualGraph, ranks: Indices) -> Indices:
    """Return the vertices of the non-trivial cell that meets most other cells; ties go to the largest, first.

    ``graph`` is reduced, so that no two cells meet in no or in all arcs: such a cell splits most others.
    """
    sizes = np.bincount(ranks)
    code = (graph.labels * len(sizes) + ranks[graph.tails]) * len(sizes) + ranks[graph.heads]
    tail_cells, head_cells = np.divmod(np.unique(code) % len(sizes) ** 2, len(sizes))
    meetings = np.bincount(np.concatenate([tail_cells, head_cells]), minlength=len(sizes))
    merit = np.where(sizes > 1, meetings * (graph.size + 1) + sizes, -1)
    return np.flatnonzero(ranks == np.argmax(merit))


def coloured_form(graph: ResidualGraph, ranks: Indices, order: Indices) -> bytes:
    """Return cells and arcs under an order of the vertices: equal exactly for equal coloured graphs."""
    place = np.argsort(order)
    arcs = (graph.labels * graph.size + place[graph.tails]) * graph.size + place[graph.heads]
    return ranks[order].tobytes() + np.sort(arcs).tobytes()


def components(graph: ResidualGraph, ranks: Indices) -> list[tuple[Indices, ResidualGraph]]:
    """Return the connected components of the reduced graph: their vertices and the graph on them."""
    graph = _reduced(graph, ranks)
    joined: nx.Graph[int] = nx.empty_graph(graph.size)
    joined.add_edges_from(zip(graph.tails.tolist(), graph.heads.tolist(), strict=True))
    members = [np.array(sorted(component)) for component in nx.connected_components(joined)]
    if len(members) == 1:
        return [(members[0], graph)]
    owner, place = np.empty(graph.size, dtype=np.intp), np.empty(graph.size, dtype=np.intp)
    for component, vertices in enumerate(members):
        owner[vertices], place[vertices] = component, np.arange(len(vertices))
    order = np.argsort(owner[graph.tails], kind="stable")
    bounds = np.searchsorted(owner[graph.tails][order], np.arange(1, len(members)))
    parts = []
    for vertices, chosen in zip(members, np.split(order, bounds), strict=True):
        tails, heads, labels = graph.arcs(chosen)
        parts.append((vertices, ResidualGraph(len(vertices), place[tails], place[heads], labels)))
    return parts


def _reduced(graph: ResidualGraph, ranks: Indices) -> ResidualGraph:
    """Return the graph without the arcs that follow from the cells, so that it has more components.

    For each pair of cells and each label, the arcs are removed if they are complete, and replaced by the
    missing ones if those are fewer. Counts decide, so this is exact whether or not ``ranks`` are equitable.
    """
    sizes = np.bincount(ranks)
    code = (graph.labels * len(sizes) + ranks[graph.tails]) * len(sizes) + ranks[graph.heads]
    joins, join, counts = np.unique(code, return_inverse=True, return_counts=True)
    rest, head_cells = np.divmod(joins, len(sizes))
    labels, tail_cells = np.divmod(rest, len(sizes))
    loopless = (tail_cells == head_cells) & (labels % 2 == 0)
    room = sizes[tail_cells] * sizes[head_cells] - np.where(loopless, sizes[tail_cells], 0)
    parts = [graph.arcs(2 * counts[join] <= room[join])]
    for pair in np.flatnonzero((2 * counts > room) & (counts < room)):
        tails, heads, _ = graph.arcs(join == pair)
        missing = np.ones((graph.size, graph.size), dtype=np.bool_)
        missing[tails, heads] = False
        if loopless[pair]:
            np.fill_diagonal(missing, False)
        cells = np.flatnonzero(ranks == tail_cells[pair]), np.flatnonzero(ranks == head_cells[pair])
        rows, columns = missing[np.ix_(*cells)].nonzero()
        parts.append((cells[0][rows], cells[1][columns], np.full(len(rows), labels[pair])))
    return ResidualGraph(graph.size, *(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
