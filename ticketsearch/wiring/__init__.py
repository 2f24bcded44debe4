"""Wiring: which axis of which tensor is numbered by which neurons, traced from any module with torch.fx.

The trace is a list of steps, which the flow of the pruners, the scores and the training all run. It knows
Linear and convolution layers, batch and layer normalisation, pooling, flattening, dropout, elementwise maps,
sums, products, slices and concatenations; anything else is refused by name and place. For such networks the
groups may be declared by hand, see :func:`trace`.
"""

from ticketsearch.wiring.compaction import Compaction, compact, fixed_groups, live_groups, spec_for, whole
from ticketsearch.wiring.steps import Step, Wiring
from ticketsearch.wiring.tracing import trace

__all__ = [
    "Compaction",
    "Step",
    "Wiring",
    "compact",
    "fixed_groups",
    "live_groups",
    "spec_for",
    "trace",
    "whole",
]
