"""Checks of a stored spec: indices and sizes agree, so that code that relies on them cannot fail later."""

from __future__ import annotations

from itertools import accumulate

from ticketsearch.masks.spec import MaskSpec, Node

__all__ = ["check_spec"]

# Units of a group that no weight bounds, such as inputs that are only added; more would not fit into memory.
MOST_UNITS = 2**28


def check_spec(spec: MaskSpec) -> MaskSpec:
    """Return a spec whose parts agree; raises :class:`ValueError` for the first part that does not."""
    if not spec.layers or not spec.groups:
        raise ValueError("a spec has layers and groups")
    _check_layers(spec)
    if not all(1 <= group.size <= MOST_UNITS for group in spec.groups):
        raise ValueError(f"groups have 1 to {MOST_UNITS} units")
    for index in range(len(spec.pieces)):
        _check_piece(spec, index)
    for index, node in enumerate(spec.nodes):
        _check_node(spec, index, node)
    for piece, codes in zip(spec.pieces, spec.reads, strict=bool(spec.reads)):
        if codes and (len(codes) != piece.positions or not set(codes) <= {0, 1, 2}):
            raise ValueError("reads are one code, 0 to 2, for each position of a piece")
    for bundle in spec.bundles:
        columns = bundle.columns
        if len({len(column) for column in columns}) > 1:
            raise ValueError(f"columns of bundle {bundle.name!r} are of different lengths")
        _check_indices([group for column in columns for group in column], len(spec.groups), "a bundle's")
    return spec


def _check_layers(spec: MaskSpec) -> None:
    if len({layer.name for layer in spec.layers}) < len(spec.layers):
        raise ValueError("layers of a spec have different names")
    for layer in spec.layers:
        if len(layer.shape) < 2 or min(layer.shape) < 1:
            raise ValueError(f"layer {layer.name!r} has shape {layer.shape}")
    starts = [0, *accumulate(layer.size for layer in spec.layers)]
    if [layer.offset for layer in spec.layers] != starts[:-1]:
        raise ValueError("layers follow each other in a mask, but their offsets do not")


def _check_indices(indices: list[int], limit: int, whose: str) -> None:
    if not all(0 <= index < limit for index in indices):
        raise ValueError(f"{whose} indices are below {limit}, but got {indices}")


def _check_piece(spec: MaskSpec, index: int) -> None:
    piece, whose = spec.pieces[index], f"piece {index}'s"
    _check_indices([piece.layer], len(spec.layers), whose)
    _check_indices([piece.target, piece.source], len(spec.groups), whose)
    layer, targets = spec.layers[piece.layer], spec.groups[piece.target].size
    width = 1 if piece.diagonal else spec.groups[piece.source].size * piece.block
    fits = piece.row + targets <= layer.shape[0] and piece.column + width <= layer.shape[1]
    if min(piece.row, piece.column, piece.to, piece.of) < 0 or piece.block < 1 or not fits:
        raise ValueError(f"{whose} rows and columns are not those of layer {layer.name!r}")
    if piece.positions != layer.kernel * (1 if piece.diagonal else piece.block):
        raise ValueError(f"{whose} positions are not those of layer {layer.name!r}")


def _sizes(spec: MaskSpec, node: Node) -> list[int]:
    return [spec.groups[group].size for group in node.groups]


def _check_node(spec: MaskSpec, index: int, node: Node) -> None:
    whose = f"node {index}'s"
    _check_indices(list(node.inputs), index, whose)
    _check_indices(list(node.groups), len(spec.groups), whose)
    units, read = _sizes(spec, node), [_sizes(spec, spec.nodes[source]) for source in node.inputs]
    if node.operation == "linear":
        _check_indices([node.layer], len(spec.layers), whose)
        if len(read) != 1:
            raise ValueError(f"{whose} inputs are {len(read)}, but a layer reads one value")
        for piece_index in spec.layer_pieces[node.layer]:
            piece = spec.pieces[piece_index]
            _check_indices([piece.to], len(units), whose)
            _check_indices([piece.of], len(read[0]), whose)
            sizes = spec.groups[piece.target].size, spec.groups[piece.source].size
            if sizes != (units[piece.to], read[0][piece.of]):
                raise ValueError(f"{whose} units are not those of layer {spec.layers[node.layer].name!r}")
    elif node.operation == "concatenate":
        if units != [size for sizes in read for size in sizes]:
            raise ValueError(f"{whose} units are not those of its inputs")
    elif node.operation in ("elementwise", "mix", "add") and (
        not read or any(sizes != units for sizes in read)
    ):
        raise ValueError(f"{whose} units are not those of its inputs")
