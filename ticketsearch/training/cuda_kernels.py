"""Triton kernels in which one block trains, or evaluates, one masked network whole.

Rows of values hold one number for each sample, ``SAMPLES`` of them, of which those beyond the batch are
padding. A layer has ``FIELDS`` integers: the first row of its outputs; its numbers of inputs and of outputs;
first place and number of its weights in ``params``; place of its bias, -1 without one; first places of its
outputs in ``orders`` and ``bounds``, of its inputs in both, and of its weights by inputs in
``turned_places``; the map of its outputs; whether its weights and its bias learn; and one that is 0.
"""

# Triton's language has no types, and writes constants in capitals.
# mypy: ignore-errors
# ruff: noqa: N803, PLR0913

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["evaluate_blocks", "train_blocks"]

FIELDS: tl.constexpr = tl.constexpr(15)
AFFINE: tl.constexpr = tl.constexpr(0)
RELU: tl.constexpr = tl.constexpr(1)
LEAKY_RELU: tl.constexpr = tl.constexpr(2)
TANH: tl.constexpr = tl.constexpr(5)
SIGMOID: tl.constexpr = tl.constexpr(6)
SGD: tl.constexpr = tl.constexpr(0)
NESTEROV: tl.constexpr = tl.constexpr(1)
ADAM: tl.constexpr = tl.constexpr(2)


@triton.jit
def _mapped(value, kind, first, second):
    """Return a map of values."""
    if kind == RELU:
        value = tl.where(value < 0.0, 0.0, value)  # keeps NaN
    elif kind == LEAKY_RELU:
        value = tl.where(value < 0.0, value * first, value)
    elif kind == TANH:
        value = 1.0 - 2.0 / (tl.exp(2.0 * value) + 1.0)
    elif kind == SIGMOID:
        value = 1.0 / (1.0 + tl.exp(-value))
    else:
        value = value * first + second
    return value


@triton.jit
def _slope(value, kind, first):
    """Return a map's slope, from its output."""
    slope = tl.full(value.shape, 1.0, tl.float32)
    if kind == RELU:
        slope = tl.where(value > 0.0, 1.0, 0.0)
    elif kind == LEAKY_RELU:
        slope = tl.where(value > 0.0, 1.0, first)
    elif kind == TANH:
        slope = 1.0 - value * value
    elif kind == SIGMOID:
        slope = value * (1.0 - value)
    else:
        slope = slope * first
    return slope


@triton.jit
def _products(source, row, count, orders, bounds, columns, params, places, TURNED: tl.constexpr,
              tile, ROWS: tl.constexpr, SAMPLES: tl.constexpr):  # fmt: skip
    """Return the sums over kept weights of a tile of rows, ``(ROWS, SAMPLES)``, and the rows.

    Rows are in the order of their numbers of weights, so that those of a tile have about as many.
    """
    lane = tile + tl.arange(0, ROWS)
    unit = tl.load(orders + row + lane, lane < count, 0)
    at = tl.load(bounds + unit, lane < count, 0)
    end = tl.load(bounds + unit + 1, lane < count, 0)
    sample = tl.arange(0, SAMPLES)
    total = tl.zeros((ROWS, SAMPLES), tl.float32)
    for step in range(0, tl.max(end - at, 0)):
        place = at + step
        has = place < end
        column = tl.load(columns + place, has, 0).to(tl.int32)
        if TURNED:
            place = tl.load(places + place, has, 0)
        weight = tl.load(params + place, has, 0.0)
        values = tl.load(source + column[:, None] * SAMPLES + sample[None, :], has[:, None], 0.0)
        total += weight[:, None] * values
    return total, unit


@triton.jit
def _forward(inputs, values, layers, numbers, begin, end, params, orders, bounds, columns,
             ROWS: tl.constexpr, SAMPLES: tl.constexpr):  # fmt: skip
    """Compute all values of a network."""
    sample = tl.arange(0, SAMPLES)
    source = inputs
    for index in range(begin, end):
        layer = layers + index * FIELDS
        target = values + tl.load(layer) * SAMPLES
        units = tl.load(layer + 2)
        bias_at = tl.load(layer + 5)
        row, bounds_at = tl.load(layer + 6), tl.load(layer + 7)
        kind = tl.load(layer + 11)
        first, second = tl.load(numbers + 2 * index), tl.load(numbers + 2 * index + 1)
        for tile in range(0, units, ROWS):
            total, unit = _products(source, row, units, orders, bounds + bounds_at, columns, params, columns,
                                    False, tile, ROWS, SAMPLES)  # fmt: skip
            real = tile + tl.arange(0, ROWS) < units
            bias = tl.load(params + bias_at + unit, real & (bias_at >= 0), 0.0)
            total = _mapped(total + bias[:, None], kind, first, second)
            tl.store(target + unit[:, None] * SAMPLES + sample[None, :], total, real[:, None])
        tl.debug_barrier()
        source = target


