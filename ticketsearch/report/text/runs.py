"""Runs side by side, and the best tickets of one, as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from ticketsearch.errors import printable
from ticketsearch.report.text.table import table_lines
from ticketsearch.runs import RunOverview

__all__ = ["best_lines", "run_lines"]

HEADINGS = (
    *("run", "state", "data", "model", "density", "generation", "fitness", "test accuracy", "time"),
    "created",
)
# Columns of the table of tickets beside the measures, which fitnesses name; the first ones are aligned left.
NAMES, FIGURES = ("ticket", "operator"), ("fitness", "density", "effective_density", "generation")


def run_lines(runs: Sequence[RunOverview], width: int = 0) -> list[str]:
    """Return the table of runs, whose names take at least ``width`` columns; no line for no run."""
    rows = [_cells(run, width) for run in runs]
    return [line[2:] for line in table_lines(HEADINGS, rows, left=4)] if rows else []


def _cells(run: RunOverview, width: int) -> tuple[str, ...]:
    return (
        f"{printable(run.name):{width}}",
        run.state,
        run.data,
        run.model,
        f"{run.density:g}",
        f"{run.generation}/{run.generations}",
        _decimal(run.fitness),
        _decimal(run.accuracy),
        str(timedelta(seconds=round(run.seconds))),
        (run.created or "")[:16].replace("T", " "),
    )


def best_lines(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the table of the best tickets, from their records; no line for no ticket."""
    if not records:
        return []
    names = list(records[0])
    measures = names[names.index("fitness") + 1 : names.index("rung")]
    columns = [*NAMES, FIGURES[0], *measures, *FIGURES[1:], "key"]
    headings = [column.replace("_", " ") for column in columns]
    rows = [[_cell(record.get(name)) for name in columns] for record in records]
    return table_lines(headings, rows, left=2)


def _cell(value: Any) -> str:
    return str(value) if isinstance(value, str | int) else _decimal(value)


def _decimal(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
