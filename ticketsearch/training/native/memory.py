"""Memory of the native engine: arrays that begin on a line of the cache."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["LINE", "aligned"]

# Numbers of a line of the cache in float32, to whose multiples rows are padded.
LINE = 16


def aligned(length: int, kind: np.dtype[Any]) -> NDArray[Any]:
    """Return zeros that begin on a line of the cache."""
    memory = np.zeros(int(length) * kind.itemsize + 64, dtype=np.uint8)
    begin = -memory.ctypes.data % 64
    return memory[begin : begin + int(length) * kind.itemsize].view(kind)
