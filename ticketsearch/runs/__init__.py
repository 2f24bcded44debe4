"""The run folder: one SQLite file, the settings, the environment, and the best tickets.

A generation is one transaction that holds tickets, scores, lineage and the random generator's state: each
commit is a checkpoint. ``runs/README.md`` of the repository explains the tables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ticketsearch import lazy

__all__ = [
    "BEST",
    "CHEAP",
    "DENSE",
    "OVERVIEW_COLUMNS",
    "RANDOM",
    "SWEEP",
    "ContenderRow",
    "EvaluationRow",
    "NameTaken",
    "OperatorRow",
    "PhaseRow",
    "Result",
    "Run",
    "RunOverview",
    "State",
    "Stopped",
    "check_free",
    "check_name",
    "contender_rows",
    "contenders",
    "counting_name",
    "first_seeds",
    "front_name",
    "front_rows",
    "generation_records",
    "list_runs",
    "operator_rows",
    "phase_rows",
    "pruned_name",
    "pruned_names",
    "read_overview",
    "read_settings",
    "result_records",
    "state_of",
    "ticket_records",
    "winner",
]

_HOMES = {
    "folders": "SWEEP NameTaken check_free check_name counting_name list_runs",
    "header": "Stopped",
    "overview": "OVERVIEW_COLUMNS RunOverview State read_overview state_of",
    "queries": "ContenderRow OperatorRow PhaseRow contender_rows first_seeds front_rows operator_rows "
    "phase_rows winner",
    "records": "generation_records result_records ticket_records",
    "results": "BEST CHEAP DENSE RANDOM Result contenders front_name pruned_name pruned_names",
    "settings_files": "read_settings",
    "store": "Run",
    "tables": "EvaluationRow",
}

if TYPE_CHECKING:
    from ticketsearch.runs.folders import SWEEP, NameTaken, check_free, check_name, counting_name, list_runs
    from ticketsearch.runs.header import Stopped
    from ticketsearch.runs.overview import OVERVIEW_COLUMNS, RunOverview, State, read_overview, state_of
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
    from ticketsearch.runs.records import generation_records, result_records, ticket_records
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
    from ticketsearch.runs.settings_files import read_settings
    from ticketsearch.runs.store import Run
    from ticketsearch.runs.tables import EvaluationRow

__getattr__ = lazy.face(__name__, _HOMES)
