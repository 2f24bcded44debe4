"""The live network of a mask as a diagram: its units in rows, and the bonds between them."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ticketsearch.masks import Mask, MaskSpec, live_edges, weight_numbers
from ticketsearch.typing import Floats, Indices

__all__ = ["Bond", "Diagram", "Row", "diagram"]

# Sweeps over the rows that order their units, forth and back in turn.
SWEEPS = 12


class Row(NamedTuple):
    """The live units of one group, from left to right.

    Attributes
    ----------
    name, kind, size : of the group, with all its units.
    units : (live,) their numbers in the group.
    degree : (live,) live weights that end or begin at each.
    place : (live,) from left to right, in (0, 1); of the pixels of an image, along its rows.
    depth : (live,) 0 but for the pixels of an image: down its columns, in (0, 1).
    """

    name: str
    kind: str
    size: int
    units: Indices
    degree: Indices
    place: Floats
    depth: Floats


class Bond(NamedTuple):
    """The joined units of two rows, strongest first.

    ``tails`` and ``heads``, ``(pairs,)``, are places in ``units`` of the rows ``source`` and ``target``,
    ``kept`` the live weights of each pair (those of a convolution's kernel), at most ``positions``, and
    ``sign`` that of their sum, 0 where weights are not given.
    """

    source: int
    target: int
    tails: Indices
    heads: Indices
    kept: Indices
    sign: Indices
    positions: int


class Diagram(NamedTuple):
    """The rows of a live network in forward order, and the bonds between them.

    ``weights`` counts the live ones, ``looped`` those that join a row to itself and are in no bond, and
    ``image`` is the (height, width) of the image that the first row is, or None.
    """

    rows: list[Row]
    bonds: list[Bond]
    weights: int
    looped: int
    image: tuple[int, int] | None


def diagram(
    mask: Mask,
    spec: MaskSpec,
    *,
    input_shape: tuple[int, ...] | None = None,
    weights: NDArray[np.floating] | None = None,
) -> Diagram:
    """Return the diagram of a mask's live network, ``weights`` ``(weights,)`` giving the signs.

    Inputs of shape (channels, height, width) that are one unit each lie as in the image. The other rows are
    spread evenly; units of hidden groups are ordered by the barycentre of the units that they are joined to
    (Sugiyama et al. 1981, "Methods for visual understanding of hierarchical system structures").
    """
    edges, live = live_edges(mask, spec)
    numbers = np.split(weight_numbers(edges, spec), np.cumsum([len(e.rows) for e in edges])[:-1])
    degree = [np.zeros(group.size, dtype=np.intp) for group in spec.groups]
    units = [np.flatnonzero(alive) for alive in live]
    index = [np.cumsum(alive) - 1 for alive in live]
    joined: dict[tuple[int, int], list[tuple[Indices, Indices, Floats, int]]] = {}
    looped = 0
    for part, piece, flat in zip(edges, spec.pieces, numbers, strict=True):
        np.add.at(degree[piece.target], part.rows, 1)
        np.add.at(degree[piece.source], part.columns, 1)
        if piece.target == piece.source:
            looped += len(flat)
            continue
        values = np.zeros(len(flat)) if weights is None else weights[flat].astype(np.float64)
        ends = index[piece.source][part.columns], index[piece.target][part.rows]
        joined.setdefault((piece.source, piece.target), []).append((*ends, values, piece.positions))
    image = _image(spec, input_shape)
    rows = []
    for group, alive, count in zip(spec.groups, units, degree, strict=True):
        place, depth = (np.arange(len(alive)) + 0.5) / max(len(alive), 1), np.zeros(len(alive))
        if group.kind == "input" and image is not None:
            down, along = np.divmod(alive % math.prod(image), image[1])
            place, depth = (along + 0.5) / image[1], (down + 0.5) / image[0]
        rows.append(Row(group.name, group.kind, group.size, alive, count[alive], place, depth))
    bonds = [_bond(ends, parts, rows) for ends, parts in joined.items()]
    rows, bonds = _ordered(rows, bonds, spec)
    return Diagram(rows, bonds, sum(map(len, numbers)), looped, image)


def _image(spec: MaskSpec, input_shape: tuple[int, ...] | None) -> tuple[int, int] | None:
    sizes = [group.size for group in spec.groups if group.kind == "input"]
    if input_shape is None or len(input_shape) != 3 or sizes != [math.prod(input_shape)]:
        return None
    return input_shape[1], input_shape[2]


def _bond(ends: tuple[int, int], parts: list[tuple[Indices, Indices, Floats, int]], rows: list[Row]) -> Bond:
    """Return the joined pairs of two rows, those of most weights and of the busiest units first."""
    source, target = ends
    tails, heads, values = (np.concatenate([part[i] for part in parts]) for i in range(3))
    width = max(len(rows[target].units), 1)
    pairs, which, kept = np.unique(tails * width + heads, return_inverse=True, return_counts=True)
    sign = np.sign(np.bincount(which, values, minlength=len(pairs))).astype(np.intp)
    tails, heads = np.divmod(pairs, width)
    busy = rows[source].degree[tails] * rows[target].degree[heads]
    order = np.lexsort((-busy, -kept))
    return Bond(
        source,
        target,
        tails[order],
        heads[order],
        kept[order].astype(np.intp),
        sign[order],
        sum(part[3] for part in parts),
    )


def _ordered(rows: list[Row], bonds: list[Bond], spec: MaskSpec) -> tuple[list[Row], list[Bond]]:
    """Return rows and bonds with the units of each hidden row ordered by the barycentre of their bonds."""
    place = [row.place for row in rows]
    for sweep in range(SWEEPS):
        for group in spec.hidden if sweep % 2 == 0 else spec.hidden[::-1]:
            sums, counts = np.zeros(len(place[group])), np.zeros(len(place[group]))
            for bond in bonds:
                sides = (bond.source, bond.tails), (bond.target, bond.heads)
                for (row, units), (other, partners) in (sides, sides[::-1]):
                    if row == group:
                        sums += np.bincount(units, place[other][partners], minlength=len(sums))
                        counts += np.bincount(units, minlength=len(counts))
            centre = np.divide(sums, counts, out=np.full(len(sums), 0.5), where=counts > 0)
            rank = np.argsort(np.argsort(centre, kind="stable"), kind="stable")
            place[group] = (rank + 0.5) / max(len(rank), 1)
    orders = [
        np.argsort(place[i], kind="stable") if i in spec.hidden else np.arange(len(place[i]))
        for i in range(len(rows))
    ]
    moved = [
        row._replace(units=row.units[order], degree=row.degree[order], place=row_place[order])
        for row, order, row_place in zip(rows, orders, place, strict=True)
    ]
    ranks = [np.argsort(order) for order in orders]
    return moved, [b._replace(tails=ranks[b.source][b.tails], heads=ranks[b.target][b.heads]) for b in bonds]
