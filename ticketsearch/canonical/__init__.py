"""Canonical forms: which masks are the same network up to a renumbering of hidden neurons.

The live part of a mask is a directed graph: units (channels) are vertices, coloured by their neuron group
(inputs and outputs each by a colour of their own). Where weights of a piece of a layer are kept between two
units there is an arc, labelled by the piece and by which of its positions are kept, the bits of the kernel.
A renumbering of hidden neurons is an isomorphism of that graph, so a mask is recognised by a canonical form:
the live weights with the live hidden units of each group renumbered in an order that depends on the graph
alone. The groups of grouped convolutions may also change places as wholes (``columns``).

    mask → graph → refinement → ties → remainder → individualisation → forms

The order is found in three steps. Colour refinement (``refinement``) settles nearly all units of nearly all
masks; units with equal neighbourhoods, twins, are interchangeable (``ties``); what is left is split into
components (``remainder``) that are canonicalised one by one by individualisation and refinement, pruned by
traces and automorphisms (``individualisation``). ``forms`` renumbers the mask and makes the key of it.
Refinement hashes, but no result depends on a hash being free of collisions: a collision makes a cell coarser
and the search longer.
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
