"""The residual graph of the units that neither colours nor twins order, and its connected components.

Its vertices lie in cells, numbered by ranks ``(vertices,)``: sets of units not distinguished so far.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np

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
    """The components of a graph without the arcs that follow from its cells.

    Attributes
    ----------
    settled : the vertices without arcs in cells of their own, which are in no component.
    parts : the vertices of each component, and the reduced graph on them: no two of its cells meet in more
        than half of all possible arcs of a label.
    cell : if there is one component, the vertices in it of the non-trivial cell that meets most other cells,
        and so splits most of them.
    """

    settled: Indices
    parts: list[tuple[Indices, ResidualGraph]]
    cell: Indices


def parting(graph: ResidualGraph, ranks: Indices) -> Parting:
    """Return the components of a graph with these cells; vertices are in the order of their numbers."""
    from ticketsearch.canonical import kernels

    *arcs, first_arcs, vertices, firsts, cell = kernels.parted(graph.tails, graph.heads, graph.labels, ranks)
    settled, *members = (vertices[first:last] for first, last in pairwise(firsts.tolist()))
    parts = []
    for part, (first, last) in zip(members, pairwise(first_arcs[1:].tolist()), strict=True):
        tails, heads, labels = (array[first:last] for array in arcs)
        parts.append((part, ResidualGraph(len(part), tails, heads, labels)))
    return Parting(settled, parts, cell)


def components(graph: ResidualGraph, ranks: Indices) -> list[tuple[Indices, ResidualGraph]]:
    """Return the components of the reduced graph: their vertices and the graph on them; see :class:`Parting`.

    Vertices that are settled are in none.
    """
    return parting(graph, ranks).parts
