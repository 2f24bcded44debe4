"""Canonical forms: which masks are the same network up to a renumbering of hidden neurons.

The live part of a mask is a directed graph: units are vertices, coloured by their neuron group (inputs and
outputs each by a colour of their own), kept weights are arcs labelled by their layer. A renumbering of
hidden neurons is an isomorphism of that graph, so a mask is recognised by a canonical form: the live weights
with the live hidden units of each group renumbered in an order that depends on the graph alone.

The order is found in three steps. Colour refinement (:func:`_colours`) settles nearly all units of nearly
all masks; units with equal neighbourhoods (twins) are interchangeable; what is left is split into components
that are canonicalised one by one by individualisation and refinement, pruned by traces and automorphisms
(McKay & Piperno 2014, "Practical graph isomorphism, II", section 2). Refinement hashes, but no result
depends on a hash being free of collisions: a collision makes a cell coarser and the search longer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from typing import NamedTuple

import networkx as nx
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ticketsearch.masks import Edges, Mask, MaskSpec, check_mask, edges, live_edges

__all__ = ["canonical_form", "canonical_key", "canonical_order", "isomorphic", "to_networkx"]

Integers = NDArray[np.intp]
Colours = NDArray[np.uint64]


def canonical_key(mask: ArrayLike, spec: MaskSpec) -> str:
    """Return a key that is equal exactly for isomorphic masks of one spec.

    It is a 128-bit digest of the canonical form itself. ``mask`` is ``(weights,)`` bool.
    Raises :class:`BadInput` for another shape or other values.
    """
    form = np.packbits(canonical_form(mask, spec))
    return hashlib.blake2b(form.tobytes(), digest_size=16, person=spec.signature.encode()[:16]).hexdigest()


def canonical_form(mask: ArrayLike, spec: MaskSpec) -> Mask:
    """Return the read-only ``(weights,)`` bool mask that represents all masks isomorphic to ``mask``.

    Dead weights are removed, and the live hidden units of each group have its first numbers.
    Raises :class:`BadInput` for another shape or other values.
    """
    graph = _graph(check_mask(mask, spec), spec)
    return _renumbered(graph, _orders(graph, spec), spec)


def canonical_order(mask: ArrayLike, spec: MaskSpec, *, live_only: bool = True) -> dict[str, Integers]:
    """Return ``{hidden group: (units,) old numbers in canonical order}``, live units first.

    In the sense of :func:`ticketsearch.masks.permute`: ``permute(live(mask, spec), spec, order)`` is the
    canonical form. Without ``live_only`` all kept weights count, the dead ones too: ``permute(mask, spec,
    order)`` is then equal for masks that are renumberings of each other as a whole.
    Raises :class:`BadInput` for another shape or other values.
    """
    graph = _graph(check_mask(mask, spec), spec, live_only=live_only)
    return {spec.groups[group].name: order for group, order in _orders(graph, spec).items()}


def isomorphic(a: ArrayLike, b: ArrayLike, spec: MaskSpec) -> bool:
    """Return whether a renumbering of hidden units turns the live part of ``a`` into that of ``b``.

    Exact: the canonical forms are compared, after the cheaper counts and colours. ``a`` and ``b`` are
    ``(weights,)`` bool. Raises :class:`BadInput` for another shape or other values.
    """
    first, second = (_graph(check_mask(mask, spec), spec) for mask in (a, b))
    if [len(e.rows) for e in first.edges] != [len(e.rows) for e in second.edges]:
        return False
    for one, other in zip(first.colours, second.colours, strict=True):
        if not np.array_equal(np.sort(one), np.sort(other)):
            return False
    form, other_form = (_renumbered(graph, _orders(graph, spec), spec) for graph in (first, second))
    return np.array_equal(form, other_form)


def to_networkx(mask: ArrayLike, spec: MaskSpec) -> nx.Graph[str]:
    """Return the coloured graph of the live part of ``mask``: ``nx.vf2pp_is_isomorphic`` decides by it.

    Each node has one attribute, the string ``label``: live hidden units that of their group, inputs and
    outputs, which are all there (vf2pp calls no empty graph isomorphic), one of their own. As vf2pp
    compares no edges, each live weight is a node too, labelled by its layer and joined to its source and
    target unit; where a layer joins a group to itself the weight is two nodes, one at each end, so that its
    direction shows. ``nx.vf2pp_is_isomorphic(a, b, node_label="label")`` then agrees with
    :func:`isomorphic` (on whole large masks it takes minutes).
    Raises :class:`BadInput` for another shape or other values.
    """
    found, units = live_edges(check_mask(mask, spec), spec)
    graph: nx.Graph[str] = nx.Graph()
    for group, alive in zip(spec.groups, units, strict=True):
        hidden = group.kind == "hidden"
        for unit in np.flatnonzero(alive).tolist() if hidden else range(group.size):
            node = f"{group.name}[{unit}]"
            graph.add_node(node, label=group.name if hidden else node)
    for layer, (source, target), (rows, columns) in zip(spec.layers, spec.layer_groups, found, strict=True):
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            weight = f"{layer.name}[{row}, {column}]"
            path = [weight] if source != target else [f"{weight} source", f"{weight} target"]
            for node in path:
                graph.add_node(node, label=node.replace(f"[{row}, {column}]", " weight"))
            ends = f"{spec.groups[source].name}[{column}]", f"{spec.groups[target].name}[{row}]"
            nx.add_path(graph, [ends[0], *path, ends[1]])
    return graph


# Colour refinement of the whole mask


class _Graph(NamedTuple):
    """What of a mask is compared: its weights, which units they join, and the refined colour of each."""

    edges: list[Edges]
    units: list[Mask]
    colours: list[Colours]


def _graph(mask: Mask, spec: MaskSpec, *, live_only: bool = True) -> _Graph:
    if live_only:
        found, units = live_edges(mask, spec)
    else:
        found = edges(mask, spec)
        units = [np.zeros(group.size, dtype=np.bool_) for group in spec.groups]
        for (source, target), (rows, columns) in zip(spec.layer_groups, found, strict=True):
            units[target][rows] = True
            units[source][columns] = True
    return _Graph(found, units, _colours(found, units, spec))


def _mix(values: Colours) -> Colours:
    """Return pseudo-random 64 bits for each value: a bijection, the same in every process."""
    mixed = (values + np.uint64(0x9E3779B97F4A7C15)) * np.uint64(0xD6E8FEB86659FD93)
    mixed ^= mixed >> np.uint64(32)
    mixed *= np.uint64(0xA0761D6478BD642F)
    mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(0xE7037ED1A0B428DB)
    mixed ^= mixed >> np.uint64(32)
    return mixed


def _absorb(colours: Colours, ends: Integers, others: Integers, neighbours: Colours, salt: int) -> Colours:
    """Return ``colours`` mixed with the sums of their neighbours' colours over the arcs ends–others.

    The sums are of integers and stay below 2^53, so float64 holds them exactly, in whatever order.
    """
    bits = 53 - len(neighbours).bit_length()
    drawn = (_mix(neighbours + np.uint64(salt)) >> np.uint64(64 - bits)).astype(np.float64)
    sums = np.bincount(ends, drawn[others], len(colours)).astype(np.uint64)
    return _mix(colours + _mix(sums + np.uint64(salt)))


def _colours(found: list[Edges], units: list[Mask], spec: MaskSpec) -> list[Colours]:
    """Return ``(units,)`` stable colours of each group: functions of the graph alone, as is their order.

    One sweep passes colours forward through the layers and then back; most masks need half of one.
    """
    colours = []
    for index, group in enumerate(spec.groups):
        fixed = np.uint64(group.kind != "hidden")
        colours.append(_mix(np.arange(group.size, dtype=np.uint64) * fixed + np.uint64(index << 32)))
    joins = [(2 * index, *ends) for index, ends in enumerate(spec.layer_groups)]
    live, cells = _live(units, spec), -1
    while True:
        for salt, source, target in joins:
            if target in spec.hidden:
                arcs = found[salt // 2]
                colours[target] = _absorb(colours[target], arcs.rows, arcs.columns, colours[source], salt)
        if _cells(colours, units, spec) == live:
            return colours
        for salt, source, target in reversed(joins):
            if source in spec.hidden:
                arcs = found[salt // 2]
                colours[source] = _absorb(colours[source], arcs.columns, arcs.rows, colours[target], salt + 1)
        before, cells = cells, _cells(colours, units, spec)
        if cells <= before or cells == live:
            return colours


def _live(units: list[Mask], spec: MaskSpec) -> int:
    return sum(int(np.count_nonzero(units[group])) for group in spec.hidden)


def _cells(colours: list[Colours], units: list[Mask], spec: MaskSpec) -> int:
    return sum(len(np.unique(colours[group][units[group]])) for group in spec.hidden)


def _orders(graph: _Graph, spec: MaskSpec) -> dict[int, Integers]:
    """Return for each hidden group its ``(units,)`` old numbers in canonical order, live ones first."""
    positions = _positions(graph, spec)
    orders = {}
    for group in spec.hidden:
        dead = ~graph.units[group]
        # Dead units are alike; their colours hold nothing, so they end in the order of their numbers.
        orders[group] = np.lexsort((positions[group], np.where(dead, 0, graph.colours[group]), dead))
    return orders


def _renumbered(graph: _Graph, orders: dict[int, Integers], spec: MaskSpec) -> Mask:
    """Return the ``(weights,)`` mask of the graph's weights under the new numbers."""
    numbers = {group: np.argsort(order) for group, order in orders.items()}
    form = np.zeros(spec.size, dtype=np.bool_)
    for layer, (source, target), (rows, columns) in zip(
        spec.layers, spec.layer_groups, graph.edges, strict=True
    ):
        new_rows = numbers[target][rows] if target in numbers else rows
        new_columns = numbers[source][columns] if source in numbers else columns
        form[layer.offset + new_rows * layer.shape[1] + new_columns] = True
    form.flags.writeable = False
    return form


