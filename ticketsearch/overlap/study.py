"""The study of a set of masks: their raw and aligned overlap, each against its null models."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ticketsearch.alignment import CONTAINMENT, IOU, RESTARTS, SIGNS, Counts, pair_indices, square
from ticketsearch.canonical import canonical_key
from ticketsearch.checks import Count, Workers, check_count, checked, finite
from ticketsearch.errors import BadInput
from ticketsearch.masks import Mask, MaskSpec, live
from ticketsearch.overlap.chance import chance_iou
from ticketsearch.overlap.draws import Masks, batches, drawn
from ticketsearch.overlap.null_models import ALIGNED_DEGREES, ALIGNED_UNIFORM, NULLS, UNIFORM
from ticketsearch.overlap.null_tests import Null, compare
from ticketsearch.overlap.profiles import degree_distance, degrees, density_distance
from ticketsearch.overlap.raw import check_several
from ticketsearch.random_streams import Stream, seed_sequence
from ticketsearch.statistics import LEVEL, holm
from ticketsearch.typing import Floats, Indices, Integers
from ticketsearch.workers import Spread

__all__ = ["OverlapStudy", "conclude", "overlap_study"]


@dataclass(frozen=True, eq=False)
class OverlapStudy:
    """The overlap of masks, and the overlap expected by chance.

    Matrices are ``(population, population)`` and symmetric, by layer with ``(layers, ...)`` before.

    Attributes
    ----------
    names : one a mask.
    masks : ``(population, weights)`` bool.
    spec : of the masks.
    iou, chance, containment : raw IoU, its expectation by chance, and raw containment.
    aligned, aligned_containment : IoU and containment after alignment; lower bounds except where ``exact``.
    layers, layers_chance, aligned_layers : IoU layer by layer: raw, its expectation, and aligned.
    signs, aligned_signs : IoU that counts weights kept in both if they have the same initial sign, over the
        union of kept ones; None where the initial weights were not given.
    density_distance, degree_distance : of the layer densities, and of the fan-ins and fan-outs; see
        :mod:`ticketsearch.overlap.profiles`.
    degrees : ``{"<hidden group> in", "<hidden group> out": (population, units)}``, each row descending.
    keys : the canonical key of each mask's live part.
    exact : bool, True where no other renumbering shares more weights.
    nulls : ``{null model: {measure: Null}}``. Models are ``uniform``, masks shuffled within layers with the
        same counts, compared raw; ``aligned_uniform``, the same, aligned in the same way as the masks; and
        ``aligned_degrees``, masks of the same degrees, aligned. Measures are ``iou``, ``containment``,
        ``signs``, and the name of each layer. Tests, which are corrected together, are those of ``iou`` and
        ``signs``.
    drawn : ``{null model: {measure: (draws,)}}``, the mean over pairs of each draw. A null model without
        draws is in neither.
    leaders : 0, or the number of first masks that are compared with the others: means are then over those
        pairs alone.
    """

    names: tuple[str, ...]
    masks: Mask
    spec: MaskSpec
    iou: Floats
    chance: Floats
    containment: Floats
    aligned: Floats
    aligned_containment: Floats
    layers: Floats
    layers_chance: Floats
    aligned_layers: Floats
    signs: Floats | None
    aligned_signs: Floats | None
    density_distance: Floats
    degree_distance: Floats
    degrees: Mapping[str, Integers]
    keys: tuple[str, ...]
    exact: Mask
    nulls: Mapping[str, Mapping[str, Null]]
    drawn: Mapping[str, Mapping[str, Floats]]
    leaders: int = 0

    def pairs(self, matrix: NDArray[Any]) -> NDArray[Any]:
        """Return the values of a ``(..., population, population)`` matrix for the pairs that count."""
        chosen = chosen_pairs(len(self.names), self.leaders)
        first, second = pair_indices(len(self.names))
        return matrix[..., first[chosen], second[chosen]]

    @cached_property
    def blocked(self) -> Mask:
        """The blocked masks, ``(population,)`` bool: masks without a live weight."""
        return np.array([not live(mask, self.spec).any() for mask in self.masks])

    @property
    def passing(self) -> int:
        """Number of pairs of masks that both have live weights; only these can be the same network."""
        return int(np.count_nonzero(self.pairs(self._passing())))

    @property
    def identical(self) -> int:
        """Number of passing pairs that are the same network up to a renumbering of hidden neurons."""
        keys = np.array(self.keys)
        return int(np.count_nonzero(self.pairs(self._passing() & (keys[:, None] == keys))))

    def _passing(self) -> Mask:
        both: Mask = ~(self.blocked[:, None] | self.blocked)
        return both

    @property
    def uniform(self) -> Null | None:
        """Raw IoU against masks of the same layer counts."""
        return self._null(UNIFORM)

    @property
    def aligned_uniform(self) -> Null | None:
        """Aligned IoU against masks of the same layer counts."""
        return self._null(ALIGNED_UNIFORM)

    @property
    def aligned_degrees(self) -> Null | None:
        """Aligned IoU against masks of the same degrees."""
        return self._null(ALIGNED_DEGREES)

    def _null(self, name: str) -> Null | None:
        return self.nulls[name][IOU] if name in self.nulls else None

    def more(self, null: Null) -> bool | None:
        """Return whether a test finds more overlap than chance; None if its draws are too few to tell."""
        if null.holm is None:
            return None
        if null.holm <= 1 - LEVEL:
            return True
        tests = [test for by_measure in self.nulls.values() for test in by_measure.values()]
        # In the best case only the tests of as few draws or fewer remain when this one's turn comes.
        rivals = sum(test.holm is not None and test.draws <= null.draws for test in tests)
        return None if rivals / (1 + null.draws) > 1 - LEVEL else False

    def mean(self, matrix: Floats) -> float:
        """Return the mean of a ``(population, population)`` matrix over the pairs that count."""
        return float(self.pairs(matrix).mean())

    def summary(self) -> str:
        """Return the study's results as text, one sentence a line."""
        uniform, moved, degrees = (
            self._sentence(null, what)
            for null, what in (
                (self.uniform, "raw overlap"),
                (self.aligned_uniform, "aligned overlap"),
                (self.aligned_degrees, "aligned overlap"),
            )
        )
        least = "" if self.pairs(self.exact).all() else "at least "
        blocked, masks = int(self.blocked.sum()), f"{len(self.names)} masks"
        if blocked:
            masks = f"those that let something through ({blocked} of {masks} let nothing through)"
        lines = [
            f"Of the {self.passing} pairs of {masks}, {self.identical} are the same network up to a "
            "renumbering of hidden neurons.",
            f"As they are, pairs share {self.mean(self.iou):.4f} of the weights that either keeps on average "
            f"(intersection over union), where chance gives {self.mean(self.chance):.4f}.",
            f"Against masks of the same layer counts, {uniform}.",
            f"Renumbered to match, they share {least}{self.mean(self.aligned):.4f}.",
            f"Against masks of the same layer counts, {moved}.",
            f"Against masks of the same degrees, {degrees}.",
        ]
        return "\n".join(lines)

    def _sentence(self, null: Null | None, what: str) -> str:
        if null is None:
            return f"{what} was not tested (no draws)"
        more = self.more(null)
        verdict = {True: "more than", False: "no more than", None: "not known to be more than"}[more]
        few = ", too few to tell" if more is None else ""
        interval = "" if math.isnan(null.low) else f", approximate 95 % {null.low:+.4f} to {null.high:+.4f}"
        return (
            f"{what} is {verdict} shuffled masks have ({null.mean:.4f} ± {null.sd:.4f}; difference "
            f"{null.effect:+.4f}{interval}; p = {null.p:.3g}, corrected {null.holm:.3g}, "
            f"{null.draws} draws{few})"
        )


