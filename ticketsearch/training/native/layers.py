"""Layers of kept weights: their outputs, and gradients by inputs, weights and biases.

Values are ``(rows, stride)``: a row for each unit, one number for each sample, padded to whole vectors. A
layer's weights lie in compressed sparse rows, ``weights[begins[u] : begins[u + 1]]`` for unit u, which reads
row ``x_row + sources[k]`` by weight k.
"""

from __future__ import annotations

from ticketsearch.compiled import compiler
from ticketsearch.training.native.vectors import BYTES, TOGETHER, dense_sums, rows_dot, rows_sum, total

__all__ = ["bias_gradient", "dense_products", "gradient_by_weights", "products"]

compiled = compiler(__name__, "the training engine")
_sum_1, _sum_2, _sum_4 = (rows_sum[vectors] for vectors in (1, 2, 4))
_dot_1, _dot_2, _dot_4 = (rows_dot[vectors] for vectors in (1, 2, 4))


@compiled
def products(out, out_row, starts, start_at, weights, begins, at, units, sources, x, x_row, stride):
    """Set rows of ``out`` to the sums of weighted rows of ``x``, from ``starts`` (0 where start_at < 0)."""
    lanes = BYTES // x.itemsize
    for unit in range(units):
        begin, end = begins[at + unit], begins[at + unit + 1]
        start = starts[start_at + unit] if start_at >= 0 else starts.dtype.type(0.0)
        to, sample = (out_row + unit) * stride, 0
        while sample + 4 * lanes <= stride:
            _sum_4(out, to + sample, start, weights, begin, end, sources, x, x_row * stride + sample, stride)
            sample += 4 * lanes
        if sample + 2 * lanes <= stride:
            _sum_2(out, to + sample, start, weights, begin, end, sources, x, x_row * stride + sample, stride)
            sample += 2 * lanes
        if sample < stride:
            _sum_1(out, to + sample, start, weights, begin, end, sources, x, x_row * stride + sample, stride)


@compiled
def dense_products(
    out, out_row, starts, start_at, weights, begin, units, sources, begins, at, x, x_row, inputs, stride
):
    """Do what :func:`products` does, for units that read all ``inputs`` rows of ``x``."""
    lanes = BYTES // x.itemsize
    whole = units // TOGETHER * TOGETHER
    for unit in range(0, whole, TOGETHER):
        to, read = (out_row + unit) * stride, x_row * stride
        first, weight = (start_at + unit if start_at >= 0 else -1), begin + unit * inputs
        for sample in range(0, stride, lanes):
            dense_sums(out, to + sample, starts, first, weights, weight, inputs, x, read + sample, stride)
    first = start_at + whole if start_at >= 0 else -1
    rest = units - whole
    products(
        out, out_row + whole, starts, first, weights, begins, at + whole, rest, sources, x, x_row, stride
    )


@compiled
def gradient_by_weights(slopes, begins, at, units, sources, x, x_row, changes, change_row, stride):
    """Set ``slopes`` to the gradient by a layer's weights: sums of inputs times gradients by outputs."""
    lanes = BYTES // x.itemsize
    for unit in range(units):
        begin, end = begins[at + unit], begins[at + unit + 1]
        read, sample = (change_row + unit) * stride, 0
        while sample + 4 * lanes <= stride:
            _dot_4(
                slopes,
                sample == 0,
                begin,
                end,
                sources,
                x,
                x_row * stride + sample,
                stride,
                changes,
                read + sample,
            )
            sample += 4 * lanes
        if sample + 2 * lanes <= stride:
            _dot_2(
                slopes,
                sample == 0,
                begin,
                end,
                sources,
                x,
                x_row * stride + sample,
                stride,
                changes,
                read + sample,
            )
            sample += 2 * lanes
        if sample < stride:
            _dot_1(
                slopes,
                sample == 0,
                begin,
                end,
                sources,
                x,
                x_row * stride + sample,
                stride,
                changes,
                read + sample,
            )


@compiled
def bias_gradient(slopes, bias_at, units, changes, change_row, stride):
    """Set the gradient by the biases of a layer: sums of rows."""
    for unit in range(units):
        begin = (change_row + unit) * stride
        slopes[bias_at + unit] = total(changes, begin, begin + stride)
