"""Null models: masks shuffled so that their remaining overlap is due to chance."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ticketsearch.masks import Mask, MaskSpec, layer_shuffle
from ticketsearch.typing import Indices

__all__ = ["ALIGNED_DEGREES", "ALIGNED_UNIFORM", "NULLS", "UNIFORM", "NullModel", "degree_shuffle"]

# Global trades of a shuffle; `scripts/bench_overlap.py --mixing` shows the overlap with the original mask.
TRADES = 16


class NullModel(NamedTuple):
    """A way to shuffle masks, and whether they are aligned before they are compared."""

    shuffle: Callable[..., Mask]
    aligned: bool


def degree_shuffle(mask: Mask, *, spec: MaskSpec, rng: np.random.Generator, trades: int = TRADES) -> Mask:
    """Return a random ``(weights,)`` mask in which each unit has its fan-in and fan-out in each piece.

    In a global trade (Carstens et al. 2018, "Parallel and I/O-efficient randomisation of massive networks
    using global curveball trades") target units form random pairs, and each pair redistributes the sources
    that only one of the two has, so that each keeps its number of sources. The Markov chain is symmetric, and
    its limit is uniform over all masks with these degrees. Where several weights join two units (a kernel, a
    flattened feature map) sources and positions are traded together: this preserves the fan-in of each unit,
    and its fan-out at each position. Where each unit is joined to itself alone (a depthwise convolution)
    positions are traded: this preserves the weights of each unit, and those at each position.
    """
    parts = [spec.part(piece, mask) for piece in spec.pieces]
    kept = [np.nonzero(part.reshape(len(part), -1)) for part in parts]
    units, rows = zip(*(np.unique(row, return_inverse=True) for row, _ in kept), strict=True)
    columns = [column for _, column in kept]
    hands = _Hands([len(rows_with_weights) for rows_with_weights in units], [part[0].size for part in parts])
    dealt = hands.traded(list(rows), columns, rng, trades)
    shuffled = mask.copy()
    for piece, part, unit, row, column in zip(spec.pieces, parts, units, dealt, columns, strict=True):
        moved = np.zeros_like(part)
        moved.reshape(len(part), -1)[unit[row], column] = True
        window = spec.window(piece, shuffled)
        window[...] = moved.reshape(window.shape)
    return shuffled


class _Hands:
    """Trades in several matrices at once: rows hold columns, and trade with rows of their own matrix."""

    def __init__(self, rows: list[int], widths: list[int]) -> None:
        self.rows = rows
        self.first_row = np.cumsum([0, *rows])
        pairs = [-(-count // 2) for count in rows]  # an odd row has no partner
        self.first_pair = np.cumsum([0, *pairs])
        # First entry of each pair in a table of all columns of all pairs.
        self.table = np.cumsum([0, *np.repeat(widths, pairs).tolist()])

    def traded(
        self, rows: list[Indices], columns: list[Indices], rng: np.random.Generator, trades: int
    ) -> list[Indices]:
        """Return the rows, by matrix, that hold the columns after the trades."""
        held = np.concatenate([row + first for row, first in zip(rows, self.first_row, strict=False)])
        column = np.concatenate(columns)
        for _ in range(trades):
            self._trade(held, column, rng)
        bounds = np.cumsum([len(row) for row in rows])[:-1]
        return [part - first for part, first in zip(np.split(held, bounds), self.first_row, strict=False)]

    def _trade(self, held: Indices, column: Indices, rng: np.random.Generator) -> None:
        seats = self._seats(rng)
        place = np.empty(self.first_row[-1], dtype=np.intp)
        place[seats[seats >= 0]] = np.flatnonzero(seats >= 0)
        pair, side = np.divmod(place[held], 2)
        key = self.table[pair] + column
        open_ = np.flatnonzero(np.bincount(key, minlength=self.table[-1])[key] == 1)
        pair, side = pair[open_], side[open_]
        order = np.argsort(pair + rng.random(len(pair)))
        pairs = int(self.first_pair[-1])
        counts, firsts = np.bincount(pair, minlength=pairs), np.bincount(pair[side == 0], minlength=pairs)
        pair = pair[order]
        rank = np.arange(len(pair)) - (np.cumsum(counts) - counts)[pair]
        held[open_[order]] = seats[2 * pair + (rank >= firsts[pair])]

    def _seats(self, rng: np.random.Generator) -> Indices:
        """Return the rows in the two seats of each pair; -1 is an empty seat."""
        seats = np.full(2 * self.first_pair[-1], -1)
        for count, row, pair in zip(self.rows, self.first_row, self.first_pair, strict=False):
            seats[2 * pair : 2 * pair + count] = row + rng.permutation(count)
        return seats


UNIFORM, ALIGNED_UNIFORM, ALIGNED_DEGREES = "uniform", "aligned_uniform", "aligned_degrees"
NULLS = {
    UNIFORM: NullModel(layer_shuffle, aligned=False),
    ALIGNED_UNIFORM: NullModel(layer_shuffle, aligned=True),
    ALIGNED_DEGREES: NullModel(degree_shuffle, aligned=True),
}
