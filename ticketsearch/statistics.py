"""Inference over initializations: intervals of means, paired tests, and families of tests."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

__all__ = ["LEVEL", "Interval", "Paired", "interval", "paired", "smallest_p"]

Floats = NDArray[np.float64]
LEVEL = 0.95
RESAMPLES = 9_999
# The most pairs whose 2^n sign patterns are all tried; of more, so many are drawn.
EXACT = 14


class Interval(NamedTuple):
    """A mean and its bootstrap interval; NaN ends for fewer than two values."""

    mean: float
    low: float
    high: float


class Paired(NamedTuple):
    """Paired differences: their mean with an interval, and two-sided tests that they lie around 0.

    ``permutation`` is of the mean, ``wilcoxon`` of signed ranks, both over all changes of signs.
    """

    pairs: int
    difference: Interval
    permutation: float
    wilcoxon: float


def interval(values: Floats) -> Interval:
    """Return the mean of ``(n,)`` values with a 95 % bootstrap interval, seeded.

    Expanded percentiles: of ten values the 95 % between plain ones would hold the mean nine times in ten
    (Hesterberg 2014, "What Teachers Should Know about the Bootstrap", arXiv 1411.5279).
    """
    mean = float(values.mean())
    if (count := len(values)) < 2:
        return Interval(mean, math.nan, math.nan)
    chosen = np.random.default_rng(0).integers(count, size=(RESAMPLES, count))
    reach = math.sqrt(count / (count - 1)) * float(stdtrit(count - 1, (1 + LEVEL) / 2))
    low, high = np.quantile(values[chosen].mean(axis=1), ndtr([-reach, reach]))
    return Interval(mean, float(low), float(high))


def paired(differences: Floats) -> Paired:
    """Return what ``(n,)`` paired differences say.

    Wilcoxon 1945; differences of 0 are left out of the ranks, equal ones share theirs.
    """
    from scipy.stats import rankdata  # takes longer to import than a report to write

    ranks = np.zeros(len(differences))
    moved = differences != 0
    ranks[moved] = rankdata(np.abs(differences[moved])) * np.sign(differences[moved])
    return Paired(len(differences), interval(differences), _sign_flips(differences), _sign_flips(ranks))


def smallest_p(count: int) -> float:
    """Return the smallest p that a paired test of so many differences can have."""
    return min(1.0, 2.0 ** (1 - count)) if count <= EXACT else 1 / (1 + RESAMPLES)


def _sign_flips(values: Floats) -> float:
    """Return the share of changes of signs under which the sum is as far from 0 as it is."""
    count = len(values)
    if count <= EXACT:
        signs = 1.0 - 2.0 * ((np.arange(2**count)[:, None] >> np.arange(count)) & 1)
    else:
        drawn = np.random.default_rng(0).choice([-1.0, 1.0], size=(RESAMPLES, count))
        signs = np.concatenate([np.ones((1, count)), drawn])
    sums = np.abs(signs @ values)
    return float(np.mean(sums >= abs(float(values.sum())) - 1e-9 * float(np.abs(values).sum())))
