"""Pruners: the scores, the loop around them, and what SynFlow's authors and theory say of both."""

import copy
import inspect
import itertools
import math
import random as stdlib_random
import warnings

import numpy as np
import pytest
import torch
from conftest import refused
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ticketsearch import pruners
from ticketsearch.datasets import Dataset
from ticketsearch.masks import layer_counts
from ticketsearch.models import initialize
from ticketsearch.pruners import LayerCollapseWarning, check_density, keep_largest, prune, synflow

SCOPES = ("global", "layer")
SCHEDULES = ("exponential", "linear", "one_shot")
RHOS = (10, 100, 1000, 10000)


def data(features, classes):
    """A dataset for its shapes alone."""
    generator = torch.Generator().manual_seed(0)
    parts = {}
    for part in ("train", "validation", "test"):
        parts[f"x_{part}"] = torch.randn(20, features, generator=generator)
        parts[f"y_{part}"] = torch.arange(20) % classes
    return Dataset(name="shapes", classes=classes, **parts)


def chain(*widths, scheme="kaiming_normal", seed=0, **options):
    hidden = ",".join(map(str, widths[1:-1]))
    return initialize(f"mlp:{hidden}", data(widths[0], widths[-1]), scheme, seed, **options)


class Residual(nn.Module):
    """Blocks of two layers with a skip around them: the neurons of the stem are tied through all sums."""

    def __init__(self, features, classes, width=6, blocks=2, bias=True):
        super().__init__()
        self.stem = nn.Linear(features, width, bias=bias)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Linear(width, 5, bias=bias), nn.ReLU(), nn.Linear(5, width, bias=bias), nn.ReLU()
            )
            for _ in range(blocks)
        )
        self.head = nn.Linear(width, classes, bias=bias)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


class Parallel(nn.Module):
    """Two branches of different depth that meet once, one of them fed by the other's first layer."""

    def __init__(self, features, classes):
        super().__init__()
        self.first = nn.Linear(features, 5)
        self.second = nn.Linear(5, 4)
        self.short = nn.Linear(5, classes)
        self.long = nn.Linear(4, classes)

    def forward(self, x):
        x = torch.relu(self.first(x))
        return self.short(x) + self.long(torch.relu(self.second(x)))


def residual(blocks=2, seed=0, **options):
    def factory(input_shape, classes):
        return Residual(input_shape[0], classes, blocks=blocks, **options)

    return initialize(factory, data(7, 3), seed=seed)


NETWORKS = {
    "chain": lambda seed: chain(7, 9, 6, 4, seed=seed),
    "residual": lambda seed: residual(seed=seed),
    "parallel": lambda seed: initialize(lambda s, c: Parallel(s[0], c), data(7, 3), seed=seed),
}


def masked_by(network, mask):
    return {name: torch.from_numpy(part.copy()) for name, part in network.spec.split(mask).items()}


def flat(network, parts):
    return np.concatenate([np.asarray(parts[layer.name].detach()).ravel() for layer in network.spec.layers])


def scores_of(network, mask=None, **options):
    mask = np.ones(network.spec.size, dtype=bool) if mask is None else mask
    rng = np.random.default_rng(0)
    return flat(network, synflow(network, masked_by(network, mask), None, rng=rng, **options))


def oracle(network, mask=None, *, biases=False):
    """SynFlow's scores as the paper defines them: autograd through the module itself, in float64.

    The flow of a ReLU network with weights |θ| on ones is non-negative, so its ReLUs are the identity.
    """
    mask = np.ones(network.spec.size, dtype=bool) if mask is None else mask
    module = copy.deepcopy(network.module).double()
    kept = masked_by(network, mask)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.abs_()
            if name in kept:
                parameter.mul_(kept[name])
            elif not biases:
                parameter.zero_()
    module(torch.ones(1, *network.input_shape, dtype=torch.float64)).sum().backward()
    scores = {name: p.grad * p for name, p in module.named_parameters() if name in kept}
    return flat(network, scores)


def factor_between(ours, theirs, tolerance):
    """The one factor between two score arrays, which must be a power of two."""
    assert np.array_equal(ours == 0, theirs == 0)
    ratio = ours[theirs != 0] / theirs[theirs != 0]
    factor = 2.0 ** round(math.log2(np.median(ratio)))
    np.testing.assert_allclose(ratio, factor, rtol=tolerance)
    return factor


