"""Overlap of masks: raw, against chance, and aligned over renumberings of hidden neurons.

Overlap is intersection over union (IoU, Jaccard) of the kept weights. Raw overlap compares weight by weight;
its chance level, with the same number of weights in each layer, is exact. Aligned overlap first renumbers
hidden units so that the intersection is large; what that alone brings is measured by null models, in which
every mask is shuffled and aligned in the same way.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment

from ticketsearch.canonical import canonical_key, canonical_order
from ticketsearch.errors import BadInput
from ticketsearch.masks import (
    Mask,
    MaskSpec,
    check_mask,
    check_masks,
    digest,
    layer_counts,
    live,
    live_units,
    permute,
)
from ticketsearch.operators import layer_shuffle

__all__ = [
    "Chance",
    "Null",
    "OverlapStudy",
    "RawOverlap",
    "align",
    "align_order",
    "chance_iou",
    "containment",
    "degree_shuffle",
    "iou",
    "overlap_study",
    "pairwise_iou",
    "raw_overlap",
]

Floats = NDArray[np.float64]
Integers = NDArray[np.intp]
Orders = dict[int, Integers]


def iou(a: ArrayLike, b: ArrayLike) -> float:
    """Return |a ∩ b| / |a ∪ b| of two ``(weights,)`` masks; 1 for two empty ones.

    Raises :class:`BadInput` for masks of unequal shapes.
    """
    return float(pairwise_iou(_pair(a, b))[0, 1])


def containment(a: ArrayLike, b: ArrayLike) -> float:
    """Return |a ∩ b| / min(|a|, |b|) of two ``(weights,)`` masks; 1 where one is empty.

    Raises :class:`BadInput` for masks of unequal shapes.
    """
    return float(_containment(_shared(_pair(a, b)))[0, 1])


def pairwise_iou(masks: ArrayLike) -> Floats:
    """Return the IoU of each pair of masks, ``(population, population)``, of ``(population, weights)`` bool.

    Raises :class:`BadInput` for another number of dimensions.
    """
    array = np.asarray(masks, dtype=np.bool_)
    if array.ndim != 2:
        raise BadInput(
            f"masks have shape (population, weights), i.e. one row a network, but got {array.shape}"
        )
    return _jaccard(_shared(array))


def _pair(a: ArrayLike, b: ArrayLike) -> Mask:
    pair = np.asarray(a, dtype=np.bool_), np.asarray(b, dtype=np.bool_)
    if pair[0].ndim != 1 or pair[0].shape != pair[1].shape:
        shapes = f"{pair[0].shape} and {pair[1].shape}"
        raise BadInput(
            f"overlap is of two masks of one shape (weights,), but got {shapes}: compare one network"
        )
    return np.stack(pair)


def _shared(masks: Mask) -> NDArray[np.int64]:
    """Return the sizes of all intersections ``(population, population)``; the diagonal has the masks' own."""
    shared = np.zeros((len(masks), len(masks)), dtype=np.int64)
    block = 1 << 20  # float32 counts exactly up to 2^24
    for start in range(0, masks.shape[1], block):
        part = masks[:, start : start + block].astype(np.float32)
        shared += (part @ part.T).astype(np.int64)
    return shared


def _jaccard(shared: NDArray[np.int64]) -> Floats:
    sizes = np.diagonal(shared)
    union = sizes[:, None] + sizes - shared
    ratio: Floats = np.divide(shared, union, out=np.ones(shared.shape), where=union > 0)
    return ratio


def _containment(shared: NDArray[np.int64]) -> Floats:
    sizes = np.diagonal(shared)
    smaller = np.minimum(sizes[:, None], sizes)
    ratio: Floats = np.divide(shared, smaller, out=np.ones(shared.shape), where=smaller > 0)
    return ratio


# Chance


class Chance(NamedTuple):
    """Expected IoU of each pair: ``whole`` (population, population), ``layers`` with (layers, ...) before."""

    whole: Floats
    layers: Floats


