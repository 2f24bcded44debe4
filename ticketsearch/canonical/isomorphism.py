"""Isomorphism of two masks, decided also where no search for canonical forms is completed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import networkx as nx
import numpy as np
from numpy.typing import ArrayLike

from ticketsearch.canonical.approximate import are_close, check_chain, rescaled
from ticketsearch.canonical.forms import BUDGET
from ticketsearch.canonical.graph import MaskGraph, mask_graph
from ticketsearch.canonical.labels import Labels, Weights
from ticketsearch.canonical.refinement import unit_colours
from ticketsearch.canonical.residual_graph import ResidualGraph, coloured_form, components
from ticketsearch.canonical.search_tree import Budget, Exhausted, canonical_sequence
from ticketsearch.canonical.twins import Ties, ties
from ticketsearch.checks import checked
from ticketsearch.errors import BadInput
from ticketsearch.masks import MaskSpec, check_mask
from ticketsearch.typing import Indices

__all__ = ["isomorphic"]

# Label, cell of the tail, cell of the head.
Join = tuple[int, int, int]


@checked
def isomorphic(
    a: ArrayLike,
    b: ArrayLike,
    spec: MaskSpec,
    *,
    weights: tuple[Weights | ArrayLike, Weights | ArrayLike] | None = None,
    rescaling: bool = False,
    tolerance: float = 0.0,
    budget: int = BUDGET,
) -> bool:
    """Return whether a renumbering of hidden units turns the live part of ``a`` into that of ``b``.

    The columns of bundles may be exchanged too. The answer is exact under any budget: units that refinement
    orders are compared directly, each component of the rest by its canonical form, or by networkx's vf2pp if
    ``budget`` nodes do not suffice for that. ``a`` and ``b`` are ``(weights,)`` bool.

    Parameters
    ----------
    weights : the weights of ``a`` and of ``b``, ``(weights,)`` float or :class:`Weights`; the live ones must
        then be equal too.
    rescaling : whether each hidden unit's incoming weights may be multiplied by a positive number, and its
        outgoing ones divided by it. That is the same network in a chain without biases whose activations
        are ReLU, which the caller vouches for.
    tolerance : weights x and y count as equal if ``abs(x - y) <= tolerance * max(abs(x), abs(y))``; with
        rescaling after each unit's incoming weights have been scaled to norm 1.
    budget : nodes of the search for one canonical form.

    Raises :class:`BadInput` for another shape or other values, a negative budget, a tolerance out of
    [0, 0.5) or without weights, rescaling without a tolerance (it rounds), and rescaling of other networks.
    """
    if not 0 <= tolerance < 0.5:
        raise BadInput(f"tolerance must be in [0, 0.5), but got {tolerance}")
    if weights is None and (tolerance or rescaling):
        raise BadInput(
            "tolerance and rescaling are of weights, but there are none; give weights=(of a, of b)"
        )
    if rescaling and not tolerance:
        raise BadInput("rescaled weights agree to rounding alone; give a tolerance, such as 1e-5")
    masks = [check_mask(mask, spec) for mask in (a, b)]
    if weights is None:
        return _same(mask_graph(masks[0], spec), mask_graph(masks[1], spec), budget)
    labels = [Labels.of(given, spec) for given in weights]
    if labels[0].rest != labels[1].rest:
        return False
    first, second = (mask_graph(mask, spec, label) for mask, label in zip(masks, labels, strict=True))
    if not tolerance:
        return _same(first, second, budget)
    if rescaling:
        check_chain(spec)
        first, second = rescaled(first), rescaled(second)
    return are_close(first, second, tolerance)


def _same(a: MaskGraph, b: MaskGraph, budget: int) -> bool:
    """Return whether two graphs are isomorphic."""
    if a.sizes != b.sizes:
        return False
    colours = unit_colours(a), unit_colours(b)
    for one, other in zip(*colours, strict=True):
        if not np.array_equal(np.sort(one), np.sort(other)):
            return False
    first, second = ties(a, colours[0]), ties(b, colours[1])
    if first is None or second is None:
        return a.block([np.argsort(c) for c in colours[0]]) == b.block([np.argsort(c) for c in colours[1]])
    return (
        (first.cells, first.patterns, first.trace) == (second.cells, second.patterns, second.trace)
        and a.block(first.settled) == b.block(second.settled)
        and _matched(first, second, budget)
    )


def _matched(a: Ties, b: Ties, budget: int) -> bool:
    """Return whether the components of one residual graph are those of the other."""
    if _joins(a.residual, a.ranks) != _joins(b.residual, b.ranks):
        return False  # components are without the arcs that follow from cells
    rest = list(_components(b, budget))
    for part, ranks, form in _components(a, budget):
        # Isomorphism is an equivalence, so the first fitting component is as good as any.
        for index, (other, other_ranks, other_form) in enumerate(rest):
            if form is not None and other_form is not None:
                same = form == other_form
            else:
                same = _agree(part, ranks, other, other_ranks)
            if same:
                del rest[index]
                break
        else:
            return False
    return not rest


def _components(tied: Ties, budget: int) -> Iterator[tuple[ResidualGraph, Indices, bytes | None]]:
    """Yield the components of a residual graph, their cells, and their forms; None beyond the budget."""
    for vertices, part in components(tied.residual, tied.ranks):
        ranks = tied.ranks[vertices]
        try:
            yield part, ranks, coloured_form(part, ranks, canonical_sequence(part, ranks, Budget(budget)))
        except Exhausted:
            yield part, ranks, None


def _agree(a: ResidualGraph, ranks_a: Indices, b: ResidualGraph, ranks_b: Indices) -> bool:
    """Return whether vf2pp finds an isomorphism of two components that keeps cells and labels."""
    joins, others = _joins(a, ranks_a), _joins(b, ranks_b)
    if a.size != b.size or joins != others:
        return False
    graphs = _drawn(a, ranks_a, joins), _drawn(b, ranks_b, joins)
    return bool(nx.vf2pp_is_isomorphic(*graphs, node_label="label"))


def _joins(graph: ResidualGraph, ranks: Indices) -> Counter[Join]:
    """Return the number of arcs of each label from one cell to another."""
    cells = ranks[graph.tails].tolist(), ranks[graph.heads].tolist()
    return Counter(zip(graph.labels.tolist(), *cells, strict=True))


def _drawn(graph: ResidualGraph, ranks: Indices, joins: Counter[Join]) -> nx.Graph[int]:
    """Return a component as a graph for vf2pp, which compares labels of nodes alone.

    Arcs between two cells that have only one label are edges, and so are arcs within a cell in both
    directions. Other arcs are subdivided by a node with label and direction, and within a cell by two, one at
    each end, which makes vf2pp much slower.
    """
    between = Counter(frozenset(cells) for _, *cells in joins)
    arcs = set(zip(graph.tails.tolist(), graph.heads.tolist(), graph.labels.tolist(), strict=True))
    oneway = {
        ranks[tail]
        for tail, head, label in arcs
        if ranks[tail] == ranks[head] and (head, tail, label) not in arcs
    }
    drawn: nx.Graph[int] = nx.Graph()
    for vertex, rank in enumerate(ranks.tolist()):
        drawn.add_node(vertex, label=f"{rank}")
    for tail, head, label in sorted(arcs):
        cells = int(ranks[tail]), int(ranks[head])
        path = []
        if cells[0] != cells[1] and between[frozenset(cells)] > 1:
            path = [(len(drawn), f"{label} from {cells[0]} to {cells[1]}")]
        elif cells[0] == cells[1] and (cells[0] in oneway or between[frozenset(cells)] > 1):
            path = [(len(drawn), f"{label} source"), (len(drawn) + 1, f"{label} target")]
        for node, text in path:
            drawn.add_node(node, label=text)
        nx.add_path(drawn, [tail, *(node for node, _ in path), head])
    return drawn
