"""Functional layers: ``F.linear``, ``F.conv2d``, ``F.batch_norm`` … of a module's own parameters."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx

from ticketsearch.wiring import operations as known
from ticketsearch.wiring.layers import read_batch_norm, read_layer, read_layer_norm, read_prelu
from ticketsearch.wiring.refusals import words
from ticketsearch.wiring.tracer import Tracer

__all__ = ["is_functional", "is_functional_layer", "is_transposition", "read_functional"]

# Names of arguments, and their defaults.
LINEAR = {"input": None, "weight": None, "bias": None}
CONVOLUTION = {**LINEAR, "stride": 1, "padding": 0, "dilation": 1, "groups": 1}
BATCH_NORM = {
    **{"input": None, "running_mean": None, "running_var": None, "weight": None, "bias": None},
    **{"training": False, "momentum": 0.1, "eps": 1e-5},
}
LAYER_NORM = {"input": None, "normalized_shape": (), "weight": None, "bias": None, "eps": 1e-5}
CONVOLUTIONS: dict[Any, int] = {F.conv1d: 1, F.conv2d: 2, F.conv3d: 3}
PRODUCTS = {operator.matmul, torch.matmul, torch.mm, "matmul", "mm"}
TRANSPOSITIONS = {"t", "transpose", "swapaxes", "swapdims", torch.t, torch.transpose, getattr}


def is_functional(node: fx.Node) -> bool:
    """Return whether a call computes a layer or normalisation from a value and the module's own tensors."""
    return node.target in READERS or _transposed(node) is not None


def is_functional_layer(node: fx.Node) -> bool:
    """Return whether a call is a linear layer or convolution of the module's own tensors."""
    return node.target in (F.linear, *CONVOLUTIONS) or _transposed(node) is not None


def is_transposition(node: fx.Node) -> bool:
    """Return whether a call only transposes a weight for products that are read as layers."""
    return bool(node.users) and all(
        _transposed(user) is not None and user.args[1] is node for user in node.users
    )


def read_functional(tracer: Tracer, node: fx.Node) -> None:
    """Read a functional layer like its module; raises :class:`BadInput` for computed tensors."""
    if node.target in READERS:
        READERS[node.target](tracer, node)
    else:
        source, weight = tracer.value(node, node.args[0]), _transposed(node)
        read_layer(tracer, node, source, (_needed(tracer, node, weight), None), F.linear)


def _linear(tracer: Tracer, node: fx.Node) -> None:
    given = _given(node, LINEAR)
    names = _needed(tracer, node, given["weight"]), _name(tracer, node, given["bias"])
    read_layer(tracer, node, tracer.value(node, given["input"]), names, F.linear)


def _convolution(tracer: Tracer, node: fx.Node) -> None:
    given, dimensions = _given(node, CONVOLUTION), CONVOLUTIONS[node.target]
    names = _needed(tracer, node, given["weight"]), _name(tracer, node, given["bias"])

    def per_axis(number: Any) -> tuple[int, ...]:
        numbers = tuple(number) if isinstance(number, tuple | list) else (number,)
        return numbers * dimensions if len(numbers) == 1 else numbers

    padding = given["padding"] if isinstance(given["padding"], str) else per_axis(given["padding"])
    function: Any = node.target
    convolution = known.Convolution(
        function, per_axis(given["stride"]), padding, per_axis(given["dilation"]), given["groups"]
    )
    read_layer(tracer, node, tracer.value(node, given["input"]), names, convolution)


def _batch_norm(tracer: Tracer, node: fx.Node) -> None:
    given = _given(node, BATCH_NORM)
    source = tracer.value(node, given["input"])
    names = tuple(
        _name(tracer, node, given[key]) for key in ("weight", "bias", "running_mean", "running_var")
    )
    features = [len(tracer.tensors[name]) for name in names if name is not None]
    function = known.BatchNormalization(given["momentum"], given["eps"], fixed=not given["training"])
    read_batch_norm(tracer, node, source, names, function, *features[:1] or [tracer.steps[source].shape[0]])


def _layer_norm(tracer: Tracer, node: fx.Node) -> None:
    given = _given(node, LAYER_NORM)
    names = tuple(_name(tracer, node, given[key]) for key in ("weight", "bias"))
    shape = given["normalized_shape"]
    normalized = tuple(shape) if isinstance(shape, tuple | list) else (shape,)
    read_layer_norm(tracer, node, tracer.value(node, given["input"]), names, normalized, given["eps"])


def _prelu(tracer: Tracer, node: fx.Node) -> None:
    given = _given(node, LINEAR)
    read_prelu(tracer, node, tracer.value(node, given["input"]), _needed(tracer, node, given["weight"]))


READERS: Mapping[Any, Callable[[Tracer, fx.Node], None]] = {
    F.linear: _linear,
    **dict.fromkeys(CONVOLUTIONS, _convolution),
    F.batch_norm: _batch_norm,
    F.layer_norm: _layer_norm,
    F.prelu: _prelu,
    "prelu": _prelu,
}


def _given(node: fx.Node, names: Mapping[str, Any]) -> dict[str, Any]:
    """Return a call's arguments by name."""
    return {**names, **dict(zip(names, node.args, strict=False)), **node.kwargs}


def _name(tracer: Tracer, node: fx.Node, argument: Any) -> str | None:
    """Return the name of a tensor of the module; None for None."""
    if argument is None:
        return None
    if not isinstance(argument, fx.Node) or argument.op != "get_attr":
        kind = words(tracer.module, node)
        raise tracer.refusal(node, f"{kind} whose weight or bias is computed from other parameters")
    name = str(argument.target)
    if name not in tracer.tensors:
        raise tracer.refusal(node, f"{words(tracer.module, node)} with a tensor that forward makes")
    return name


def _needed(tracer: Tracer, node: fx.Node, argument: Any) -> str:
    """Return the name of a layer's weight, which must be a parameter."""
    name = _name(tracer, node, argument)
    if name not in dict(tracer.module.named_parameters()):
        raise tracer.refusal(node, f"{words(tracer.module, node)} whose weight is a buffer, not a parameter")
    return str(name)


def _transposed(node: fx.Node) -> fx.Node | None:
    """Return the matrix ``w`` of a product ``x @ w.t()`` of a value and one of the module's tensors."""
    if node.target not in PRODUCTS or len(node.args) != 2 or node.kwargs:
        return None
    factor = node.args[1]
    if not isinstance(factor, fx.Node) or factor.target not in TRANSPOSITIONS or factor.kwargs:
        return None
    matrix, *how = factor.args
    if factor.target is getattr and how not in (["T"], ["mT"]):
        return None
    if how and factor.target is not getattr and sorted(int(str(axis)) % 2 for axis in how) != [0, 1]:
        return None
    shape = getattr(matrix.meta.get("value"), "shape", ()) if isinstance(matrix, fx.Node) else ()
    return matrix if isinstance(matrix, fx.Node) and matrix.op == "get_attr" and len(shape) == 2 else None
