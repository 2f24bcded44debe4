"""Reports: what a run, an overlap study, a comparison or an audit came to, as figures and an HTML page.

Figures are made in two steps, arrays first, so that what a picture shows can be tested exactly. A page is one
file, for light and dark screens and for paper: figures are SVG inside it, in the page's own colours, and it
asks the network for nothing.
"""

from ticketsearch.report.audit import AuditPage, DensityCurve, density_curve, write_audit
from ticketsearch.report.contest import write_contests
from ticketsearch.report.overlap import write_overlap
from ticketsearch.report.run import (
    FitnessCurve,
    LayerDensities,
    fitness_curve,
    layer_densities,
    write_report,
)

__all__ = [
    "AuditPage",
    "DensityCurve",
    "FitnessCurve",
    "LayerDensities",
    "density_curve",
    "fitness_curve",
    "layer_densities",
    "write_audit",
    "write_contests",
    "write_overlap",
    "write_report",
]
