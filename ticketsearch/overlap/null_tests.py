"""Inference: what was observed against the draws of a null model, with an interval and a test."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ticketsearch.statistics import jackknife
from ticketsearch.typing import Floats, Indices

__all__ = ["Null", "compare"]


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


def compare(observed: Floats, drawn: Floats, pairs: Indices) -> Null:
    """Return the null model of a measure, from its ``(pairs,)`` values and the draws' ``(draws, pairs)``.

    ``pairs`` are the masks of each pair, ``(2, pairs)``.
    """
    value, means = float(observed.mean()), drawn.mean(axis=1)
    mean, sd = float(means.mean()), float(means.std(ddof=1)) if len(means) > 1 else 0.0
    reached = int(np.count_nonzero(means >= value - 1e-12))
    low, high = jackknife(observed - drawn.mean(axis=0), pairs)
    return Null(value, mean, sd, value - mean, low, high, (1 + reached) / (1 + len(means)), len(means))
