"""The command line: parses, shows progress, prints, and turns bad input into one line and exit code 2.

What takes long to import (torch, the search) is imported by the command that needs it.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import tomllib
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ticketsearch import __version__
from ticketsearch.errors import BadInput

if TYPE_CHECKING:
    from ticketsearch.evolution import Generation
    from ticketsearch.progress import Progress
    from ticketsearch.runs import Run
    from ticketsearch.search import Search

__all__ = ["app", "main"]

RUNS = Path("runs")
BAD_INPUT, INTERRUPTED = 2, 130

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
# The base of what typer itself raises for a bad command line; its name moved between versions.
UsageProblem: type[Exception] = typer.BadParameter.__mro__[2]


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 2 bad input (one line on stderr), 130 interrupted."""
    warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
    try:
        code = typer.main.get_command(app).main(arguments, "ticketsearch", standalone_mode=False)
        sys.stdout.flush()
    except UsageProblem as problem:
        message = problem.format_message()  # type: ignore[attr-defined]
        code = _fail(message) if message else BAD_INPUT  # without a command typer has printed the help
    except BadInput as problem:
        code = _fail(str(problem))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the exit would complain again
        code = 0
    except (OSError, sqlite3.Error) as problem:
        code = _fail(_reason(problem))
    except MemoryError as problem:
        code = _fail(f"out of memory {problem}; ask for fewer steps, a smaller population or a smaller model")
    except (KeyboardInterrupt, typer.Abort):
        print("Interrupted.", file=sys.stderr)
        code = INTERRUPTED
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return BAD_INPUT


