"""Ranking: which of many scores are the largest, in the one way that ties are broken everywhere."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["largest"]


def largest(scores: NDArray[Any], count: int) -> NDArray[np.bool_]:
    """Return which are the ``count`` largest of ``(n,)`` scores, ties to the smaller index."""
    if count >= len(scores):
        return np.ones(len(scores), dtype=np.bool_)
    if count <= 0:
        return np.zeros(len(scores), dtype=np.bool_)
    threshold = np.partition(scores, len(scores) - count)[len(scores) - count]
    chosen: NDArray[np.bool_] = scores >= threshold
    surplus = int(np.count_nonzero(chosen)) - count
    if surplus:
        chosen[np.flatnonzero(scores == threshold)[-surplus:]] = False
    return chosen
