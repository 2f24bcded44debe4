"""Crossovers, weight by weight and neuron by neuron."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ticketsearch.masks import Guidance, Mask, MaskSpec, random_choice, readable_first, strongest
from ticketsearch.operators.finishing import finished

__all__ = ["neuron_crossover", "uniform_crossover", "union_crossover"]


def uniform_crossover(a: Mask, b: Mask, *, spec: MaskSpec, rng: np.random.Generator) -> Mask:
    """Keep what both parents keep, and fill up to the first parent's count with a random part of what
    only one of them keeps."""
    child = a & b
    differing = a ^ b
    missing = int(np.count_nonzero(a)) - int(np.count_nonzero(child))
    for layer in spec.layers:
        own = np.flatnonzero(differing[layer.slice])
        if missing and len(own) and not child[layer.slice].any():
            # Parents that agree on nothing here: one weight comes first, so that the layer is not emptied.
            child[rng.choice(readable_first(layer.offset + own, spec))] = True
            missing -= 1
    child[random_choice(np.flatnonzero(differing & ~child), missing, spec=spec, rng=rng)] = True
    return finished(child, spec, rng)


def union_crossover(
    a: Mask,
    b: Mask,
    *,
    spec: MaskSpec,
    rng: np.random.Generator,
    guidance: tuple[Guidance | None, Guidance | None] = (None, None),
    temperature: float = 0.0,
) -> Mask:
    """Keep of what either parent keeps the most salient weights, as many as the first parent.

    A weight that both keep counts with the mean of its two saliencies. ``guidance`` is that of the parents;
    where one has none, this is :func:`uniform_crossover`. ``temperature`` is of the noise on the choice, see
    :func:`ticketsearch.masks.guidance.strongest`.
    """
    first, second = guidance
    if first is None or second is None:
        return uniform_crossover(a, b, spec=spec, rng=rng)
    union = np.flatnonzero(a | b)
    values = _pooled(a, b, first, second, spec)[union]
    child = np.zeros_like(a)
    child[union[strongest(values, int(np.count_nonzero(a)), rng, temperature)]] = True
    return finished(child, spec, rng)


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

    Where that is more than the first parent keeps, the least salient weights go; where it is less, the most
    salient of what either parent keeps come too. A weight that both keep counts with the mean of
    its two saliencies. Without the ``guidance`` of both parents the choice is uniform. ``temperature`` is of
    the noise on it, see :func:`ticketsearch.masks.guidance.strongest`.
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
    return finished(child, spec, rng)


def _pooled(a: Mask, b: Mask, first: Guidance, second: Guidance, spec: MaskSpec) -> NDArray[np.float64]:
    """Return ``(weights,)`` saliencies of what either parent keeps, of what both keep the mean; else 0.

    That of a weight that reads padding alone is 0, however large it was drawn.
    """
    total = np.zeros(len(a))
    total[a] += first.saliency
    total[b] += second.saliency
    total[a & b] /= 2
    return total * spec.readable
