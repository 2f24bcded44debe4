"""Crossovers of weights, and of the fan-ins of neurons."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ticketsearch.masks import Guidance, Mask, MaskSpec, random_choice, readable_first, strongest
from ticketsearch.operators.refill import refill_empty_layers

__all__ = ["neuron_crossover", "uniform_crossover", "union_crossover"]


def uniform_crossover(a: Mask, b: Mask, *, spec: MaskSpec, rng: np.random.Generator) -> Mask:
    """Keep the weights that both parents keep, and a random part of the weights that one parent keeps.

    Uniform crossover (Syswerda 1989, "Uniform crossover in genetic algorithms") with a fixed weight count: of
    the weights in which the parents differ, as many are drawn as the first parent's count requires.
    """
    child = a & b
    differing = a ^ b
    missing = int(np.count_nonzero(a)) - int(np.count_nonzero(child))
    for layer in spec.layers:
        candidates = np.flatnonzero(differing[layer.slice])
        if missing and len(candidates) and not child[layer.slice].any():
            # The parents have no weight in common here: one is drawn first, so that the layer is not empty.
            child[rng.choice(readable_first(layer.offset + candidates, spec))] = True
            missing -= 1
    child[random_choice(np.flatnonzero(differing & ~child), missing, spec=spec, rng=rng)] = True
    return refill_empty_layers(child, spec, rng)


def union_crossover(
    a: Mask,
    b: Mask,
    *,
    spec: MaskSpec,
    rng: np.random.Generator,
    guidance: tuple[Guidance | None, Guidance | None] = (None, None),
    temperature: float = 0.0,
) -> Mask:
    """Keep the most salient weights in the union of both parents, as many as the first parent has.

    The saliency of a weight that both parents keep is the mean of its two values.

    Parameters
    ----------
    a, b : parents, ``(weights,)`` bool.
    guidance : that of each parent; without either, this is :func:`uniform_crossover`.
    temperature : scale of the noise on the choice; see :func:`ticketsearch.masks.guidance.strongest`.
    """
    first, second = guidance
    if first is None or second is None:
        return uniform_crossover(a, b, spec=spec, rng=rng)
    union = np.flatnonzero(a | b)
    values = _pooled(a, b, first, second, spec)[union]
    child = np.zeros_like(a)
    child[union[strongest(values, int(np.count_nonzero(a)), rng, temperature)]] = True
    return refill_empty_layers(child, spec, rng)


def neuron_crossover(
    a: Mask,
    b: Mask,
    *,
    spec: MaskSpec,
    rng: np.random.Generator,
    guidance: tuple[Guidance | None, Guidance | None] = (None, None),
    temperature: float = 0.0,
) -> Mask:
    """Take the whole fan-in of each neuron, hidden or output, from one parent or the other by a fair coin.

    The child is then brought to the first parent's weight count: the least salient weights are pruned, or the
    most salient ones in the union of both parents are added. The saliency of a weight that both parents keep
    is the mean of its two values.

    Parameters
    ----------
    a, b : parents, ``(weights,)`` bool.
    guidance : that of each parent; without either, weights are pruned or added uniformly at random.
    temperature : scale of the noise on the choice; see :func:`ticketsearch.masks.guidance.strongest`.
    """
    taken = np.zeros(spec.size, dtype=np.bool_)
    coins = [rng.random(group.size) < 0.5 for group in spec.groups]
    for piece in spec.pieces:
        spec.window(piece, taken)[coins[piece.target]] = True
    child = np.where(taken, b, a)
    first, second = guidance
    if first is None or second is None:
        values, temperature = spec.readable.astype(np.float64), 1.0
    else:
        values = _pooled(a, b, first, second, spec)
    missing = int(np.count_nonzero(a)) - int(np.count_nonzero(child))
    pool = np.flatnonzero((a | b) & ~child if missing > 0 else child)
    chosen = strongest(values[pool], missing if missing > 0 else len(pool) + missing, rng, temperature)
    child[pool] = False
    child[pool[chosen]] = True
    return refill_empty_layers(child, spec, rng)


def _pooled(a: Mask, b: Mask, first: Guidance, second: Guidance, spec: MaskSpec) -> NDArray[np.float64]:
    """Return ``(weights,)`` saliencies in the union of two masks, means where both keep a weight; else 0.

    A weight that reads padding alone has saliency 0, whatever its initial value.
    """
    total = np.zeros(len(a))
    total[a] += first.saliency
    total[b] += second.saliency
    total[a & b] /= 2
    return total * spec.readable
