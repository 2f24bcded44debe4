"""The native engine: what it computes is what torch does, and when it is chosen."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import every
from loops import Parts, Stream, Summed, images, masks_for, matters, normalised_away, recipes, tensors_of
from torch import nn

from ticketsearch.datasets import from_arrays
from ticketsearch.fitness.named import short_training
from ticketsearch.masks import live
from ticketsearch.models import initialize
from ticketsearch.training import (
    SALIENCIES,
    Cohort,
    Recipe,
    Training,
    compaction_notes,
    data_order,
    evaluate,
    layout,
)
from ticketsearch.training.layout import engine_for
from ticketsearch.training.native import Native
from ticketsearch.training.single import Single
from ticketsearch.training.stacked import Stack

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
STEPS = 6
RECIPES = recipes(STEPS, 13)


class Mapped(nn.Module):
    """The samples are read as they are, mapped, and dropped from."""

    def __init__(self, features, classes):
        super().__init__()
        self.plain, self.mapped = nn.Linear(features, 6), nn.Linear(features, 6)
        self.dropped, self.drop = nn.Linear(features, 6, bias=False), nn.Dropout(0.2)
        self.head = nn.Linear(6, classes)

    def forward(self, x):
        x = self.plain(x) + self.mapped(torch.sin(x)) + self.dropped(self.drop(x))
        return self.head(torch.relu(x))


class Gated(nn.Module):
    """Products, maxima and minima of two layers, a selection of units, and normalisations of both kinds."""

    def __init__(self, features, classes):
        super().__init__()
        self.a, self.b = nn.Linear(features, 8), nn.Linear(features, 8)
        self.batch, self.layer = nn.BatchNorm1d(8), nn.LayerNorm(8)
        self.c, self.d = nn.Linear(8, 8), nn.Linear(8, 8)
        self.head = nn.Linear(12, classes)

    def forward(self, x):
        x, y = self.batch(self.a(x)), torch.tanh(self.b(x))
        z = self.layer(torch.maximum(x, y) * y - 0.5 * torch.minimum(x, y))
        z, w = self.c(z), F.silu(self.d(z) + 1) * 2
        return self.head(torch.cat([z[:, 2:6], w], dim=1))


def mlp(scheme="kaiming_normal", **options):
    return lambda data, seed: initialize("mlp", data, scheme, seed, hidden="12,9", **options)


def built(module):
    return lambda data, seed: initialize(lambda s, c: module(*s, c), data, "as_built", seed)


CASES = {
    "mlp": mlp(),
    "biases": mlp("as_built"),
    "sigmoid": mlp(activation="sigmoid"),
    "no biases": mlp(bias=False),
    "no biases, tanh": mlp(bias=False, activation="tanh"),
    "sum": built(Summed),
    "residual": built(Stream),
    "concatenation, dropout": built(Parts),
    "samples mapped": built(Mapped),
    "products, normalisations": built(Gated),
    "residual, batch normalisation": built(lambda features, classes: Stream(features, classes, True)),
}
cases = pytest.mark.parametrize("case", CASES)


def unusual(net):
    """Return masks that keep most, half, little, nothing, all, and all but a layer, the first or the last."""
    first, *_, last = net.spec.layers
    masks = np.concatenate([masks_for(net, 1, 0, density) for density in (0.8, 0.3, 0.15, 0, 1, 0.6, 0.6)])
    masks[5, first.slice] = False
    masks[6, last.slice] = False
    return masks


class Company:
    """Masks of one architecture, with what they begin from and learn from; ``shared`` by all of them."""

    def __init__(self, case, data, recipe, shared=True, dtype=torch.float64):
        copies = 1 if shared else 7
        self.nets = [CASES[case](data, seed) for seed in range(copies)]
        self.net, self.data, self.recipe, self.dtype = self.nets[0], data, recipe, dtype
        self.masks = unusual(self.net)
        self.orders = [data_order(len(data.y_train), recipe, [seed]) for seed in range(copies)]

    def training(self, numbers=None, engine=None):
        """Return the training of the masks of these numbers, by default of all; not begun."""
        numbers = np.arange(len(self.masks)) if numbers is None else numbers
        own = [0] if len(self.nets) == 1 else numbers
        initial = [tensors_of(self.nets[number]) for number in own]
        options = {"device": CPU, "dtype": self.dtype, "engine": engine}
        cohort = Cohort(self.net.wiring, self.masks[numbers], initial, **options)
        return Training(cohort, self.data, self.recipe, [self.orders[number] for number in own])

    def by_torch(self):
        """Return the training of all by torch, of exactly what lives of the networks."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(layout, "OVERHEAD", 1.0)
            patch.setattr(layout, "NARROWEST", 1)
            return self.training(engine="stacked" if self.net.wiring.dense else "single")


