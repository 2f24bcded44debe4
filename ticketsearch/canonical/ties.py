"""Ties: units that share a colour, and their canonical places in it.

Units with equal neighbourhoods, twins, are interchangeable, so one stands for each class. Where the classes'
sizes and weights to settled units do not order them, they are the remainder.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ticketsearch.canonical.graph import MaskGraph, layer_matrix
from ticketsearch.canonical.individualisation import canonical_sequence
from ticketsearch.canonical.refinement import are_discrete, refine
from ticketsearch.canonical.remainder import Remainder
from ticketsearch.masks import MaskSpec

__all__ = ["places"]

Integers = NDArray[np.intp]


def places(graph: MaskGraph, spec: MaskSpec) -> list[Integers]:
    """Return for each group ``(units,)`` the canonical place of each unit among those of its colour."""
    positions = [np.zeros(group.size, dtype=np.intp) for group in spec.groups]
    if are_discrete(graph.colours, graph.units, spec):
        return positions
    split = [_settled(graph, spec, group) for group in range(len(spec.groups))]
    settled = [units for units, _ in split]
    vertices: list[tuple[int, int]] = []
    cells: list[tuple[int, int, int, bytes]] = []
    members: list[list[int]] = []
    for group in spec.hidden:
        for (colour, wiring), twins in _twins(graph, spec, group, split[group][1], settled):
            vertices.append((group, twins[0]))
            cells.append((group, colour, len(twins), wiring))
            members.append(twins)
    known = sorted(set(cells))
    if len(known) == len(cells):
        sequence = [cells.index(cell) for cell in known]
    else:
        remainder = _remainder(graph, spec, np.array(vertices))
        rank = {cell: number for number, cell in enumerate(known)}
        ranks, _ = refine(remainder, np.array([rank[cell] for cell in cells]))
        sequence = canonical_sequence(remainder, ranks).tolist()
    for place, vertex in enumerate(sequence):
        positions[vertices[vertex][0]][members[vertex]] = place
    return positions


def _settled(graph: MaskGraph, spec: MaskSpec, group: int) -> tuple[Integers, Integers]:
    """Return the units of a group that are told apart, in canonical order, and the live ones that are not."""
    if group not in spec.hidden:
        return np.arange(spec.groups[group].size), np.arange(0)
    alive = np.flatnonzero(graph.units[group])
    _, first, cell, sizes = np.unique(
        graph.colours[group][alive], return_index=True, return_inverse=True, return_counts=True
    )
    return alive[first[sizes == 1]], alive[sizes[cell] > 1]


def _twins(
    graph: MaskGraph, spec: MaskSpec, group: int, units: Integers, settled: list[Integers]
) -> Iterator[tuple[tuple[int, bytes], list[int]]]:
    """Yield ((colour, weights that join it to ``settled`` units), units) for each class of twins.

    Twins have the same sources and targets in every layer, so any order among them gives the same mask. The
    weights to settled units follow from the colour, unless hashes collided: with them it is exact.
    """
    wirings, known = [np.empty((len(units), 0), dtype=np.bool_)], [np.empty((len(units), 0), dtype=np.bool_)]
    for index, (source, target) in enumerate(spec.layer_groups):
        if target == group:
            wirings.append(layer_matrix(graph, spec, index)[units])
            known.append(wirings[-1][:, settled[source]])
        if source == group:
            wirings.append(layer_matrix(graph, spec, index)[:, units].T)
            known.append(wirings[-1][:, settled[target]])
    rows, parts = np.packbits(np.hstack(wirings), axis=1), np.packbits(np.hstack(known), axis=1)
    classes: dict[bytes, list[int]] = {}
    for number, row in enumerate(rows):
        classes.setdefault(row.tobytes(), []).append(number)
    for numbers in classes.values():
        colour = int(graph.colours[group][units[numbers[0]]])
        yield (colour, parts[numbers[0]].tobytes()), units[numbers].tolist()


def _remainder(graph: MaskGraph, spec: MaskSpec, vertices: Integers) -> Remainder:
    """Return the graph among ``vertices``, rows of (group, unit)."""
    tails, heads, labels = [], [], []
    for index, (source, target) in enumerate(spec.layer_groups):
        sources = np.flatnonzero(vertices[:, 0] == source)
        targets = np.flatnonzero(vertices[:, 0] == target)
        part = layer_matrix(graph, spec, index)[np.ix_(vertices[targets, 1], vertices[sources, 1])]
        rows, columns = part.nonzero()
        tails.append(sources[columns])
        heads.append(targets[rows])
        labels.append(2 * index + (tails[-1] == heads[-1]))
    return Remainder(len(vertices), *(np.concatenate(parts) for parts in (tails, heads, labels)))