def chance_iou(masks: ArrayLike, spec: MaskSpec) -> Chance:
    """Return the expected IoU of masks with these layer counts, placed at random within each layer.

    ``masks`` is ``(population, weights)`` bool, or its ``(population, layers)`` integer layer counts. The
    intersection in a layer is hypergeometric, that of whole masks a sum of independent ones; as IoU is not
    linear in it, the expectation is over its distribution, exact but for tails beyond 10 standard
    deviations. The diagonal is the chance level of two masks that share the counts.
    Raises :class:`BadInput` for another shape, or counts that a layer cannot have.
    """
    counts = _counts(masks, spec)
    population = len(counts)
    whole = np.empty((population, population))
    layers = np.empty((len(spec.layers), population, population))
    for i, j in itertools.combinations_with_replacement(range(population), 2):
        start, odds = 0, np.ones(1)
        for index, layer in enumerate(spec.layers):
            a, b = int(counts[i, index]), int(counts[j, index])
            first, part = _hypergeometric(layer.size, a, b)
            layers[index, i, j] = layers[index, j, i] = _expected(first, part, a + b)
            start, odds = start + first, np.convolve(odds, part)
        whole[i, j] = whole[j, i] = _expected(start, odds, int(counts[i].sum() + counts[j].sum()))
    return Chance(whole, layers)


def _counts(masks: ArrayLike, spec: MaskSpec) -> NDArray[np.int64]:
    array = np.asarray(masks)
    if array.dtype == np.bool_ or array.ndim != 2 or array.shape[1] != len(spec.layers):
        return layer_counts(check_masks(array, spec), spec)
    sizes = np.array([layer.size for layer in spec.layers])
    counts = array.astype(np.int64)
    if (counts < 0).any() or (counts > sizes).any() or (counts != array).any():
        raise BadInput(
            f"layer counts lie between 0 and the layers' sizes {sizes.tolist()}, but got {array.tolist()}"
        )
    return counts


def _hypergeometric(size: int, a: int, b: int) -> tuple[int, Floats]:
    """Return the least size, and the odds of each, of the intersection of random a and b of ``size``."""
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


class RawOverlap(NamedTuple):
    """Raw IoU and its chance level: whole ``(population, population)``, by layer ``(layers, ...)`` before."""

    whole: Floats
    chance: Floats
    layers: Floats
    layers_chance: Floats


def raw_overlap(masks: ArrayLike, spec: MaskSpec) -> RawOverlap:
    """Return the raw overlap of all pairs of ``(population, weights)`` masks beside its chance level.

    Raises :class:`BadInput` for another shape or fewer than two masks.
    """
    array = _several(masks, spec)
    layers = np.stack([pairwise_iou(array[:, layer.slice]) for layer in spec.layers])
    chance = chance_iou(array, spec)
    return RawOverlap(pairwise_iou(array), chance.whole, layers, chance.layers)


def _several(masks: ArrayLike, spec: MaskSpec) -> Mask:
    array = check_masks(masks, spec)
    if len(array) < 2:
        raise BadInput(
            f"overlap is of pairs, so it needs at least 2 masks, but got {len(array)}: add another"
        )
    return array


# Alignment


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


def _aligned_iou(masks: Mask, spec: MaskSpec, restarts: int, rng: np.random.Generator) -> Floats:
    """Return the aligned IoU of all pairs, ``(population, population)``."""
    subjects = [_subject(mask, spec) for mask in masks]
    sizes = np.count_nonzero(masks, axis=1)
    shared = np.diag(sizes).astype(np.int64)
    names = [group.name for group in spec.groups]
    for i, j in itertools.combinations(range(len(masks)), 2):
        orders = _aligned(subjects[j], subjects[i], spec, restarts, rng)
        moved = permute(masks[j], spec, {names[group]: order for group, order in orders.items()})
        shared[i, j] = shared[j, i] = np.count_nonzero(moved & masks[i])
    return _jaccard(shared)


# Null models


def degree_shuffle(mask: Mask, *, spec: MaskSpec, rng: np.random.Generator, sweeps: int = 40) -> Mask:
    """Return a ``(weights,)`` mask in which each unit keeps its numbers of weights in each layer, in and out.

    Pairs of weights swap their sources, many pairs at once, so that each weight is chosen about ``sweeps``
    times. A swap depends only on the four places of each pair, which the swap back has too: the chain is
    symmetric, and its limit uniform over all masks with these degrees.
    """
    shuffled = np.empty(spec.size, dtype=np.bool_)
    for layer in spec.layers:
        part = mask[layer.slice]
        # Where most weights are kept, swapping the gaps is the same and seldom refused.
        dense = 2 * np.count_nonzero(part) > layer.size
        shuffled[layer.slice] = _swapped(part ^ dense, layer.shape[1], rng, sweeps) ^ dense
    return shuffled


