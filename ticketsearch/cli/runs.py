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

__all__ = ["RUNS", "folder", "list_", "mention", "report", "show"]

RUNS = Path("runs")


def list_() -> None:
    """List the runs in runs/, a line each."""
    from ticketsearch.runs import list_runs

    paths = list_runs(RUNS)
    if not paths:
        print(f"No runs in {RUNS}/ here; `ticketsearch evolve` makes one.")
    names = [printable(path.name) for path in paths]
    width = max(map(len, names), default=0)
    for name, path in zip(names, paths, strict=True):
        print(f"{name:{width}}  {_state(path)}")


def _state(path: Path) -> str:
    """Return a run's state in one line; whatever is wrong with one run, the others are listed."""
    from ticketsearch.report.text import one_line
    from ticketsearch.runs import Run

    try:
        with Run.open(path) as run:
            return printable(one_line(run))
    except BadInput as problem:
        return f"unreadable: {printable(str(problem))}"
    except Exception as problem:
        return f"unreadable: {printable(' '.join(reason(problem).split()))}"


def _collect_nothing() -> None:
    """Stop the garbage collector: a command that reads and ends makes much that stays, and few cycles."""
    gc.disable()


def show(run: Annotated[str, typer.Argument(help="A run's name, or the path of its folder.")]) -> None:
    """Print a run's content: generations, tickets with digests and scores, results; on stderr its times."""
    _collect_nothing()
    from ticketsearch.report.text import content, phase_lines
    from ticketsearch.runs import Run

    with Run.open(folder(run)) as opened:
        show_lines(content(opened))
        sys.stdout.flush()
        # Apart from the content, which is the same for equal runs.
        show_lines(phase_lines(opened), sys.stderr)


def report(run: Annotated[str, typer.Argument(help="A run's name, or the path of its folder.")]) -> None:
    """Write a run's report.html again."""
    _collect_nothing()
    from ticketsearch.report import write_report
    from ticketsearch.runs import Run

    with Run.open(folder(run)) as opened:
        show_lines([str(write_report(opened))])


def folder(run: str) -> Path:
    """Return the folder of a run given by name or path."""
    path = Path(run)
    return path if len(path.parts) > 1 or (path / "run.sqlite").is_file() else RUNS / run


def mention(run: Run) -> str:
    """Return what names a run at the shell: its name, or its path outside runs/."""
    return run.name if run.path.parent == RUNS else str(run.path)
