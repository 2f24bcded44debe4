"""Masks: one flat bool array a network, and the spec that says which bit is which weight.

A mask has one bit for each maskable weight, layers in forward order, each layer row-major in torch
layout. A population of masks is a ``(population, weights)`` array. The spec also describes the network's
computation as far as liveness needs it, so that NumPy alone finds the units and weights that lie on no
input-to-output path.
"""

from ticketsearch.masks.bits import (
    check_mask,
    check_masks,
    density,
    digest,
    layer_counts,
    pack,
    unpack,
)
from ticketsearch.masks.checks import check_spec
from ticketsearch.masks.edge_lists import Edges, edges, mask_of, weight_numbers
from ticketsearch.masks.guidance import Guidance, check_guidance, cut, strongest
from ticketsearch.masks.liveness import (
    Ends,
    between_live,
    effective_densities,
    effective_density,
    live,
    live_edges,
    live_ends,
    live_units,
)
from ticketsearch.masks.permutation import permute, random_order, segment_order, unit_orders
from ticketsearch.masks.ranking import drawn_among_equals, largest
from ticketsearch.masks.shuffling import layer_shuffle, random_choice, readable_first
from ticketsearch.masks.spec import Bundle, Group, Layer, MaskSpec, Node, Piece, Segment
from ticketsearch.typing import Mask

__all__ = [
    "Bundle",
    "Edges",
    "Ends",
    "Group",
    "Guidance",
    "Layer",
    "Mask",
    "MaskSpec",
    "Node",
    "Piece",
    "Segment",
    "between_live",
    "check_guidance",
    "check_mask",
    "check_masks",
    "check_spec",
    "cut",
    "density",
    "digest",
    "drawn_among_equals",
    "edges",
    "effective_densities",
    "effective_density",
    "largest",
    "layer_counts",
    "layer_shuffle",
    "live",
    "live_edges",
    "live_ends",
    "live_units",
    "mask_of",
    "pack",
    "permute",
    "random_choice",
    "random_order",
    "readable_first",
    "segment_order",
    "strongest",
    "unit_orders",
    "unpack",
    "weight_numbers",
]
