"""Masks with their weights: keys against brute force; closeness up to renumbering and rescaling."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from networks import (
    PIECEWISE,
    concatenated,
    convolutional,
    depthwise,
    grouped,
    mlp,
    renumberings,
    residual,
    separable,
)
from test_canonical import around, cycles

import ticketsearch as ts
from ticketsearch.canonical import Weights, canonical_identity, canonical_key, isomorphic
from ticketsearch.errors import BadInput
from ticketsearch.masks import live, live_units, permute, random_order
from ticketsearch.models import initialize
from ticketsearch.tickets.duplicates import initial_weights

TINY = {"3+3": mlp(2, 3, 3, 1), "residual": residual(1, 4, 1), **PIECEWISE}


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_keys_with_weights_are_equal_exactly_where_brute_force_finds_a_renumbering(name):
    spec = TINY[name]
    table = renumberings(spec)
    rng = np.random.default_rng(0)
    least_of, key_of = {}, {}
    for count in range(300):
        mask = rng.random(spec.size) < rng.choice([0.5, 0.9])
        weights = rng.choice([-1.0, 0.0, 2.5], spec.size) if count % 3 else np.full(spec.size, 0.5)
        alive = np.where(live(mask, spec), weights, 7.0)
        least = min(row.tobytes() for row in alive[table])
        key = canonical_key(mask, spec, weights)
        assert least_of.setdefault(key, least) == least
        assert key_of.setdefault(least, key) == key
    assert len(key_of) > 20


@pytest.mark.parametrize(
    "spec", [mlp(3, 9, 8, 2), residual(2, 9, 2), grouped(2, 3, 3, 2), separable(2, 4, 2)]
)
def test_values_of_units_move_with_the_units(spec):
    rng = np.random.default_rng(0)
    for _ in range(20):
        mask = rng.random(spec.size) < 0.7
        weights = rng.integers(2, size=spec.size).astype(float)
        units = {group.name: rng.integers(3, size=group.size) for group in spec.groups}
        order = {spec.groups[g].name: rng.permutation(spec.groups[g].size) for g in spec.hidden}
        moved = units | {name: units[name][old] for name, old in order.items()}
        copy, carried = permute(mask, spec, order), permute(weights, spec, order)
        key = canonical_key(mask, spec, Weights(weights, units))
        assert canonical_key(copy, spec, Weights(carried, moved)) == key
        for name, alive in live_units(copy, spec).items():
            kind = next(group.kind for group in spec.groups if group.name == name)
            for unit, counts in enumerate(alive | (kind != "hidden")):
                other = moved | {name: np.where(np.arange(len(alive)) == unit, 5, moved[name])}
                assert (canonical_key(copy, spec, Weights(carried, other)) != key) == counts


def test_weights_dead_or_pruned_do_not_count_and_live_ones_do():
    spec = mlp(2, 2, 1)
    mask = np.array([1, 1, 0, 1, 1, 0])
    weights = np.array([1.0, 2, 3, 4, 5, 6])
    key = canonical_key(mask, spec, weights)
    for index in range(spec.size):
        other = weights.copy()
        other[index] += 0.5
        assert (canonical_key(mask, spec, other) == key) == (not live(mask.astype(bool), spec)[index])
    assert canonical_key(mask, spec, weights.astype(np.float32)) == key
    assert canonical_key(mask, spec) != key
    assert canonical_key(mask, spec, Weights(weights, rest=b"else")) != key


def test_zero_is_one_number_and_not_nothing():
    spec = mlp(1, 2, 1)
    zero = canonical_key(np.ones(4), spec, np.zeros(4))
    assert canonical_key(np.ones(4), spec, -np.zeros(4)) == zero
    assert canonical_key(np.array([1, 0, 1, 0]), spec, np.zeros(4)) != zero


def test_equal_weights_leave_ties_that_are_searched():
    spec, mask = around(cycles(12))
    other = around(cycles(6, 6))[1]
    same = np.full(spec.size, 0.25)
    assert not canonical_identity(mask, spec, same, budget=0).exact
    assert canonical_key(mask, spec, same) != canonical_key(other, spec, same)
    assert not isomorphic(mask, other, spec, weights=(same, same), budget=0)
    assert not isomorphic(mask, other, spec, weights=(same, same), tolerance=0.1)


def scaled(weights, spec, rng):
    """Return the weights of a chain with hidden units multiplied and what reads them divided by numbers."""
    found = np.array(weights, dtype=np.float64)
    factors = [np.ones(group.size) for group in spec.groups]
    for piece in spec.pieces:
        window = spec.window(piece, found)
        axis = (-1, 1) if piece.diagonal else (1, -1)
        divisors = np.repeat(factors[piece.source], 1 if piece.diagonal else piece.block)
        window /= divisors.reshape(*axis, *[1] * (window.ndim - 2))
        if piece.target in spec.hidden:
            factors[piece.target] = np.exp(rng.normal(size=spec.groups[piece.target].size))
            window *= factors[piece.target].reshape(-1, *[1] * (window.ndim - 1))
    return found.astype(np.float32)


CHAINS = [
    mlp(4, 20, 15, 3),
    convolutional(2, 8, 7, 3),
    *(depthwise(4, 30, 4, kernel=kernel) for kernel in (1, 2, 3, 30)),
]


def test_a_depthwise_kernel_is_rescaled_unit_by_unit_and_not_place_by_place():
    spec, rng = depthwise(2, 4, 2, kernel=4), np.random.default_rng(0)
    ones, weights = np.ones(spec.size), rng.normal(size=spec.size)
    other, factors = weights.copy(), np.array([2.0, 3.0, 0.5, 1.5])
    first, kernels = (spec.window(piece, other) for piece in spec.pieces[:2])
    first *= factors.reshape(-1, *[1] * (first.ndim - 1))
    kernels /= factors.reshape(*[1] * (kernels.ndim - 1), -1)
    options = {"rescaling": True, "tolerance": 1e-6}
    assert not isomorphic(ones, ones, spec, weights=(weights, other), **options)
    kernels *= factors.reshape(*[1] * (kernels.ndim - 1), -1)
    kernels /= factors.reshape(-1, *[1] * (kernels.ndim - 1))
    assert isomorphic(ones, ones, spec, weights=(weights, other), **options)


@pytest.mark.parametrize("spec", CHAINS)
@pytest.mark.parametrize("signs", [False, True])
def test_rescaled_copies_are_found_and_others_are_not(spec, signs):
    rng = np.random.default_rng(0)
    for density in (0.3, 0.6):
        mask = rng.random(spec.size) < density
        weights = rng.normal(size=spec.size).astype(np.float32)
        weights = np.sign(weights) if signs else weights
        order = random_order(spec, rng)
        copy, others = permute(mask, spec, order), permute(scaled(weights, spec, rng), spec, order)
        both = weights, others
        assert isomorphic(mask, copy, spec, weights=both, rescaling=True, tolerance=1e-5)
        assert not isomorphic(mask, copy, spec, weights=both, tolerance=1e-5)
        assert not isomorphic(mask, copy, spec, weights=both)
        assert isomorphic(mask, copy, spec)
        near, turned = others.copy(), others.copy()
        place = rng.choice(np.flatnonzero(live(copy, spec)))
        near[place] *= 1.001
        turned[place] *= -1
        for changed, tolerance, same in [(near, 1e-5, False), (near, 0.01, True), (turned, 0.4, False)]:
            pair = weights, changed
            assert isomorphic(mask, copy, spec, weights=pair, rescaling=True, tolerance=tolerance) == same


def test_closeness_is_no_equivalence():
    """Of 1, 1.1 and 1.2 neighbours are close at 0.1 and the ends are not; one order of units must fit all."""
    spec = mlp(1, 3, 1)
    mask = np.ones(6)

    def close(*units):
        pair = [1.0, 1.1, 1.2, 1, 1, 1], [*units, 1.0, 1.0, 1.0]
        return isomorphic(mask, mask, spec, weights=pair, tolerance=0.1)

    assert close(1.2, 1.0, 1.1)
    assert close(1.1, 1.1, 1.1)
    assert not close(1.2, 1.2, 1.2)
    assert close(1.2, 1.2, 1.1)
    assert not close(1.0, 1.0, 1.0)
    assert not close(1.2, 1.2, 1.3)


def test_tolerance_knows_bundles_and_values_of_units():
    rng = np.random.default_rng(0)
    for spec in (grouped(2, 3, 3, 2), concatenated(2, 4, 3, 2), depthwise(2, 5, 2)):
        mask, weights = rng.random(spec.size) < 0.8, rng.normal(size=spec.size)
        order = random_order(spec, rng)
        copy, moved = permute(mask, spec, order), permute(weights, spec, order) * (1 + 1e-6)
        assert isomorphic(mask, copy, spec, weights=(weights, moved), tolerance=1e-5)
        assert not isomorphic(mask, copy, spec, weights=(weights, moved), tolerance=1e-8)
    spec = mlp(1, 2, 1)
    units = [{"g1": values} for values in ([1.0, 2.0], [2.0, 1.0], [2.0, 1.1])]
    first, second, third = (Weights(np.ones(4), values) for values in units)
    assert isomorphic(np.ones(4), np.ones(4), spec, weights=(first, second), tolerance=1e-3)
    assert not isomorphic(np.ones(4), np.ones(4), spec, weights=(first, third), tolerance=1e-3)


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        (residual(1, 2, 1), "chains of layers"),
        (concatenated(1, 2, 2, 1), "chains of layers"),
        (grouped(), "chains of layers"),
        (mlp(1, 2, 1, constant=True), "without biases"),
    ],
)
def test_only_chains_without_biases_are_rescaled(spec, why):
    ones = np.ones(spec.size)
    with pytest.raises(BadInput, match=why):
        isomorphic(ones, ones, spec, weights=(ones, ones), rescaling=True, tolerance=1e-5)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"rescaling": True, "weights": (np.ones(4), np.ones(4))}, "give a tolerance"),
        ({"rescaling": True, "tolerance": 0.1}, "there are none; give weights"),
        ({"tolerance": 0.1}, "there are none; give weights"),
        ({"tolerance": 0.5, "weights": (np.ones(4), np.ones(4))}, r"in \[0, 0.5\), but got 0.5"),
        ({"weights": (np.ones(4), np.ones(3))}, r"shape \(4,\), but got \(3,\)"),
        ({"weights": (np.ones(4), np.full(4, np.nan))}, "NaN"),
        ({"weights": (np.ones(4), ["a"] * 4)}, "numbers"),
        ({"weights": (np.ones(4), Weights(np.ones(4), {"g7": [1]}))}, "g0, g1, g2, but got 'g7'"),
        ({"weights": (np.ones(4), Weights(np.ones(4), {"g1": [1]}))}, r"\(2,\) or \(2, values\)"),
    ],
)
def test_bad_input_is_one_line(given, why):
    with pytest.raises(BadInput, match=why) as caught:
        isomorphic(np.ones(4), np.ones(4), mlp(1, 2, 1), **given)
    assert "\n" not in str(caught.value)


def test_units_with_biases_or_without_weights_are_not_rescaled():
    spec, ones = mlp(1, 2, 1), np.ones(4)
    zero, biased = Weights(ones, {"g1": [0.0, 0.0]}), Weights(ones, {"g1": [0.0, 1.0]})
    assert isomorphic(ones, ones, spec, weights=(zero, zero), rescaling=True, tolerance=0.1)
    for pair, why in [((biased, biased), "without biases"), (([0, 1, 1, 1], ones), "other than 0")]:
        with pytest.raises(BadInput, match=why):
            isomorphic(ones, ones, spec, weights=pair, rescaling=True, tolerance=0.1)


class Normed(torch.nn.Module):
    """Tensors of units that are no weights: biases, a normalisation, and one that is nobody's."""

    def __init__(self, inputs, classes):
        super().__init__()
        self.first = torch.nn.Linear(inputs, 12)
        self.norm = torch.nn.BatchNorm1d(12)
        self.act = torch.nn.PReLU()
        self.last = torch.nn.Linear(12, classes)

    def forward(self, x):
        return self.last(self.act(self.norm(self.first(x.flatten(1)))))


@pytest.mark.slow
def test_initial_weights_are_all_of_an_initialization():
    network = initialize(lambda shape, classes: Normed(64, classes), ts.load_dataset("digits"), "as_built")
    found = initial_weights(network)
    tensors = network.parameters()
    sizes = {name: np.shape(values) for name, values in found.units.items()}
    assert sorted(sizes.values()) == [(10, 1), (12, 3)]
    assert found.rest == tensors["act.weight"].numpy().tobytes()
    rng = np.random.default_rng(0)
    mask = rng.random(network.spec.size) < 0.5
    key = canonical_key(mask, network.spec, found)
    order = random_order(network.spec, rng)
    moved = network.wiring.renumbered(tensors | network.buffers(), order)
    copy = network.reinitialized("as_built", 1)
    copy.module.load_state_dict(moved, strict=False)
    assert canonical_key(permute(mask, network.spec, order), network.spec, initial_weights(copy)) == key
    for name in tensors:
        if name not in (layer.name for layer in network.spec.layers):
            copy.module.load_state_dict(moved | {name: moved[name] + 1}, strict=False)
            changed = initial_weights(copy)
            assert canonical_key(permute(mask, network.spec, order), network.spec, changed) != key