def engines(training):
    return {type(part) for part in training.cohort.parts}


def results(training, data):
    """Return what training has made of each network: ``{name: (P, ...)}``."""
    found = evaluate(training.cohort, data.x_validation, data.y_validation)
    return training.cohort.parameters() | {"loss": torch.from_numpy(found.loss)}


def same(found, wanted, numbers):
    """Check that all has to the bit what networks of these numbers have in another company."""
    for name, own in found.items():
        assert torch.equal(own, wanted[name][numbers]), name


# --- the same training


SHARED = {"sgd": True, "momentum": False, "nesterov": True, "adam": True, "adamw": False}


@pytest.mark.parametrize(
    ("case", "optimizer", "shared"),
    every(
        [(case, *setting) for case in CASES for setting in SHARED.items()],
        default=lambda member: member[0] == "mlp" or member[1] == "momentum",
    ),
)
def test_it_trains_as_torch_does(case, shared, optimizer, tiny):
    """In float64, where a network's weights can matter; initializations and data orders shared or own."""
    company = Company(case, tiny, RECIPES[optimizer], shared)
    trainings = company.training(), company.by_torch()
    assert [engines(training) for training in trainings] == [
        {Native},
        {Stack if company.net.wiring.dense else Single},
    ]
    for training in trainings:
        training.advance(STEPS)
    ours, theirs = (results(training, tiny) for training in trainings)
    assert set(ours) == set(theirs)
    nets = company.nets * (len(company.masks) if shared else 1)
    each = [matters(*own) for own in zip(nets, company.masks, strict=True)]
    adaptive = optimizer.startswith("adam")
    skipped = normalised_away(company.net.wiring) if adaptive else set()
    for name, own in ours.items():
        if name in skipped:
            continue
        where = ... if name == "loss" else torch.stack([matter[name] for matter in each])
        torch.testing.assert_close(own[where], theirs[name][where], rtol=0, atol=1e-12, msg=name)
    assert (
        len(set(ours["loss"].tolist())) >= len(company.masks) - 2
    )  # all but those through which nothing goes


@pytest.mark.parametrize(
    ("case", "saliency"),
    every(
        list(itertools.product(CASES, SALIENCIES)),
        default=lambda member: member[0] == "mlp" or member[1] == SALIENCIES[0],
    ),
)
def test_its_guidance_is_that_of_torch(case, saliency, tiny):
    company = Company(case, tiny, RECIPES["momentum"], shared=False)
    found = []
    for training in (company.training(), company.by_torch()):
        training.advance(STEPS)
        # So large a share that all are candidates that can be.
        found.append(training.guidance(1e3, saliency))
    grown = 0
    for mask, net, *each in zip(company.masks, company.nets, *found, strict=True):
        ours, theirs = ({"saliency": np.zeros(len(mask)), "growth": np.zeros(len(mask))} for _ in each)
        for own, guidance in zip((ours, theirs), each, strict=True):
            own["saliency"][mask], own["growth"][guidance.candidates] = guidance.saliency, guidance.growth
        alive = live(mask, net.spec)
        np.testing.assert_allclose(ours["saliency"][alive], theirs["saliency"][alive], rtol=1e-6, atol=1e-12)
        np.testing.assert_allclose(ours["growth"], theirs["growth"], rtol=1e-6, atol=1e-12)
        grown += np.count_nonzero(ours["growth"] > 1e-6)
    assert grown > 50


@pytest.mark.parametrize(
    ("optimizer", "shared"), every([("momentum", False), ("adamw", True)], default=[("adamw", True)])
)
@cases
def test_a_network_alone_and_one_that_goes_on_from_a_rung_have_the_same_bits(case, shared, optimizer, tiny):
    """Also one with nothing to train, neither weights nor biases."""
    company = Company(case, tiny, RECIPES[optimizer], shared, torch.float32)
    straight = company.training()
    straight.advance(4)
    rung = straight.states()
    straight.advance(STEPS)
    wanted, ends = results(straight, tiny), straight.states()
    for numbers in (*([number] for number in range(len(company.masks))), [6, 2, 5, 2]):
        alone, on = company.training(numbers), company.training(numbers)
        alone.advance(STEPS)
        on.restore([rung[number] for number in numbers], 4)
        on.advance(STEPS)
        for training in (alone, on):
            same(results(training, tiny), wanted, numbers)
            for number, state in zip(numbers, training.states(), strict=True):
                assert all(np.array_equal(ends[number][name], own) for name, own in state.items())
    # No more is kept than live weights and biases, and what the optimizer has beside each.
    biases = sum(own.numel() for own in tensors_of(company.net).values() if own.ndim == 1)
    for mask, state in zip(company.masks, ends, strict=True):
        slots = {"momentum": 2, "adamw": 3}[optimizer]
        assert sum(own.size for own in state.values() if own.ndim) <= slots * (mask.sum() + biases)


