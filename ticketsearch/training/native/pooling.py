"""Poolings and zero margins of rows ``(channel, y, x)``, and their gradients.

Windows are ``high (outputs, 2)`` and ``wide (outputs, 2)``: the first position of each and the end, inside
the image; positions of a window are ``step`` apart. ``sizes`` are (height, width) of the value that is read.
"""

from __future__ import annotations

import numpy as np

from ticketsearch.compiled import compiler

__all__ = ["average", "average_gradient", "largest", "largest_gradient", "margin", "margin_gradient"]

compiled = compiler(__name__, "the training engine")


@compiled
def largest(values, read, out, channels, sizes, high, wide, step, stride):
    """Set rows to the largest of each window; NaN where one is in it."""
    rows = 0
    for channel in range(channels):
        first = read + channel * sizes[0] * sizes[1]
        for j in range(len(high)):
            for i in range(len(wide)):
                into = values[(out + rows) * stride : (out + rows + 1) * stride]
                at = (first + high[j, 0] * sizes[1] + wide[i, 0]) * stride
                for s in range(stride):
                    into[s] = values[at + s]
                for y in range(high[j, 0], high[j, 1], step[0]):
                    for x in range(wide[i, 0], wide[i, 1], step[1]):
                        at = (first + y * sizes[1] + x) * stride
                        other = values[at : at + stride]
                        for s in range(stride):
                            into[s] = into[s] if into[s] >= other[s] or into[s] != into[s] else other[s]
                rows += 1


@compiled
def largest_gradient(values, read, out, changes, channels, sizes, high, wide, step, stride, adds):
    """Set or add the gradient by the input: it goes to the first of a window that is the largest."""
    number = values.dtype.type
    zero = number(0.0)
    if not adds:
        for i in range(read * stride, (read + channels * sizes[0] * sizes[1]) * stride):
            changes[i] = zero
    rest = np.empty(stride, values.dtype)
    rows = 0
    for channel in range(channels):
        first = read + channel * sizes[0] * sizes[1]
        for j in range(len(high)):
            for i in range(len(wide)):
                at = (out + rows) * stride
                top = values[at : at + stride]
                for s in range(stride):
                    rest[s] = changes[at + s]
                for y in range(high[j, 0], high[j, 1], step[0]):
                    for x in range(wide[i, 0], wide[i, 1], step[1]):
                        at = (first + y * sizes[1] + x) * stride
                        other, into = values[at : at + stride], changes[at : at + stride]
                        for s in range(stride):
                            here = rest[s] if other[s] == top[s] else zero
                            into[s] += here
                            rest[s] = zero if other[s] == top[s] else rest[s]
                rows += 1


@compiled
def average(values, read, out, channels, sizes, high, wide, shares, stride):
    """Set rows to the sum of each window times its share, ``shares (outputs of height, of width)``."""
    number = values.dtype.type
    rows = 0
    for channel in range(channels):
        first = read + channel * sizes[0] * sizes[1]
        for j in range(len(high)):
            for i in range(len(wide)):
                into = values[(out + rows) * stride : (out + rows + 1) * stride]
                for s in range(stride):
                    into[s] = number(0.0)
                for y in range(high[j, 0], high[j, 1]):
                    for x in range(wide[i, 0], wide[i, 1]):
                        at = (first + y * sizes[1] + x) * stride
                        other = values[at : at + stride]
                        for s in range(stride):
                            into[s] += other[s]
                share = number(shares[j, i])
                for s in range(stride):
                    into[s] *= share
                rows += 1


@compiled
def average_gradient(read, out, changes, channels, sizes, high, wide, shares, stride, adds):
    """Set or add the gradient by the input: each position of a window has its share."""
    number = changes.dtype.type
    if not adds:
        for i in range(read * stride, (read + channels * sizes[0] * sizes[1]) * stride):
            changes[i] = number(0.0)
    rows = 0
    for channel in range(channels):
        first = read + channel * sizes[0] * sizes[1]
        for j in range(len(high)):
            for i in range(len(wide)):
                change = changes[(out + rows) * stride : (out + rows + 1) * stride]
                share = number(shares[j, i])
                for y in range(high[j, 0], high[j, 1]):
                    for x in range(wide[i, 0], wide[i, 1]):
                        at = (first + y * sizes[1] + x) * stride
                        into = changes[at : at + stride]
                        for s in range(stride):
                            into[s] += share * change[s]
                rows += 1


@compiled
def margin(values, read, out, channels, sizes, outputs, before, stride):
    """Set rows to an image with zero margins; ``before`` rows are added, or cut if negative, (y, x)."""
    number = values.dtype.type
    row = out * stride
    for channel in range(channels):
        for j in range(outputs[0]):
            y = j - before[0]
            for i in range(outputs[1]):
                x = i - before[1]
                into = values[row : row + stride]
                if 0 <= y < sizes[0] and 0 <= x < sizes[1]:
                    at = (read + (channel * sizes[0] + y) * sizes[1] + x) * stride
                    other = values[at : at + stride]
                    for s in range(stride):
                        into[s] = other[s]
                else:
                    for s in range(stride):
                        into[s] = number(0.0)
                row += stride


@compiled
def margin_gradient(read, out, changes, channels, sizes, outputs, before, stride, adds):
    """Set or add the gradient by the image inside the margins."""
    number = changes.dtype.type
    for channel in range(channels):
        for y in range(sizes[0]):
            j = y + before[0]
            for x in range(sizes[1]):
                i = x + before[1]
                row = (read + (channel * sizes[0] + y) * sizes[1] + x) * stride
                into = changes[row : row + stride]
                inside = 0 <= j < outputs[0] and 0 <= i < outputs[1]
                at = (out + (channel * outputs[0] + j) * outputs[1] + i) * stride if inside else row
                other = changes[at : at + stride]
                for s in range(stride):
                    slope = other[s] if inside else number(0.0)
                    into[s] = (into[s] if adds else number(0.0)) + slope
