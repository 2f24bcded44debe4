"""Linear assignment, by SciPy, which is imported on first use: that takes longer than most commands."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["assignment"]


def assignment(profit: NDArray[np.floating]) -> NDArray[np.intp]:
    """Return the column of each row, ``(n,)``, that together have the largest profit, ``(n, n)``."""
    from scipy.optimize import linear_sum_assignment

    columns: NDArray[np.intp] = linear_sum_assignment(profit, maximize=True)[1]
    return columns
