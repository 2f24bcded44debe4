"""Chance: the expected overlap of random masks with given layer counts."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ticketsearch.errors import BadInput
from ticketsearch.masks import MaskSpec, check_masks, layer_counts
from ticketsearch.typing import Floats, Integers

__all__ = ["Chance", "chance_iou"]


class Chance(NamedTuple):
    """Expected IoU of each pair: ``whole`` (population, population), ``layers`` with (layers, ...) before."""

    whole: Floats
    layers: Floats


def chance_iou(masks: ArrayLike, spec: MaskSpec) -> Chance:
    """Return the expected IoU of masks with these layer counts, placed at random within each layer.

    Weights that read padding alone, which can never be live, count neither in masks nor in layers. ``masks``
    is ``(population, weights)`` bool, or its ``(population, layers)`` integer layer
    counts. The intersection in a layer is hypergeometric, that of whole masks a sum of independent ones; as
    IoU is not linear in it, the expectation is over its distribution, exact but for tails beyond 10 standard
    deviations. The diagonal is the chance level of two masks that share the counts.
    Raises :class:`BadInput` for another shape, or counts that a layer cannot have.
    """
    counts = _counts(masks, spec)
    population = len(counts)
    whole = np.empty((population, population))
    layers = np.empty((len(spec.layers), population, population))
    for i, j in itertools.combinations_with_replacement(range(population), 2):
        start, odds = 0, np.ones(1)
        for index, size in enumerate(spec.readable_sizes):
            a, b = int(counts[i, index]), int(counts[j, index])
            first, part = _hypergeometric(size, a, b)
            layers[index, i, j] = layers[index, j, i] = _expected(first, part, a + b)
            start, odds = start + first, np.convolve(odds, part)
        whole[i, j] = whole[j, i] = _expected(start, odds, int(counts[i].sum() + counts[j].sum()))
    return Chance(whole, layers)


def _counts(masks: ArrayLike, spec: MaskSpec) -> Integers:
    array = np.asarray(masks)
    if array.dtype == np.bool_ or array.ndim != 2 or array.shape[1] != len(spec.layers):
        return layer_counts(spec.reading(check_masks(array, spec)), spec)
    sizes = np.array(spec.readable_sizes)
    counts = array.astype(np.int64)
    if (counts < 0).any() or (counts > sizes).any() or (counts != array).any():
        left_out = " (weights that read padding alone left out)" if spec.reads else ""
        raise BadInput(
            f"layer counts lie between 0 and the layers' sizes {sizes.tolist()}{left_out}, but got "
            f"{array.tolist()}"
        )
    return counts


def _hypergeometric(size: int, a: int, b: int) -> tuple[int, Floats]:
    """Return the least intersection of random sets of a and b of ``size``, and probabilities from it up."""
    mean = a * b / size
    # The 20 are for layers of few weights, whose tails are longer than a normal distribution's.
    reach = 10 * np.sqrt(mean * (1 - a / size) * (1 - b / size)) + 20
    first = max(0, a + b - size, int(mean - reach))
    k = np.arange(first, min(a, b, int(mean + reach)), dtype=np.float64)
    steps = np.log((a - k) * (b - k)) - np.log((k + 1) * (size - a - b + k + 1))
    logs = np.concatenate([[0.0], np.cumsum(steps)])
    odds = np.exp(logs - logs.max())
    return first, odds / odds.sum()


def _expected(first: int, odds: Floats, total: int) -> float:
    shared = first + np.arange(len(odds))
    return float(odds @ (shared / (total - shared))) if total else 1.0