def recording(score):
    """A score function that keeps the masks it was asked about, and the list they are kept in."""
    seen = []

    def scores(network, mask, batch, *, rng):
        seen.append(flat(network, mask).astype(bool))
        return score(network, mask, batch, rng=rng)

    return scores, seen


def constant(network, mask, batch, *, rng):
    return {name: torch.ones(part.shape) for name, part in mask.items()}


def unmasked_noise(network, mask, batch, *, rng):
    """Scores that do not know what was pruned before."""
    return {name: torch.from_numpy(rng.random(part.shape)) for name, part in mask.items()}


# --- SynFlow against its authors


@pytest.fixture(scope="module", params=["fc_nobias_seed0", "fc_seed0"])
def reference(request, shared):
    """The reference values of one file: network with the authors' weights, values, whether biases flow."""
    path = shared / "reference/synflow" / f"{request.param}.npz"
    if not path.is_file():
        pytest.skip(f"no {path.name} here")
    with np.load(path) as file:
        values = dict(file)
    biases = "param/1.bias" in values

    def fc(input_shape, classes):
        layers = (nn.Linear(784, 300, bias=biases), nn.Linear(300, 100, bias=biases))
        last = nn.Linear(100, classes, bias=biases)
        module = nn.Sequential(nn.Flatten(), layers[0], nn.ReLU(), layers[1], nn.ReLU(), last)
        given = {k.removeprefix("param/"): torch.from_numpy(v) for k, v in values.items() if "param/" in k}
        module.load_state_dict(given)
        return module

    return initialize(fc, data(784, 10), "as_built"), values, biases


def of_authors(network, values, prefix):
    return np.concatenate([values[f"{prefix}/{layer.name}"].ravel() for layer in network.spec.layers])


def test_first_scores_are_those_of_the_authors_but_for_a_power_of_two(reference):
    network, values, biases = reference
    factor_between(scores_of(network, biases=biases), of_authors(network, values, "score1"), 1e-5)


@pytest.mark.parametrize("rho", RHOS)
def test_masks_are_those_of_the_authors_but_for_explained_bits(reference, rho):
    network, values, biases = reference
    theirs = of_authors(network, values, f"mask/rho{rho}").astype(bool)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ours = prune(network, "synflow", density=1 / rho, biases=biases)
    collapsed = any(issubclass(w.category, LayerCollapseWarning) for w in caught)
    assert collapsed == (biases and rho == 10000)
    assert ours.sum() == round(network.spec.size / rho)
    different = np.flatnonzero(ours != theirs)
    assert len(different) <= 4
    unexplained = set(different.tolist())
    if theirs.sum() > ours.sum():  # their last count: N - floor((1 - 1/rho) N)
        assert theirs.sum() == ours.sum() + 1
        last = of_authors(network, values, f"scorelast/rho{rho}")
        kept = np.flatnonzero(theirs)
        unexplained.discard(int(kept[np.argmin(last[kept])]))
    if unexplained:
        assert rounding_alone_separates_us(network, theirs, 1 / rho, biases)


def rounding_alone_separates_us(network, theirs, density, biases):
    """Replay the authors' float32 loop; whether at each of its steps ours would differ by rounding alone.

    A bit that rounding swaps at one step changes the scores of its neighbours by up to 1 % at the next, so
    the final bits alone can't tell: each step is compared from the authors' own state.
    """
    for before, after in float32_steps(network, density, biases):
        scores = scores_of(network, before, biases=biases)
        ours = keep_largest(scores, before, int(after.sum()))
        threshold = scores[ours].min()
        assert (abs(scores[ours != after] / threshold - 1) < 1e-5).all()
    return np.count_nonzero(after != theirs) <= 1  # 0 on the CPU of the reference values


def float32_steps(network, density, biases):
    """The authors' loop in float32: masks before and after each of 100 steps, as they cut (score <= kth)."""
    signs = network.parameters()
    names = [layer.name for layer in network.spec.layers]
    kept = np.ones(network.spec.size, dtype=bool)
    for step in range(1, 101):
        masks = masked_by(network, kept)
        value = torch.ones(1, 784)
        weights = [signs[name].abs().requires_grad_() for name in names]
        for name, weight in zip(names, weights, strict=True):
            bias = signs[name.replace("weight", "bias")].abs() if biases else None
            value = nn.functional.linear(value, weight * masks[name], bias)
        value.sum().backward()
        scores = torch.cat([(w.grad * w).detach().flatten() for w in weights])
        cut = int((1 - density ** (step / 100)) * len(scores))
        before, kept = kept, (scores > torch.kthvalue(scores, cut)[0]).numpy()
        yield before, kept


