"""The control of a mask: as many weights in each layer, anywhere."""

from __future__ import annotations

import numpy as np

from ticketsearch.masks.bits import layer_counts
from ticketsearch.masks.spec import Mask, MaskSpec

__all__ = ["layer_shuffle"]


def layer_shuffle(mask: Mask, *, spec: MaskSpec, rng: np.random.Generator) -> Mask:
    """Return a uniformly random mask with the same number of kept weights in each layer.

    The control of Frankle et al. 2021 and Su et al. 2020: what it keeps of a mask is its layer densities,
    exactly, so a layer that is empty stays empty.
    """
    child = np.zeros(spec.size, dtype=np.bool_)
    for layer, count in zip(spec.layers, layer_counts(mask, spec), strict=True):
        child[layer.offset + rng.choice(layer.size, int(count), replace=False, shuffle=False)] = True
    child.flags.writeable = False
    return child
