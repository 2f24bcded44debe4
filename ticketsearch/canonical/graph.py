"""The graph of a mask: its units and weights as refinement sees them, and as a networkx graph."""

from __future__ import annotations

from typing import NamedTuple

import networkx as nx
import numpy as np
from numpy.typing import ArrayLike

from ticketsearch.canonical.refinement import Colours, unit_colours
from ticketsearch.masks import Edges, Mask, MaskSpec, check_mask, edges, live_edges

__all__ = ["MaskGraph", "layer_matrix", "mask_graph", "to_networkx"]


class MaskGraph(NamedTuple):
    """What of a mask is compared: its weights, which units they join, and the refined colour of each."""

    edges: list[Edges]
    units: list[Mask]
    colours: list[Colours]


def mask_graph(mask: Mask, spec: MaskSpec, *, live_only: bool = True) -> MaskGraph:
    """Return the graph of the live part of a mask, without ``live_only`` of all its weights."""
    if live_only:
        found, units = live_edges(mask, spec)
    else:
        found = edges(mask, spec)
        units = [np.zeros(group.size, dtype=np.bool_) for group in spec.groups]
        for (source, target), (rows, columns) in zip(spec.layer_groups, found, strict=True):
            units[target][rows] = True
            units[source][columns] = True
    return MaskGraph(found, units, unit_colours(found, units, spec))


def layer_matrix(graph: MaskGraph, spec: MaskSpec, layer: int) -> Mask:
    """Return the graph's weights in one layer, (targets, sources) bool."""
    matrix = np.zeros(spec.layers[layer].shape, dtype=np.bool_)
    matrix[graph.edges[layer]] = True
    return matrix


def to_networkx(mask: ArrayLike, spec: MaskSpec) -> nx.Graph[str]:
    """Return the coloured graph of the live part of ``mask``: ``nx.vf2pp_is_isomorphic`` decides by it.

    Each node has one attribute, the string ``label``: live hidden units that of their group, inputs and
    outputs, which are all there (vf2pp calls no empty graph isomorphic), one of their own. As vf2pp
    compares no edges, each live weight is a node too, labelled by its layer and joined to its source and
    target unit; where a layer joins a group to itself the weight is two nodes, one at each end, so that its
    direction shows. ``nx.vf2pp_is_isomorphic(a, b, node_label="label")`` then agrees with
    :func:`ticketsearch.canonical.isomorphic` (on whole large masks it takes minutes).
    Raises :class:`BadInput` for another shape or other values.
    """
    found, units = live_edges(check_mask(mask, spec), spec)
    graph: nx.Graph[str] = nx.Graph()
    for group, alive in zip(spec.groups, units, strict=True):
        hidden = group.kind == "hidden"
        for unit in np.flatnonzero(alive).tolist() if hidden else range(group.size):
            node = f"{group.name}[{unit}]"
            graph.add_node(node, label=group.name if hidden else node)
    for layer, (source, target), (rows, columns) in zip(spec.layers, spec.layer_groups, found, strict=True):
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            weight = f"{layer.name}[{row}, {column}]"
            path = [weight] if source != target else [f"{weight} source", f"{weight} target"]
            for node in path:
                graph.add_node(node, label=node.replace(f"[{row}, {column}]", " weight"))
            ends = f"{spec.groups[source].name}[{column}]", f"{spec.groups[target].name}[{row}]"
            nx.add_path(graph, [ends[0], *path, ends[1]])
    return graph
