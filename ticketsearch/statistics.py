"""Statistics of small samples: bootstrap and jackknife intervals, sign-flip tests, Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr, stdtrit

from ticketsearch.typing import Floats, Indices

__all__ = ["LEVEL", "Interval", "Paired", "bootstrap", "holm", "jackknife", "paired", "smallest_p"]

# Confidence level of all intervals.
LEVEL = 0.95
# Bootstrap samples of an interval, and sign patterns drawn for a test of more than EXACT differences.
RESAMPLES = 9_999
# Largest number of differences for which a test goes through all 2^n sign patterns.
EXACT = 14
# Fewest units that a jackknife must be able to leave out.
FEWEST = 4


class Interval(NamedTuple):
    """A mean and the ends of its 95 % interval, which are NaN for fewer than two values."""

    mean: float
    low: float
    high: float


class Paired(NamedTuple):
    """Mean of paired differences with its interval, and two-sided tests of whether they lie around 0.

    Both tests compare with all changes of signs: ``permutation`` is the p-value of the mean, ``wilcoxon``
    that of the signed ranks.
    """

    pairs: int
    difference: Interval
    permutation: float
    wilcoxon: float


def bootstrap(values: Floats) -> Interval:
    """Return the mean of ``(n,)`` values with its 95 % bootstrap interval; the resampling has a fixed seed.

    The percentiles are expanded: of ten values, the interval between the plain 2.5 % and 97.5 % percentiles
    would hold the mean only nine times in ten (Hesterberg 2014, "What Teachers Should Know about the
    Bootstrap", arXiv 1411.5279).
    """
    mean = float(values.mean())
    if (count := len(values)) < 2:
        return Interval(mean, math.nan, math.nan)
    chosen = np.random.default_rng(0).integers(count, size=(RESAMPLES, count))
    reach = math.sqrt(count / (count - 1)) * float(stdtrit(count - 1, (1 + LEVEL) / 2))
    low, high = np.quantile(values[chosen].mean(axis=1), ndtr([-reach, reach]))
    return Interval(mean, float(low), float(high))


def jackknife(values: Floats, pairs: Indices) -> tuple[float, float]:
    """Return an approximate 95 % interval of a mean over pairs, for the population that the units are from.

    Pairs that share a unit depend on each other, so whole units are left out, one at a time (Arvesen 1969,
    "Jackknifing U-statistics"); the interval is a t interval with units - 1 degrees of freedom. A unit that
    is in all pairs is taken as given.

    Parameters
    ----------
    values : ``(pairs,)`` values of a measure.
    pairs : ``(2, pairs)`` numbers of the two units (masks) of each pair.

    Returns
    -------
    The ends of the interval, NaN where fewer than 4 units can be left out: their spread is not known then.
    """
    remaining = [(pairs != unit).all(axis=0) for unit in np.unique(pairs)]
    means = np.array([values[chosen].mean() for chosen in remaining if chosen.any()])
    count = len(means)
    if count < FEWEST:
        return math.nan, math.nan
    error = math.sqrt((count - 1) / count * float(np.square(means - means.mean()).sum()))
    reach = float(stdtrit(count - 1, (1 + LEVEL) / 2)) * error
    return float(values.mean()) - reach, float(values.mean()) + reach


def paired(differences: Floats) -> Paired:
    """Return mean, interval and tests of ``(n,)`` paired differences.

    The signed-rank test is that of Wilcoxon 1945; differences of 0 have rank 0, and equal ones share theirs.
    """
    from scipy.stats import rankdata  # takes longer to import than a report to write

    ranks = np.zeros(len(differences))
    nonzero = differences != 0
    ranks[nonzero] = rankdata(np.abs(differences[nonzero])) * np.sign(differences[nonzero])
    return Paired(len(differences), bootstrap(differences), _sign_flip_p(differences), _sign_flip_p(ranks))


def smallest_p(count: int) -> float:
    """Return the smallest p-value that a paired test of ``count`` differences can have."""
    return min(1.0, 2.0 ** (1 - count)) if count <= EXACT else 1 / (1 + RESAMPLES)


def holm(ps: Sequence[float]) -> list[float]:
    """Return p-values corrected for the number of tests, so that the family-wise error rate is kept.

    Holm 1979, "A simple sequentially rejective multiple test procedure": the k-th smallest of m p-values is
    multiplied by m - k + 1, and is at least as large as those before it.
    """
    order = np.argsort(ps, kind="stable")
    scaled = np.array(ps, dtype=np.float64)[order] * np.arange(len(ps), 0, -1)
    corrected = np.empty(len(ps))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(scaled))
    return [float(p) for p in corrected]


def _sign_flip_p(values: Floats) -> float:
    """Return the share of sign patterns for which the sum is at least as far from 0 as the observed sum.

    ``scipy.stats.permutation_test`` misses ties with an observed sum of 0 that is rounded, which accuracies
    of equal steps often have, and takes 35 times as long.
    """
    count = len(values)
    if count <= EXACT:
        signs = 1.0 - 2.0 * ((np.arange(2**count)[:, None] >> np.arange(count)) & 1)
    else:
        drawn = np.random.default_rng(0).choice([-1.0, 1.0], size=(RESAMPLES, count))
        signs = np.concatenate([np.ones((1, count)), drawn])
    sums = np.abs(signs @ values)
    return float(np.mean(sums >= abs(float(values.sum())) - 1e-9 * float(np.abs(values).sum())))
