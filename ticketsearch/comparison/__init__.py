"""Comparisons: which method finds the best masks at equal budgets, each mask evaluated once on the test set.

    plan → store ← run (methods, final_training) → results → paired_differences

A plan (``plan``) names the methods, densities and initializations of a comparison. Its work (``run``) goes
into a SQLite file (``store``): methods make masks (``methods``), then all masks get the same training and are
evaluated on the test set (``final_training``). Committed work is never repeated, and a comparison may be
extended in every direction. The content of the file is read as one object (``results``), with tests paired
over initializations (``paired_differences``).
"""

from ticketsearch.comparison.final_training import matched
from ticketsearch.comparison.methods import FoundMask
from ticketsearch.comparison.paired_differences import (
    ABLATED,
    BUDGET,
    METHODS,
    Difference,
    differences,
    families,
)
from ticketsearch.comparison.plan import (
    CONTROLS,
    DEFAULT_DENSITIES,
    DEFAULT_METHODS,
    DENSE,
    IMP_BEST,
    Cell,
    ComparisonPlan,
    comparison_plan,
)
from ticketsearch.comparison.results import BestSoFar, Comparison, MethodResult, read_comparison
from ticketsearch.comparison.run import ComparisonWork, check_reference, default_workers
from ticketsearch.comparison.schema import COMPARISON
from ticketsearch.comparison.store import ComparisonStore, FinalResult, FinalTraining

__all__ = [
    "ABLATED",
    "BUDGET",
    "COMPARISON",
    "CONTROLS",
    "DEFAULT_DENSITIES",
    "DEFAULT_METHODS",
    "DENSE",
    "IMP_BEST",
    "METHODS",
    "BestSoFar",
    "Cell",
    "Comparison",
    "ComparisonPlan",
    "ComparisonStore",
    "ComparisonWork",
    "Difference",
    "FinalResult",
    "FinalTraining",
    "FoundMask",
    "MethodResult",
    "check_reference",
    "comparison_plan",
    "default_workers",
    "differences",
    "families",
    "matched",
    "read_comparison",
]
