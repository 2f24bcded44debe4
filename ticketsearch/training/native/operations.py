"""Operations on two values, and layer normalisation, on rows of values: forward and backward."""

from __future__ import annotations

import math

from ticketsearch.compiled import compiler
from ticketsearch.training.native.names import CODES

__all__ = ["combine", "combined_gradient", "layer_norm", "layer_norm_gradient"]

compiled = compiler(__name__, "the training engine")

ADD, MULTIPLY, MAXIMUM, MINIMUM = (CODES[name] for name in ("add", "multiply", "maximum", "minimum"))


@compiled
def combine(code, scale, a, b, out, count):
    """Set ``out`` to a + scale b, a b, or the larger or smaller of a and b, number by number."""
    if code == ADD:
        for i in range(count):
            out[i] = a[i] + scale * b[i]
    elif code == MULTIPLY:
        for i in range(count):
            out[i] = a[i] * b[i]
    elif code == MAXIMUM:
        for i in range(count):
            out[i] = b[i] if b[i] > a[i] or b[i] != b[i] else a[i]
    else:
        for i in range(count):
            out[i] = b[i] if b[i] < a[i] or b[i] != b[i] else a[i]


@compiled
def combined_gradient(code, scale, a, b, change, into, count, first, adds):
    """Set or add the gradient by an operand, the first or the second; equal operands get half each."""
    number = change.dtype.type
    for i in range(count):
        if code == ADD:
            slope = number(1.0) if first else scale
        elif code == MULTIPLY:
            slope = b[i] if first else a[i]
        elif a[i] == b[i]:
            slope = number(0.5)
        else:
            slope = number(1.0) if ((a[i] > b[i]) == (code == MAXIMUM)) == first else number(0.0)
        into[i] = (into[i] if adds else number(0.0)) + slope * change[i]


@compiled
def layer_norm(x, out, rows, stride, params, scale_at, shift_at, eps, spread):
    """Normalise each sample over its rows; ``spread`` gets each sample's mean and inverse deviation."""
    number = x.dtype.type
    mean, inverse = spread[:stride], spread[stride : 2 * stride]
    for s in range(stride):
        mean[s] = number(0.0)
        inverse[s] = number(0.0)
    for row in range(rows):
        for s in range(stride):
            mean[s] += x[row * stride + s]
    for s in range(stride):
        mean[s] /= number(rows)
    for row in range(rows):
        for s in range(stride):
            difference = x[row * stride + s] - mean[s]
            inverse[s] += difference * difference
    for s in range(stride):
        inverse[s] = number(1.0) / math.sqrt(inverse[s] / number(rows) + eps)
    for row in range(rows):
        scale = params[scale_at + row] if scale_at >= 0 else number(1.0)
        shift = params[shift_at + row] if shift_at >= 0 else number(0.0)
        for s in range(stride):
            i = row * stride + s
            out[i] = (x[i] - mean[s]) * inverse[s] * scale + shift


@compiled
def layer_norm_gradient(x, change, into, rows, stride, params, slopes, places, spread, mode):
    """Set the gradients by scale and shift; set (mode 1) or add (2) that by the input.

    ``places`` are those of scale and shift; ``spread`` is that of :func:`layer_norm`, and has room for two
    numbers of each sample more.
    """
    number = x.dtype.type
    scale_at, shift_at = places
    mean, inverse = spread[:stride], spread[stride : 2 * stride]
    total, product = spread[2 * stride : 3 * stride], spread[3 * stride : 4 * stride]
    for s in range(stride):
        total[s] = number(0.0)
        product[s] = number(0.0)
    for row in range(rows):
        scale = params[scale_at + row] if scale_at >= 0 else number(1.0)
        by_scale, by_shift = number(0.0), number(0.0)
        for s in range(stride):
            i = row * stride + s
            normal = (x[i] - mean[s]) * inverse[s]
            by_scale += change[i] * normal
            by_shift += change[i]
            total[s] += change[i] * scale
            product[s] += change[i] * scale * normal
        if scale_at >= 0:
            slopes[scale_at + row] = by_scale
        if shift_at >= 0:
            slopes[shift_at + row] = by_shift
    if mode == 0:
        return
    for row in range(rows):
        scale = params[scale_at + row] if scale_at >= 0 else number(1.0)
        for s in range(stride):
            i = row * stride + s
            normal = (x[i] - mean[s]) * inverse[s]
            value = (change[i] * scale - (total[s] + normal * product[s]) / number(rows)) * inverse[s]
            into[i] = (into[i] if mode == 2 else number(0.0)) + value