@checked
def overlap_study(  # noqa: PLR0913 - the documented interface
    masks: ArrayLike,
    spec: MaskSpec,
    *,
    names: Sequence[str] | None = None,
    weights: ArrayLike | None = None,
    draws: Count = 999,
    aligned_draws: Count = 199,
    restarts: Count = RESTARTS,
    seed: int = 0,
    workers: Workers = 1,
) -> OverlapStudy:
    """Return the overlap of ``(population, weights)`` masks, raw and aligned, against null models.

    Parameters
    ----------
    masks : ``(population, weights)``, True or 1 where a weight is kept.
    names : one a mask, all different; by default ``"0"``, ``"1"``, ….
    weights : the initial weights of each mask, ``(population, weights)``, for the overlap of signs.
    draws, aligned_draws : draws of the raw null model and of each aligned one, 0 to leave it out. The aligned
        ones take most of the time, as each draw aligns all pairs.
    restarts : starting points of each alignment (:func:`ticketsearch.alignment.align_order`).
    seed : of all random numbers; each draw has a stream of its own.
    workers : processes that draw; the result is the same for any number.

    Raises :class:`BadInput` for another shape, fewer than two masks, names that are equal or of another
    number, weights that are not finite, too small counts, or an invalid seed.
    """
    array = check_several(masks, spec)
    labels = tuple(names) if names is not None else tuple(map(str, range(len(array))))
    if len(labels) != len(array):
        raise BadInput(f"names has one name a mask, {len(array)}, but got {len(labels)}")
    if len(set(labels)) < len(labels):
        raise BadInput(f"names of masks are different ones, but got {', '.join(map(str, labels))}")
    for what, count, least in (
        ("draws", draws, 0),
        ("aligned_draws", aligned_draws, 0),
        ("restarts", restarts, 1),
    ):
        check_count(what, count, least)
    seed_sequence(seed, Stream.PRUNING)  # refuses an invalid seed
    packed = Masks.packed(array, spec, _signs(weights, array), restarts, seed)
    tasks = [
        batch
        for null, model in NULLS.items()
        for batch in batches(packed, null, range(aligned_draws if model.aligned else draws))
    ]
    by_draw: dict[str, dict[int, Integers]] = {}
    with Spread("serial" if workers == 1 else "loky", workers) as spread:
        for index, counts in spread.run(drawn, tasks):
            batch = tasks[index]
            by_draw.setdefault(batch.null, {}).update(zip(batch.numbers, counts, strict=True))
    ordered = {
        null: np.stack([by_draw[null][draw] for draw in sorted(by_draw[null])])
        for null in NULLS
        if null in by_draw
    }
    keys = [canonical_key(mask, spec) for mask in array]
    return conclude(labels, packed, packed.raw(), *packed.aligned(), keys=keys, drawn=ordered)


