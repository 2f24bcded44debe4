"""Contests: which method finds the best masks, at equal budgets, judged once on test data.

    plan → store ← work (making, finals) → reading → words

A plan (``plan``) says which methods are compared at which densities on which initializations. It is worked
off (``work``) into a SQLite file (``store``): masks are made (``making``), then all are trained in one way
and tested (``finals``). What is committed is never made again, and more of everything can be added. What the
file holds is read as one object (``reading``), with tests paired over initializations (``differing``,
``inference``), in words and tables (``words``).
"""

from ticketsearch.contest.differing import Difference, differences
from ticketsearch.contest.finals import matched
from ticketsearch.contest.inference import Interval, Paired
from ticketsearch.contest.making import Made
from ticketsearch.contest.plan import DEFAULT_DENSITIES, DEFAULT_METHODS, Cell, Plan, contest_plan
from ticketsearch.contest.reading import Contest, Standing, Trail, read_comparison
from ticketsearch.contest.store import Outcome, Row, Store
from ticketsearch.contest.words import cells_csv, differences_csv, lines, markdown
from ticketsearch.contest.work import Work, compare, default_workers

__all__ = [
    "DEFAULT_DENSITIES",
    "DEFAULT_METHODS",
    "Cell",
    "Contest",
    "Difference",
    "Interval",
    "Made",
    "Outcome",
    "Paired",
    "Plan",
    "Row",
    "Standing",
    "Store",
    "Trail",
    "Work",
    "cells_csv",
    "compare",
    "contest_plan",
    "default_workers",
    "differences",
    "differences_csv",
    "lines",
    "markdown",
    "matched",
    "read_comparison",
]
