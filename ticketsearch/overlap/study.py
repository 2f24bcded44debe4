"""The study of a set of masks: their raw and aligned overlap, each against its null models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from ticketsearch.alignment import CONTAINMENT, IOU, RESTARTS, SIGNS, Counts, pair_indices, square
from ticketsearch.canonical import canonical_key
from ticketsearch.checks import Count, Workers, check_count, checked, finite
from ticketsearch.errors import BadInput
from ticketsearch.masks import Mask, MaskSpec
from ticketsearch.overlap.chance import chance_iou
from ticketsearch.overlap.draws import Masks, batches, drawn
from ticketsearch.overlap.null_models import NULLS
from ticketsearch.overlap.null_tests import Null, compare
from ticketsearch.overlap.profiles import degree_distance, degrees, density_distance
from ticketsearch.overlap.raw import check_several
from ticketsearch.overlap.results import OverlapStudy, chosen_pairs
from ticketsearch.random_streams import Stream, seed_sequence
from ticketsearch.statistics import holm
from ticketsearch.typing import Floats, Indices, Integers
from ticketsearch.workers import Spread

__all__ = ["conclude", "overlap_study"]


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
