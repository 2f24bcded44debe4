"""The last step of an operator: empty layers get a weight."""

from __future__ import annotations

import numpy as np

from ticketsearch.masks import Mask, MaskSpec, layer_counts, readable_first

__all__ = ["refill_empty_layers"]


def refill_empty_layers(child: Mask, spec: MaskSpec, rng: np.random.Generator) -> Mask:
    """Give each empty layer one weight, taken from the layer that keeps most; the mask becomes read-only."""
    counts = layer_counts(child, spec)
    for index in np.flatnonzero(counts == 0):
        richest = int(counts.argmax())
        if counts[richest] < 2:
            break  # fewer weights than layers: a layer must stay empty
        giver, taker = spec.layers[richest], spec.layers[index]
        child[giver.offset + rng.choice(np.flatnonzero(child[giver.slice]))] = False
        numbers = readable_first(np.arange(taker.offset, taker.offset + taker.size), spec)
        child[numbers[rng.integers(len(numbers))]] = True
        counts[richest] -= 1
        counts[index] += 1
    child.flags.writeable = False
    return child
