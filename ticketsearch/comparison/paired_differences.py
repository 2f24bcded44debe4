"""Paired differences between methods, and the families of tests that are corrected together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ticketsearch.comparison.plan import EVOLUTION, IMP_BEST
from ticketsearch.comparison.results import Comparison, MethodResult
from ticketsearch.errors import BadInput, unknown
from ticketsearch.statistics import Paired, holm, paired

__all__ = ["ABLATED", "BUDGET", "FAMILIES", "METHODS", "Difference", "differences", "families"]

# Families of tests: the reference against imp_best, over all comparisons; and of each comparison the
# reference against other methods, and against ablated controls.
BUDGET, METHODS, ABLATED = FAMILIES = ("imp_best", "methods", "controls")


class Difference(NamedTuple):
    """The reference minus another method, at one density of one comparison.

    ``holm`` is the p of ``test.permutation`` corrected within the family: that of the reference against
    ``imp_best`` in all comparisons, of one comparison against other ``methods``, or against its ``controls``.
    """

    comparison: str
    density: float
    reference: str
    other: str
    test: Paired
    family: str
    holm: float = 1.0


def differences(comparisons: Sequence[Comparison], reference: str | None = None) -> list[Difference]:
    """Return the reference minus each other method, paired over initializations, at every density.

    ``reference`` is by default the evolution if it was compared, else the last method. Raises
    :class:`BadInput` for an unknown reference, or for comparisons of which two have the same name.
    """
    names = [comparison.name for comparison in comparisons]
    if len(set(names)) < len(names):
        raise BadInput(
            f"comparisons that are read together have different names, but got {', '.join(names)}; "
            "rename a folder"
        )
    uncorrected: list[Difference] = []
    for comparison in comparisons:
        if comparison.results:
            uncorrected += _uncorrected(comparison, reference)
    return [
        difference._replace(holm=corrected)
        for family in families(uncorrected)
        for difference, corrected in zip(
            family, holm([difference.test.permutation for difference in family]), strict=True
        )
    ]


def families(tested: Sequence[Difference]) -> list[list[Difference]]:
    """Return the differences by family, each corrected together."""
    keys = {(d.family, None if d.family == BUDGET else d.comparison): None for d in tested}
    ordered = sorted(keys, key=lambda key: FAMILIES.index(key[0]))  # stable: comparisons in their order
    return [
        [d for d in tested if d.family == family and comparison in (None, d.comparison)]
        for family, comparison in ordered
    ]


def _uncorrected(comparison: Comparison, reference: str | None) -> list[Difference]:
    """Return the differences of one comparison before the correction over families."""
    methods = comparison.methods
    if reference is None:
        reference = EVOLUTION if EVOLUTION in methods else methods[-1]
    if reference not in methods:
        raise unknown("method of the comparison", reference, methods)
    tested = []
    for density in comparison.densities:
        results = {result.method: result for result in comparison.at(density)}
        for other, result in results.items():
            if other != reference and reference in results:
                tested += _difference(comparison.name, density, results[reference], result)
    return tested


def _difference(name: str, density: float, first: MethodResult, other: MethodResult) -> list[Difference]:
    """Return the difference of two results, if they have an initialization in common."""
    both = [number for number in first.accuracies if number in other.accuracies]
    if not both:
        return []
    pairs = np.array([first.accuracies[number] - other.accuracies[number] for number in both])
    family = BUDGET if other.method == IMP_BEST else ABLATED if other.is_control else METHODS
    return [Difference(name, density, first.method, other.method, paired(pairs), family)]
