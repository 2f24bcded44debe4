"""Contests: which method finds the best masks, at equal budgets, judged once on test data.

    plan → store ← run (methods, final_training) → results → differences

A plan (``plan``) says which methods are compared at which densities on which initializations. It is worked
off (``run``) into a SQLite file (``store``): masks are made (``methods``), then all are trained in one way
and tested (``final_training``). What is committed is never made again, and more of everything can be added.
What the file holds is read as one object (``results``), with tests paired over initializations
(``differences``).
"""

from ticketsearch.comparison.differences import BUDGET, METHODS, TAKEN, Difference, differences, families
from ticketsearch.comparison.final_training import matched
from ticketsearch.comparison.methods import Made
from ticketsearch.comparison.plan import (
    CONTROLS,
    DEFAULT_DENSITIES,
    DEFAULT_METHODS,
    IMP_BEST,
    Cell,
    Plan,
    contest_plan,
)
from ticketsearch.comparison.results import Contest, Standing, Trail, read_comparison
from ticketsearch.comparison.run import Work, compare, default_workers
from ticketsearch.comparison.schema import CONTEST
from ticketsearch.comparison.store import Outcome, Row, Store

__all__ = [
    "BUDGET",
    "CONTEST",
    "CONTROLS",
    "DEFAULT_DENSITIES",
    "DEFAULT_METHODS",
    "IMP_BEST",
    "METHODS",
    "TAKEN",
    "Cell",
    "Contest",
    "Difference",
    "Made",
    "Outcome",
    "Plan",
    "Row",
    "Standing",
    "Store",
    "Trail",
    "Work",
    "compare",
    "contest_plan",
    "default_workers",
    "differences",
    "families",
    "matched",
    "read_comparison",
]
