"""Queries on a run: rows of tables, computed from the stored generations and results."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ticketsearch.evolution import probabilities
from ticketsearch.runs.results import BEST, Result, contenders, front_name
from ticketsearch.runs.store import Run
from ticketsearch.tickets import Ticket, Tickets
from ticketsearch.typing import Floats

__all__ = [
    "ContenderRow",
    "OperatorRow",
    "PhaseRow",
    "contender_rows",
    "first_seeds",
    "front_rows",
    "operator_rows",
    "phase_rows",
    "winner",
]


class ContenderRow(NamedTuple):
    """One row of the final table: test results over data orders, mean and sample standard deviation."""

    contender: str
    density: float
    effective_density: float
    accuracy: float
    accuracy_sd: float
    loss: float
    loss_sd: float
    accuracies: tuple[float, ...]


class OperatorRow(NamedTuple):
    """Children of one operator, those that survived their generation, and its selection probability."""

    name: str
    children: int
    survivors: int
    probability: float


class PhaseRow(NamedTuple):
    """Seconds of one phase over all generations, and its share of all phases."""

    name: str
    seconds: float
    share: float


def contender_rows(run: Run) -> list[ContenderRow]:
    """Return the rows of the final table, best ticket first; empty until the run is finished."""
    results = [result for result in run.results() if result.part == "test"]
    rows = []
    for name in contenders(run.settings, run.contenders):
        trainings = [result for result in results if result.contender == name]
        if trainings:
            rows.append(_contender_row(name, trainings))
    return rows


def front_rows(run: Run) -> list[ContenderRow]:
    """Return the rows of the Pareto front's table, the sparsest ticket first; empty without a front.

    The front is that of validation accuracy and kept weights: no ticket on it is beaten in both.
    """
    if run.settings.evolution.objective != "front":
        return []
    results = [result for result in run.results() if result.part == "test" and result.ticket is not None]
    names = {result.ticket: front_name(result.ticket) for result in results if result.ticket is not None}
    rows = [
        _contender_row(name, [result for result in results if result.ticket == ticket])
        for ticket, name in names.items()
    ]
    return sorted(rows, key=lambda row: row.density)


def winner(run: Run) -> Ticket | None:
    """Return the ticket of highest validation accuracy, or None until the run is finished."""
    numbers = [r.ticket for r in run.results() if r.contender == BEST and r.ticket is not None]
    return run.ticket(numbers[0]) if numbers else None


def first_seeds(run: Run) -> Tickets:
    """Return the masks of the first pruner, one an initialization, in their order, equal ones too."""
    seeds = run.seeds()
    return Tickets(seed for seed in seeds if seed.operator == seeds[0].operator)


def operator_rows(run: Run) -> list[OperatorRow]:
    """Return the table of adaptive operator selection; empty with one operator of each kind."""
    made = run.operators()
    return [
        OperatorRow(name, *made.get(name, (0, 0)), float(probability))
        for qualities in run.credit().values()
        for name, probability in zip(qualities, probabilities(list(qualities.values())), strict=True)
    ]


def phase_rows(run: Run) -> list[PhaseRow]:
    """Return the table of phases, the longest first; empty before the first generation."""
    phases = run.phases()
    total = sum(phases.values())
    rows = [PhaseRow(name, seconds, seconds / total if total else 0.0) for name, seconds in phases.items()]
    return sorted(rows, key=lambda row: (-row.seconds, row.name))


def _contender_row(name: str, results: list[Result]) -> ContenderRow:
    accuracy = np.array([result.accuracy for result in results])
    loss = np.array([result.loss for result in results])
    return ContenderRow(
        name,
        float(np.mean([result.density for result in results])),
        float(np.mean([result.effective_density for result in results])),
        float(accuracy.mean()),
        _standard_deviation(accuracy),
        float(loss.mean()),
        _standard_deviation(loss),
        tuple(accuracy.tolist()),
    )


def _standard_deviation(values: Floats) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 and np.isfinite(values).all() else float("nan")
