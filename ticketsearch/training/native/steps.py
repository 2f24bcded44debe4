"""Training steps of programs: forward, loss, backward and optimizer, for many steps and networks in one call.

A network's sums depend on nothing beside it: it gets the same bits alone, in company and in threads.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ticketsearch.compiled import compiler
from ticketsearch.training.native.image_steps import image_backward, image_forward
from ticketsearch.training.native.layers import (
    bias_gradient,
    dense_products,
    gradient_by_weights,
    products,
)
from ticketsearch.training.native.maps import exponentials, map_backward, map_forward
from ticketsearch.training.native.names import CODES, OPTIMIZERS
from ticketsearch.training.native.normalization import batch_norm, batch_norm_gradient
from ticketsearch.training.native.operations import (
    combine,
    combined_gradient,
    layer_norm,
    layer_norm_gradient,
)
from ticketsearch.training.native.vectors import BYTES, transpose

__all__ = ["Tables", "backward", "forward", "gather", "train"]

compiled = compiler(__name__, "the training engine")

LINEAR, MAP, ADD, MULTIPLY, MAXIMUM, MINIMUM, COPY, TAKE, ZEROS, DROPOUT, NORMALIZE, MIX = list(
    CODES.values()
)[:12]
SGD, NESTEROV, ADAM, ADAMW = OPTIMIZERS.values()
BETA1, BETA2, EPS = 0.9, 0.999, 1e-8


class Tables(NamedTuple):
    """Programs and parameters of all networks of a cohort, in flat arrays.

    Attributes
    ----------
    networks : ``(P, 4)``: first and last operation; first and last learning parameter.
    operations : ``(operations, FIELDS)``, see :mod:`ticketsearch.training.native.program`.
    numbers : ``(operations, 2)`` float64.
    params : weights, biases and other parameters, those that learn first, network by network.
    sources : for each weight the row of its input, counted from the input's first.
    begins : for each layer its units' first weights, and the end.
    turned_sources, turned_begins, turned_order : the same by input: rows of outputs; index in ``params``.
    turned : weights in the order of ``turned_order``.
    indices : rows that are taken.
    moved : running means and variances.
    """

    networks: NDArray[np.int64]
    operations: NDArray[np.int64]
    numbers: NDArray[np.float64]
    params: NDArray[np.floating]
    sources: NDArray[np.int32]
    begins: NDArray[np.int64]
    turned_sources: NDArray[np.int32]
    turned_begins: NDArray[np.int64]
    turned_order: NDArray[np.int64]
    turned: NDArray[np.floating]
    indices: NDArray[np.int32]
    moved: NDArray[np.floating]


@compiled
def gather(samples, width, used, order, values, stride):
    """Set rows of features to those of the samples in ``order``, padded with the first of them.

    ``used`` are the first features of whole vectors.
    """
    count = len(order)
    lanes = BYTES // values.itemsize
    places = np.empty(stride, np.int64)
    for s in range(stride):
        places[s] = order[s if s < count else 0] * width
    for first in used:
        for s in range(0, stride, lanes):
            transpose(samples, places, s, first, values, first * stride + s, stride)


@compiled
def forward(tables, network, values, stride, count, training, noise, scratch, saved):
    """Compute all values of a network; ``count`` of a row's samples are real."""
    operations, numbers, params = tables.operations, tables.numbers, tables.params
    number = values.dtype.type
    for index in range(tables.networks[network, 0], tables.networks[network, 1]):
        code, out, read, rows = operations[index, :4]
        size = rows * stride
        first = values[read * stride : read * stride + size]
        into = values[out * stride : out * stride + size]
        if code == LINEAR:
            at, bias_at, inputs = operations[index, 5], operations[index, 6], operations[index, 8]
            if tables.begins[at + rows] - tables.begins[at] == rows * inputs:
                dense_products(
                    values, out, params, bias_at, params, tables.begins[at], rows, tables.sources,
                    tables.begins, at, values, read, inputs, stride,
                )  # fmt: skip
            else:
                products(
                    values, out, params, bias_at, params, tables.begins, at, rows, tables.sources, values,
                    read, stride,
                )  # fmt: skip
        elif code == MAP:
            a, b = numbers[index]
            map_forward(operations[index, 5], a, b, values, read * stride, values, out * stride, size)
        elif code <= MINIMUM:
            second = operations[index, 5] * stride
            combine(code, number(numbers[index, 0]), first, values[second : second + size], into, size)
        elif code == COPY:
            for i in range(size):
                into[i] = first[i]
        elif code == TAKE:
            for row in range(rows):
                source = (read + tables.indices[operations[index, 5] + row]) * stride
                for s in range(stride):
                    into[row * stride + s] = values[source + s]
        elif code == ZEROS:
            for i in range(size):
                into[i] = number(0.0)
        elif code == DROPOUT:
            if training:
                at = operations[index, 5] * stride
                for i in range(size):
                    into[i] = first[i] * noise[at + i]
            else:
                for i in range(size):
                    into[i] = first[i]
        elif code == NORMALIZE:
            batch_norm(tables, index, values, stride, count, training, saved)
        elif code > MIX:
            image_forward(tables, index, values, stride)
        else:
            at = operations[index, 7] * stride
            layer_norm(
                first, into, rows, stride, params, operations[index, 5], operations[index, 6],
                number(numbers[index, 0]), scratch[at : at + 4 * stride],
            )  # fmt: skip


