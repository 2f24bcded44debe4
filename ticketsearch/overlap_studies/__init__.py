"""Overlap studies: do masks of different origin overlap more than chance, by method, density and search?

    plan → store ← run → results

A plan (``plan``) names the sets of masks to compare, and the number of draws of each null model. Its work
(``run``) goes into a SQLite file (``store``), mask by mask and draw by draw: committed work is never
repeated, and the same plan goes on from there. The content of the file is read as one object (``results``),
with its settings (``settings``).
"""

from ticketsearch.overlap_studies.plan import (
    DEFAULT_METHODS,
    MaskSet,
    OverlapPlan,
    Pruning,
    Sizes,
    pruner_plan,
    run_plan,
)
from ticketsearch.overlap_studies.results import Case, Overlaps, read_overlaps
from ticketsearch.overlap_studies.run import OverlapWork
from ticketsearch.overlap_studies.store import OverlapStore, plan_digest

__all__ = [
    "DEFAULT_METHODS",
    "Case",
    "MaskSet",
    "OverlapPlan",
    "OverlapStore",
    "OverlapWork",
    "Overlaps",
    "Pruning",
    "Sizes",
    "plan_digest",
    "pruner_plan",
    "read_overlaps",
    "run_plan",
]
