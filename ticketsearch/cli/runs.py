"""Commands that read one run: ``show`` and ``report``."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ticketsearch.cli import completion
from ticketsearch.cli.endings import show_lines, stop_garbage_collection
from ticketsearch.cli.flags import option, whole_number
from ticketsearch.cli.folders import RUNS, run_folder, shell_name
from ticketsearch.errors import BadInput

if TYPE_CHECKING:
    from ticketsearch.runs import Run

__all__ = ["RUNS", "report", "run_folder", "shell_name", "show"]

RunName = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="Name of a run in runs/, or path of its folder.",
        autocompletion=completion.run_names,
    ),
]
Best = Annotated[
    str | None,
    option("--best", "Number of tickets to show, those of the highest fitness first.", metavar="INTEGER"),
]
Json = Annotated[
    bool, option("--json", "Print settings, generations, tickets and results as one JSON object.")
]
Csv = Annotated[bool, option("--csv", "Print the tickets as CSV.")]


def show(run: RunName, best: Best = None, as_json: Json = False, as_csv: Csv = False) -> None:
    """Print a run's generations, tickets with digests and scores, and results; on stderr its times.

    With --best or --csv, a table of tickets takes the place of that content,
    and with --json one object.
    """
    stop_garbage_collection()
    from ticketsearch.runs import Run

    count = None if best is None else whole_number("--best", best, 1)
    if as_json and as_csv:
        raise BadInput("a run is shown as JSON or as CSV, but got --json and --csv; drop one")
    with Run.open(run_folder(run)) as opened:
        if as_json:
            print(json.dumps(_content(opened, count), indent=2, allow_nan=False, default=str))
        elif as_csv or count is not None:
            show_lines(_ticket_lines(opened, count, as_csv))
        else:
            _show_content(opened)


def _show_content(run: Run) -> None:
    """Print the content on stdout, and the times, in which equal runs differ, on stderr."""
    from ticketsearch.report.text import content, phase_lines

    show_lines(content(run))
    sys.stdout.flush()
    show_lines(phase_lines(run), sys.stderr)


def _ticket_lines(run: Run, count: int | None, as_csv: bool) -> list[str]:
    """Return the table of the tickets, or of the best ones, as lines."""
    from ticketsearch.report.text import best_lines, csv_text
    from ticketsearch.runs import ticket_records

    records = ticket_records(run, count)
    if not as_csv:
        return best_lines(records)
    rows = [{**record, "parents": " ".join(map(str, record["parents"]))} for record in records]
    return csv_text(rows).splitlines()


def _content(run: Run, count: int | None) -> dict[str, Any]:
    """Return the run's settings, generations, tickets and results for JSON."""
    from ticketsearch.runs import generation_records, result_records, state_of, ticket_records
    from ticketsearch.settings import settings_digest

    return {
        "run": run.name,
        "state": state_of(run),
        "digest": settings_digest(run.settings),
        "network": run.spec.signature,
        "weights": run.spec.size,
        "data": run.data_fingerprint,
        "settings": run.settings.model_dump(),
        "generations": generation_records(run),
        "tickets": ticket_records(run, count),
        "results": result_records(run),
    }


def report(run: RunName) -> None:
    """Write a run's report.html again."""
    stop_garbage_collection()
    from ticketsearch.report import write_report
    from ticketsearch.runs import Run

    with Run.open(run_folder(run)) as opened:
        show_lines([str(write_report(opened))])
