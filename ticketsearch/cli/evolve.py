"""``evolve``: makes a run or goes on with one, shows its progress, and prints what it came to."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ticketsearch.cli.endings import interrupted, reason, show_lines
from ticketsearch.cli.flags import (
    Assignments,
    DataName,
    Density,
    Method,
    ModelName,
    Seed,
    SettingsFile,
    Trust,
    assigned,
    whole_number,
)
from ticketsearch.cli.runs import RUNS, folder, mention
from ticketsearch.errors import BadInput, unknown

if TYPE_CHECKING:
    from ticketsearch.cli.progress import Progress
    from ticketsearch.evolution import Generation
    from ticketsearch.experiment import Search
    from ticketsearch.halving import Pool
    from ticketsearch.runs import Run

__all__ = ["evolve"]

Population = Annotated[
    str | None, typer.Option(metavar="INTEGER", help="Tickets in a generation; default 32.")
]
Generations = Annotated[
    str | None, typer.Option(metavar="INTEGER", help="Generations after the first population; default 20.")
]
Objective = Annotated[
    str | None,
    typer.Option(
        help="score (the default); front: score against density, between evolution.least_density and "
        "largest_density; strong: accuracy of the masked network as initialized, without any training.",
    ),
]
Steps = Annotated[
    str | None,
    typer.Option(
        metavar="INTEGER[,…]",
        help="Optimizer steps of an evaluation; default 200. A ladder, e.g. 50,200,800, trains all masks to "
        "its first rung and the better half to each next.",
    ),
]
Initializations = Annotated[
    str | None,
    typer.Option(
        metavar="INTEGER",
        help="Initializations pruned for the first population, which takes as many of the different masks as "
        "fit; default 8.",
    ),
]
Workers = Annotated[
    str | None,
    typer.Option(
        metavar="INTEGER",
        help="That train side by side; by default one a core or GPU, and one for a search that is short.",
    ),
]
Backend = Annotated[
    str | None,
    typer.Option(help="Where workers are: loky (processes here, the default), threads, dask or ray."),
]
Scheduler = Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Of the dask cluster.")]
Address = Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Of the ray cluster, or auto.")]
Device = Annotated[str | None, typer.Option(help="auto (the default), cpu, cuda or cuda:N.")]
Name = Annotated[str | None, typer.Option(help="The run's folder in runs/; counted by default.")]
Resume = Annotated[
    str | None, typer.Option(metavar="RUN", help="Go on with this run; more --generations extend it.")
]

# What each objective sets where nothing else is said.
OBJECTIVES: dict[str, dict[str, Any]] = {
    "score": {"evolution.objective": "score"},
    "front": {"evolution.objective": "front"},
    "strong": {
        "fitness.name": "untrained",
        "final.steps": 0,
        "evolution.mutation": "swap_mutation",
        "evolution.mutation_rate": 0.05,
        "evolution.crossover": "uniform_crossover",
        "evolution.identity": "ticket",  # masks that a renumbering makes equal select other weights
        "evolution.population": 200,
        "evolution.generations": 100,
        "seeding.method": "random",
        "seeding.density": 0.3,
        "seeding.schemes": ["uniform"],
    },
}
# The flag that gives the address of each cluster.
CLUSTERS = {"dask": "--scheduler", "ray": "--address"}


def evolve(
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
    trust: Trust = False,
    assign: Assignments = None,
) -> None:
    """Prune differently initialized copies, evolve the masks, compare the best ticket on test data."""
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
        "training.workers": _workers(workers),
    }
    assignments = assigned(settings, assign, flags, trust)
    if objective is not None:
        assignments = _objective(objective) | assignments
    assignments |= _place(backend, scheduler, address, assignments)
    if resume is not None and name is not None:
        raise BadInput(
            f"--resume goes on with {resume!r} itself and takes no --name, but got {name!r}; drop one"
        )
    try:
        search, run = _opened(assignments, name, resume, trust)
    except KeyboardInterrupt:
        how = f"go on with: ticketsearch evolve --resume {resume}" if resume else "no run was made"
        raise interrupted(f"Interrupted; {how}") from None
    with run:
        _see_through(search, run)


def _workers(text: str | None) -> int | None:
    """Return how many workers the flag asks for, where it is given; 0 is as many as pay."""
    try:
        return None if text is None else whole_number("--workers", text, 0)
    except BadInput as error:
        raise BadInput(f"{error}; leave it out for as many as pay") from None


def _objective(name: str) -> dict[str, Any]:
    """Return the settings that an objective stands for; those that are given come before them."""
    if name not in OBJECTIVES:
        raise unknown("objective", name, OBJECTIVES)
    return OBJECTIVES[name]


def _place(
    backend: str | None, scheduler: str | None, address: str | None, settings: Mapping[str, Any]
) -> dict[str, str]:
    """Return what the flags set of where workers are: dask has a scheduler, ray an address.

    Raises :class:`BadInput` where they do not agree with each other, or with the settings given beside them.
    """
    if scheduler is not None and address is not None:
        raise BadInput(f"a cluster has one address, but got {scheduler!r} and {address!r}; drop one")
    if scheduler is None and address is None:
        if backend is None:
            return {}
        # The address of a settings file, or of the run to go on with, may be another backend's.
        own = "training.address" in settings and settings.get("training.backend", backend) == backend
        return {"training.backend": backend} | ({} if own else {"training.address": ""})
    owner = "dask" if address is None else "ray"
    found = str(backend or settings.get("training.backend", owner))
    if found != owner:
        way_out = f"give {CLUSTERS[found]}" if found in CLUSTERS else "drop it"
        way_out += "" if backend else f", or add --backend {owner}"
        raise BadInput(f"{CLUSTERS[owner]} is for backend {owner!r}, but got {found!r}; {way_out}")
    return {"training.backend": owner, "training.address": scheduler or address or ""}


def _see_through(search: Search | None, run: Run) -> None:
    """Run what is left of a search and print its outcome; whatever stops it, say how to go on."""
    again = f"go on with: ticketsearch evolve --resume {mention(run)}"
    try:
        if search is not None:
            _evolve(search, run)
        _print_outcome(run)
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
        if run.unbegun:  # nothing is kept of it
            raise
        print(f"Run {run.name!r} stopped; all committed generations are safe: {again}", file=sys.stderr)
        raise


def _opened(
    assignments: dict[str, Any], name: str | None, resume: str | None, trust: bool
) -> tuple[Search | None, Run]:
    """Make the run, or open the one to go on with; without a search where that one is finished."""
    from ticketsearch import experiment
    from ticketsearch.runs import check_free
    from ticketsearch.settings import as_list, load

    if resume is not None:
        return experiment.resume(folder(resume), assignments, trust=trust)
    settings = load(None, assignments.items())
    if name is not None:
        check_free(RUNS, name)
    search = experiment.Search.prepare(settings)
    copies, method = settings.seeding.initializations, " and ".join(as_list(settings.seeding.method))
    print(f"Pruning {copies} initializations with {method} …", file=sys.stderr, flush=True)
    _ = search.first_population  # what is wrong with it shows before there is a run
    return search, experiment.create_run(search, RUNS, name)


def _evolve(search: Search, run: Run) -> None:
    """Run what is left of a search, showing progress on stderr."""
    from ticketsearch.cli.progress import progress
    from ticketsearch.experiment import finish
    from ticketsearch.halving import Pool

    settings = search.settings
    total = settings.evolution.generations
    with progress(total) as shown:
        shown.say(f"Run {run.name}: {settings.data.name}, {settings.model.name}, {run.spec.size} weights")
        for line in search.remarks:
            shown.say(line)
        if 0 <= run.progress() < total:
            shown.say(f"Going on after generation {run.progress()}")
        agreed = Pool(run.agreements())
        for generation in search.generations(run):
            agreed.add(generation.agreements)
            _show(generation, run, agreed, shown)
        for contender in finish(search, run):
            shown.say(f"Final training, {settings.final.steps} steps: {contender} …")


def _show(generation: Generation, run: Run, agreed: Pool, shown: Progress) -> None:
    from ticketsearch.cli.progress import Line
    from ticketsearch.masks import density, effective_density

    best = generation.best
    line = Line(
        number=generation.number,
        best=generation.statistics.get("best", float("-inf")),
        mean=generation.statistics.get("mean", float("-inf")),
        density=density(best.mask),
        effective_density=effective_density(best.mask, run.spec),
        refused=generation.refused,
        diverged=generation.diverged,
        evaluations=len(generation.offspring),
        seconds=generation.seconds,
        taus=tuple(agreed.taus()),
    )
    shown.generation(line)


def _print_outcome(run: Run) -> None:
    from ticketsearch.report import write_report
    from ticketsearch.report.text import comparison_lines, operator_lines, overlap_lines, rung_lines

    path = write_report(run)
    show_lines([f"Run {run.name}"])
    for lines in (comparison_lines, rung_lines, operator_lines, overlap_lines):
        show_lines(lines(run))
    show_lines([f"Report:  {path}", f"Tickets: {run.path / 'tickets'}"])
