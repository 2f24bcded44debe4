"""Liveness: which kept weights and units lie on an input-to-output path that can influence the outputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from ticketsearch.checks import checked
from ticketsearch.masks.bits import check_mask
from ticketsearch.masks.edge_lists import Edges, edges, mask_of
from ticketsearch.masks.spec import MaskSpec, Node, Piece
from ticketsearch.typing import Floats, Mask

__all__ = [
    "Ends",
    "between_live",
    "effective_densities",
    "effective_density",
    "live",
    "live_edges",
    "live_ends",
    "live_units",
]

# A value's units, as one array for each group of its neuron axis.
Units = list[Mask]


class Ends(NamedTuple):
    """The units of a piece's target and source group between which its kept weights are live."""

    targets: Mask
    sources: Mask


def live_edges(mask: Mask, spec: MaskSpec, *, constants: bool = True) -> tuple[list[Edges], list[Mask]]:
    """Return the live edges of each piece, and for each group which units are live.

    :func:`live_ends` says which are.
    """
    ends, units = live_ends(mask, spec, constants=constants)
    mask = spec.reading(mask, constants=constants)
    alive = [
        _between(part, end, piece.positions)
        for part, end, piece in zip(edges(mask, spec), ends, spec.pieces, strict=True)
    ]
    return alive, units


def live_ends(mask: Mask, spec: MaskSpec, *, constants: bool = True) -> tuple[list[Ends], list[Mask]]:
    """Return for each piece the units between which weights are live, and for each group the live units.

    A weight is live if it can read anything but padding, its source is active (some kept path leads to it
    from an input, or with ``constants`` from a unit that is non-zero by itself) and its target is relevant
    (some kept path leads on to an output). A unit is live if it is active and relevant in some value of the
    network. With ``constants`` a normalisation over the units of a sample makes all of them active and
    relevant; without, each unit depends on itself alone.
    A product is active where some factor is and all others can be non-zero, by themselves too, and a factor
    is relevant where all others can be non-zero.

    ``mask`` is ``(..., weights)``, several masks side by side, and units are ``(..., units)``.
    """
    parts = _parts(mask, spec, constants)
    if not spec.nodes:
        return _declared(parts, spec, constants, mask.shape[:-1])
    products = any(node.operation == "multiply" for node in spec.nodes)
    known = parts if constants or not products else _parts(mask, spec, True)
    nonzero = _active(known, spec, True) if products else []
    active = nonzero if products and constants else _active(parts, spec, constants, nonzero)
    relevant = _relevant(parts, active, spec, constants, nonzero)
    units = [np.zeros((*mask.shape[:-1], group.size), dtype=np.bool_) for group in spec.groups]
    ends = [Ends(units[piece.target], units[piece.source]) for piece in spec.pieces]
    for index, node in enumerate(spec.nodes):
        for group, forward, backward in zip(node.groups, active[index], relevant[index], strict=True):
            units[group] |= forward & backward
        if node.operation == "linear":
            for piece_index in spec.layer_pieces[node.layer]:
                piece = spec.pieces[piece_index]
                ends[piece_index] = Ends(relevant[index][piece.to], active[node.inputs[0]][piece.of])
    return ends, units


def _parts(mask: Mask, spec: MaskSpec, constants: bool) -> list[Mask]:
    read = spec.reading(mask, constants=constants)
    return [spec.part(piece, read) for piece in spec.pieces]


def _active(parts: list[Mask], spec: MaskSpec, constants: bool, nonzero: Sequence[Units] = ()) -> list[Units]:
    """Return for each node the active units; ``nonzero`` are those that are active with constants."""
    values: list[Units] = []
    filled = partial(_filled, spec=spec, lead=parts[0].shape[:-3])
    for node in spec.nodes:
        inputs = [values[i] for i in node.inputs]
        if node.operation == "input":
            value = filled(node, True)
        elif node.operation == "linear":
            value = filled(node, constants and node.constant)
            for piece_index in spec.layer_pieces[node.layer]:
                piece = spec.pieces[piece_index]
                value[piece.to] |= _reached(parts[piece_index], inputs[0][piece.of], piece)
        elif node.operation == "concatenate":
            value = [part for whole in inputs for part in whole]
        elif node.operation == "select":
            value = [inputs[0][place] for place in node.places]
        elif node.operation == "zeros":
            value = filled(node, False)
        elif constants and node.constant:
            value = filled(node, True)
        elif node.operation == "multiply" and constants:
            value = [np.logical_and.reduce(factors) for factors in zip(*inputs, strict=True)]
        elif node.operation == "multiply":
            passed = _passed(inputs, [nonzero[i] for i in node.inputs])
            value = [np.logical_or.reduce(factors) for factors in zip(*passed, strict=True)]
        elif len(inputs) == 1:
            value = inputs[0]
        else:
            value = [np.logical_or.reduce(parts) for parts in zip(*inputs, strict=True)]
        values.append(value)
    return values