# What refinement leaves open: twins, then the remainder


def _positions(graph: _Graph, spec: MaskSpec) -> list[Integers]:
    """Return for each group ``(units,)`` the canonical place of each unit among those of its colour."""
    positions = [np.zeros(group.size, dtype=np.intp) for group in spec.groups]
    if _cells(graph.colours, graph.units, spec) == _live(graph.units, spec):
        return positions
    split = [_settled(graph, spec, group) for group in range(len(spec.groups))]
    settled = [units for units, _ in split]
    vertices: list[tuple[int, int]] = []
    cells: list[tuple[int, int, int, bytes]] = []
    members: list[list[int]] = []
    for group in spec.hidden:
        for (colour, wiring), twins in _twins(graph, spec, group, split[group][1], settled):
            vertices.append((group, twins[0]))
            cells.append((group, colour, len(twins), wiring))
            members.append(twins)
    known = sorted(set(cells))
    if len(known) == len(cells):
        sequence = [cells.index(cell) for cell in known]
    else:
        remainder = _remainder(graph, spec, np.array(vertices))
        rank = {cell: number for number, cell in enumerate(known)}
        sequence = _sequence(remainder, _refine(remainder, np.array([rank[c] for c in cells]))[0]).tolist()
    for place, vertex in enumerate(sequence):
        positions[vertices[vertex][0]][members[vertex]] = place
    return positions


