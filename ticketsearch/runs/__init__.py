"""The run folder: one SQLite file, the settings, the environment, and the best tickets.

A generation is one transaction that holds tickets, scores, lineage and the random generator's state: each
commit is a checkpoint. ``runs/README.md`` of the repository explains the tables.
"""

from __future__ import annotations

from ticketsearch.runs.folders import NameTaken, check_free, check_name, counting_name, list_runs
from ticketsearch.runs.queries import (
    ContenderRow,
    OperatorRow,
    PhaseRow,
    contender_rows,
    first_seeds,
    front_rows,
    operator_rows,
    phase_rows,
    winner,
)
from ticketsearch.runs.results import (
    BEST,
    CHEAP,
    DENSE,
    RANDOM,
    Result,
    contenders,
    front_name,
    pruned_name,
    pruned_names,
)
from ticketsearch.runs.store import Run

__all__ = [
    "BEST",
    "CHEAP",
    "DENSE",
    "RANDOM",
    "ContenderRow",
    "NameTaken",
    "OperatorRow",
    "PhaseRow",
    "Result",
    "Run",
    "check_free",
    "check_name",
    "contender_rows",
    "contenders",
    "counting_name",
    "first_seeds",
    "front_name",
    "front_rows",
    "list_runs",
    "operator_rows",
    "phase_rows",
    "pruned_name",
    "pruned_names",
    "winner",
]