@compiled
def backward(tables, network, values, changes, slopes, stride, count, training, noise, scratch, saved):
    """Compute the gradients by values and parameters, from those by the last value in ``changes``."""
    operations, numbers, params = tables.operations, tables.numbers, tables.params
    number = values.dtype.type
    first_operation, last = tables.networks[network, :2]
    for index in range(last - 1, first_operation - 1, -1):
        code, out, read, rows, mode = operations[index, :5]
        if operations[index, 11] == 0:
            continue
        size = rows * stride
        change = changes[out * stride : out * stride + size]
        into = changes[read * stride : read * stride + size]
        first = values[read * stride : read * stride + size]
        if code == LINEAR:
            _linear_backward(tables, index, values, changes, slopes, stride)
        elif code == MAP:
            a, b = numbers[index]
            kind = operations[index, 5]
            x_at, y_at = read * stride, out * stride
            map_backward(kind, a, b, values, x_at, values, y_at, changes, changes, size, mode == 2)
        elif code <= MINIMUM:
            other = operations[index, 5] * stride
            second = values[other : other + size]
            scale = number(numbers[index, 0])
            if mode:
                combined_gradient(code, scale, first, second, change, into, size, True, mode == 2)
            if operations[index, 6]:
                to = changes[other : other + size]
                adds = operations[index, 6] == 2
                combined_gradient(code, scale, first, second, change, to, size, False, adds)
        elif code == COPY:
            for i in range(size):
                into[i] = (into[i] if mode == 2 else number(0.0)) + change[i]
        elif code == TAKE:
            if mode == 1:
                all_rows = operations[index, 6]
                for i in range(read * stride, (read + all_rows) * stride):
                    changes[i] = number(0.0)
            for row in range(rows):
                source = (read + tables.indices[operations[index, 5] + row]) * stride
                for s in range(stride):
                    changes[source + s] += change[row * stride + s]
        elif code == DROPOUT:
            at = operations[index, 5] * stride
            for i in range(size):
                slope = change[i] * noise[at + i] if training else change[i]
                into[i] = (into[i] if mode == 2 else number(0.0)) + slope
        elif code == NORMALIZE:
            batch_norm_gradient(tables, index, values, changes, slopes, stride, count, training, saved)
        elif code == MIX:
            at = operations[index, 7] * stride
            places = (operations[index, 5], operations[index, 6])
            spread = scratch[at : at + 4 * stride]
            layer_norm_gradient(first, change, into, rows, stride, params, slopes, places, spread, mode)
        elif code > MIX:
            image_backward(tables, index, values, changes, slopes, stride)


@compiled
def _linear_backward(tables, index, values, changes, slopes, stride):
    """Compute the gradients of a layer: by weights and biases where they learn, by inputs where needed."""
    operations, params = tables.operations, tables.params
    _, out, read, units, mode = operations[index, :5]
    at, bias_at, turned_at, inputs = operations[index, 5:9]
    if operations[index, 9]:
        gradient_by_weights(
            slopes, tables.begins, at, units, tables.sources, values, read, changes, out, stride
        )
    if operations[index, 10]:
        bias_gradient(slopes, bias_at, units, changes, out, stride)
    if mode:
        begins, order, turned = tables.turned_begins, tables.turned_order, tables.turned
        for j in range(begins[turned_at], begins[turned_at + inputs]):
            turned[j] = params[order[j]]
        if mode == 1 and begins[turned_at + inputs] - begins[turned_at] == units * inputs:
            dense_products(
                changes, read, params, -1, turned, begins[turned_at], inputs, tables.turned_sources, begins,
                turned_at, changes, out, units, stride,
            )  # fmt: skip
        elif mode == 1:
            products(
                changes, read, params, -1, turned, begins, turned_at, inputs, tables.turned_sources, changes,
                out, stride,
            )  # fmt: skip
        else:
            row = np.empty(stride, values.dtype)
            for unit in range(inputs):
                products(
                    row, 0, params, -1, turned, begins, turned_at + unit, 1, tables.turned_sources, changes,
                    out, stride,
                )  # fmt: skip
                for s in range(stride):
                    changes[(read + unit) * stride + s] += row[s]