# --- SynFlow against its definition


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("biases", [False, True])
def test_scores_are_the_gradients_of_the_definition(kind, biases):
    for seed in range(3):
        network = NETWORKS[kind](seed)
        with torch.no_grad():
            for name, parameter in network.module.named_parameters():
                if name.endswith("bias"):
                    parameter.uniform_(-1, 1, generator=torch.Generator().manual_seed(seed))
        mask = np.random.default_rng(seed).random(network.spec.size) < 0.6
        for kept in (None, mask):
            factor_between(
                scores_of(network, kept, biases=biases), oracle(network, kept, biases=biases), 1e-12
            )


def test_biases_take_no_part_in_the_flow_unless_asked():
    network = residual()
    before = scores_of(network)
    with torch.no_grad():
        network.module.stem.bias.fill_(3.0)
    assert np.array_equal(scores_of(network), before)
    assert not np.array_equal(scores_of(network, biases=True), before)


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "gelu", "leaky_relu"])
def test_activations_are_the_identity_in_the_flow(activation):
    plain = scores_of(chain(7, 9, 6, 4, activation="identity"))
    assert np.array_equal(scores_of(chain(7, 9, 6, 4, activation=activation)), plain)


@pytest.mark.parametrize("kind", NETWORKS)
def test_every_step_cuts_the_smallest_scores_to_the_authors_count(kind):
    network, density, steps = NETWORKS[kind](1), 0.15, 20
    score, seen = recording(synflow)
    final = prune(network, score, density=density, steps=steps)
    assert len(seen) == steps
    size = network.spec.size
    for step, (before, after) in enumerate(zip(seen, [*seen[1:], final], strict=True), start=1):
        count = size - math.floor((1 - density ** (step / steps)) * size)
        assert after.sum() == (count if step < steps else round(density * size))
        truth = oracle(network, before)
        cut = before & ~after
        assert not (after & ~before).any()
        # Weights in series have equal scores but for rounding, so equality to the last bits is a tie.
        assert not cut.any() or truth[cut].max() <= truth[after].min() * (1 + 1e-12)


@given(st.integers(0, 2**32 - 1), st.floats(0.2, 1))
@settings(max_examples=40, deadline=None)
def test_synaptic_flow_is_conserved_in_chains(seed, share):
    network = chain(6, 8, 5, 7, 3, seed=seed % 1000)
    mask = np.random.default_rng(seed).random(network.spec.size) < share
    parts = network.spec.split(scores_of(network, mask))
    layers = list(parts.values())
    np.testing.assert_allclose([layer.sum() for layer in layers], layers[0].sum(), rtol=1e-9)
    for into, out in itertools.pairwise(layers):  # and through every hidden unit
        np.testing.assert_allclose(into.sum(axis=1), out.sum(axis=0), rtol=1e-9, atol=1e-15)


def test_biases_in_the_flow_break_its_conservation():
    network = chain(6, 8, 5, 3, seed=1)
    with torch.no_grad():
        network.module.get_parameter("1.bias").fill_(1.0)
    sums = [part.sum() for part in network.spec.split(scores_of(network, biases=True)).values()]
    assert sums[1] > 1.01 * sums[0]


@pytest.mark.parametrize("scheme", ["kaiming_normal", "xavier_uniform", "orthogonal"])
@pytest.mark.parametrize("widths", [(7, 5, 3), (20, 30, 30, 30, 4), (64, 100, 50, 10)])
def test_a_hundred_steps_to_the_lowest_density_leave_one_weight_in_each_layer(widths, scheme):
    for seed in range(3 if len(widths) < 5 else 2):
        network = chain(*widths, scheme=scheme, seed=seed)
        layers = len(widths) - 1
        mask = prune(network, "synflow", density=layers / network.spec.size)
        assert layer_counts(mask, network.spec).tolist() == [1] * layers


def test_magnitude_in_one_shot_collapses_a_layer_and_warns():
    network = chain(200, 100, 20, 5)
    density = 10 / network.spec.size
    with pytest.warns(LayerCollapseWarning, match=r"magnitude at density .* in 1\.weight, 3\.weight: layer"):
        mask = prune(network, "magnitude", density=density, schedule="one_shot")
    assert layer_counts(mask, network.spec).tolist() == [0, 0, 10]


