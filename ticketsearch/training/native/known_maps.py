"""Elementwise functions of torch that the native engine has, as maps of :mod:`.maps` with their numbers."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from ticketsearch.training.native.names import MAPS
from ticketsearch.wiring import Replay

__all__ = ["Map", "known_map"]

SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


class Map(NamedTuple):
    """A map by its number in ``MAPS``, and its two numbers."""

    kind: int
    first: float = 0.0
    second: float = 0.0


def _map(name: str, first: float = 0.0, second: float = 0.0) -> Map:
    return Map(MAPS[name], float(first), float(second))


# By type of module, from its attributes.
MODULES: dict[type[nn.Module], Callable[[Any], Map | None]] = {
    nn.Identity: lambda m: _map("affine", 1.0),
    nn.ReLU: lambda m: _map("relu"),
    nn.ReLU6: lambda m: _map("hardtanh", 0.0, 6.0),
    nn.Hardtanh: lambda m: _map("hardtanh", m.min_val, m.max_val),
    nn.LeakyReLU: lambda m: _map("leaky_relu", m.negative_slope),
    nn.Tanh: lambda m: _map("tanh"),
    nn.Sigmoid: lambda m: _map("sigmoid"),
    nn.SiLU: lambda m: _map("silu"),
    nn.GELU: lambda m: _map("gelu" if m.approximate == "none" else "gelu_tanh"),
    nn.ELU: lambda m: _map("elu", m.alpha, 1.0),
    nn.CELU: lambda m: _map("elu", m.alpha, 1.0 / m.alpha),
    nn.Softplus: lambda m: _map("softplus", m.beta, m.threshold),
}
# By function or method, from the arguments that follow the value.
FUNCTIONS: dict[Any, Callable[..., Map | None]] = {
    **dict.fromkeys((torch.relu, F.relu, "relu", "relu_"), lambda *_, **__: _map("relu")),
    **dict.fromkeys((torch.tanh, F.tanh, "tanh", "tanh_"), lambda: _map("tanh")),
    **dict.fromkeys((torch.sigmoid, F.sigmoid, "sigmoid", "sigmoid_"), lambda: _map("sigmoid")),
    **dict.fromkeys((torch.abs, "abs"), lambda: _map("abs")),
    **dict.fromkeys((torch.square, "square"), lambda: _map("square")),
    **dict.fromkeys((torch.sin, "sin"), lambda: _map("sin")),
    **dict.fromkeys((torch.cos, "cos"), lambda: _map("cos")),
    **dict.fromkeys((torch.exp, "exp"), lambda: _map("exp")),
    **dict.fromkeys((torch.neg, operator.neg, "neg"), lambda: _map("affine", -1.0)),
    "contiguous": lambda *_, **__: _map("affine", 1.0),
    F.silu: lambda *_: _map("silu"),
    F.relu6: lambda *_: _map("hardtanh", 0.0, 6.0),
    F.hardtanh: lambda low=-1.0, high=1.0, *_, min_val=None, max_val=None: _map(
        "hardtanh", low if min_val is None else min_val, high if max_val is None else max_val
    ),
    F.leaky_relu: lambda slope=0.01, *_, negative_slope=None: _map(
        "leaky_relu", slope if negative_slope is None else negative_slope
    ),
    F.gelu: lambda approximate="none": _map("gelu" if approximate == "none" else "gelu_tanh"),
    F.elu: lambda alpha=1.0, *_: _map("elu", alpha, 1.0),
    F.celu: lambda alpha=1.0, *_: _map("elu", alpha, 1.0 / alpha),
    F.softplus: lambda beta=1.0, threshold=20.0: _map("softplus", beta, threshold),
    **dict.fromkeys(
        (torch.clamp, "clamp"),
        lambda low=None, high=None, *, min=None, max=None: _map(
            "clamp",
            next((bound for bound in (low, min) if bound is not None), -math.inf),
            next((bound for bound in (high, max) if bound is not None), math.inf),
        ),
    ),
}
# Arithmetic with a number: a value times one number plus another.
SUMS = {operator.add, torch.add, "add", "add_"}
DIFFERENCES = {operator.sub, torch.sub, "sub", "sub_"}
PRODUCTS = {operator.mul, torch.mul, "mul", "mul_"}
QUOTIENTS = {operator.truediv, torch.div, "div", "div_"}


def known_map(function: Any) -> Map | None:
    """Return the map of a step's elementwise function of one value; None for one that the engine lacks."""
    if type(function) in MODULES:
        return MODULES[type(function)](function)
    if not isinstance(function, Replay):
        return None
    others = [value for i, value in enumerate(function.arguments) if i not in function.open]
    if function.target in FUNCTIONS:
        if function.open not in ([0], []):
            return None
        try:
            return FUNCTIONS[function.target](*others, **function.keywords)
        except (TypeError, ValueError, ZeroDivisionError):  # arguments in another form
            return None
    if len(others) != 1 or function.keywords or not isinstance(others[0], int | float):
        return None
    return _arithmetic(function.target, float(others[0]), value_first=function.open == [0])


def _arithmetic(target: Any, number: float, *, value_first: bool) -> Map | None:
    """Return a value plus, minus, times or over a number, or the number minus the value."""
    if target in SUMS:
        return _map("affine", 1.0, number)
    if target in DIFFERENCES:
        return _map("affine", 1.0, -number) if value_first else _map("affine", -1.0, number)
    if target in PRODUCTS:
        return _map("affine", number)
    if target in QUOTIENTS and value_first and number:
        return _map("affine", 1.0 / number)
    return None
