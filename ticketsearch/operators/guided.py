"""Mutation that swaps weights by saliency and growth scores."""

from __future__ import annotations

import numpy as np

from ticketsearch.masks import Guidance, Mask, MaskSpec, strongest
from ticketsearch.operators.refill import refill_empty_layers
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
    """Prune the least salient weights, and grow as many pruned weights of the largest growth scores.

    As in sparse training: SET (Mocanu et al. 2018) prunes by the magnitude of trained weights, RigL (Evci et
    al. 2020) grows by the magnitude of gradients. :class:`ticketsearch.Guidance` names the scores.

    Parameters
    ----------
    mask : the parent, ``(weights,)`` bool.
    rate : probability that a kept weight is swapped, in [0, 1]; at least one is.
    guidance : scores of the mask's weights; without them, or without candidates for growth, weights are
        swapped by :func:`swap_mutation`.
    temperature : scale of the noise on both choices; see :func:`ticketsearch.masks.guidance.strongest`.
    """
    # Weights that read padding alone are pruned first, and are never grown.
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
    child = refill_empty_layers(child, spec, rng)
    if np.array_equal(child, mask):  # refilling an empty layer undid the swap
        return swap_mutation(mask, spec=spec, rng=rng, rate=rate)
    return child
