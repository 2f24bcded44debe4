"""Alignment: hidden units renumbered so that two masks overlap most."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ticketsearch.canonical import canonical_order
from ticketsearch.errors import BadInput
from ticketsearch.masks import (
    Mask,
    MaskSpec,
    check_mask,
    digest,
    live,
    live_units,
    permute,
    random_order,
    unit_orders,
)
from ticketsearch.overlap.ascent import Pair, Placement, layered
from ticketsearch.overlap.raw import jaccard

__all__ = ["align", "align_order", "aligned_iou"]

Floats = NDArray[np.float64]
Integers = NDArray[np.intp]


def align(mask: ArrayLike, reference: ArrayLike, spec: MaskSpec, *, restarts: int = 3, seed: int = 0) -> Mask:
    """Return ``mask`` renumbered to overlap ``reference`` most, ``(weights,)`` bool.

    Exact for masks that are renumberings of each other, otherwise a lower bound: see :func:`align_order`,
    which explains the arguments and raises alike.
    """
    order = align_order(mask, reference, spec, restarts=restarts, seed=seed)
    aligned: Mask = permute(check_mask(mask, spec), spec, order)
    return aligned


def align_order(
    mask: ArrayLike, reference: ArrayLike, spec: MaskSpec, *, restarts: int = 3, seed: int = 0
) -> dict[str, Integers]:
    """Return ``{hidden group: (units,) old numbers}`` under which ``mask`` overlaps ``reference`` most.

    Bundles have their orders of columns beside those of the groups, for :func:`ticketsearch.masks.permute`.

    Where the masks, or their live parts, are renumberings of each other, the canonical orders say which, and
    the overlap of those parts is complete, whatever it costs the dead ones. Otherwise it is a lower bound of
    the best there is: the groups are assigned one at a time, the others held, until none gains (Ainsworth et
    al. 2023, "Git Re-Basin", section 3.2, with kept weights for weights), and then the columns of each
    bundle, each with the units that suit its place. The best of ``restarts`` starting
    points is returned: the given numbers, so that the overlap never falls; the groups assigned first to
    last, and last to first; and from the fourth on random numbers, drawn by ``seed``.
    Raises :class:`BadInput` for another shape or fewer than one start.
    """
    if restarts < 1:
        raise BadInput(f"restarts counts starting points, at least 1, but got {restarts}")
    subjects = [_subject(check_mask(m, spec), spec) for m in (mask, reference)]
    return _aligned(subjects[0], subjects[1], spec, restarts, np.random.default_rng(seed))


class _Subject(NamedTuple):
    """What alignment asks of a mask: canonical orders and forms (digests), whole and live, and its pieces."""

    parts: list[NDArray[np.float32]]
    units: list[Mask]
    whole_orders: dict[str, Integers]
    whole_form: str
    live_orders: dict[str, Integers]
    live_form: str
    live_digest: str


def _subject(mask: Mask, spec: MaskSpec) -> _Subject:
    whole, alive = canonical_order(mask, spec, live_only=False), canonical_order(mask, spec)
    living = live(mask, spec)
    return _Subject(
        layered(mask, spec),
        list(live_units(mask, spec).values()),
        whole,
        digest(permute(mask, spec, whole)),
        alive,
        digest(permute(living, spec, alive)),
        digest(living),
    )


def _aligned(
    mask: _Subject, reference: _Subject, spec: MaskSpec, restarts: int, rng: np.random.Generator
) -> dict[str, Integers]:
    if mask.whole_form == reference.whole_form:
        return _composed(mask.whole_orders, reference.whole_orders, spec).named(spec)
    units = {group: np.arange(spec.groups[group].size) for group in spec.hidden}
    given = Placement(units, list(range(len(spec.groups))))
    if mask.live_form == reference.live_form:
        dead = [[np.flatnonzero(~alive) for alive in subject.units] for subject in (reference, mask)]
        pair = Pair(mask.parts, reference.parts, spec, (dead[0], dead[1]))
        starts = [_composed(mask.live_orders, reference.live_orders, spec)]
        starts += [given] if mask.live_digest == reference.live_digest else []
    else:
        pair = Pair(mask.parts, reference.parts, spec)
        built = [pair.built(groups) for groups in (spec.hidden, spec.hidden[::-1])[: restarts - 1]]
        starts = [given, *built]
        for _ in range(restarts - 3):
            drawn, origins = unit_orders(spec, random_order(spec, rng))
            starts.append(Placement({group: drawn[origins[group]] for group in spec.hidden}, origins))
    for placement in starts:
        pair.climb(placement)
    return max(starts, key=pair.intersection).named(spec)


def _composed(mask: dict[str, Integers], reference: dict[str, Integers], spec: MaskSpec) -> Placement:
    """Return the placement that goes from the mask to the canonical form and from there to the reference."""
    columns = {bundle.name: mask[bundle.name][np.argsort(reference[bundle.name])] for bundle in spec.bundles}
    _, origins = unit_orders(spec, columns)
    orders = {}
    for group in spec.hidden:
        own, other = spec.groups[origins[group]].name, spec.groups[group].name
        orders[group] = mask[own][np.argsort(reference[other])]
    return Placement(orders, origins)


def aligned_iou(masks: Mask, spec: MaskSpec, restarts: int, rng: np.random.Generator) -> Floats:
    """Return the aligned IoU of all pairs, ``(population, population)``."""
    subjects = [_subject(mask, spec) for mask in masks]
    sizes = np.count_nonzero(masks, axis=1)
    shared = np.diag(sizes).astype(np.int64)
    for i, j in itertools.combinations(range(len(masks)), 2):
        moved = permute(masks[j], spec, _aligned(subjects[j], subjects[i], spec, restarts, rng))
        shared[i, j] = shared[j, i] = np.count_nonzero(moved & masks[i])
    return jaccard(shared)
