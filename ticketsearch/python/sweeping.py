"""Sweeps: the runs, and the page and tables of their results in the same folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from ticketsearch import sweeps
from ticketsearch.checks import Workers, checked
from ticketsearch.experiment import trackers_of
from ticketsearch.python.keywords import given_settings, setting_name
from ticketsearch.runs import check_name
from ticketsearch.settings import Settings, load
from ticketsearch.sweeps import Sweep, SweepPlan, SweepWork, create_sweep, default_name, sweep_plan
from ticketsearch.training import shared_gpus
from ticketsearch.workers import Step

__all__ = ["ShownSweep", "finish_sweep", "read_sweep", "sweep"]

# Does the steps of long work.
Follow = Callable[[Iterable[Step]], object]


class ShownSweep(Sweep):
    """The results of a sweep, which a notebook shows with their figure."""

    def _repr_html_(self) -> str:
        from ticketsearch.report import sweep_html  # figures take a second to import

        return sweep_html(self)


@checked
def read_sweep(folder: str | Path) -> ShownSweep:
    """Read the sweep in a folder, finished or not.

    Raises :class:`BadInput` for a folder without one, and for one that holds a run of other settings.
    """
    sweep = sweeps.read_sweep(folder)
    return ShownSweep(**{field.name: getattr(sweep, field.name) for field in fields(sweep)})


def finish_sweep(
    plan: SweepPlan,
    path: Path,
    workers: int = 1,
    track: Sequence[str] = (),
    follow: Follow | None = None,
) -> ShownSweep:
    """Do the runs of a sweep that are missing or unfinished, and write page and tables into its folder."""
    from ticketsearch.report import write_report, write_sweep_files

    work = SweepWork(
        plan, path, workers, shared_gpus(plan.settings.training.device), tuple(track), write_report
    )
    if follow is None:
        list(work.steps())
    else:
        follow(work.steps())
    results = read_sweep(path)
    write_sweep_files(results)
    return results


@checked
def sweep(  # noqa: PLR0913 - the documented interface
    settings: Settings | Mapping[str, Any] | str | Path | None = None,
    *,
    data: str | None = None,
    model: str | None = None,
    density: float | None = None,
    seeds: Sequence[int] = tuple(range(10)),
    over: Mapping[str, Sequence[Any]] | None = None,
    root: str | Path = "runs",
    name: str | None = None,
    workers: Workers = 1,
    track: Sequence[str] = (),
    follow: Follow | None = None,
    trust: bool = False,
    **others: Any,
) -> ShownSweep:
    """Make a run for each of several seeds and values of settings, and read them together.

    Each run is that of ``ticketsearch evolve`` with the same settings and seed, to the bit, and has a folder
    of its own in the folder of the sweep.

    Parameters
    ----------
    settings, data, model, density, others : of all runs, as of :func:`ticketsearch.search`, but names alone:
        the processes of a sweep load what they name.
    seeds : of the runs of each combination of values; differences are paired by seed.
    over : ``{setting: its values}``, e.g. ``{"evolution.temperature": [0.1, 0.3]}``, or the last part of its
        name; of several settings all combinations are run.
    root, name : folder of the sweep. Called again with the same arguments it goes on where it stopped, and
        with more seeds or values it adds their runs. The default name is made of the settings.
    workers : number of runs side by side, in processes of one job each; the result is the same for any
        number.
    track : names of trackers of each run: ``csv``, ``tensorboard``, ``mlflow``.
    follow : goes through the steps of the work, an iterable of ``(kind, number done, total)``, for progress.
    trust : whether a settings file in the folder of somebody else's run may name code.

    Returns the results: accuracies by contender, value and seed. Page and tables are in the folder, as
    ``ticketsearch evolve --seeds`` writes them.

    Raises :class:`BadInput`, before there is a run, for settings that cannot vary, no or equal seeds or
    values, values that cannot be used, and a folder that holds something else.
    """
    trackers_of(track)
    given = {"data.name": data, "model.name": model, "seeding.density": density}
    named = others | {setting: value for setting, value in given.items() if value is not None}
    wanted = load(None, given_settings(settings, named, trust=trust).items())
    plan = sweep_plan(wanted, seeds, {setting_name(key): values for key, values in (over or {}).items()})
    path = Path(root) / (default_name(plan) if name is None else check_name(name))
    create_sweep(path, plan)
    return finish_sweep(plan, path, workers, track, follow)
