"""The spec of a network's masks: its layers, its neuron groups, and which weights join which neurons."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ticketsearch.errors import BadInput
from ticketsearch.typing import Indices, Mask

__all__ = ["Bundle", "Group", "Layer", "MaskSpec", "Node", "Piece", "Segment"]


class Layer(NamedTuple):
    """One maskable tensor: its name in ``named_parameters()``, shape, and first bit in the flat mask."""

    name: str
    shape: tuple[int, ...]
    offset: int

    @property
    def size(self) -> int:
        """Number of weights."""
        return math.prod(self.shape)

    @property
    def kernel(self) -> int:
        """Number of weights between one row and one column: 1 but for convolutions."""
        return math.prod(self.shape[2:])

    @property
    def slice(self) -> slice:
        """The layer's range in a flat mask."""
        return slice(self.offset, self.offset + self.size)


class Group(NamedTuple):
    """Neurons (units, channels) that are numbered together; only ``hidden`` groups may be renumbered."""

    name: str
    size: int
    kind: Literal["input", "hidden", "output"]


class Segment(NamedTuple):
    """A stretch of a tensor's axis: each unit of ``group`` in turn has ``block`` consecutive entries."""

    group: int
    block: int = 1


class Piece(NamedTuple):
    """The weights of one layer that join one source group to one target group.

    Most layers are one piece. A layer that reads a concatenation has one for each part, a grouped
    convolution one for each of its groups. A depthwise convolution, of shape (units, 1, *kernel), joins each
    unit to itself alone: its piece is ``diagonal``.

    Attributes
    ----------
    layer : index of the layer.
    target, source : indices of the groups that number its rows and its columns.
    row, column : first index along axes 0 and 1 of the weight.
    block : consecutive columns of one source unit (more than 1 behind a flattened feature map).
    positions : weights that join one source unit to one target unit: ``block`` times the kernel's size.
    to, of : the position of the target group in the layer's output value, and of the source group in its
        input value.
    diagonal : whether row u of the weight joins unit u of the group to itself; target and source are then the
        same group.
    """

    layer: int
    target: int
    source: int
    row: int = 0
    column: int = 0
    block: int = 1
    positions: int = 1
    to: int = 0
    of: int = 0
    diagonal: bool = False


class Bundle(NamedTuple):
    """Columns of groups that may be exchanged as wholes: the groups of grouped convolutions.

    Column j of ``columns`` holds the indices of groups; the groups at one position of all columns are alike.
    """

    name: str
    columns: tuple[tuple[int, ...], ...]


class Node(NamedTuple):
    """One value of the network's computation, as far as liveness is concerned.

    ``groups`` number the value's neuron axis, one after the other. ``mix`` is a normalisation over the units
    of a sample, by which each of them influences all. ``multiply`` is a product unit by unit, which is
    non-zero only where all its factors are; ``select`` takes whole groups of a value, at the positions
    ``places``; ``zeros`` has units without any input. ``constant`` says that a unit may be non-zero without
    any input: a map with f(0) ≠ 0, or one whose bias or shift starts non-zero or can leave zero during
    training.
    """

    operation: Literal[
        "input", "linear", "elementwise", "mix", "add", "multiply", "concatenate", "select", "zeros"
    ]
    inputs: tuple[int, ...]
    groups: tuple[int, ...]
    layer: int = -1
    constant: bool = False
    places: tuple[int, ...] = ()

    def __repr__(self) -> str:
        """Return the fields; signatures of specs are made from this text, and are older than ``places``."""
        fields = self._asdict()
        if not self.places:
            del fields["places"]
        return f"Node({', '.join(f'{name}={value!r}' for name, value in fields.items())})"


