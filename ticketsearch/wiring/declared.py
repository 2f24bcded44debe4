"""Groups declared by hand, for modules that cannot be traced."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ticketsearch.errors import BadInput
from ticketsearch.masks import Group, Layer, MaskSpec, Piece, Segment
from ticketsearch.wiring.steps import Axis, Wiring

__all__ = ["declared_wiring"]

FIXED = ("input", "output")


def declared_wiring(module: nn.Module, declared: Any) -> Wiring:
    """Return the wiring of a module whose factory declares the neuron groups of its tensors.

    ``declared`` is ``{tensor name: (axis 0, axis 1)}``; tensors of two or more axes are the maskable ones, in
    the order of the dictionary. Raises :class:`BadInput` for a declaration that does not fit the tensors.
    """
    kind = type(module).__name__
    if not isinstance(declared, Mapping) or not all(isinstance(v, tuple | list) for v in declared.values()):
        raise BadInput(
            f"neuron_groups of {kind} must be {{tensor name: (axis 0, axis 1)}}, but got {declared!r}"
        )
    tensors = dict(module.named_parameters()) | dict(module.named_buffers())
    sizes: dict[str, int] = {}
    axes: dict[str, list[tuple[str, int]]] = {}
    for name, given in declared.items():
        if name not in tensors:
            raise BadInput(
                f"neuron_groups of {kind} names {name!r}, but its tensors are {', '.join(tensors)}"
            )
        axes[name] = [_axis(kind, name, tensors[name], i, str(text), sizes) for i, text in enumerate(given)]
        if len(given) != min(tensors[name].ndim, 2):
            raise BadInput(
                f"neuron_groups of {kind}: a weight has two numbered axes, (targets, sources), other tensors "
                f"have one, but {name!r} of shape {tuple(tensors[name].shape)} is given {len(given)}"
            )
    index_of = {name: index for index, name in enumerate(sizes)}
    groups = tuple(
        Group(name, size, name if name in FIXED else "hidden")  # type: ignore[arg-type]
        for name, size in sizes.items()
    )
    layers: list[Layer] = []
    pieces: list[Piece] = []
    numbered: dict[str, Axis] = {}
    for name, ends in axes.items():
        tensor = tensors[name]
        if tensor.ndim < 2:
            numbered[name] = tuple(Segment(index_of[group], block) for group, block in ends)
            continue
        layer = Layer(name, tuple(tensor.shape), sum(other.size for other in layers))
        (target, rows), (source, block) = ends
        if rows != 1:
            raise BadInput(
                f"neuron_groups of {kind}: rows of a weight are one a unit, but {name!r} has {rows}"
            )
        positions = block * layer.kernel
        pieces.append(Piece(len(layers), index_of[target], index_of[source], 0, 0, block, positions))
        layers.append(layer)
    if not layers:
        raise BadInput(f"neuron_groups of {kind} names no weight of two or more axes: nothing to prune")
    for name in FIXED:
        if name not in sizes:
            raise BadInput(f"neuron_groups of {kind} names no axis {name!r}: say which weights join it")
    return Wiring(MaskSpec(tuple(layers), groups, tuple(pieces), ()), (), numbered, module)


def _axis(
    kind: str, name: str, tensor: torch.Tensor, axis: int, text: str, sizes: dict[str, int]
) -> tuple[str, int]:
    """Return the group and block of an axis, and record the group's size in ``sizes``."""
    group, _, digits = text.partition(":")
    block = int(digits) if digits.isdecimal() and int(digits) else 0
    if digits and not block:
        raise BadInput(
            f"neuron_groups of {kind}: an axis is 'group' or 'group:block', but {name!r} has {text!r}"
        )
    block = block or 1
    length = tensor.shape[axis] if axis < tensor.ndim else 0
    if length == 0 or length % block:
        raise BadInput(
            f"neuron_groups of {kind}: axis {axis} of {name!r} has {length} entries, which {text!r} does not "
            "fit"
        )
    if sizes.setdefault(group, length // block) != length // block:
        raise BadInput(
            f"neuron_groups of {kind}: group {group!r} has {sizes[group]} units elsewhere, but axis {axis} "
            f"of {name!r} has {length // block}"
        )
    return group, block
