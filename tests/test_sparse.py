"""The sparse engine: what it computes is what the dense one does, and when it is chosen."""

import itertools
import subprocess
import sys
from pathlib import Path

import networks
import numpy as np
import pytest
import torch
from conftest import every
from loops import Parts, Stream, Summed, masks_for, matters, recipes
from torch import nn

from ticketsearch.datasets import from_arrays
from ticketsearch.fitness.named import short_training
from ticketsearch.masks import live
from ticketsearch.models import initialize
from ticketsearch.training import SALIENCIES, Cohort, Training, data_order, evaluate, layout
from ticketsearch.training.csr import Sparse
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
}
cases = pytest.mark.parametrize("case", CASES)


@pytest.fixture
def chosen(monkeypatch):
    """Have the sparse engine train even small networks, and the dense one exactly what lives of them."""
    monkeypatch.setattr(layout, "OVERHEAD", 1.0)
    monkeypatch.setattr(layout, "NARROWEST", 1)
    monkeypatch.setattr(layout, "SPARSE_WEIGHT", 0.0)
    monkeypatch.setattr(layout, "SPARSE_UNIT", 0.0)


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

    def training(self, numbers=None):
        """Return the training of the masks of these numbers, by default of all; not begun."""
        numbers = np.arange(len(self.masks)) if numbers is None else numbers
        own = [0] if len(self.nets) == 1 else numbers
        initial = [self.nets[number].parameters() for number in own]
        cohort = Cohort(self.net.wiring, self.masks[numbers], initial, device=CPU, dtype=self.dtype)
        return Training(cohort, self.data, self.recipe, [self.orders[number] for number in own])

    def by_dense(self):
        """Return the training of all by the other engine, of the whole networks too."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("ticketsearch.training.cohort.runs_sparse", lambda *_: False)
            return self.training()


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
@pytest.mark.usefixtures("chosen")
def test_it_trains_as_the_dense_engine_does(case, shared, optimizer, tiny):
    """In float64, where a network's weights can matter; initializations and data orders shared or own."""
    company = Company(case, tiny, RECIPES[optimizer], shared)
    trainings = company.training(), company.by_dense()
    assert [engines(training) for training in trainings] == [{Sparse}, {Stack}]
    for training in trainings:
        training.advance(STEPS)
    ours, theirs = (results(training, tiny) for training in trainings)
    assert set(ours) == set(theirs)
    nets = company.nets * (len(company.masks) if shared else 1)
    each = [matters(*own) for own in zip(nets, company.masks, strict=True)]
    for name, own in ours.items():
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
@pytest.mark.usefixtures("chosen")
def test_its_guidance_is_the_dense_engines(case, saliency, tiny):
    company = Company(case, tiny, RECIPES["momentum"], shared=False)
    found = []
    for training in (company.training(), company.by_dense()):
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
@pytest.mark.usefixtures("chosen")
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
    biases = sum(own.numel() for name, own in company.net.parameters().items() if own.ndim == 1)
    for mask, state in zip(company.masks, ends, strict=True):
        slots = {"momentum": 2, "adamw": 3}[optimizer]
        assert sum(own.size for own in state.values() if own.ndim) <= slots * (mask.sum() + biases)


@pytest.mark.usefixtures("chosen")
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


# --- the choice


def wide(samples=300):
    rng = np.random.default_rng(0)
    return from_arrays("wide", rng.normal(size=(samples, 784)), np.arange(samples) % 10)


def lenet():
    return initialize("mlp", wide(), hidden="120,60")


def mixed(net, densities):
    return np.stack([masks_for(net, 1, seed, density)[0] for seed, density in enumerate(densities)])


def kinds(net, masks, **options):
    """Return the engine of each mask."""
    cohort = Cohort(net.wiring, masks, [net.parameters()], **{"device": CPU, **options})
    found = {number: type(part) for numbers, part in cohort.placed() for number in numbers}
    return [found[number] for number in range(len(masks))]


