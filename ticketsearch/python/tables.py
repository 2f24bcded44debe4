"""Tables of a run as data frames of pandas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ticketsearch.errors import BadInput, unknown
from ticketsearch.masks import density, effective_density
from ticketsearch.runs import Run

if TYPE_CHECKING:
    import pandas

__all__ = ["TABLES", "dataframe"]

TABLES = ("tickets", "generations", "results")


def dataframe(run: Run, table: str) -> pandas.DataFrame:
    """Return a table of a run, ``tickets``, ``generations`` or ``results``.

    Raises :class:`BadInput` for another table, and where pandas is not installed.
    """
    if table not in TABLES:
        raise unknown("table", str(table), TABLES)
    try:
        import pandas
    except ImportError as error:
        raise BadInput(
            "a data frame needs pandas, which is not installed; pip install 'ticketsearch[pandas]'"
        ) from error
    rows = {"tickets": _tickets, "generations": _generations, "results": _results}[table](run)
    return pandas.DataFrame(rows)


def _tickets(run: Run) -> list[dict[str, Any]]:
    """Return a row for each ticket: provenance, weights, fitness and measures."""
    return [
        {
            "number": ticket.number,
            "generation": ticket.generation,
            "operator": ticket.operator,
            "parents": list(ticket.parents),
            "weights": int(ticket.mask.sum()),
            "density": density(ticket.mask),
            "effective_density": effective_density(ticket.mask, run.spec),
            "fitness": ticket.score,
            "rung": ticket.rung,
            "evaluations": len(ticket.assessments),
            **ticket.measures,
            "scheme": ticket.initialization and ticket.initialization.scheme,
            "seed": ticket.initialization and ticket.initialization.seed,
            "digest": ticket.digest,
            "key": ticket.key,
        }
        for tickets in run.chunks()
        for ticket in tickets
    ]


def _generations(run: Run) -> list[dict[str, Any]]:
    """Return a row for each generation: statistics of fitness, duplicates, cost and seconds."""
    return [
        {
            "number": generation.number,
            **generation.statistics,
            "offspring": len(generation.offspring),
            "refused": generation.refused,
            "immigrants": generation.immigrants,
            "diverged": generation.diverged,
            "evaluations": generation.spent.evaluations,
            "steps": generation.spent.steps,
            "flops": float(generation.spent.flops),
            "seconds": generation.seconds,
        }
        for generation in run.generations()
    ]


def _results(run: Run) -> list[dict[str, Any]]:
    """Return a row for each training of the final comparison."""
    return [result._asdict() for result in run.results()]
