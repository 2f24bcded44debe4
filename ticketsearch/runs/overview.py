"""The overview of a run: its state and main figures, read in milliseconds and without its tickets."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Literal

from ticketsearch.runs.header import RunHeader
from ticketsearch.runs.results import BEST
from ticketsearch.settings import Settings
from ticketsearch.storage import is_locked

__all__ = ["OVERVIEW_COLUMNS", "RunOverview", "State", "read_overview", "state_of"]

State = Literal["running", "finishing", "interrupted", "finished"]


@dataclass(frozen=True)
class RunOverview:
    """The state and the main figures of a run.

    Attributes
    ----------
    name : of its folder.
    state : ``running``, ``finishing``, ``interrupted`` or ``finished``, see :func:`state_of`.
    created : the time at which the folder was made, in ISO 8601; None where it is unknown.
    data, model : names, without folders.
    density : of the masks, as set.
    generation : number of the last committed generation, 0 before the first.
    generations : number of generations that the settings ask for.
    fitness : the best of the last generation; None before the first, and where all tickets diverged.
    accuracy : of the best ticket on the test split, mean over data orders; None until the run is finished.
    seconds : wall-clock time of all generations.
    settings : all settings of the run.
    """

    name: str
    state: State
    created: str | None
    data: str
    model: str
    density: float
    generation: int
    generations: int
    fitness: float | None
    accuracy: float | None
    seconds: float
    settings: Settings


# The attributes that are a figure or a word.
OVERVIEW_COLUMNS = tuple(field.name for field in fields(RunOverview) if field.name != "settings")


def read_overview(path: Path) -> RunOverview:
    """Return the overview of the run in a folder.

    Raises :class:`BadInput` if it is no run, or its content is not as it was written.
    """
    with RunHeader.open(path) as run:
        settings = run.settings
        accuracies = [row.accuracy for row in run.results() if (row.contender, row.part) == (BEST, "test")]
        newest = run.statistics()[-1:]
        best = newest[0].get("best", -math.inf) if newest else -math.inf
        return RunOverview(
            name=path.name or run.name,
            state=state_of(run),
            created=_created(path),
            data=settings.data.name.rpartition("/")[2],
            model=settings.model.name.rpartition("/")[2],
            density=settings.seeding.density,
            generation=max(run.progress(), 0),
            generations=settings.evolution.generations,
            fitness=best if math.isfinite(best) else None,
            accuracy=sum(accuracies) / len(accuracies) if accuracies else None,
            seconds=sum(run.seconds()),
            settings=settings,
        )


def state_of(run: RunHeader) -> State:
    """Return the state of a run.

    A process that works on a run holds the lock of its folder: the run is ``running`` while generations are
    missing, then ``finishing`` until the final comparison is there. Without a lock it is ``finished`` if both
    are there, else ``interrupted``.
    """
    if run.finished:
        return "finished"
    if not is_locked(run.path):
        return "interrupted"
    return "running" if run.progress() < run.settings.evolution.generations else "finishing"


def _created(path: Path) -> str | None:
    with contextlib.suppress(OSError):
        made = (path / "environment.json").stat().st_mtime  # which is written once
        return datetime.fromtimestamp(made).astimezone().isoformat(timespec="seconds")
    return None
