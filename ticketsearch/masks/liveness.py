"""Liveness: which kept weights and units lie on a path that can matter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ticketsearch.checks import checked
from ticketsearch.masks.bits import check_mask
from ticketsearch.masks.spec import MaskSpec, Node, Piece
from ticketsearch.typing import Floats, Indices, Mask

__all__ = [
    "Edges",
    "Ends",
    "between_live",
    "edges",
    "effective_densities",
    "effective_density",
    "live",
    "live_edges",
    "live_units",
    "liveness",
    "mask_of",
    "weight_numbers",
]

# A value's units, as one array for each group of its neuron axis.
Units = list[NDArray[np.bool_]]


class Ends(NamedTuple):
    """The units of a piece's target and source group between which its kept weights are live."""

    targets: NDArray[np.bool_]
    sources: NDArray[np.bool_]


class Edges(NamedTuple):
    """The kept weights of one piece in row-major order.

    ``rows`` are units of its target group, ``columns`` of its source group, and ``positions`` say which of
    the weights between the two it is: always 0 where there is only one.
    """

    rows: Indices
    columns: Indices
    positions: Indices


def edges(mask: Mask, spec: MaskSpec) -> list[Edges]:
    """Return the kept weights of each piece of the spec."""
    kept = np.flatnonzero(mask)
    bounds = np.searchsorted(kept, [layer.offset for layer in spec.layers[1:]])
    found: list[Edges] = [Edges(kept[:0], kept[:0], kept[:0])] * len(spec.pieces)
    for layer, pieces, numbers in zip(spec.layers, spec.layer_pieces, np.split(kept, bounds), strict=True):
        numbers = numbers - layer.offset
        for index in pieces:
            piece, (targets, sources, width) = spec.pieces[index], spec.piece_shapes[index]
            if targets * sources * width == layer.size:
                rows, rest = _divided(numbers, sources * width)
            else:
                rows, rest = _divided(numbers, layer.size // layer.shape[0])
                rows, rest = rows - piece.row, rest - piece.column * layer.kernel
                inside = (rows >= 0) & (rows < targets) & (rest >= 0) & (rest < sources * width)
                rows, rest = rows[inside], rest[inside]
            columns, positions = _divided(rest, width)
            found[index] = Edges(rows, rows if piece.diagonal else columns, positions)
    return found


def _divided(numbers: Indices, by: int) -> tuple[Indices, Indices]:
    """Return quotients and remainders; NumPy's own divmod takes twice the time."""
    if by == 1:
        return numbers, np.zeros(len(numbers), dtype=np.intp)
    quotients = numbers // by
    remainders = quotients * -by
    remainders += numbers
    return quotients, remainders


def weight_numbers(found: list[Edges], spec: MaskSpec) -> Indices:
    """Return the numbers in the flat mask of the weights in ``found``, one :class:`Edges` a piece."""
    return np.concatenate(
        [_numbers(part, spec, piece) for part, piece in zip(found, spec.pieces, strict=True)]
    )


def mask_of(found: list[Edges], spec: MaskSpec) -> Mask:
    """Return the read-only ``(weights,)`` mask of the weights in ``found``, one :class:`Edges` a piece."""
    mask = np.zeros(spec.size, dtype=np.bool_)
    for part, piece in zip(found, spec.pieces, strict=True):
        mask[_numbers(part, spec, piece)] = True
    mask.flags.writeable = False
    return mask


def _numbers(found: Edges, spec: MaskSpec, piece: Piece) -> Indices:
    layer = spec.layers[piece.layer]
    width = layer.size // layer.shape[0]
    numbers = found.rows * width
    numbers += layer.offset + piece.row * width + piece.column * layer.kernel
    if not piece.diagonal:
        numbers += found.columns * piece.positions if piece.positions > 1 else found.columns
    if piece.positions > 1:
        numbers += found.positions
    return numbers


def live_edges(
    mask: Mask, spec: MaskSpec, *, constants: bool = True
) -> tuple[list[Edges], list[NDArray[np.bool_]]]:
    """Return the kept weights of each piece that can matter, and for each group which units do.

    See :func:`liveness` for what is live.
    """
    ends, units = liveness(mask, spec, constants=constants)
    mask = spec.reading(mask, constants=constants)
    found = [
        _between(part, end, piece.positions)
        for part, end, piece in zip(edges(mask, spec), ends, spec.pieces, strict=True)
    ]
    return found, units


def liveness(
    mask: Mask, spec: MaskSpec, *, constants: bool = True
) -> tuple[list[Ends], list[NDArray[np.bool_]]]:
    """Return for each piece between which units weights are live, and for each group which units are.

    A weight is live if it can read anything but padding, its source is active (some kept path leads to it
    from an input, or with ``constants`` from a unit that is non-zero by itself) and its target is relevant
    (some kept path leads on to an output). A unit is live if at some place in the network it is both. A
    normalisation over the units makes all of them active and relevant with ``constants``, and passes each on
    to itself without.
    A product is active where some factor is and all others can be non-zero, by themselves too, and a factor
    is relevant where all others can be non-zero.

    ``mask`` is ``(..., weights)``, and so are units ``(..., units)``: masks side by side.
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
            for number in spec.layer_pieces[node.layer]:
                piece = spec.pieces[number]
                ends[number] = Ends(relevant[index][piece.to], active[node.inputs[0]][piece.of])
    return ends, units


def _parts(mask: Mask, spec: MaskSpec, constants: bool) -> list[Mask]:
    read = spec.reading(mask, constants=constants)
    return [spec.part(piece, read) for piece in spec.pieces]


def _active(parts: list[Mask], spec: MaskSpec, constants: bool, nonzero: Sequence[Units] = ()) -> list[Units]:
    """Return for each node which units something reaches; ``nonzero`` is what constants reach too."""
    values: list[Units] = []
    filled = partial(_filled, spec=spec, lead=parts[0].shape[:-3])
    for node in spec.nodes:
        inputs = [values[i] for i in node.inputs]
        if node.operation == "input":
            value = filled(node, True)
        elif node.operation == "linear":
            value = filled(node, constants and node.constant)
            for number in spec.layer_pieces[node.layer]:
                piece = spec.pieces[number]
                value[piece.to] |= _reached(parts[number], inputs[0][piece.of], piece)
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
    """Return of the units of each factor's flow those that no other factor makes zero."""
    found = []
    for number, flow in enumerate(flows):
        others = [other for index, other in enumerate(factors) if index != number]
        found.append([np.logical_and.reduce(units) for units in zip(flow, *others, strict=True)])
    return found


def _relevant(
    parts: list[Mask], active: list[Units], spec: MaskSpec, constants: bool, nonzero: Sequence[Units]
) -> list[Units]:
    """Return for each node which units reach an output; ``nonzero`` is what can be non-zero."""
    values = [[np.zeros(part.shape, np.bool_) for part in value] for value in active]
    for part in values[-1]:
        part[:] = True
    for index in range(len(spec.nodes) - 1, -1, -1):
        node = spec.nodes[index]
        if node.operation == "linear":
            for number in spec.layer_pieces[node.layer]:
                piece = spec.pieces[number]
                values[node.inputs[0]][piece.of] |= _reaching(parts[number], values[index][piece.to], piece)
            continue
        if node.operation == "mix" and constants:
            anything = np.logical_or.reduce([part.any(axis=-1) for part in values[index]])
            for part in values[index]:
                part |= anything[..., None]
        if node.operation == "select":
            for place, part in zip(node.places, values[index], strict=True):
                values[node.inputs[0]][place] |= part
            continue
        if node.operation == "multiply":
            flows = _passed([values[index]] * len(node.inputs), [nonzero[i] for i in node.inputs])
            for source, flow in zip(node.inputs, flows, strict=True):
                for into, part in zip(values[source], flow, strict=True):
                    into |= part
            continue
        places = iter(values[index])
        for source in node.inputs:
            if node.operation != "concatenate":
                places = iter(values[index])
            for number, part in zip(range(len(values[source])), places):  # noqa: B905 - places go on
                values[source][number] |= part
    return values


def _declared(
    parts: list[Mask], spec: MaskSpec, constants: bool, lead: tuple[int, ...]
) -> tuple[list[Ends], Units]:
    """Return what is live where only the groups are known: reached and reaching through kept weights."""
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


def _reached(part: Mask, sources: NDArray[np.bool_], piece: Piece) -> NDArray[np.bool_]:
    """Return which targets some weight of a ``(..., targets, sources, positions)`` part joins to sources."""
    if part.ndim > 3:
        kept: Mask = np.logical_or.reduce(part, axis=-1)
        joined: Mask = np.logical_or.reduce(kept & sources[..., None, :], axis=-1)
        return kept[..., 0] & sources if piece.diagonal else joined
    if piece.diagonal:
        return _any(part, 1) & sources
    return _any(part if _complete(sources) else part[:, sources], 1)


def _reaching(part: Mask, targets: NDArray[np.bool_], piece: Piece) -> NDArray[np.bool_]:
    """Return which sources some weight of a ``(..., targets, sources, positions)`` part joins to targets."""
    if part.ndim > 3:
        some: Mask = np.logical_or.reduce(part, axis=-1)
        joined: Mask = np.logical_or.reduce(some & targets[..., None], axis=-2)
        return some[..., 0] & targets if piece.diagonal else joined
    if piece.diagonal:
        return _any(part, 1) & targets
    kept = part if _complete(targets) else part[targets]
    return _any(np.logical_or.reduce(kept, axis=0), 1)


def _complete(units: NDArray[np.bool_]) -> bool:
    """Return whether all of them are True; the method ``all`` takes ten times as long."""
    return int(np.count_nonzero(units)) == len(units)


def _any(array: Mask, axes: int) -> NDArray[np.bool_]:
    """Return whether there is anything beyond the first ``axes`` axes: flattened, NumPy is much faster."""
    lead, rest = array.shape[:axes], math.prod(array.shape[axes:])
    return array.reshape(lead) if rest == 1 else np.logical_or.reduce(array.reshape(*lead, rest), axis=axes)


def _between(found: Edges, ends: Ends, positions: int) -> Edges:
    targets, sources = ends
    if _complete(sources) and _complete(targets):
        return found
    keep = sources[found.columns] & targets[found.rows]
    rows = found.rows[keep]
    places = found.positions[keep] if positions > 1 else found.positions[: len(rows)]
    return Edges(rows, found.columns[keep], places)


@checked
def live(mask: Mask, spec: MaskSpec, *, constants: bool = True) -> Mask:
    """Return the mask without its dead weights; see :func:`live_edges`."""
    found, _ = live_edges(check_mask(mask, spec), spec, constants=constants)
    return mask_of(found, spec)


@checked
def live_units(mask: Mask, spec: MaskSpec, *, constants: bool = True) -> dict[str, NDArray[np.bool_]]:
    """Return ``{group name: (units,) bool}``: which units are on a path that can matter."""
    _, units = liveness(check_mask(mask, spec), spec, constants=constants)
    return {group.name: alive for group, alive in zip(spec.groups, units, strict=True)}


def between_live(mask: Mask, spec: MaskSpec) -> Mask:
    """Return which weights, kept or not, join units that are live, or inputs or outputs, ``(weights,)``.

    Weights that read padding alone are none of them.
    """
    units = live_units(mask, spec)
    alive = [units[group.name] | (group.kind != "hidden") for group in spec.groups]
    found = np.zeros(spec.size, dtype=np.bool_)
    for piece in spec.pieces:
        window = spec.window(piece, found)
        joined = alive[piece.target][:, None]
        if not piece.diagonal:
            joined = joined & np.repeat(alive[piece.source], piece.block)
        window[...] = joined.reshape(joined.shape + (1,) * (window.ndim - 2))
    return spec.reading(found)


@checked
def effective_density(mask: Mask, spec: MaskSpec) -> float:
    """Return the share of weights that are kept and lie on some input-to-output path, in [0, 1]."""
    return float(effective_densities(check_mask(mask, spec), spec))


def effective_densities(masks: Mask, spec: MaskSpec) -> Floats:
    """Return the :func:`effective_density` of each of ``(..., weights)`` masks, ``(...)``."""
    ends, _ = liveness(masks, spec, constants=False)
    count = np.zeros(masks.shape[:-1], dtype=np.int64)
    for part, (targets, sources), piece in zip(_parts(masks, spec, False), ends, spec.pieces, strict=True):
        between = targets & sources if piece.diagonal else targets[..., None] & sources[..., None, :]
        # A byte a weight, not eight: masks of a whole population may be here at once.
        kept = part & between[..., *[None] * (part.ndim - between.ndim)]
        count += np.count_nonzero(kept.reshape(*count.shape, -1), axis=-1)
    return count / spec.size
