"""Loops over the arcs of residual graphs.

Vertices, arcs and cells are int64, hashes uint64. Sums of hashes overflow on purpose, so plain Python must
ignore that (``np.errstate``).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ticketsearch.compiled import compiler
from ticketsearch.typing import Indices

__all__ = ["blended", "distinct", "joined", "mixed", "parted", "refined"]

Hashes = NDArray[np.uint64]
Parted = tuple[Indices, Indices, Indices, Indices, Indices, Indices, Indices]

compiled = compiler(__name__, "canonical forms")

FACTOR, ODD = np.uint64(0xA0761D6478BD642F), np.uint64(0x9E3779B97F4A7C15)
SECOND, HALF, REST, ONE = np.uint64(0xE7037ED1A0B428DB), np.uint64(32), np.uint64(29), np.uint64(1)


@compiled
def mixed(value: np.uint64) -> np.uint64:
    """Return pseudo-random 64 bits for a value: a bijection, the same in every process."""
    value = value * FACTOR + ODD
    value = (value ^ (value >> HALF)) * SECOND
    return value ^ (value >> REST)


@compiled
def blended(colours: Hashes, sums: Hashes) -> Hashes:
    """Return colours that follow from earlier ones and from sums over neighbours."""
    new = np.empty_like(colours)
    for unit in range(len(colours)):
        new[unit] = mixed(colours[unit] * ODD + sums[unit])
    return new


@compiled
def distinct(colours: Hashes) -> int:
    """Return the number of different colours."""
    room = 2
    while room < 2 * len(colours):
        room *= 2
    table = np.zeros(room, dtype=np.int64)  # places of different colours, from 1
    count = 0
    for place in range(len(colours)):
        entry = np.int64(colours[place] >> HALF) & (room - 1)
        while table[entry] and colours[table[entry] - 1] != colours[place]:
            entry = (entry + 1) & (room - 1)
        if not table[entry]:
            table[entry] = place + 1
            count += 1
    return count


@compiled
def refined(
    tails: Indices, heads: Indices, labels: Indices, ranks: Indices, chosen: int
) -> tuple[Indices, Hashes, int]:
    """Return stable cell numbers that refine ``ranks``, the last hashes in their order, and how many cells.

    The vertex ``chosen`` comes first in its cell; −1 is none. A colour is the hash of a vertex's cell and of
    the sum over its arcs of the hashes of label, direction and other cell, high bits alone: sums are < 2^53.
    """
    size = len(ranks)
    if chosen >= 0:
        ranks = 2 * ranks + 1
        ranks[chosen] -= 1
    shift = _shift(size, tails, heads)
    order, _ = _by_number(ranks, 0)
    hashes, sorted_hashes = np.empty(size, dtype=np.uint64), np.empty(size, dtype=np.uint64)
    cells, before = -1, -2
    while cells not in (before, size):
        before = cells
        hashes[:] = np.uint64(0)
        for arc in range(len(tails)):
            tail, head, way = tails[arc], heads[arc], np.uint64(2 * labels[arc])
            hashes[head] += mixed((way << HALF) + np.uint64(ranks[tail])) >> shift
            hashes[tail] += mixed((way + ONE << HALF) + np.uint64(ranks[head])) >> shift
        for vertex in range(size):
            hashes[vertex] = mixed(np.uint64(ranks[vertex]) + mixed(hashes[vertex]))
        _sort_cells(order, ranks, hashes)
        split = np.empty(size, dtype=np.int64)
        cells = 0
        for place in range(size):
            vertex, last = order[place], order[place - 1]
            if place == 0 or ranks[vertex] != ranks[last] or hashes[vertex] != hashes[last]:
                cells += 1
            split[vertex] = cells - 1
            sorted_hashes[place] = hashes[vertex]
        ranks = split
    return ranks, sorted_hashes, cells


@compiled
def _shift(size: int, tails: Indices, heads: Indices) -> np.uint64:
    """Return how many bits hashes must lose for a sum of them over any vertex's arcs to have 53."""
    degrees = np.zeros(size, dtype=np.int64)
    for arc in range(len(tails)):
        degrees[tails[arc]] += 1
        degrees[heads[arc]] += 1
    most, shift = 1, 64 - 53 + 1
    for degree in degrees:
        if degree > most:
            most = int(degree)
    while most > 1:
        most, shift = most // 2, shift + 1
    return np.uint64(shift)


