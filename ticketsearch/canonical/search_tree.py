"""Individualisation and refinement: the canonical order of a residual graph, component by component.

Where refinement distinguishes no more units, each unit of one cell in turn is individualised, and the choice
with the least form is kept. Traces and automorphisms prune most choices (McKay & Piperno 2014, "Practical
graph isomorphism, II", section 2). The first choice is followed to the end before others are tried, so that
the automorphisms that fix it prune these; each further one is first compared with it along a single path,
which shows most automorphisms without a search.
"""

from __future__ import annotations

import math
from functools import cached_property
from itertools import pairwise
from operator import itemgetter

import numpy as np

from ticketsearch.canonical.refinement import individualised
from ticketsearch.canonical.residual_graph import (
    Parting,
    ResidualGraph,
    coloured_form,
    is_discrete,
    parting,
)
from ticketsearch.errors import BadInput
from ticketsearch.typing import Indices

__all__ = ["Budget", "Exhausted", "canonical_sequence"]


class Exhausted(Exception):  # noqa: N818 - an outcome, not an error
    """A search has used up its budget."""


class Budget:
    """The number of nodes, each a refinement, that a search may still visit; None is unlimited."""

    def __init__(self, nodes: int | None) -> None:
        if nodes is not None and nodes < 0:
            raise BadInput(f"the budget of a search is its number of nodes, >= 0, but got {nodes}")
        self.left = math.inf if nodes is None else nodes

    def spend(self) -> None:
        """Visit a node; raises :class:`Exhausted` if none is left."""
        if self.left < 1:
            raise Exhausted
        self.left -= 1


class _Position:
    """A graph with stable cells: a node of the search, whose children individualise a vertex."""

    def __init__(self, graph: ResidualGraph, ranks: Indices) -> None:
        self.graph, self.ranks = graph, ranks
        self.discrete = is_discrete(ranks)
        self._first: tuple[_Position, bytes] | None = None

    @cached_property
    def parting(self) -> Parting:
        """The reduced graph and its components."""
        return parting(self.graph, self.ranks)

    @cached_property
    def connected(self) -> bool:
        """Whether the reduced graph is connected."""
        return len(self.parting.parts) == 1 and not len(self.parting.settled)

    @cached_property
    def parts(self) -> list[tuple[Indices, _Position]]:
        """The vertices of each component, and its position."""
        return [(vertices, _Position(part, self.ranks[vertices])) for vertices, part in self.parting.parts]

    def child(self, vertex: int, budget: Budget) -> tuple[_Position, bytes]:
        """Return the child that individualises ``vertex`` of the cell, and its trace."""
        first = vertex == self.parting.cell[0]
        if first and self._first is not None:
            return self._first
        budget.spend()
        ranks, trace = individualised(self.parting.graph, self.ranks, vertex)
        child = _Position(self.parting.graph, ranks), trace
        if first:
            self._first = child
        return child


def canonical_sequence(graph: ResidualGraph, ranks: Indices, budget: Budget) -> Indices:
    """Return the vertices in canonical order, cell by cell; ``ranks`` are stable.

    Arcs between components follow from their cells, so each component has a canonical order of its own. The
    components are ordered by their forms; equal ones are interchangeable.
    Raises :class:`Exhausted` if the budget does not suffice.
    """
    order, _ = _sequence(_Position(graph, ranks), budget)
    return order


def _sequence(position: _Position, budget: Budget) -> tuple[Indices, Indices]:
    """Return :func:`canonical_sequence`, and for each vertex the first one of its orbit.

    The orbits are those of the automorphisms that have been found.
    """
    orbits = np.arange(position.graph.size)
    if position.discrete:
        return np.argsort(position.ranks), orbits
    if position.connected:
        return _search(position, budget)
    ordered = []
    for vertices, part in position.parts:
        order, inner = _sequence(part, budget)
        orbits[vertices] = vertices[inner]
        ordered.append((coloured_form(part.graph, part.ranks, order), vertices[order]))
    ordered.sort(key=itemgetter(0))
    for (form, vertices), (other, others) in pairwise(ordered):
        if form == other:
            orbits = _joined(orbits, vertices, others)
    merged = np.concatenate([position.parting.settled, *(vertices for _, vertices in ordered)])
    return merged[np.argsort(position.ranks[merged], kind="stable")], orbits


def _search(position: _Position, budget: Budget) -> tuple[Indices, Indices]:
    """Return :func:`_sequence` of a connected graph: the least form over the choices in one cell.

    Choices of a larger trace are pruned, and only one choice in each orbit of the automorphisms is kept.
    """
    graph, ranks = position.parting.graph, position.ranks
    identity = np.arange(graph.size)
    orbits, least = identity, b""
    # The kept choices, none an image of another, and their orders and forms.
    kept: list[tuple[_Position, Indices, bytes]] = []
    for vertex in position.parting.cell.tolist():
        if orbits[vertex] < vertex:
            continue
        child, trace = position.child(vertex, budget)
        if kept and trace > least:
            continue
        if trace != least:
            least, kept = trace, []
        for other, _, _ in kept:
            images = _automorphism(other, child, budget)
            if images is not None:
                orbits = _joined(orbits, identity, images)
                break
        else:
            order, inner = _sequence(child, budget)
            orbits = _joined(orbits, identity, inner)
            form = coloured_form(graph, ranks, order)
            for _, other_order, other_form in kept:
                if other_form == form:
                    orbits = _joined(orbits, other_order, order)
                    break
            else:
                kept.append((child, order, form))
    return min(kept, key=itemgetter(2))[1], orbits


def _joined(orbits: Indices, vertices: Indices, images: Indices) -> Indices:
    """Return orbits of the automorphisms of ``orbits`` and of one that takes ``vertices`` to ``images``."""
    from ticketsearch.canonical import kernels

    return kernels.joined(orbits, vertices, images)


def _automorphism(a: _Position, b: _Position, budget: Budget) -> Indices | None:
    """Return an automorphism ``(vertices,)`` that takes the cells of ``a`` to those of ``b``, or None.

    Both are children of one position. An automorphism may be missed, which only costs time.
    """
    images = _matched(a, b, budget)
    if images is None or not np.array_equal(a.graph.moved_codes(images), a.graph.codes):
        return None
    return images


def _matched(a: _Position, b: _Position, budget: Budget) -> Indices | None:
    """Return for each vertex of ``a`` its image in ``b`` along one path of each, or None if these differ.

    Images have the cells of their vertices.
    """
    order_a, order_b = np.argsort(a.ranks, kind="stable"), np.argsort(b.ranks, kind="stable")
    if len(a.graph.tails) != len(b.graph.tails) or not np.array_equal(a.ranks[order_a], b.ranks[order_b]):
        return None
    images = np.empty(a.graph.size, dtype=np.intp)
    if a.discrete:
        images[order_a] = order_b
        return images if np.array_equal(a.graph.moved_codes(images), b.graph.codes) else None
    if len(a.parts) != len(b.parts) or len(a.parting.settled) != len(b.parting.settled):
        return None
    if a.connected:
        chosen, trace = a.child(int(a.parting.cell[0]), budget)
        for vertex in b.parting.cell.tolist():
            child, other = b.child(vertex, budget)
            if other == trace:
                return _matched(chosen, child, budget)
        return None
    images[order_a] = order_b  # of settled vertices
    rest = list(b.parts)
    for vertices, part in a.parts:
        for index, (others, other_part) in enumerate(rest):
            found = _matched(part, other_part, budget)
            if found is not None:
                images[vertices] = others[found]
                del rest[index]
                break
        else:
            return None
    return images