@compiled
def loss_gradient(values, changes, row, classes, labels, order, stride, scratch):
    """Set ``changes`` to the gradient of the mean cross-entropy by the outputs; 0 for padding."""
    number = values.dtype.type
    count = len(order)
    peak, total = scratch[:stride], scratch[stride : 2 * stride]
    begin = row * stride
    for s in range(stride):
        peak[s] = values[begin + s]
        total[s] = number(0.0)
    for c in range(1, classes):
        for s in range(stride):
            value = values[begin + c * stride + s]
            peak[s] = value if value > peak[s] else peak[s]
    for c in range(classes):
        for s in range(stride):
            changes[begin + c * stride + s] = values[begin + c * stride + s] - peak[s]
        exponentials(changes, begin + c * stride, begin + (c + 1) * stride)
        for s in range(stride):
            total[s] += changes[begin + c * stride + s]
    share = number(1.0) / number(count)
    for s in range(stride):
        total[s] = share / total[s] if s < count else number(0.0)
    for c in range(classes):
        for s in range(stride):
            changes[begin + c * stride + s] *= total[s]
    for s in range(count):
        changes[begin + labels[order[s]] * stride + s] -= share
    for c in range(classes):
        for s in range(count, stride):
            changes[begin + c * stride + s] = number(0.0)


@compiled
def update(params, slopes, first, second, begin, end, optimizer, rate, momentum, decay, step):
    """Move parameters as torch's optimizers do; ``step`` counts from 1."""
    number = params.dtype.type
    lr, wd, mu = number(rate), number(decay), number(momentum)
    if optimizer <= NESTEROV:
        w, g, m = params[begin:end], slopes[begin:end], first[begin:end]
        if optimizer == SGD:
            for i in range(len(w)):
                m[i] = mu * m[i] + (g[i] + wd * w[i])
                w[i] -= lr * m[i]
        else:
            for i in range(len(w)):
                slope = g[i] + wd * w[i]
                m[i] = mu * m[i] + slope
                w[i] -= lr * (slope + mu * m[i])
        return
    b1, b2 = number(1.0 - BETA1), number(BETA2)
    rest, eps = number(1.0 - BETA2), number(EPS)
    size = number(rate / (1.0 - BETA1**step))
    root = number(1.0 / math.sqrt(1.0 - BETA2**step))
    for i in range(begin, end):
        slope = slopes[i]
        if optimizer == ADAM:
            slope += wd * params[i]
        else:
            params[i] *= number(1.0) - lr * wd
        first[i] += (slope - first[i]) * b1
        second[i] = b2 * second[i] + rest * slope * slope
        params[i] -= size * first[i] / (math.sqrt(second[i]) * root + eps)


@compiled
def train(tables, rule, samples, labels, used, orders, rates, begin, noise, noise_rows, buffers, outputs):
    """Train all networks for ``len(rates)`` steps, after the optimizer has taken ``begin``.

    ``rule`` is (optimizer, momentum, weight decay); ``samples`` are ``(samples, features)``; ``orders`` are
    ``(1 or P, steps, batch)``, of these steps alone; ``noise`` holds the factors of dropout of each step and
    network; ``buffers`` are values, gradients by values and by parameters, two states of the optimizer,
    scratch of each sample, and statistics that are saved from forward to backward; ``outputs`` are
    ``(P, 2)``: first row and number of the outputs.
    """
    values, changes, slopes, first, second, scratch, saved = buffers
    optimizer, momentum, decay = rule
    count = orders.shape[2]
    stride = (count + 15) // 16 * 16
    flat, width = samples.ravel(), samples.shape[1]
    shared = len(orders) == 1
    for step in range(len(rates)):
        if shared:
            gather(flat, width, used, orders[0, step], values, stride)
        for network in range(len(tables.networks)):
            order = orders[0 if shared else network, step]
            if not shared:
                gather(flat, width, used, order, values, stride)
            factors = noise[(step * len(tables.networks) + network) * noise_rows * stride :]
            row, classes = outputs[network]
            forward(tables, network, values, stride, count, True, factors, scratch, saved)
            loss_gradient(values, changes, row, classes, labels, order, stride, scratch)
            backward(tables, network, values, changes, slopes, stride, count, True, factors, scratch, saved)
            learns, last = tables.networks[network, 2], tables.networks[network, 3]
            update(
                tables.params, slopes, first, second, learns, last, optimizer, rates[step], momentum, decay,
                begin + step + 1,
            )  # fmt: skip
