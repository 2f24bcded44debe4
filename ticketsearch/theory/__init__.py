"""Theory as code: conservation laws, layer collapse, and critical compression of pruners.

After Tanaka et al. 2020, "Pruning neural networks without any data by iteratively conserving synaptic flow",
sections 4 and 5, and the equations of Ross's notes that :mod:`ticketsearch.pruners` follows.
"""

from ticketsearch.theory.audit import Curve, MethodAudit, audit
from ticketsearch.theory.compression import (
    Critical,
    collapsed,
    critical_compression,
    disconnected,
    prune_to_cut,
    rho_max,
)
from ticketsearch.theory.conservation import Conservation, conservation, saliency_conservation
from ticketsearch.theory.layer_table import LayerRow, MaskTable, mask_table

__all__ = [
    "Conservation",
    "Critical",
    "Curve",
    "LayerRow",
    "MaskTable",
    "MethodAudit",
    "audit",
    "collapsed",
    "conservation",
    "critical_compression",
    "disconnected",
    "mask_table",
    "prune_to_cut",
    "rho_max",
    "saliency_conservation",
]
