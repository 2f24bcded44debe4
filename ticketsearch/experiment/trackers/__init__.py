"""Trackers: callbacks that write the figures of a run for other tools, into the run's folder.

The base class and the figures (``tracker``)
    Tracker, generation_figures
Trackers by name (``csv_files``, ``tensorboard``, ``mlflow``)
    TRACKERS, trackers_of
"""

from __future__ import annotations

from collections.abc import Iterable

from ticketsearch.errors import BadInput, unknown
from ticketsearch.experiment.trackers.csv_files import CsvFiles
from ticketsearch.experiment.trackers.mlflow import MLflow
from ticketsearch.experiment.trackers.tensorboard import TensorBoard
from ticketsearch.experiment.trackers.tracker import Tracker, generation_figures

__all__ = ["TRACKERS", "Tracker", "generation_figures", "trackers_of"]

TRACKERS: dict[str, type[Tracker]] = {"tensorboard": TensorBoard, "mlflow": MLflow, "csv": CsvFiles}


def trackers_of(names: Iterable[str]) -> list[Tracker]:
    """Return new trackers for one run, by name.

    Raises :class:`BadInput` for an unknown name, one that is given twice, and a tracker whose package is not
    installed.
    """
    names = list(names)
    for name in names:
        if name not in TRACKERS:
            raise unknown("tracker", name, TRACKERS)
        if names.count(name) > 1:
            raise BadInput(f"a run has each tracker once, but got {name!r} twice; drop one")
        TRACKERS[name].check_installed()
    return [TRACKERS[name]() for name in names]
