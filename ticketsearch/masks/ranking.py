"""Ranking: the largest of many scores; equal scores are ordered by lot, never by their position."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["drawn_among_equals", "largest"]


def largest(scores: NDArray[Any], count: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return which are the ``count`` largest of ``(n,)`` scores.

    Among scores equal to the threshold the chosen ones are drawn uniformly. ``rng`` is used for nothing else:
    without such ties its state does not change.
    """
    if count >= len(scores):
        return np.ones(len(scores), dtype=np.bool_)
    if count <= 0:
        return np.zeros(len(scores), dtype=np.bool_)
    threshold = np.partition(scores, len(scores) - count)[len(scores) - count]
    chosen: NDArray[np.bool_] = scores >= threshold
    surplus = int(np.count_nonzero(chosen)) - count
    if surplus:
        chosen[rng.choice(np.flatnonzero(scores == threshold), surplus, replace=False)] = False
    return chosen


def drawn_among_equals(scores: NDArray[Any], chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which of the ``chosen`` largest scores, ``(n,)``, equal one that was not chosen."""
    if chosen.all() or not chosen.any():
        return np.zeros_like(chosen)
    threshold = scores[chosen].min()
    if scores[~chosen].max() < threshold:
        return np.zeros_like(chosen)
    drawn: NDArray[np.bool_] = chosen & (scores == threshold)
    return drawn