def _version(wanted: bool) -> None:
    if wanted:
        print(f"ticketsearch {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Search for lottery tickets with a genetic algorithm over pruning masks."""


@app.command()
def evolve(
    settings: Annotated[
        Path | None, typer.Argument(help="Settings as TOML; what it leaves out has its default.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="digits (the default), mnist1d, idx:FOLDER, npz:FILE or file.py:function."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="mlp:H1,H2,… (default mlp:100,50), lenet_300_100 or file.py:function.")
    ] = None,
    density: Annotated[
        str | None, typer.Option(metavar="FLOAT", help="Kept / total of every mask, in (0, 1]; default 0.05.")
    ] = None,
    population: Annotated[
        str | None, typer.Option(metavar="INTEGER", help="Tickets in a generation; default 32.")
    ] = None,
    generations: Annotated[
        str | None,
        typer.Option(metavar="INTEGER", help="Generations after the first population; default 20."),
    ] = None,
    steps: Annotated[
        str | None, typer.Option(metavar="INTEGER", help="Optimizer steps of an evaluation; default 200.")
    ] = None,
    initializations: Annotated[
        str | None,
        typer.Option(metavar="INTEGER", help="Initializations pruned for the first population; default 8."),
    ] = None,
    seed: Annotated[
        str | None,
        typer.Option(metavar="INTEGER", help="Of everything random but the data split; default 0."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto (the default), cpu, cuda or cuda:N.")] = None,
    name: Annotated[str | None, typer.Option(help="The run's folder in runs/; counted by default.")] = None,
    resume: Annotated[
        str | None, typer.Option(metavar="RUN", help="Go on with this run; more --generations extend it.")
    ] = None,
    assign: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Any setting, e.g. evolution.elites=2; repeatable."),
    ] = None,
) -> None:
    """Prune differently initialized copies, evolve the masks, compare the best ticket on test data."""
    from ticketsearch.config import parse_assignment

    # Numbers arrive as text: the settings check them, and say rule and value in the same words everywhere.
    flags = {
        "data.name": data,
        "model.name": model,
        "seeding.density": density,
        "evolution.population": population,
        "evolution.generations": generations,
        "training.steps": steps,
        "seeding.initializations": initializations,
        "seed": seed,
        "training.device": device,
    }
    assignments = dict(_read_settings(settings)) if settings else {}
    assignments |= dict(parse_assignment(text) for text in assign or [])
    assignments |= {key: value for key, value in flags.items() if value is not None}
    if resume is not None and name is not None:
        raise BadInput(
            f"--resume goes on with {resume!r} itself and takes no --name, but got {name!r}; drop one"
        )
    try:
        search, run = _opened(assignments, name, resume)
    except KeyboardInterrupt:
        how = f"go on with: ticketsearch evolve --resume {resume}" if resume else "no run was made"
        raise _interrupted(f"Interrupted; {how}") from None
    with run:
        _see_through(search, run)


def _see_through(search: Search | None, run: Run) -> None:
    """Run what is left of a search and print its outcome; whatever stops it, say how to go on."""
    again = f"go on with: ticketsearch evolve --resume {_mention(run)}"
    try:
        if search is not None:
            _evolve(search, run)
        _print_outcome(run)
    except KeyboardInterrupt:
        done = f"after generation {run.progress()}" if run.progress() >= 0 else "in the first generation"
        raise _interrupted(f"Interrupted {done}; {again}") from None
    except (BadInput, BrokenPipeError):
        raise
    except (OSError, sqlite3.Error) as problem:
        raise BadInput(
            f"run {run.name!r} stopped ({_reason(problem)}); all committed generations are safe: "
            f"mend the cause and {again}"
        ) from problem
    except Exception:
        print(f"Run {run.name!r} stopped; all committed generations are safe: {again}", file=sys.stderr)
        raise


def _interrupted(message: str) -> typer.Exit:
    # A second Ctrl-C must not cut short what says how to go on.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    print(f"\n{message}", file=sys.stderr)
    return typer.Exit(INTERRUPTED)


def _reason(problem: Exception) -> str:
    if isinstance(problem, OSError) and problem.strerror:
        return problem.strerror + (f" {problem.filename!r}" if problem.filename else "")
    return str(problem)


@app.command("list")
def list_() -> None:
    """List the runs in runs/, a line each."""
    from ticketsearch.runs import Run, list_runs
    from ticketsearch.summary import one_line

    paths = list_runs(RUNS)
    if not paths:
        print(f"No runs in {RUNS}/ here; `ticketsearch evolve` makes one.")
    width = max((len(path.name) for path in paths), default=0)
    for path in paths:
        try:
            with Run.open(path) as run:
                print(f"{path.name:{width}}  {one_line(run)}")
        except BadInput as problem:
            print(f"{path.name:{width}}  unreadable: {problem}")


@app.command()
def show(run: Annotated[str, typer.Argument(help="A run's name, or the path of its folder.")]) -> None:
    """Print a run's content: generations, tickets with digests and scores, final results."""
    from ticketsearch.runs import Run
    from ticketsearch.summary import content

    with Run.open(_path(run)) as opened:
        for line in content(opened):
            print(line)


@app.command()
def report(run: Annotated[str, typer.Argument(help="A run's name, or the path of its folder.")]) -> None:
    """Write a run's report.html again."""
    from ticketsearch.report import write_report
    from ticketsearch.runs import Run

    with Run.open(_path(run)) as opened:
        print(write_report(opened))


def _path(run: str) -> Path:
    """Return the folder of a run given by name or path."""
    path = Path(run)
    return path if len(path.parts) > 1 or (path / "run.sqlite").is_file() else RUNS / run


def _mention(run: Run) -> str:
    return run.name if run.path.parent == RUNS else str(run.path)


def _read_settings(path: Path) -> list[tuple[str, Any]]:
    from ticketsearch.config import leaves, load

    load(path)  # says what is wrong with the file itself
    return leaves(tomllib.loads(path.read_text(encoding="utf-8")))


def _opened(assignments: dict[str, Any], name: str | None, resume: str | None) -> tuple[Search | None, Run]:
    """Make the run, or open the one to go on with; without a search where that one is finished."""
    from ticketsearch import search as searching
    from ticketsearch.config import load
    from ticketsearch.runs import check_free

    if resume is not None:
        return searching.resume(_path(resume), assignments)
    settings = load(None, assignments.items())
    if name is not None:
        check_free(RUNS, name)
    search = searching.Search.prepare(settings)
    copies, method = settings.seeding.initializations, settings.seeding.method
    print(f"Pruning {copies} initializations with {method} …", file=sys.stderr, flush=True)
    _ = search.first_population  # what is wrong with it shows before there is a run
    return search, searching.create_run(search, RUNS, name)


def _evolve(search: Search, run: Run) -> None:
    """Run what is left of a search, showing progress on stderr."""
    from ticketsearch.progress import progress

    settings = search.settings
    total = settings.evolution.generations
    with progress(total) as shown:
        shown.say(f"Run {run.name}: {settings.data.name}, {settings.model.name}, {run.spec.size} weights")
        if 0 <= run.progress() < total:
            shown.say(f"Going on after generation {run.progress()}")
        for generation in search.generations(run):
            _show(generation, run, shown)
        for contender in search.finish(run):
            shown.say(f"Final training, {settings.final.steps} steps: {contender} …")


def _show(generation: Generation, run: Run, shown: Progress) -> None:
    from ticketsearch.masks import density, effective_density
    from ticketsearch.progress import Line

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
    )
    shown.generation(line)


def _print_outcome(run: Run) -> None:
    from ticketsearch.report import write_report
    from ticketsearch.summary import comparison_lines, overlap_lines

    path = write_report(run)
    print(f"Run {run.name}")
    for line in [*comparison_lines(run), *overlap_lines(run)]:
        print(line)
    print(f"Report:  {path}")
    print(f"Tickets: {run.path / 'tickets'}")
