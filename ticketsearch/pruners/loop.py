"""The pruning loop: scores, cut, scores again, until exactly the weights asked for are left."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, Protocol, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ticketsearch.datasets import Dataset
from ticketsearch.errors import BadInput, unknown
from ticketsearch.masks import Mask, MaskSpec, largest, layer_counts
from ticketsearch.models import Network
from ticketsearch.names import check_options, parameters_of
from ticketsearch.pruners.copies import Batch, Copies, Parts, ScoreFunction, check_copies
from ticketsearch.streams import Stream, seed_sequence
from ticketsearch.training import one_thread

__all__ = [
    "SUPPLIED",
    "Cut",
    "LayerCollapseWarning",
    "Scorer",
    "check_density",
    "prune_each",
    "schedule_steps",
    "scheduled_count",
    "scoring_batch",
]

Floats = NDArray[np.float64]
Integers = NDArray[np.intp]
Scope = Literal["global", "layer"]
Schedule = Literal["exponential", "linear", "one_shot"]
# What the loop gives a score function that names it.
SUPPLIED = ("rng", "dataset", "target")
# Bytes of float64 weights that are scored side by side: larger stacks leave the processor's caches.
STACK_BYTES = 2**22


class LayerCollapseWarning(UserWarning):
    """A pruner left a layer without any weight."""


# Pruners that train the network in each of their rounds.
TRAINING = ("imp", "averaged_imp", "obd")


class Cut(NamedTuple):
    """One cut of one copy, for whoever watches: scores of the weights kept before, and which are kept.

    ``numbers`` are those of the weights kept before, ascending; ``scores`` and ``kept`` go with them.
    """

    copy: int
    step: int
    numbers: Integers
    scores: Floats
    kept: NDArray[np.bool_]


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
    check_options(scores, options, "pruner", name, SUPPLIED)
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
    together = max(1, STACK_BYTES // (8 * spec.size))
    for start in range(0, len(networks), together):
        part = slice(start, start + together)
        rngs = [np.random.default_rng(seed_sequence(seed, Stream.PRUNING)) for seed in seeds[part]]
        samples = None if dataset is None else [scoring_batch(dataset, batch, seed) for seed in seeds[part]]
        supplied = _supplied(scores, dataset, target)
        with one_thread():  # the products are small: threads make them slower, many times so on busy cores
            scorer = _scorer(networks[part], scores, name, samples, rngs, {**supplied, **options})
            for copy, kept in enumerate(_cut_down(scorer, plan, len(rngs), start, watch)):
                masks[start + copy, kept] = True
    for mask in masks:
        _warn_of_collapse(mask, spec, name, density)
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
    scorer: Scorer, plan: _Plan, copies: int, first: int, watch: Callable[[Cut], None] | None
) -> list[Integers]:
    """Score and cut once for each fraction to keep; the last cut leaves exactly the target of weights."""
    kept = [np.arange(plan.spec.size)] * copies
    for step, fraction in enumerate(plan.fractions, start=1):
        scores = scorer.scores()
        last = step == len(plan.fractions)
        chosen = [_chosen(kept[i], scores[i], plan, fraction, last) for i in range(copies)]
        if watch is not None:
            for i in range(copies):
                watch(Cut(first + i, step, kept[i], scores[i], chosen[i]))
        kept = [kept[i][chosen[i]] for i in range(copies)]
        if not last:
            scorer.cut(chosen)
    return kept


def _chosen(numbers: Integers, scores: Floats, plan: _Plan, fraction: float, last: bool) -> NDArray[np.bool_]:
    """Return which of the kept weights stay after this step."""
    spec = plan.spec
    if plan.scope == "global":
        return largest(scores, plan.target if last else scheduled_count(spec.size, fraction))
    ends = [*np.searchsorted(numbers, [layer.offset for layer in spec.layers]), len(numbers)]
    parts = [slice(a, b) for a, b in itertools.pairwise(ends)]
    chosen = np.zeros(len(numbers), dtype=np.bool_)
    for layer, part in zip(spec.layers, parts, strict=True):
        count = max(1, round(fraction * layer.size)) if last else scheduled_count(layer.size, fraction)
        chosen[part] = largest(scores[part], count)
    if last:
        _correct_total(chosen, scores, parts, plan)
    return chosen


def scheduled_count(size: int, fraction: float) -> int:
    """Return what is kept of ``size`` weights, by the rule of the SynFlow authors' code."""
    return size - math.floor((1.0 - fraction) * size)


