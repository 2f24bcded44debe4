"""The width option that several models share, checked: it comes from the shell and from TOML files."""

from __future__ import annotations

import math

from ticketsearch.errors import BadInput

__all__ = ["MAX_WIDTH", "scaled"]

MAX_WIDTH = 1_000_000


def scaled(width: float, *units: int) -> list[int]:
    """Return each number of units times ``width``, rounded to the nearest (ties to even), at least 1.

    Raises :class:`BadInput` unless ``width`` is a finite number > 0 that leaves at most MAX_WIDTH units.
    """
    try:
        factor = float(str(width))
    except ValueError:
        factor = math.nan
    if not (factor > 0 and math.isfinite(factor)):
        raise BadInput(f"width must be a finite number > 0, but got {width!r}; 1 keeps the published sizes")
    if max(units, default=0) * factor > MAX_WIDTH:
        raise BadInput(
            f"width must leave a layer at most {MAX_WIDTH} units, but {width!r} times {max(units)} units is "
            "more; give a smaller one"
        )
    return [max(1, round(count * factor)) for count in units]
