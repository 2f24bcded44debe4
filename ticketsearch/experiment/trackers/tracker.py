"""The base of trackers: the figures of each generation, each logged once, and the final table."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

from ticketsearch.errors import BadInput
from ticketsearch.evolution import Generation
from ticketsearch.experiment.callbacks import Callback
from ticketsearch.masks import MaskSpec, density, effective_density
from ticketsearch.overlap import diversity
from ticketsearch.runs import ContenderRow, Run, contender_rows

__all__ = ["FIGURES", "TABLE", "Tracker", "generation_figures", "table_records"]

# The figures of a generation, and the columns of the final table.
FIGURES = (
    *("best_fitness", "mean_fitness", "accuracy", "density", "effective_density", "mean_iou"),
    *("common_weights", "refused", "diverged", "seconds"),
)
TABLE = ("contender", "density", "effective_density", "accuracy", "accuracy_sd", "loss", "loss_sd")


def generation_figures(generation: Generation, spec: MaskSpec) -> dict[str, float]:
    """Return the figures of a generation by name; those that are not known or not finite are left out.

    Accuracy and densities are of the ticket of highest fitness, ``mean_iou`` and ``common_weights`` of the
    population (:func:`ticketsearch.overlap.diversity`); ``refused`` counts duplicates among the children.
    """
    best, spread = generation.best, diversity(generation.population.masks)
    figures = {
        "best_fitness": generation.statistics.get("best", math.nan),
        "mean_fitness": generation.statistics.get("mean", math.nan),
        "accuracy": best.measures.get("accuracy", math.nan),
        "density": density(best.mask),
        "effective_density": effective_density(best.mask, spec),
        "mean_iou": spread.mean_iou,
        "common_weights": spread.common,
        "refused": generation.refused,
        "diverged": generation.diverged,
        "seconds": generation.seconds,
    }
    return {name: value for name, value in figures.items() if math.isfinite(value)}


def table_records(rows: Sequence[ContenderRow]) -> list[dict[str, str | float]]:
    """Return the final table as records; figures that are not finite are left out."""
    return [
        {
            name: value
            for name, value in row._asdict().items()
            if name in TABLE and (isinstance(value, str) or math.isfinite(value))
        }
        for row in rows
    ]


class Tracker(Callback):
    """Base class of trackers.

    Every generation of a run is logged once. Those that are in the run and not in the tracker's files, as of
    a process that was killed or that had no tracker, are logged at the start.
    """

    # Name of the extra of this package, and of the module that it installs; empty where none is needed.
    extra: ClassVar[str] = ""
    module: ClassVar[str] = ""
    # The last generation that is logged.
    last = -1

    @classmethod
    def check_installed(cls) -> None:
        """Raise :class:`BadInput` if the package that the tracker needs is not installed."""
        if cls.module and importlib.util.find_spec(cls.module) is None:
            raise BadInput(
                f"tracker {cls.extra!r} needs the package {cls.module!r}, which is not installed; "
                f"install it: pip install 'ticketsearch[{cls.extra}]'"
            )

    def begin(self, run: Run) -> int:
        """Open the files of a run, and return the last generation that is logged in them, −1 for none."""
        raise NotImplementedError

    def log(self, generation: int, figures: Mapping[str, float]) -> None:
        """Write the figures of a generation."""
        raise NotImplementedError

    def log_table(self, generation: int, rows: Sequence[ContenderRow]) -> None:
        """Write the final table of a run whose last generation is given."""
        raise NotImplementedError

    def on_start(self, run: Run) -> None:
        """Open the files, and log the generations of the run that they lack."""
        self.last = self.begin(run)
        if self.last < run.progress():
            for generation in run.generations():
                self.on_generation(run, generation)

    def on_generation(self, run: Run, generation: Generation) -> None:
        """Log a generation that is not logged yet."""
        if generation.number > self.last:
            self.log(generation.number, generation_figures(generation, run.spec))
            self.last = generation.number

    def on_finish(self, run: Run) -> None:
        """Log the final table."""
        self.log_table(run.progress(), contender_rows(run))
