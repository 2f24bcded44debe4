"""The Python face: searches, runs and studies, with the pages and tables that the shell writes.

Searches (``searching``), with settings as keywords (``keywords``) and objects in place of names (``objects``)
    search
Runs (``run``), with their tables (``tables``) and files to take home (``exporting``)
    Run
Progress on a terminal, in a notebook and in logs (``progress``)
    displayed
Comparisons and overlap studies (``studies``)
    compare, study_pruners, read_comparison, read_overlaps, finish_comparison, finish_overlaps
Sweeps over seeds and settings (``sweeping``)
    sweep, read_sweep, finish_sweep
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ticketsearch import lazy

__all__ = [
    "MaskedModule",
    "Run",
    "ShownComparison",
    "ShownOverlaps",
    "ShownSweep",
    "check_format",
    "compare",
    "displayed",
    "finish_comparison",
    "finish_overlaps",
    "finish_sweep",
    "masked_module",
    "read_comparison",
    "read_overlaps",
    "read_sweep",
    "search",
    "study_pruners",
    "sweep",
    "write_export",
]

_HOMES = {
    "exporting": "MaskedModule check_format masked_module write_export",
    "progress": "displayed",
    "run": "Run",
    "searching": "search",
    "studies": "ShownComparison ShownOverlaps compare finish_comparison finish_overlaps read_comparison "
    "read_overlaps study_pruners",
    "sweeping": "ShownSweep finish_sweep read_sweep sweep",
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
    from ticketsearch.python.sweeping import ShownSweep, finish_sweep, read_sweep, sweep

__getattr__ = lazy.face(__name__, _HOMES)
