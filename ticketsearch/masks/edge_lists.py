"""Kept weights as edges between units, one list for each piece of the spec."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ticketsearch.masks.spec import MaskSpec, Piece
from ticketsearch.typing import Indices, Mask

__all__ = ["Edges", "edges", "mask_of", "weight_numbers"]


class Edges(NamedTuple):
    """The kept weights of one piece in row-major order.

    Attributes
    ----------
    rows : ``(kept,)``, units of the piece's target group.
    columns : ``(kept,)``, units of its source group.
    positions : ``(kept,)``, which of the weights between the two units: 0 where there is only one.
    """

    rows: Indices
    columns: Indices
    positions: Indices


def edges(mask: Mask, spec: MaskSpec) -> list[Edges]:
    """Return the kept weights of each piece of the spec, for a ``(weights,)`` mask."""
    kept = np.flatnonzero(mask)
    bounds = np.searchsorted(kept, [layer.offset for layer in spec.layers[1:]])
    joined: list[Edges] = [Edges(kept[:0], kept[:0], kept[:0])] * len(spec.pieces)
    for layer, pieces, numbers in zip(spec.layers, spec.layer_pieces, np.split(kept, bounds), strict=True):
        numbers = numbers - layer.offset
        for index in pieces:
            piece, (targets, sources, width) = spec.pieces[index], spec.piece_shapes[index]
            if targets * sources * width == layer.size:
                rows, rest = _divided(numbers, sources * width)
            else:
                rows, rest = _divided(numbers, layer.size // layer.shape[0])
                rows, rest = rows - piece.row, rest - piece.column * layer.kernel
                inside = (rows >= 0) & (rows < targets) & (rest >= 0) & (rest < sources * width)
                rows, rest = rows[inside], rest[inside]
            columns, positions = _divided(rest, width)
            joined[index] = Edges(rows, rows if piece.diagonal else columns, positions)
    return joined


def _divided(numbers: Indices, by: int) -> tuple[Indices, Indices]:
    """Return quotients and remainders; NumPy's divmod takes twice the time."""
    if by == 1:
        return numbers, np.zeros(len(numbers), dtype=np.intp)
    quotients = numbers // by
    remainders = quotients * -by
    remainders += numbers
    return quotients, remainders


def weight_numbers(joined: Sequence[Edges], spec: MaskSpec) -> Indices:
    """Return the indices in the flat mask of edges, one :class:`Edges` a piece."""
    return np.concatenate(
        [_numbers(part, spec, piece) for part, piece in zip(joined, spec.pieces, strict=True)]
    )


def mask_of(joined: Sequence[Edges], spec: MaskSpec) -> Mask:
    """Return the read-only ``(weights,)`` mask that keeps these edges, one :class:`Edges` a piece."""
    mask = np.zeros(spec.size, dtype=np.bool_)
    for part, piece in zip(joined, spec.pieces, strict=True):
        mask[_numbers(part, spec, piece)] = True
    mask.flags.writeable = False
    return mask


def _numbers(part: Edges, spec: MaskSpec, piece: Piece) -> Indices:
    layer = spec.layers[piece.layer]
    width = layer.size // layer.shape[0]
    numbers = part.rows * width
    numbers += layer.offset + piece.row * width + piece.column * layer.kernel
    if not piece.diagonal:
        numbers += part.columns * piece.positions if piece.positions > 1 else part.columns
    if piece.positions > 1:
        numbers += part.positions
    return numbers
