"""Alignment: the renumbering of hidden units under which one mask shares most weights with another.

``align`` asks ``exact`` whether masks are the same network, leaves out units without weights
(``overlap_matrices``), and runs a coordinate ascent (``coordinate_ascent``), each step a linear assignment
(``assignment``); ``activations`` matches units by their responses instead. Shared weights are counted pair by
pair and layer by layer (``counts``).
"""

from __future__ import annotations

from ticketsearch.alignment.align import RESTARTS, align, align_order, aligned_counts
from ticketsearch.alignment.counts import (
    CONTAINMENT,
    IOU,
    SIGNS,
    Counts,
    pair_indices,
    raw_counts,
    shared_weights,
    square,
)

__all__ = [
    "CONTAINMENT",
    "IOU",
    "RESTARTS",
    "SIGNS",
    "Counts",
    "align",
    "align_order",
    "aligned_counts",
    "pair_indices",
    "raw_counts",
    "shared_weights",
    "square",
]
