"""The results of a comparison, read from its folder as one object."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ticketsearch.checks import checked
from ticketsearch.comparison.methods import FoundMask
from ticketsearch.comparison.plan import BUDGETED, CONTROLS, DENSE, EVOLUTION, Cell
from ticketsearch.comparison.store import ComparisonStore
from ticketsearch.cost import Spent
from ticketsearch.errors import renamed, shown
from ticketsearch.pruners import TRAINING
from ticketsearch.settings import Settings
from ticketsearch.statistics import Interval, bootstrap
from ticketsearch.typing import Floats

__all__ = ["BestSoFar", "Comparison", "MethodResult", "read_comparison"]


class MethodResult(NamedTuple):
    """The test accuracies of one method at one density.

    Attributes
    ----------
    method : with ``/shuffled`` or ``/reinitialized`` for a control.
    density : kept / total; 1 for the dense network.
    accuracies : by initialization, the mean test accuracy over data orders.
    masks : by initialization, the mask and its cost; for a control the mask that it was made of.
    """

    method: str
    density: float
    accuracies: Mapping[int, float]
    masks: Mapping[int, FoundMask]

    @property
    def is_control(self) -> bool:
        """Whether these are ablated controls: another method's masks, shuffled or reinitialized."""
        return self.method.endswith(tuple(f"/{control}" for control in CONTROLS))

    @property
    def accuracy(self) -> Interval:
        """The mean accuracy over initializations, with its interval."""
        return bootstrap(np.array(list(self.accuracies.values())))

    @property
    def spent(self) -> Spent:
        """The cost of one mask, the mean over initializations."""
        costs = [(m.spent.evaluations, m.spent.steps, m.spent.flops) for m in self.masks.values()]
        return Spent(*(round(mean) for mean in np.mean(costs, axis=0)))

    @property
    def candidates(self) -> float:
        """The number of masks that one was chosen from, the mean over initializations."""
        return float(np.mean([mask.candidates for mask in self.masks.values()]))

    @property
    def seconds(self) -> float | None:
        """The processor seconds of making one mask, the mean over those measured; None without one."""
        measured = [mask.seconds for mask in self.masks.values() if mask.seconds is not None]
        return float(np.mean(measured)) if measured else None

    @property
    def made(self) -> Mapping[int, FoundMask]:
        """The masks by their old name; deprecated."""
        message = "made is deprecated and goes with version 0.3.0; write masks"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        return self.masks


class BestSoFar(NamedTuple):
    """The validation accuracy of one search's best mask so far against its FLOPs, each ``(points,)``."""

    method: str
    density: float
    flops: Floats
    accuracy: Floats


@dataclass(frozen=True, eq=False)
class Comparison:
    """The results of a whole comparison.

    Attributes
    ----------
    name : the folder's.
    settings : of the search, of all training and of the data.
    orders : data orders that all final results have.
    results : by density, densest first, methods in their order.
    best_so_far : a curve for each search.
    """

    name: str
    settings: Settings
    orders: int
    results: tuple[MethodResult, ...]
    best_so_far: tuple[BestSoFar, ...] = field(repr=False)

    def __repr__(self) -> str:
        initializations = max((len(result.accuracies) for result in self.results), default=0)
        counts = {"method": len(self.methods), "initialization": initializations, "data order": self.orders}
        sizes = ", ".join(f"{count} {noun}{'' if count == 1 else 's'}" for noun, count in counts.items())
        ends = dict.fromkeys([*self.densities[:1], *self.densities[-1:]])
        span = f", density {' to '.join(f'{density:.3g}' for density in ends)}" if ends else ""
        return f"Comparison({shown(self.name, 40)}, {sizes}{span})"

    standings = renamed("standings", "results")
    trails = renamed("trails", "best_so_far")

    @property
    def methods(self) -> list[str]:
        """The methods and controls that have results."""
        return list(dict.fromkeys(result.method for result in self.results))

    @property
    def densities(self) -> list[float]:
        """The densities that have results, densest first; the dense network's if it alone has some."""
        sparse = {result.density for result in self.results if result.method != DENSE}
        return sorted(sparse or {result.density for result in self.results}, reverse=True)

    def at(self, density: float) -> list[MethodResult]:
        """Return the results at a density, the dense network's among them."""
        return [r for r in self.results if r.density == density or r.method == DENSE]

    def lines(self, reference: str | None = None) -> list[str]:
        """Return the comparison as lines of text; deprecated, use :func:`ticketsearch.comparison_text`."""
        # Late, because the text is made from these results: without it, importing either needs the other.
        from ticketsearch.report.text import comparison_text

        warnings.warn(
            "Comparison.lines() is removed in the next release; call ts.comparison_text(comparison)",
            DeprecationWarning,
            stacklevel=2,
        )
        return comparison_text(self, reference).splitlines()


@checked
def read_comparison(folder: str | Path) -> Comparison:
    """Read the comparison in a folder, finished or not.

    Raises :class:`BadInput` for a folder without one.
    """
    with ComparisonStore.open(folder) as store:
        cells, trained, settings = store.cells(), store.results(), store.settings
    orders = min((len(results) for results in trained.values()), default=0)
    accuracies: dict[tuple[str, str, float], dict[int, float]] = {}
    for (cell, control), results in sorted(trained.items()):
        mean = float(np.mean([results[order].accuracy for order in range(orders)]))
        accuracies.setdefault((cell.method, control, cell.density), {})[cell.initialization] = mean
    method_results = [
        MethodResult(
            f"{method}/{control}" if control else method,
            density,
            means,
            {number: cells[Cell(method, density, number)] for number in means},
        )
        for (method, control, density), means in sorted(accuracies.items(), key=_place)
    ]
    curves = [
        BestSoFar(cell.method, cell.density, *np.array(mask.best_so_far, dtype=np.float64).T)
        for cell, mask in sorted(cells.items())
        if mask.best_so_far
    ]
    return Comparison(Path(folder).resolve().name, settings, orders, tuple(method_results), tuple(curves))


def _place(item: tuple[tuple[str, str, float], Any]) -> tuple[Any, ...]:
    """Return the sort key of results: density, then the plainest method first, before its controls."""
    (method, control, density), _ = item
    last = [DENSE, *TRAINING, *reversed(BUDGETED), EVOLUTION]
    rank = -1 if method == DENSE else last.index(method) if method in last else 0
    return -density, rank, method, CONTROLS.index(control) + 1 if control else 0
