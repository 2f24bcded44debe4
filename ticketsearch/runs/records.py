"""A run's tickets, generations and results as records: plain values by name, for JSON and tables."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from typing import Any

from ticketsearch.masks import MaskSpec, effective_densities, layer_counts
from ticketsearch.runs.store import Run
from ticketsearch.tickets import Tickets

__all__ = ["generation_records", "result_records", "ticket_records"]


def ticket_records(run: Run, best: int | None = None) -> list[dict[str, Any]]:
    """Return a record of each ticket by number, or of the ``best`` ones, those of the highest fitness first.

    ``fitness`` is the mean over ``evaluations``, less the estimated effects of their data orders;
    ``first_fitness`` is the score of the first evaluation. Both are None where training diverged.
    """
    numbered = (pair for tickets in run.chunks() for pair in _records(tickets, run.spec))
    if best is None:
        return [record for _, record in numbered]
    highest = heapq.nsmallest(best, numbered, key=lambda pair: pair[0])
    return [record for _, record in highest]


def generation_records(run: Run) -> list[dict[str, Any]]:
    """Return a record of each generation, in order: its number, statistics and time."""
    return [
        {"generation": number, **{name: finite(value) for name, value in statistics.items()}, "seconds": took}
        for number, (statistics, took) in enumerate(zip(run.statistics(), run.seconds(), strict=True))
    ]


def result_records(run: Run) -> list[dict[str, Any]]:
    """Return a record of each final training; no record until the run is finished."""
    return [{**result._asdict(), "loss": finite(result.loss)} for result in run.results()]


def finite(value: float) -> float | None:
    """Return a number, and None for one that is not finite, as JSON has no such numbers."""
    return value if math.isfinite(value) else None


def _records(tickets: Tickets, spec: MaskSpec) -> Iterator[tuple[tuple[float, ...], dict[str, Any]]]:
    """Yield the sort key, best first, and the record of each ticket."""
    kept = layer_counts(tickets.masks, spec).sum(axis=1).tolist()
    effective = effective_densities(tickets.masks, spec).tolist()
    for ticket, weights, live in zip(tickets, kept, effective, strict=True):
        trained, pruned = ticket.initialization, ticket.pruned_from
        record = {
            "ticket": ticket.number,
            "generation": ticket.generation,
            "operator": ticket.operator,
            "parents": list(ticket.parents),
            "fitness": finite(ticket.score),
            **{name: finite(value) for name, value in ticket.measures.items()},
            "rung": ticket.rung,
            "evaluations": len(ticket.assessments),
            "first_fitness": finite(ticket.assessments[0].score),
            "weights": weights,
            "density": weights / spec.size,
            "effective_density": live,
            "scheme": trained and trained.scheme,
            "seed": trained and trained.seed,
            "pruned_scheme": pruned and pruned.scheme,
            "pruned_seed": pruned and pruned.seed,
            "digest": ticket.digest,
            "key": ticket.key,
        }
        yield (-ticket.rung, -ticket.score, ticket.number), record
