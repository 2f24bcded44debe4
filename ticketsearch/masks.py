"""Masks: one flat bool array a network, and the spec that says which bit is which weight.

A mask has one bit for each maskable weight, layers in forward order, each layer row-major in torch
layout. A population of masks is a ``(population, weights)`` array. The spec also carries the network's
computation as far as liveness needs it, so that units and weights on no input-to-output path are found
with NumPy alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ticketsearch.errors import BadInput

__all__ = [
    "Edges",
    "Group",
    "Layer",
    "MaskSpec",
    "Node",
    "check_mask",
    "check_masks",
    "density",
    "digest",
    "edges",
    "effective_density",
    "layer_counts",
    "live",
    "live_edges",
    "live_units",
    "pack",
    "permute",
    "unpack",
]

Mask = NDArray[np.bool_]


class Layer(NamedTuple):
    """One maskable tensor: its name in ``named_parameters()``, shape, and first bit in the flat mask."""

    name: str
    shape: tuple[int, ...]
    offset: int

    @property
    def size(self) -> int:
        """Number of weights."""
        return int(np.prod(self.shape))

    @property
    def slice(self) -> slice:
        """Where the layer's bits lie in a flat mask."""
        return slice(self.offset, self.offset + self.size)


class Group(NamedTuple):
    """Neurons that are numbered together; only ``hidden`` groups may be renumbered."""

    name: str
    size: int
    kind: Literal["input", "hidden", "output"]


class Node(NamedTuple):
    """One value of the network's computation, as far as liveness is concerned.

    ``constant`` says that a unit may be non-zero though nothing feeds it: an elementwise map with
    f(0) ≠ 0, or a linear map whose bias starts non-zero or can leave zero during training.
    """

    operation: Literal["input", "linear", "elementwise", "add"]
    inputs: tuple[int, ...]
    group: int
    layer: int = -1
    constant: bool = False


class Edges(NamedTuple):
    """The kept weights of one layer: target units (rows) and source units (columns), row-major order."""

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]


