"""The residual graph of the units that neither colours nor twins order, and its connected components.

Its vertices lie in cells, numbered by ranks ``(vertices,)``: sets of units not distinguished so far.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ticketsearch.typing import Indices

__all__ = ["Parting", "ResidualGraph", "coloured_form", "components", "is_discrete", "parting"]


@dataclass(frozen=True, eq=False)
class ResidualGraph:
    """A directed graph with labelled arcs from ``tails`` to ``heads``; odd labels are those of loops."""

    size: int
    tails: Indices
    heads: Indices
    labels: Indices

    @cached_property
    def incidence(self) -> tuple[Indices, Indices, NDArray[np.uint64], np.uint64]:
        """The arrays of :func:`ticketsearch.canonical.kernels.incidence`, and the shift of its hashes."""
        from ticketsearch.canonical import kernels

        starts, neighbours, salts = kernels.incidence(self.size, self.tails, self.heads, self.labels)
        most = int(np.diff(starts).max()) if len(self.tails) else 1
        return starts, neighbours, salts, np.uint64(64 - 53 + most.bit_length())

    @cached_property
    def codes(self) -> Indices:
        """Numbers of all arcs, in order."""
        return self.moved_codes(np.arange(self.size))

    def moved_codes(self, images: Indices) -> Indices:
        """Return :attr:`codes` of the graph in which ``images`` replace the vertices."""
        codes = (self.labels * self.size + images[self.tails]) * self.size + images[self.heads]
        codes.sort()
        return codes


def is_discrete(ranks: Indices) -> bool:
    """Return whether each vertex has a cell of its own."""
    return int(np.bincount(ranks).max(initial=0)) <= 1


def coloured_form(graph: ResidualGraph, ranks: Indices, order: Indices) -> bytes:
    """Return cells and arcs under an order of the vertices: equal exactly for equal coloured graphs."""
    place = np.empty(graph.size, dtype=np.intp)
    place[order] = np.arange(graph.size)
    return ranks[order].tobytes() + graph.moved_codes(place).tobytes()


class Parting(NamedTuple):
    """A graph without the arcs that follow from its cells, and its connected components.

    Attributes
    ----------
    graph : the reduced graph: no two cells meet in all possible arcs of a label, nor in more than half.
    cell : the vertices of the non-trivial cell that meets most others, and so splits most of them.
    parts : the vertices of each component, and the graph on them.
    settled : the vertices without arcs in cells of their own, which are in no component.
    """

    graph: ResidualGraph
    cell: Indices
    parts: list[tuple[Indices, ResidualGraph]]
    settled: Indices


def parting(graph: ResidualGraph, ranks: Indices) -> Parting:
    """Return the components of the reduced graph."""
    from ticketsearch.canonical import kernels

    changed, tails, heads, labels, target, owners, count = kernels.parted(
        graph.tails, graph.heads, graph.labels, ranks
    )
    if changed:
        graph = ResidualGraph(graph.size, tails, heads, labels)
    settled = np.flatnonzero(owners < 0)
    parts = [(np.arange(graph.size), graph)]
    if count != 1 or len(settled):
        parts = _split(graph, owners, count)
    return Parting(graph, np.flatnonzero(ranks == target), parts, settled)


def _split(graph: ResidualGraph, owners: Indices, count: int) -> list[tuple[Indices, ResidualGraph]]:
    """Return the vertices of each component, and the graph on them."""
    vertices = np.argsort(owners, kind="stable")
    bounds = np.searchsorted(owners[vertices], np.arange(count + 1))
    place = np.empty(graph.size, dtype=np.intp)
    place[vertices] = np.arange(graph.size) - bounds[owners[vertices]]
    arcs = np.argsort(owners[graph.tails], kind="stable")
    tails, heads, labels = place[graph.tails[arcs]], place[graph.heads[arcs]], graph.labels[arcs]
    ends = np.searchsorted(owners[graph.tails[arcs]], np.arange(count + 1))
    parts = []
    for component in range(count):
        chosen = slice(ends[component], ends[component + 1])
        members = vertices[bounds[component] : bounds[component + 1]]
        parts.append((members, ResidualGraph(len(members), tails[chosen], heads[chosen], labels[chosen])))
    return parts


def components(graph: ResidualGraph, ranks: Indices) -> list[tuple[Indices, ResidualGraph]]:
    """Return the connected components of the reduced graph: their vertices and the graph on them.

    Vertices that are settled, see :class:`Parting`, are in none.
    """
    return parting(graph, ranks).parts
