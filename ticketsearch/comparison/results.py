"""What a contest holds, as one object that is read from its folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ticketsearch.checks import checked
from ticketsearch.comparison.methods import Made
from ticketsearch.comparison.plan import BUDGETED, CONTROLS, DENSE, EVOLUTION, Cell
from ticketsearch.comparison.store import Store
from ticketsearch.cost import Spent
from ticketsearch.pruners import TRAINING
from ticketsearch.settings import Settings
from ticketsearch.statistics import Interval, bootstrap

__all__ = ["Contest", "Standing", "Trail", "read_comparison"]

Floats = NDArray[np.float64]


class Standing(NamedTuple):
    """What came of one method at one density.

    Attributes
    ----------
    method : with ``/shuffled`` or ``/reinitialized`` for a control.
    density : kept / total; 1 for the dense network.
    accuracies : by initialization, the mean test accuracy over data orders.
    made : by initialization, the mask and what it took; for a control the mask that it was made of.
    """

    method: str
    density: float
    accuracies: Mapping[int, float]
    made: Mapping[int, Made]

    @property
    def is_control(self) -> bool:
        """Whether these are masks of another method with something taken from them."""
        return self.method.endswith(tuple(f"/{control}" for control in CONTROLS))

    @property
    def accuracy(self) -> Interval:
        """The mean accuracy over initializations, with its interval."""
        return bootstrap(np.array(list(self.accuracies.values())))

    @property
    def spent(self) -> Spent:
        """What one mask took, the mean over initializations."""
        taken = [(one.spent.evaluations, one.spent.steps, one.spent.flops) for one in self.made.values()]
        return Spent(*(round(mean) for mean in np.mean(taken, axis=0)))

    @property
    def candidates(self) -> float:
        """Among how many a mask was chosen, the mean over initializations."""
        return float(np.mean([one.candidates for one in self.made.values()]))


class Trail(NamedTuple):
    """What one search had after spending so many FLOPs, both ``(points,)``: validation accuracy."""

    method: str
    density: float
    flops: Floats
    accuracy: Floats


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
        """The densities that there are results of, densest first; the dense network's where it is alone."""
        found = {standing.density for standing in self.standings if standing.method != DENSE}
        return sorted(found or {standing.density for standing in self.standings}, reverse=True)

    def at(self, density: float) -> list[Standing]:
        """Return the standings at a density, the dense network's among them."""
        return [s for s in self.standings if s.density == density or s.method == DENSE]

    def lines(self, reference: str | None = None) -> list[str]:
        """Return the comparison as text: tables by density, differences, and what was tested."""
        from ticketsearch.report.text import lines

        return lines([self], reference)


@checked
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
        Standing(
            f"{method}/{control}" if control else method,
            density,
            own,
            {number: cells[Cell(method, density, number)] for number in own},
        )
        for (method, control, density), own in sorted(accuracies.items(), key=_place)
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
    last = [DENSE, *TRAINING, *reversed(BUDGETED), EVOLUTION]
    rank = -1 if method == DENSE else last.index(method) if method in last else 0
    return -density, rank, method, CONTROLS.index(control) + 1 if control else 0
