"""Types of arrays that several rooms share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Floats", "Floats32", "Indices", "Integers", "Mask"]

Mask = NDArray[np.bool_]  # of shape (weights,), or (..., weights) for several masks
Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]
Integers = NDArray[np.int64]
Indices = NDArray[np.intp]
