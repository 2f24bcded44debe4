"""The pruning loop: scores, cut, scores again, until exactly the weights asked for are left."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from ticketsearch.datasets import Dataset
from ticketsearch.errors import BadInput, unknown
from ticketsearch.masks import Mask, MaskSpec, drawn_among_equals, largest, layer_counts
from ticketsearch.models import Network
from ticketsearch.plugins import check_call, check_options, parameters_of
from ticketsearch.pruners.batching import Batch, Copies, ScoreFunction, check_copies
from ticketsearch.pruners.function_scorer import FunctionScorer
from ticketsearch.pruners.ties import PruningWarning, tie_generator, warn_of_equal_scores
from ticketsearch.random_streams import Stream, seed_sequence
from ticketsearch.training import one_thread
from ticketsearch.typing import Floats, Indices

__all__ = [
    "SUPPLIED",
    "Cut",
    "LayerCollapseWarning",
    "Scorer",
    "check_density",
    "check_scores",
    "prune_each",
    "schedule_steps",
    "scheduled_count",
    "scoring_batch",
]

Scope = Literal["global", "layer"]
Schedule = Literal["exponential", "linear", "one_shot"]
# What the loop gives a score function that names it.
SUPPLIED = ("rng", "dataset", "target")
# Bytes of float64 weights that are scored side by side: larger stacks leave the processor's caches.
STACK_BYTES = 2**22


class LayerCollapseWarning(PruningWarning):
    """A pruner left a layer without any weight."""


# Pruners that train the network in each of their rounds.
TRAINING = ("imp", "averaged_imp", "obd")


class Cut(NamedTuple):
    """One cut of one copy, for whoever watches: scores of the weights kept before, and which are kept.

    ``numbers`` are those of the weights kept before, ascending; ``scores``, ``kept`` and ``drawn`` go with
    them. ``drawn`` are the kept weights that this cut drew among weights of equal scores.
    """

    copy: int
    step: int
    numbers: Indices
    scores: Floats
    kept: NDArray[np.bool_]
    drawn: NDArray[np.bool_]


class Scorer(Protocol):
    """Scores of several copies whose masks only lose weights."""

    def scores(self) -> list[Floats]:
        """Return for each copy the scores of its kept weights, in the order of their numbers."""

    def cut(self, keep: list[NDArray[np.bool_]]) -> None:
        """Drop weights: one bool for each kept weight of each copy."""


class _Plan(NamedTuple):
    """What is to be done with each copy."""

    spec: MaskSpec
    scope: Scope
    fractions: tuple[float, ...]
    target: int


class _Left(NamedTuple):
    """The weights that a copy keeps: numbers, scores at the last cut, and which the lot has decided."""

    numbers: Indices
    scores: Floats
    drawn: NDArray[np.bool_]


def check_scores(function: ScoreFunction, name: str, options: Mapping[str, Any]) -> None:
    """Refuse a score function that does not take these options, or the arguments of every score function.

    Raises :class:`BadInput`.
    """
    check_options(function, options, "pruner", name, SUPPLIED)
    given = {*options, "rng", *(parameters_of(function) & set(SUPPLIED))}
    check_call(function, "pruner", name, "scores(network, mask, batch, *, rng, **options)", 3, given)


def prune_each(
    networks: Sequence[Network],
    scores: ScoreFunction,
    name: str,
    *,
    density: float,
    dataset: Dataset | None,
    seeds: Sequence[int],
    scope: Scope,
    schedule: Schedule,
    steps: int,
    batch: int,
    watch: Callable[[Cut], None] | None,
    options: dict[str, Any],
) -> Mask:
    """Return the ``(copies, weights)`` masks of several networks; see :func:`ticketsearch.prune`."""
    spec = networks[0].spec
    check_copies(networks)
    check_scores(scores, name, options)
    target = check_density(density, spec)
    for word, number in (("steps", steps), ("batch", batch)):
        if not isinstance(number, int | np.integer) or isinstance(number, bool):
            raise BadInput(f"{word} is an integer, but got {number!r}")
    for word, value, known in (("scope", scope, Scope), ("schedule", schedule, Schedule)):
        if value not in get_args(known):
            raise unknown(word, value, get_args(known))
    if steps < 1:
        raise BadInput(f"pruning takes at least 1 step, but got steps={steps}")
    plan = _Plan(spec, scope, tuple(_fractions(density, schedule, steps)), target)
    masks = np.zeros((len(networks), spec.size), dtype=np.bool_)
    left: list[_Left] = []
    initializations = [network.initialization for network in networks]
    together = max(1, STACK_BYTES // (8 * spec.size))
    for start in range(0, len(networks), together):
        part = slice(start, start + together)
        rngs = [np.random.default_rng(seed_sequence(seed, Stream.PRUNING)) for seed in seeds[part]]
        samples = None if dataset is None else [scoring_batch(dataset, batch, seed) for seed in seeds[part]]
        supplied = _supplied(scores, dataset, target)
        with one_thread():  # the products are small: threads make them slower, many times so on busy cores
            scorer = _scorer(networks[part], scores, name, samples, rngs, {**supplied, **options})
            lots = [tie_generator(*each) for each in zip(rngs, initializations[part], strict=True)]
            left += _cut_down(scorer, plan, lots, start, watch)
    for mask, copy in zip(masks, left, strict=True):
        mask[copy.numbers] = True
        _warn_of_collapse(mask, spec, name, density)
    drawn, last = [copy.drawn for copy in left], [copy.scores for copy in left]
    warn_of_equal_scores(name, density, networks, target, drawn, last, stacklevel=4)
    masks.flags.writeable = False
    return masks


def _warn_of_collapse(mask: Mask, spec: MaskSpec, name: str, density: float) -> None:
    empty = [layer.name for layer, n in zip(spec.layers, layer_counts(mask, spec), strict=True) if n == 0]
    if empty:
        warnings.warn(
            f"{name} at density {density:g} left no weight in {', '.join(empty)}: layer collapse",
            LayerCollapseWarning,
            stacklevel=6,  # the line that called prune or prune_all
        )


def _supplied(scores: ScoreFunction, dataset: Dataset | None, target: int) -> dict[str, Any]:
    """Return what a score function is given beside its generator: what it names of dataset and target."""
    named = parameters_of(scores)
    given = {"dataset": dataset, "target": target}
    return {key: value for key, value in given.items() if key in named}


def _cut_down(
    scorer: Scorer,
    plan: _Plan,
    lots: Sequence[np.random.Generator],
    first: int,
    watch: Callable[[Cut], None] | None,
) -> list[_Left]:
    """Score and cut once for each fraction to keep; the last cut leaves exactly the target of weights.

    ``lots`` are a generator a copy, which draws among equal scores.
    """
    size = plan.spec.size
    left = [_Left(np.arange(size), np.zeros(size), np.zeros(size, dtype=np.bool_)) for _ in lots]
    for step, fraction in enumerate(plan.fractions, start=1):
        scores = scorer.scores()
        last = step == len(plan.fractions)
        chosen = []
        for i, (copy, lot) in enumerate(zip(left, lots, strict=True)):
            keep, drawn = _chosen(copy.numbers, scores[i], plan, fraction, last, lot)
            if watch is not None:
                watch(Cut(first + i, step, copy.numbers, scores[i], keep, drawn))
            left[i] = _Left(copy.numbers[keep], scores[i][keep], (copy.drawn | drawn)[keep])
            chosen.append(keep)
        if not last:
            scorer.cut(chosen)
    return left


def _chosen(
    numbers: Indices, scores: Floats, plan: _Plan, fraction: float, last: bool, lot: np.random.Generator
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which of the kept weights stay after this step, and which of these ``lot`` has drawn."""
    spec = plan.spec
    if plan.scope == "global":
        chosen = largest(scores, plan.target if last else scheduled_count(spec.size, fraction), lot)
        return chosen, drawn_among_equals(scores, chosen)
    ends = [*np.searchsorted(numbers, [layer.offset for layer in spec.layers]), len(numbers)]
    parts = [slice(a, b) for a, b in itertools.pairwise(ends)]
    chosen = np.zeros(len(numbers), dtype=np.bool_)
    for layer, part in zip(spec.layers, parts, strict=True):
        count = max(1, round(fraction * layer.size)) if last else scheduled_count(layer.size, fraction)
        chosen[part] = largest(scores[part], count, lot)
    if last:
        _correct_total(chosen, scores, parts, plan, lot)
    return chosen, np.concatenate([drawn_among_equals(scores[part], chosen[part]) for part in parts])