@triton.jit
def _loss_gradient(outputs, changes, classes, labels, order, batch, CLASSES: tl.constexpr,
                   SAMPLES: tl.constexpr):  # fmt: skip
    """Set ``changes`` to the gradient of the mean cross-entropy by the outputs; 0 for padding."""
    sample, unit = tl.arange(0, SAMPLES), tl.arange(0, CLASSES)
    place = unit[:, None] * SAMPLES + sample[None, :]
    logits = tl.load(outputs + place, (unit < classes)[:, None], -float("inf"))
    real = sample < batch
    label = tl.load(labels + tl.load(order + sample, real, 0), real, 0)
    shares = tl.exp(logits - tl.max(logits, 0)[None, :])
    shares = shares / tl.sum(shares, 0)[None, :]
    gradient = (shares - tl.where(unit[:, None] == label[None, :], 1.0, 0.0)) / batch
    gradient = tl.where(real[None, :], gradient, 0.0)
    tl.store(changes + place, gradient, (unit < classes)[:, None])
    tl.debug_barrier()


@triton.jit
def _update(place, real, slope, params, firsts, seconds, rates, rule, OPTIMIZER: tl.constexpr):
    """Move parameters as torch's optimizers do."""
    rate, size, root = tl.load(rates), tl.load(rates + 1), tl.load(rates + 2)
    momentum, decay = tl.load(rule), tl.load(rule + 1)
    weight = tl.load(params + place, real, 0.0)
    moment = tl.load(firsts + place, real, 0.0)
    if OPTIMIZER <= NESTEROV:
        slope += decay * weight
        moment = momentum * moment + slope
        if OPTIMIZER == SGD:
            weight -= rate * moment
        else:
            weight -= rate * (slope + momentum * moment)
    else:
        if OPTIMIZER == ADAM:
            slope += decay * weight
        else:
            weight *= 1.0 - rate * decay
        moment += (slope - moment) * tl.load(rule + 2)
        rest = tl.load(rule + 3)
        second = (1.0 - rest) * tl.load(seconds + place, real, 0.0) + rest * slope * slope
        weight -= size * moment / (tl.sqrt(second) * root + 1e-8)
        tl.store(seconds + place, second, real)
    tl.store(firsts + place, moment, real)
    tl.store(params + place, weight, real)


@triton.jit
def _learn(layer, source, change, params, firsts, seconds, units_of, columns, rates, rule,
           OPTIMIZER: tl.constexpr, ROWS: tl.constexpr, SAMPLES: tl.constexpr):  # fmt: skip
    """Move the kept weights and biases of a layer against their gradients, several at a time."""
    sample, lane = tl.arange(0, SAMPLES), tl.arange(0, ROWS)
    first = tl.load(layer + 3)
    weights = tl.load(layer + 4) * tl.load(layer + 12)
    for tile in range(0, weights, ROWS):
        real = tile + lane < weights
        place = first + tile + lane
        unit = tl.load(units_of + place, real, 0).to(tl.int32)
        column = tl.load(columns + place, real, 0).to(tl.int32)
        by_output = tl.load(change + unit[:, None] * SAMPLES + sample[None, :], real[:, None], 0.0)
        values = tl.load(source + column[:, None] * SAMPLES + sample[None, :], real[:, None], 0.0)
        slope = tl.sum(by_output * values, 1)
        _update(place, real, slope, params, firsts, seconds, rates, rule, OPTIMIZER)
    units = tl.load(layer + 2) * tl.load(layer + 13)
    bias_at = tl.load(layer + 5)
    for tile in range(0, units, ROWS):
        real = tile + lane < units
        by_output = tl.load(change + (tile + lane)[:, None] * SAMPLES + sample[None, :], real[:, None], 0.0)
        slope = tl.sum(by_output, 1)
        _update(bias_at + tile + lane, real, slope, params, firsts, seconds, rates, rule, OPTIMIZER)


@triton.jit
def _backward(inputs, values, changes, layers, numbers, begin, end, params, firsts, seconds, orders, bounds,
              units_of, columns, turned_units, turned_places, rates, rule, OPTIMIZER: tl.constexpr,
              ROWS: tl.constexpr, SAMPLES: tl.constexpr):  # fmt: skip
    """Compute all gradients of a network, from the last layer to the first, and move its parameters.

    A layer's gradient by inputs takes its weights before they move.
    """
    sample = tl.arange(0, SAMPLES)
    for back in range(0, end - begin):
        index = end - 1 - back
        layer = layers + index * FIELDS
        change = changes + tl.load(layer) * SAMPLES
        source = inputs
        if index > begin:
            before = tl.load(layer - FIELDS)
            source = values + before * SAMPLES
            into = changes + before * SAMPLES
            width = tl.load(layer + 1)
            row, bounds_at = tl.load(layer + 8), tl.load(layer + 9)
            turned_at = tl.load(layer + 10)
            kind, first = tl.load(layer + 11 - FIELDS), tl.load(numbers + 2 * index - 2)
            for tile in range(0, width, ROWS):
                total, unit = _products(
                    change, row, width, orders, bounds + bounds_at, turned_units + turned_at, params,
                    turned_places + turned_at, True, tile, ROWS, SAMPLES,
                )  # fmt: skip
                place = unit[:, None] * SAMPLES + sample[None, :]
                real = (tile + tl.arange(0, ROWS) < width)[:, None]
                total *= _slope(tl.load(source + place, real, 0.0), kind, first)
                tl.store(into + place, total, real)
        tl.debug_barrier()
        _learn(layer, source, change, params, firsts, seconds, units_of, columns, rates, rule, OPTIMIZER,
               ROWS, SAMPLES)  # fmt: skip
        tl.debug_barrier()