@pytest.mark.parametrize("scale", [1e30, 1e-30])
def test_the_flow_of_three_hundred_layers_neither_overflows_nor_vanishes(scale):
    network = chain(4, *[4] * 299, 3)
    unscaled = scores_of(network)
    with torch.no_grad():
        for layer in network.spec.layers:
            network.module.get_parameter(layer.name).mul_(scale)
    scores = scores_of(network)
    assert np.isfinite(scores).all()
    assert (scores > 0).all()
    np.testing.assert_allclose(scores / scores.max(), unscaled / unscaled.max(), rtol=1e-4)  # float32 weights
    sums = [part.sum() for part in network.spec.split(scores).values()]
    np.testing.assert_allclose(sums, sums[0], rtol=1e-9)
    mask = prune(network, "synflow", density=0.3, steps=5)
    assert layer_counts(mask, network.spec).min() >= 1


@pytest.mark.parametrize("exponent", [60, -60])
def test_where_branches_meet_deep_flows_stay_finite_and_in_proportion(exponent):
    network = residual(blocks=60)
    with torch.no_grad():
        for layer in network.spec.layers:
            network.module.get_parameter(layer.name).mul_(2.0**exponent)
    with np.errstate(over="ignore"), warnings.catch_warnings():
        truth = oracle_in_logarithms(network)
    ours = scores_of(network)
    assert np.isfinite(ours).all()
    top = truth.max()
    visible = truth > top - 900  # what lies further below the largest score is zero in float64
    assert visible.sum() >= 20
    difference = np.log2(ours[visible]) - truth[visible]
    np.testing.assert_allclose(difference, difference[0], atol=1e-9)
    assert difference[0] == pytest.approx(round(difference[0]), abs=1e-9)


def oracle_in_logarithms(network):
    """log2 of the scores of a Residual, by sums of logarithms: no product that could overflow."""
    module = network.module
    logs = {
        layer.name: np.log2(module.get_parameter(layer.name).detach().double().abs().numpy())
        for layer in network.spec.layers
    }

    def through(name, flow):
        return np.logaddexp2.reduce(logs[name] + flow, axis=1)

    def back(name, flow):
        return np.logaddexp2.reduce(logs[name] + flow[:, None], axis=0)

    blocks = len(module.blocks)
    sources = {"stem.weight": np.zeros(network.input_shape[0])}
    flow = through("stem.weight", sources["stem.weight"])
    for i in range(blocks):
        sources[f"blocks.{i}.0.weight"] = flow
        inner = sources[f"blocks.{i}.2.weight"] = through(f"blocks.{i}.0.weight", flow)
        flow = np.logaddexp2(flow, through(f"blocks.{i}.2.weight", inner))
    sources["head.weight"] = flow
    targets = {"head.weight": np.zeros(network.classes)}
    out = back("head.weight", targets["head.weight"])
    for i in reversed(range(blocks)):
        targets[f"blocks.{i}.2.weight"] = out
        inner = targets[f"blocks.{i}.0.weight"] = back(f"blocks.{i}.2.weight", out)
        out = np.logaddexp2(out, back(f"blocks.{i}.0.weight", inner))
    targets["stem.weight"] = out
    names = [layer.name for layer in network.spec.layers]
    return np.concatenate([(targets[n][:, None] + logs[n] + sources[n]).ravel() for n in names])


@given(st.lists(st.integers(-40, 40), min_size=3, max_size=3), st.integers(0, 20))
@settings(max_examples=15, deadline=None)
def test_a_gain_of_each_layer_changes_nothing_in_a_chain(exponents, seed):
    network, scaled = chain(7, 9, 6, 4, seed=seed), chain(7, 9, 6, 4, seed=seed)
    with torch.no_grad():
        for layer, exponent in zip(scaled.spec.layers, exponents, strict=True):
            scaled.module.get_parameter(layer.name).mul_(2.0**exponent)
    masks = [prune(n, "synflow", density=0.1, steps=30) for n in (network, scaled)]
    assert np.array_equal(*masks)


# --- the loop


