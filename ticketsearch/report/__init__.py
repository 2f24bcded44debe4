"""Reports: a run, an overlap study, a comparison or an audit as figures on an HTML page.

Figures are made in two steps, arrays first, so that the content of a picture can be tested exactly. A page is
one file, for light and dark screens and for paper: figures are inline SVG in the page's own colours, and it
loads nothing from the network.

Names are imported when they are first used, as text (``ticketsearch.report.text``) needs no figures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ticketsearch import lazy

__all__ = [
    "AuditPage",
    "DensityCurve",
    "FitnessCurve",
    "LayerDensities",
    "PopulationCurves",
    "comparison_html",
    "density_curve",
    "fitness_curve",
    "layer_densities",
    "overlaps_html",
    "population_curves",
    "run_html",
    "sweep_html",
    "write_audit",
    "write_comparison_files",
    "write_comparisons",
    "write_overlap",
    "write_overlap_files",
    "write_report",
    "write_sweep_files",
]

_HOMES = {
    "audit": "AuditPage DensityCurve density_curve write_audit",
    "comparison": "write_comparison_files write_comparisons",
    "generations": "FitnessCurve PopulationCurves fitness_curve population_curves",
    "notebook": "comparison_html overlaps_html run_html sweep_html",
    "overlap": "write_overlap write_overlap_files",
    "run": "LayerDensities layer_densities write_report",
    "sweep": "write_sweep_files",
}

if TYPE_CHECKING:
    from ticketsearch.report.audit import AuditPage, DensityCurve, density_curve, write_audit
    from ticketsearch.report.comparison import write_comparison_files, write_comparisons
    from ticketsearch.report.generations import (
        FitnessCurve,
        PopulationCurves,
        fitness_curve,
        population_curves,
    )
    from ticketsearch.report.notebook import comparison_html, overlaps_html, run_html, sweep_html
    from ticketsearch.report.overlap import write_overlap, write_overlap_files
    from ticketsearch.report.run import LayerDensities, layer_densities, write_report
    from ticketsearch.report.sweep import write_sweep_files

__getattr__ = lazy.face(__name__, _HOMES)