def scheduled_count(size: int, fraction: float) -> int:
    """Return what is kept of ``size`` weights, by the rule of the SynFlow authors' code."""
    return size - math.floor((1.0 - fraction) * size)


def _correct_total(
    chosen: NDArray[np.bool_],
    scores: Floats,
    parts: Sequence[slice],
    plan: _Plan,
    lot: np.random.Generator,
) -> None:
    """Take back what rounding layer by layer kept too much, or give what it kept too little.

    Largest layer first: the total is exact and no layer changes by more than rounding does.
    """
    by_size = sorted(range(len(parts)), key=lambda index: -plan.spec.layers[index].size)
    excess = int(np.count_nonzero(chosen)) - plan.target
    turn = 0
    while excess:
        part = parts[by_size[turn % len(parts)]]
        own = chosen[part]
        count = int(np.count_nonzero(own))
        if excess > 0 and count > 1:
            chosen[part] = largest(np.where(own, scores[part], -np.inf), count - 1, lot)
            excess -= 1
        elif excess < 0 and count < len(own):
            chosen[part] = largest(np.where(own, np.inf, scores[part]), count + 1, lot)
            excess += 1
        turn += 1


def check_density(density: float, spec: MaskSpec) -> int:
    """Return ``round(density * size)``, the number of weights a mask of this density keeps.

    Raises :class:`BadInput` for a density outside (0, 1] or too low for one weight a layer.
    """
    number = isinstance(density, int | float | np.number) and not isinstance(density, bool)
    if not number or not 0 < density <= 1:
        raise BadInput(f"density is kept / total, in (0, 1], but got {density!r}")
    count = round(density * spec.size)
    if count < len(spec.layers):
        raise BadInput(
            f"density {density:g} keeps {count} of {spec.size} weights, too few for one in each of "
            f"{len(spec.layers)} layers; the lowest density here is 1 / rho_max = "
            f"{len(spec.layers) / spec.size:.3g}"
        )
    return count