@dataclass(frozen=True)
class MaskSpec:
    """The assignment of the bits of a flat mask to weights, and of weights to the neurons they join.

    Attributes
    ----------
    layers : the maskable tensors (name, shape, offset), in forward order.
    groups : the neuron groups (name, size, kind); input and output groups are fixed, hidden ones permute.
    pieces : the weights by the groups they join, layer by layer.
    nodes : the computation in topological order; the last node is the output. Empty where the groups were
        declared by hand: then kept weights alone decide which units are live.
    bundles : groups that may also be exchanged as wholes.
    reads : for each piece one code a position, which follows from the shapes of values: 2 if the position
        reads entries that data reach, 1 if it reads only entries that are non-zero without data (a bias
        beside padding), 0 if it reads padding alone or reaches no output. ``()`` for a piece whose positions
        all read data, and for a spec of such pieces.
    """

    layers: tuple[Layer, ...]
    groups: tuple[Group, ...]
    pieces: tuple[Piece, ...]
    nodes: tuple[Node, ...]
    bundles: tuple[Bundle, ...] = ()
    reads: tuple[tuple[int, ...], ...] = ()

    @cached_property
    def size(self) -> int:
        """Number of maskable weights: the length of a mask."""
        return sum(layer.size for layer in self.layers)

    @cached_property
    def layer_pieces(self) -> tuple[tuple[int, ...], ...]:
        """For each layer the indices of its pieces."""
        pieces: list[list[int]] = [[] for _ in self.layers]
        for index, piece in enumerate(self.pieces):
            pieces[piece.layer].append(index)
        return tuple(tuple(indices) for indices in pieces)

    @cached_property
    def piece_shapes(self) -> tuple[tuple[int, int, int], ...]:
        """For each piece the shape of its part: (targets, sources, positions); 1 source if it is diagonal."""
        return tuple(
            (self.groups[p.target].size, 1 if p.diagonal else self.groups[p.source].size, p.positions)
            for p in self.pieces
        )

    @cached_property
    def twins(self) -> Mapping[tuple[int, int, int], tuple[int, ...]]:
        """The indices of the pieces of each (layer, target, source): several where a value is read twice."""
        pieces = defaultdict(list)
        for index, piece in enumerate(self.pieces):
            pieces[piece.layer, piece.target, piece.source].append(index)
        return {key: tuple(indices) for key, indices in pieces.items()}

    def counterpart(self, index: int, origins: Sequence[int]) -> int:
        """Return the index of the piece that joins the ``origins`` of the groups of piece ``index``."""
        piece = self.pieces[index]
        turn = self.twins[piece.layer, piece.target, piece.source].index(index)
        return self.twins[piece.layer, origins[piece.target], origins[piece.source]][turn]

    @cached_property
    def hidden(self) -> tuple[int, ...]:
        """Indices of the groups that may be renumbered."""
        return tuple(i for i, group in enumerate(self.groups) if group.kind == "hidden")

    @cached_property
    def outputs(self) -> int:
        """Number of output units, i.e. of classes."""
        if self.nodes:
            return sum(self.groups[group].size for group in self.nodes[-1].groups)
        return sum(group.size for group in self.groups if group.kind == "output")

    @cached_property
    def readable(self) -> Mask:
        """``(weights,)``: which weights can be live. The others read padding alone under every mask."""
        return self._reading(1)

    @cached_property
    def data_readable(self) -> Mask:
        """``(weights,)``: which weights can be live without constants, i.e. read entries that data reach."""
        return self._reading(2)

    def reading(self, mask: Mask, *, constants: bool = True) -> Mask:
        """Return a ``(..., weights)`` mask without the weights that read padding alone.

        Without ``constants`` the weights that read only entries that are non-zero without data are removed
        too.
        """
        if not self.reads:
            return mask
        return mask & (self.readable if constants else self.data_readable)

    def data_positions(self, index: int) -> Indices:
        """Return the positions of a piece that data reach; all of them where data reach none."""
        codes = np.array(self.reads[index] if self.reads else ())
        reached = np.flatnonzero(codes == 2)
        return reached if len(reached) else np.arange(self.pieces[index].positions)

    def _reading(self, least: int) -> Mask:
        readable = np.ones(self.size, dtype=np.bool_)
        for piece, codes in zip(self.pieces, self.reads, strict=False):
            if codes:
                window = self.window(piece, readable)
                units = window.reshape(len(window), -1, piece.positions)
                window[...] = np.broadcast_to(np.array(codes) >= least, units.shape).reshape(window.shape)
        readable.flags.writeable = False
        return readable

    @cached_property
    def readable_sizes(self) -> tuple[int, ...]:
        """For each layer the number of its weights that can be live."""
        if not self.reads:
            return tuple(layer.size for layer in self.layers)
        return tuple(int(np.count_nonzero(self.readable[layer.slice])) for layer in self.layers)

    @cached_property
    def signature(self) -> str:
        """A digest of all but ``reads``: masks of specs with equal signatures may be compared.

        Networks for inputs of two sizes may have the same masks and differ in ``reads`` alone.
        """
        whole = repr((self.layers, self.groups, self.pieces, self.nodes, self.bundles))
        return hashlib.blake2b(whole.encode(), digest_size=8).hexdigest()

    def split(self, mask: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Return ``{layer name: view of shape (..., *layer shape)}`` of a ``(..., weights)`` array."""
        lead = mask.shape[:-1]
        return {layer.name: mask[..., layer.slice].reshape(lead + layer.shape) for layer in self.layers}

    def window(self, piece: Piece, flat: NDArray[Any]) -> NDArray[Any]:
        """Return the view ``(..., targets, sources * block, *kernel)`` of a piece's weights.

        ``flat`` is ``(..., weights)``. Of a diagonal piece the view is ``(..., units, 1, *kernel)``.
        """
        layer = self.layers[piece.layer]
        width = 1 if piece.diagonal else self.groups[piece.source].size * piece.block
        rows = slice(piece.row, piece.row + self.groups[piece.target].size)
        columns = slice(piece.column, piece.column + width)
        if flat.ndim == 1:
            return flat[layer.slice].reshape(layer.shape)[rows, columns]
        whole: NDArray[Any] = flat[..., layer.slice].reshape(*flat.shape[:-1], *layer.shape)
        places: tuple[Any, ...] = (..., rows, columns, *[slice(None)] * (len(layer.shape) - 2))
        window: NDArray[Any] = whole[places]
        return window

    def part(self, piece: Piece, flat: NDArray[Any]) -> NDArray[Any]:
        """Return a piece's weights as ``(..., targets, sources, positions)``; not always a view.

        ``flat`` is ``(..., weights)``. Of a diagonal piece they are ``(..., units, 1, positions)``.
        """
        sources = 1 if piece.diagonal else self.groups[piece.source].size
        shape = *flat.shape[:-1], self.groups[piece.target].size, sources, piece.positions
        return self.window(piece, flat).reshape(shape)

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
        fields = ["layers", "groups", "pieces", "nodes", "bundles", *(["reads"] if self.reads else [])]
        whole = {field: [list(value) for value in getattr(self, field)] for field in fields}
        return whole | {"nodes": [list(node if node.places else node[:-1]) for node in self.nodes]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> MaskSpec:
        """Return the spec that :meth:`to_json` wrote."""
        return cls(
            tuple(Layer(name, tuple(shape), offset) for name, shape, offset in data["layers"]),
            tuple(Group(*group) for group in data["groups"]),
            tuple(Piece(*piece) for piece in data["pieces"]),
            tuple(
                Node(operation, tuple(inputs), tuple(groups), layer, constant, *map(tuple, places))
                for operation, inputs, groups, layer, constant, *places in data["nodes"]
            ),
            tuple(Bundle(name, tuple(map(tuple, columns))) for name, columns in data["bundles"]),
            tuple(map(tuple, data.get("reads", ()))),  # specs of older files have none
        )