def _passed(flows: Sequence[Units], factors: Sequence[Units]) -> list[Units]:
    """Return for each factor of a product the units of its flow that no other factor makes zero."""
    passed = []
    for position, flow in enumerate(flows):
        others = [other for index, other in enumerate(factors) if index != position]
        passed.append([np.logical_and.reduce(units) for units in zip(flow, *others, strict=True)])
    return passed


def _relevant(
    parts: list[Mask], active: list[Units], spec: MaskSpec, constants: bool, nonzero: Sequence[Units]
) -> list[Units]:
    """Return for each node the units that reach an output; ``nonzero`` are those that can be non-zero."""
    values = [[np.zeros(part.shape, np.bool_) for part in value] for value in active]
    for part in values[-1]:
        part[:] = True
    for index in range(len(spec.nodes) - 1, -1, -1):
        node, value = spec.nodes[index], values[index]
        if node.operation == "linear":
            for piece_index in spec.layer_pieces[node.layer]:
                piece = spec.pieces[piece_index]
                values[node.inputs[0]][piece.of] |= _reaching(parts[piece_index], value[piece.to], piece)
            continue
        if node.operation == "mix" and constants:
            anything = np.logical_or.reduce([part.any(axis=-1) for part in value])
            for part in value:
                part |= anything[..., None]
        for source, units in zip(node.inputs, _backward(node, value, values, nonzero), strict=True):
            for part, reaching in zip(values[source], units, strict=True):
                part |= reaching
    return values


def _backward(node: Node, value: Units, values: list[Units], nonzero: Sequence[Units]) -> list[Units]:
    """Return for each input of a node without weights the units that reach an output through the node."""
    if node.operation == "multiply":
        return _passed([value] * len(node.inputs), [nonzero[i] for i in node.inputs])
    if node.operation == "concatenate":
        parts = iter(value)
        return [[next(parts) for _ in values[source]] for source in node.inputs]
    if node.operation == "select":
        selected = [np.zeros_like(part) for part in values[node.inputs[0]]]
        for place, part in zip(node.places, value, strict=True):
            selected[place] |= part
        return [selected]
    return [value] * len(node.inputs)


def _declared(
    parts: list[Mask], spec: MaskSpec, constants: bool, lead: tuple[int, ...]
) -> tuple[list[Ends], Units]:
    """Return :func:`live_ends` where only the groups are known: kept weights alone decide."""
    active = [np.full((*lead, g.size), g.kind == "input" or constants) for g in spec.groups]
    relevant = [np.full((*lead, g.size), g.kind == "output") for g in spec.groups]
    for values, forward in ((active, True), (relevant, False)):
        before = -1
        while before != (before := sum(int(np.count_nonzero(value)) for value in values)):
            for piece, part in zip(spec.pieces, parts, strict=True):
                if forward:
                    values[piece.target] |= _reached(part, values[piece.source], piece)
                else:
                    values[piece.source] |= _reaching(part, values[piece.target], piece)
    ends = [Ends(relevant[piece.target], active[piece.source]) for piece in spec.pieces]
    return ends, [a & r for a, r in zip(active, relevant, strict=True)]


def _filled(node: Node, value: bool, *, spec: MaskSpec, lead: tuple[int, ...]) -> Units:
    fill = np.ones if value else np.zeros
    return [fill((*lead, spec.groups[group].size), np.bool_) for group in node.groups]


