"""Inference: what was observed against the draws of a null model, with an interval and a test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

__all__ = ["Null", "compare", "holm", "jackknife"]

Floats = NDArray[np.float64]
Integers = NDArray[np.intp]
LEVEL = 0.95
# Masks that can be left out, for an interval.
FEWEST = 4


class Null(NamedTuple):
    """A null model beside what was observed, the mean of a measure over pairs.

    Attributes
    ----------
    observed, mean, sd : the observed mean over pairs; mean and standard deviation of those of the draws.
    effect : observed - mean.
    low, high : an approximate 95 % interval of the effect over masks, see :func:`jackknife`.
    p : one-sided Monte-Carlo p, (1 + draws that reach what was observed) / (1 + draws).
    draws : how many; each replaces all masks, as pairs share them.
    holm : p corrected for the tests it is one of; None where it is no test of the study.
    """

    observed: float
    mean: float
    sd: float
    effect: float
    low: float
    high: float
    p: float
    draws: int
    holm: float | None = None


def compare(observed: Floats, drawn: Floats, pairs: Integers) -> Null:
    """Return the null model of a measure, from its ``(pairs,)`` values and the draws' ``(draws, pairs)``.

    ``pairs`` are the masks of each pair, ``(2, pairs)``.
    """
    value, means = float(observed.mean()), drawn.mean(axis=1)
    mean, sd = float(means.mean()), float(means.std(ddof=1)) if len(means) > 1 else 0.0
    reached = int(np.count_nonzero(means >= value - 1e-12))
    low, high = jackknife(observed - drawn.mean(axis=0), pairs)
    return Null(value, mean, sd, value - mean, low, high, (1 + reached) / (1 + len(means)), len(means))


def jackknife(values: Floats, pairs: Integers) -> tuple[float, float]:
    """Return an approximate 95 % interval of a mean over pairs, as other masks of the kind would give it.

    Pairs that share a mask depend on each other, so whole masks are left out, one at a time (Arvesen 1969,
    "Jackknifing U-statistics"); a t interval with masks - 1 degrees of freedom. ``values`` are ``(pairs,)``,
    ``pairs`` the masks of each, ``(2, pairs)``. A mask that is in all pairs is taken as given. NaN for fewer
    than 4 masks that can be left out, as so few say next to nothing of their spread.
    """
    kept = [(pairs != mask).all(axis=0) for mask in np.unique(pairs)]
    left = np.array([values[chosen].mean() for chosen in kept if chosen.any()])
    count = len(left)
    if count < FEWEST:
        return math.nan, math.nan
    error = math.sqrt((count - 1) / count * float(np.square(left - left.mean()).sum()))
    reach = float(stdtrit(count - 1, (1 + LEVEL) / 2)) * error
    return float(values.mean()) - reach, float(values.mean()) + reach


def holm(ps: Sequence[float]) -> list[float]:
    """Return p-values corrected so that no true null of the family is rejected with more than their level.

    Holm 1979, "A simple sequentially rejective multiple test procedure": the k-th smallest of m is multiplied
    by m - k + 1, and is no smaller than those before it.
    """
    order = np.argsort(ps, kind="stable")
    scaled = np.array(ps, dtype=np.float64)[order] * np.arange(len(ps), 0, -1)
    corrected = np.empty(len(ps))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(scaled))
    found: list[float] = corrected.tolist()
    return found