@given(
    st.floats(0.05, 1),
    st.sampled_from(SCOPES),
    st.sampled_from(SCHEDULES),
    st.integers(1, 30),
    st.sampled_from(pruners.__all__),
)
@settings(max_examples=80, deadline=None)
def test_the_count_is_exact(density, scope, schedule, steps, method):
    network = CHAIN
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LayerCollapseWarning)
        mask = prune(network, method, density=density, scope=scope, schedule=schedule, steps=steps)
    assert mask.sum() == round(density * network.spec.size)
    if scope == "layer":
        counts = layer_counts(mask, network.spec)
        assert counts.min() >= 1
        assert (abs(counts - density * np.array([layer.size for layer in network.spec.layers])) < 2).all()


CHAIN = chain(7, 5, 4, 3)


@given(st.floats(0.05, 1), st.sampled_from(SCOPES), st.sampled_from(SCHEDULES), st.integers(1, 100))
@settings(max_examples=150, deadline=None)
def test_what_a_step_prunes_never_comes_back(density, scope, schedule, steps):
    score, seen = recording(unmasked_noise)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LayerCollapseWarning)
        final = prune(CHAIN, score, density=density, scope=scope, schedule=schedule, steps=steps)
    assert seen[0].all()
    assert len(seen) == (1 if schedule == "one_shot" else steps)
    for before, after in zip(seen, [*seen[1:], final], strict=True):
        assert not (after & ~before).any()


@pytest.mark.parametrize(
    ("schedule", "fraction"),
    [("exponential", lambda d, k: d ** (k / 10)), ("linear", lambda d, k: 1 - (1 - d) * k / 10)],
)
def test_a_schedule_keeps_its_fraction_after_each_step(schedule, fraction):
    score, seen = recording(unmasked_noise)
    prune(CHAIN, score, density=0.2, schedule=schedule, steps=10)
    size = CHAIN.spec.size
    wanted = [size - math.floor((1 - fraction(0.2, k)) * size) for k in range(10)]
    assert [int(mask.sum()) for mask in seen] == wanted


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_ties_go_to_the_smaller_index(schedule):
    size = CHAIN.spec.size
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LayerCollapseWarning)
        mask = prune(CHAIN, constant, density=0.5, schedule=schedule)
    assert np.array_equal(mask, np.arange(size) < round(0.5 * size))
    mask = prune(CHAIN, constant, density=0.5, scope="layer", schedule=schedule)
    for layer in CHAIN.spec.layers:
        part = mask[layer.slice]
        assert np.array_equal(part, np.arange(layer.size) < part.sum())


@given(
    st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0]), min_size=1, max_size=30),
    st.integers(0, 2**30 - 1),
    st.integers(0, 31),
)
def test_keep_largest_is_a_stable_sort_cut_short(values, bits, count):
    kept = np.array([bits >> i & 1 for i in range(len(values))], dtype=bool)
    order = sorted(np.flatnonzero(kept), key=lambda i: -values[i])
    wanted = np.zeros(len(values), dtype=bool)
    wanted[order[:count]] = True
    assert np.array_equal(keep_largest(np.array(values), kept, count), wanted)


def test_density_one_keeps_everything():
    for scope in SCOPES:
        assert prune(CHAIN, "synflow", density=1, scope=scope, steps=3).all()


def test_a_score_function_that_writes_to_its_mask_changes_nothing():
    def careless(network, mask, batch, *, rng):
        scores = unmasked_noise(network, mask, batch, rng=rng)
        for part in mask.values():
            part.zero_()
        return scores

    assert np.array_equal(
        prune(CHAIN, careless, density=0.3, steps=5), prune(CHAIN, unmasked_noise, density=0.3, steps=5)
    )


# --- what is refused


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_scores_that_are_not_finite_are_refused_naming_the_tensor(bad):
    def broken(network, mask, batch, *, rng):
        scores = constant(network, mask, batch, rng=rng)
        scores["3.weight"][1, 2] = bad
        return scores

    refused(lambda: prune(CHAIN, broken, density=0.5), "finite", "broken", "1 ", "3.weight")


def test_scores_of_a_wrong_shape_or_a_missing_layer_are_refused_naming_it():
    def transposed(network, mask, batch, *, rng):
        return {**constant(network, mask, batch, rng=rng), "3.weight": torch.ones(5, 4)}

    def forgetful(network, mask, batch, *, rng):
        return {"1.weight": torch.ones(5, 7), "3.weight": torch.ones(4, 5)}

    refused(lambda: prune(CHAIN, transposed, density=0.5), "transposed", "3.weight", "(4, 5)", "(5, 4)")
    refused(lambda: prune(CHAIN, forgetful, density=0.5), "forgetful", "5.weight", "nothing")


