"""Flow retention: the flow of a mask relative to the best flow of any mask of the same count.

The commentary of Ross's notes asks to compare the score with the optimum for that network.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike

from ticketsearch.checks import checked
from ticketsearch.masks import check_mask
from ticketsearch.models import Network
from ticketsearch.pruners.batching import Copies
from ticketsearch.pruners.flow import FlowNetwork
from ticketsearch.pruners.flow_preserving import ROUNDS, TRIES, FlowSearch, log2_of, log_flow
from ticketsearch.typing import Floats
from ticketsearch.wiring import Step, Wiring

__all__ = ["Retention", "best_flow", "flow_retention", "retention_kind"]

# Additions of the knapsack that take about a second; for more the bound is used.
MOST_WORK = 1_000_000_000


class Retention(NamedTuple):
    """The share of the best flow that a mask keeps.

    Attributes
    ----------
    value : R(mask) / R*, in [0, 1]: exact, or a lower bound if ``kind`` is ``bound``, or an upper bound if it
        is ``search``.
    flow : log2 R(mask), −inf where nothing flows.
    optimum : log2 R*, the best flow of any mask of that count.
    kind : the source of R*. ``exact``: dynamic programming over the neurons of a single hidden layer.
        ``bound``: an upper bound from cuts. ``search``: the best mask of a search.
    """

    value: float
    flow: float
    optimum: float
    kind: Literal["exact", "bound", "search"]


@checked
def flow_retention(mask: ArrayLike, network: Network) -> Retention:
    """Return R(mask) / R*(count) of a ``(weights,)`` mask: its share of the best flow at its count.

    R is SynFlow's (equation 6 of Ross's notes); :func:`best_flow` explains R*.
    Raises :class:`BadInput` for another shape, or a network whose computation is not known.
    """
    checked = check_mask(mask, network.spec)
    flow = log_flow(network, checked)
    optimum, kind = best_flow(network, int(np.count_nonzero(checked)))
    if kind == "search":
        optimum = max(optimum, flow)
    value = 2.0 ** (flow - optimum) if flow > -math.inf else 0.0
    if 1 < value < 1 + 1e-9:  # rounding
        value = 1.0
    return Retention(value, flow, optimum, kind)


def best_flow(network: Network, count: int) -> tuple[float, Literal["exact", "bound", "search"]]:
    """Return log2 of R*, the best flow of any mask that keeps ``count`` weights, and the source of R*.

    With one hidden layer R is a sum over its neurons of (sum of kept |weights| in) x (sum of kept |weights|
    out). A neuron of m weights is best given its largest ones, k in and m - k out, for the best k; the number
    of weights of each neuron is a knapsack problem, solved exactly unless the layer is too large.

    With more layers R* is bounded: no weight's score rises when others are pruned, so where all flow passes
    layer l, R(mask) = the sum of its kept scores <= the sum of their *dense* scores <= T_l(n_l), the sum of
    the n_l largest. Hence R* <= max over n_1 + n_2 + … = count of min over l of T_l(n_l).
    The bound is loose where flow bypasses some layer (shortcuts), and it does not hold with max-pooling,
    where scores may rise when weights are pruned, or before products, where the scores of a layer do not sum
    to R. There R* is the best flow that the search of :func:`flow_preserving` finds.
    """
    kind = retention_kind(network, count)
    dense = FlowNetwork(Copies([network]), [np.arange(network.spec.size)])
    total = log2_of(dense.flow())
    if kind == "exact":
        first, second = (layer.dense for layer in dense.layers)
        assert first is not None  # a layer that keeps all its weights has a dense matrix
        assert second is not None
        best = _knapsack(first[0].numpy(), second[0].numpy(), count)
        everything = float((first[0].sum(1) * second[0].sum(0)).sum())
        # The factor of the maps between the layers: R of the whole network over R of the layers alone.
        factor = total - _log2(everything) if everything else 0.0
        return _log2(best) + factor, kind
    if total == -math.inf:
        return total, kind
    if kind == "bound":
        sums = []
        for scores, exponent in dense.layer_scores():
            shares = np.ldexp(scores, int(exponent[0] - math.floor(total))) / 2.0 ** (total % 1)
            sums.append(np.cumsum(np.sort(shares)[::-1]))
        return total + _log2(_waterfill(sums, count)), kind
    every = np.ones(network.spec.size, dtype=np.bool_)
    mask = FlowSearch(network, every, count, 0, np.random.default_rng(0)).best(ROUNDS, TRIES)
    return log_flow(network, mask), kind


def retention_kind(network: Network, count: int = 0) -> Literal["exact", "bound", "search"]:
    """Return the source of :func:`best_flow` for a network's masks of ``count`` weights."""
    wiring = network.wiring
    operations = {step.operation for step in wiring.steps}
    plain = operations <= {"input", "linear", "elementwise", "dropout"}
    if wiring.dense and plain and len(network.spec.layers) == 2:
        inputs, hidden, outputs = (group.size for group in network.spec.groups)
        return "exact" if hidden * (inputs + outputs) * count <= MOST_WORK else "bound"
    linear = all(_is_linear(wiring, step) for step in wiring.steps if step.operation == "spatial")
    chain = len(wiring.cut_layers) == len(network.spec.layers)
    linear = linear and not operations & {"multiply", "maximum", "minimum"}
    return "bound" if chain and linear else "search"


def _log2(value: float) -> float:
    return math.log2(value) if value > 0 else -math.inf


def _is_linear(wiring: Wiring, step: Step) -> bool:
    """Whether a spatial step is linear, judged by two random values; max-pooling is not."""
    generator = torch.Generator().manual_seed(0)
    shape = (1, *wiring.steps[step.inputs[0]].shape)
    a, b = (torch.randn(shape, dtype=torch.float64, generator=generator) for _ in range(2))
    return torch.allclose(step.function(a) + step.function(b), step.function(a + b))


def _knapsack(first: Floats, second: Floats, count: int) -> float:
    """Return the best flow through one hidden layer of weights (hidden, inputs) and (outputs, hidden)."""
    reached = np.full(count + 1, -np.inf)
    reached[0] = 0.0
    seen = 0  # weights of the neurons so far, the most that can have been assigned
    for incoming, outgoing in zip(np.abs(first), np.abs(second).T, strict=True):
        sums = [np.concatenate([[0.0], np.cumsum(np.sort(w)[::-1])]) for w in (incoming, outgoing)]
        best = np.zeros(len(incoming) + len(outgoing) + 1)
        for k, value in enumerate(sums[0]):
            part = best[k : k + len(sums[1])]
            np.maximum(part, value * sums[1], out=part)
        before = reached[: seen + 1].copy()
        for m in range(2, min(len(best) - 1, count) + 1):
            end = min(count + 1, m + len(before))
            np.maximum(reached[m:end], before[: end - m] + best[m], out=reached[m:end])
        seen = min(count, seen + len(best) - 1)
    return float(reached.max())


def _waterfill(sums: list[Floats], count: int) -> float:
    """Return the largest t for which ``count`` weights hold a share t of the flow in each layer."""
    low, high = 0.0, min(float(held[-1]) for held in sums)
    for _ in range(100):
        middle = (low + high) / 2
        needed = sum(int(np.searchsorted(held, middle)) + 1 for held in sums)
        low, high = (middle, high) if needed <= count else (low, middle)
    return high
