"""Operations on values with positions: which of them programs hold, and their integers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ticketsearch.training.native.known_poolings import Margin, Pooling, known_spatial
from ticketsearch.training.native.windows import geometry_of, plans
from ticketsearch.wiring import Step

__all__ = ["convolution_integers", "spatial_integers"]

Integers = NDArray[np.int32]


def convolution_integers(
    step: Step, shape: Sequence[int], kernel: Sequence[int], kept: Sequence[NDArray[np.intp]]
) -> Integers:
    """Return the integers of a convolution of a value of ``shape`` by kept weights ``np.nonzero(mask)``."""
    geometry = geometry_of(step, shape, kernel)
    assert geometry is not None, "networks of other convolutions have no program"
    both = plans(geometry, kept)
    (channels, *sizes), (filters, *outputs) = geometry.inputs, geometry.outputs
    lengths = [length for plan in both for length in (len(plan.rectangles), len(plan.rows))]
    head = [channels, int(np.prod(sizes)), int(np.prod(outputs)), filters, *lengths]
    return _joined(head, *(part for plan in both for part in plan))


def spatial_integers(step: Step, shape: Sequence[int]) -> tuple[str, Integers]:
    """Return the code and the integers of a pooling or of margins."""
    known = known_spatial(step, shape)
    if isinstance(known, Margin):
        return "margin", _joined([shape[0], *known.sizes, *known.outputs, *known.before])
    assert isinstance(known, Pooling), "networks of other maps of positions have no program"
    head = [shape[0], *known.sizes, len(known.high), len(known.wide), *known.step]
    if known.shares is None:
        ones = np.ones((len(known.high), len(known.wide)), np.int64)
        return "largest", _joined(head, known.high, known.wide, ones)
    return "average", _joined(head, known.high, known.wide, np.rint(1 / known.shares))


def _joined(head: Sequence[int], *parts: NDArray[Any]) -> Integers:
    return np.concatenate([np.array(head, dtype=np.int64), *map(np.ravel, parts)]).astype(np.int32)
