"""Critical compression: the largest without an empty layer (axiom 1 and theorem 3 of Ross's notes)."""

from __future__ import annotations

import itertools
import math
import warnings
from typing import Any, NamedTuple

import numpy as np

from ticketsearch.checks import checked
from ticketsearch.datasets import Dataset
from ticketsearch.masks import Mask, MaskSpec, check_mask, layer_counts, live_units
from ticketsearch.models import Network
from ticketsearch.pruners import (
    PruningStep,
    PruningWarning,
    ScoreFunction,
    prune,
    schedule_steps,
    scores_at_once,
)
from ticketsearch.typing import Floats, Integers

__all__ = [
    "Critical",
    "collapsed",
    "critical_at_once",
    "critical_compression",
    "disconnected",
    "prune_to_cut",
    "rho_max",
]


@checked
def rho_max(spec: MaskSpec) -> float:
    """Return the largest compression without layer collapse: number of weights / number of layers."""
    return spec.size / len(spec.layers)


@checked
def collapsed(mask: Mask, spec: MaskSpec) -> list[str]:
    """Return the names of the layers in which a mask keeps no weight: layer collapse."""
    counts = layer_counts(check_mask(mask, spec), spec)
    return [layer.name for layer, n in zip(spec.layers, counts, strict=True) if n == 0]


@checked
def disconnected(mask: Mask, spec: MaskSpec) -> bool:
    """Return whether no kept path leads from an input to an output.

    This differs from layer collapse: a shortcut may bypass an empty layer, and the kept weights of successive
    layers may share no unit.
    """
    units = live_units(mask, spec, constants=False)
    ends = [spec.groups[group] for group in spec.nodes[-1].groups] if spec.nodes else spec.groups
    return not any(units[end.name].any() for end in ends if spec.nodes or end.kind == "output")


class Critical(NamedTuple):
    """The largest compression that a pruner reaches on a network without layer collapse.

    Attributes
    ----------
    rho : ρ_cr = N / ``kept``.
    kept : the smallest number of kept weights without an empty layer.
    rho_max : the network's ρ_max.
    exact : whether ``kept`` is exact; else the pruner empties a layer one schedule step further.
    holds : whether the axiom of maximal critical compression, ρ_cr = ρ_max, holds here.
    """

    rho: float
    kept: int
    rho_max: float
    exact: bool

    @property
    def holds(self) -> bool:
        """Whether ρ_cr = ρ_max on this network."""
        return self.exact and self.rho >= self.rho_max


@checked
def critical_compression(
    network: Network,
    method: str | ScoreFunction,
    dataset: Dataset | None = None,
    *,
    seed: int = 0,
    steps: int | None = None,
    **options: Any,
) -> Critical:
    """Return ρ_cr of a pruner on a network, under global scope.

    A pruner that scores once empties a layer when it prunes the layer's best weight, so ρ_cr follows from the
    ranks of the layers' best weights. Other pruners are run at ρ_max first and then, if a layer collapses, by
    bisection over the logarithm of the density: to within one step of their schedule, or to the weight if
    they make a single cut (with scores that depend on the count).
    """
    spec = network.spec
    layers = len(spec.layers)
    scores = scores_at_once(network, method, dataset=dataset, seed=seed, steps=steps, **options)
    if scores is not None:
        return critical_at_once(scores, spec)

    def collapses(count: int) -> bool:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PruningWarning)
            mask = prune(
                network, method, density=count / spec.size, dataset=dataset, seed=seed, steps=steps, **options
            )
        return bool(collapsed(mask, spec))

    if not collapses(layers):
        return Critical(rho_max(spec), layers, rho_max(spec), True)
    low, high = layers, spec.size  # low collapses, high does not
    cuts = schedule_steps(method, 1 / rho_max(spec)) if steps is None else steps
    step = rho_max(spec) ** (1 / cuts) if cuts > 1 else 1.0
    while high > low + 1 and high / low > step:
        middle = min(max(round(math.sqrt(low * high)), low + 1), high - 1)
        low, high = (middle, high) if collapses(middle) else (low, middle)
    return Critical(spec.size / high, high, rho_max(spec), high == low + 1)


def critical_at_once(scores: Floats, spec: MaskSpec) -> Critical:
    """Return ρ_cr of a pruner that scores once: it is given by the lowest rank of the layers' best weights.

    With equal scores it is the ρ that is reached under every order of them.
    """
    ranked = np.sort(scores)
    kept = 0
    for layer in spec.layers:
        layer_scores = scores[layer.slice]
        best = layer_scores.max()
        # All equal scores of other layers may be drawn before it.
        before = spec.size - int(np.searchsorted(ranked, best)) - int(np.count_nonzero(layer_scores == best))
        kept = max(kept, before + 1)
    return Critical(spec.size / kept, kept, rho_max(spec), True)


class _CutRecorder:
    """Callback that records the counts of each layer and prune size / cut size at every cut."""

    def __init__(self, spec: MaskSpec) -> None:
        self.spec = spec
        self.counts: list[list[int]] = [[layer.size for layer in spec.layers]]
        self.ratios: list[float] = []

    def __call__(self, cut: PruningStep) -> None:
        ends = np.searchsorted(cut.numbers, [*(layer.offset for layer in self.spec.layers), self.spec.size])
        spans = [slice(a, b) for a, b in itertools.pairwise(ends)]
        # A layer of zero scores is not a cut: all flow bypasses it, or there is none.
        cuts = [total for span in spans if (total := float(cut.scores[span].sum())) > 0]
        self.counts.append([int(np.count_nonzero(cut.kept[span])) for span in spans])
        size = float(cut.scores[~cut.kept].sum())
        self.ratios.append(size / min(cuts) if cuts else 0.0)


@checked
def prune_to_cut(
    network: Network,
    method: str | ScoreFunction,
    dataset: Dataset | None = None,
    *,
    seed: int = 0,
    steps: int | None = None,
    **options: Any,
) -> tuple[float, Integers]:
    """Prune to ρ_max; return the largest prune size / cut size, and the counts after every cut.

    Theorem 3 requires that the prune size (the sum of scores pruned in a step) be less than the cut size (the
    sum of scores of a layer, here the smallest above 0) whenever possible. The counts are
    ``(cuts + 1, layers)``; the first row is the whole network.
    """
    recorder = _CutRecorder(network.spec)
    density = len(network.spec.layers) / network.spec.size
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PruningWarning)
        prune(
            network,
            method,
            density=density,
            dataset=dataset,
            seed=seed,
            steps=steps,
            callback=recorder,
            **options,
        )
    return max(recorder.ratios), np.array(recorder.counts)
