"""Swaps of weights by what training revealed of the mask."""

from __future__ import annotations

import numpy as np

from ticketsearch.masks import Guidance, Mask, MaskSpec, strongest
from ticketsearch.operators.finishing import finished
from ticketsearch.operators.swaps import swap_mutation

__all__ = ["guided_mutation"]


def guided_mutation(
    mask: Mask,
    *,
    spec: MaskSpec,
    rng: np.random.Generator,
    rate: float = 0.05,
    guidance: Guidance | None = None,
    temperature: float = 0.0,
) -> Mask:
    """Prune the least salient of the kept weights, and keep instead those whose growth promises most.

    Mocanu et al. 2018 prune by the magnitude of trained weights, Evci et al. 2020 grow by that of gradients;
    for other saliencies see :class:`ticketsearch.masks.guidance.Guidance`.

    Parameters
    ----------
    rate : chance that a kept weight is swapped, in [0, 1]; at least one is.
    guidance : of the mask; without it, or where it names no weight worth growing, the swaps are
        :func:`swap_mutation`'s.
    temperature : of the noise on both choices, see :func:`ticketsearch.masks.guidance.strongest`.
    """
    # Weights that read padding alone go first, and none of them is grown.
    open_to = None if guidance is None else spec.readable[guidance.candidates]
    if guidance is None or open_to is None or not open_to.any():
        return swap_mutation(mask, spec=spec, rng=rng, rate=rate)
    kept, candidates = np.flatnonzero(mask), guidance.candidates[open_to]
    swaps = min(max(1, int(rng.binomial(len(kept), rate))), len(kept), len(candidates))
    stay = strongest(guidance.saliency * spec.readable[kept], len(kept) - swaps, rng, temperature)
    grown = strongest(guidance.growth[open_to], swaps, rng, temperature)
    child = np.zeros_like(mask)
    child[kept[stay]] = True
    child[candidates[grown]] = True
    child = finished(child, spec, rng)
    if np.array_equal(child, mask):  # refilling an emptied layer undid the swap
        return swap_mutation(mask, spec=spec, rng=rng, rate=rate)
    return child
