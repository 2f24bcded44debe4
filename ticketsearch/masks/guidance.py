"""Prune and grow scores of a mask's weights, from its last training."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ticketsearch.errors import BadInput
from ticketsearch.masks.ranking import largest
from ticketsearch.typing import Floats32, Indices, Integers, Mask

__all__ = ["Guidance", "check_guidance", "cut", "strongest"]


class Guidance(NamedTuple):
    """Prune and grow scores of a mask's weights, from its last training.

    By ``magnitude``, weights are pruned by their magnitude after training, and grown by the magnitude of
    their gradients (RigL: Evci et al. 2020, "Rigging the Lottery"). By ``curvature``, both scores are the
    expected change of the loss, in nats (LeCun, Denker & Solla 1990, "Optimal Brain Damage").

    Attributes
    ----------
    saliency : ``(kept,)`` float32, prune scores of the kept weights, in the order of their numbers.
    candidates : ``(candidates,)`` int64, numbers of the pruned weights that may grow, ascending.
    growth : ``(candidates,)`` float32, grow scores of the candidates, > 0.
    """

    saliency: Floats32
    candidates: Integers
    growth: Floats32


def check_guidance(saliency: ArrayLike, candidates: ArrayLike, growth: ArrayLike, mask: Mask) -> Guidance:
    """Return checked scores of a mask ``(weights,)`` as :class:`Guidance`.

    Raises :class:`BadInput` for another number of saliencies than of kept weights, another number of growth
    scores than of candidates, candidates that are kept or out of range, and values that are not finite.
    """
    guidance = Guidance(
        np.asarray(saliency, dtype=np.float32),
        np.asarray(candidates, dtype=np.int64),
        np.asarray(growth, dtype=np.float32),
    )
    kept = int(np.count_nonzero(mask))
    if guidance.saliency.shape != (kept,):
        raise BadInput(
            f"guidance has one saliency a kept weight, {kept} here, but got shape {guidance.saliency.shape}"
        )
    if guidance.candidates.ndim != 1 or guidance.growth.shape != guidance.candidates.shape:
        raise BadInput(
            f"guidance has one growth a candidate, but got shapes {guidance.growth.shape} and "
            f"{guidance.candidates.shape}"
        )
    places = guidance.candidates
    if len(places) and (places.min() < 0 or places.max() >= len(mask) or mask[places].any()):
        raise BadInput(
            f"candidates are numbers of pruned weights, 0 to {len(mask) - 1}, but got some that are kept or "
            "out of range"
        )
    if not (np.isfinite(guidance.saliency).all() and np.isfinite(guidance.growth).all()):
        raise BadInput("guidance is finite, but got NaN or infinity; give None for a diverged mask")
    return guidance


def strongest(values: NDArray[Any], count: int, rng: np.random.Generator, temperature: float) -> Indices:
    """Return the positions of the ``count`` strongest values, ascending, by a noisy ranking.

    Values are ranked by their logarithms plus Gumbel noise of this temperature (the Gumbel top-k trick: Kool
    et al. 2019, "Stochastic Beams and Where to Find Them", section 2.3). Temperature 0 takes the largest
    values, ties at random; temperature 1 draws without replacement with probabilities proportional to the
    values.
    """
    with np.errstate(divide="ignore"):
        ranks = np.log(values.astype(np.float64))
    if temperature:
        ranks += temperature * rng.gumbel(size=len(ranks))
    return np.flatnonzero(largest(ranks, count, rng))


def cut(
    mask: Mask, guidance: Guidance | None, count: int, *, rng: np.random.Generator, temperature: float = 0.0
) -> tuple[Mask, Guidance | None]:
    """Return a mask ``(weights,)`` pruned to its ``count`` most salient weights, and its guidance.

    A mask that keeps at most ``count`` weights is returned as it is. Without guidance the kept weights are
    drawn uniformly. Layers may become empty, as by any global pruning.
    """
    kept = np.flatnonzero(mask)
    if len(kept) <= count:
        return mask, guidance
    values = np.ones(len(kept)) if guidance is None else guidance.saliency
    stay = strongest(values, count, rng, temperature if guidance is not None else 1.0)
    left = np.zeros(len(mask), dtype=np.bool_)
    left[kept[stay]] = True
    left.flags.writeable = False
    return left, None if guidance is None else guidance._replace(saliency=guidance.saliency[stay])