def test_the_choice_follows_from_the_mask_alone():
    """However its units are numbered, whatever is beside it: few live weights of many units are sparse."""
    net, rng = lenet(), np.random.default_rng(0)
    masks = mixed(net, [1, 0.5, 0.1, 0.05, 0.02, 0.01, 0.005])
    together = kinds(net, masks)
    assert together[:2] == [Stack] * 2
    assert together[3:6] == [Sparse] * 3
    assert kinds(net, masks[::-1]) == together[::-1]
    for mask, kind in zip(masks, together, strict=True):
        assert kinds(net, mask[None]) == [kind]
        assert kinds(net, networks.shuffled(mask, net.spec, rng)[None]) == [kind]
    # As few weights that leave few units are better multiplied densely.
    narrow = np.zeros(net.spec.size, dtype=bool)
    for name, rows, columns in (("1.weight", 6, 784), ("3.weight", 6, 6), ("5.weight", 10, 6)):
        net.spec.split(narrow)[name][:rows, :columns] = True
    assert narrow.sum() < masks[3].sum()
    assert kinds(net, narrow[None]) == [Stack]


def test_small_networks_are_dense(tiny):
    for case in CASES:
        net = CASES[case](tiny, 0)
        assert set(kinds(net, unusual(net))) == {Stack}


def test_it_is_chosen_on_a_cpu_with_mkl_alone_in_float32_and_under_masking_parameter(monkeypatch):
    net = lenet()
    masks = mixed(net, [0.02, 0.01])
    assert kinds(net, masks) == kinds(net, masks, dtype=torch.float64) == [Sparse] * 2
    for options in (
        {"precision": "bfloat16"},
        {"masking": "gradient"},
        {"masking": "forward"},
    ):
        assert kinds(net, masks, **options) == [Stack] * 2
    assert Sparse not in kinds(net, masks, stacked=False)
    for masking in ("parameter", "forward"):
        for device in ("cpu", "cuda", "meta"):
            chosen = layout.runs_sparse(net.wiring, masking, torch.device(device))
            assert chosen == (masking == "parameter" and device == "cpu")
    convolutions = initialize(
        "conv2", from_arrays("i", np.zeros((60, 1, 8, 8)), np.arange(60) % 3), width=0.1
    )
    assert not layout.runs_sparse(convolutions.wiring, "parameter", CPU)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
    assert kinds(net, masks) == [Stack] * 2


# --- wherever it runs


def fitness(**options):
    return short_training(lenet(), wide(), steps="2,4", batch=64, candidates=0.2, **options)


@pytest.mark.parametrize("backend", every(["threads", "loky"], default=["threads"]))
def test_two_workers_give_the_bits_of_one_on_a_ladder(backend):
    masks = mixed(lenet(), [0.05, 0.02, 0.02, 0.01, 0.01, 0.005])
    assert kinds(lenet(), masks) == [Sparse] * 6
    alone, shared = fitness()(masks), fitness(workers=2, backend=backend)(masks)
    assert np.array_equal(alone, shared)
    assert np.array_equal(alone.rungs, shared.rungs)
    assert set(alone.rungs) == {2, 4}
    for own, other in zip(alone.guidance, shared.guidance, strict=True):
        assert all(np.array_equal(*pair) for pair in zip(own, other, strict=True))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_fitness_in_bfloat16_goes_without_it(precision, monkeypatch):
    made = []

    def sparse(*arguments, **options):
        made.append(Sparse(*arguments, **options))
        return made[-1]

    monkeypatch.setattr("ticketsearch.training.cohort.Sparse", sparse)
    fitness(precision=precision)(mixed(lenet(), [0.02]))
    assert bool(made) == (precision == "float32")


@pytest.mark.full
def test_no_warning_is_shown():
    """Torch warns once in a process of matrices in compressed rows."""
    script = "import test_sparse as t; print(t.fitness()(t.mixed(t.lenet(), [0.02])))"
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", script],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
