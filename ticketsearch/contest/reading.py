"""What a contest holds, as one object that is read from its folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ticketsearch.budget import Spent
from ticketsearch.config import Settings
from ticketsearch.contest.inference import Interval, Paired, interval, paired
from ticketsearch.contest.making import Made
from ticketsearch.contest.plan import BUDGETED, CONTROLS, DENSE, EVOLUTION, IMP, IMP_BEST, Cell
from ticketsearch.contest.store import Store
from ticketsearch.errors import unknown
from ticketsearch.overlap.inference import holm

__all__ = ["Contest", "Difference", "Standing", "Trail", "differences", "read_comparison"]

Floats = NDArray[np.float64]
# Tests that are corrected together: the reference against imp_best, and against all others.
FAMILIES = ("first", "second")


class Standing(NamedTuple):
    """What came of one method at one density.

    Attributes
    ----------
    method : with ``/shuffled`` or ``/reinitialized`` for a control.
    density : kept / total; 1 for the dense network.
    accuracies : by initialization, the mean test accuracy over data orders.
    accuracy : their mean, with its interval.
    spent : on making one mask, the mean over initializations.
    candidates : among how many a mask was chosen, the mean.
    """

    method: str
    density: float
    accuracies: Mapping[int, float]
    accuracy: Interval
    spent: Spent
    candidates: float


class Trail(NamedTuple):
    """What one search had after spending so many FLOPs, both ``(points,)``: validation accuracy."""

    method: str
    density: float
    flops: Floats
    accuracy: Floats


class Difference(NamedTuple):
    """A method subtracted from the reference, at one density of one contest.

    ``holm`` is the p of ``test.permutation`` corrected within the family: ``first`` is the reference against
    imp_best, ``second`` against all others.
    """

    contest: str
    density: float
    reference: str
    other: str
    test: Paired
    family: str
    holm: float = 1.0


@dataclass(frozen=True, eq=False)
class Contest:
    """A whole comparison.

    Attributes
    ----------
    name : the folder's.
    settings : what was compared, and how.
    orders : data orders that all final results have.
    standings : by density, densest first, methods in their order.
    trails : of the searches.
    """

    name: str
    settings: Settings
    orders: int
    standings: tuple[Standing, ...]
    trails: tuple[Trail, ...] = field(repr=False)

    @property
    def methods(self) -> list[str]:
        """The methods and controls that there are results of."""
        return list(dict.fromkeys(standing.method for standing in self.standings))

    @property
    def densities(self) -> list[float]:
        """The densities that there are results of, densest first, without the dense network's."""
        found = {standing.density for standing in self.standings if standing.method != DENSE}
        return sorted(found, reverse=True)

    def at(self, density: float) -> list[Standing]:
        """Return the standings at a density, the dense network's among them."""
        return [s for s in self.standings if s.density == density or s.method == DENSE]

    def lines(self, reference: str | None = None) -> list[str]:
        """Return the comparison as text: tables by density, differences, and what was tested."""
        from ticketsearch.contest.words import lines

        return lines([self], reference)


def read_comparison(folder: str | Path) -> Contest:
    """Read the comparison in a folder, as far as it is.

    Raises :class:`BadInput` for a folder without one.
    """
    with Store.open(Path(folder)) as store:
        cells, results, settings = store.cells(), store.results(), store.settings
    orders = min((len(own) for own in results.values()), default=0)
    accuracies: dict[tuple[str, str, float], dict[int, float]] = {}
    for (cell, control), found in sorted(results.items()):
        mean = float(np.mean([found[order].accuracy for order in range(orders)]))
        accuracies.setdefault((cell.method, control, cell.density), {})[cell.initialization] = mean
    standings = [
        _standing(*key, own, [cells[Cell(key[0], key[2], number)] for number in own])
        for key, own in sorted(accuracies.items(), key=_place)
    ]
    trails = [
        Trail(cell.method, cell.density, *np.array(made.trail, dtype=np.float64).T)
        for cell, made in sorted(cells.items())
        if made.trail
    ]
    return Contest(Path(folder).resolve().name, settings, orders, tuple(standings), tuple(trails))


def _place(item: tuple[tuple[str, str, float], Any]) -> tuple[Any, ...]:
    """Return what standings are ordered by: density, then the plainest method first, before its controls."""
    (method, control, density), _ = item
    last = [DENSE, IMP, *reversed(BUDGETED), EVOLUTION]
    rank = -1 if method == DENSE else last.index(method) if method in last else 0
    return -density, rank, method, CONTROLS.index(control) + 1 if control else 0


def _standing(
    method: str, control: str, density: float, accuracies: Mapping[int, float], made: Sequence[Made]
) -> Standing:
    spent = [(one.spent.evaluations, one.spent.steps, one.spent.flops) for one in made]
    return Standing(
        f"{method}/{control}" if control else method,
        density,
        accuracies,
        interval(np.array(list(accuracies.values()))),
        Spent(*(round(mean) for mean in np.mean(spent, axis=0))),
        float(np.mean([one.candidates for one in made])),
    )


def differences(contests: Sequence[Contest], reference: str | None = None) -> list[Difference]:
    """Return the reference minus each other method, paired over initializations, at every density.

    ``reference`` is the evolution where it is there, else the last method. Raises :class:`BadInput` for one
    that is not there, or for contests of which two have the same name.
    """
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
        for family in FAMILIES
        for difference, corrected in _corrected([one for one in found if one.family == family])
    ]


def _difference(name: str, density: float, first: Standing, other: Standing) -> list[Difference]:
    """Return the difference of two standings, if they have an initialization in common."""
    both = [number for number in first.accuracies if number in other.accuracies]
    if not both:
        return []
    pairs = np.array([first.accuracies[number] - other.accuracies[number] for number in both])
    family = FAMILIES[other.method != IMP_BEST]
    return [Difference(name, density, first.method, other.method, paired(pairs), family)]


def _corrected(family: Sequence[Difference]) -> list[tuple[Difference, float]]:
    return list(zip(family, holm([one.test.permutation for one in family]), strict=True))
