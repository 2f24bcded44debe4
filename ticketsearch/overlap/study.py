"""The study: how far masks overlap, raw and aligned, each against its null models."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ticketsearch.canonical import canonical_key
from ticketsearch.errors import BadInput
from ticketsearch.masks import Mask, MaskSpec
from ticketsearch.operators import layer_shuffle
from ticketsearch.overlap.alignment import aligned_iou
from ticketsearch.overlap.nulls import Null, degree_shuffle, null_test, pair_mean
from ticketsearch.overlap.raw import check_several, pairwise_containment, pairwise_iou, raw_overlap

__all__ = ["OverlapStudy", "overlap_study"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class OverlapStudy:
    """How far masks overlap, and how far they would by chance.

    Attributes
    ----------
    names : one a mask.
    iou, chance, containment, aligned : (population, population) raw IoU, its expectation by chance, raw
        containment, and IoU after alignment (a lower bound where masks are not isomorphic).
    layers, layers_chance : (layers, population, population) raw IoU and its expectation, layer by layer.
    identical : pairs of masks that are the same network (equal canonical keys).
    uniform : raw IoU against masks of the same layer counts.
    aligned_uniform, aligned_degrees : aligned IoU against masks shuffled within layers, with the same counts
        and with the same degrees, aligned in the same way. A null without draws is None.
    """

    names: tuple[str, ...]
    iou: Floats
    chance: Floats
    containment: Floats
    aligned: Floats
    layers: Floats
    layers_chance: Floats
    identical: int
    uniform: Null | None
    aligned_uniform: Null | None
    aligned_degrees: Null | None

    def summary(self) -> str:
        """Return the study in plain sentences."""
        count = len(self.names)
        lines = [
            f"Of the {count * (count - 1) // 2} pairs of {count} masks, {self.identical} are the same "
            "network up to a renumbering of hidden neurons.",
            f"As they are, pairs share {pair_mean(self.iou):.4f} of their weights on average (intersection "
            f"over union), where chance gives {pair_mean(self.chance):.4f}.",
            f"Against masks of the same layer counts, {_sentence(self.uniform, 'raw overlap')}.",
            f"Renumbered to match, they share at least {pair_mean(self.aligned):.4f}.",
            f"Against masks of the same layer counts, {_sentence(self.aligned_uniform, 'aligned overlap')}.",
            f"Against masks of the same degrees, {_sentence(self.aligned_degrees, 'aligned overlap')}.",
        ]
        return "\n".join(lines)


def _sentence(null: Null | None, what: str) -> str:
    if null is None:
        return f"{what} was not tested (no draws)"
    verdict = "more than" if null.p <= 0.05 else "no more than"
    return (
        f"{what} is {verdict} shuffled masks have ({null.mean:.4f} ± {null.sd:.4f}; difference "
        f"{null.effect:+.4f}, p = {null.p:.3g}, {null.draws} draws)"
    )


def overlap_study(
    masks: ArrayLike,
    spec: MaskSpec,
    *,
    names: Sequence[str] | None = None,
    draws: int = 999,
    aligned_draws: int = 199,
    restarts: int = 3,
    seed: int = 0,
) -> OverlapStudy:
    """Return how far ``(population, weights)`` masks overlap, raw and aligned, against null models.

    ``draws`` of the raw and ``aligned_draws`` of each aligned null model are made, 0 to leave it out; the
    aligned ones take the time, as each aligns all pairs anew from ``restarts`` starts (:func:`align_order`).
    Raises :class:`BadInput` for another shape, fewer than two masks, or a number of names that is not theirs.
    """
    array = check_several(masks, spec)
    labels = tuple(names) if names is not None else tuple(str(number) for number in range(len(array)))
    if len(labels) != len(array):
        raise BadInput(f"names has one name a mask, {len(array)}, but got {len(labels)}")
    if min(draws, aligned_draws) < 0:
        raise BadInput(f"draws and aligned_draws are 0 or more, but got {draws} and {aligned_draws}")
    if restarts < 1:
        raise BadInput(f"restarts counts starting points, at least 1, but got {restarts}")
    streams = [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(4)]
    raw = raw_overlap(array, spec)
    aligned = aligned_iou(array, spec, restarts, streams[0])

    def shuffled(shuffle: Callable[..., Mask], rng: np.random.Generator) -> Mask:
        return np.stack([shuffle(mask, spec=spec, rng=rng) for mask in array])

    def realigned(shuffle: Callable[..., Mask], rng: np.random.Generator) -> Callable[[], Floats]:
        return lambda: aligned_iou(shuffled(shuffle, rng), spec, restarts, rng)

    keys = [canonical_key(mask, spec) for mask in array]
    return OverlapStudy(
        names=labels,
        iou=raw.whole,
        chance=raw.chance,
        containment=pairwise_containment(array),
        aligned=aligned,
        layers=raw.layers,
        layers_chance=raw.layers_chance,
        identical=sum(a == b for a, b in itertools.combinations(keys, 2)),
        uniform=null_test(raw.whole, lambda: pairwise_iou(shuffled(layer_shuffle, streams[1])), draws),
        aligned_uniform=null_test(aligned, realigned(layer_shuffle, streams[2]), aligned_draws),
        aligned_degrees=null_test(aligned, realigned(degree_shuffle, streams[3]), aligned_draws),
    )