def _settled(graph: _Graph, spec: MaskSpec, group: int) -> tuple[Integers, Integers]:
    """Return the units of a group that are told apart, in canonical order, and the live ones that are not."""
    if group not in spec.hidden:
        return np.arange(spec.groups[group].size), np.arange(0)
    alive = np.flatnonzero(graph.units[group])
    _, first, cell, sizes = np.unique(
        graph.colours[group][alive], return_index=True, return_inverse=True, return_counts=True
    )
    return alive[first[sizes == 1]], alive[sizes[cell] > 1]


def _twins(
    graph: _Graph, spec: MaskSpec, group: int, units: Integers, settled: list[Integers]
) -> Iterator[tuple[tuple[int, bytes], list[int]]]:
    """Yield ((colour, weights that join it to ``settled`` units), units) for each class of twins.

    Twins have the same sources and targets in every layer, so any order among them gives the same mask. The
    weights to settled units follow from the colour, unless hashes collided: with them it is exact.
    """
    wirings, known = [np.empty((len(units), 0), dtype=np.bool_)], [np.empty((len(units), 0), dtype=np.bool_)]
    for index, (source, target) in enumerate(spec.layer_groups):
        if target == group:
            wirings.append(_matrix(graph, spec, index)[units])
            known.append(wirings[-1][:, settled[source]])
        if source == group:
            wirings.append(_matrix(graph, spec, index)[:, units].T)
            known.append(wirings[-1][:, settled[target]])
    rows, parts = np.packbits(np.hstack(wirings), axis=1), np.packbits(np.hstack(known), axis=1)
    classes: dict[bytes, list[int]] = {}
    for number, row in enumerate(rows):
        classes.setdefault(row.tobytes(), []).append(number)
    for numbers in classes.values():
        colour = int(graph.colours[group][units[numbers[0]]])
        yield (colour, parts[numbers[0]].tobytes()), units[numbers].tolist()


