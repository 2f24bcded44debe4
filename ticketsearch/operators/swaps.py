"""Mutation that swaps weights at random."""

from __future__ import annotations

import numpy as np

from ticketsearch.masks import Mask, MaskSpec
from ticketsearch.operators.refill import refill_empty_layers

__all__ = ["swap_mutation"]


def swap_mutation(
    mask: Mask, *, spec: MaskSpec, rng: np.random.Generator, rate: float = 0.05, across: float = 0.1
) -> Mask:
    """Prune random kept weights, and keep as many pruned ones; none that reads padding alone.

    Parameters
    ----------
    mask : the parent, ``(weights,)`` bool.
    rate : probability that a kept weight is swapped, in [0, 1]; at least one is.
    across : probability that the new weight may be in any layer, not in that of the pruned one; it also may
        be where that layer is full.
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
            candidates = free[(free >= layer.offset) & (free < layer.offset + layer.size)]
            child[rng.choice(candidates, count, replace=False)] = True
            placed += int(count)
    if placed < swaps:
        elsewhere = free[~child[free]]
        child[rng.choice(elsewhere, swaps - placed, replace=False)] = True
    child = refill_empty_layers(child, spec, rng)
    if swaps and np.array_equal(child, mask):  # refilling an empty layer undid the swap
        return swap_mutation(mask, spec=spec, rng=rng, rate=rate, across=across)
    return child
