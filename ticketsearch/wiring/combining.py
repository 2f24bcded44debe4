"""Combining: sums, differences, products, quotients and maxima of values, and of a value and a tensor."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

from ticketsearch.wiring import operations as known
from ticketsearch.wiring.functions import Operand, Scale, Shift, Sum
from ticketsearch.wiring.slicing import zeros_like
from ticketsearch.wiring.steps import Operation
from ticketsearch.wiring.tracer import Shape, Tracer

__all__ = ["GivenTensor", "read_combination", "read_tensor", "read_tensor_call"]

KINDS: dict[Any, str] = {
    **dict.fromkeys((operator.add, operator.iadd, torch.add, "add", "add_"), "sum"),
    **dict.fromkeys((operator.sub, operator.isub, torch.sub, torch.subtract), "difference"),
    **dict.fromkeys(("sub", "sub_", "subtract", "subtract_"), "difference"),
    **dict.fromkeys((operator.mul, operator.imul, torch.mul, torch.multiply), "product"),
    **dict.fromkeys(("mul", "mul_", "multiply", "multiply_"), "product"),
    **dict.fromkeys((operator.truediv, operator.itruediv, torch.div, "div", "div_"), "quotient"),
    **dict.fromkeys((torch.maximum, torch.max, "maximum", "max"), "maximum"),
    **dict.fromkeys((torch.minimum, torch.min, "minimum", "min"), "minimum"),
}
EXTREMES: dict[str, tuple[Operation, Callable[..., Tensor]]] = {
    "maximum": ("maximum", torch.maximum),
    "minimum": ("minimum", torch.minimum),
}
# Calls of a tensor that change neither its entries nor their order.
SAME = {"contiguous", "expand_as", "to", "type_as"}
VIEWS = {"view", "reshape", "unsqueeze", "squeeze", torch.reshape, torch.unsqueeze, torch.squeeze}
VIEWS |= {operator.getitem}


class GivenTensor(NamedTuple):
    """A parameter or buffer that the graph uses directly, and the maps of its entries so far."""

    name: str
    maps: tuple[Callable[[Tensor], Tensor], ...]
    shape: Shape


def read_tensor(tracer: Tracer, node: fx.Node) -> None:
    """Read a parameter or buffer; raises :class:`BadInput` for another tensor."""
    name = str(node.target)
    if name in tracer.tensors:
        tracer.given[node] = GivenTensor(name, (), tuple(tracer.tensors[name].shape))
    elif len(node.users):
        raise tracer.refusal(node, f"the tensor {name!r} used directly")


def read_tensor_call(tracer: Tracer, node: fx.Node) -> bool:
    """Read a call of a given tensor alone: a map of its entries, or added or removed axes of length 1."""
    nodes = node.all_input_nodes
    if not nodes or nodes[0] not in tracer.given:
        return False
    first = nodes[0]
    given: GivenTensor = tracer.given[first]
    if node.target in SAME and node.args[0] is first:
        tracer.given[node] = given
        return True
    if nodes == [first] and known.is_elementwise(node):
        tracer.given[node] = given._replace(maps=(*given.maps, known.Replay(node, first)))
        return True
    if nodes == [first] and node.target in VIEWS:
        try:
            shape = tuple(known.Replay(node, first)(torch.empty(given.shape, device="meta")).shape)
        except (RuntimeError, IndexError, TypeError):
            return False
        if [n for n in shape if n != 1] == [n for n in given.shape if n != 1]:
            tracer.given[node] = given._replace(shape=shape)
            return True
    return False


def read_combination(tracer: Tracer, node: fx.Node) -> bool:
    """Read a call of two operands, values or given tensors; False for another call."""
    kind = KINDS.get(node.target)
    options = {**dict(zip(("input", "other"), node.args, strict=False)), **node.kwargs}
    operands = [options.pop(name, None) for name in ("input", "other")]
    scale = options.pop("alpha", 1) if kind in ("sum", "difference") else 1
    if kind is None or options or len(node.args) > 2 or not isinstance(scale, int | float):
        return False
    values = [operand for operand in operands if isinstance(operand, fx.Node) and operand in tracer.step_of]
    if len(values) == 2:
        _join(tracer, node, kind, tracer.step_of[values[0]], tracer.step_of[values[1]], scale)
        return True
    if not values:
        return False
    (other,) = [operand for operand in operands if operand is not values[0]]
    if isinstance(other, fx.Node) and other in tracer.given:
        _with_tensor(tracer, node, kind, values[0], other, scale)
        return True
    if kind == "product" and type(other) in (int, float) and other == 0:
        zeros_like(tracer, node, tracer.step_of[values[0]])
        return True
    return False


def _join(tracer: Tracer, node: fx.Node, kind: str, first: int, second: int, scale: float) -> None:
    """Read a sum, difference, product, quotient or extreme of two values; their units are tied."""
    if kind in ("product", "quotient"):
        ancestor = _common(tracer, first, second)
        if ancestor is not None:
            combine = torch.mul if kind == "product" else torch.div
            function = _Combined(combine, _path(tracer, ancestor, first), _path(tracer, ancestor, second))
            tracer.append(node, "elementwise", (ancestor,), function, tracer.steps[first].shape)
            return
    if kind == "quotient":
        raise tracer.refusal(node, "a quotient of two values")
    shape, other = tracer.steps[first].shape, tracer.steps[second].shape
    if len(shape) != len(other) or shape[0] != other[0] or not _broadcastable(shape, other):
        raise tracer.refusal(node, f"a {kind} of shapes {shape} and {other}")
    if not tracer.numbering.tie(tracer.features[first], tracer.features[second]):
        raise tracer.refusal(node, f"a {kind} of values whose neurons do not stand side by side")
    made = tuple(max(a, b) for a, b in zip(shape, other, strict=True))
    if kind == "product":
        tracer.append(node, "multiply", (first, second), torch.mul, made)
    elif kind in EXTREMES:
        operation, function_of_two = EXTREMES[kind]
        tracer.append(node, operation, (first, second), function_of_two, made)
    else:
        tracer.append(node, "add", (first, second), Sum(scale if kind == "sum" else -scale), made)


def _broadcastable(shape: Shape, other: Shape) -> bool:
    return all(a == b or 1 in (a, b) for a, b in zip(shape, other, strict=True))


def _with_tensor(
    tracer: Tracer, node: fx.Node, kind: str, value: fx.Node, other: fx.Node, scale: float
) -> None:
    """Read a value that is multiplied by a given tensor, or shifted by it."""
    source, given = tracer.step_of[value], tracer.given[other]
    value_first = next(a for a in (*node.args, *node.kwargs.values()) if a in (value, other)) is value
    if kind in EXTREMES or (kind == "quotient" and not value_first):
        raise tracer.refusal(node, f"a {kind} of the tensor {given.name!r} and a value")
    operand = _operand(tracer, node, given, source)
    function: Scale | Shift
    if kind in ("product", "quotient"):
        function = Scale(operand, inverse=kind == "quotient")
    else:
        learned = given.name in dict(tracer.module.named_parameters())
        if kind == "sum" and not value_first and scale != 1:
            raise tracer.refusal(node, f"a sum of the tensor {given.name!r} and a multiple of a value")
        if kind == "difference" and not value_first:
            if scale != 1:
                raise tracer.refusal(node, f"the tensor {given.name!r} less a multiple of a value")
            function = Shift(operand, 1.0, negative=True, learned=learned)
        else:
            function = Shift(operand, scale if kind == "sum" else -scale, learned=learned)
    tracer.append(node, "elementwise", (source,), function, tracer.steps[source].shape, (given.name,))


def _operand(tracer: Tracer, node: fx.Node, given: GivenTensor, source: int) -> Operand:
    """Return a given tensor as an operand; the value numbers it if units have entries of their own."""
    shape = (1, *tracer.steps[source].shape)
    shape_with_samples = (*[1] * (len(shape) - len(given.shape)), *given.shape)
    if len(shape_with_samples) > len(shape) or not all(
        n in (1, size) for n, size in zip(shape_with_samples, shape, strict=True)
    ):
        raise tracer.refusal(
            node, f"the tensor {given.name!r} of shape {given.shape} beside a value of shape {shape[1:]}"
        )
    numbered = shape_with_samples[1] > 1
    if given.name in tracer.numbered or (numbered and given.name in tracer.unnumbered):
        raise tracer.refusal(node, f"a second use of the tensor {given.name!r}")
    if numbered:
        tracer.numbered[given.name] = tracer.features[source]
        shape_with_samples = (shape_with_samples[0], -1, *shape_with_samples[2:])
    else:
        tracer.unnumbered.add(given.name)
    return Operand(given.maps, shape_with_samples)


def _common(tracer: Tracer, first: int, second: int) -> int | None:
    """Return the nearest value of which both are elementwise functions."""

    def line(index: int) -> list[int]:
        ancestors = [index]
        while tracer.steps[index].operation == "elementwise" and not tracer.steps[index].names:
            index = tracer.steps[index].inputs[0]
            ancestors.append(index)
        return ancestors

    others = set(line(second))
    return next((index for index in line(first) if index in others), None)


def _path(tracer: Tracer, ancestor: int, index: int) -> tuple[Callable[..., Tensor], ...]:
    functions = []
    while index != ancestor:
        functions.append(tracer.steps[index].function)
        index = tracer.steps[index].inputs[0]
    return tuple(reversed(functions))


class _Combined:
    """The product or quotient of two elementwise functions of one value."""

    def __init__(self, combine: Callable[..., Tensor], *paths: tuple[Callable[..., Tensor], ...]) -> None:
        self.combine = combine
        self.paths = paths

    def __call__(self, x: Tensor) -> Tensor:
        values = []
        for path in self.paths:
            value = x
            for function in path:
                value = function(value)
            values.append(value)
        return self.combine(*values)
