"""The audit of pruners on a network: conservation of their scores, and their critical compression."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ticketsearch.checks import checked
from ticketsearch.datasets import Dataset
from ticketsearch.errors import BadInput
from ticketsearch.masks import Mask, MaskSpec, layer_counts
from ticketsearch.models import Network
from ticketsearch.pruners import (
    PruningWarning,
    find_reward,
    mask_of_scores,
    prune,
    schedule_steps,
    scores_at_once,
    scores_of,
    scoring_batch,
)
from ticketsearch.theory.compression import (
    Critical,
    collapsed,
    critical_at_once,
    critical_compression,
    disconnected,
    prune_to_cut,
    rho_max,
)
from ticketsearch.theory.conservation import Conservation, conservation, saliency_conservation
from ticketsearch.typing import Floats, Integers

__all__ = ["Curve", "MethodAudit", "audit"]

# Samples of the check of the signed saliency: conservation holds on any, and all values are stored.
SAMPLES = 64
# Points of the curve of a pruner that scores once, and of a pruner that scores once for each count.
POINTS, FEW = 60, 20
# Compressions at which masks are checked for empty layers and disconnection.
LANDMARKS = (10.0, 100.0, 1000.0, 10000.0)


@dataclass(frozen=True, eq=False)
class Curve:
    """Density of each layer against compression, up to ρ_max.

    Attributes
    ----------
    compression : (points,) ρ = N / kept, ascending.
    density : (points, layers) kept / total of each layer.
    """

    compression: Floats
    density: Floats

    @property
    def collapse(self) -> float:
        """The smallest compression of the curve with an empty layer; infinite if there is none."""
        empty = (self.density == 0).any(1)
        return float(self.compression[empty][0]) if empty.any() else float("inf")


@dataclass(frozen=True, eq=False)
class MethodAudit:
    """The audit of one pruner.

    Attributes
    ----------
    method : its name.
    used : conservation of its scores as it uses them.
    signed : conservation of the signed saliency under the same loss, for ``snip``; None for other pruners.
    critical : ρ_cr, ρ_max, and whether the axiom of maximal critical compression holds.
    prune_to_cut : largest prune size / cut size up to ρ_max; theorem 3 requires less than 1. None for a
        pruner that scores once.
    curve : density of each layer against compression.
    empty : ``{compression: names of the empty layers}`` of masks at ρ = 10, 100, … and at ρ_max.
    disconnected : the compressions among these at which no path leads from inputs to outputs.
    """

    method: str
    used: Conservation
    signed: Conservation | None
    critical: Critical
    prune_to_cut: float | None
    curve: Curve
    empty: Mapping[float, tuple[str, ...]]
    disconnected: tuple[float, ...]


@checked
def audit(
    network: Network,
    methods: Sequence[str],
    dataset: Dataset | None = None,
    *,
    seed: int = 0,
    steps: int | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> Iterator[MethodAudit]:
    """Yield the audit of each pruner on a network, under global scope.

    Parameters
    ----------
    methods : names of pruners; data-dependent ones need a dataset.
    seed : of the pruners.
    steps : cuts of the iterative pruners; None is each pruner's default (100 for ``synflow``). Pruners that
        score once stay one-shot.
    options : of the pruners, by name.

    Raises :class:`BadInput` as :func:`ticketsearch.prune` does.
    """
    for method in methods:
        method_options = dict((options or {}).get(method, {}))
        cuts = schedule_steps(method, 1 / rho_max(network.spec))
        cuts = cuts if steps is None or cuts == 1 else steps
        yield _audited(network, method, dataset, seed, cuts, method_options)


def _audited(
    network: Network, method: str, dataset: Dataset | None, seed: int, steps: int, options: dict[str, Any]
) -> MethodAudit:
    spec = network.spec
    scores = scores_at_once(network, method, dataset=dataset, seed=seed, steps=steps, **options)
    first = scores_of(network, method, dataset=dataset, seed=seed, **options) if scores is None else scores
    used, signed = _conservation(network, method, first, dataset, seed, options)
    if scores is None:
        critical = critical_compression(network, method, dataset, seed=seed, steps=steps, **options)
    else:
        critical = critical_at_once(scores, spec)

    def pruned(count: int) -> Mask:
        if scores is not None:
            return mask_of_scores(scores, count, seed=seed, initialization=network.initialization)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PruningWarning)
            density = count / spec.size
            return prune(network, method, density=density, dataset=dataset, seed=seed, steps=steps, **options)

    if steps > 1:
        ratio, counts = prune_to_cut(network, method, dataset, seed=seed, steps=steps, **options)
    else:
        ratio = None
        wanted = _counts(spec, critical, FEW if scores is None else POINTS)
        counts = np.array([layer_counts(pruned(count), spec) for count in wanted])
    if (first < 0).any():
        ratio = None  # theorem 3 is about positive scores
    empty, cut_off = {}, []
    for rho in [*(rho for rho in LANDMARKS if rho < rho_max(spec)), rho_max(spec)]:
        mask = pruned(round(spec.size / rho))
        empty[rho] = tuple(collapsed(mask, spec))
        if disconnected(mask, spec):
            cut_off.append(rho)
    curve = _curve(spec, counts)
    return MethodAudit(method, used, signed, critical, ratio, curve, empty, tuple(cut_off))


def _counts(spec: MaskSpec, critical: Critical, points: int) -> list[int]:
    """Return the counts of a curve, descending: evenly spaced in log ρ, and the two around the collapse."""
    even = np.round(spec.size / rho_max(spec) ** np.linspace(0, 1, points)).astype(np.int64)
    last = [critical.kept, max(critical.kept - 1, len(spec.layers))]
    return [int(count) for count in np.unique([*even, *last])[::-1]]


def _conservation(
    network: Network,
    method: str,
    scores: Floats,
    dataset: Dataset | None,
    seed: int,
    options: dict[str, Any],
) -> tuple[Conservation, Conservation | None]:
    """Return the conservation of a pruner's scores of the whole network, and of the signed saliency."""
    everything = np.ones(network.spec.size, dtype=np.bool_)
    used = conservation(scores, network)
    if not network.wiring.steps:
        return used, None
    if method == "synflow" and not options:
        with suppress(BadInput):  # R may exceed float64: the cuts of the pruner's scores are used then
            flow = saliency_conservation(network, everything, None)
            # The pruner's scores give the neurons and cut layers; the same flow gives the shortcuts.
            used = used._replace(network=max(used.network, flow.network), cuts=flow.cuts)
    if method not in ("snip", "saliency") or dataset is None:
        return used, None
    # A bias or shift counts as incoming, which the scores of the weights alone do not contain.
    batch = scoring_batch(dataset, SAMPLES, seed)
    if method == "saliency":
        reward, absolute = find_reward(options.get("reward", "logit")), bool(options.get("absolute", False))
        return saliency_conservation(network, everything, reward, batch, absolute=absolute), None
    return used, saliency_conservation(network, everything, torch.nn.functional.cross_entropy, batch)


def _curve(spec: MaskSpec, counts: Integers) -> Curve:
    sizes = np.array([layer.size for layer in spec.layers])
    return Curve(spec.size / counts.sum(1), counts / sizes)
