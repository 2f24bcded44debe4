"""The Python face: searches, runs and studies, with the pages and tables that the shell writes.

Searches (``searching``), with settings as keywords (``keywords``) and objects in place of names (``objects``)
    search
Runs (``run``), with their tables (``tables``) and files to take home (``exporting``)
    Run
Progress on a terminal, in a notebook and in logs (``progress``)
    displayed
Comparisons and overlap studies (``studies``)
    compare, study_pruners, read_comparison, read_overlaps, finish_comparison, finish_overlaps
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ticketsearch import lazy

__all__ = [
    "MaskedModule",
    "Run",
    "ShownComparison",
    "ShownOverlaps",
    "check_format",
    "compare",
    "displayed",
    "finish_comparison",
    "finish_overlaps",
    "masked_module",
    "read_comparison",
    "read_overlaps",
    "search",
    "study_pruners",
    "write_export",
]

_HOMES = {
    "exporting": "MaskedModule check_format masked_module write_export",
    "progress": "displayed",
    "run": "Run",
    "searching": "search",
    "studies": "ShownComparison ShownOverlaps compare finish_comparison finish_overlaps read_comparison "
    "read_overlaps study_pruners",
}

if TYPE_CHECKING:
    from ticketsearch.python.exporting import MaskedModule, check_format, masked_module, write_export
    from ticketsearch.python.progress import displayed
    from ticketsearch.python.run import Run
    from ticketsearch.python.searching import search
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

__getattr__ = lazy.face(__name__, _HOMES)
