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

from ticketsearch.canonical.refinement import refine
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

# Vertices of one graph and their images in another.
Pairs = list[tuple[Indices, Indices]]
Parts = list[tuple[Indices, "_Position"]]


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
    """A graph with stable cells, and its components."""

    def __init__(self, graph: ResidualGraph, ranks: Indices) -> None:
        self.graph, self.ranks = graph, ranks
        self.discrete = graph.size == 1 or is_discrete(ranks)

    @cached_property
    def parting(self) -> Parting:
        """The components."""
        return parting(self.graph, self.ranks)

    @cached_property
    def parts(self) -> Parts:
        """The vertices of each component, and its position."""
        return [(vertices, _Position(part, self.ranks[vertices])) for vertices, part in self.parting.parts]

    @cached_property
    def core(self) -> tuple[Indices, _Core] | None:
        """The vertices of the component and the component itself, if there is only one."""
        if len(self.parting.parts) > 1:
            return None
        [(vertices, part)] = self.parting.parts
        return vertices, _Core(part, self.ranks[vertices], self.parting.cell.tolist())


class _Core:
    """A connected graph with stable cells, whose children each individualise a vertex of one cell."""

    def __init__(self, graph: ResidualGraph, ranks: Indices, cell: list[int]) -> None:
        self.graph, self.ranks, self.cell = graph, ranks, cell
        self._first: tuple[_Position, bytes] | None = None

    def child(self, vertex: int, budget: Budget) -> tuple[_Position, bytes]:
        """Return the child that individualises ``vertex``, and its trace."""
        if vertex == self.cell[0] and self._first is not None:
            return self._first
        budget.spend()
        ranks, trace = refine(self.graph, self.ranks, vertex)
        child = _Position(self.graph, ranks), trace
        if vertex == self.cell[0]:
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
    ordered = []
    if position.core is not None:
        vertices, core = position.core
        order, inner = _search(core, budget)
        orbits[vertices] = vertices[inner]
        ordered = [(b"", vertices[order])]
    else:
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


def _search(core: _Core, budget: Budget) -> tuple[Indices, Indices]:
    """Return :func:`_sequence` of a connected graph: the least form over the choices in one cell.

    Choices of a larger trace are pruned, and only one choice in each orbit of the automorphisms is kept.
    """
    identity = np.arange(core.graph.size)
    orbits, least = identity, b""
    # The kept choices, none an image of another, and their orders and forms.
    kept: list[tuple[_Position, Indices, bytes]] = []
    for vertex in core.cell:
        if orbits[vertex] < vertex:
            continue
        child, trace = core.child(vertex, budget)
        if kept and trace > least:
            continue
        if trace != least:
            least, kept = trace, []
        for other, _, _ in kept:
            images = _automorphism(core, other, child, budget)
            if images is not None:
                orbits = _joined(orbits, identity, images)
                break
        else:
            order, inner = _sequence(child, budget)
            orbits = _joined(orbits, identity, inner)
            form = coloured_form(core.graph, core.ranks, order)
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


def _automorphism(core: _Core, a: _Position, b: _Position, budget: Budget) -> Indices | None:
    """Return an automorphism ``(vertices,)`` that takes the cells of one child to those of another, or None.

    It may be missed, which only costs time.
    """
    images = _matched(a, b, budget)
    if images is None or not np.array_equal(b.ranks[images], a.ranks):
        return None
    if not np.array_equal(core.ranks[images], core.ranks):
        return None
    return images if np.array_equal(core.graph.moved_codes(images), core.graph.codes) else None


def _matched(a: _Position, b: _Position, budget: Budget) -> Indices | None:
    """Return for each vertex of ``a`` its image in ``b`` along one path of each, or None if these differ."""
    images = np.empty(a.graph.size, dtype=np.intp)
    if a.discrete and b.discrete:
        images[np.argsort(a.ranks)] = np.argsort(b.ranks)
        return images
    if a.discrete or b.discrete:
        return None
    settled, others = a.parting.settled, b.parting.settled
    if len(settled) != len(others) or len(a.parting.parts) != len(b.parting.parts):
        return None
    images[settled[np.argsort(a.ranks[settled])]] = others[np.argsort(b.ranks[others])]
    if a.core is not None and b.core is not None:
        pairs = _paired_cores(a.core, b.core, budget)
    else:
        pairs = _paired_parts(a.parts, b.parts, budget)
    if pairs is None:
        return None
    for vertices, others in pairs:
        images[vertices] = others
    return images


def _paired_cores(a: tuple[Indices, _Core], b: tuple[Indices, _Core], budget: Budget) -> Pairs | None:
    """Return the vertices of the only component and their images, or None; see :func:`_matched`."""
    (vertices, core), (others, other_core) = a, b
    if len(vertices) != len(others):
        return None
    chosen, trace = core.child(core.cell[0], budget)
    for vertex in other_core.cell:
        child, other_trace = other_core.child(vertex, budget)
        if other_trace == trace:
            images = _matched(chosen, child, budget)
            return None if images is None else [(vertices, others[images])]
    return None


def _paired_parts(a: Parts, b: Parts, budget: Budget) -> Pairs | None:
    """Return the vertices of each component and their images, or None; see :func:`_matched`."""
    pairs, rest = [], list(b)
    for vertices, part in a:
        for index, (others, other) in enumerate(rest):
            if len(vertices) != len(others) or not np.array_equal(np.sort(part.ranks), np.sort(other.ranks)):
                continue
            images = _matched(part, other, budget)
            if images is not None and np.array_equal(part.graph.moved_codes(images), other.graph.codes):
                pairs.append((vertices, others[images]))
                del rest[index]
                break
        else:
            return None
    return pairs
