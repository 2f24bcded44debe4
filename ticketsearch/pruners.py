"""Pruners: saliency scores of a network's weights, and the loop that turns scores into a mask.

A score function takes the network as masked so far and returns ``{layer name: scores}``; the loop asks it
again after each cut. Larger scores are kept.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ticketsearch.datasets import Dataset
from ticketsearch.errors import BadInput, unknown
from ticketsearch.masks import Mask, MaskSpec, layer_counts
from ticketsearch.models import Network
from ticketsearch.names import check_options, listed, resolve
from ticketsearch.streams import Stream, seed_sequence
from ticketsearch.training import one_thread

# The pruners that have a name; prune and LayerCollapseWarning are importable beside them.
__all__ = ["magnitude", "random", "synflow"]

Batch = tuple[Tensor, Tensor]
ScoreFunction = Callable[..., dict[str, Tensor]]
Scope = Literal["global", "layer"]
Schedule = Literal["exponential", "linear", "one_shot"]


class LayerCollapseWarning(UserWarning):
    """A pruner left a layer without any weight."""


class Flow(NamedTuple):
    """A vector of non-negative flows: ``mantissa * 2 ** exponent``, so that no depth overflows."""

    mantissa: Tensor
    exponent: int


def synflow(
    network: Network,
    mask: dict[str, Tensor],
    batch: Batch | None,
    *,
    rng: np.random.Generator,
    biases: bool = False,
) -> dict[str, Tensor]:
    """Return the synaptic-flow scores of every weight (Tanaka et al. 2020, equation 6 of the seed note).

    R is the sum of the outputs of the network with weights |θ ⊙ mask|, identity activations and an
    all-ones input; a weight's score is ∂R/∂θ ⊙ θ = |w| · (flow into its source) · (flow out of its target).
    Computed in float64 with a power of two carried along each flow; all layers share one scale, so scores
    may be compared between layers. Data are not used. ``biases`` lets |bias| feed the flow, as the
    authors' code does; that breaks the conservation law and can collapse layers. It matters where biases
    start non-zero, as under ``as_built``; the other schemes put them to zero.
    """
    weights = [_absolute_weight(network, mask, layer.name) for layer in network.spec.layers]
    offsets = [network.wiring.biases[i] if biases else None for i in range(len(weights))]
    parameters = network.parameters() if biases else {}

    def linear(layer: int, flow: Flow) -> Flow:
        out = _normalized(weights[layer] @ flow.mantissa, flow.exponent)
        name = offsets[layer]
        return out if name is None else _sum_flows(out, Flow(parameters[name].double().abs(), 0))

    inputs = torch.ones(network.spec.groups[0].size, dtype=torch.float64)
    forward = network.wiring.run(Flow(inputs, 0), linear=linear, elementwise=lambda _, f: f, add=_sum_flows)
    backward = _backward_flows(network, weights)
    scores: list[tuple[Tensor, int]] = [(torch.empty(0), 0)] * len(weights)
    for step, out in zip(network.wiring.steps, backward, strict=True):
        if step.operation == "linear":
            into = forward[step.inputs[0]]
            score = weights[step.layer] * out.mantissa[:, None] * into.mantissa
            scores[step.layer] = (score, into.exponent + out.exponent)
    top = max((e + _exponent(s) for s, e in scores if s.any()), default=0)
    return {
        layer.name: _scaled(score, exponent - top)
        for layer, (score, exponent) in zip(network.spec.layers, scores, strict=True)
    }


def magnitude(
    network: Network, mask: dict[str, Tensor], batch: Batch | None, *, rng: np.random.Generator
) -> dict[str, Tensor]:
    """Return |θ|, the scores of magnitude pruning at initialization (Han et al. 2015). No data are used."""
    return {layer.name: _absolute_weight(network, mask, layer.name) for layer in network.spec.layers}


def random(
    network: Network, mask: dict[str, Tensor], batch: Batch | None, *, rng: np.random.Generator
) -> dict[str, Tensor]:
    """Return independent uniform scores: a uniformly random mask of the count asked for. No data are used."""
    return {
        layer.name: torch.from_numpy(rng.random(layer.shape)) * mask[layer.name]
        for layer in network.spec.layers
    }


def prune(
    network: Network,
    method: str | ScoreFunction,
    *,
    density: float,
    dataset: Dataset | None = None,
    seed: int = 0,
    scope: Scope = "global",
    schedule: Schedule = "exponential",
    steps: int = 100,
    batch: int = 256,
    **options: Any,
) -> Mask:
    """Return the mask that a pruner leaves of a network, with exactly ``round(density * size)`` ones.

    After step ``k < steps`` of the exponential schedule ``N - floor((1 - density^(k/steps)) * N)`` weights
    are kept, as in the SynFlow authors' code (Tanaka et al. 2020, algorithm 1); what a step prunes never
    comes back. Ties go to the smaller index.

    Parameters
    ----------
    network : never written to.
    method : ``"synflow"``, ``"magnitude"``, ``"random"``, ``"file.py:function"``, or a score function
        ``scores(network, mask, batch, *, rng, **options) -> {layer name: tensor of the layer's shape}``.
    density : kept / total, in (0, 1]; at least one weight a layer must fit.
    dataset : its training part gives the batch ``(x, y)`` that a data-dependent pruner scores on.
    seed : of the score function's ``rng`` and the choice of the batch.
    scope : ``"global"`` compares all weights, ``"layer"`` keeps the density in each layer.
    schedule : ``"exponential"``, ``"linear"`` (in the density) or ``"one_shot"``.
    steps : number of cuts; ignored for ``one_shot``.
    batch : samples in the batch.
    options : of the score function.

    Returns the ``(weights,)`` bool mask, read-only. Warns with :class:`LayerCollapseWarning` if a layer is
    left empty. Raises :class:`BadInput` for a bad argument or scores that are not finite.
    """
    spec = network.spec
    if callable(method):
        scores, name = method, getattr(method, "__name__", "pruner")
    else:
        scores, name = named(method), method
    check_options(scores, options, "pruner", name, ("rng",))
    target = check_density(density, spec)
    for word, value, known in (("scope", scope, Scope), ("schedule", schedule, Schedule)):
        if value not in get_args(known):
            raise unknown(word, value, get_args(known))
    if steps < 1:
        raise BadInput(f"pruning takes at least 1 step, but got steps={steps}")
    rng = np.random.default_rng(seed_sequence(seed, Stream.PRUNING))
    samples = None if dataset is None else _batch(dataset, batch, rng)

    def score(kept: Mask) -> NDArray[np.float64]:
        # Of a copy: a score function may keep its mask or write to it.
        masked = {key: torch.from_numpy(part) for key, part in spec.split(kept.copy()).items()}
        return _flat_scores(scores(network, masked, samples, rng=rng, **options), spec, name)

    with one_thread():  # the products are small: threads make them slower, many times so where cores are busy
        kept = _cut(score, spec, _fractions(density, schedule, steps), scope, target)
    empty = [layer.name for layer, n in zip(spec.layers, layer_counts(kept, spec), strict=True) if n == 0]
    if empty:
        warnings.warn(
            f"{name} at density {density:g} left no weight in {', '.join(empty)}: layer collapse",
            LayerCollapseWarning,
            stacklevel=2,
        )
    kept.flags.writeable = False
    return kept


def _cut(
    score: Callable[[Mask], NDArray[np.float64]],
    spec: MaskSpec,
    fractions: list[float],
    scope: Scope,
    target: int,
) -> NDArray[np.bool_]:
    """Score and cut once for each fraction to keep; the last cut leaves exactly ``target`` weights."""
    kept = np.ones(spec.size, dtype=np.bool_)
    for step, fraction in enumerate(fractions, start=1):
        before = kept.copy()
        scores = score(kept)
        for part in _parts(spec, scope):
            size = part.stop - part.start
            count = size - math.floor((1.0 - fraction) * size)
            if step == len(fractions):
                count = target if scope == "global" else max(1, round(fraction * size))
            kept[part] = keep_largest(scores[part], kept[part], count)
    if scope == "layer":
        _correct_total(kept, before, scores, spec, target)
    return kept


def check_density(density: float, spec: MaskSpec) -> int:
    """Return ``round(density * size)``, the number of weights a mask of this density keeps.

    Raises :class:`BadInput` for a density outside (0, 1] or too low for one weight a layer.
    """
    if not 0 < density <= 1:
        raise BadInput(f"density is kept / total, in (0, 1], but got {density:g}")
    count = round(density * spec.size)
    if count < len(spec.layers):
        raise BadInput(
            f"density {density:g} keeps {count} of {spec.size} weights, too few for one in each of "
            f"{len(spec.layers)} layers; the lowest density here is {len(spec.layers) / spec.size:.3g}"
        )
    return count


def keep_largest(scores: NDArray[np.float64], kept: Mask, count: int) -> Mask:
    """Return ``kept`` cut to its ``count`` largest scores, ties to the smaller index; all ``(weights,)``."""
    indices = np.flatnonzero(kept)
    result = np.zeros_like(kept)
    if count >= len(indices):
        result[indices] = True
        return result
    if count > 0:
        candidates = scores[indices]
        threshold = np.partition(candidates, len(indices) - count)[len(indices) - count]
        above = candidates > threshold
        result[indices[above]] = True
        tied = indices[candidates == threshold]
        result[tied[: count - np.count_nonzero(above)]] = True
    return result


def named(method: str) -> ScoreFunction:
    """Return the score function of a name; raises :class:`BadInput` for an unknown one."""
    return resolve(method, listed(sys.modules[__name__]), "pruner", ("network", "mask", "batch"))


def _fractions(density: float, schedule: Schedule, steps: int) -> list[float]:
    if schedule == "one_shot":
        return [density]
    if schedule == "linear":
        return [*(1.0 - (1.0 - density) * k / steps for k in range(1, steps)), density]
    return [*(density ** (k / steps) for k in range(1, steps)), density]


def _parts(spec: MaskSpec, scope: Scope) -> list[slice]:
    return [slice(0, spec.size)] if scope == "global" else [layer.slice for layer in spec.layers]


def _correct_total(
    kept: Mask, before: Mask, scores: NDArray[np.float64], spec: MaskSpec, target: int
) -> None:
    """Take back what rounding layer by layer kept too much, or give what it kept too little, largest layer
    first: the total is exact and no layer changes by more than rounding does. Only what the last step
    pruned (``before`` it: True) is given back."""
    by_size = sorted(spec.layers, key=lambda layer: -layer.size)
    excess = int(np.count_nonzero(kept)) - target
    turn = 0
    while excess:
        part = by_size[turn % len(by_size)].slice
        count = int(np.count_nonzero(kept[part]))
        if excess > 0 and count > 1:
            kept[part] = keep_largest(scores[part], kept[part], count - 1)
            excess -= 1
        elif excess < 0 and (before[part] & ~kept[part]).any():
            free = np.flatnonzero(before[part] & ~kept[part])
            kept[part.start + free[np.argmax(scores[part][free])]] = True
            excess += 1
        turn += 1


def _batch(dataset: Dataset, size: int, rng: np.random.Generator) -> Batch:
    if size < 1:
        raise BadInput(f"a batch holds at least 1 sample, but got batch={size}")
    chosen = torch.from_numpy(rng.permutation(len(dataset.y_train))[:size])
    return dataset.x_train[chosen], dataset.y_train[chosen]


def _flat_scores(parts: Any, spec: MaskSpec, name: str) -> NDArray[np.float64]:
    if not isinstance(parts, dict):
        raise BadInput(f"pruner {name!r} must return {{layer name: scores}}, but gave {type(parts).__name__}")
    flat = np.empty(spec.size, dtype=np.float64)
    for layer in spec.layers:
        part = parts.get(layer.name)
        if not isinstance(part, Tensor) or tuple(part.shape) != layer.shape:
            kind = "nothing" if part is None else type(part).__name__
            got = f"shape {tuple(part.shape)}" if isinstance(part, Tensor) else kind
            raise BadInput(
                f"pruner {name!r} must score {layer.name} by a tensor of shape {layer.shape}, but gave {got}"
            )
        scores = part.detach().cpu().double().numpy()
        if not np.isfinite(scores).all():
            bad = int(np.count_nonzero(~np.isfinite(scores)))
            raise BadInput(f"scores must be finite, but {name!r} gave {bad} that are not in {layer.name}")
        flat[layer.slice] = scores.ravel()
    return flat


def _absolute_weight(network: Network, mask: dict[str, Tensor], name: str) -> Tensor:
    return network.module.get_parameter(name).detach().double().abs() * mask[name]


def _backward_flows(network: Network, weights: list[Tensor]) -> list[Flow]:
    """Return for every step the flow from its value to the sum of the outputs."""
    steps = network.wiring.steps
    flows: list[Flow | None] = [None] * len(steps)
    outputs = network.spec.groups[network.spec.nodes[-1].group].size
    flows[-1] = Flow(torch.ones(outputs, dtype=torch.float64), 0)
    for index in range(len(steps) - 1, 0, -1):
        step, flow = steps[index], flows[index]
        assert flow is not None  # the wiring keeps only steps that reach the output
        if step.operation == "linear":
            flow = _normalized(weights[step.layer].T @ flow.mantissa, flow.exponent)
        for source in step.inputs:
            known = flows[source]
            flows[source] = flow if known is None else _sum_flows(known, flow)
    return [flow for flow in flows if flow is not None]


def _exponent(values: Tensor) -> int:
    return int(torch.frexp(values.max()).exponent)


def _scaled(values: Tensor, exponent: int) -> Tensor:
    return values * math.ldexp(1.0, min(exponent, 1023))


def _normalized(mantissa: Tensor, exponent: int) -> Flow:
    """Scale by a power of two, which rounds nothing, so that the largest flow lies in [0.5, 1)."""
    if not mantissa.any():
        return Flow(mantissa, 0)
    shift = _exponent(mantissa)
    return Flow(_scaled(mantissa, -shift), exponent + shift)


def _sum_flows(a: Flow, b: Flow) -> Flow:
    """Add two flows at the larger of their scales."""
    if not a.mantissa.any():
        return b
    if not b.mantissa.any():
        return a
    top = max(a.exponent, b.exponent)
    return _normalized(_scaled(a.mantissa, a.exponent - top) + _scaled(b.mantissa, b.exponent - top), top)