@compiled
def _by_number(numbers: Indices, most: int) -> tuple[Indices, Indices]:
    """Return places in the order of their numbers, and where those of each number begin in that order.

    Numbers go up to ``most`` at least.
    """
    for number in numbers:
        if number > most:
            most = int(number)
    starts = np.zeros(most + 2, dtype=np.int64)
    for number in numbers:
        starts[number + 1] += 1
    for number in range(most + 1):
        starts[number + 1] += starts[number]
    free, order = starts.copy(), np.empty(len(numbers), dtype=np.int64)
    for place, number in enumerate(numbers):
        order[free[number]] = place
        free[number] += 1
    return order, starts


@compiled
def _sort_cells(order: Indices, ranks: Indices, hashes: Hashes) -> None:
    """Sort the vertices of each cell by their hashes (Shell's method); ``order`` has them cell by cell."""
    first = 0
    while first < len(order):
        last, alike = first + 1, True
        while last < len(order) and ranks[order[last]] == ranks[order[first]]:
            alike = alike and hashes[order[last]] == hashes[order[first]]
            last += 1
        gap = 0 if alike else 1
        while 0 < gap < (last - first) // 3:
            gap = 3 * gap + 1
        while gap > 0:
            for start in range(first + gap, last):
                vertex, place = order[start], start
                while place >= first + gap and hashes[order[place - gap]] > hashes[vertex]:
                    order[place] = order[place - gap]
                    place -= gap
                order[place] = vertex
            gap //= 3
        first = last


@compiled
def _joins(
    tails: Indices, heads: Indices, labels: Indices, ranks: Indices
) -> tuple[Indices, Indices, Indices]:
    """Return the number of each arc's join, and for each join its first arc and how many it has.

    A join is a label and two cells: that of the tail and that of the head.
    """
    room = 16
    while room < 2 * len(tails):
        room *= 2
    table = np.zeros(room, dtype=np.int64)  # numbers of joins, from 1
    join_of = np.empty(len(tails), dtype=np.int64)
    firsts, counts = np.empty(len(tails), dtype=np.int64), np.zeros(len(tails), dtype=np.int64)
    joins = 0
    for arc in range(len(tails)):
        label, tail, head = labels[arc], ranks[tails[arc]], ranks[heads[arc]]
        place = 40503 * label + 2654435761 * tail + 2246822519 * head
        place = (place ^ (place >> 15)) & (room - 1)
        while True:
            join = table[place] - 1
            if join < 0:
                join, firsts[joins] = joins, arc
                joins += 1
                table[place] = joins
                break
            first = firsts[join]
            if labels[first] == label and ranks[tails[first]] == tail and ranks[heads[first]] == head:
                break
            place = (place + 1) & (room - 1)
        join_of[arc] = join
        counts[join] += 1
    return join_of, firsts[:joins], counts[:joins]


@compiled
def parted(tails: Indices, heads: Indices, labels: Indices, ranks: Indices) -> Parted:
    """Return the components of the graph without the arcs that follow from its cells.

    For each pair of cells and each label, the arcs are removed if they are complete, and replaced by the
    missing ones if those are fewer. Counts decide, so this is exact whether or not ``ranks`` are equitable.

    Returns tails, heads and labels by components, numbered in each, and where the arcs of each begin; the
    vertices by components, and where those of each begin; component 0 are the vertices without arcs that have
    cells of their own. Last comes the target cell, in the numbers of the component if there is only one: the
    non-trivial cell that meets most others in the arcs that are left, and so splits these; ties go to the
    largest, then to the first.
    """
    join_of, firsts, counts = _joins(tails, heads, labels, ranks)
    members, starts = _by_number(ranks, 0)
    left, meetings = counts.copy(), np.zeros(len(starts) - 1, dtype=np.int64)
    changed = False
    for join, first in enumerate(firsts):
        tail, head = ranks[tails[first]], ranks[heads[first]]
        most = (starts[tail + 1] - starts[tail]) * (starts[head + 1] - starts[head])
        if tail == head and labels[first] % 2 == 0:
            most -= starts[tail + 1] - starts[tail]
        if 2 * counts[join] > most:
            left[join] = counts[join] - most  # not positive: the number of missing arcs
            changed = True
        if left[join] != 0:
            meetings[tail] += 1
            meetings[head] += 1
    target, most = 0, -1
    for rank in range(len(meetings)):
        size = starts[rank + 1] - starts[rank]
        merit = meetings[rank] * (len(ranks) + 1) + size
        if size > 1 and merit > most:
            target, most = rank, merit
    if changed:
        tails, heads, labels = _thinned(tails, heads, labels, join_of, left, ranks, members, starts)
    owners = _owners(tails, heads, ranks, starts)
    vertices, bounds = _by_number(owners, 0)
    place = np.empty(len(ranks), dtype=np.int64)
    for index, vertex in enumerate(vertices):
        place[vertex] = index - bounds[owners[vertex]]
    arcs, arc_bounds = _by_number(owners[tails], len(bounds) - 2)
    cell = place[members[starts[target] : starts[target + 1]]]
    return place[tails[arcs]], place[heads[arcs]], labels[arcs], arc_bounds, vertices, bounds, cell


