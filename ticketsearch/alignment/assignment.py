"""Linear assignment by SciPy, which is imported on first use: the import takes longer than most commands."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ticketsearch.typing import Indices

__all__ = ["assignment"]


def assignment(profit: NDArray[np.floating]) -> Indices:
    """Return the column of each row, ``(n,)``, that together have the largest profit, ``(n, n)``."""
    from scipy.optimize import linear_sum_assignment

    columns: Indices = linear_sum_assignment(profit, maximize=True)[1]
    return columns
