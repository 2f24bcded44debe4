"""The graph of a mask: its units and weights as refinement sees them, and as a networkx graph."""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

import networkx as nx
import numpy as np
from numpy.typing import ArrayLike

from ticketsearch.canonical.columns import merger
from ticketsearch.canonical.refinement import Colours, unit_colours
from ticketsearch.masks import Edges, Mask, MaskSpec, check_mask, edges, live_edges

__all__ = ["MaskGraph", "mask_graph", "piece_matrix", "to_networkx"]


class MaskGraph(NamedTuple):
    """What of a mask is compared: its weights, which units they join, and the refined colour of each.

    ``spec`` numbers them: where the mask's own has bundles it is that of :mod:`.columns`. ``kept`` are the
    weights by the pieces of the mask's own spec.
    """

    spec: MaskSpec
    edges: list[Edges]
    units: list[Mask]
    colours: list[Colours]
    kept: list[Edges]


def mask_graph(mask: Mask, spec: MaskSpec, *, live_only: bool = True) -> MaskGraph:
    """Return the graph of the live part of a mask, without ``live_only`` of all its weights."""
    if live_only:
        kept, units = live_edges(mask, spec)
    else:
        kept = edges(mask, spec)
        units = [np.zeros(group.size, dtype=np.bool_) for group in spec.groups]
        for piece, (rows, columns, _) in zip(spec.pieces, kept, strict=True):
            units[piece.target][rows] = True
            units[piece.source][columns] = True
    found = kept
    if spec.bundles:
        found, units = merger(spec).merged(kept, units)
        spec = merger(spec).spec
    return MaskGraph(spec, found, units, unit_colours(found, units, spec), kept)


def piece_matrix(graph: MaskGraph, index: int) -> Mask:
    """Return the graph's weights in one piece, (targets, sources, positions) bool; 1 source if diagonal."""
    piece, (rows, columns, positions) = graph.spec.pieces[index], graph.edges[index]
    shape = graph.spec.piece_shapes[index]
    matrix = np.zeros(shape, dtype=np.bool_)
    pairs = rows if piece.diagonal else rows * shape[1] + columns
    matrix.reshape(-1)[pairs * shape[2] + positions if shape[2] > 1 else pairs] = True
    return matrix


def to_networkx(mask: ArrayLike, spec: MaskSpec) -> nx.Graph[str]:
    """Return the coloured graph of the live part of ``mask``: ``nx.vf2pp_is_isomorphic`` decides by it.

    Each node has one attribute, the string ``label``: live hidden units that of their group, inputs and
    outputs, which are all there (vf2pp calls no empty graph isomorphic), one of their own. As vf2pp
    compares no edges, the weights from one unit to another are a node too, joined to both, whose label has
    the layer, the piece and the kept positions; where a piece joins a group to itself they are two nodes,
    one at each end, so that their direction shows, but one where it joins each unit to itself alone. Groups
    that may be exchanged share a label, and each column of them is a node joined to its live units.
    ``nx.vf2pp_is_isomorphic(a, b, node_label="label")`` then agrees with
    :func:`ticketsearch.canonical.isomorphic` (on whole large masks it takes minutes).
    Raises :class:`BadInput` for another shape or other values.
    """
    found, units = live_edges(check_mask(mask, spec), spec)
    names = [[f"{group.name}[{unit}]" for unit in range(group.size)] for group in spec.groups]
    if spec.bundles:
        merging = merger(spec)
        found, units = merging.merged(found, units)
        spec, names = merging.spec, merging.names(names)
    graph: nx.Graph[str] = nx.Graph()
    for group, alive, nodes in zip(spec.groups, units, names, strict=True):
        hidden = group.kind == "hidden"
        for unit in np.flatnonzero(alive).tolist() if hidden else range(group.size):
            graph.add_node(nodes[unit], label=group.name if hidden else nodes[unit])
    for number, (piece, part) in enumerate(zip(spec.pieces, found, strict=True)):
        joins_itself = piece.source == piece.target and not piece.diagonal
        for (row, column), bits in _patterns(part).items():
            source, target = names[piece.source][column], names[piece.target][row]
            labels = []
            if piece.layer >= 0:  # no weights join columns to their units
                label = f"{spec.layers[piece.layer].name} piece {number} weights {bits:x}"
                labels = [f"{label} source", f"{label} target"] if joins_itself else [label]
            path = [f"{label} {source} {target}" for label in labels]
            for node, label in zip(path, labels, strict=True):
                graph.add_node(node, label=label)
            nx.add_path(graph, [source, *path, target])
    return graph


def _patterns(found: Edges) -> dict[tuple[int, int], int]:
    """Return {(target, source): bits of the kept positions} of the units that a piece joins."""
    patterns: dict[tuple[int, int], int] = defaultdict(int)
    for row, column, position in zip(*(numbers.tolist() for numbers in found), strict=True):
        patterns[row, column] |= 1 << position
    return patterns
