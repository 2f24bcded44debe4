"""Reports: what a run and an audit came to, as figures and one self-contained HTML page each.

Figures are made in two steps, arrays first, so that what a picture shows can be tested exactly. A page is one
file: figures are SVG inside it, and it asks the network for nothing.
"""

from ticketsearch.report.audit import AuditPage, DensityCurve, density_curve, write_audit
from ticketsearch.report.run import (
    FitnessCurve,
    LayerDensities,
    fitness_curve,
    layer_densities,
    overlap_matrix,
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
    "overlap_matrix",
    "write_audit",
    "write_report",
]
