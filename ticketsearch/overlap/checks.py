"""Checks: what callers give, or one line that says what is wrong with it."""

from __future__ import annotations

from operator import index

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ticketsearch.errors import BadInput

__all__ = ["check_count", "check_pair", "finite"]


def check_count(what: str, value: int, least: int = 0) -> None:
    """Raise :class:`BadInput` for what is no integer, or less than ``least``."""
    try:
        enough = not isinstance(value, bool) and index(value) >= least
    except TypeError:
        enough = False
    if not enough:
        raise BadInput(f"{what} is an integer from {least} up, but got {value!r}")


def check_pair(what: str, given: object) -> None:
    """Raise :class:`BadInput` for what is not one thing of the mask and one of the reference."""
    try:
        count = len(given)  # type: ignore[arg-type]
    except TypeError:
        count = 1
    if count != 2:
        raise BadInput(f"{what} are two, those of the mask and those of the reference, but got {count}")


def finite(what: str, values: ArrayLike) -> NDArray[np.float64]:
    """Return values as float64, or raise :class:`BadInput` for text, ragged lists, NaN and infinities."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{what} are an array of numbers, but got other things ({error})") from error
    if not np.isfinite(array).all():
        raise BadInput(f"{what} are finite, but got NaN or infinity; mend or leave out what made them")
    return array
