"""The pruning loop: score, cut, score again, until exactly the target count of weights is left."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, get_args

import numpy as np
import torch

from ticketsearch.checks import is_integer
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
    "DEFAULT_STEPS",
    "SUPPLIED",
    "LayerCollapseWarning",
    "PruningOptions",
    "PruningStep",
    "Scorer",
    "check_density",
    "check_scores",
    "default_steps",
    "prune_each",
    "scheduled_count",
    "scoring_batch",
]

Scope = Literal["global", "layer"]
Schedule = Literal["exponential", "linear", "one_shot"]
# Keywords that the loop gives to a score function that names them.
SUPPLIED = ("rng", "dataset", "target")
# Cuts of a score function that says nothing else, as in the SynFlow paper.
DEFAULT_STEPS = 100
# Bytes of float64 weights that are scored side by side: larger stacks leave the processor's caches.
STACK_BYTES = 2**22


class LayerCollapseWarning(PruningWarning):
    """A pruner left a layer without any weight."""


class PruningStep(NamedTuple):
    """One cut of one copy, given to the callback.

    Attributes
    ----------
    copy : index of the network.
    step : number of the cut, from 1 on.
    numbers : ``(before,)``, indices in the flat mask of the weights kept before the cut, ascending.
    scores : ``(before,)``, their scores.
    kept : ``(before,)`` bool, which of them the cut keeps.
    drawn : ``(before,)`` bool, which of the kept ones were drawn among weights of equal scores.
    """

    copy: int
    step: int
    numbers: Indices
    scores: Floats
    kept: Mask
    drawn: Mask


@dataclass(frozen=True)
class PruningOptions:
    """Options of the loop, whichever pruner scores; :func:`ticketsearch.prune` explains each of them."""

    density: float
    dataset: Dataset | None = None
    scope: Scope = "global"
    schedule: Schedule = "exponential"
    steps: int | None = None
    batch: int = 256
    callback: Callable[[PruningStep], None] | None = None


class Scorer(Protocol):
    """Scores of several copies whose masks only lose weights."""

    def scores(self) -> list[Floats]:
        """Return for each copy the scores of its kept weights, in the order of their indices."""

    def cut(self, keep: list[Mask]) -> None:
        """Drop weights: one bool for each kept weight of each copy."""


class _Plan(NamedTuple):
    """The cuts that all copies take: the fraction of weights kept after each, and the count in the end."""

    spec: MaskSpec
    scope: Scope
    fractions: tuple[float, ...]
    target: int
    callback: Callable[[PruningStep], None] | None


class _Kept(NamedTuple):
    """The weights that a copy keeps: indices, scores at the last cut, and whether they were drawn by lot."""

    numbers: Indices
    scores: Floats
    drawn: Mask


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
    seeds: Sequence[int],
    pruning: PruningOptions,
    options: Mapping[str, Any],
) -> Mask:
    """Return the ``(copies, weights)`` masks of several networks; see :func:`ticketsearch.prune`.

    ``options`` are those of the score function.
    """
    spec = networks[0].spec
    check_copies(networks)
    check_scores(scores, name, options)
    plan = _plan(spec, scores, pruning)
    masks = np.zeros((len(networks), spec.size), dtype=np.bool_)
    kept: list[_Kept] = []
    initializations = [network.initialization for network in networks]
    dataset = pruning.dataset
    together = max(1, STACK_BYTES // (8 * spec.size))
    for start in range(0, len(networks), together):
        part = slice(start, start + together)
        rngs = [np.random.default_rng(seed_sequence(seed, Stream.PRUNING)) for seed in seeds[part]]
        batches = None
        if dataset is not None:
            batches = [scoring_batch(dataset, pruning.batch, seed) for seed in seeds[part]]
        given = {**_supplied(scores, dataset, plan.target), **options}
        with one_thread():  # the products are small: threads make them slower, many times so on busy cores
            scorer = _scorer(networks[part], scores, name, batches, rngs, given)
            lots = [tie_generator(*pair) for pair in zip(rngs, initializations[part], strict=True)]
            kept += _cut_down(scorer, plan, lots, start)
    for mask, copy in zip(masks, kept, strict=True):
        mask[copy.numbers] = True
        _warn_of_collapse(mask, spec, name, pruning.density)
    drawn, last = [copy.drawn for copy in kept], [copy.scores for copy in kept]
    warn_of_equal_scores(name, pruning.density, networks, drawn, last, stacklevel=4)
    masks.flags.writeable = False
    return masks


def _plan(spec: MaskSpec, scores: ScoreFunction, pruning: PruningOptions) -> _Plan:
    """Return the cuts of all copies; raises :class:`BadInput` for invalid options."""
    target = check_density(pruning.density, spec)
    steps = default_steps(scores, pruning.density) if pruning.steps is None else pruning.steps
    for option, count in (("steps", steps), ("batch", pruning.batch)):
        if not is_integer(count):
            raise BadInput(f"{option} is an integer, but got {count!r}")
    for option, value, known in (("scope", pruning.scope, Scope), ("schedule", pruning.schedule, Schedule)):
        if value not in get_args(known):
            raise unknown(option, value, get_args(known))
    if steps < 1:
        raise BadInput(f"pruning takes at least 1 step, but got steps={steps}")
    fractions = tuple(_fractions(pruning.density, pruning.schedule, steps))
    return _Plan(spec, pruning.scope, fractions, target, pruning.callback)


def _warn_of_collapse(mask: Mask, spec: MaskSpec, name: str, density: float) -> None:
    empty = [layer.name for layer, n in zip(spec.layers, layer_counts(mask, spec), strict=True) if n == 0]
    if empty:
        warnings.warn(
            f"{name} at density {density:g} left no weight in {', '.join(empty)}: layer collapse",
            LayerCollapseWarning,
            stacklevel=6,  # the line that called prune or prune_all
        )


def _supplied(scores: ScoreFunction, dataset: Dataset | None, target: int) -> dict[str, Any]:
    """Return the dataset and the target count, as far as the score function names them as parameters."""
    parameters = parameters_of(scores)
    supplied = {"dataset": dataset, "target": target}
    return {name: value for name, value in supplied.items() if name in parameters}


def _cut_down(scorer: Scorer, plan: _Plan, lots: Sequence[np.random.Generator], first: int) -> list[_Kept]:
    """Score and cut once for each fraction; the last cut leaves exactly the target count of weights.

    ``lots`` are one generator a copy, which draws among equal scores; ``first`` is the first copy's index.
    """
    size = plan.spec.size
    kept = [_Kept(np.arange(size), np.zeros(size), np.zeros(size, dtype=np.bool_)) for _ in lots]
    for step, fraction in enumerate(plan.fractions, start=1):
        scores = scorer.scores()
        last = step == len(plan.fractions)
        chosen = []
        for i, (copy, lot) in enumerate(zip(kept, lots, strict=True)):
            keep, drawn = _chosen(copy.numbers, scores[i], plan, fraction, last, lot)
            if plan.callback is not None:
                plan.callback(PruningStep(first + i, step, copy.numbers, scores[i], keep, drawn))
            kept[i] = _Kept(copy.numbers[keep], scores[i][keep], (copy.drawn | drawn)[keep])
            chosen.append(keep)
        if not last:
            scorer.cut(chosen)
    return kept


def _chosen(
    numbers: Indices, scores: Floats, plan: _Plan, fraction: float, last: bool, lot: np.random.Generator
) -> tuple[Mask, Mask]:
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
    """Return the number of weights kept of ``size``, by the rule of the SynFlow authors' code."""
    return size - math.floor((1.0 - fraction) * size)