@dataclass(frozen=True)
class MaskSpec:
    """Which bit of a flat mask is which weight, and which neurons each weight joins.

    Attributes
    ----------
    layers : the maskable tensors (name, shape, offset), in forward order.
    groups : the neuron groups (name, size, kind); input and output groups are fixed, hidden ones permute.
    nodes : the computation in topological order; the last node is the output.
    """

    layers: tuple[Layer, ...]
    groups: tuple[Group, ...]
    nodes: tuple[Node, ...]

    @cached_property
    def size(self) -> int:
        """Number of maskable weights: the length of a mask."""
        return sum(layer.size for layer in self.layers)

    @cached_property
    def layer_groups(self) -> tuple[tuple[int, int], ...]:
        """For each layer the indices of the groups of its sources (axis 1) and targets (axis 0)."""
        found = {n.layer: (self.nodes[n.inputs[0]].group, n.group) for n in self.nodes if n.layer >= 0}
        return tuple(found[index] for index in range(len(self.layers)))

    @cached_property
    def hidden(self) -> tuple[int, ...]:
        """Indices of the groups that may be renumbered."""
        return tuple(i for i, group in enumerate(self.groups) if group.kind == "hidden")

    @cached_property
    def signature(self) -> str:
        """A digest of the whole spec: masks of specs with equal signatures may be compared."""
        return hashlib.blake2b(
            repr((self.layers, self.groups, self.nodes)).encode(), digest_size=8
        ).hexdigest()

    def split(self, mask: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Return ``{layer name: view of shape (..., *layer shape)}`` of a ``(..., weights)`` array."""
        lead = mask.shape[:-1]
        return {layer.name: mask[..., layer.slice].reshape(lead + layer.shape) for layer in self.layers}

    def join(self, parts: Mapping[str, ArrayLike]) -> NDArray[Any]:
        """Return the flat ``(weights,)`` array of ``{layer name: array of the layer's shape}``.

        Raises :class:`BadInput` for a missing or additional layer or another shape.
        """
        if set(parts) != {layer.name for layer in self.layers}:
            wanted = ", ".join(layer.name for layer in self.layers)
            raise BadInput(f"join needs exactly the layers {wanted}, but got {', '.join(parts)}")
        arrays = [np.asarray(parts[layer.name]) for layer in self.layers]
        for layer, array in zip(self.layers, arrays, strict=True):
            if array.shape != layer.shape:
                raise BadInput(f"layer {layer.name} has shape {layer.shape}, but got {array.shape}")
        return np.concatenate([array.ravel() for array in arrays])

    def to_json(self) -> dict[str, Any]:
        """Return the spec as plain lists and numbers, for :meth:`from_json`."""
        return {
            "layers": [list(layer) for layer in self.layers],
            "groups": [list(group) for group in self.groups],
            "nodes": [list(node) for node in self.nodes],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> MaskSpec:
        """Return the spec that :meth:`to_json` wrote."""
        return cls(
            tuple(Layer(name, tuple(shape), offset) for name, shape, offset in data["layers"]),
            tuple(Group(*group) for group in data["groups"]),
            tuple(
                Node(operation, tuple(inputs), group, layer, constant)
                for operation, inputs, group, layer, constant in data["nodes"]
            ),
        )


def check_mask(mask: ArrayLike, spec: MaskSpec) -> Mask:
    """Return ``mask`` as a read-only ``(weights,)`` bool array; integers and floats of 0 and 1 are accepted.

    Raises :class:`BadInput` for another shape or other values.
    """
    array = np.asarray(mask)
    if array.shape != (spec.size,):
        raise BadInput(f"a mask of this network has shape ({spec.size},), but got {array.shape}")
    return _read_only_bool(array)


def check_masks(masks: ArrayLike, spec: MaskSpec) -> Mask:
    """Return ``masks`` as a read-only ``(population, weights)`` bool array; see :func:`check_mask`."""
    array = np.asarray(masks)
    if array.ndim != 2 or array.shape[1] != spec.size:
        raise BadInput(
            f"masks have shape (population, {spec.size}), i.e. one row a network, but got {array.shape}"
        )
    return _read_only_bool(array)


def _read_only_bool(array: NDArray[Any]) -> Mask:
    if array.dtype != np.bool_:
        if not np.isin(array, (0, 1)).all():
            raise BadInput(
                f"a mask holds True and False, or 1 and 0, but got dtype {array.dtype} with others"
            )
        array = array.astype(np.bool_)
    if array.flags.writeable:
        array = array.view()
        array.flags.writeable = False
    return array


def density(mask: Mask) -> float:
    """Return kept / total, in [0, 1]."""
    return float(np.count_nonzero(mask)) / mask.size


def layer_counts(mask: Mask, spec: MaskSpec) -> NDArray[np.int64]:
    """Return how many weights each layer keeps: ``(..., layers)`` for a ``(..., weights)`` mask."""
    counts = [np.count_nonzero(mask[..., layer.slice], axis=-1) for layer in spec.layers]
    return np.stack(counts, axis=-1).astype(np.int64)


def pack(mask: Mask) -> bytes:
    """Return the mask as bits, eight a byte."""
    return np.packbits(mask).tobytes()


def unpack(data: bytes, spec: MaskSpec) -> Mask:
    """Return the ``(weights,)`` mask that :func:`pack` wrote.

    Raises :class:`BadInput` if the number of bytes is not that of the spec.
    """
    expected = (spec.size + 7) // 8
    if len(data) != expected:
        raise BadInput(f"a packed mask of this network has {expected} bytes, but got {len(data)}")
    return _read_only_bool(np.unpackbits(np.frombuffer(data, np.uint8), count=spec.size).view(np.bool_))


def digest(mask: Mask) -> str:
    """Return the mask's identity: equal exactly for equal masks (128-bit digest of length and bits)."""
    return hashlib.blake2b(pack(mask), digest_size=16, person=str(mask.size).encode()[-16:]).hexdigest()


def edges(mask: Mask, spec: MaskSpec) -> list[Edges]:
    """Return the kept weights of each layer as pairs of target and source units."""
    kept = np.flatnonzero(mask)
    bounds = np.searchsorted(kept, [layer.offset for layer in spec.layers[1:]])
    found = []
    for layer, indices in zip(spec.layers, np.split(kept, bounds), strict=True):
        rows, columns = np.divmod(indices - layer.offset, layer.shape[1])
        found.append(Edges(rows, columns))
    return found


def live_edges(
    mask: Mask, spec: MaskSpec, *, constants: bool = True
) -> tuple[list[Edges], list[NDArray[np.bool_]]]:
    """Return the kept weights that can matter, and for each group which units do.

    A weight is live if its source is active (some kept path leads to it from an input, or with
    ``constants`` from a unit that is non-zero by itself) and its target is relevant (some kept path leads
    on to an output). A unit is live if at some place in the network it is both.
    """
    kept = edges(mask, spec)
    active: list[NDArray[np.bool_]] = []
    for node in spec.nodes:
        if node.operation == "input":
            value = np.ones(spec.groups[node.group].size, dtype=np.bool_)
        elif node.operation == "linear":
            value = np.full(spec.groups[node.group].size, constants and node.constant)
            rows, columns = kept[node.layer]
            sources = active[node.inputs[0]]
            value[rows if sources.all() else rows[sources[columns]]] = True
        else:
            value = np.logical_or.reduce([active[i] for i in node.inputs])
            if constants and node.constant:
                value[:] = True
        active.append(value)
    relevant = [np.zeros_like(value) for value in active]
    relevant[-1][:] = True
    for index in range(len(spec.nodes) - 1, -1, -1):
        node = spec.nodes[index]
        if node.operation == "linear":
            rows, columns = kept[node.layer]
            targets = relevant[index]
            relevant[node.inputs[0]][columns if targets.all() else columns[targets[rows]]] = True
        else:
            for source in node.inputs:
                relevant[source] |= relevant[index]
    units = [np.zeros(group.size, dtype=np.bool_) for group in spec.groups]
    found = list(kept)
    for index, node in enumerate(spec.nodes):
        units[node.group] |= active[index] & relevant[index]
        if node.operation == "linear":
            rows, columns = kept[node.layer]
            sources, targets = active[node.inputs[0]], relevant[index]
            if not (sources.all() and targets.all()):
                keep = sources[columns] & targets[rows]
                found[node.layer] = Edges(rows[keep], columns[keep])
    return found, units


def live(mask: Mask, spec: MaskSpec, *, constants: bool = True) -> Mask:
    """Return the mask without its dead weights; see :func:`live_edges`."""
    found, _ = live_edges(mask, spec, constants=constants)
    alive = np.zeros(spec.size, dtype=np.bool_)
    for layer, (rows, columns) in zip(spec.layers, found, strict=True):
        alive[layer.offset + rows * layer.shape[1] + columns] = True
    return _read_only_bool(alive)


def live_units(mask: Mask, spec: MaskSpec, *, constants: bool = True) -> dict[str, NDArray[np.bool_]]:
    """Return ``{group name: (units,) bool}``: which units are on a path that can matter."""
    _, units = live_edges(mask, spec, constants=constants)
    return {group.name: alive for group, alive in zip(spec.groups, units, strict=True)}


def effective_density(mask: Mask, spec: MaskSpec) -> float:
    """Return the share of weights that are kept and lie on some input-to-output path, in [0, 1]."""
    found, _ = live_edges(mask, spec, constants=False)
    return sum(len(rows) for rows, _ in found) / spec.size


def permute(mask: NDArray[Any], spec: MaskSpec, order: Mapping[str, ArrayLike]) -> NDArray[Any]:
    """Return the ``(weights,)`` array with hidden units renumbered.

    ``order[group][new]`` is the old number of the unit that is numbered ``new`` afterwards; groups that
    are not named stay. Works on masks and on any other flat array over the weights.

    Raises :class:`BadInput` for a group that is unknown or fixed, or an order that is no permutation.
    """
    hidden = {spec.groups[i].name: i for i in spec.hidden}
    orders: dict[int, NDArray[np.intp]] = {}
    for name, given in order.items():
        if name not in hidden:
            raise BadInput(f"only the hidden groups {', '.join(hidden)} may be renumbered, but got {name!r}")
        array = np.asarray(given)
        size = spec.groups[hidden[name]].size
        if array.shape != (size,) or not np.array_equal(np.sort(array), np.arange(size)):
            raise BadInput(f"the order of group {name!r} is no permutation of its {size} units")
        orders[hidden[name]] = array.astype(np.intp)
    parts = []
    for layer, (source, target) in zip(spec.layers, spec.layer_groups, strict=True):
        part = mask[layer.slice].reshape(layer.shape)
        if target in orders:
            part = part[orders[target]]
        if source in orders:
            part = part[:, orders[source]]
        parts.append(part.ravel())
    return np.concatenate(parts)
