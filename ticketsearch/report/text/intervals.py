"""Means with intervals as text, and the sentence on tests of too few pairs."""

from __future__ import annotations

import math

from ticketsearch.statistics import Interval, smallest_p

__all__ = ["FEWEST", "SIGNIFICANT", "interval_ends", "interval_text", "signed", "too_few"]

SIGNIFICANT = 0.05
# The least number of pairs with which a single paired test can be significant.
FEWEST = 6


def interval_text(interval: Interval, form: str) -> str:
    """Return a mean with its interval, if there is one."""
    ends = interval_ends(interval, form)
    return f"{signed(interval.mean, form)} ({ends})" if ends else signed(interval.mean, form)


def interval_ends(interval: Interval, form: str) -> str:
    """Return the ends of an interval; the empty string where there is none."""
    return "" if math.isnan(interval.low) else " to ".join(signed(end, form) for end in interval[1:])


def signed(value: float, form: str) -> str:
    """Return a number as text, with a true minus sign."""
    return f"{value:{form}}".replace("-", "−")


def too_few(pairs: int, noun: str) -> str:
    """Return the sentence for so few pairs, of units that the noun names, that no test can be significant."""
    units = f"one {noun}" if pairs == 1 else f"{pairs} {noun}s"
    return (
        f"With {units} no test can be significant: p is at least {smallest_p(pairs):.2g} (2/2^{pairs}); that "
        f"takes {FEWEST} {noun}s or more."
    )