@compiled
def _thinned(
    tails: Indices,
    heads: Indices,
    labels: Indices,
    join_of: Indices,
    left: Indices,
    ranks: Indices,
    members: Indices,
    starts: Indices,
) -> tuple[Indices, Indices, Indices]:
    """Return tails, heads and labels without the arcs of joins that have none ``left``.

    Where less than none are left, the missing arcs replace a join's own.
    """
    total = 0
    for number in left:
        total += abs(number)
    new_tails, new_heads, new_labels = np.empty((3, total), dtype=np.int64)
    filled = 0
    arcs, firsts = _by_number(join_of, 0)
    place = np.empty(len(ranks), dtype=np.int64)
    for index, vertex in enumerate(members):
        place[vertex] = index - starts[ranks[vertex]]
    for join, number in enumerate(left):
        joins_arcs = arcs[firsts[join] : firsts[join + 1]]
        if number > 0:
            for arc in joins_arcs:
                new_tails[filled], new_heads[filled], new_labels[filled] = tails[arc], heads[arc], labels[arc]
                filled += 1
        elif number < 0:
            label, tail, head = (
                labels[joins_arcs[0]],
                ranks[tails[joins_arcs[0]]],
                ranks[heads[joins_arcs[0]]],
            )
            rows, columns = starts[tail + 1] - starts[tail], starts[head + 1] - starts[head]
            kept = np.zeros((rows, columns), dtype=np.bool_)
            for arc in joins_arcs:
                kept[place[tails[arc]], place[heads[arc]]] = True
            for row in range(rows):
                for column in range(columns):
                    if not kept[row, column] and (tail != head or row != column or label % 2 == 1):
                        new_tails[filled] = members[starts[tail] + row]
                        new_heads[filled] = members[starts[head] + column]
                        new_labels[filled] = label
                        filled += 1
    return new_tails, new_heads, new_labels


@compiled
def _owners(tails: Indices, heads: Indices, ranks: Indices, starts: Indices) -> Indices:
    """Return the number of each vertex's component, from 1; 0 without arcs and in a cell of its own."""
    roots = joined(np.arange(len(ranks)), tails, heads)
    lone = np.ones(len(ranks), dtype=np.bool_)
    for arc in range(len(tails)):
        lone[tails[arc]] = lone[heads[arc]] = False
    components = 0
    owners = np.zeros(len(ranks), dtype=np.int64)
    for vertex, root in enumerate(roots):
        if root < vertex:
            owners[vertex] = owners[root]
        elif not lone[vertex] or starts[ranks[vertex] + 1] - starts[ranks[vertex]] > 1:
            components += 1
            owners[vertex] = components
    return owners


@compiled
def joined(roots: Indices, first: Indices, second: Indices) -> Indices:
    """Return for each vertex the least of its class, where ``first`` and ``second`` are joined one by one.

    ``roots`` are such an array.
    """
    roots = roots.copy()
    for index in range(len(first)):
        a, b = first[index], second[index]
        while roots[a] != a:
            roots[a] = roots[roots[a]]
            a = roots[a]
        while roots[b] != b:
            roots[b] = roots[roots[b]]
            b = roots[b]
        roots[max(a, b)] = min(a, b)
    for vertex, root in enumerate(roots):
        roots[vertex] = roots[root]
    return roots
