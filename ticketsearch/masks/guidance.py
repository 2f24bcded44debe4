"""Guidance: what the training of a mask reveals, for operators that would rather not choose blindly."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ticketsearch.errors import BadInput
from ticketsearch.masks.ranking import largest
from ticketsearch.typing import Mask

__all__ = ["Guidance", "check_guidance", "cut", "strongest"]


class Guidance(NamedTuple):
    """What a mask's training revealed of its weights.

    By ``magnitude``, pruning goes by that of trained weights, and growing by that of the gradient of the loss
    (Evci et al. 2020, "Rigging the Lottery"): the pruned weights that would move most if they were kept. By
    ``curvature`` both go by the change of the loss that is to be expected, in nats (LeCun, Denker & Solla
    1990, "Optimal Brain Damage").

    Attributes
    ----------
    saliency : ``(kept,)`` float32, of the kept weights after training, in the order of their numbers.
    candidates : ``(candidates,)`` int64, the numbers of pruned weights worth growing, ascending.
    growth : ``(candidates,)`` float32, what growing each promises, > 0.
    """

    saliency: NDArray[np.float32]
    candidates: NDArray[np.int64]
    growth: NDArray[np.float32]


def check_guidance(saliency: ArrayLike, candidates: ArrayLike, growth: ArrayLike, mask: Mask) -> Guidance:
    """Return the guidance of a mask ``(weights,)``, by a fitness of one's own.

    Raises :class:`BadInput` where it is not that of the mask: another number of saliencies than of kept
    weights, candidates that are kept or none of the mask's weights, or no growth for each.
    """
    found = Guidance(
        np.asarray(saliency, dtype=np.float32),
        np.asarray(candidates, dtype=np.int64),
        np.asarray(growth, dtype=np.float32),
    )
    kept = int(np.count_nonzero(mask))
    if found.saliency.shape != (kept,):
        raise BadInput(
            f"guidance has one saliency a kept weight, {kept} here, but got shape {found.saliency.shape}"
        )
    if found.candidates.ndim != 1 or found.growth.shape != found.candidates.shape:
        raise BadInput(
            f"guidance has one growth a candidate, but got shapes {found.growth.shape} and "
            f"{found.candidates.shape}"
        )
    places = found.candidates
    if len(places) and (places.min() < 0 or places.max() >= len(mask) or mask[places].any()):
        raise BadInput(
            f"candidates are numbers of pruned weights, 0 to {len(mask) - 1}, but got some that are kept or "
            "out of range"
        )
    if not (np.isfinite(found.saliency).all() and np.isfinite(found.growth).all()):
        raise BadInput("guidance is finite, but got NaN or infinity; give a diverged mask none")
    return found


def strongest(
    values: NDArray[Any], count: int, rng: np.random.Generator, temperature: float
) -> NDArray[np.intp]:
    """Return the positions of ``count`` values, ascending: the largest, or by chance some near them.

    They are ranked by their logarithms with Gumbel noise of this temperature: with 0 the largest are taken,
    equals by lot; with 1 it is a draw without replacement, by chances in proportion to the values
    (Vieira 2014; Kool et al. 2019, section 2.3).
    """
    with np.errstate(divide="ignore"):
        ranks = np.log(values.astype(np.float64))
    if temperature:
        ranks += temperature * rng.gumbel(size=len(ranks))
    return np.flatnonzero(largest(ranks, count, rng))


def cut(
    mask: Mask, guidance: Guidance | None, count: int, *, rng: np.random.Generator, temperature: float = 0.0
) -> tuple[Mask, Guidance | None]:
    """Return what is most salient of a mask ``(weights,)``, and the guidance of that.

    A mask that keeps no more than ``count`` weights comes back as it is. Without guidance those that stay are
    drawn uniformly. Layers may be emptied, as in any global pruning.
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
