"""The work of a sweep: its runs side by side in processes, each resumable by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from ticketsearch import settings as config
from ticketsearch.datasets import Dataset, load_dataset
from ticketsearch.errors import BadInput
from ticketsearch.experiment import Callbacks, Search, complete, create_run, resume, trackers_of
from ticketsearch.runs import Run
from ticketsearch.settings import Data, Settings, leaves
from ticketsearch.storage import lock_folder
from ticketsearch.sweeps.plan import Member, SweepPlan
from ticketsearch.workers import Step, side_by_side

__all__ = ["SweepWork", "check_member"]


class _Task(NamedTuple):
    """The settings of a run as JSON, its folder and name, its trackers, and the maker of its page."""

    settings: str
    root: Path
    name: str
    track: tuple[str, ...]
    report: Callable[[Run], object] | None


@dataclass(frozen=True, eq=False)
class SweepWork:
    """The runs of a plan that are not finished.

    Attributes
    ----------
    plan : the runs.
    path : folder of the sweep.
    workers : number of runs side by side; the result is the same for any number.
    gpus : number of GPUs that the processes share, each of which sees one.
    track : names of trackers, which each run has, see :func:`ticketsearch.experiment.trackers_of`.
    report : makes the page of a run; it is called in the process of the run, at its end.
    """

    plan: SweepPlan
    path: Path
    workers: int = 1
    gpus: int = 0
    track: tuple[str, ...] = ()
    report: Callable[[Run], object] | None = None

    def steps(self) -> Iterator[Step]:
        """Do the runs that are missing or unfinished; each step is a finished run.

        Raises :class:`BadInput` where another process does them, or a folder holds another run.
        """
        lock = lock_folder(self.path)
        try:
            members = self.plan.members
            left = [member for member in members if not _is_finished(self.path, member)]
            tasks = [
                _Task(member.settings.model_dump_json(), self.path, member.name, self.track, self.report)
                for member in left
            ]
            done, total = len(members) - len(left), len(members)
            for _ in side_by_side(_finish, tasks, self.workers, gpus=self.gpus):
                done += 1
                yield Step("runs", done, total)
        finally:
            if lock is not None:
                lock.close()


def check_member(run: Run, member: Member) -> None:
    """Raise :class:`BadInput` if a run is not that of a member of a sweep; it may have other generations."""
    differs = config.changes(run.settings, member.settings)
    differs.pop("evolution.generations", None)
    for name, (old, new) in differs.items():
        raise BadInput(
            f"{str(run.path)!r} is not a run of this sweep: {name} is {old!r} in it and {new!r} in the "
            "sweep; move it away"
        )


def _is_finished(path: Path, member: Member) -> bool:
    """Return whether a member has its final comparison, after all generations or the minutes it is given."""
    if not (path / member.name).exists():
        return False
    with Run.open(path / member.name) as run:
        check_member(run, member)
        there, wanted = run.settings.evolution, member.settings.evolution
        return run.finished and (there.generations >= wanted.generations or wanted.minutes > 0)


def _finish(task: _Task) -> None:
    """Make a run, or go on with it, to its end."""
    settings = Settings.model_validate_json(task.settings)
    search: Search | None
    if (task.root / task.name).exists():
        # The settings are given by the sweep, so that code that they name is trusted already.
        search, run = resume(task.root / task.name, dict(leaves(settings.model_dump())), trust=True)
    else:
        search = Search.prepare(settings, _data(settings.data.model_dump_json()))
        _ = search.first_population  # bad input in it is refused before there is a run
        run = create_run(search, task.root, task.name)
    with run:
        if search is not None:
            complete(search, run, Callbacks(trackers_of(task.track)))
        if task.report is not None:
            task.report(run)


@lru_cache(maxsize=1)
def _data(text: str) -> Dataset:
    data = Data.model_validate_json(text)
    return load_dataset(data.name, **data.options)
