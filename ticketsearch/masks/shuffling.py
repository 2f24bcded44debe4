"""Random choices of weights, and the layer-shuffled control of a mask."""

from __future__ import annotations

import numpy as np

from ticketsearch.masks.bits import layer_counts
from ticketsearch.masks.spec import MaskSpec
from ticketsearch.typing import Indices, Mask

__all__ = ["layer_shuffle", "random_choice", "readable_first"]


def random_choice(
    numbers: Indices, count: int, *, spec: MaskSpec, rng: np.random.Generator, shuffle: bool = True
) -> Indices:
    """Return ``count`` of the weights' indices, drawn uniformly without replacement.

    Weights that read padding alone are drawn only where there are too few others. ``shuffle`` says that the
    order of the drawn indices is random too.
    """
    readable = numbers[spec.readable[numbers]] if spec.reads else numbers
    missing = count - len(readable)
    if missing <= 0:
        return readable[rng.choice(len(readable), count, replace=False, shuffle=shuffle)]
    others = numbers[~spec.readable[numbers]]
    return np.concatenate(
        [readable, others[rng.choice(len(others), missing, replace=False, shuffle=shuffle)]]
    )


def readable_first(numbers: Indices, spec: MaskSpec) -> Indices:
    """Return the indices of the weights that can be live; all of them where none can."""
    readable = numbers[spec.readable[numbers]]
    return readable if len(readable) else numbers


def layer_shuffle(mask: Mask, *, spec: MaskSpec, rng: np.random.Generator) -> Mask:
    """Return a uniformly random mask with the same number of kept weights in each layer.

    The control of Frankle et al. 2021 ("Pruning Neural Networks at Initialization: Why Are We Missing the
    Mark?") and Su et al. 2020 ("Sanity-Checking Pruning Methods"): it keeps the layer densities of a mask
    exactly, so an empty layer stays empty. Weights that read padding alone come last, see
    :func:`random_choice`.
    """
    child = np.zeros(spec.size, dtype=np.bool_)
    for layer, count in zip(spec.layers, layer_counts(mask, spec), strict=True):
        numbers = np.arange(layer.offset, layer.offset + layer.size)
        child[random_choice(numbers, int(count), spec=spec, rng=rng, shuffle=False)] = True
    child.flags.writeable = False
    return child
