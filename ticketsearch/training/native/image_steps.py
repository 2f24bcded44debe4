"""Operations on values with positions, as programs hold them: their integers lie in ``Tables.indices``.

:mod:`ticketsearch.training.native.images` writes these integers, in the order in which they are read here.
"""

from __future__ import annotations

import numpy as np

from ticketsearch.compiled import compiler
from ticketsearch.training.native.convolutions import convolve, convolved_gradient
from ticketsearch.training.native.names import CODES
from ticketsearch.training.native.pooling import (
    average,
    average_gradient,
    largest,
    largest_gradient,
    margin,
    margin_gradient,
)
from ticketsearch.training.native.vectors import total

__all__ = ["image_backward", "image_forward"]

compiled = compiler(__name__, "the training engine")
CONVOLVE, LARGEST, AVERAGE = CODES["convolve"], CODES["largest"], CODES["average"]


@compiled
def _plan(integers, at, rectangles, units, length):
    """Return a plan and where the integers after it begin."""
    begins = at + 7 * rectangles
    rows = begins + rectangles * units + 1
    order, end = rows + length, rows + 2 * length
    whole = integers[at:begins].reshape((-1, 7))
    return whole, integers[begins:rows], integers[rows:order], integers[order:end], end


@compiled
def _windows(integers, at):
    """Return sizes, windows, step and shares of a pooling."""
    sizes, step = (integers[at + 1], integers[at + 2]), (integers[at + 5], integers[at + 6])
    outputs = integers[at + 3], integers[at + 4]
    first = at + 7
    second = first + 2 * outputs[0]
    third = second + 2 * outputs[1]
    high = integers[first:second].reshape((-1, 2))
    wide = integers[second:third].reshape((-1, 2))
    shares = np.empty((outputs[0], outputs[1]), np.float64)
    for j in range(outputs[0]):
        for i in range(outputs[1]):
            shares[j, i] = 1.0 / integers[third + j * outputs[1] + i]
    return sizes, high, wide, step, shares


@compiled
def image_forward(tables, index, values, stride):
    """Compute the value of a convolution, a pooling or margins."""
    operation = tables.operations[index]
    code, out, read = operation[0], operation[1], operation[2]
    at, integers = tables.operations[index, 5], tables.indices
    channels = integers[at]
    if code == CONVOLVE:
        out_size, filters = integers[at + 2], integers[at + 3]
        rectangles, begins, rows, order, _ = _plan(
            integers, at + 8, integers[at + 4], filters, integers[at + 5]
        )
        bias_at, weights_at = tables.operations[index, 6], tables.operations[index, 7]
        convolve(
            values, out, out_size, tables.params, bias_at, False, tables.params, weights_at, rectangles,
            begins, rows, order, filters, values, read, channels, stride,
        )  # fmt: skip
    elif code <= AVERAGE:
        sizes, high, wide, step, shares = _windows(integers, at)
        if code == LARGEST:
            largest(values, read, out, channels, sizes, high, wide, step, stride)
        else:
            average(values, read, out, channels, sizes, high, wide, shares, stride)
    else:
        sizes, outputs = (integers[at + 1], integers[at + 2]), (integers[at + 3], integers[at + 4])
        margin(values, read, out, channels, sizes, outputs, (integers[at + 5], integers[at + 6]), stride)


@compiled
def image_backward(tables, index, values, changes, slopes, stride):
    """Compute the gradients by parameters that learn and, where needed, by the input."""
    code, out, read, _, mode = tables.operations[index, :5]
    at, integers = tables.operations[index, 5], tables.indices
    channels = integers[at]
    if code == CONVOLVE:
        size, out_size, filters = integers[at + 1], integers[at + 2], integers[at + 3]
        bias_at, weights_at = tables.operations[index, 6], tables.operations[index, 7]
        rectangles, begins, rows, order, after = _plan(
            integers, at + 8, integers[at + 4], filters, integers[at + 5]
        )
        if tables.operations[index, 8]:
            convolved_gradient(
                slopes, weights_at, tables.operations[index, 10], rectangles, begins, rows, order, filters,
                changes, out, out_size, values, read, channels, stride,
            )  # fmt: skip
        if tables.operations[index, 9]:
            for unit in range(filters):
                begin = (out + unit * out_size) * stride
                slopes[bias_at + unit] = total(changes, begin, begin + out_size * stride)
        if mode:
            rectangles, begins, rows, order, _ = _plan(
                integers, after, integers[at + 6], channels, integers[at + 7]
            )
            convolve(
                changes, read, size, tables.params, -1, mode == 2, tables.params, weights_at, rectangles,
                begins, rows, order, channels, changes, out, filters, stride,
            )  # fmt: skip
    elif mode and code <= AVERAGE:
        sizes, high, wide, step, shares = _windows(integers, at)
        if code == LARGEST:
            largest_gradient(values, read, out, changes, channels, sizes, high, wide, step, stride, mode == 2)
        else:
            average_gradient(read, out, changes, channels, sizes, high, wide, shares, stride, mode == 2)
    elif mode:
        sizes, outputs = (integers[at + 1], integers[at + 2]), (integers[at + 3], integers[at + 4])
        before = integers[at + 5], integers[at + 6]
        margin_gradient(read, out, changes, channels, sizes, outputs, before, stride, mode == 2)
