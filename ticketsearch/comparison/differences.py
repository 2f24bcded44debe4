"""Paired differences between methods, and the families of tests that are corrected together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ticketsearch.comparison.plan import EVOLUTION, IMP_BEST
from ticketsearch.errors import BadInput, unknown
from ticketsearch.statistics import Paired, holm, paired

if TYPE_CHECKING:
    from ticketsearch.comparison.results import Contest, Standing

__all__ = ["BUDGET", "FAMILIES", "METHODS", "TAKEN", "Difference", "differences", "families"]

# Tests that are corrected together: the reference against imp_best, over all contests; and of each contest
# those against other methods, and those against masks with something taken from them.
BUDGET, METHODS, TAKEN = FAMILIES = ("imp_best", "methods", "controls")


class Difference(NamedTuple):
    """A method subtracted from the reference, at one density of one contest.

    ``holm`` is the p of ``test.permutation`` corrected within the family: that of the reference against
    ``imp_best`` in all contests, of one contest against other ``methods``, or against its ``controls``.
    """

    contest: str
    density: float
    reference: str
    other: str
    test: Paired
    family: str
    holm: float = 1.0


def differences(contests: Sequence[Contest], reference: str | None = None) -> list[Difference]:
    """Return the reference minus each other method, paired over initializations, at every density.

    ``reference`` is the evolution where it is there, else the last method. Raises :class:`BadInput` for one
    that is not there, or for contests of which two have the same name.
    """
    names = [contest.name for contest in contests]
    if len(set(names)) < len(names):
        raise BadInput(
            f"comparisons that are read together have different names, but got {', '.join(names)}; "
            "rename a folder"
        )
    found = []
    for contest in contests:
        if not contest.standings:
            continue
        own = reference or (EVOLUTION if EVOLUTION in contest.methods else contest.methods[-1])
        if own not in contest.methods:
            raise unknown("method of the comparison", own, contest.methods)
        for density in contest.densities:
            standings = {standing.method: standing for standing in contest.at(density)}
            for other, standing in standings.items():
                if other != own and own in standings:
                    found += _difference(contest.name, density, standings[own], standing)
    return [
        difference._replace(holm=corrected)
        for own in families(found)
        for difference, corrected in zip(own, holm([one.test.permutation for one in own]), strict=True)
    ]


def families(found: Sequence[Difference]) -> list[list[Difference]]:
    """Return the differences of which the tests are corrected together."""
    keys = {(one.family, None if one.family == BUDGET else one.contest): None for one in found}
    ordered = sorted(keys, key=lambda key: FAMILIES.index(key[0]))  # stable: contests as they come
    return [
        [one for one in found if one.family == family and contest in (None, one.contest)]
        for family, contest in ordered
    ]


def _difference(name: str, density: float, first: Standing, other: Standing) -> list[Difference]:
    """Return the difference of two standings, if they have an initialization in common."""
    both = [number for number in first.accuracies if number in other.accuracies]
    if not both:
        return []
    pairs = np.array([first.accuracies[number] - other.accuracies[number] for number in both])
    family = BUDGET if other.method == IMP_BEST else TAKEN if other.is_control else METHODS
    return [Difference(name, density, first.method, other.method, paired(pairs), family)]
