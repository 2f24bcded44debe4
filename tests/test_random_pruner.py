"""Magnitude, and random masks: uniform, Erdős–Rényi-kernel, or of given layer densities."""

import sys
import warnings
from functools import cache

import numpy as np
import pytest
import scipy
import torch
from conftest import examples, refused
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from networks import mlp

from ticketsearch.datasets import Dataset
from ticketsearch.masks import Layer, MaskSpec, layer_counts
from ticketsearch.models import initialize
from ticketsearch.pruners import LayerCollapseWarning, magnitude, prune, random
from ticketsearch.pruners.baselines import densities_of, erk_densities, quotas

pytestmark = pytest.mark.slow


def shapes(input_shape, classes=3):
    """A dataset for its shapes alone."""
    parts = {}
    for part in ("train", "validation", "test"):
        parts[f"x_{part}"] = torch.ones(classes, *input_shape)
        parts[f"y_{part}"] = torch.arange(classes)
    return Dataset(name="shapes", classes=classes, **parts)


@cache
def chain():
    return initialize("mlp:9,4,30", shapes((7,)))


@cache
def lenet():
    return initialize("lenet5", shapes((1, 28, 28), 10))


SIZES = [63, 36, 120, 90]  # of chain()
SCHEDULES = ("exponential", "linear", "one_shot")


def spec_of(*layer_shapes):
    """A spec of layers alone."""
    layers, offset = [], 0
    for number, shape in enumerate(layer_shapes):
        layers.append(Layer(f"l{number}", shape, offset))
        offset += int(np.prod(shape))
    return MaskSpec(tuple(layers), (), (), ())


def test_magnitude_keeps_the_largest_weights():
    named = chain().parameters()
    weights = np.concatenate([named[layer.name].abs().flatten() for layer in chain().spec.layers])
    mask = prune(chain(), "magnitude", density=0.4)
    assert mask.sum() == round(0.4 * chain().spec.size)
    assert weights[mask].min() > weights[~mask].max()
    assert np.array_equal(prune(chain(), "magnitude", density=0.4, steps=9), mask)


@pytest.mark.parametrize("function", [magnitude, random])
def test_pruned_weights_score_zero(function):
    kept = np.random.default_rng(0).random(chain().spec.size) < 0.5
    mask = {name: torch.from_numpy(part.copy()) for name, part in chain().spec.split(kept).items()}
    options = [{}] if function is magnitude else [{}, {"target": 90, "distribution": "erk"}]
    for own in options:
        scores = function(chain(), mask, None, rng=np.random.default_rng(0), **own)
        assert {name: part.shape for name, part in scores.items()} == {k: m.shape for k, m in mask.items()}
        assert all((scores[name][~own_mask] == 0).all() for name, own_mask in mask.items())
        assert all((scores[name][own_mask] > 0).all() for name, own_mask in mask.items())


# --- layer densities


def test_uniform_masks_choose_every_weight_alike():
    chosen = sum(prune(chain(), "random", density=0.5, seed=seed).astype(int) for seed in range(400))
    assert abs(chosen / 400 - 0.5).max() < 0.12  # 4.8 standard deviations


@pytest.mark.parametrize("steps", [1, 7])
def test_erk_masks_choose_every_weight_of_a_layer_alike(steps):
    draws = 400
    chosen = sum(
        prune(chain(), "random", density=0.4, distribution="erk", seed=seed, steps=steps).astype(int)
        for seed in range(draws)
    )
    wanted = quotas(erk_densities(chain().spec, 124), chain().spec, 124)
    for layer, count in zip(chain().spec.layers, wanted, strict=True):
        own = chosen[layer.slice]
        density = count / layer.size
        assert own.sum() == draws * count
        assert abs(own / draws - density).max() < 4.8 * (density * (1 - density) / draws) ** 0.5 + 1e-9


