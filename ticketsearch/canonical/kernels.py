"""Loops over the arcs of residual graphs.

Vertices, arcs and cells are int64, hashes uint64. Sums of hashes overflow on purpose, so plain Python must
ignore that (``np.errstate``).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ticketsearch.compiled import compiler
from ticketsearch.typing import Indices

__all__ = ["incidence", "joined", "mixed", "parted", "refined"]

Hashes = NDArray[np.uint64]
Parted = tuple[bool, Indices, Indices, Indices, int, Indices, int]

compiled = compiler(__name__, "canonical forms")

FACTOR, ODD = np.uint64(0xA0761D6478BD642F), np.uint64(0x9E3779B97F4A7C15)
SECOND, HALF, REST = np.uint64(0xE7037ED1A0B428DB), np.uint64(32), np.uint64(29)


@compiled
def mixed(value: np.uint64) -> np.uint64:
    """Return pseudo-random 64 bits for a value: a bijection, the same in every process."""
    value = value * FACTOR + ODD
    value = (value ^ (value >> HALF)) * SECOND
    return value ^ (value >> REST)


@compiled
def incidence(size: int, tails: Indices, heads: Indices, labels: Indices) -> tuple[Indices, Indices, Hashes]:
    """Return for each vertex its first entry, and for each entry a neighbour and a salt.

    The salt encodes the label and the direction of the arc that joins the two.
    """
    starts = np.zeros(size + 1, dtype=np.int64)
    for arc in range(len(tails)):
        starts[tails[arc] + 1] += 1
        starts[heads[arc] + 1] += 1
    for vertex in range(size):
        starts[vertex + 1] += starts[vertex]
    free = starts[:-1].copy()
    neighbours = np.empty(2 * len(tails), dtype=np.int64)
    salts = np.empty(2 * len(tails), dtype=np.uint64)
    for arc in range(len(tails)):
        tail, head, way = tails[arc], heads[arc], np.uint64(2 * labels[arc])
        neighbours[free[head]], salts[free[head]] = tail, way << HALF
        free[head] += 1
        neighbours[free[tail]], salts[free[tail]] = head, (way + np.uint64(1)) << HALF
        free[tail] += 1
    return starts, neighbours, salts


@compiled
def refined(
    starts: Indices, neighbours: Indices, salts: Hashes, shift: np.uint64, ranks: Indices
) -> tuple[Indices, Hashes, int]:
    """Return stable cell numbers that refine ``ranks``, the last hashes in their order, and how many cells.

    The sums of :func:`incidence`'s hashes without their last ``shift`` bits are below 2^53.
    """
    size = len(ranks)
    order, _ = _by_number(ranks)
    hashes, sorted_hashes = np.empty(size, dtype=np.uint64), np.empty(size, dtype=np.uint64)
    cells, before = -1, -2
    while cells not in (before, size):
        before = cells
        for vertex in range(size):
            total = np.uint64(0)
            for entry in range(starts[vertex], starts[vertex + 1]):
                total += mixed(salts[entry] + np.uint64(ranks[neighbours[entry]])) >> shift
            hashes[vertex] = mixed(np.uint64(ranks[vertex]) + mixed(total))
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
def _by_number(numbers: Indices) -> tuple[Indices, Indices]:
    """Return places in the order of their numbers, and for each number its first place in that order."""
    most = 0
    for number in numbers:
        most = max(most, number)
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
    found = 0
    for arc in range(len(tails)):
        label, tail, head = labels[arc], ranks[tails[arc]], ranks[heads[arc]]
        place = 40503 * label + 2654435761 * tail + 2246822519 * head
        place = (place ^ (place >> 15)) & (room - 1)
        while True:
            join = table[place] - 1
            if join < 0:
                join, firsts[found] = found, arc
                found += 1
                table[place] = found
                break
            first = firsts[join]
            if labels[first] == label and ranks[tails[first]] == tail and ranks[heads[first]] == head:
                break
            place = (place + 1) & (room - 1)
        join_of[arc] = join
        counts[join] += 1
    return join_of, firsts[:found], counts[:found]


@compiled
def parted(tails: Indices, heads: Indices, labels: Indices, ranks: Indices) -> Parted:
    """Return the arcs that do not follow from the cells, the target cell, and the components.

    For each pair of cells and each label, the arcs are removed if they are complete, and replaced by the
    missing ones if those are fewer. Counts decide, so this is exact whether or not ``ranks`` are equitable.
    First comes whether that changes anything. The target cell is the non-trivial one that meets most others
    in the arcs that are left, and so splits these; ties go to the largest, then to the first. For each vertex
    there is the number of its component, and last the number of components; they are numbered in the order of
    their first vertices, and vertices without arcs in cells of their own have −1.
    """
    join_of, firsts, counts = _joins(tails, heads, labels, ranks)
    _, starts = _by_number(ranks)
    sizes = starts[1:] - starts[:-1]
    left, meetings = counts.copy(), np.zeros(len(sizes), dtype=np.int64)
    for join, first in enumerate(firsts):
        tail, head = ranks[tails[first]], ranks[heads[first]]
        most = sizes[tail] * sizes[head]
        if tail == head and labels[first] % 2 == 0:
            most -= sizes[tail]
        if 2 * counts[join] > most:
            left[join] = counts[join] - most  # not positive: the number of missing arcs
        if left[join] != 0:
            meetings[tail] += 1
            meetings[head] += 1
    target, most = 0, -1
    for rank in range(len(sizes)):
        merit = meetings[rank] * (len(ranks) + 1) + sizes[rank]
        if sizes[rank] > 1 and merit > most:
            target, most = rank, merit
    changed = False
    for number in left:
        changed = changed or number <= 0
    if changed:
        tails, heads, labels = _thinned(tails, heads, labels, ranks, join_of, left)
    owners, components = _owners(tails, heads, ranks, sizes)
    return changed, tails, heads, labels, target, owners, components


@compiled
def _thinned(
    tails: Indices, heads: Indices, labels: Indices, ranks: Indices, join_of: Indices, left: Indices
) -> tuple[Indices, Indices, Indices]:
    """Return tails, heads and labels without the arcs of joins that have none ``left``.

    Where less than none are left, the missing arcs replace a join's own.
    """
    total = 0
    for number in left:
        total += abs(number)
    new_tails, new_heads, new_labels = np.empty((3, total), dtype=np.int64)
    filled = 0
    arcs, firsts = _by_number(join_of)
    members, starts = _by_number(ranks)
    place = np.empty(len(ranks), dtype=np.int64)
    for index, vertex in enumerate(members):
        place[vertex] = index - starts[ranks[vertex]]
    for join, number in enumerate(left):
        own = arcs[firsts[join] : firsts[join + 1]]
        if number > 0:
            for arc in own:
                new_tails[filled], new_heads[filled], new_labels[filled] = tails[arc], heads[arc], labels[arc]
                filled += 1
        elif number < 0:
            label, tail, head = labels[own[0]], ranks[tails[own[0]]], ranks[heads[own[0]]]
            rows, columns = starts[tail + 1] - starts[tail], starts[head + 1] - starts[head]
            kept = np.zeros((rows, columns), dtype=np.bool_)
            for arc in own:
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
def _owners(tails: Indices, heads: Indices, ranks: Indices, sizes: Indices) -> tuple[Indices, int]:
    """Return the number of each vertex's component, and the number of components; see :func:`parted`."""
    roots = joined(np.arange(len(ranks)), tails, heads)
    lone = np.ones(len(ranks), dtype=np.bool_)
    for arc in range(len(tails)):
        lone[tails[arc]] = lone[heads[arc]] = False
    components = 0
    owners = np.empty(len(ranks), dtype=np.int64)
    for vertex, root in enumerate(roots):
        if root < vertex:
            owners[vertex] = owners[root]
        elif lone[vertex] and sizes[ranks[vertex]] == 1:
            owners[vertex] = -1
        else:
            owners[vertex] = components
            components += 1
    return owners, components


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
