"""Standardization: raw samples minus a mean, divided by a deviation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from ticketsearch.checks import is_number, real_array
from ticketsearch.errors import BadInput

__all__ = ["check_constants", "check_divisor", "standardize_raw", "standardized"]


def standardized(
    x: NDArray[Any], mean: NDArray[np.float64], deviation: NDArray[np.float64], divisor: float = 1.0
) -> NDArray[np.float32]:
    """Return (x / divisor - mean) / deviation as float32: the quotient in float32, all else in float64."""
    if divisor != 1:
        x = np.divide(x, np.float32(divisor), dtype=np.float32)
    with np.errstate(over="ignore"):  # Dataset refuses values that become infinite
        scaled = np.subtract(x, mean, dtype=np.float64)
        scaled /= deviation
        rounded: NDArray[np.float32] = scaled.astype(np.float32, order="C")
    return rounded


def standardize_raw(
    x: ArrayLike | torch.Tensor,
    *,
    input_shape: tuple[int, ...],
    mean: NDArray[np.float64],
    deviation: NDArray[np.float64],
    divisor: float,
) -> torch.Tensor:
    """Return raw samples ``(samples, *input_shape)`` standardized, float32.

    Raises :class:`BadInput` for samples of another shape, or that are not finite.
    """
    raw = real_array("raw samples", x)
    if raw.ndim == 0 or raw.shape[1:] != input_shape:
        raise BadInput(
            f"raw samples have shape (samples, {', '.join(map(str, input_shape))}), but got {raw.shape}; "
            "a single sample is x[None]"
        )
    values = standardized(raw, mean, deviation, divisor)
    if not np.isfinite(values).all():
        raise BadInput("raw samples must be finite as float32, but some are not; leave them out")
    return torch.from_numpy(values)


def check_divisor(where: str, divisor: float) -> None:
    """Raise :class:`BadInput` unless raw samples can be divided by it."""
    if not is_number(divisor) or not 0 < divisor < math.inf:
        raise BadInput(f"{where}: divisor must be finite and > 0, but got {divisor!r}")


def check_constants(
    where: str,
    input_shape: tuple[int, ...],
    mean: NDArray[np.float64],
    deviation: NDArray[np.float64],
    divisor: float,
) -> None:
    """Raise :class:`BadInput` unless samples of a shape can be standardized by these constants."""
    check_divisor(where, divisor)
    for name, value, usable in (
        ("mean", mean, np.isfinite(mean).all()),
        ("deviation", deviation, np.isfinite(deviation).all() and (deviation > 0).all()),
    ):
        try:
            fits = np.broadcast_shapes(value.shape, input_shape) == input_shape
        except ValueError:
            fits = False
        if not fits or not usable:
            rule = "finite" if name == "mean" else "finite and > 0"
            raise BadInput(
                f"{where}: {name} must be {rule} and broadcast to samples of shape {input_shape}, but got "
                f"{' '.join(np.array2string(value, threshold=4).split())}"
            )
