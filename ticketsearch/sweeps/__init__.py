"""Sweeps: one search for each of several seeds and values of settings, read together.

The plan (``plan``)
    SweepPlan, Member, sweep_plan, combination_text
The folder (``store``)
    create_sweep, default_name, stored_plan, is_sweep
The work (``run``)
    SweepWork
Results (``results``) and their paired differences (``differences``)
    Sweep, SweepRow, read_sweep, SweepDifference, contender_differences, value_differences

Each search is a run of its own, in a folder inside that of the sweep, with the content of the single run of
the same settings and seed.
"""

from __future__ import annotations

from ticketsearch.sweeps.differences import SweepDifference, contender_differences, value_differences
from ticketsearch.sweeps.plan import Member, SweepPlan, Values, combination_text, sweep_plan
from ticketsearch.sweeps.results import Sweep, SweepRow, read_sweep
from ticketsearch.sweeps.run import SweepWork
from ticketsearch.sweeps.store import create_sweep, default_name, is_sweep, stored_plan

__all__ = [
    "Member",
    "Sweep",
    "SweepDifference",
    "SweepPlan",
    "SweepRow",
    "SweepWork",
    "Values",
    "combination_text",
    "contender_differences",
    "create_sweep",
    "default_name",
    "is_sweep",
    "read_sweep",
    "stored_plan",
    "sweep_plan",
    "value_differences",
]
