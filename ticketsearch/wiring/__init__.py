"""Wiring: the dependency graph of a network's neurons, traced from any module with torch.fx.

It says which axis of which tensor is numbered by which neurons. Neurons that must be renumbered or removed
together form a neuron group (a pruning group). The trace is a list of steps, which the flow of the pruners,
the scores and the training all run. It supports Linear and convolution layers, batch and layer normalisation,
pooling, flattening, dropout, elementwise maps, sums, products, slices and concatenations; any other operation
is refused by name and location. For such networks the groups may be declared by hand, see :func:`trace`.
"""

from ticketsearch.wiring.checking import tensors_of
from ticketsearch.wiring.compaction import Compaction, compact, fixed_groups, live_groups, spec_for, whole
from ticketsearch.wiring.constants import is_constant
from ticketsearch.wiring.functions import Scale, Select, Shift, Sum
from ticketsearch.wiring.graph_modules import standalone
from ticketsearch.wiring.operations import BatchNormalization, Convolution, Replay, Reshape, drop_path, factor
from ticketsearch.wiring.preconditions import check_module
from ticketsearch.wiring.steps import Step, Wiring
from ticketsearch.wiring.tracing import trace

__all__ = [
    "BatchNormalization",
    "Compaction",
    "Convolution",
    "Replay",
    "Reshape",
    "Scale",
    "Select",
    "Shift",
    "Step",
    "Sum",
    "Wiring",
    "check_module",
    "compact",
    "drop_path",
    "factor",
    "fixed_groups",
    "is_constant",
    "live_groups",
    "spec_for",
    "standalone",
    "tensors_of",
    "trace",
    "whole",
]