def _matrix(graph: _Graph, spec: MaskSpec, layer: int) -> Mask:
    matrix = np.zeros(spec.layers[layer].shape, dtype=np.bool_)
    matrix[graph.edges[layer]] = True
    return matrix


@dataclass(frozen=True, eq=False)
class _Remainder:
    """A directed graph with labelled arcs from ``tails`` to ``heads``; odd labels are those of loops."""

    size: int
    tails: Integers
    heads: Integers
    labels: Integers

    @cached_property
    def incidence(self) -> tuple[Integers, Integers, Colours]:
        """For both ends of each arc: the vertex, where its neighbour stands in a table, the table's salts."""
        salts, row = np.unique(np.concatenate([2 * self.labels, 2 * self.labels + 1]), return_inverse=True)
        neighbours = np.concatenate([self.tails, self.heads])
        return (
            np.concatenate([self.heads, self.tails]),
            row * self.size + neighbours,
            salts.astype(np.uint64)[:, None] << np.uint64(32),
        )

    def arcs(self, chosen: NDArray[np.generic]) -> tuple[Integers, Integers, Integers]:
        """Return tails, heads and labels of some arcs."""
        return self.tails[chosen], self.heads[chosen], self.labels[chosen]


def _remainder(graph: _Graph, spec: MaskSpec, vertices: Integers) -> _Remainder:
    """Return the graph among ``vertices``, rows of (group, unit)."""
    tails, heads, labels = [], [], []
    for index, (source, target) in enumerate(spec.layer_groups):
        sources = np.flatnonzero(vertices[:, 0] == source)
        targets = np.flatnonzero(vertices[:, 0] == target)
        part = _matrix(graph, spec, index)[np.ix_(vertices[targets, 1], vertices[sources, 1])]
        rows, columns = part.nonzero()
        tails.append(sources[columns])
        heads.append(targets[rows])
        labels.append(2 * index + (tails[-1] == heads[-1]))
    return _Remainder(len(vertices), *(np.concatenate(parts) for parts in (tails, heads, labels)))


def _refine(graph: _Remainder, ranks: Integers) -> tuple[Integers, bytes]:
    """Return stable cell numbers ``(vertices,)`` that refine ``ranks``, and their trace.

    Both depend on structure alone; equal traces are necessary for an isomorphism, not sufficient.
    """
    ends, index, salts = graph.incidence
    most = int(np.bincount(ends).max()) if len(ends) else 1
    shift = np.uint64(64 - 53 + most.bit_length())
    cells = -1
    while True:
        before = cells
        numbers = ranks.astype(np.uint64)
        table = (_mix(salts + numbers) >> shift).astype(np.float64).ravel()
        sums = np.bincount(ends, table[index], graph.size).astype(np.uint64)
        hashes = _mix(numbers + _mix(sums))
        order = np.lexsort((hashes, ranks))
        hashes, old = hashes[order], ranks[order]
        steps = (hashes[1:] != hashes[:-1]) | (old[1:] != old[:-1])
        ranks = np.zeros(graph.size, dtype=np.intp)
        ranks[order[1:]] = np.cumsum(steps)
        cells = int(np.count_nonzero(steps)) + 1
        if cells in (before, graph.size):
            return ranks, hashes.tobytes()


def _individualised(graph: _Remainder, ranks: Integers, vertex: int) -> tuple[Integers, bytes]:
    """Return the refinement of ``ranks`` in which ``vertex`` comes first in its cell."""
    chosen = 2 * ranks + 1
    chosen[vertex] -= 1
    return _refine(graph, chosen)


