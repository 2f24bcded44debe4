"""The graph of a mask: its live units and the weights between them, and as a networkx graph."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

import networkx as nx
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ticketsearch.canonical.bundles import Marks, merger
from ticketsearch.canonical.labels import Labels
from ticketsearch.canonical.live_program import live_parts, live_program
from ticketsearch.checks import checked
from ticketsearch.masks import Ends, Mask, MaskSpec, Piece, check_mask, live_ends
from ticketsearch.typing import Indices

__all__ = ["MaskGraph", "Part", "mask_graph", "row_bytes", "to_networkx"]

Part = NDArray[Any]


class MaskGraph(NamedTuple):
    """The graph of a mask: its live units, and the weights between them.

    Attributes
    ----------
    spec : numbers the groups and pieces. For a mask whose spec has bundles it is the merged spec of
        :mod:`ticketsearch.canonical.bundles`; with labels of units it has a diagonal piece for each labelled
        group.
    members : for each group ``(live,)`` the numbers of its live units; for inputs and outputs all units.
    parts : for each piece ``(targets, sources, positions)`` between the members: bool, or the uint64 labels
        of its weights, 0 where there is none. A diagonal part has 1 source.
    """

    spec: MaskSpec
    members: list[Indices]
    parts: list[Part]

    @property
    def sizes(self) -> list[int]:
        """The number of members of each group."""
        return [len(units) for units in self.members]

    def block(self, orders: list[Indices]) -> bytes:
        """Return all weights as bytes, members in ``orders``: equal exactly for equal graphs."""
        contents = [np.array(self.sizes).tobytes()]
        for piece, part in zip(self.spec.pieces, self.parts, strict=True):
            targets, sources = self._chosen(piece.target, orders), self._chosen(piece.source, orders)
            part = part if targets is None else part.take(targets, axis=0)
            part = part if sources is None or piece.diagonal else part.take(sources, axis=1)
            contents.append((np.packbits(part) if part.dtype == np.bool_ else part).tobytes())
        return b"".join(contents)

    def _chosen(self, group: int, orders: list[Indices]) -> Indices | None:
        return orders[group] if self.spec.groups[group].kind == "hidden" else None


def mask_graph(
    mask: Mask, spec: MaskSpec, labels: Labels | None = None, *, live_only: bool = True
) -> MaskGraph:
    """Return the graph of the live part of a mask, without ``live_only`` of all its weights."""
    marks = [] if labels is None else list(labels.units.items())
    program = live_program(spec) if live_only and not spec.bundles else None
    if program is not None:
        parts: list[Part]
        members, parts = live_parts(spec.reading(mask), spec, program)
        if labels is not None:
            numbers = (spec.part(piece, labels.weights) for piece in spec.pieces)
            parts = [
                part * _among(number, piece, members)
                for part, number, piece in zip(parts, numbers, spec.pieces, strict=True)
            ]
    else:
        spec, members, parts, marks = _cropped(mask, spec, labels, marks, live_only)
    if marks:
        pieces = [Piece(-1, group, group, positions=a.shape[1], diagonal=True) for group, a in marks]
        spec = dataclasses.replace(spec, pieces=(*spec.pieces, *pieces))
        parts += [array[members[group]][:, None] for group, array in marks]
    return MaskGraph(spec, members, parts)


def _cropped(
    mask: Mask, spec: MaskSpec, labels: Labels | None, marks: list[Marks], live_only: bool
) -> tuple[MaskSpec, list[Indices], list[Part], list[Marks]]:
    """Return the spec, members and parts of any graph, and the labels of units.

    This serves bundles, whole masks, and networks without a :func:`live_program`.
    """
    if live_only:
        mask = spec.reading(mask)
    parts: list[Part] = [spec.part(piece, mask) for piece in spec.pieces]
    ends, units = live_ends(mask, spec) if live_only else _everything(parts, spec)
    if labels is not None:
        numbers = labels.weights
        parts = [part * spec.part(piece, numbers) for piece, part in zip(spec.pieces, parts, strict=True)]
    if spec.bundles:
        parts = [_between(*given) for given in zip(parts, ends, spec.pieces, strict=True)]
        merging = merger(spec)
        spec, parts, units, marks = merging.spec, *merging.merged(parts, units, marks)
        ends = [Ends(units[piece.target], units[piece.source]) for piece in spec.pieces]
    members = [
        np.flatnonzero(alive) if group.kind == "hidden" else np.arange(group.size)
        for group, alive in zip(spec.groups, units, strict=True)
    ]
    for index, (piece, part, (targets, sources)) in enumerate(zip(spec.pieces, parts, ends, strict=True)):
        end = Ends(targets[members[piece.target]], sources[members[piece.source]])
        parts[index] = _between(_among(part, piece, members), end, piece)
    return spec, members, parts, marks


def _among(part: Part, piece: Piece, members: list[Indices]) -> Part:
    """Return a part between members of its groups."""
    rows, columns = members[piece.target], members[piece.source]
    if len(rows) < part.shape[0]:
        part = part.take(rows, axis=0)
    if not piece.diagonal and len(columns) < part.shape[1]:
        part = part.take(columns, axis=1)
    return part


def _everything(parts: list[Part], spec: MaskSpec) -> tuple[list[Ends], list[Mask]]:
    """Return the result of :func:`live_ends` if each weight, and each unit with a weight, were live."""
    units = [np.zeros(group.size, dtype=np.bool_) for group in spec.groups]
    for piece, part in zip(spec.pieces, parts, strict=True):
        units[piece.target] |= part.any(axis=(1, 2))
        if not piece.diagonal:
            units[piece.source] |= part.any(axis=(0, 2))
    return [Ends(units[piece.target], units[piece.source]) for piece in spec.pieces], units


def _between(part: Part, ends: Ends, piece: Piece) -> Part:
    """Return a part without its dead weights."""
    targets, sources = ends
    if piece.diagonal:
        targets = targets & sources
    if np.count_nonzero(targets) < len(targets):
        part = part * targets[:, None, None]
    return part if piece.diagonal or np.count_nonzero(sources) == len(sources) else part * sources[:, None]


def row_bytes(matrix: Part) -> list[bytes]:
    """Return each row of a bool or uint64 matrix as bytes."""
    rows = np.packbits(matrix, axis=1) if matrix.dtype == np.bool_ else np.ascontiguousarray(matrix)
    return [row.tobytes() for row in rows]


@checked
def to_networkx(mask: ArrayLike, spec: MaskSpec) -> nx.Graph[str]:
    """Return the coloured graph of the live part of ``mask``, for ``nx.vf2pp_is_isomorphic``.

    Each node has one attribute, the string ``label``. Live hidden units have the label of their group; inputs
    and outputs, which are all present (vf2pp calls no empty graph isomorphic), have labels of their own. As
    vf2pp does not compare edges, the weights from one unit to another are a node too, joined to both, with
    the layer, the piece and the kept positions as its label. Where a piece joins a group to itself the
    weights are two nodes, one at each end, which show the direction; where it joins each unit to itself alone
    one node is enough. Groups that may be exchanged share a label, and each column of them is a node joined
    to its live units. ``nx.vf2pp_is_isomorphic(a, b, node_label="label")`` then agrees with
    :func:`ticketsearch.canonical.isomorphic` (on whole large masks it takes minutes).
    Raises :class:`BadInput` for another shape or other values.
    """
    whole = mask_graph(check_mask(mask, spec), spec)
    names = [[f"{group.name}[{unit}]" for unit in range(group.size)] for group in spec.groups]
    if spec.bundles:
        names = merger(spec).names(names)
    graph: nx.Graph[str] = nx.Graph()
    for group, members, nodes in zip(whole.spec.groups, whole.members, names, strict=True):
        for unit in members.tolist():
            graph.add_node(nodes[unit], label=group.name if group.kind == "hidden" else nodes[unit])
    for index, piece in enumerate(whole.spec.pieces):
        joins_itself = piece.source == piece.target and not piece.diagonal
        for row, column, bits in _patterns(whole, index):
            source, target = names[piece.source][column], names[piece.target][row]
            labels = []
            if piece.layer >= 0:  # no weights join columns to their units
                label = f"{spec.layers[piece.layer].name} piece {index} weights {bits:x}"
                labels = [f"{label} source", f"{label} target"] if joins_itself else [label]
            path = [f"{label} {source} {target}" for label in labels]
            for node, label in zip(path, labels, strict=True):
                graph.add_node(node, label=label)
            nx.add_path(graph, [source, *path, target])
    return graph


def _patterns(graph: MaskGraph, index: int) -> Iterator[tuple[int, int, int]]:
    """Yield (target, source, bits of the kept positions) of the units that a piece joins."""
    piece, part = graph.spec.pieces[index], graph.parts[index]
    rows, columns = np.nonzero(part.any(axis=2))
    sources = graph.members[piece.source][rows if piece.diagonal else columns]
    patterns = np.packbits(part[rows, columns], axis=1, bitorder="little")
    for row, column, bits in zip(
        graph.members[piece.target][rows].tolist(), sources.tolist(), patterns, strict=True
    ):
        yield row, column, int.from_bytes(bits.tobytes(), "little")