def test_erk_densities_follow_the_formula():
    # (6 + 1 + 5 + 5) / (6 · 1 · 5 · 5) = 17 / 150, (16 + 6 + 5 + 5) / 2400 = 32 / 2400, (10 + 40) / 400.
    spec = spec_of((6, 1, 5, 5), (16, 6, 5, 5), (10, 40))
    scale = 60 / (17 + 32 + 50)
    np.testing.assert_allclose(
        erk_densities(spec, 60), [scale * 17 / 150, scale * 32 / 2400, scale * 50 / 400], rtol=1e-14
    )


def test_layers_that_erk_would_overfill_are_dense_and_the_others_share_the_rest():
    # Sizes 150, 2400 and 400, in proportion 17 : 32 : 50.
    spec = spec_of((6, 1, 5, 5), (16, 6, 5, 5), (10, 40))
    # Of 820 the last would have 414. The other two share 420 as 17 : 32.
    wanted = [17 / 49 * 420 / 150, 32 / 49 * 420 / 2400, 1]
    np.testing.assert_allclose(erk_densities(spec, 820), wanted, rtol=1e-14)
    # Of 850 the first would have 146 of 150, but once the last is dense, 156.
    np.testing.assert_allclose(erk_densities(spec, 850), [1, 300 / 2400, 1], rtol=1e-14)


def test_erk_at_density_one_is_dense():
    assert erk_densities(chain().spec, chain().spec.size) == pytest.approx([1.0] * 4)
    assert prune(chain(), "random", density=1, distribution="erk").all()


def test_erk_counts_of_a_mask_are_those_of_the_formula():
    mask = prune(lenet(), "random", density=0.05, distribution="erk", steps=3)
    target = round(0.05 * lenet().spec.size)
    sums = [sum(layer.shape) for layer in lenet().spec.layers]
    exact = [target * own / sum(sums) for own in sums]
    sizes = [layer.size for layer in lenet().spec.layers]
    assert all(own <= size for own, size in zip(exact, sizes, strict=True))  # none fills up here
    counts = layer_counts(mask, lenet().spec)
    assert counts.sum() == target
    assert (abs(counts - exact) < 1).all()


@given(
    st.floats(0.013, 1),
    st.sampled_from(["uniform", "erk"]),
    st.sampled_from(SCHEDULES),
    st.integers(1, 12),
    st.integers(0, 99),
)
@settings(max_examples=examples(80), deadline=None)
def test_counts_are_exact_under_any_schedule(density, distribution, schedule, steps, seed):
    cuts = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LayerCollapseWarning)
        mask = prune(
            chain(),
            "random",
            density=density,
            schedule=schedule,
            steps=steps,
            seed=seed,
            distribution=distribution,
            callback=cuts.append,
        )
    target = round(density * chain().spec.size)
    assert mask.sum() == target
    if distribution == "erk":
        wanted = quotas(erk_densities(chain().spec, target), chain().spec, target)
        assert layer_counts(mask, chain().spec).tolist() == wanted
        assert min(wanted) >= 1


@given(st.lists(st.integers(1, 60), min_size=4, max_size=4), st.sampled_from(SCHEDULES), st.integers(1, 9))
@settings(max_examples=examples(60), deadline=None)
def test_given_densities_are_kept_layer_by_layer(counts, schedule, steps):
    counts = [min(count, size) for count, size in zip(counts, SIZES, strict=True)]
    densities = {
        layer.name: count / layer.size for layer, count in zip(chain().spec.layers, counts, strict=True)
    }
    options = {"density": sum(counts) / chain().spec.size, "schedule": schedule, "steps": steps}
    mask = prune(chain(), "random", densities=densities, **options)
    assert layer_counts(mask, chain().spec).tolist() == counts
    text = ",".join(map(repr, densities.values()))
    for same in (list(densities.values()), np.array([*densities.values()]), text):
        assert np.array_equal(prune(chain(), "random", densities=same, **options), mask)