def schedule_steps(name: str, density: float) -> int:
    """Return a pruner's own number of cuts: 100 for iterative ones, 1 for those that score once.

    That of those that train is the number of rounds that prune a fifth each (Frankle & Carbin 2019).
    """
    if name in TRAINING:
        return max(1, math.ceil(math.log(density) / math.log(0.8) - 1e-9)) if 0 < density <= 1 else 1
    once = ("magnitude", "random", "snip", "grasp", "saliency", "flow_preserving", "edge_popup")
    return 1 if name in once else 100


def _fractions(density: float, schedule: Schedule, steps: int) -> list[float]:
    if schedule == "one_shot":
        return [density]
    if schedule == "linear":
        return [*(1.0 - (1.0 - density) * k / steps for k in range(1, steps)), density]
    return [*(density ** (k / steps) for k in range(1, steps)), density]


def scoring_batch(dataset: Dataset, size: int, seed: int) -> Batch:
    """Return the samples and labels of the training part that a pruner with this seed scores on."""
    if size < 1:
        raise BadInput(f"a batch holds at least 1 sample, but got batch={size}")
    # Of its own stream: a pruner that draws is to draw the same with data as without.
    rng = np.random.default_rng(seed_sequence(seed, Stream.SCORING))
    chosen = torch.from_numpy(rng.permutation(len(dataset.y_train))[:size])
    return dataset.x_train[chosen], dataset.y_train[chosen]


def _scorer(
    networks: Sequence[Network],
    scores: ScoreFunction,
    name: str,
    batches: list[Batch] | None,
    rngs: list[np.random.Generator],
    options: dict[str, Any],
) -> Scorer:
    """Return what scores the copies: a pruner's own scorer, its batched function, or calls one by one."""
    own: Callable[..., Scorer] | None = getattr(scores, "scorer", None)
    if own is not None:
        return own(Copies(networks), [np.arange(networks[0].spec.size)] * len(networks), **options)
    return FunctionScorer(networks, scores, name, batches, rngs, options)