def _target(graph: _Remainder, ranks: Integers) -> Integers:
    """Return the vertices of the open cell that meets most other cells, of those the largest, the first.

    ``graph`` is reduced, so each meeting is neither empty nor complete: such a cell splits most others.
    """
    sizes = np.bincount(ranks)
    code = (graph.labels * len(sizes) + ranks[graph.tails]) * len(sizes) + ranks[graph.heads]
    tail_cells, head_cells = np.divmod(np.unique(code) % len(sizes) ** 2, len(sizes))
    meetings = np.bincount(np.concatenate([tail_cells, head_cells]), minlength=len(sizes))
    merit = np.where(sizes > 1, meetings * (graph.size + 1) + sizes, -1)
    return np.flatnonzero(ranks == np.argmax(merit))


def _is_discrete(ranks: Integers) -> bool:
    return int(np.bincount(ranks).max(initial=0)) <= 1


def _reduced(graph: _Remainder, ranks: Integers) -> _Remainder:
    """Return the graph without what the cells say already, so that it falls apart where it can.

    Of each pair of cells and each label, the arcs go if they are all there, and are replaced by the missing
    ones if those are fewer. Counts decide, so this is exact whether or not ``ranks`` are equitable.
    """
    sizes = np.bincount(ranks)
    code = (graph.labels * len(sizes) + ranks[graph.tails]) * len(sizes) + ranks[graph.heads]
    joins, join, counts = np.unique(code, return_inverse=True, return_counts=True)
    rest, head_cells = np.divmod(joins, len(sizes))
    labels, tail_cells = np.divmod(rest, len(sizes))
    loopless = (tail_cells == head_cells) & (labels % 2 == 0)
    room = sizes[tail_cells] * sizes[head_cells] - np.where(loopless, sizes[tail_cells], 0)
    parts = [graph.arcs(2 * counts[join] <= room[join])]
    for number in np.flatnonzero((2 * counts > room) & (counts < room)):
        tails, heads, _ = graph.arcs(join == number)
        missing = np.ones((graph.size, graph.size), dtype=np.bool_)
        missing[tails, heads] = False
        if loopless[number]:
            np.fill_diagonal(missing, False)
        cells = np.flatnonzero(ranks == tail_cells[number]), np.flatnonzero(ranks == head_cells[number])
        rows, columns = missing[np.ix_(*cells)].nonzero()
        parts.append((cells[0][rows], cells[1][columns], np.full(len(rows), labels[number])))
    return _Remainder(graph.size, *(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _split(graph: _Remainder, ranks: Integers) -> list[tuple[Integers, _Remainder]]:
    """Return the connected components of the reduced graph: their vertices and the graph on them."""
    graph = _reduced(graph, ranks)
    joined: nx.Graph[int] = nx.empty_graph(graph.size)
    joined.add_edges_from(zip(graph.tails.tolist(), graph.heads.tolist(), strict=True))
    components = [np.array(sorted(component)) for component in nx.connected_components(joined)]
    if len(components) == 1:
        return [(components[0], graph)]
    owner, place = np.empty(graph.size, dtype=np.intp), np.empty(graph.size, dtype=np.intp)
    for number, vertices in enumerate(components):
        owner[vertices], place[vertices] = number, np.arange(len(vertices))
    order = np.argsort(owner[graph.tails], kind="stable")
    bounds = np.searchsorted(owner[graph.tails][order], np.arange(1, len(components)))
    parts = []
    for vertices, chosen in zip(components, np.split(order, bounds), strict=True):
        tails, heads, labels = graph.arcs(chosen)
        parts.append((vertices, _Remainder(len(vertices), place[tails], place[heads], labels)))
    return parts


def _form(graph: _Remainder, ranks: Integers, order: Integers) -> bytes:
    """Return cells and arcs under an order of the vertices: equal exactly for equal coloured graphs."""
    place = np.argsort(order)
    arcs = (graph.labels * graph.size + place[graph.tails]) * graph.size + place[graph.heads]
    return ranks[order].tobytes() + np.sort(arcs).tobytes()


def _sequence(graph: _Remainder, ranks: Integers) -> Integers:
    """Return the vertices in canonical order, cell by cell; ``ranks`` are stable.

    Components meet only as their cells say, so each has its own canonical order, and they follow one
    another by their forms: equal ones are interchangeable.
    """
    if _is_discrete(ranks):
        return np.argsort(ranks)
    parts = _split(graph, ranks)
    if len(parts) == 1:
        return _search(parts[0][1], ranks)
    found = []
    for vertices, part in parts:
        order = _sequence(part, ranks[vertices])
        found.append((_form(part, ranks[vertices], order), vertices[order]))
    merged = np.concatenate([vertices for _, vertices in sorted(found, key=itemgetter(0))])
    return merged[np.argsort(ranks[merged], kind="stable")]


def _search(graph: _Remainder, ranks: Integers) -> Integers:
    """Return the canonical order of a connected graph: the least form over the choices in one cell.

    Choices of a larger trace are cut off, and of those in one orbit of the automorphisms found one is kept.
    """
    least, kept = b"", list[tuple[int, Integers]]()
    orbits: nx.utils.UnionFind[int] = nx.utils.UnionFind(range(graph.size))
    tried: list[int] = []
    for vertex in _target(graph, ranks).tolist():
        if orbits[vertex] in {orbits[other] for other in tried}:
            continue
        tried.append(vertex)
        refined, trace = _individualised(graph, ranks, vertex)
        if kept and trace > least:
            continue
        if trace != least:
            least, kept = trace, []
        for _, other in kept:
            moved = _automorphism(graph, ranks, other, refined)
            if moved is not None:
                for pair in enumerate(moved.tolist()):
                    orbits.union(*pair)
                break
        else:
            kept.append((vertex, refined))
    orders = [_sequence(graph, refined) for _, refined in kept]
    return min(orders, key=lambda order: _form(graph, ranks, order))


def _automorphism(graph: _Remainder, ranks: Integers, a: Integers, b: Integers) -> Integers | None:
    """Return an automorphism ``(vertices,)`` that takes the cells of ``a`` to those of ``b``, or None.

    It is checked in full. None may only be wrong where hashes collide, and then costs time alone.
    """
    moved = _matched(graph, a, graph, b)
    identity = np.arange(graph.size)
    if moved is None or _form(graph, ranks, moved) != _form(graph, ranks, identity):
        return None
    return moved


def _matched(a: _Remainder, ranks_a: Integers, b: _Remainder, ranks_b: Integers) -> Integers | None:
    """Return for each vertex of ``a`` its image in ``b`` under an isomorphism of stable cells, or None."""
    order_a, order_b = np.argsort(ranks_a, kind="stable"), np.argsort(ranks_b, kind="stable")
    if len(a.tails) != len(b.tails) or not np.array_equal(ranks_a[order_a], ranks_b[order_b]):
        return None
    moved = np.empty(a.size, dtype=np.intp)
    if _is_discrete(ranks_a):
        moved[order_a] = order_b
        return moved if _form(a, ranks_a, order_a) == _form(b, ranks_b, order_b) else None
    parts, rest = _split(a, ranks_a), _split(b, ranks_b)
    if len(parts) != len(rest):
        return None
    if len(parts) == 1:
        return _matched_connected(parts[0][1], ranks_a, rest[0][1], ranks_b)
    for vertices, part in parts:
        # Isomorphism is an equivalence, so the first fitting component is as good as any.
        for number, (others, other) in enumerate(rest):
            found = _matched(part, ranks_a[vertices], other, ranks_b[others])
            if found is not None:
                moved[vertices] = others[found]
                del rest[number]
                break
        else:
            return None
    return moved


def _matched_connected(a: _Remainder, ranks_a: Integers, b: _Remainder, ranks_b: Integers) -> Integers | None:
    """Return :func:`_matched` of connected graphs, of which one vertex is individualised in each."""
    chosen, trace = _individualised(a, ranks_a, int(_target(a, ranks_a)[0]))
    for vertex in _target(b, ranks_b).tolist():
        refined, other = _individualised(b, ranks_b, vertex)
        if other == trace:
            found = _matched(a, chosen, b, refined)
            if found is not None:
                return found
    return None
