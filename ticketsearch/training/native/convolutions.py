"""Convolutions of kept weights: outputs, and gradients by inputs and weights.

Values are rows ``(channel, y, x)`` with one number for each sample, padded to whole vectors. A kept weight
adds a multiple of a shifted row to a row. Which weights apply depends on the position, at borders and with
strides, so that positions lie in rectangles of equal lists of weights: see
:mod:`ticketsearch.training.native.windows`. A plan is (rectangles, begins, rows, order) of such lists.
"""

from __future__ import annotations

import numpy as np

from ticketsearch.compiled import compiler
from ticketsearch.training.native.instructions import BYTES
from ticketsearch.training.native.window_vectors import lanes_total, window_dot, window_sum

__all__ = ["convolve", "convolved_gradient"]

compiled = compiler(__name__, "the training engine")
_sum_42, _sum_41, _sum_24, _sum_21, _sum_14, _sum_11 = window_sum.values()
_dot_8, _dot_4, _dot_2, _dot_1 = window_dot.values()
# Bytes of the values that a band of lines reads: they stay in the second cache.
CACHED = 1 << 20


@compiled
def _line(out, at, across, start, adds, weights, begin, end, rows, x, x_at, x_across, wide, stride):
    """Sum a line of positions, as many at a time as their sums fit the registers."""
    lanes = BYTES // x.itemsize
    sample = 0
    while sample < stride:
        p, to, read = 0, at + sample, x_at + sample
        if sample + 4 * lanes <= stride:
            while p + 2 <= wide:
                _sum_42(
                    out, to + p * across, across, start, adds, weights, begin, end, rows, x,
                    read + p * x_across, x_across, stride,
                )  # fmt: skip
                p += 2
            if p < wide:
                _sum_41(
                    out, to + p * across, across, start, adds, weights, begin, end, rows, x,
                    read + p * x_across, x_across, stride,
                )  # fmt: skip
            sample += 4 * lanes
        elif sample + 2 * lanes <= stride:
            while p + 4 <= wide:
                _sum_24(
                    out, to + p * across, across, start, adds, weights, begin, end, rows, x,
                    read + p * x_across, x_across, stride,
                )  # fmt: skip
                p += 4
            while p < wide:
                _sum_21(
                    out, to + p * across, across, start, adds, weights, begin, end, rows, x,
                    read + p * x_across, x_across, stride,
                )  # fmt: skip
                p += 1
            sample += 2 * lanes
        else:
            while p + 4 <= wide:
                _sum_14(
                    out, to + p * across, across, start, adds, weights, begin, end, rows, x,
                    read + p * x_across, x_across, stride,
                )  # fmt: skip
                p += 4
            while p < wide:
                _sum_11(
                    out, to + p * across, across, start, adds, weights, begin, end, rows, x,
                    read + p * x_across, x_across, stride,
                )  # fmt: skip
                p += 1
            sample += lanes


@compiled
def convolve(
    out, out_row, out_size, starts, start_at, adds, weights, at, rectangles, begins, rows, order, units, x,
    x_row, x_channels, stride,
):  # fmt: skip
    """Set, or add, rows of ``out`` to the sums of weighted rows of ``x``, from ``starts`` (0: start_at < 0).

    ``weights[at + order[j]]`` is the weight of entry j of the lists. ``out_size`` is the number of
    positions of a channel. The plan by outputs gives outputs, that by inputs the gradient by inputs.
    """
    number = x.dtype.type
    values = np.empty(len(order), weights.dtype)
    for j in range(len(order)):
        values[j] = weights[at + order[j]]
    for rectangle in range(len(rectangles)):
        first, high, wide, down, across, x_down, x_across = rectangles[rectangle]
        # Lines of a band; each line of a rectangle reads one more line, or x_down rows more, of all channels.
        band = max(1, CACHED // max(1, x_channels * x_down * stride * x.itemsize))
        for top in range(0, high, band):
            for unit in range(units):
                begin, end = begins[rectangle * units + unit], begins[rectangle * units + unit + 1]
                if adds and begin == end:
                    continue
                start = starts[start_at + unit] if start_at >= 0 else number(0.0)
                to = out_row + unit * out_size + first
                for y in range(top, min(top + band, high)):
                    _line(
                        out, (to + y * down) * stride, across * stride, start, adds, values, begin, end, rows,
                        x, (x_row + y * x_down) * stride, x_across * stride, wide, stride,
                    )  # fmt: skip


@compiled
def convolved_gradient(
    slopes, at, count, rectangles, begins, rows, order, units, changes, change_row, change_size, x, x_row,
    x_channels, stride,
):  # fmt: skip
    """Set ``slopes[at : at + count]`` to the gradient by kept weights, of the inputs and that by the outputs.

    The plan is that by outputs; ``change_size`` is the number of positions of an output.
    """
    lanes = BYTES // x.itemsize
    sums = np.zeros(count * lanes, slopes.dtype)
    for rectangle in range(len(rectangles)):
        first, high, wide, down, across, x_down, x_across = rectangles[rectangle]
        steps = x_down * stride, x_across * stride
        change_steps = down * stride, across * stride
        band = max(1, CACHED // max(1, x_channels * x_down * stride * x.itemsize))
        for top in range(0, high, band):
            lines = min(band, high - top)
            x_at = (x_row + top * x_down) * stride
            for unit in range(units):
                k, end = begins[rectangle * units + unit], begins[rectangle * units + unit + 1]
                change_at = (change_row + unit * change_size + first + top * down) * stride
                while k + 8 <= end:
                    _dot_8(
                        sums, order, k, rows, x, x_at, steps[0], steps[1], changes, change_at,
                        change_steps[0], change_steps[1], lines, wide, stride,
                    )  # fmt: skip
                    k += 8
                if k + 4 <= end:
                    _dot_4(
                        sums, order, k, rows, x, x_at, steps[0], steps[1], changes, change_at,
                        change_steps[0], change_steps[1], lines, wide, stride,
                    )  # fmt: skip
                    k += 4
                if k + 2 <= end:
                    _dot_2(
                        sums, order, k, rows, x, x_at, steps[0], steps[1], changes, change_at,
                        change_steps[0], change_steps[1], lines, wide, stride,
                    )  # fmt: skip
                    k += 2
                if k < end:
                    _dot_1(
                        sums, order, k, rows, x, x_at, steps[0], steps[1], changes, change_at,
                        change_steps[0], change_steps[1], lines, wide, stride,
                    )  # fmt: skip
    for j in range(count):
        slopes[at + j] = lanes_total(sums, j * lanes)
