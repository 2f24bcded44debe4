"""Blind swaps of weights."""

from __future__ import annotations

import numpy as np

from ticketsearch.masks import Mask, MaskSpec
from ticketsearch.operators.finishing import finished

__all__ = ["swap_mutation"]


def swap_mutation(
    mask: Mask, *, spec: MaskSpec, rng: np.random.Generator, rate: float = 0.05, across: float = 0.1
) -> Mask:
    """Prune some kept weights and keep as many pruned ones instead, none that read padding alone.

    Parameters
    ----------
    rate : chance that a kept weight is swapped, in [0, 1]; at least one is.
    across : chance that a swapped weight may land in any layer rather than in its own (which it also does
        where its own is full).
    """
    kept = np.flatnonzero(mask)
    free = np.flatnonzero(spec.reading(~mask))
    swaps = min(max(1, int(rng.binomial(len(kept), rate))), len(kept), len(free))
    dropped = rng.choice(kept, swaps, replace=False)
    child = mask.copy()
    child[dropped] = False
    bounds = np.array([layer.offset for layer in spec.layers] + [spec.size])
    stay = dropped[rng.random(swaps) >= across]
    wanted = np.histogram(stay, bounds)[0]
    offered = np.histogram(free, bounds)[0]
    placed = 0
    for layer, count in zip(spec.layers, np.minimum(wanted, offered), strict=True):
        if count:
            own = free[(free >= layer.offset) & (free < layer.offset + layer.size)]
            child[rng.choice(own, count, replace=False)] = True
            placed += int(count)
    if placed < swaps:
        elsewhere = free[~child[free]]
        child[rng.choice(elsewhere, swaps - placed, replace=False)] = True
    child = finished(child, spec, rng)
    if swaps and np.array_equal(child, mask):  # refilling an emptied layer undid the swap
        return swap_mutation(mask, spec=spec, rng=rng, rate=rate, across=across)
    return child