def _reached(part: Mask, sources: Mask, piece: Piece) -> Mask:
    """Return the targets that a ``(..., targets, sources, positions)`` part joins to some of the sources."""
    if part.ndim > 3:
        kept: Mask = np.logical_or.reduce(part, axis=-1)
        joined: Mask = np.logical_or.reduce(kept & sources[..., None, :], axis=-1)
        return kept[..., 0] & sources if piece.diagonal else joined
    if piece.diagonal:
        return _any(part, 1) & sources
    return _any(part if _complete(sources) else part[:, sources], 1)


def _reaching(part: Mask, targets: Mask, piece: Piece) -> Mask:
    """Return the sources that a ``(..., targets, sources, positions)`` part joins to some of the targets."""
    if part.ndim > 3:
        some: Mask = np.logical_or.reduce(part, axis=-1)
        joined: Mask = np.logical_or.reduce(some & targets[..., None], axis=-2)
        return some[..., 0] & targets if piece.diagonal else joined
    if piece.diagonal:
        return _any(part, 1) & targets
    kept = part if _complete(targets) else part[targets]
    return _any(np.logical_or.reduce(kept, axis=0), 1)


def _complete(units: Mask) -> bool:
    """Return whether all units are True; the method ``all`` takes ten times as long."""
    return int(np.count_nonzero(units)) == len(units)


def _any(array: Mask, axes: int) -> Mask:
    """Return whether any entry beyond the first ``axes`` axes is True; NumPy is much faster on flat axes."""
    lead, rest = array.shape[:axes], math.prod(array.shape[axes:])
    return array.reshape(lead) if rest == 1 else np.logical_or.reduce(array.reshape(*lead, rest), axis=axes)


def _between(part: Edges, ends: Ends, positions: int) -> Edges:
    targets, sources = ends
    if _complete(sources) and _complete(targets):
        return part
    keep = sources[part.columns] & targets[part.rows]
    rows = part.rows[keep]
    kept_positions = part.positions[keep] if positions > 1 else part.positions[: len(rows)]
    return Edges(rows, part.columns[keep], kept_positions)


@checked
def live(mask: Mask, spec: MaskSpec, *, constants: bool = True) -> Mask:
    """Return the ``(weights,)`` mask without its dead weights; see :func:`live_ends`.

    Raises :class:`BadInput` for another shape or other values than 0 and 1.
    """
    alive, _ = live_edges(check_mask(mask, spec), spec, constants=constants)
    return mask_of(alive, spec)


@checked
def live_units(mask: Mask, spec: MaskSpec, *, constants: bool = True) -> dict[str, Mask]:
    """Return ``{group name: (units,) bool}``: which units are live; see :func:`live_ends`."""
    _, units = live_ends(check_mask(mask, spec), spec, constants=constants)
    return {group.name: alive for group, alive in zip(spec.groups, units, strict=True)}


def between_live(mask: Mask, spec: MaskSpec) -> Mask:
    """Return which weights, kept or not, join live units, inputs or outputs, ``(weights,)`` bool.

    Weights that read padding alone are excluded.
    """
    units = live_units(mask, spec)
    alive = [units[group.name] | (group.kind != "hidden") for group in spec.groups]
    between = np.zeros(spec.size, dtype=np.bool_)
    for piece in spec.pieces:
        window = spec.window(piece, between)
        joined = alive[piece.target][:, None]
        if not piece.diagonal:
            joined = joined & np.repeat(alive[piece.source], piece.block)
        window[...] = joined.reshape(joined.shape + (1,) * (window.ndim - 2))
    return spec.reading(between)


@checked
def effective_density(mask: Mask, spec: MaskSpec) -> float:
    """Return the share of weights that are kept and lie on some input-to-output path, in [0, 1]."""
    return float(effective_densities(check_mask(mask, spec), spec))


def effective_densities(masks: Mask, spec: MaskSpec) -> Floats:
    """Return the :func:`effective_density` of each of ``(..., weights)`` masks, ``(...)``."""
    ends, _ = live_ends(masks, spec, constants=False)
    count = np.zeros(masks.shape[:-1], dtype=np.int64)
    for part, (targets, sources), piece in zip(_parts(masks, spec, False), ends, spec.pieces, strict=True):
        between = targets & sources if piece.diagonal else targets[..., None] & sources[..., None, :]
        # A byte a weight, not eight: masks of a whole population may be here at once.
        kept = part & between[..., *[None] * (part.ndim - between.ndim)]
        count += np.count_nonzero(kept.reshape(*count.shape, -1), axis=-1)
    return count / spec.size
