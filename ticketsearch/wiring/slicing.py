"""Readers of slices of units and positions, divisions of values, and zeros beside them."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import fx

from ticketsearch.wiring import operations as known
from ticketsearch.wiring.functions import Expansion, Index, Padding, Select, Zeros
from ticketsearch.wiring.numbering import Features
from ticketsearch.wiring.steps import Step
from ticketsearch.wiring.tracer import Shape, Tracer

__all__ = ["pad", "read_glu", "read_part", "read_slice", "select_units", "zeros_like"]

DIVISIONS = {
    *(torch.chunk, torch.split, torch.tensor_split, torch.split_with_sizes),
    *("chunk", "split", "tensor_split", "split_with_sizes"),
}
NARROWINGS = {torch.narrow, "narrow"}
PADS = {F.pad, torch.constant_pad_nd}
GLUS = {F.glu}
WHOLE = slice(None)


def read_slice(tracer: Tracer, node: fx.Node) -> bool:
    """Read a call that takes part of a value or pads it; False for another call."""
    target = node.target
    first = next(iter((*node.args, *node.kwargs.values())), None)
    if not isinstance(first, fx.Node):
        return False
    if target is operator.getitem and first in tracer.parts:
        return _part(tracer, node, tracer.parts[first])
    if first not in tracer.step_of:
        return False
    source = tracer.step_of[first]
    shape = tracer.steps[source].shape
    if target is operator.getitem:
        _index(tracer, node, source, node.args[1])
    elif target in NARROWINGS:
        given = _arguments(node, ("input", "dim", "start", "length"))
        along = slice(given["start"], given["start"] + given["length"])
        _index(tracer, node, source, _on_axis(tracer, node, shape, given["dim"], along))
    elif target in DIVISIONS:
        tracer.parts[node] = _divisions(tracer, node, source)
    elif target in PADS:
        given = {"mode": "constant", "value": 0, **_arguments(node, ("input", "pad", "mode", "value"))}
        pad(tracer, node, source, given["pad"], given["mode"], given["value"] or 0)
    elif target is torch.zeros_like:
        zeros_like(tracer, node, source)
    elif target in GLUS:
        read_glu(tracer, node, source, _arguments(node, ("input", "dim")).get("dim", -1))
    elif target in ("expand", "expand_as"):
        return _expand(tracer, node, source)
    else:
        return False
    return True


def _arguments(node: fx.Node, names: Sequence[str]) -> dict[str, Any]:
    return {**dict(zip(names, node.args, strict=False)), **node.kwargs}


def _part(tracer: Tracer, node: fx.Node, parts: list[tuple[int, Any]]) -> bool:
    """Read one part of a value that was divided, or several of them."""
    chosen = node.args[1]
    if isinstance(chosen, slice):
        tracer.parts[node] = parts[chosen]
        return True
    if not isinstance(chosen, int) or not -len(parts) <= chosen < len(parts):
        return False
    read_part(tracer, node, parts[chosen])
    return True


def read_part(tracer: Tracer, node: fx.Node, part: tuple[int, Any]) -> int:
    """Read one part of a value that was divided; return the step that makes it."""
    _index(tracer, node, *part)
    return tracer.step_of[node]


def _divisions(tracer: Tracer, node: fx.Node, source: int) -> list[tuple[int, Any]]:
    """Return the parts of a value as slices."""
    options = dict(node.kwargs)
    axis = options.pop("dim", node.args[2] if len(node.args) > 2 else 0)
    options = {name: given for name, given in options.items() if name not in ("input", "tensor")}
    sections: Any = next(iter(options.values()), None) if options else node.args[1]
    whole = sections if isinstance(sections, tuple | list) else (sections,)
    shape = tracer.steps[source].shape
    if not isinstance(axis, int) or not all(isinstance(n, int) for n in whole):
        raise tracer.refusal(node, f"{_name(node)}() into a number of parts that depends on values")
    like = torch.empty((1, *shape), device="meta")
    function = getattr(torch, _name(node))
    sizes = [part.shape[axis] for part in function(like, sections, axis)]
    ends = np.cumsum([0, *sizes]).tolist()
    slices = [slice(a, b) for a, b in itertools.pairwise(ends)]
    return [(source, _on_axis(tracer, node, shape, axis, along)) for along in slices]


def _name(node: fx.Node) -> str:
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))


def _on_axis(tracer: Tracer, node: fx.Node, shape: Shape, axis: Any, along: slice) -> tuple[Any, ...]:
    """Return the index of a slice along one axis of a value."""
    if not isinstance(axis, int):
        raise tracer.refusal(node, f"{_name(node)}() along an axis that depends on values")
    return *[WHOLE] * (axis % (1 + len(shape))), along


def _index(tracer: Tracer, node: fx.Node, source: int, index: Any) -> None:
    """Read an index: a selection of units, then a slice of positions, channel by channel."""
    shape = tracer.steps[source].shape
    entries = list(index) if isinstance(index, tuple) else [index]
    if any(_depends(entry) for entry in entries):
        raise tracer.refusal(node, "an index that depends on values")
    if Ellipsis in entries:
        place = entries.index(Ellipsis)
        missing = 1 + len(shape) - sum(entry is not None for entry in entries) + 1
        entries[place : place + 1] = [WHOLE] * missing
    entries += [WHOLE] * (2 - len(entries))
    samples, units, *positions = entries
    if samples != WHOLE:
        raise tracer.refusal(node, "a slice of samples")
    if isinstance(units, slice):
        numbers = tuple(range(*units.indices(shape[0])))
    elif isinstance(units, list) and all(type(n) is int for n in units):
        numbers = tuple(n % shape[0] for n in units)
    else:
        raise tracer.refusal(node, f"the index {units!r} along the axis of units")
    if not all(entry is None or isinstance(entry, slice | int) for entry in positions):
        raise tracer.refusal(node, "an index of positions that is not a slice")
    tracer.step_of[node] = source
    if numbers != tuple(range(shape[0])):
        select_units(tracer, node, source, numbers)
    if any(entry != WHOLE for entry in positions):
        source = tracer.step_of[node]
        function = Index((WHOLE, WHOLE, *positions))
        tracer.add(node, Step("spatial", (source,), (), function), tracer.features[source])


def _depends(entry: Any) -> bool:
    parts = (entry.start, entry.stop, entry.step) if isinstance(entry, slice) else (entry,)
    return any(isinstance(part, fx.Node) for part in parts)


def select_units(tracer: Tracer, node: fx.Node, source: int, numbers: Sequence[int]) -> None:
    """Read a selection of units, by their numbers along the axis, in this order."""
    features = None
    if numbers:
        features = tracer.numbering.select(tracer.features[source], np.array(numbers, dtype=np.intp))
    if features is None:
        what = "a slice of nothing" if not numbers else "a slice that splits the features of a unit"
        raise tracer.refusal(node, what)
    tracer.add(node, Step("select", (source,), (), Select(tuple(numbers))), features)


def read_glu(tracer: Tracer, node: fx.Node, source: int, axis: Any) -> None:
    """Read a gated linear unit: the first half of the units times the sigmoid of the second."""
    shape = tracer.steps[source].shape
    if not isinstance(axis, int) or axis % (1 + len(shape)) != 1 or shape[0] % 2:
        raise tracer.refusal(node, f"glu() of a value of shape {shape} along axis {axis}")
    halves = []
    for numbers in (range(shape[0] // 2), range(shape[0] // 2, shape[0])):
        select_units(tracer, node, source, numbers)
        halves.append(tracer.step_of[node])
    value, gate = halves
    if not tracer.numbering.tie(tracer.features[value], tracer.features[gate]):
        raise tracer.refusal(node, "glu() of values whose neurons do not stand side by side")
    half = tracer.steps[value].shape
    tracer.append(node, "elementwise", (gate,), torch.sigmoid, half)
    tracer.append(node, "multiply", (value, tracer.step_of[node]), torch.mul, half)


def zeros_like(tracer: Tracer, node: fx.Node, source: int) -> None:
    """Read zeros of a value's shape, with units of their own that have no input."""
    features = tracer.features[source]
    filling = tracer.numbering.zeros(f"zeros of {node.name}", len(features.units))
    _zeros(tracer, node, tracer.steps[source].shape, Features(filling.units, features.blocks))


