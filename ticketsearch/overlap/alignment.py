"""Alignment: hidden units renumbered so that two masks overlap most."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment

from ticketsearch.canonical import canonical_order
from ticketsearch.errors import BadInput
from ticketsearch.masks import Mask, MaskSpec, check_mask, digest, live, live_units, permute
from ticketsearch.overlap.raw import jaccard

__all__ = ["align", "align_order", "aligned_iou"]

Floats = NDArray[np.float64]
Integers = NDArray[np.intp]
Orders = dict[int, Integers]


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

    Where the masks, or their live parts, are renumberings of each other, the canonical orders say which, and
    the overlap of those parts is complete, whatever it costs the dead ones. Otherwise it is a lower bound of
    the best there is: the groups are assigned one at a time, the others held, until none gains (Ainsworth et
    al. 2023, "Git Re-Basin", section 3.2, with kept weights for weights). The best of ``restarts`` starting
    points is returned: the given numbers, so that the overlap never falls; the groups assigned first to
    last, and last to first; and from the fourth on random numbers, drawn by ``seed``.
    Raises :class:`BadInput` for another shape or fewer than one start.
    """
    if restarts < 1:
        raise BadInput(f"restarts counts starting points, at least 1, but got {restarts}")
    subjects = [_subject(check_mask(m, spec), spec) for m in (mask, reference)]
    orders = _aligned(subjects[0], subjects[1], spec, restarts, np.random.default_rng(seed))
    return {spec.groups[group].name: order for group, order in orders.items()}


class _Subject(NamedTuple):
    """What alignment asks of a mask: canonical orders and forms (digests), whole and live, and its layers."""

    parts: list[NDArray[np.float32]]
    units: list[Mask]
    whole_orders: Orders
    whole_form: str
    live_orders: Orders
    live_form: str
    live_digest: str


def _subject(mask: Mask, spec: MaskSpec) -> _Subject:
    names = {spec.groups[group].name: group for group in spec.hidden}
    whole, alive = canonical_order(mask, spec, live_only=False), canonical_order(mask, spec)
    living = live(mask, spec)
    return _Subject(
        [part.astype(np.float32) for part in spec.split(mask).values()],
        list(live_units(mask, spec).values()),
        {names[name]: order for name, order in whole.items()},
        digest(permute(mask, spec, whole)),
        {names[name]: order for name, order in alive.items()},
        digest(permute(living, spec, alive)),
        digest(living),
    )


def _aligned(
    mask: _Subject, reference: _Subject, spec: MaskSpec, restarts: int, rng: np.random.Generator
) -> Orders:
    if mask.whole_form == reference.whole_form:
        return _composed(mask.whole_orders, reference.whole_orders)
    given = {group: np.arange(spec.groups[group].size) for group in spec.hidden}
    if mask.live_form == reference.live_form:
        free = {g: (np.flatnonzero(~reference.units[g]), np.flatnonzero(~mask.units[g])) for g in spec.hidden}
        pair = _Pair(mask, reference, spec, free)
        starts = [_composed(mask.live_orders, reference.live_orders)]
        starts += [given] if mask.live_digest == reference.live_digest else []
    else:
        pair = _Pair(mask, reference, spec, {group: (units, units) for group, units in given.items()})
        built = [pair.built(groups) for groups in (spec.hidden, spec.hidden[::-1])[: restarts - 1]]
        drawn = ({g: rng.permutation(units) for g, units in given.items()} for _ in range(restarts - 3))
        starts = [dict(given), *built, *drawn]
    for orders in starts:
        pair.climb(orders)
    return max(starts, key=pair.intersection)


def _composed(mask: Orders, reference: Orders) -> Orders:
    """Return the order that goes from the mask to the canonical form and from there to the reference."""
    return {group: order[np.argsort(reference[group])] for group, order in mask.items()}


