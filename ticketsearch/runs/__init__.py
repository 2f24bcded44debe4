"""The run folder: one SQLite file, the settings, the environment, and the best tickets.

A generation is one transaction that holds tickets, scores, lineage and the random generator's state: what
is committed is the checkpoint. ``runs/README.md`` of the repository explains the tables.
"""

from __future__ import annotations

from ticketsearch.runs.folders import NameTaken, check_free, check_name, counting_name, list_runs
from ticketsearch.runs.results import BEST, DENSE, RANDOM, Result, contenders, front_name, pruned_names
from ticketsearch.runs.store import Run

__all__ = [
    "BEST",
    "DENSE",
    "RANDOM",
    "NameTaken",
    "Result",
    "Run",
    "check_free",
    "check_name",
    "contenders",
    "counting_name",
    "front_name",
    "list_runs",
    "pruned_names",
]