def _zeros(tracer: Tracer, node: fx.Node, shape: Shape, features: Features) -> int:
    tracer.step_of[node] = len(tracer.steps)
    tracer.steps.append(Step("zeros", (), shape, Zeros(shape)))
    tracer.features.append(features)
    return tracer.step_of[node]


def pad(tracer: Tracer, node: fx.Node, source: int, margins: Any, mode: str, value: Any) -> None:
    """Read a padding of positions, or of units by zeros; margins are those of ``torch.nn.functional.pad``."""
    shape = tracer.steps[source].shape
    if not isinstance(margins, tuple | list) or not all(type(n) is int for n in margins):
        raise tracer.refusal(node, "a padding by margins that depend on values")
    pairs = list(zip(margins[::2], margins[1::2], strict=True))
    if len(pairs) > len(shape):
        raise tracer.refusal(node, "a padding of samples")
    before, behind = pairs.pop() if len(pairs) == len(shape) else (0, 0)
    if value != 0 or (mode != "constant" and (before, behind) != (0, 0)):
        raise tracer.refusal(node, f"a padding by {value if mode == 'constant' else mode}")
    tracer.step_of[node] = source
    if any(pair != (0, 0) for pair in pairs):
        function = Padding(tuple(n for pair in pairs for n in pair), mode)
        tracer.add(node, Step("spatial", (source,), (), function), tracer.features[source])
    if before < 0 or behind < 0:
        numbers = range(max(0, -before), shape[0] + min(0, behind))
        select_units(tracer, node, tracer.step_of[node], numbers)
    inside = tracer.step_of[node]
    positions = tracer.steps[inside].shape[1:]
    parts = [inside]
    if before > 0:
        zeros = tracer.numbering.zeros(f"zeros before {node.name}", before)
        parts.insert(0, _zeros(tracer, node, (before, *positions), zeros))
    if behind > 0:
        zeros = tracer.numbering.zeros(f"zeros behind {node.name}", behind)
        parts.append(_zeros(tracer, node, (behind, *positions), zeros))
    if len(parts) > 1:
        features = Features.joined(tracer.features[part] for part in parts)
        tracer.add(node, Step("concatenate", tuple(parts), (), known.concatenate), features)
    else:
        tracer.step_of[node] = inside


def _expand(tracer: Tracer, node: fx.Node, source: int) -> bool:
    """Read the expansion of axes of length 1."""
    shape = tracer.steps[source].shape
    if node.target == "expand_as":
        other = node.args[1]
        if not isinstance(other, fx.Node) or other not in tracer.step_of:
            return False
        positions = tracer.steps[tracer.step_of[other]].shape
    else:
        sizes = node.args[1] if len(node.args) == 2 else node.args[1:]
        if not isinstance(sizes, tuple | list) or len(sizes) != 1 + len(shape):
            return False
        if not all(type(n) is int for n in sizes[1:]):
            return False
        positions = tuple(b if a == -1 else a for a, b in zip(sizes[1:], shape, strict=True))
    if len(positions) != len(shape) or positions[0] != shape[0]:
        return False
    if math.prod(positions) == math.prod(shape):
        tracer.step_of[node] = source
        return True
    function = Expansion(positions[1:])
    tracer.add(node, Step("spatial", (source,), (), function), tracer.features[source])
    return True
