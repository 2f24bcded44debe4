"""Calls: sums, concatenations, products and elementwise maps as functions and methods."""

from __future__ import annotations

import operator
from collections.abc import Callable
from inspect import signature

import torch
from torch import Tensor, fx

from ticketsearch.wiring import operations as known
from ticketsearch.wiring.numbering import Features
from ticketsearch.wiring.steps import Step
from ticketsearch.wiring.tracer import Tracer
from ticketsearch.wiring.views import asks_for_shape, flatten, is_flattening, is_view_of_input, spatial

__all__ = ["read_call"]


def read_call(tracer: Tracer, node: fx.Node) -> None:
    """Read a call of a function or method; raises :class:`BadInput` for one that is not known."""
    target = node.target
    name = target if isinstance(target, str) else getattr(target, "__name__", str(target))
    values = [a for a in (*node.args, *node.kwargs.values()) if isinstance(a, fx.Node) and a in tracer.place]
    if asks_for_shape(node) and not (target is operator.getitem and values):
        return
    if values and is_view_of_input(tracer, node, values[0]):
        return
    if target in known.CONCATENATIONS:
        _concatenate(tracer, node)
    elif name in ("flatten", "view", "reshape") and len(values) == 1:
        source = tracer.value(node, node.args[0])
        flat = is_flattening(node, tracer.steps[source].shape)
        flatten(tracer, node, source, flat, f"{name}{node.args[1:]}")
    elif target in known.ADDITIONS and len(values) == 2 and not node.kwargs:
        _add_values(tracer, node, tracer.place[values[0]], tracer.place[values[1]])
    elif target in known.PRODUCTS and len(values) == 2 and not node.kwargs:
        _product(tracer, node, tracer.place[values[0]], tracer.place[values[1]])
    elif len(values) == 1:
        _map(tracer, node, values[0], name)
    else:
        raise tracer.refusal(node, f"{name}()")


def _map(tracer: Tracer, node: fx.Node, value: fx.Node, name: str) -> None:
    """Read a call of one value: elementwise, pooling, dropout or a mean over positions."""
    source = tracer.place[value]
    shape = tracer.steps[source].shape
    function = known.Replay(node, value)
    if _is_elementwise(node):
        tracer.append(node, "elementwise", (source,), function, shape)
    elif node.target in known.POOLING_FUNCTIONS:
        spatial(tracer, node, source, function, known.dimensions(name))
    elif node.target in known.DROPOUT_FUNCTIONS:
        given = signature(node.target).bind(*node.args, **node.kwargs)
        given.apply_defaults()
        if given.arguments["training"] is False:
            tracer.place[node] = source
            return
        dropout = known.Dropout(node.target, given.arguments["p"])
        tracer.append(node, "dropout", (source,), dropout, shape)
    elif name in ("mean", "amax", "squeeze") and _keeps_neurons(node, len(shape)):
        spatial(tracer, node, source, function)
    else:
        raise tracer.refusal(node, f"{name}()")


def _keeps_neurons(node: fx.Node, dimensions: int) -> bool:
    """Whether a reduction names its axes, and samples and neurons are not among them."""
    given = node.args[1:2] or tuple(node.kwargs[k] for k in ("dim", "axis") if k in node.kwargs)
    axes = [a for entry in given for a in (entry if isinstance(entry, tuple | list) else [entry])]
    return bool(axes) and all(type(axis) is int and axis % (dimensions + 1) >= 2 for axis in axes)


def _is_elementwise(node: fx.Node) -> bool:
    if sum(isinstance(a, fx.Node) for a in (*node.args, *node.kwargs.values())) != 1:
        return False
    if node.op == "call_method":
        return node.target in known.ELEMENTWISE_METHODS
    if node.target in known.ARITHMETIC:
        return sum(isinstance(a, int | float) for a in node.args) == 1 and not node.kwargs
    return node.target in known.ELEMENTWISE_FUNCTIONS


def _add_values(tracer: Tracer, node: fx.Node, first: int, second: int) -> None:
    shape, other = tracer.steps[first].shape, tracer.steps[second].shape
    if shape != other:
        raise tracer.refusal(node, f"a sum of shapes {shape} and {other}")
    if not tracer.numbering.tie(tracer.features[first], tracer.features[second]):
        raise tracer.refusal(node, "a sum of values whose neurons do not stand side by side")
    tracer.append(node, "add", (first, second), torch.add, shape)


def _product(tracer: Tracer, node: fx.Node, first: int, second: int) -> None:
    """Read a product of two elementwise functions of one value as one function of it."""
    ancestor = _common(tracer, first, second)
    if ancestor is None:
        raise tracer.refusal(node, "a product of two values")
    function = _Product(_path(tracer, ancestor, first), _path(tracer, ancestor, second))
    tracer.append(node, "elementwise", (ancestor,), function, tracer.steps[first].shape)


def _common(tracer: Tracer, first: int, second: int) -> int | None:
    """Return the nearest value that both are elementwise functions of."""

    def line(index: int) -> list[int]:
        found = [index]
        while tracer.steps[index].operation == "elementwise" and not tracer.steps[index].names:
            index = tracer.steps[index].inputs[0]
            found.append(index)
        return found

    others = set(line(second))
    return next((index for index in line(first) if index in others), None)


def _path(tracer: Tracer, ancestor: int, index: int) -> tuple[Callable[..., Tensor], ...]:
    functions = []
    while index != ancestor:
        functions.append(tracer.steps[index].function)
        index = tracer.steps[index].inputs[0]
    return tuple(reversed(functions))


def _concatenate(tracer: Tracer, node: fx.Node) -> None:
    given = {**dict(zip(("tensors", "dim"), node.args, strict=False)), **node.kwargs}
    parts = given.get("tensors", ())
    if not isinstance(parts, tuple | list) or not all(
        p in tracer.place for p in parts if isinstance(p, fx.Node)
    ):
        raise tracer.refusal(node, "a concatenation of something that is no value")
    places = [tracer.value(node, part) for part in parts]
    axis = given.get("dim", given.get("axis", 0))
    if not isinstance(axis, int) or axis % (1 + len(tracer.steps[places[0]].shape)) != 1:
        raise tracer.refusal(node, f"a concatenation along axis {axis}")
    features = Features.joined(tracer.features[i] for i in places)
    tracer.add(node, Step("concatenate", tuple(places), (), known.concatenate), features)


class _Product:
    """The product of two elementwise functions of one value."""

    def __init__(self, *paths: tuple[Callable[..., Tensor], ...]) -> None:
        self.paths = paths

    def __call__(self, x: Tensor) -> Tensor:
        values = []
        for path in self.paths:
            value = x
            for function in path:
                value = function(value)
            values.append(value)
        return values[0] * values[1]
