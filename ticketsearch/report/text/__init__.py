"""Text: every table and sentence that a command prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ticketsearch import lazy

__all__ = [
    "DIFFERENCE_HEADINGS",
    "METHOD_HEADINGS",
    "VALUE_HEADINGS",
    "advantages",
    "answer_lines",
    "audit_lines",
    "audit_rows",
    "best_lines",
    "cells_csv",
    "collapse_rows",
    "comparison_headline",
    "comparison_lines",
    "comparison_markdown",
    "comparison_text",
    "compression",
    "contender_table",
    "content",
    "csv_text",
    "difference_cells",
    "differences_at",
    "differences_csv",
    "early_end_lines",
    "forecast_lines",
    "mask_content",
    "mask_lines",
    "masking_lines",
    "method_cells",
    "notes_on_tests",
    "nulls_csv",
    "operator_lines",
    "overlap_headline",
    "overlap_lines",
    "overlaps_text",
    "own_work",
    "pairs_csv",
    "phase_lines",
    "points_cell",
    "protocol",
    "run_lines",
    "rung_lines",
    "seed_study",
    "shown_effect",
    "spread",
    "study_lines",
    "sweep_csv",
    "sweep_differences_csv",
    "sweep_headline",
    "sweep_notes",
    "sweep_protocol",
    "sweep_text",
    "table_lines",
    "value_table",
]

_HOMES = {
    "answers": "advantages answer_lines points_cell",
    "audit": "audit_lines audit_rows collapse_rows compression",
    "comparison": "DIFFERENCE_HEADINGS METHOD_HEADINGS cells_csv comparison_headline comparison_markdown "
    "comparison_text difference_cells differences_at differences_csv method_cells notes_on_tests protocol",
    "forecast": "forecast_lines",
    "mask": "mask_content mask_lines",
    "overlap_study": "nulls_csv overlap_headline overlaps_text pairs_csv shown_effect",
    "run": "comparison_lines early_end_lines masking_lines operator_lines overlap_lines own_work phase_lines "
    "rung_lines seed_study spread study_lines",
    "run_content": "content",
    "runs": "best_lines run_lines",
    "sweep": "VALUE_HEADINGS contender_table sweep_csv sweep_differences_csv sweep_headline sweep_notes "
    "sweep_protocol sweep_text value_table",
    "table": "csv_text table_lines",
}

if TYPE_CHECKING:
    from ticketsearch.report.text.answers import advantages, answer_lines, points_cell
    from ticketsearch.report.text.audit import audit_lines, audit_rows, collapse_rows, compression
    from ticketsearch.report.text.comparison import (
        DIFFERENCE_HEADINGS,
        METHOD_HEADINGS,
        cells_csv,
        comparison_headline,
        comparison_markdown,
        comparison_text,
        difference_cells,
        differences_at,
        differences_csv,
        method_cells,
        notes_on_tests,
        protocol,
    )
    from ticketsearch.report.text.forecast import forecast_lines
    from ticketsearch.report.text.mask import mask_content, mask_lines
    from ticketsearch.report.text.overlap_study import (
        nulls_csv,
        overlap_headline,
        overlaps_text,
        pairs_csv,
        shown_effect,
    )
    from ticketsearch.report.text.run import (
        comparison_lines,
        early_end_lines,
        masking_lines,
        operator_lines,
        overlap_lines,
        own_work,
        phase_lines,
        rung_lines,
        seed_study,
        spread,
        study_lines,
    )
    from ticketsearch.report.text.run_content import content
    from ticketsearch.report.text.runs import best_lines, run_lines
    from ticketsearch.report.text.sweep import (
        VALUE_HEADINGS,
        contender_table,
        sweep_csv,
        sweep_differences_csv,
        sweep_headline,
        sweep_notes,
        sweep_protocol,
        sweep_text,
        value_table,
    )
    from ticketsearch.report.text.table import csv_text, table_lines

__getattr__ = lazy.face(__name__, _HOMES)