def _swapped(part: Mask, width: int, rng: np.random.Generator, sweeps: int) -> Mask:
    places = np.flatnonzero(part)
    pairs = min(len(places) // 2, max(1, len(part) // 16))
    if pairs == 0:
        return part
    for _ in range(-(-sweeps * len(places) // (2 * pairs))):
        chosen = rng.permutation(len(places))[: 2 * pairs].reshape(2, pairs)
        old = places[chosen]
        columns = old % width
        new = old - columns + columns[::-1]
        uses = np.bincount(np.concatenate([old, new]).ravel(), minlength=len(part))
        kept = np.bincount(places, minlength=len(part))
        kept[old] = 0
        # All four places belong to this pair alone, and the two new ones are empty; half of those swap, as a
        # chain that always moves would never forget whether its steps were even.
        free = (uses[old] == 1).all(axis=0) & (uses[new] == 1).all(axis=0) & (kept[new] == 0).all(axis=0)
        free &= rng.random(pairs) < 0.5
        places[chosen[:, free]] = new[:, free]
    shuffled = np.zeros_like(part)
    shuffled[places] = True
    return shuffled


class Null(NamedTuple):
    """A null model beside what was observed, the mean IoU over pairs.

    ``effect`` is observed - mean of the draws, ``p`` the one-sided (1 + draws that reach it) / (1 + draws).
    """

    observed: float
    mean: float
    sd: float
    effect: float
    p: float
    draws: int


def _null(observed: Floats, draw: Callable[[], Floats], draws: int) -> Null | None:
    """Return the Monte-Carlo test of the mean over pairs: a draw replaces all masks, as pairs share them."""
    if draws == 0:
        return None
    value = _pair_mean(observed)
    drawn = np.array([_pair_mean(draw()) for _ in range(draws)])
    reached = int(np.count_nonzero(drawn >= value - 1e-12))
    mean, sd = float(drawn.mean()), float(drawn.std(ddof=1)) if draws > 1 else 0.0
    return Null(value, mean, sd, value - mean, (1 + reached) / (1 + draws), draws)


def _pair_mean(matrix: Floats) -> float:
    return float(matrix[np.triu_indices(len(matrix), 1)].mean())


# The study


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
            f"As they are, pairs share {_pair_mean(self.iou):.4f} of their weights on average (intersection "
            f"over union), where chance gives {_pair_mean(self.chance):.4f}.",
            f"Against masks of the same layer counts, {_sentence(self.uniform, 'raw overlap')}.",
            f"Renumbered to match, they share at least {_pair_mean(self.aligned):.4f}.",
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
    array = _several(masks, spec)
    labels = tuple(names) if names is not None else tuple(str(number) for number in range(len(array)))
    if len(labels) != len(array):
        raise BadInput(f"names has one name a mask, {len(array)}, but got {len(labels)}")
    if min(draws, aligned_draws) < 0:
        raise BadInput(f"draws and aligned_draws are 0 or more, but got {draws} and {aligned_draws}")
    if restarts < 1:
        raise BadInput(f"restarts counts starting points, at least 1, but got {restarts}")
    streams = [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(4)]
    raw = raw_overlap(array, spec)
    aligned = _aligned_iou(array, spec, restarts, streams[0])

    def shuffled(shuffle: Callable[..., Mask], rng: np.random.Generator) -> Mask:
        return np.stack([shuffle(mask, spec=spec, rng=rng) for mask in array])

    def realigned(shuffle: Callable[..., Mask], rng: np.random.Generator) -> Callable[[], Floats]:
        return lambda: _aligned_iou(shuffled(shuffle, rng), spec, restarts, rng)

    keys = [canonical_key(mask, spec) for mask in array]
    return OverlapStudy(
        names=labels,
        iou=raw.whole,
        chance=raw.chance,
        containment=_containment(_shared(array)),
        aligned=aligned,
        layers=raw.layers,
        layers_chance=raw.layers_chance,
        identical=sum(a == b for a, b in itertools.combinations(keys, 2)),
        uniform=_null(raw.whole, lambda: pairwise_iou(shuffled(layer_shuffle, streams[1])), draws),
        aligned_uniform=_null(aligned, realigned(layer_shuffle, streams[2]), aligned_draws),
        aligned_degrees=_null(aligned, realigned(degree_shuffle, streams[3]), aligned_draws),
    )
