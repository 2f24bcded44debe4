"""Crossovers and mutations on whole flat masks.

Crossovers and mutations return a new read-only ``(weights,)`` mask with exactly the count of its (first)
parent, and leave no layer without a weight. One that names a parameter ``guidance`` is given what the
training of its parent revealed (of both parents, for a crossover), or None where nothing did; one that names
``temperature`` the noise of guided choices.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ticketsearch.guidance import Guidance, strongest
from ticketsearch.masks import Mask, MaskSpec, layer_counts

# The operators that have a name; layer_shuffle is importable beside them.
__all__ = ["guided_mutation", "swap_mutation", "uniform_crossover", "union_crossover"]


def swap_mutation(
    mask: Mask, *, spec: MaskSpec, rng: np.random.Generator, rate: float = 0.05, across: float = 0.1
) -> Mask:
    """Prune some kept weights and keep as many pruned ones instead.

    Parameters
    ----------
    rate : chance that a kept weight is swapped, in [0, 1]; at least one is.
    across : chance that a swapped weight may land in any layer rather than in its own (which it also does
        where its own is full).
    """
    kept = np.flatnonzero(mask)
    free = np.flatnonzero(~mask)
    swaps = min(max(1, int(rng.binomial(len(kept), rate))), len(kept), len(free))
    dropped = rng.choice(kept, swaps, replace=False)
    child = mask.copy()
    child[dropped] = False
    bounds = np.array([layer.offset for layer in spec.layers] + [spec.size])
    stay = dropped[rng.random(swaps) >= across]
    wanted = np.histogram(stay, bounds)[0]
    offered = np.histogram(free, bounds)[0]
    placed = 0
    for layer, count in zip(spec.layers, np.minimum(wanted, offered), strict=True):
        if count:
            own = free[(free >= layer.offset) & (free < layer.offset + layer.size)]
            child[rng.choice(own, count, replace=False)] = True
            placed += int(count)
    if placed < swaps:
        elsewhere = free[~child[free]]
        child[rng.choice(elsewhere, swaps - placed, replace=False)] = True
    child = _finished(child, spec, rng)
    if swaps and np.array_equal(child, mask):  # refilling an emptied layer undid the swap
        return swap_mutation(mask, spec=spec, rng=rng, rate=rate, across=across)
    return child


def guided_mutation(
    mask: Mask,
    *,
    spec: MaskSpec,
    rng: np.random.Generator,
    rate: float = 0.05,
    guidance: Guidance | None = None,
    temperature: float = 0.0,
) -> Mask:
    """Prune kept weights that training left small, and keep those that the loss pulls at instead.

    Mocanu et al. 2018 prune by the magnitude of trained weights, Evci et al. 2020 grow by that of gradients.

    Parameters
    ----------
    rate : chance that a kept weight is swapped, in [0, 1]; at least one is.
    guidance : of the mask; without it, or where it names no weight worth growing, the swaps are
        :func:`swap_mutation`'s.
    temperature : of the noise on both choices, see :func:`ticketsearch.guidance.strongest`.
    """
    if guidance is None or not len(guidance.candidates):
        return swap_mutation(mask, spec=spec, rng=rng, rate=rate)
    kept = np.flatnonzero(mask)
    swaps = min(max(1, int(rng.binomial(len(kept), rate))), len(kept), len(guidance.candidates))
    stay = strongest(guidance.saliency, len(kept) - swaps, rng, temperature)
    grown = strongest(guidance.growth, swaps, rng, temperature)
    child = np.zeros_like(mask)
    child[kept[stay]] = True
    child[guidance.candidates[grown]] = True
    child = _finished(child, spec, rng)
    if np.array_equal(child, mask):  # refilling an emptied layer undid the swap
        return swap_mutation(mask, spec=spec, rng=rng, rate=rate)
    return child


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
            child[layer.offset + rng.choice(own)] = True
            missing -= 1
    child[rng.choice(np.flatnonzero(differing & ~child), missing, replace=False)] = True
    return _finished(child, spec, rng)


def union_crossover(
    a: Mask,
    b: Mask,
    *,
    spec: MaskSpec,
    rng: np.random.Generator,
    guidance: tuple[Guidance | None, Guidance | None] = (None, None),
    temperature: float = 0.0,
) -> Mask:
    """Keep of what either parent keeps the weights that training made largest, as many as the first parent.

    A weight that both keep counts with the mean of its two magnitudes. ``guidance`` is that of the parents;
    where one has none, this is :func:`uniform_crossover`. ``temperature`` is of the noise on the choice, see
    :func:`ticketsearch.guidance.strongest`.
    """
    first, second = guidance
    if first is None or second is None:
        return uniform_crossover(a, b, spec=spec, rng=rng)
    total = np.zeros(len(a))
    total[a] += first.saliency
    total[b] += second.saliency
    union = np.flatnonzero(a | b)
    parents = a[union].astype(np.intp) + b[union]
    child = np.zeros_like(a)
    child[union[strongest(total[union] / parents, int(np.count_nonzero(a)), rng, temperature)]] = True
    return _finished(child, spec, rng)


def layer_shuffle(mask: Mask, *, spec: MaskSpec, rng: np.random.Generator) -> Mask:
    """Return a uniformly random mask with the same number of kept weights in each layer.

    The control of Frankle et al. 2021 and Su et al. 2020: what it keeps of a mask is its layer densities,
    exactly, so a layer that is empty stays empty.
    """
    child = np.zeros(spec.size, dtype=np.bool_)
    for layer, count in zip(spec.layers, layer_counts(mask, spec), strict=True):
        child[layer.offset + rng.choice(layer.size, int(count), replace=False, shuffle=False)] = True
    child.flags.writeable = False
    return child


def _finished(child: NDArray[np.bool_], spec: MaskSpec, rng: np.random.Generator) -> Mask:
    """Give each emptied layer one weight, taken from the layer that keeps most."""
    counts = layer_counts(child, spec)
    for index in np.flatnonzero(counts == 0):
        richest = int(counts.argmax())
        if counts[richest] < 2:
            break  # fewer weights than layers: some layer must stay empty
        giver, taker = spec.layers[richest], spec.layers[index]
        child[giver.offset + rng.choice(np.flatnonzero(child[giver.slice]))] = False
        child[taker.offset + rng.integers(taker.size)] = True
        counts[richest] -= 1
        counts[index] += 1
    child.flags.writeable = False
    return child
