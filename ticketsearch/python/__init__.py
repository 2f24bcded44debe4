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

__all__ = [
    "ShownComparison",
    "ShownOverlaps",
    "compare",
    "finish_comparison",
    "finish_overlaps",
    "read_comparison",
    "read_overlaps",
    "study_pruners",
]