def test_scores_that_are_no_tensors_are_refused():
    def arrays(network, mask, batch, *, rng):
        return {name: part.numpy() * 1.0 for name, part in mask.items()}

    def forgets_to_return(network, mask, batch, *, rng):
        constant(network, mask, batch, rng=rng)

    refused(lambda: prune(CHAIN, arrays, density=0.5), "arrays", "1.weight", "ndarray")
    refused(lambda: prune(CHAIN, forgets_to_return, density=0.5), "forgets_to_return", "NoneType")


@pytest.mark.parametrize("density", [0, -0.1, 1.0001, float("nan"), float("inf")])
def test_a_density_outside_its_range_is_refused(density):
    refused(lambda: prune(CHAIN, "synflow", density=density), "(0, 1]", f"{density:g}")


def test_a_density_too_low_for_one_weight_a_layer_is_refused_with_the_lowest():
    assert check_density(3 / CHAIN.spec.size, CHAIN.spec) == 3
    refused(lambda: prune(CHAIN, "synflow", density=2 / CHAIN.spec.size), "3 layers", "0.0448")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"scope": "globl"}, ("scope 'globl'", "did you mean 'global'", "layer")),
        ({"schedule": "exponental"}, ("schedule 'exponental'", "did you mean 'exponential'", "one_shot")),
        ({"steps": 0}, ("at least 1 step", "steps=0")),
        ({"steps": -3}, ("steps=-3",)),
        ({"bias": True}, ("'synflow' has no option 'bias'", "did you mean 'biases'")),
        ({"dataset": data(7, 3), "batch": 0}, ("batch=0",)),
    ],
)
def test_a_bad_argument_is_refused(arguments, words):
    refused(lambda: prune(CHAIN, "synflow", density=0.5, **arguments), *words)


def test_an_unknown_method_is_refused_with_the_nearest():
    refused(
        lambda: prune(CHAIN, "synflo", density=0.5), "pruner 'synflo'", "did you mean 'synflow'", "magnitude"
    )


def test_an_option_of_another_pruner_is_refused():
    refused(lambda: prune(CHAIN, "magnitude", density=0.5, biases=True), "'magnitude' has no option 'biases'")


# --- pruners of one's own

FILE = """
import torch

def by_index(network, mask, batch, *, rng, descending=False):
    sign = -1.0 if descending else 1.0
    return {k: sign * torch.arange(v.numel(), dtype=torch.float32).reshape(v.shape) for k, v in mask.items()}
"""


def test_a_score_function_of_a_file_is_used_by_name_with_its_options(tmp_path):
    (tmp_path / "mine.py").write_text(FILE)
    name = f"{tmp_path / 'mine.py'}:by_index"
    mask = prune(CHAIN, name, density=0.5, scope="layer", schedule="one_shot")
    other = prune(CHAIN, name, density=0.5, scope="layer", schedule="one_shot", descending=True)
    for layer in CHAIN.spec.layers:
        count = mask[layer.slice].sum()
        assert np.array_equal(mask[layer.slice], np.arange(layer.size) >= layer.size - count)
        assert np.array_equal(other[layer.slice], np.arange(layer.size) < count)
    refused(lambda: prune(CHAIN, name, density=0.5, ascending=True), "'ascending'", "descending")


def test_a_callable_is_given_its_options_and_an_rng_of_the_seed():
    def noise(network, mask, batch, *, rng, power=1):
        return {name: torch.from_numpy(rng.random(part.shape)) ** power for name, part in mask.items()}

    def mask(**arguments):
        return prune(CHAIN, noise, density=0.3, schedule="one_shot", **arguments)

    assert np.array_equal(mask(seed=1), mask(seed=1))
    assert not np.array_equal(mask(seed=1), mask(seed=2))
    assert np.array_equal(mask(seed=1, power=3), mask(seed=1))  # monotone: the same order
    assert not (mask(seed=1, power=-1) & mask(seed=1)).any()  # the other end of it
    refused(lambda: mask(powr=2), "'noise' has no option 'powr'", "did you mean 'power'")