def test_weights_that_cannot_matter_are_left_as_they_were(tiny):
    company = Company("mlp", tiny, RECIPES["adamw"], dtype=torch.float32)
    training = company.training()
    training.advance(STEPS)
    begun = company.net.parameters()
    trained = training.cohort.parameters()
    for number, mask in enumerate(company.masks):
        alive = company.net.spec.split(live(mask, company.net.spec))
        for name, kept in company.net.spec.split(mask).items():
            own = trained[name][number].numpy()
            assert not own[~kept].any()
            assert np.array_equal(own[kept & ~alive[name]], begun[name].numpy()[kept & ~alive[name]])
            assert (own != begun[name].numpy())[alive[name]].all()


# --- maps

# Of numbers that float32 has: torch computes the slope of CELU by alpha in float32, whatever the type.
MODULES = [
    *(nn.ReLU(), nn.ReLU6(), nn.Hardtanh(-0.5, 0.7), nn.LeakyReLU(0.2), nn.Tanh(), nn.Sigmoid(), nn.SiLU()),
    *(nn.GELU(), nn.GELU("tanh"), nn.ELU(0.7), nn.CELU(0.5), nn.Softplus(2.0, 3.0), nn.Identity()),
]
FUNCTIONS = {
    **{own.__name__: own for own in (F.relu, F.hardtanh, F.elu, F.gelu, F.relu6, F.silu, torch.sigmoid)},
    **{own.__name__: own for own in (torch.abs, torch.square, torch.sin, torch.cos, torch.exp)},
    "leaky": lambda x: F.leaky_relu(x, 0.3),
    "leaky by name": lambda x: F.leaky_relu(x, negative_slope=0.3),
    "hardtanh by name": lambda x: F.hardtanh(x, max_val=0.4),
    "clamp": lambda x: x.clamp(min=-0.3),
    "clamp both": lambda x: torch.clamp(x, -0.3, 0.4),
    "celu": lambda x: F.celu(x, 0.5),
    "gelu tanh": lambda x: F.gelu(x, approximate="tanh"),
    "softplus": lambda x: F.softplus(x, 2),
    "negative": lambda x: -x,
    "sum": lambda x: 0.5 + x,
    "difference": lambda x: 0.5 - x,
    "less": lambda x: x - 0.5,
    "multiple": lambda x: x * 3,
    "half": lambda x: x / 2,
}
MAPS = {**{repr(module): module for module in MODULES}, **FUNCTIONS}


class OneMap(nn.Module):
    def __init__(self, features, classes, function):
        super().__init__()
        self.function, self.body, self.head = function, nn.Linear(features, 9), nn.Linear(9, classes)

    def forward(self, x):
        return self.head(self.function(self.body(x)))


@pytest.mark.parametrize("name", MAPS)
def test_every_map_is_that_of_torch(name, tiny):
    """Values and slopes, on wide inputs, in float64; and the same losses in float32."""
    net = initialize(lambda s, c: OneMap(*s, c, MAPS[name]), tiny, "as_built", 3)
    initial = {key: tensor * 3 for key, tensor in net.parameters().items()}
    masks = masks_for(net, 2, density=0.8)
    recipe = Recipe(5, 13, lr=0.01)
    orders = [data_order(61, recipe, [0])]
    found = []
    for dtype in (torch.float64, torch.float32):
        for engine in ("native", "stacked"):
            cohort = Cohort(net.wiring, masks, [initial], device=CPU, dtype=dtype, engine=engine)
            Training(cohort, tiny, recipe, orders).advance(5)
            found.append(cohort.parameters())
    exact, by_torch, single, _ = found
    for key, own in exact.items():
        torch.testing.assert_close(own, by_torch[key], rtol=0, atol=1e-12, msg=key)
        torch.testing.assert_close(single[key].double(), own, rtol=0, atol=1e-4, msg=key)


