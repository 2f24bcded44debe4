"""Views: what gives values another shape, and works on each channel by itself."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

from ticketsearch.wiring import operations as known
from ticketsearch.wiring.numbering import Features
from ticketsearch.wiring.steps import Step
from ticketsearch.wiring.tracer import Shape, Tracer

__all__ = [
    "asks_for_shape",
    "flatten",
    "is_flattening",
    "is_view_of_input",
    "read_input",
    "spatial",
    "view_of_units",
]


def read_input(tracer: Tracer, node: fx.Node) -> None:
    """Read the network's input."""
    if tracer.steps:
        raise tracer.refusal(node, "a second input")
    shape = _first_shape(tracer, node)
    tracer.place[node] = 0
    tracer.steps.append(Step("input", (), shape, known.Reshape(shape)))
    tracer.features.append(tracer.numbering.new("input", shape[0]))


def _first_shape(tracer: Tracer, node: fx.Node) -> Shape:
    """Return the shape in which all users of the input take it.

    The input's units are fixed, so a network that flattens it first numbers its features, and one that
    gives it an axis of channels numbers those.
    """
    views = [shape for user in node.users if (shape := _reshaped(tracer, user, node)) is not None]
    asked = [user for user in node.users if asks_for_shape(user) and user.target is not operator.getitem]
    if views and len(set(views)) == 1 and len(views) + len(asked) == len(node.users):
        return views[0]
    return tracer.input_shape


def _reshaped(tracer: Tracer, node: fx.Node, source: fx.Node) -> Shape | None:
    """Return the shape that a call gives the raw input, if that is all the call does."""
    function: Callable[[Tensor], Tensor]
    if node.op == "call_module":
        child = tracer.module.get_submodule(str(node.target))
        if not isinstance(child, nn.Flatten | nn.Unflatten):
            return None
        function = child
    elif node.target in (
        "flatten",
        "view",
        "reshape",
        "unsqueeze",
        "squeeze",
        torch.flatten,
        torch.reshape,
    ):
        if is_flattening(node, tracer.input_shape):
            return (math.prod(tracer.input_shape),)
        if any(isinstance(a, fx.Node) and a is not source for a in node.args):
            return None
        function = known.Replay(node, source)
    elif node.target in (torch.unsqueeze, torch.squeeze) or _adds_axes(node):
        function = known.Replay(node, source)
    else:
        return None
    try:
        shape = tuple(function(torch.empty((7, *tracer.input_shape), device="meta")).shape)
    except (RuntimeError, IndexError, TypeError):
        return None
    return shape[1:] if shape[0] == 7 and len(shape) > 1 else None


def _adds_axes(node: fx.Node) -> bool:
    """Whether an index takes everything, and only puts in axes."""
    if node.target is not operator.getitem or not isinstance(node.args[1], tuple):
        return False
    return all(entry is None or entry is Ellipsis or entry == slice(None) for entry in node.args[1])


def view_of_units(node: fx.Node, shape: Shape) -> Shape | None:
    """Return the shape that a view gives samples of this shape if it moves positions alone."""
    if node.target in ("flatten", torch.flatten):
        bounds = {**dict(zip(("start_dim", "end_dim"), node.args[1:], strict=False)), **node.kwargs}
        start, end = bounds.get("start_dim", 0), bounds.get("end_dim", -1)
        if type(start) is not int or type(end) is not int or start % (1 + len(shape)) < 2:
            return None
        return tuple(torch.empty((1, *shape), device="meta").flatten(start, end).shape)[1:]
    arguments = node.args[1:]
    sizes = arguments[0] if len(arguments) == 1 and isinstance(arguments[0], tuple | list) else arguments
    if len(sizes) < 2 or node.kwargs or not all(type(n) is int for n in sizes[1:]):
        return None
    if sizes[0] != -1 and not _is_number_of_samples(sizes[0]):
        return None
    try:
        made = tuple(torch.empty((1, *shape), device="meta").reshape(1, *sizes[1:]).shape)[1:]
    except RuntimeError:
        return None
    return made if made[0] == shape[0] else None


def is_flattening(node: fx.Node, shape: Shape) -> bool:
    """Return whether a call gives each sample of this shape one axis."""
    arguments = node.args[1:]
    if node.target in ("flatten", torch.flatten):
        bounds = {**dict(zip(("start_dim", "end_dim"), arguments, strict=False)), **node.kwargs}
        return bool(bounds.get("start_dim", 0) == 1 and bounds.get("end_dim", -1) in (-1, len(shape)))
    sizes = arguments[0] if len(arguments) == 1 and isinstance(arguments[0], tuple | list) else arguments
    if len(sizes) != 2:
        return False
    first, second = sizes
    if first == -1:
        return bool(second == math.prod(shape))
    return _is_number_of_samples(first) and bool(second in (-1, math.prod(shape)))


def is_view_of_input(tracer: Tracer, node: fx.Node, argument: Any) -> bool:
    """Place a reshaping of the raw input, which its step has done."""
    if not isinstance(argument, fx.Node) or tracer.place.get(argument) != 0 or argument.op != "placeholder":
        return False
    shape = _reshaped(tracer, node, argument)
    if shape is None or shape != tracer.steps[0].shape:
        return False
    tracer.place[node] = 0
    return True


def flatten(tracer: Tracer, node: fx.Node, source: int, flat: bool, what: str) -> None:
    """Read a flattening: a channel becomes a block of consecutive features."""
    shape = tracer.steps[source].shape
    if not flat:
        raise tracer.refusal(node, what)
    if len(shape) == 1:
        tracer.place[node] = source
        return
    features = tracer.features[source]
    wide = Features(features.units, features.blocks * math.prod(shape[1:]))
    size = math.prod(shape)
    tracer.add(node, Step("spatial", (source,), (size,), known.Reshape((size,))), wide)


def spatial(tracer: Tracer, node: fx.Node, source: int, function: Callable[..., Tensor]) -> None:
    """Read what works on each channel by itself."""
    tracer.add(node, Step("spatial", (source,), (), function), tracer.features[source])
    if tracer.steps[-1].shape[:1] != tracer.steps[source].shape[:1]:
        raise tracer.refusal(node, f"{node.target} over the neuron axis")


def asks_for_shape(node: fx.Node) -> bool:
    """Return whether a call only asks for a value's shape, or picks something out of one."""
    return node.target in ("size", "dim", getattr) or node.target is operator.getitem


def _is_number_of_samples(value: Any) -> bool:
    """Whether a traced value is ``x.size(0)``, ``x.size()[0]`` or ``x.shape[0]``."""
    asked = isinstance(value, fx.Node) and (value.target == "size" or value.target is operator.getitem)
    return bool(asked and len(value.args) == 2 and value.args[1] == 0)