class _Pair:
    """The intersection of a reference with a mask as a function of the mask's orders, group by group.

    ``free`` gives for each hidden group the places that may be assigned, and the units that may take them.
    """

    def __init__(
        self,
        mask: _Subject,
        reference: _Subject,
        spec: MaskSpec,
        free: Mapping[int, tuple[Integers, Integers]],
    ) -> None:
        self.free = free
        self.sizes = [group.size for group in spec.groups]
        joins = list(zip(reference.parts, mask.parts, spec.layer_groups, strict=True))
        self.inner = [(r, m, source) for r, m, (source, target) in joins if source == target]
        self.outer = [join for join in joins if join[2][0] != join[2][1]]
        # What a group shares over weights from inputs and to outputs never changes.
        fixed = [group for group in range(len(spec.groups)) if group not in spec.hidden]
        self.constant = {group: self._profit(group, {}, fixed) for group in spec.hidden}

    def _profit(self, group: int, orders: Orders, known: Iterable[int]) -> NDArray[np.float32]:
        """Return ``(units, units)``: how many weights from and to ``known`` a place and a unit share."""
        profit = np.zeros((self.sizes[group],) * 2, dtype=np.float32)
        for reference, mask, (source, target) in self.outer:
            if target == group and source in known:
                profit += reference @ (mask[:, orders[source]] if source in orders else mask).T
            elif source == group and target in known:
                profit += reference.T @ (mask[orders[target]] if target in orders else mask)
        return profit

    def _slope(self, group: int, order: Integers) -> NDArray[np.float32]:
        """Return ``(units, units)``: the gradient of :meth:`_looped` at ``order``."""
        slope = np.zeros((self.sizes[group],) * 2, dtype=np.float32)
        for reference, mask, owner in self.inner:
            if owner == group:
                slope += reference @ mask[:, order].T + reference.T @ mask[order]
        return slope

    def _looped(self, group: int, order: Integers) -> float:
        """Return the weights shared in layers that join ``group`` to itself: quadratic in its order."""
        return sum(
            float((reference * mask[np.ix_(order, order)]).sum())
            for reference, mask, owner in self.inner
            if owner == group
        )

    def built(self, groups: Sequence[int]) -> Orders:
        """Return orders found group by group, each from the fixed groups and those before it."""
        orders: Orders = {}
        for group in groups:
            profit = self.constant[group] + self._profit(group, orders, orders)
            orders[group] = linear_sum_assignment(profit, maximize=True)[1]
        return orders

    def climb(self, orders: Orders) -> None:
        """Assign the groups in turn, in place, until no group gains."""
        tied = {owner for _, _, owner in self.inner}
        waiting = list(orders)
        while waiting:
            group = waiting.pop(0)
            if self._improve(group, orders):
                waiting += [g for g in orders if g not in waiting and (g != group or g in tied)]

    def _improve(self, group: int, orders: Orders) -> bool:
        places, units = self.free[group]
        held = orders[group]
        linear = self.constant[group] + self._profit(group, orders, orders)
        slope = (linear + self._slope(group, held))[np.ix_(places, units)]
        order = held.copy()
        order[places] = units[linear_sum_assignment(slope, maximize=True)[1]]
        rows = np.arange(len(order))
        gain = float((linear[rows, order] - linear[rows, held]).sum())
        gain += self._looped(group, order) - self._looped(group, held)
        if gain < 0.5:  # counts are whole numbers
            return False
        orders[group] = order
        return True

    def intersection(self, orders: Orders) -> float:
        """Return the number of weights that the reference and the renumbered mask share."""
        total = sum(self._looped(owner, orders[owner]) for owner in {owner for _, _, owner in self.inner})
        for reference, mask, (source, target) in self.outer:
            rows = mask[orders[target]] if target in orders else mask
            total += float((reference * (rows[:, orders[source]] if source in orders else rows)).sum())
        return total


def aligned_iou(masks: Mask, spec: MaskSpec, restarts: int, rng: np.random.Generator) -> Floats:
    """Return the aligned IoU of all pairs, ``(population, population)``."""
    subjects = [_subject(mask, spec) for mask in masks]
    sizes = np.count_nonzero(masks, axis=1)
    shared = np.diag(sizes).astype(np.int64)
    names = [group.name for group in spec.groups]
    for i, j in itertools.combinations(range(len(masks)), 2):
        orders = _aligned(subjects[j], subjects[i], spec, restarts, rng)
        moved = permute(masks[j], spec, {names[group]: order for group, order in orders.items()})
        shared[i, j] = shared[j, i] = np.count_nonzero(moved & masks[i])
    return jaccard(shared)