def _correct_total(
    chosen: Mask,
    scores: Floats,
    parts: Sequence[slice],
    plan: _Plan,
    lot: np.random.Generator,
) -> None:
    """Correct in place the sum of counts that were rounded layer by layer, so that it is the target.

    Layers change by one weight each, the largest first, so that none changes by more than rounding does.
    """
    by_size = sorted(range(len(parts)), key=lambda index: -plan.spec.layers[index].size)
    excess = int(np.count_nonzero(chosen)) - plan.target
    turn = 0
    while excess:
        part = parts[by_size[turn % len(parts)]]
        in_layer = chosen[part]
        count = int(np.count_nonzero(in_layer))
        if excess > 0 and count > 1:
            chosen[part] = largest(np.where(in_layer, scores[part], -np.inf), count - 1, lot)
            excess -= 1
        elif excess < 0 and count < len(in_layer):
            chosen[part] = largest(np.where(in_layer, np.inf, scores[part]), count + 1, lot)
            excess += 1
        turn += 1


def check_density(density: float, spec: MaskSpec) -> int:
    """Return ``round(density * size)``, the number of weights a mask of this density keeps.

    Raises :class:`BadInput` for a density outside (0, 1] or too low for one weight a layer.
    """
    numeric = isinstance(density, int | float | np.number) and not isinstance(density, bool)
    if not numeric or not 0 < density <= 1:
        raise BadInput(f"density is kept / total, in (0, 1], but got {density!r}")
    count = round(density * spec.size)
    if count < len(spec.layers):
        raise BadInput(
            f"density {density:g} keeps {count} of {spec.size} weights, too few for one in each of "
            f"{len(spec.layers)} layers; the lowest density here is 1 / rho_max = "
            f"{len(spec.layers) / spec.size:.3g}"
        )
    return count


def default_steps(scores: ScoreFunction, density: float) -> int:
    """Return the number of cuts that a score function asks for by its marks, else :data:`DEFAULT_STEPS`.

    Pruners that train take as many rounds as prune a fifth of the weights each (Frankle & Carbin 2019).
    """
    if getattr(scores, "trains", False):
        return max(1, math.ceil(math.log(density) / math.log(0.8) - 1e-9)) if 0 < density <= 1 else 1
    return 1 if getattr(scores, "one_cut", False) else DEFAULT_STEPS


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
    # A stream of its own, so that a pruner that draws random numbers draws the same with data as without.
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
    """Return the scorer of the copies: the pruner's own, or one that calls its score function."""
    scorer: Callable[..., Scorer] | None = getattr(scores, "scorer", None)
    if scorer is not None:
        return scorer(Copies(networks), [np.arange(networks[0].spec.size)] * len(networks), **options)
    return FunctionScorer(networks, scores, name, batches, rngs, options)
