"""The last steps of an operator: exact counts, and no layer without a weight."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ticketsearch.masks import Mask, MaskSpec, layer_counts, readable_first

__all__ = ["finished"]


def finished(child: NDArray[np.bool_], spec: MaskSpec, rng: np.random.Generator) -> Mask:
    """Give each emptied layer one weight, taken from the layer that keeps most."""
    counts = layer_counts(child, spec)
    for index in np.flatnonzero(counts == 0):
        richest = int(counts.argmax())
        if counts[richest] < 2:
            break  # fewer weights than layers: some layer must stay empty
        giver, taker = spec.layers[richest], spec.layers[index]
        child[giver.offset + rng.choice(np.flatnonzero(child[giver.slice]))] = False
        numbers = readable_first(np.arange(taker.offset, taker.offset + taker.size), spec)
        child[numbers[rng.integers(len(numbers))]] = True
        counts[richest] -= 1
        counts[index] += 1
    child.flags.writeable = False
    return child
