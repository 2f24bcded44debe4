"""Counts of the weights that pairs of masks share, layer by layer; all measures of overlap follow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ticketsearch.masks import Mask, MaskSpec, layer_counts
from ticketsearch.typing import Floats, Indices, Integers

__all__ = ["CONTAINMENT", "IOU", "SIGNS", "Counts", "pair_indices", "raw_counts", "shared_weights", "square"]


# Names of the measures of whole masks; measures of single layers have the layers' names.
IOU, CONTAINMENT, SIGNS = "iou", "containment", "signs"


class Counts(NamedTuple):
    """Weights of masks and of their intersections, by layer.

    Attributes
    ----------
    sizes : ``(masks, layers)``, the weights of each mask.
    shared : ``(..., pairs, layers)``, the weights that both masks of a pair keep; pairs in the order of
        :func:`pair_indices`.
    agreeing : ``(..., pairs, layers)``, the shared weights of equal initial sign in both; None if initial
        weights are not known.
    """

    sizes: Integers
    shared: Integers
    agreeing: Integers | None = None

    def measures(self, layers: Sequence[str]) -> dict[str, Floats]:
        """Return ``{measure: (..., pairs)}``: IoU, containment and, if known, IoU of signs; IoU by layer."""
        first, second = (self.sizes[index] for index in pair_indices(len(self.sizes)))
        union = first + second - self.shared
        whole, joined = self.shared.sum(axis=-1), union.sum(axis=-1)
        overlaps = {
            IOU: _ratio(whole, joined),
            CONTAINMENT: _ratio(whole, np.minimum(first.sum(axis=-1), second.sum(axis=-1))),
        }
        if self.agreeing is not None:
            overlaps[SIGNS] = _ratio(self.agreeing.sum(axis=-1), joined)
        return overlaps | {
            name: _ratio(self.shared[..., index], union[..., index]) for index, name in enumerate(layers)
        }


def pair_indices(masks: int) -> tuple[Indices, Indices]:
    """Return the first and the second mask of each pair, ``(pairs,)``: 0 and 1, 0 and 2, and so on."""
    first, second = np.triu_indices(masks, 1)
    return first, second


def square(values: Floats, masks: int, diagonal: float = 1.0) -> Floats:
    """Return the symmetric ``(..., masks, masks)`` matrix of ``(..., pairs)`` values."""
    matrix = np.full((*values.shape[:-1], masks, masks), diagonal)
    first, second = pair_indices(masks)
    matrix[..., first, second] = matrix[..., second, first] = values
    return matrix


def raw_counts(masks: Mask, spec: MaskSpec, signs: Mask | None = None) -> Counts:
    """Return the counts of ``(population, weights)`` masks in their given numbering.

    ``signs`` of the same shape says which initial weights are positive.
    """
    pairs = pair_indices(len(masks))

    def shared(parts: Mask) -> Integers:
        return np.stack([shared_weights(parts[:, layer.slice])[pairs] for layer in spec.layers], axis=-1)

    agreeing = None if signs is None else shared(masks & signs) + shared(masks & ~signs)
    return Counts(layer_counts(masks, spec), shared(masks), agreeing)


def _ratio(part: Integers, whole: Integers) -> Floats:
    """Return part / whole, 1 where both are 0."""
    part, whole = np.broadcast_arrays(part, whole)
    return np.divide(part, whole, out=np.ones(part.shape), where=whole > 0)


def shared_weights(masks: Mask) -> Integers:
    """Return the sizes of all intersections, ``(population, population)``, the masks' own on the diagonal."""
    shared = np.zeros((len(masks), len(masks)), dtype=np.int64)
    block = 1 << 20  # float32 counts exactly up to 2^24
    for start in range(0, masks.shape[1], block):
        part = masks[:, start : start + block].astype(np.float32)
        shared += (part @ part.T).astype(np.int64)
    return shared
