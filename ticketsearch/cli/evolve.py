"""``evolve``: makes a run or goes on with one, shows its progress, and prints its results."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from ticketsearch.cli import completion
from ticketsearch.cli.backends import Address, Backend, Scheduler, backend_settings
from ticketsearch.cli.endings import interrupted, reason, show_lines
from ticketsearch.cli.flags import (
    Assignments,
    DataName,
    Density,
    Initializations,
    Method,
    ModelName,
    Seed,
    SettingsFile,
    Trust,
    assigned,
    option,
    setting_option,
    whole_number,
)
from ticketsearch.cli.runs import RUNS, run_folder, shell_name
from ticketsearch.cli.sweep import Seeds, SweepFlags, Sweeps, Track, evolve_sweep, is_asked
from ticketsearch.errors import BadInput

if TYPE_CHECKING:
    from ticketsearch.experiment import Search
    from ticketsearch.runs import Run

__all__ = ["evolve"]

Population = Annotated[str | None, setting_option("evolution.population", "--population", "INTEGER")]
Generations = Annotated[str | None, setting_option("evolution.generations", "--generations", "INTEGER")]
Objective = Annotated[
    str | None,
    option(
        "--objective",
        "Objective of the search: score; front, the Pareto front of score against density; or strong, the "
        "accuracy of the masked network as it was initialized, without any training.",
        default="score",
        metavar="NAME",
    ),
]
Steps = Annotated[str | None, setting_option("training.steps", "--steps", "INTEGER[,…]")]
Workers = Annotated[str | None, setting_option("training.workers", "--workers", "INTEGER")]
Device = Annotated[str | None, setting_option("training.device", "--device")]
Name = Annotated[
    str | None,
    option(
        "--name", "Name of the run's folder in runs/.", default="data, model and a number", metavar="NAME"
    ),
]
Resume = Annotated[
    str | None,
    option(
        "--resume",
        "Name or folder of the run to go on with; a larger --generations extends a finished one.",
        metavar="RUN",
        complete=completion.run_names,
    ),
]

Finish = Annotated[
    bool,
    option("--finish", "With --resume: end the search with the generations there are, and compare its best."),
]
Minutes = Annotated[
    str | None,
    option(
        "--minutes",
        "Begin no generation after this many minutes, and compare the best of those there are.",
        default="no limit",
        metavar="NUMBER",
    ),
]
DryRun = Annotated[
    bool,
    option("--dry-run", "Print settings, trainings and an estimate of time and memory; search nothing."),
]


def evolve(  # noqa: PLR0913 - a parameter for each flag
    settings: SettingsFile = None,
    data: DataName = None,
    model: ModelName = None,
    method: Method = None,
    density: Density = None,
    population: Population = None,
    generations: Generations = None,
    objective: Objective = None,
    steps: Steps = None,
    initializations: Initializations = None,
    seed: Seed = None,
    device: Device = None,
    workers: Workers = None,
    backend: Backend = None,
    scheduler: Scheduler = None,
    address: Address = None,
    name: Name = None,
    resume: Resume = None,
    finish: Finish = False,
    minutes: Minutes = None,
    dry_run: DryRun = False,
    seeds: Seeds = None,
    sweep: Sweeps = None,
    track: Track = None,
    trust: Trust = False,
    assign: Assignments = None,
) -> None:
    """Search for a lottery ticket: prune initializations, evolve the masks, test the best one.

    With --seeds or --sweep there is a run for each seed and value, side by side,
    and one table of them all; the same command goes on where it stopped.
    """
    is_sweep = is_asked(seeds, sweep, resume)
    flags = {
        "data.name": data,
        "model.name": model,
        "seeding.method": method,
        "seeding.density": density,
        "evolution.population": population,
        "evolution.generations": generations,
        "training.steps": steps,
        "seeding.initializations": initializations,
        "seed": seed,
        "training.device": device,
        "training.workers": None if is_sweep else _workers(workers),
        "evolution.minutes": _minutes(minutes),
    }
    assignments = assigned(settings, assign, flags, trust)
    assignments = _objective(objective) | assignments
    assignments |= backend_settings(backend, scheduler, address, assignments)
    _check_resume(resume, name, finish, generations, dry_run)
    if is_sweep:
        single = {"--finish": finish, "--dry-run": dry_run, "--seed": seed is not None}
        chosen = SweepFlags(seeds, sweep, name, resume, workers, track or (), trust)
        evolve_sweep(assignments, chosen, refused=single)
    elif dry_run:
        _print_forecast(assignments)
    else:
        _evolve_one(assignments, name, resume, trust, finish, track or ())


def _evolve_one(
    assignments: dict[str, Any],
    name: str | None,
    resume: str | None,
    trust: bool,
    finish: bool,
    track: Sequence[str],
) -> None:
    """Make a run or go on with one, to its end."""
    try:
        if track:
            from ticketsearch.experiment import trackers_of

            trackers_of(track)  # unknown ones are refused before there is a run
        search, run = _open(assignments, name, resume, trust, finish)
    except KeyboardInterrupt:
        how = f"go on with: ticketsearch evolve --resume {resume}" if resume else "no run was made"
        raise interrupted(f"Interrupted; {how}") from None
    with run:
        _run_to_end(search, run, track)


def _check_resume(
    resume: str | None, name: str | None, finish: bool, generations: str | None, dry_run: bool
) -> None:
    """Raise :class:`BadInput` for flags that contradict ``--resume``, or that need it."""
    if resume is None:
        if finish:
            raise BadInput("--finish ends a run that is there; give its name: --resume RUN --finish")
        return
    if name is not None:
        raise BadInput(
            f"--resume goes on with {resume!r} itself and takes no --name, but got {name!r}; drop one"
        )
    if finish and generations is not None:
        raise BadInput(
            f"--finish keeps the generations there are, but got --generations {generations}; drop one"
        )
    if dry_run:
        raise BadInput(f"--dry-run is for a new search, but got --resume {resume}; drop one")


def _minutes(text: str | None) -> float | None:
    """Return the limit of minutes of the flag, None where it is not given."""
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise BadInput(
            f"--minutes takes a number above 0, but got {text!r}; "
            "leave it out for no limit; --set evolution.minutes=0 lifts that of a resumed run"
        )
    return value


def _print_forecast(assignments: dict[str, Any]) -> None:
    """Print what a search of these settings would be, without making a run."""
    from ticketsearch import experiment
    from ticketsearch.report.text import forecast_lines
    from ticketsearch.settings import load

    search = experiment.Search.prepare(load(None, assignments.items()))
    show_lines(forecast_lines(search.settings, experiment.forecast(search)))


def _workers(text: str | None) -> int | None:
    """Return the number of workers of the flag, None where it is not given."""
    try:
        return None if text is None else whole_number("--workers", text, 0)
    except BadInput as error:
        raise BadInput(f"{error}; leave it out for one a core or GPU") from None


def _objective(name: str | None) -> dict[str, Any]:
    """Return the settings that an objective stands for, none where the flag is not given."""
    from ticketsearch.settings import objective_settings

    return {} if name is None else objective_settings(name)


def _run_to_end(search: Search | None, run: Run, track: Sequence[str]) -> None:
    """Run the rest of a search and print its results; say how to go on, whatever stops it."""
    again = f"go on with: ticketsearch evolve --resume {shell_name(run)}"
    try:
        _evolve(search, run, track)
        _print_results(run)
    except KeyboardInterrupt:
        done = f"after generation {run.progress()}" if run.progress() >= 0 else "in the first generation"
        raise interrupted(f"Interrupted {done}; {again}") from None
    except (BadInput, BrokenPipeError):
        raise
    except (OSError, sqlite3.Error) as problem:
        raise BadInput(
            f"run {run.name!r} stopped ({reason(problem)}); all committed generations are safe: "
            f"mend the cause and {again}"
        ) from problem
    except Exception:
        if run.unbegun:  # the run's folder is removed
            raise
        print(f"Run {run.name!r} stopped; all committed generations are safe: {again}", file=sys.stderr)
        raise


def _open(
    assignments: dict[str, Any], name: str | None, resume: str | None, trust: bool, finish: bool
) -> tuple[Search | None, Run]:
    """Return a new run, or the one to go on with, and its search; None for a finished run."""
    from ticketsearch.runs import check_free
    from ticketsearch.settings import as_list, load

    if resume is not None:
        from ticketsearch import experiment

        return experiment.resume(run_folder(resume), assignments, finish=finish, trust=trust)
    settings = load(None, assignments.items())
    if name is not None:
        check_free(RUNS, name)
    from ticketsearch import experiment  # after the checks that take no time

    search = experiment.Search.prepare(settings)
    copies, method = settings.seeding.initializations, " and ".join(as_list(settings.seeding.method))
    print(f"Pruning {copies} initializations with {method} …", file=sys.stderr, flush=True)
    _ = search.first_population  # bad input in it is refused before there is a run
    return search, experiment.create_run(search, RUNS, name)


def _evolve(search: Search | None, run: Run, track: Sequence[str]) -> None:
    """Run the rest of a search, None for a finished one; trackers take it, and its progress is on stderr."""
    if search is None and not track:
        return
    from ticketsearch.experiment import Callbacks, complete, trackers_of
    from ticketsearch.python import displayed

    trackers = Callbacks(trackers_of(track))
    if search is None:
        trackers.on_start(run)
        trackers.on_finish(run)
        return
    with displayed(search.settings.evolution.generations) as shown:
        complete(search, run, Callbacks([shown, trackers]))


def _print_results(run: Run) -> None:
    from ticketsearch.report import write_report
    from ticketsearch.report.text import (
        answer_lines,
        comparison_lines,
        operator_lines,
        overlap_lines,
        rung_lines,
    )

    path = write_report(run)
    show_lines([f"Run {run.name}"])
    for lines in (answer_lines, comparison_lines, rung_lines, operator_lines, overlap_lines):
        show_lines(lines(run))
    show_lines([f"Report:  {path}", f"Tickets: {run.path / 'tickets'}"])
