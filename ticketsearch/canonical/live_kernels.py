"""Loops over the weights of a mask that find its live part.

Bits are bytes of 0 and 1. For the tables see :mod:`ticketsearch.canonical.live_program`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ticketsearch.compiled import compiler
from ticketsearch.typing import Indices

__all__ = ["FILL", "JOIN", "MIX", "PIECE", "living"]

Bytes = NDArray[np.uint8]

compiled = compiler(__name__, "canonical forms")

# Kinds of operations: all units active; units active where their sources are; units reached by a piece's
# weights; units of a normalisation over all of them, of which each influences all.
FILL, JOIN, PIECE, MIX = 0, 1, 2, 3
ONE, NONE = np.uint8(1), np.uint8(0)


@compiled
def living(
    kept: Bytes, operations: Indices, pieces: Indices, slots: Indices, output: int, groups: Indices
) -> tuple[Indices, Indices, Bytes, Indices]:
    """Return the live units of all groups, where those of each begin, the weights of all pieces between them,
    and where those of each begin.
    """
    size = slots[-1, 0] + slots[-1, 2]
    active = _active(kept, operations, pieces, size)
    relevant = _relevant(kept, operations, pieces, size, output)
    alive = np.zeros(groups[-1, 0] + groups[-1, 1], dtype=np.uint8)
    for value, group, size in slots:
        for unit in range(size):
            alive[groups[group, 0] + unit] |= active[value + unit] & relevant[value + unit]
    members, bounds = np.empty(len(alive), dtype=np.int64), np.zeros(len(groups) + 1, dtype=np.int64)
    count = 0
    for group, (start, size, hidden) in enumerate(groups):
        for unit in range(size):
            if not hidden or alive[start + unit]:
                members[count] = unit
                count += 1
        bounds[group + 1] = count
    ends = np.zeros(len(pieces) + 1, dtype=np.int64)
    for index in range(len(pieces)):
        target, source, positions, diagonal = pieces[index, 2:6]
        columns = 1 if diagonal else bounds[source + 1] - bounds[source]
        ends[index + 1] = ends[index] + (bounds[target + 1] - bounds[target]) * columns * positions
    weights = np.zeros(ends[-1], dtype=np.uint8)
    for index in range(len(pieces)):
        target, source = pieces[index, 2:4]
        rows, columns = (
            members[bounds[target] : bounds[target + 1]],
            members[bounds[source] : bounds[source + 1]],
        )
        _crop(kept, pieces[index], rows, columns, relevant, active, weights[ends[index] : ends[index + 1]])
    return members, bounds, weights, ends


@compiled
def _active(kept: Bytes, operations: Indices, pieces: Indices, size: int) -> Bytes:
    """Return which units of all values some kept path leads to."""
    active = np.zeros(size, dtype=np.uint8)
    for kind, target, source, number in operations:
        if kind == FILL:
            active[target : target + number] = ONE
        elif kind == JOIN:
            for unit in range(number):
                active[target + unit] |= active[source + unit]
        elif kind == PIECE:
            _reach(kept, pieces[number], active[target:], active[source:])
    return active


@compiled
def _relevant(kept: Bytes, operations: Indices, pieces: Indices, size: int, output: int) -> Bytes:
    """Return which units of all values some kept path leads from to an output."""
    relevant = np.zeros(size, dtype=np.uint8)
    relevant[output:] = ONE
    for index in range(len(operations) - 1, -1, -1):
        kind, target, source, number = operations[index]
        if kind == JOIN:
            for unit in range(number):
                relevant[source + unit] |= relevant[target + unit]
        elif kind == PIECE:
            _reach_back(kept, pieces[number], relevant[target:], relevant[source:])
        elif kind == MIX:
            some = NONE
            for unit in range(number):
                some |= relevant[target + unit]
            for unit in range(number):
                relevant[target + unit] |= some
    return relevant


@compiled
def _reach(kept: Bytes, piece: Indices, targets: Bytes, sources: Bytes) -> None:
    """Set the targets that a piece joins to some of the sources."""
    first, stride, _, _, positions, diagonal, rows, columns = piece[:8]
    width = columns * positions
    seen = np.empty(width, dtype=np.uint8)
    for place in range(width):
        seen[place] = ONE if diagonal else sources[place // positions]
    for row in range(rows):
        run, joined = kept[first + row * stride : first + row * stride + width], NONE
        for place in range(width):
            joined |= run[place] & seen[place]
        targets[row] |= joined & sources[row] if diagonal else joined


@compiled
def _reach_back(kept: Bytes, piece: Indices, targets: Bytes, sources: Bytes) -> None:
    """Set the sources that a piece joins to some of the targets."""
    first, stride, _, _, positions, diagonal, rows, columns = piece[:8]
    width = columns * positions
    seen = np.zeros(width, dtype=np.uint8)
    for row in range(rows):
        if targets[row]:
            run = kept[first + row * stride : first + row * stride + width]
            if diagonal:
                for place in range(width):
                    sources[row] |= run[place]
            else:
                for place in range(width):
                    seen[place] |= run[place]
    if not diagonal:
        for place in range(width):
            sources[place // positions] |= seen[place]


@compiled
def _crop(
    kept: Bytes,
    piece: Indices,
    rows: Indices,
    columns: Indices,
    relevant: Bytes,
    active: Bytes,
    weights: Bytes,
) -> None:
    """Fill in the weights of a piece between live units."""
    first, stride, _, _, positions, diagonal, _, sources, target, source = piece
    width = positions if diagonal else len(columns) * positions
    whole = not diagonal and len(columns) == sources
    for column in range(sources):
        whole = whole and active[source + column] == ONE
    for place, row in enumerate(rows):
        if not relevant[target + row]:
            continue
        run, into = kept[first + row * stride :], weights[place * width : (place + 1) * width]
        if whole or (diagonal and active[source + row]):
            for index in range(width):
                into[index] = run[index]
        elif not diagonal:
            filled = 0
            for column in columns:
                for position in range(positions):
                    into[filled] = run[column * positions + position] & active[source + column]
                    filled += 1
