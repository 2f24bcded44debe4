"""Null models: masks shuffled so that what is left of their overlap is chance, and tests against them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ticketsearch.masks import Mask, MaskSpec

__all__ = ["Null", "degree_shuffle", "null_test", "pair_mean"]

Floats = NDArray[np.float64]


def degree_shuffle(mask: Mask, *, spec: MaskSpec, rng: np.random.Generator, sweeps: int = 40) -> Mask:
    """Return a ``(weights,)`` mask in which each unit keeps its numbers of weights in each piece, in and out.

    Pairs of weights swap their sources, many pairs at once, so that each weight is chosen about ``sweeps``
    times. A swap depends only on the four places of each pair, which the swap back has too: the chain is
    symmetric, and its limit uniform over all masks with these degrees. Where several weights join two units
    (a kernel, a flattened feature map) they swap source and position together: kept are the weights into
    each unit and those out of each unit at each position. Where each unit is joined to itself alone (a
    depthwise convolution) they swap positions: kept are the weights of each unit and those at each position.
    """
    shuffled = mask.copy()
    for piece, (_, sources, positions) in zip(spec.pieces, spec.piece_shapes, strict=True):
        part = spec.part(piece, mask)
        # Where most weights are kept, swapping the gaps is the same and seldom refused.
        dense = 2 * np.count_nonzero(part) > part.size
        moved = _swapped(part.ravel() ^ dense, sources * positions, rng, sweeps) ^ dense
        window = spec.window(piece, shuffled)
        window[...] = moved.reshape(window.shape)
    return shuffled


def _swapped(part: Mask, width: int, rng: np.random.Generator, sweeps: int) -> Mask:
    places = np.flatnonzero(part)
    pairs = min(len(places) // 2, max(1, len(part) // 16))
    if pairs == 0:
        return part
    for _ in range(-(-sweeps * len(places) // (2 * pairs))):
        chosen = rng.permutation(len(places))[: 2 * pairs].reshape(2, pairs)
        old = places[chosen]
        columns = old % width
        new = old - columns + columns[::-1]
        uses = np.bincount(np.concatenate([old, new]).ravel(), minlength=len(part))
        kept = np.bincount(places, minlength=len(part))
        kept[old] = 0
        # All four places belong to this pair alone, and the two new ones are empty; half of those swap, as a
        # chain that always moves would never forget whether its steps were even.
        free = (uses[old] == 1).all(axis=0) & (uses[new] == 1).all(axis=0) & (kept[new] == 0).all(axis=0)
        free &= rng.random(pairs) < 0.5
        places[chosen[:, free]] = new[:, free]
    shuffled = np.zeros_like(part)
    shuffled[places] = True
    return shuffled


class Null(NamedTuple):
    """A null model beside what was observed, the mean IoU over pairs.

    ``effect`` is observed - mean of the draws, ``p`` the one-sided (1 + draws that reach it) / (1 + draws).
    """

    observed: float
    mean: float
    sd: float
    effect: float
    p: float
    draws: int


def null_test(observed: Floats, draw: Callable[[], Floats], draws: int) -> Null | None:
    """Return the Monte-Carlo test of the mean over pairs: a draw replaces all masks, as pairs share them."""
    if draws == 0:
        return None
    value = pair_mean(observed)
    drawn = np.array([pair_mean(draw()) for _ in range(draws)])
    reached = int(np.count_nonzero(drawn >= value - 1e-12))
    mean, sd = float(drawn.mean()), float(drawn.std(ddof=1)) if draws > 1 else 0.0
    return Null(value, mean, sd, value - mean, (1 + reached) / (1 + draws), draws)


def pair_mean(matrix: Floats) -> float:
    """Return the mean over pairs of a ``(population, population)`` matrix, each pair counted once."""
    return float(matrix[np.triu_indices(len(matrix), 1)].mean())