def _correct_total(chosen: NDArray[np.bool_], scores: Floats, parts: Sequence[slice], plan: _Plan) -> None:
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
            chosen[part] = largest(np.where(own, scores[part], -np.inf), count - 1)
            excess -= 1
        elif excess < 0 and count < len(own):
            chosen[part] = largest(np.where(own, np.inf, scores[part]), count + 1)
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
    return _FunctionScorer(networks, scores, name, batches, rngs, options)


class _FunctionScorer:
    """Calls a score function on the networks as masked so far."""

    def __init__(
        self,
        networks: Sequence[Network],
        function: ScoreFunction,
        name: str,
        batches: list[Batch] | None,
        rngs: list[np.random.Generator],
        options: dict[str, Any],
    ) -> None:
        self.networks, self.function, self.name = networks, function, name
        self.batches, self.rngs, self.options = batches, rngs, options
        self.spec = networks[0].spec
        self.masks = np.ones((len(networks), self.spec.size), dtype=np.bool_)

    def scores(self) -> list[Floats]:
        """Return the scores of each copy's kept weights."""
        if getattr(self.function, "batched", False):
            batch = None
            if self.batches is not None:
                x, y = zip(*self.batches, strict=True)
                batch = (torch.stack(x), torch.stack(y))
            found = self._called(Copies(self.networks), self.masks, batch, self.rngs)
        else:
            each = [
                self._called(
                    network,
                    self.masks[i],
                    None if self.batches is None else self.batches[i],
                    self.rngs[i],
                )
                for i, network in enumerate(self.networks)
            ]
            found = np.stack(each)
        return [own[mask] for own, mask in zip(found, self.masks, strict=True)]

    def _called(self, network: Network | Copies, masks: Mask, batch: Batch | None, rng: Any) -> Floats:
        # Of a copy: a score function may keep its mask or write to it.
        masked = {key: torch.from_numpy(part) for key, part in self.spec.split(masks.copy()).items()}
        parts = self.function(network, masked, batch, rng=rng, **self.options)
        trains = "lr" in parameters_of(self.function)
        return _flat_scores(parts, self.spec, self.name, masks.shape[:-1], trains)

    def cut(self, keep: list[NDArray[np.bool_]]) -> None:
        """Drop weights."""
        for mask, kept in zip(self.masks, keep, strict=True):
            mask[np.flatnonzero(mask)[~kept]] = False


def _flat_scores(parts: Parts, spec: MaskSpec, name: str, lead: tuple[int, ...], trains: bool) -> Floats:
    if not isinstance(parts, dict):
        raise BadInput(f"pruner {name!r} must return {{layer name: scores}}, but gave {type(parts).__name__}")
    flat = np.empty((*lead, spec.size), dtype=np.float64)
    for layer in spec.layers:
        part = parts.get(layer.name)
        shape = (*lead, *layer.shape)
        if not isinstance(part, Tensor) or tuple(part.shape) != shape:
            kind = "nothing" if part is None else type(part).__name__
            got = f"shape {tuple(part.shape)}" if isinstance(part, Tensor) else kind
            raise BadInput(
                f"pruner {name!r} must score {layer.name} by a tensor of shape {shape}, but gave {got}"
            )
        scores = part.detach().cpu().double().numpy()
        if not np.isfinite(scores).all():
            bad = int(np.count_nonzero(~np.isfinite(scores)))
            cause = "; its training diverged, lower lr" if trains else ""
            raise BadInput(
                f"scores must be finite, but {name!r} gave {bad} that are not in {layer.name}{cause}"
            )
        flat[..., layer.slice] = scores.reshape(*lead, layer.size)
    return flat
