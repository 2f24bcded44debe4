"""Commands that read runs: ``list``, ``show`` and ``report``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ticketsearch.errors import BadInput

if TYPE_CHECKING:
    from ticketsearch.runs import Run

__all__ = ["RUNS", "folder", "list_", "mention", "report", "show"]

RUNS = Path("runs")


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


def show(run: Annotated[str, typer.Argument(help="A run's name, or the path of its folder.")]) -> None:
    """Print a run's content: generations, tickets with digests and scores, results; on stderr its times."""
    from ticketsearch.runs import Run
    from ticketsearch.summary import content, phase_lines

    with Run.open(folder(run)) as opened:
        for line in content(opened):
            print(line)
        sys.stdout.flush()
        # Apart from the content, which is the same for equal runs.
        for line in phase_lines(opened):
            print(line, file=sys.stderr)


def report(run: Annotated[str, typer.Argument(help="A run's name, or the path of its folder.")]) -> None:
    """Write a run's report.html again."""
    from ticketsearch.report import write_report
    from ticketsearch.runs import Run

    with Run.open(folder(run)) as opened:
        print(write_report(opened))


def folder(run: str) -> Path:
    """Return the folder of a run given by name or path."""
    path = Path(run)
    return path if len(path.parts) > 1 or (path / "run.sqlite").is_file() else RUNS / run


def mention(run: Run) -> str:
    """Return what names a run at the shell: its name, or its path outside runs/."""
    return run.name if run.path.parent == RUNS else str(run.path)