def test_a_pruner_that_uses_data_gets_a_batch_of_the_training_part(tiny):
    batches = []

    def score(network, mask, batch, *, rng):
        batches.append(batch)
        return constant(network, mask, batch, rng=rng)

    network = initialize("mlp:5,4", tiny)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LayerCollapseWarning)
        prune(network, score, density=0.5, dataset=tiny, steps=3, batch=8, seed=1)
        prune(network, score, density=0.5, dataset=tiny, steps=1, batch=8, seed=2)
        prune(network, score, density=0.5, dataset=tiny, steps=1, batch=10_000)
        prune(network, score, density=0.5, steps=1)
    pairs = {(*x.tolist(), y) for x, y in zip(tiny.x_train, tiny.y_train.tolist(), strict=True)}
    for x, y in batches[:-1]:
        drawn = {(*row.tolist(), label) for row, label in zip(x, y.tolist(), strict=True)}
        assert len(drawn) == len(y)
        assert drawn <= pairs
    assert [len(y) for _, y in batches[:-1]] == [8, 8, 8, 8, 61]
    assert torch.equal(batches[0][0], batches[2][0])  # one batch for all steps
    assert not torch.equal(batches[0][0], batches[3][0])  # another for another seed
    assert batches[-1] is None


# --- the contract of every listed pruner


@pytest.mark.parametrize("name", pruners.__all__)
@pytest.mark.parametrize("kind", NETWORKS)
class TestContract:
    def test_leaves_network_and_global_randomness_as_they_were(self, name, kind):
        network = NETWORKS[kind](0)
        before = {k: v.clone() for k, v in network.module.state_dict().items()}
        random_states = torch.get_rng_state(), np.random.get_state()[1].copy(), stdlib_random.getstate()  # noqa: NPY002
        prune(network, name, density=0.4, dataset=data(7, 3), steps=5)
        after = network.module.state_dict()
        assert list(after) == list(before)
        for key, value in before.items():
            assert after[key].numpy().tobytes() == value.numpy().tobytes()
        assert all(p.grad is None and p.requires_grad for p in network.module.parameters())
        assert torch.equal(random_states[0], torch.get_rng_state())
        assert np.array_equal(random_states[1], np.random.get_state()[1])  # noqa: NPY002
        assert random_states[2] == stdlib_random.getstate()

    def test_returns_a_read_only_bool_mask_that_the_seed_determines(self, name, kind):
        network = NETWORKS[kind](0)
        masks = [prune(network, name, density=0.4, dataset=data(7, 3), seed=s, steps=5) for s in (3, 3)]
        assert masks[0].shape == (network.spec.size,)
        assert masks[0].dtype == np.bool_
        assert not masks[0].flags.writeable
        assert masks[0].sum() == round(0.4 * network.spec.size)
        assert np.array_equal(*masks)

    def test_scores_are_finite_and_zero_where_pruned(self, name, kind):
        network = NETWORKS[kind](0)
        mask = np.random.default_rng(0).random(network.spec.size) < 0.5
        score = getattr(pruners, name)
        scores = score(network, masked_by(network, mask), None, rng=np.random.default_rng(0))
        assert {k: tuple(v.shape) for k, v in scores.items()} == {
            layer.name: layer.shape for layer in network.spec.layers
        }
        values = flat(network, scores)
        assert np.isfinite(values).all()
        assert (values[~mask] == 0).all()
        assert (values[mask] > 0).any()

    def test_has_a_docstring_and_the_signature_of_a_score_function(self, name, kind):
        score = getattr(pruners, name)
        parameters = list(inspect.signature(score).parameters.values())
        assert [p.name for p in parameters[:4]] == ["network", "mask", "batch", "rng"]
        assert all(p.kind is p.KEYWORD_ONLY for p in parameters[3:])
        assert score.__doc__


def test_random_scores_choose_uniformly():
    chosen = sum(
        prune(CHAIN, "random", density=0.5, schedule="one_shot", seed=seed).astype(int) for seed in range(400)
    )
    assert abs(chosen / 400 - 0.5).max() < 0.12  # 4.8 standard deviations


def test_magnitude_keeps_the_largest_weights():
    size = CHAIN.spec.size
    weights = np.concatenate([CHAIN.parameters()[layer.name].abs().flatten() for layer in CHAIN.spec.layers])
    mask = prune(CHAIN, "magnitude", density=0.4)
    assert weights[mask].min() > weights[~mask].max()
    assert mask.sum() == round(0.4 * size)