@given(st.lists(st.floats(0.001, 1), min_size=4, max_size=4), st.floats(-2, 2))
@settings(max_examples=examples(200))
def test_quotas_are_exact_and_near_the_densities(densities, excess):
    exact = [density * size for density, size in zip(densities, SIZES, strict=True)]
    target = round(sum(exact) + excess)
    assume(4 <= target <= sum(SIZES) and abs(sum(exact) - target) <= 2)
    found = quotas(densities, chain().spec, target)
    assert sum(found) == target
    assert all(1 <= count <= size for count, size in zip(found, SIZES, strict=True))
    # A layer that should have less than one weight has one: the others make room for it.
    room = sum(max(0.0, 1 - wanted) for wanted in exact)
    assert all(abs(count - wanted) < 2 + room for count, wanted in zip(found, exact, strict=True))


def test_a_layer_keeps_at_least_one_weight():
    spec = mlp(400, 2, 1)
    assert quotas([0.0099, 0.001], spec, 8) == [7, 1]  # for 7.9 and 0.002
    assert quotas(erk_densities(spec, 2), spec, 2) == [1, 1]


def test_layer_scope_has_its_own_densities():
    mask = prune(chain(), "random", density=0.5, scope="layer", distribution="erk")
    assert (abs(layer_counts(mask, chain().spec) - np.array(SIZES) / 2) <= 1).all()


def test_ranks_are_uniform_within_a_layer():
    """The order in which weights go is uniform: each of 36 first weights to go is as likely as any other."""
    module = sys.modules["ticketsearch.pruners.baselines"]
    rng = np.random.default_rng(0)
    first = [int(module._ranked(*np.ones((2, 12), dtype=bool), 5, rng).argmin()) for _ in range(1200)]
    assert scipy.stats.chisquare(np.bincount(first, minlength=12)).pvalue > 1e-4


# --- refusals


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"distribution": "erd"}, ("distribution 'erd'", "did you mean 'erk'", "uniform")),
        ({"densities": [0.5] * 4, "distribution": "erk"}, ("leave one out", "'erk'")),
        ({"densities": [0.5] * 3}, ("one a layer", "0.weight", "got 3")),
        ({"densities": "0.5,0.5,half,0.5"}, ("(0, 1]", "'half'")),
        ({"densities": 0.5}, ("one a layer", "got 1: 0.5")),
        ({"densities": [0.5, 0.5, 1.5, 0.5]}, ("(0, 1]", "1.5")),
        ({"densities": [0.5, 0.5, 0, 0.5]}, ("(0, 1]", "got 0")),
        ({"densities": {"0.weight": 0.5}}, ("one a layer", "has none")),
        ({"densities": {"0.weigth": 0.5}}, ("layer in densities '0.weigth'", "did you mean")),
        ({"densities": [0.5, 0.5, 0.5, 0.6]}, ("must keep 154 of 309", "but they keep 163.5", "0.529126")),
        ({"target": 3}, ("no option 'target'",)),
    ],
)
def test_densities_that_do_not_fit_are_refused(options, words):
    names = {f"{number}.weight": layer.name for number, layer in enumerate(chain().spec.layers)}
    if isinstance(options.get("densities"), dict):
        options = {"densities": {names.get(k, k): v for k, v in options["densities"].items()}}
    words = tuple(names.get(word, word) for word in words)
    refused(lambda: prune(chain(), "random", density=0.5, **options), *words)


def test_densities_may_be_off_by_half_a_weight_a_layer():
    exact = [40 / 63, 20 / 36, 60 / 120, 30 / 90]  # 150 weights
    for target in (148, 150, 152):
        mask = prune(chain(), "random", density=target / 309, densities=exact)
        assert mask.sum() == target
        assert (abs(layer_counts(mask, chain().spec) - [40, 20, 60, 30]) <= 1).all()
    refused(lambda: prune(chain(), "random", density=153 / 309, densities=exact), "must keep 153")


def test_without_the_loop_layer_densities_need_a_target():
    mask = {layer.name: torch.ones(layer.shape, dtype=torch.bool) for layer in chain().spec.layers}
    rng = np.random.default_rng(0)
    refused(lambda: random(chain(), mask, None, rng=rng, distribution="erk"), "target")
    assert densities_of("1, 0.5,0.25,1", chain().spec) == [1.0, 0.5, 0.25, 1.0]