def _signs(weights: ArrayLike | None, masks: Mask) -> Mask | None:
    if weights is None:
        return None
    array = finite("weights", weights)
    if array.shape != masks.shape:
        raise BadInput(f"weights have the shape of the masks, {masks.shape}, but got {array.shape}")
    signs: Mask = array > 0
    return signs


def conclude(
    names: tuple[str, ...],
    packed: Masks,
    raw: Counts,
    aligned: Counts,
    exact: Mask,
    *,
    keys: Sequence[str],
    drawn: Mapping[str, Integers],
    leaders: int = 0,
) -> OverlapStudy:
    """Return the study that follows from counts of shared weights.

    ``exact`` is ``(pairs,)`` bool; ``keys`` are the masks' canonical keys; ``drawn`` has for each null model
    its counts, ``(draws, 1 or 2, pairs, layers)``, at least one draw each.
    """
    masks, spec, count = packed.masks, packed.spec, len(names)
    layers = [layer.name for layer in spec.layers]
    measured = {False: raw.measures(layers), True: aligned.measures(layers)}
    values = {
        null: Counts(raw.sizes, counts[:, 0], counts[:, 1] if packed.signs else None).measures(layers)
        for null, counts in drawn.items()
    }
    chosen = chosen_pairs(count, leaders)
    chance = chance_iou(raw.sizes, spec)
    profiles = degrees(masks, spec)

    def matrices(aligned: bool, *measures: str) -> Floats:
        return np.stack([square(measured[aligned][measure], count) for measure in measures])

    return OverlapStudy(
        names=names,
        masks=masks,
        spec=spec,
        iou=matrices(False, IOU)[0],
        chance=chance.whole,
        containment=matrices(False, CONTAINMENT)[0],
        aligned=matrices(True, IOU)[0],
        aligned_containment=matrices(True, CONTAINMENT)[0],
        layers=matrices(False, *layers),
        layers_chance=chance.layers,
        aligned_layers=matrices(True, *layers),
        signs=matrices(False, SIGNS)[0] if packed.signs else None,
        aligned_signs=matrices(True, SIGNS)[0] if packed.signs else None,
        density_distance=square(density_distance(masks, spec), count, 0.0),
        degree_distance=square(degree_distance(profiles, count), count, 0.0),
        degrees=profiles,
        keys=tuple(keys),
        exact=square(exact.astype(float), count) == 1,
        nulls=_null_tests(measured, values, np.array(pair_indices(count)), chosen),
        drawn={
            null: {measure: value[:, chosen].mean(axis=1) for measure, value in by_measure.items()}
            for null, by_measure in values.items()
        },
        leaders=leaders,
    )


def chosen_pairs(masks: int, leaders: int) -> Mask:
    """Return which pairs count, ``(pairs,)``: all, or those of a first mask and another."""
    first, second = pair_indices(masks)
    chosen: Mask = (first < leaders) & (second >= leaders) if leaders else np.ones(len(first), dtype=np.bool_)
    return chosen


def _null_tests(
    measured: Mapping[bool, Mapping[str, Floats]],
    values: Mapping[str, Mapping[str, Floats]],
    pairs: Indices,
    chosen: Mask,
) -> dict[str, dict[str, Null]]:
    """Return the tests of the chosen pairs against each null model, corrected together.

    ``measured`` has the masks' measures raw (False) and aligned (True); ``values`` those of each draw.
    """
    nulls = {
        null: {
            measure: compare(
                measured[NULLS[null].aligned][measure][chosen], value[:, chosen], pairs[:, chosen]
            )
            for measure, value in by_measure.items()
        }
        for null, by_measure in values.items()
    }
    return _corrected(nulls)


def _corrected(nulls: dict[str, dict[str, Null]]) -> dict[str, dict[str, Null]]:
    """Return the null models with the tests of the study corrected together."""
    tests = [(null, measure) for null in nulls for measure in (IOU, SIGNS) if measure in nulls[null]]
    corrected = dict(zip(tests, holm([nulls[null][measure].p for null, measure in tests]), strict=True))
    return {
        null: {
            measure: test._replace(holm=corrected.get((null, measure)))
            for measure, test in by_measure.items()
        }
        for null, by_measure in nulls.items()
    }
