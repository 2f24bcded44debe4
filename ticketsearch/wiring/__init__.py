"""Wiring: which axis of which tensor is numbered by which neurons, traced from any module with torch.fx.

The trace is a list of steps, which the flow of the pruners, the scores and the training all run. It knows
Linear and convolution layers, batch and layer normalisation, pooling, flattening, dropout, elementwise maps,
sums, products, slices and concatenations; anything else is refused by name and place. For such networks the
groups may be declared by hand, see :func:`trace`.
"""

from ticketsearch.wiring.checking import tensors_of
from ticketsearch.wiring.compaction import Compaction, compact, fixed_groups, live_groups, spec_for, whole
from ticketsearch.wiring.operations import Reshape, drop_path
from ticketsearch.wiring.preconditions import check_module
from ticketsearch.wiring.steps import Step, Wiring
from ticketsearch.wiring.tracing import trace

__all__ = [
    "Compaction",
    "Reshape",
    "Step",
    "Wiring",
    "check_module",
    "compact",
    "drop_path",
    "fixed_groups",
    "live_groups",
    "spec_for",
    "tensors_of",
    "trace",
    "whole",
]
