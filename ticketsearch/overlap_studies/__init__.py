"""Studies: do masks of different origin overlap more than chance, for every method, density and search.

    plan → store ← run → results

A plan (``plan``) says which masks are compared with each other, and how often each null model is drawn. It
is worked off (``run``) into a SQLite file (``store``), mask by mask and draw by draw: what is committed is
never made again, and the same plan goes on from there. What the file holds is read as one object
(``results``), with its settings (``settings``).
"""

from ticketsearch.overlap_studies.plan import Outline, Plan, Pruning, Sizes, pruner_plan, run_plan
from ticketsearch.overlap_studies.results import Case, Overlaps, read_overlaps
from ticketsearch.overlap_studies.run import Work, study_pruners
from ticketsearch.overlap_studies.store import Store, identity

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
    "pruner_plan",
    "read_overlaps",
    "run_plan",
    "study_pruners",
]
