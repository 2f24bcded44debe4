"""Commands that read runs: ``list``, ``show`` and ``report``."""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ticketsearch.cli.endings import reason, show_lines
from ticketsearch.errors import BadInput, printable

if TYPE_CHECKING:
    from ticketsearch.runs import Run

__all__ = ["RUNS", "list_", "report", "run_folder", "shell_name", "show"]

RUNS = Path("runs")
RunName = Annotated[str, typer.Argument(metavar="RUN", help="Name of a run in runs/, or path of its folder.")]


def list_() -> None:
    """List the runs in runs/, one line each."""
    from ticketsearch.runs import list_runs

    paths = list_runs(RUNS)
    if not paths:
        print(f"No runs in {RUNS}/ here; `ticketsearch evolve` makes one.")
    names = [printable(path.name) for path in paths]
    width = max(map(len, names), default=0)
    for name, path in zip(names, paths, strict=True):
        print(f"{name:{width}}  {_state(path)}")


def _state(path: Path) -> str:
    """Return a run's state on one line; a run that cannot be read gives a line too."""
    from ticketsearch.report.text import one_line
    from ticketsearch.runs import Run

    try:
        with Run.open(path) as run:
            return printable(one_line(run))
    except BadInput as problem:
        return f"unreadable: {printable(str(problem))}"
    except Exception as problem:
        return f"unreadable: {printable(' '.join(reason(problem).split()))}"


def _stop_garbage_collection() -> None:
    """Stop the garbage collector, as a command that reads a run and ends makes few cycles."""
    gc.disable()


def show(run: RunName) -> None:
    """Print a run's generations, tickets with digests and scores, and results; on stderr its times."""
    _stop_garbage_collection()
    from ticketsearch.report.text import content, phase_lines
    from ticketsearch.runs import Run

    with Run.open(run_folder(run)) as opened:
        show_lines(content(opened))
        sys.stdout.flush()
        # On stderr, as the content on stdout is the same for equal runs.
        show_lines(phase_lines(opened), sys.stderr)


def report(run: RunName) -> None:
    """Write a run's report.html again."""
    _stop_garbage_collection()
    from ticketsearch.report import write_report
    from ticketsearch.runs import Run

    with Run.open(run_folder(run)) as opened:
        show_lines([str(write_report(opened))])


def run_folder(run: str) -> Path:
    """Return the folder of a run that is given by name or path."""
    path = Path(run)
    return path if len(path.parts) > 1 or (path / "run.sqlite").is_file() else RUNS / run


def shell_name(run: Run) -> str:
    """Return the name of a run at the shell: its name, or its path outside runs/."""
    return run.name if run.path.parent == RUNS else str(run.path)
