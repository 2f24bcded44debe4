"""Individualisation and refinement: the canonical order of a residual graph, component by component.

Where refinement distinguishes no more units, each unit of one cell in turn is individualised, and the choice
with the least form is kept. Traces and automorphisms prune most choices (McKay & Piperno 2014, "Practical
graph isomorphism, II", section 2).
"""

from __future__ import annotations

import math
from operator import itemgetter

import networkx as nx
import numpy as np

from ticketsearch.canonical.refinement import individualised
from ticketsearch.canonical.residual_graph import (
    ResidualGraph,
    coloured_form,
    components,
    is_discrete,
    target_cell,
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

    def individualised(self, graph: ResidualGraph, ranks: Indices, vertex: int) -> tuple[Indices, bytes]:
        """Visit a node; see :func:`individualised`. Raises :class:`Exhausted` if none is left."""
        if self.left < 1:
            raise Exhausted
        self.left -= 1
        return individualised(graph, ranks, vertex)


def canonical_sequence(graph: ResidualGraph, ranks: Indices, budget: Budget) -> Indices:
    """Return the vertices in canonical order, cell by cell; ``ranks`` are stable.

    Arcs between components follow from their cells, so each component has a canonical order of its own. The
    components are ordered by their forms; equal ones are interchangeable.
    Raises :class:`Exhausted` if the budget does not suffice.
    """
    if is_discrete(ranks):
        return np.argsort(ranks)
    parts = components(graph, ranks)
    if len(parts) == 1:
        return _search(parts[0][1], ranks, budget)
    ordered = []
    for vertices, part in parts:
        order = canonical_sequence(part, ranks[vertices], budget)
        ordered.append((coloured_form(part, ranks[vertices], order), vertices[order]))
    merged = np.concatenate([vertices for _, vertices in sorted(ordered, key=itemgetter(0))])
    return merged[np.argsort(ranks[merged], kind="stable")]


def _search(graph: ResidualGraph, ranks: Indices, budget: Budget) -> Indices:
    """Return the canonical order of a connected graph: the least form over the choices in one cell.

    Choices of a larger trace are pruned, and only one choice in each orbit of the automorphisms is kept.
    """
    least, kept = b"", list[tuple[int, Indices]]()
    orbits: nx.utils.UnionFind[int] = nx.utils.UnionFind(range(graph.size))
    tried: list[int] = []
    for vertex in target_cell(graph, ranks).tolist():
        if orbits[vertex] in {orbits[other] for other in tried}:
            continue
        tried.append(vertex)
        refined, trace = budget.individualised(graph, ranks, vertex)
        if kept and trace > least:
            continue
        if trace != least:
            least, kept = trace, []
        for _, other in kept:
            moved = _automorphism(graph, ranks, other, refined, budget)
            if moved is not None:
                for pair in enumerate(moved.tolist()):
                    orbits.union(*pair)
                break
        else:
            kept.append((vertex, refined))
    orders = [canonical_sequence(graph, refined, budget) for _, refined in kept]
    return min(orders, key=lambda order: coloured_form(graph, ranks, order))


def _automorphism(
    graph: ResidualGraph, ranks: Indices, a: Indices, b: Indices, budget: Budget
) -> Indices | None:
    """Return an automorphism ``(vertices,)`` that takes the cells of ``a`` to those of ``b``, or None.

    It is checked in full. None can be wrong only if hashes collide, and then it only costs time.
    """
    moved = _matched(graph, a, graph, b, budget)
    identity = np.arange(graph.size)
    if moved is None or coloured_form(graph, ranks, moved) != coloured_form(graph, ranks, identity):
        return None
    return moved


def _matched(
    a: ResidualGraph, ranks_a: Indices, b: ResidualGraph, ranks_b: Indices, budget: Budget
) -> Indices | None:
    """Return for each vertex of ``a`` its image in ``b`` under an isomorphism of stable cells, or None."""
    order_a, order_b = np.argsort(ranks_a, kind="stable"), np.argsort(ranks_b, kind="stable")
    if len(a.tails) != len(b.tails) or not np.array_equal(ranks_a[order_a], ranks_b[order_b]):
        return None
    moved = np.empty(a.size, dtype=np.intp)
    if is_discrete(ranks_a):
        moved[order_a] = order_b
        return moved if coloured_form(a, ranks_a, order_a) == coloured_form(b, ranks_b, order_b) else None
    parts, rest = components(a, ranks_a), components(b, ranks_b)
    if len(parts) != len(rest):
        return None
    if len(parts) == 1:
        return _matched_connected(parts[0][1], ranks_a, rest[0][1], ranks_b, budget)
    for vertices, part in parts:
        # Isomorphism is an equivalence, so the first fitting component is as good as any.
        for index, (others, other) in enumerate(rest):
            images = _matched(part, ranks_a[vertices], other, ranks_b[others], budget)
            if images is not None:
                moved[vertices] = others[images]
                del rest[index]
                break
        else:
            return None
    return moved


def _matched_connected(
    a: ResidualGraph, ranks_a: Indices, b: ResidualGraph, ranks_b: Indices, budget: Budget
) -> Indices | None:
    """Return :func:`_matched` of connected graphs, of which one vertex is individualised in each."""
    chosen, trace = budget.individualised(a, ranks_a, int(target_cell(a, ranks_a)[0]))
    for vertex in target_cell(b, ranks_b).tolist():
        refined, other = budget.individualised(b, ranks_b, vertex)
        if other == trace:
            images = _matched(a, chosen, b, refined, budget)
            if images is not None:
                return images
    return None
