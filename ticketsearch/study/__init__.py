"""Studies: do masks of different origin overlap more than chance, for every method, density and search.

    plan → store ← work → overlaps

A plan (``plan``) says which masks are compared with each other, and how often each null model is drawn. It
is worked off (``work``) into a SQLite file (``store``), mask by mask and draw by draw: what is committed is
never made again, and the same plan goes on from there. What the file holds is read as one object
(``overlaps``), which says it in words and tables (``words``), with its settings (``settings``).
"""

from ticketsearch.study.overlaps import Case, Overlaps, read_overlaps
from ticketsearch.study.plan import Outline, Plan, Pruning, Sizes, pruner_plan, run_plan
from ticketsearch.study.store import Store, identity
from ticketsearch.study.words import nulls_csv, pairs_csv
from ticketsearch.study.work import Work, study_pruners

__all__ = [
    "Case",
    "Outline",
    "Overlaps",
    "Plan",
    "Pruning",
    "Sizes",
    "Store",
    "Work",
    "identity",
    "nulls_csv",
    "pairs_csv",
    "pruner_plan",
    "read_overlaps",
    "run_plan",
    "study_pruners",
]
