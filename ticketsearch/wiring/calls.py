"""Calls: sums, concatenations, products and elementwise maps as functions and methods."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from ticketsearch.wiring import operations as known
from ticketsearch.wiring.functional import is_functional, is_transposition, read_functional
from ticketsearch.wiring.numbering import Features
from ticketsearch.wiring.refusals import WITHOUT, words
from ticketsearch.wiring.shapes import counts_samples
from ticketsearch.wiring.steps import Step
from ticketsearch.wiring.tracer import Tracer
from ticketsearch.wiring.views import is_reshape, is_view_of_input, reshape, spatial

__all__ = ["read_call"]

REDUCTIONS = {"mean", "amax", torch.mean, torch.amax}


def read_call(tracer: Tracer, node: fx.Node) -> None:
    """Read a call of a function or method; raises :class:`BadInput` for one that is not known."""
    target = node.target
    what = words(tracer.module, node)
    values = [a for a in (*node.args, *node.kwargs.values()) if isinstance(a, fx.Node) and a in tracer.place]
    if is_transposition(node) or (values and is_view_of_input(tracer, node, values[0])):
        return
    if target in known.CONCATENATIONS:
        _concatenate(tracer, node)
    elif is_reshape(tracer, node) and len(values) == 1:
        reshape(tracer, node, tracer.value(node, node.args[0]))
    elif is_functional(node):
        read_functional(tracer, node)
    elif counts_samples(node):
        raise tracer.refusal(node, f"{what} that depends on the number of samples")
    elif direct := [str(a.target) for a in node.all_input_nodes if a.op == "get_attr"]:
        own = direct[0] in tracer.tensors
        raise tracer.refusal(
            node, f"{what} with {direct[0]!r} itself" if own else "a tensor that forward makes"
        )
    elif target in known.ADDITIONS and len(values) == 2 and not node.kwargs:
        _add_values(tracer, node, tracer.place[values[0]], tracer.place[values[1]])
    elif target in known.PRODUCTS and len(values) == 2 and not node.kwargs:
        _product(tracer, node, tracer.place[values[0]], tracer.place[values[1]])
    elif len(values) == 1:
        _map(tracer, node, values[0], what)
    else:
        raise tracer.refusal(node, what)


def _map(tracer: Tracer, node: fx.Node, value: fx.Node, what: str) -> None:
    """Read a call of one value: elementwise, pooling, dropout or a mean over positions."""
    source = tracer.place[value]
    shape = tracer.steps[source].shape
    function = known.Replay(node, value)
    if _is_elementwise(node):
        tracer.append(node, "elementwise", (source,), function, shape)
    elif node.target in known.POOLING_FUNCTIONS:
        spatial(tracer, node, source, function)
    elif node.target in known.DROPOUT_FUNCTIONS:
        _dropout(tracer, node, source)
    elif node.target in REDUCTIONS and _keeps_neurons(node, len(shape)):
        spatial(tracer, node, source, function)
    else:
        raise tracer.refusal(node, what)


def _dropout(tracer: Tracer, node: fx.Node, source: int) -> None:
    """Read dropout; its module is traced in training, where ``training=self.training`` is True."""
    given: dict[str, Any] = {**dict(zip(("input", "p", "training"), node.args, strict=False)), **node.kwargs}
    if given.get("training", given.get("train", True)):
        kind: Any = F.dropout if node.target is torch.dropout else node.target
        function = known.Dropout(kind, given.get("p", 0.5))
        tracer.append(node, "dropout", (source,), function, tracer.steps[source].shape)
    else:
        tracer.place[node] = source


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
        raise tracer.refusal(node, "a sum of values whose neurons do not stand side by side", WITHOUT)
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
