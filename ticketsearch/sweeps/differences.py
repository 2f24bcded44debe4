"""Paired differences of a sweep: the winner against its contenders, and value against value, by seed."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from ticketsearch.runs import BEST
from ticketsearch.statistics import Paired, holm, paired
from ticketsearch.sweeps.results import Sweep, SweepRow

__all__ = ["SweepDifference", "contender_differences", "value_differences"]


class SweepDifference(NamedTuple):
    """The test accuracy of one row of a sweep minus that of another, paired by seed.

    ``holm`` is the p of ``test.permutation``, corrected for all differences of its list.
    """

    first: SweepRow
    other: SweepRow
    test: Paired
    holm: float = 1.0


def contender_differences(sweep: Sweep) -> list[SweepDifference]:
    """Return the best ticket minus each other contender of the same runs, for each combination of values."""
    pairs = []
    for values in sweep.combinations:
        first, *others = sweep.at(values)
        pairs += [(first, other) for other in others if first.contender == BEST]
    return _corrected(pairs)


def value_differences(sweep: Sweep) -> list[SweepDifference]:
    """Return the difference of the best tickets of each two combinations of values."""
    return _corrected(itertools.combinations([row for row in sweep.rows if row.contender == BEST], 2))


def _corrected(pairs: Iterable[tuple[SweepRow, SweepRow]]) -> list[SweepDifference]:
    """Return the differences of rows that have a seed in common, corrected together by Holm's method."""
    tested = []
    for first, other in pairs:
        both = [seed for seed in first.accuracies if seed in other.accuracies]
        if both:
            differences = np.array([first.accuracies[seed] - other.accuracies[seed] for seed in both])
            tested.append(SweepDifference(first, other, paired(differences)))
    corrected = holm([difference.test.permutation for difference in tested])
    return [difference._replace(holm=p) for difference, p in zip(tested, corrected, strict=True)]
