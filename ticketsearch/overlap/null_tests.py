"""Tests of an observed overlap against the draws of a null model, with intervals."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ticketsearch.statistics import jackknife
from ticketsearch.typing import Floats, Indices

__all__ = ["Null", "compare"]


class Null(NamedTuple):
    """The test of a measure, averaged over pairs, against a null model.

    Attributes
    ----------
    observed, mean, sd : the observed mean over pairs; mean and standard deviation of the draws' means.
    effect : observed - mean.
    low, high : an approximate 95 % interval of the effect over masks, see
        :func:`ticketsearch.statistics.jackknife`.
    p : one-sided Monte-Carlo p, (1 + draws that reach the observed value) / (1 + draws).
    draws : number of draws; each replaces all masks, as pairs share masks.
    holm : p corrected for the study's family of tests (Holm 1979); None if it is not in the family.
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


def compare(observed: Floats, drawn: Floats, pairs: Indices) -> Null:
    """Return the test of a measure from its ``(pairs,)`` values and the draws' ``(draws, pairs)``.

    ``pairs`` are the two masks of each pair, ``(2, pairs)``.
    """
    value, means = float(observed.mean()), drawn.mean(axis=1)
    mean, sd = float(means.mean()), float(means.std(ddof=1)) if len(means) > 1 else 0.0
    reached = int(np.count_nonzero(means >= value - 1e-12))
    low, high = jackknife(observed - drawn.mean(axis=0), pairs)
    return Null(value, mean, sd, value - mean, low, high, (1 + reached) / (1 + len(means)), len(means))
