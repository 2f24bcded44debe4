"""Batch normalisation of channels of rows, by the statistics of the batch or the running ones."""

from __future__ import annotations

import math

from ticketsearch.compiled import compiler

__all__ = ["batch_norm", "batch_norm_gradient"]

compiled = compiler(__name__, "the training engine")


@compiled
def batch_norm(tables, index, values, stride, count, training, saved):
    """Normalise each channel; in training the running statistics move."""
    operations, params, moved = tables.operations, tables.params, tables.moved
    number = values.dtype.type
    _, out, read, rows = operations[index, :4]
    scale_at, shift_at, moved_at, fixed, positions, saved_at = operations[index, 5:11]
    eps, momentum = number(tables.numbers[index, 0]), number(tables.numbers[index, 1])
    channels = rows // positions
    by_batch = (training and not fixed) or moved_at < 0
    entries = number(positions * count)
    for channel in range(channels):
        begin = (read + channel * positions) * stride
        if by_batch:
            total, squares = number(0.0), number(0.0)
            for position in range(positions):
                at = begin + position * stride
                for i in range(at, at + count):
                    total += values[i]
            mean = total / entries
            for position in range(positions):
                at = begin + position * stride
                for i in range(at, at + count):
                    squares += (values[i] - mean) * (values[i] - mean)
            variance = squares / entries
            if moved_at >= 0 and training:
                old, spread = moved_at + channel, moved_at + channels + channel
                moved[old] += momentum * (mean - moved[old])
                moved[spread] += momentum * (squares / (entries - number(1.0)) - moved[spread])
        else:
            mean, variance = moved[moved_at + channel], moved[moved_at + channels + channel]
        inverse = number(1.0) / math.sqrt(variance + eps)
        saved[saved_at + channel] = mean
        saved[saved_at + channels + channel] = inverse
        factor = inverse * (params[scale_at + channel] if scale_at >= 0 else number(1.0))
        shift = (params[shift_at + channel] if shift_at >= 0 else number(0.0)) - mean * factor
        into = (out + channel * positions) * stride - begin
        for i in range(begin, begin + positions * stride):
            values[into + i] = values[i] * factor + shift


@compiled
def batch_norm_gradient(tables, index, values, changes, slopes, stride, count, training, saved):
    """Compute the gradients by scale, shift and, where needed, the input."""
    operations, params = tables.operations, tables.params
    number = values.dtype.type
    _, out, read, rows, mode = operations[index, :5]
    scale_at, shift_at, moved_at, fixed, positions, saved_at = operations[index, 5:11]
    by_batch = (training and not fixed) or moved_at < 0
    channels, entries = rows // positions, number(positions * count)
    for channel in range(channels):
        mean, inverse = saved[saved_at + channel], saved[saved_at + channels + channel]
        by_scale, by_shift = number(0.0), number(0.0)
        for position in range(positions):
            x = (read + channel * positions + position) * stride
            y = (out + channel * positions + position) * stride
            for s in range(count):
                by_scale += changes[y + s] * (values[x + s] - mean) * inverse
                by_shift += changes[y + s]
        if scale_at >= 0:
            slopes[scale_at + channel] = by_scale
        if shift_at >= 0:
            slopes[shift_at + channel] = by_shift
        if mode == 0:
            continue
        factor = inverse * (params[scale_at + channel] if scale_at >= 0 else number(1.0))
        part = by_shift / entries if by_batch else number(0.0)
        tilt = by_scale / entries * inverse if by_batch else number(0.0)
        for position in range(positions):
            x = (read + channel * positions + position) * stride
            y = (out + channel * positions + position) * stride
            for s in range(count):
                value = (changes[y + s] - part - (values[x + s] - mean) * tilt) * factor
                changes[x + s] = (changes[x + s] if mode == 2 else number(0.0)) + value
            if mode == 1:
                for s in range(count, stride):
                    changes[x + s] = number(0.0)
