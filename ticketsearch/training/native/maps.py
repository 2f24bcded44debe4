"""Elementwise maps and their slopes, for all samples of a range of rows.

Each map has up to two numbers of its own.
"""

from __future__ import annotations

import math

from ticketsearch.compiled import compiler
from ticketsearch.training.native.names import MAPS
from ticketsearch.training.native.vectors import BYTES, exponential, rectified_gradient, rectify

__all__ = ["exponentials", "map_backward", "map_forward"]

compiled = compiler(__name__, "the training engine")
(
    AFFINE,
    RELU,
    LEAKY,
    CLAMP,
    HARDTANH,
    TANH,
    SIGMOID,
    SILU,
    GELU,
    GELU_TANH,
    ELU,
    SOFTPLUS,
    SQUARE,
    ABS,
    SIN,
    COS,
    EXP,
) = MAPS.values()
ROOT_HALF = math.sqrt(0.5)
DENSITY = 1 / math.sqrt(2 * math.pi)
GELU_INNER, GELU_CUBE = math.sqrt(2 / math.pi), 0.044715


@compiled
def exponentials(y, begin, end):
    """Set numbers of whole vectors to their exponentials."""
    for at in range(begin, end, BYTES // y.itemsize):
        exponential(y, at)


@compiled
def _logistic(x, y, begin, end):
    """Set y = 1 / (1 + exp(-x))."""
    for i in range(begin, end):
        y[i] = -x[i]
    exponentials(y, begin, end)
    one = y.dtype.type(1.0)
    for i in range(begin, end):
        y[i] = one / (one + y[i])


@compiled
def _tangent(x, y, begin, end):
    """Set y = tanh(x)."""
    for i in range(begin, end):
        y[i] = math.tanh(x[i])


@compiled
def map_forward(kind, first, second, x, x_at, y, y_at, count):
    """Set ``y[y_at : y_at + count]`` to the map of ``x[x_at : x_at + count]``."""
    number = x.dtype.type
    a, b = number(first), number(second)
    zero, one = number(0.0), number(1.0)
    if kind == RELU and x_at == y_at:
        rectify(y, y_at, y_at + count)
        return
    x, y = x[x_at : x_at + count], y[y_at : y_at + count]
    if kind == AFFINE:
        for i in range(count):
            y[i] = a * x[i] + b
    elif kind == RELU:
        for i in range(count):
            y[i] = zero if x[i] <= zero else x[i]
    elif kind == LEAKY:
        for i in range(count):
            y[i] = x[i] if x[i] > zero else a * x[i]
    elif kind in (CLAMP, HARDTANH):
        for i in range(count):
            low = a if x[i] < a else x[i]
            y[i] = b if low > b else low
    elif kind == TANH:
        _tangent(x, y, 0, count)
    elif kind == SIGMOID:
        _logistic(x, y, 0, count)
    elif kind == SILU:
        _logistic(x, y, 0, count)
        for i in range(count):
            y[i] *= x[i]
    elif kind == GELU:
        for i in range(count):
            y[i] = number(0.5) * x[i] * (one + math.erf(x[i] * number(ROOT_HALF)))
    elif kind == GELU_TANH:
        for i in range(count):
            inner = number(GELU_INNER) * (x[i] + number(GELU_CUBE) * x[i] * x[i] * x[i])
            y[i] = number(0.5) * x[i] * (one + math.tanh(inner))
    elif kind == ELU:  # a (exp(b x) - 1) below 0
        for i in range(count):
            y[i] = x[i] if x[i] > zero else a * math.expm1(b * x[i])
    elif kind == SOFTPLUS:  # log(1 + exp(a x)) / a, and x where a x > b
        for i in range(count):
            y[i] = x[i] if a * x[i] > b else math.log1p(math.exp(a * x[i])) / a
    elif kind == SQUARE:
        for i in range(count):
            y[i] = x[i] * x[i]
    elif kind == SIN:
        for i in range(count):
            y[i] = math.sin(x[i])
    elif kind == COS:
        for i in range(count):
            y[i] = math.cos(x[i])
    elif kind == EXP:
        for i in range(count):
            y[i] = math.exp(x[i])
    else:
        for i in range(count):
            y[i] = abs(x[i])


@compiled
def map_backward(kind, first, second, x, x_at, y, y_at, dy, dx, count, adds):
    """Set or add the gradient by the input, ``dx[x_at …]``, of that by the output, ``dy[y_at …]``."""
    number = x.dtype.type
    a, b = number(first), number(second)
    zero, one = number(0.0), number(1.0)
    if kind == RELU and x_at == y_at:
        rectified_gradient(y, dx, y_at, y_at + count)
        return
    x, y = x[x_at : x_at + count], y[y_at : y_at + count]
    dx, dy = dx[x_at : x_at + count], dy[y_at : y_at + count]
    for i in range(count):
        if kind == AFFINE:
            slope = a
        elif kind == RELU:
            slope = zero if y[i] <= zero else one
        elif kind == LEAKY:
            slope = one if x[i] > zero else a
        elif kind == CLAMP:
            slope = one if x[i] >= a and x[i] <= b else zero
        elif kind == HARDTANH:
            slope = one if x[i] > a and x[i] < b else zero
        elif kind == TANH:
            slope = one - y[i] * y[i]
        elif kind == SIGMOID:
            slope = y[i] * (one - y[i])
        elif kind == SILU:
            logistic = one / (one + math.exp(-x[i]))
            slope = logistic * (one + x[i] * (one - logistic))
        elif kind == GELU:
            cumulative = number(0.5) * (one + math.erf(x[i] * number(ROOT_HALF)))
            slope = cumulative + x[i] * number(DENSITY) * math.exp(-number(0.5) * x[i] * x[i])
        elif kind == GELU_TANH:
            inner = number(GELU_INNER) * (x[i] + number(GELU_CUBE) * x[i] * x[i] * x[i])
            t = math.tanh(inner)
            change = number(GELU_INNER) * (one + number(3 * GELU_CUBE) * x[i] * x[i])
            slope = number(0.5) * (one + t) + number(0.5) * x[i] * (one - t * t) * change
        elif kind == ELU:
            slope = one if x[i] > zero else a * b * math.exp(b * x[i])
        elif kind == SOFTPLUS:
            slope = one if a * x[i] > b else one / (one + math.exp(-a * x[i]))
        elif kind == SQUARE:
            slope = number(2.0) * x[i]
        elif kind == SIN:
            slope = math.cos(x[i])
        elif kind == COS:
            slope = -math.sin(x[i])
        elif kind == EXP:
            slope = y[i]
        else:
            slope = one if x[i] > zero else (-one if x[i] < zero else zero)
        dx[i] = (dx[i] if adds else zero) + slope * dy[i]
