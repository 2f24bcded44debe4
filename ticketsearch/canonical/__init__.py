"""Canonical forms: the identity of masks up to a renumbering of hidden neurons.

The live part of a mask is a directed graph: units (channels) are vertices, coloured by their neuron group
(inputs and outputs each by a colour of their own). Where weights of a piece of a layer are kept between two
units there is an arc, labelled by the piece and by which of its positions are kept, the bits of the kernel.
A renumbering of hidden neurons is an isomorphism of that graph, so a mask is identified by a canonical form:
the live weights with the live hidden units of each group renumbered in an order that depends on the graph
alone. The groups of grouped convolutions may also be exchanged as wholes (``bundles``).

    mask → graph → refinement → twins → residual_graph → search_tree → forms

The order is found in three steps. Colour refinement (``refinement``) orders nearly all units of nearly all
masks; units with equal neighbourhoods, twins, are interchangeable (``twins``); the graph of the remaining
units is split into components (``residual_graph``) that are canonicalised one by one by individualisation and
refinement, pruned by traces and automorphisms (``search_tree``; McKay & Piperno 2014, "Practical graph
isomorphism, II"). ``forms`` renumbers the mask and makes its key. Refinement uses hashes, but no result
depends on a hash being free of collisions: a collision makes a cell coarser and the search longer.
"""

from ticketsearch.canonical.forms import (
    BUDGET,
    Canonical,
    canonical_form,
    canonical_identity,
    canonical_key,
    canonical_order,
)
from ticketsearch.canonical.graph import to_networkx
from ticketsearch.canonical.isomorphism import isomorphic
from ticketsearch.canonical.labels import Weights

__all__ = [
    "BUDGET",
    "Canonical",
    "Weights",
    "canonical_form",
    "canonical_identity",
    "canonical_key",
    "canonical_order",
    "isomorphic",
    "to_networkx",
]
