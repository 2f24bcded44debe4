"""Raw overlap: masks compared weight by weight, beside the overlap expected by chance."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ticketsearch.alignment import shared_weights
from ticketsearch.errors import BadInput
from ticketsearch.masks import Mask, MaskSpec, check_masks
from ticketsearch.overlap.chance import chance_iou
from ticketsearch.typing import Floats, Integers

__all__ = [
    "Diversity",
    "RawOverlap",
    "check_several",
    "containment",
    "diversity",
    "iou",
    "jaccard",
    "pairwise_containment",
    "pairwise_iou",
    "raw_overlap",
]


def iou(a: ArrayLike, b: ArrayLike) -> float:
    """Return |a ∩ b| / |a ∪ b| of two ``(weights,)`` masks; 1 for two empty ones.

    Raises :class:`BadInput` for masks of unequal shapes.
    """
    return float(pairwise_iou(_pair(a, b))[0, 1])


def containment(a: ArrayLike, b: ArrayLike) -> float:
    """Return |a ∩ b| / min(|a|, |b|) of two ``(weights,)`` masks; 1 where one is empty.

    Raises :class:`BadInput` for masks of unequal shapes.
    """
    return float(pairwise_containment(_pair(a, b))[0, 1])


def pairwise_iou(masks: ArrayLike) -> Floats:
    """Return the IoU of each pair of masks, ``(population, population)``, of ``(population, weights)`` bool.

    Raises :class:`BadInput` for another number of dimensions.
    """
    array = np.asarray(masks, dtype=np.bool_)
    if array.ndim != 2:
        raise BadInput(
            f"masks have shape (population, weights), i.e. one row a network, but got {array.shape}"
        )
    return jaccard(shared_weights(array))


def pairwise_containment(masks: Mask) -> Floats:
    """Return the containment of all pairs of ``(population, weights)`` masks, a symmetric matrix."""
    shared = shared_weights(masks)
    sizes = np.diagonal(shared)
    smaller = np.minimum(sizes[:, None], sizes)
    ratio: Floats = np.divide(shared, smaller, out=np.ones(shared.shape), where=smaller > 0)
    return ratio


def _pair(a: ArrayLike, b: ArrayLike) -> Mask:
    pair = np.asarray(a, dtype=np.bool_), np.asarray(b, dtype=np.bool_)
    if pair[0].ndim != 1 or pair[0].shape != pair[1].shape:
        shapes = f"{pair[0].shape} and {pair[1].shape}"
        raise BadInput(
            f"overlap is of two masks of one shape (weights,), but got {shapes}: compare one network"
        )
    return np.stack(pair)


def jaccard(shared: Integers) -> Floats:
    """Return IoU from the sizes of intersections; their diagonal has the masks' sizes."""
    sizes = np.diagonal(shared)
    union = sizes[:, None] + sizes - shared
    ratio: Floats = np.divide(shared, union, out=np.ones(shared.shape), where=union > 0)
    return ratio


class Diversity(NamedTuple):
    """Diversity of a population, weight by weight.

    Attributes
    ----------
    mean_iou : mean IoU over all pairs of members; 1 if all are equal.
    common : number of weights that every member keeps.
    """

    mean_iou: float
    common: int


def diversity(masks: ArrayLike) -> Diversity:
    """Return the diversity of ``(population, weights)`` masks; a single mask has mean IoU 1.

    Raises :class:`BadInput` for another number of dimensions, or no mask.
    """
    array = np.asarray(masks, dtype=np.bool_)
    overlap = pairwise_iou(array)
    if not len(array):
        raise BadInput(f"diversity is of a population, i.e. at least 1 mask, but got shape {array.shape}")
    pairs = overlap[np.tril_indices(len(array), -1)]
    return Diversity(float(pairs.mean()) if len(pairs) else 1.0, int(array.all(axis=0).sum()))


class RawOverlap(NamedTuple):
    """Raw IoU and its chance level: whole ``(population, population)``, by layer ``(layers, ...)`` before."""

    whole: Floats
    chance: Floats
    layers: Floats
    layers_chance: Floats


def raw_overlap(masks: ArrayLike, spec: MaskSpec) -> RawOverlap:
    """Return the raw overlap of all pairs of ``(population, weights)`` masks beside its chance level.

    Weights that read padding alone are left out. Raises :class:`BadInput` for another shape or fewer than
    two masks.
    """
    array = spec.reading(check_several(masks, spec))
    layers = np.stack([pairwise_iou(array[:, layer.slice]) for layer in spec.layers])
    chance = chance_iou(array, spec)
    return RawOverlap(pairwise_iou(array), chance.whole, layers, chance.layers)


def check_several(masks: ArrayLike, spec: MaskSpec) -> Mask:
    """Return at least two ``(population, weights)`` masks, checked; raises :class:`BadInput`."""
    array = check_masks(masks, spec)
    if len(array) < 2:
        raise BadInput(
            f"overlap is of pairs, so it needs at least 2 masks, but got {len(array)}: add another"
        )
    return array