@pytest.mark.parametrize("function", [F.mish, lambda x: x**3, lambda x: 1 / (x + 9), F.logsigmoid])
def test_a_map_that_it_lacks_is_said_and_left_to_torch(function, tiny):
    net = initialize(lambda s, c: OneMap(*s, c, function), tiny)
    cohort = Cohort(net.wiring, masks_for(net, 2), [net.parameters()], device=CPU)
    assert {type(part) for part in cohort.parts} == {Stack}
    (note,) = compaction_notes(net.wiring, "parameter")
    assert note.startswith("Trained by torch: the native engine lacks the map ")


# --- the choice


def wide(samples=300):
    rng = np.random.default_rng(0)
    return from_arrays("wide", rng.normal(size=(samples, 784)), np.arange(samples) % 10)


def lenet():
    return initialize("mlp", wide(), hidden="120,60")


def mixed(net, densities):
    return np.stack([masks_for(net, 1, seed, density)[0] for seed, density in enumerate(densities)])


def test_it_is_chosen_on_a_cpu_in_full_precision_under_masking_parameter(monkeypatch, digits):
    net = lenet()

    def chosen(masking="parameter", device="cpu", precision="float32", of=net):
        return engine_for(of.wiring, masking, torch.device(device), precision)

    assert chosen() == "native"
    assert chosen(precision="bfloat16") == chosen("gradient") == chosen("forward") == "stacked"
    assert chosen(device="cuda") == chosen(device="meta") == "stacked"
    assert chosen(of=images(digits)) == "single"
    monkeypatch.setattr("ticketsearch.compiled.AVAILABLE", False)
    assert chosen() == "stacked"
    assert compaction_notes(net.wiring, "parameter") == ["Trained by torch: numba is not installed."]


def test_a_network_that_diverges_leaves_its_cohort_alone(tiny):
    """Infinite and NaN values of one network, also under normalisation."""
    company = Company("products, normalisations", tiny, RECIPES["momentum"], shared=False)
    broken = {name: tensor.clone() for name, tensor in tensors_of(company.nets[3]).items()}
    broken["a.weight"][0, 0], broken["c.bias"][1] = math.inf, math.nan
    initial = [tensors_of(net) for net in company.nets]
    numbers = [0, 4, 1]
    alone = company.training([0, 1])
    alone.advance(STEPS)
    cohort = Cohort(
        company.net.wiring, company.masks[numbers], [initial[0], broken, initial[1]], device=CPU,
        dtype=torch.float64,
    )  # fmt: skip
    Training(cohort, tiny, company.recipe, [company.orders[number] for number in numbers]).advance(STEPS)
    for name, own in alone.cohort.parameters().items():
        assert torch.equal(cohort.parameters()[name][[0, 2]], own), name
    assert not np.isfinite(evaluate(cohort, tiny.x_test, tiny.y_test).loss[1])


def test_training_in_pieces_calls_back_after_every_step_or_now_and_then(tiny):
    company = Company("mlp", tiny, RECIPES["sgd"])
    whole, steps, calls = company.training(), [], []
    whole.advance(STEPS, between=lambda: calls.append(1))
    pieces = company.training()
    pieces.advance(2, after_step=steps.append)
    pieces.advance(STEPS, after_step=steps.append)
    assert steps == list(range(STEPS))
    assert len(calls) == 1  # so short a training is one call
    same(results(pieces, tiny), results(whole, tiny), slice(None))


# --- wherever it runs


def fitness(**options):
    return short_training(lenet(), wide(), steps="2,4", batch=64, candidates=0.2, **options)


@pytest.mark.parametrize("backend", every(["threads", "loky"], default=["threads"]))
def test_two_workers_give_the_bits_of_one_on_a_ladder(backend):
    masks = mixed(lenet(), [0.05, 0.02, 0.02, 0.01, 0.01, 0.005])
    alone, shared = fitness()(masks), fitness(workers=2, backend=backend)(masks)
    assert np.array_equal(alone, shared)
    assert np.array_equal(alone.rungs, shared.rungs)
    assert set(alone.rungs) == {2, 4}
    for own, other in zip(alone.guidance, shared.guidance, strict=True):
        assert all(np.array_equal(*pair) for pair in zip(own, other, strict=True))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_fitness_in_bfloat16_goes_without_it(precision, monkeypatch):
    made = []
    monkeypatch.setattr(
        "ticketsearch.training.cohort.engine_for", lambda *a: made.append(engine_for(*a)) or made[-1]
    )
    fitness(precision=precision)(mixed(lenet(), [0.02]))
    assert set(made) == {"native" if precision == "float32" else "stacked"}