@triton.jit
def _gather(samples, width, order, batch, features, target, ROWS: tl.constexpr, SAMPLES: tl.constexpr):
    """Set the first rows to a batch of samples; 0 for padding."""
    sample = tl.arange(0, SAMPLES)
    real = sample < batch
    chosen = tl.load(order + sample, real, 0).to(tl.int64) * width
    for tile in range(0, features, ROWS):
        feature = tile + tl.arange(0, ROWS)
        here = (feature < features)[:, None]
        values = tl.load(samples + chosen[None, :] + feature[:, None], here & real[None, :], 0.0)
        tl.store(target + feature[:, None] * SAMPLES + sample[None, :], values, here)
    tl.debug_barrier()


@triton.jit
def train_blocks(samples, labels, order, width, features, batch, steps, own, gathered, networks, count,
                 layers, numbers, params, firsts, seconds, orders, bounds, units_of, columns, turned_units,
                 turned_places, rates, rule, scratch, rows, OPTIMIZER: tl.constexpr, OWN: tl.constexpr,
                 CLASSES: tl.constexpr, ROWS: tl.constexpr, SAMPLES: tl.constexpr):  # fmt: skip
    """Train networks for ``steps`` steps, one by a block at a time.

    ``order`` is ``(1 or P, steps, batch)``; where all networks share it, ``gathered`` holds the batches,
    ``(steps, features, SAMPLES)``, and ``own`` is 0, else
    the distance of two networks' orders. ``rates`` is
    ``(steps, 3)``: the learning rate, and what Adam makes of it. ``scratch`` has for each block
    ``2 * rows + features`` rows.
    """
    block = tl.program_id(0)
    values = scratch + block.to(tl.int64) * (2 * rows + features) * SAMPLES
    changes = values + rows * SAMPLES
    mine = changes + rows * SAMPLES
    of_network = order + block.to(tl.int64) * own
    for network in range(block, count, tl.num_programs(0)):
        begin, end = tl.load(networks + 2 * network), tl.load(networks + 2 * network + 1)
        last = layers + (end - 1) * FIELDS
        out, classes = tl.load(last) * SAMPLES, tl.load(last + 2)
        for step in range(0, steps):
            inputs = mine
            chosen = of_network + step * batch
            if OWN:
                _gather(samples, width, chosen, batch, features, mine, ROWS, SAMPLES)
            else:
                inputs = gathered + step * features * SAMPLES
            _forward(inputs, values, layers, numbers, begin, end, params, orders, bounds, columns, ROWS,
                     SAMPLES)  # fmt: skip
            _loss_gradient(values + out, changes + out, classes, labels, chosen, batch, CLASSES, SAMPLES)
            _backward(inputs, values, changes, layers, numbers, begin, end, params, firsts, seconds, orders,
                      bounds, units_of, columns, turned_units, turned_places, rates + 3 * step, rule,
                      OPTIMIZER, ROWS, SAMPLES)  # fmt: skip
        of_network += own * tl.num_programs(0)


@triton.jit
def evaluate_blocks(samples, features, total, begun, networks, layers, numbers, params, orders, bounds,
                    columns, scratch, rows, logits, ROWS: tl.constexpr, SAMPLES: tl.constexpr):  # fmt: skip
    """Compute the logits ``(P, classes, total)`` of networks, a block for each and some samples.

    ``samples`` are ``(parts, features, SAMPLES)``, the first of which is part ``begun`` of all.
    """
    network, part = tl.program_id(0), tl.program_id(1)
    block = network.to(tl.int64) * tl.num_programs(1) + part
    values = scratch + block * rows * SAMPLES
    begin, end = tl.load(networks + 2 * network), tl.load(networks + 2 * network + 1)
    sample = tl.arange(0, SAMPLES)
    _forward(samples + part.to(tl.int64) * features * SAMPLES, values, layers, numbers, begin, end, params,
             orders, bounds, columns, ROWS, SAMPLES)  # fmt: skip
    last = layers + (end - 1) * FIELDS
    out, classes = tl.load(last), tl.load(last + 2)
    place = (begun + part) * SAMPLES + sample
    for unit in range(0, classes):
        row = tl.load(values + (out + unit) * SAMPLES + sample)
        tl.store(logits + (network.to(tl.int64) * classes + unit) * total + place, row, place < total)
