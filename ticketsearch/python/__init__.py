"""The Python face: searches, runs and studies, with the pages and tables that the shell writes."""

from __future__ import annotations

from ticketsearch.python.studies import (
    ShownComparison,
    ShownOverlaps,
    compare,
    finish_comparison,
    finish_overlaps,
    read_comparison,
    read_overlaps,
    study_pruners,
)
from ticketsearch.python.sweeping import ShownSweep, finish_sweep, read_sweep, sweep

__all__ = [
    "ShownComparison",
    "ShownOverlaps",
    "ShownSweep",
    "compare",
    "finish_comparison",
    "finish_overlaps",
    "finish_sweep",
    "read_comparison",
    "read_overlaps",
    "read_sweep",
    "study_pruners",
    "sweep",
]
