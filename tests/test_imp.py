"""Iterative magnitude pruning against a plain training loop of the module itself, in float64."""

import copy
import itertools
import math
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import every, refused
from torch import nn

from ticketsearch.datasets import Dataset, from_arrays
from ticketsearch.errors import BadInput
from ticketsearch.models import initialize
from ticketsearch.pruners import imp, obd, prune, prune_all
from ticketsearch.random_streams import Stream, seed_sequence
from ticketsearch.training import Recipe, Training, data_order
from ticketsearch.training.native import loop

pytestmark = pytest.mark.slow


def images():
    generator = torch.Generator().manual_seed(0)
    parts = {}
    for part in ("train", "validation", "test"):
        parts[f"x_{part}"] = torch.randn(20, 1, 4, 4, generator=generator)
        parts[f"y_{part}"] = torch.arange(20) % 3
    return Dataset(name="noise", classes=3, **parts)


IMAGES = images()


def convolutional(input_shape, classes):
    return nn.Sequential(
        *(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        nn.Linear(12, classes),
    )


@pytest.fixture(params=["dense", "convolutional"])
def case(request, tiny):
    """A network with biases that are not zero, and its dataset."""
    if request.param == "dense":
        return initialize("mlp:8,6", tiny, "as_built", 1), tiny
    return initialize(convolutional, IMAGES, "as_built", 1), IMAGES


def half(network):
    mask = np.random.default_rng(0).random(network.spec.size) < 0.5
    return {name: torch.from_numpy(part.copy()) for name, part in network.spec.split(mask).items()}


OPTIMIZERS = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.8, weight_decay=0.01),
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=0.1, weight_decay=0.01),
}
RATES = {
    "constant": lambda share: 1,
    "linear": lambda share: 1 - share,
    "cosine": lambda share: math.cos(math.pi * share / 2) ** 2,
}


def plain_training(module, dataset, order, optimizer, mask, rates):
    """Train a module in place; after each step the weights that a mask does not keep are put to 0."""
    weights = {name: module.get_parameter(name) for name in mask}
    steps = OPTIMIZERS[optimizer](module.parameters())

    def put_to_zero():
        with torch.no_grad():
            for name, kept in mask.items():
                weights[name].mul_(kept)

    put_to_zero()
    module.train()
    for chosen, rate in zip(torch.from_numpy(order), rates, strict=True):
        steps.param_groups[0]["lr"] = rate
        steps.zero_grad()
        F.cross_entropy(module(dataset.x_train[chosen].double()), dataset.y_train[chosen]).backward()
        for name, kept in mask.items():
            weights[name].grad.mul_(kept)
        steps.step()
        put_to_zero()
    return weights


def plain_round(module, dataset, order, rewind, optimizer, mask, schedule):
    """Train a module in place, densely for the steps to rewind to, then as masked."""
    rates = [0.1 * RATES[schedule](step / len(order)) for step in range(len(order))]
    dense = {name: torch.ones_like(kept) for name, kept in mask.items()}
    plain_training(module, dataset, order[:rewind], optimizer, dense, rates[:rewind])
    return plain_training(module, dataset, order[rewind:], optimizer, mask, rates[rewind:])


def order_of(rng, dataset, steps, batch):
    seed = rng.bit_generator.seed_seq
    own = np.random.SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, 2**32 - 1))
    return data_order(len(dataset.y_train), Recipe(steps, batch), own)


# Both optimizers rewind to each step and train by each schedule.
PAIRWISE = [
    *((0, "sgd", "constant"), (1, "sgd", "cosine"), (5, "sgd", "linear")),
    *((0, "adam", "linear"), (1, "adam", "constant"), (5, "adam", "cosine")),
]


@pytest.mark.parametrize(
    ("rewind", "optimizer", "schedule"),
    every(list(itertools.product((0, 1, 5), OPTIMIZERS, RATES)), default=PAIRWISE),
)
def test_scores_are_the_weights_that_a_plain_loop_trains(case, rewind, optimizer, schedule):
    network, dataset = case
    mask = half(network)
    rng = np.random.default_rng(np.random.SeedSequence(5, spawn_key=(1, 2)))
    options = {"training_steps": 7, "training_batch": 9, "optimizer": optimizer, "lr": 0.1, "momentum": 0.8}
    found = imp(
        network,
        mask,
        None,
        rng=rng,
        dataset=dataset,
        rewind=rewind,
        weight_decay=0.01,
        lr_schedule=schedule,
        precision="float64",
        device="cpu",
        **options,
    )
    order = order_of(rng, dataset, rewind + 7, 9)
    module = copy.deepcopy(network.module).double()
    trained = plain_round(module, dataset, order, rewind, optimizer, mask, schedule)
    assert list(found) == list(mask)
    for name, weight in trained.items():
        expected = weight.detach().abs()
        torch.testing.assert_close(found[name], expected, rtol=1e-9, atol=1e-10)
        assert (found[name][~mask[name]] == 0).all()


def test_a_round_sees_the_data_in_the_order_of_the_first(case):
    network, dataset = case
    mask = half(network)
    rng = np.random.default_rng(3)
    scores = []
    for _ in range(2):
        options = {"dataset": dataset, "training_steps": 4, "rewind": 2, "training_batch": 8}
        scores.append(imp(network, mask, None, rng=rng, device="cpu", **options))
        rng.random(11)
    assert all(torch.equal(scores[0][name], scores[1][name]) for name in mask)
    other = imp(network, mask, None, rng=np.random.default_rng(4), device="cpu", **options)
    assert not all(torch.equal(scores[0][name], other[name]) for name in mask)


def test_the_state_of_each_pruning_seed_is_its_own():
    rngs = [np.random.default_rng(seed_sequence(seed, Stream.PRUNING)) for seed in (0, 1)]
    orders = [order_of(rng, IMAGES, 3, 8) for rng in rngs]
    assert not np.array_equal(*orders)
    child = rngs[0].spawn(1)[0]
    assert not np.array_equal(order_of(child, IMAGES, 3, 8), orders[0])


def test_without_training_it_is_the_magnitude_pruner(case):
    network, dataset = case
    for steps in (1, 6):
        options = {"density": 0.3, "dataset": dataset, "steps": steps}
        untrained = prune(network, "imp", training_steps=0, **options)
        assert np.array_equal(untrained, prune(network, "magnitude", **options))
    trained = prune(network, "imp", training_steps=20, lr=0.5, density=0.3, dataset=dataset)
    assert not np.array_equal(trained, untrained)


def test_obd_cuts_by_the_loss_that_pruning_is_expected_to_cost(case):
    network, dataset = case
    options = {"density": 0.5, "dataset": dataset, "steps": 1, "training_batch": 10}
    mask = prune(network, "obd", training_steps=7, **options)
    seen = []

    def spied(own, share, saliency):
        seen.extend(guidance(own, share, saliency))
        return seen

    guidance = Training.guidance
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "guidance", spied)
        assert np.array_equal(mask, prune(network, "obd", training_steps=7, **options))
    (found,) = seen
    assert set(np.flatnonzero(mask)) == set(np.argsort(-found.saliency, kind="stable")[: mask.sum()])
    assert not np.array_equal(mask, prune(network, "imp", training_steps=7, **options))
    refused(lambda: prune(network, "obd", **{**options, "dataset": None}), "obd needs data")


def test_magnitudes_are_averaged_over_data_orders_that_each_round_draws_anew(case):
    """The mean of several is that of imp on each."""
    network, dataset = case
    cuts, drawn = [], []
    options = {"dataset": dataset, "training_steps": 7, "training_batch": 9, "lr_schedule": "cosine"}

    def seen(samples, recipe, seed):
        drawn.append(tuple(seed.spawn_key))
        return data_order(samples, recipe, seed)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["ticketsearch.pruners.imp"], "data_order", seen)
        prune(network, "averaged_imp", density=0.5, orders=3, callback=cuts.append, **options)
    assert len(drawn) == len(set(drawn)) == 3 * len(cuts) > 6
    for number, cut in enumerate(cuts):
        kept = np.zeros(network.spec.size, dtype=bool)
        kept[cut.numbers] = True
        parts = {name: torch.from_numpy(own.copy()) for name, own in network.spec.split(kept).items()}
        found = []
        for key in drawn[3 * number : 3 * number + 3]:
            seed = np.random.SeedSequence(seed_sequence(0, Stream.PRUNING).entropy, spawn_key=key[:-1])
            scores = imp(network, parts, None, rng=np.random.default_rng(seed), **options)
            found.append(
                np.concatenate([scores[layer.name].numpy().ravel() for layer in network.spec.layers])
            )
        np.testing.assert_allclose(np.mean(found, axis=0)[cut.numbers], cut.scores, rtol=1e-6)
        assert not np.allclose(found[0], found[1])


@pytest.mark.parametrize("rewind", [0, 2])
def test_obd_squares_weights_and_gradients_of_the_samples_that_a_round_meets_first(tiny, rewind):
    network = initialize("mlp:8,6", tiny, "as_built", 1)
    mask, rng = half(network), np.random.default_rng(np.random.SeedSequence(5, spawn_key=(1, 2)))
    recipe = {"lr": 0.1, "momentum": 0.8, "weight_decay": 0.01, "lr_schedule": "linear"}
    options = {"dataset": tiny, "training_steps": 3, "training_batch": 9, "rewind": rewind, **recipe}
    found = obd(network, mask, None, rng=rng, precision="float64", device="cpu", **options)
    order = order_of(rng, tiny, rewind + 3, 9)
    module = copy.deepcopy(network.module).double()
    weights = plain_round(module, tiny, order, rewind, "sgd", mask, "linear")
    met = order[rewind:].ravel()
    squares = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for number in met:
        module.zero_grad()
        F.cross_entropy(module(tiny.x_train[[number]].double()), tiny.y_train[[number]]).backward()
        for name, weight in weights.items():
            squares[name] += weight.grad**2 / len(met)
    for name, weight in weights.items():
        expected = (weight**2 * squares[name] / 2).detach().float() * mask[name]
        torch.testing.assert_close(found[name], expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("orders", [0, 1.5])
def test_trainings_of_a_round_are_a_whole_number(case, orders):
    network, dataset = case
    refused(lambda: prune(network, "averaged_imp", density=0.5, dataset=dataset, orders=orders), "orders")


@pytest.mark.parametrize("rewind", [0, 2])
def test_rounds_cut_a_fifth_each_and_what_they_cut_never_comes_back(case, rewind):
    network, dataset = case
    cuts = []
    size = network.spec.size
    mask = prune(
        network,
        "imp",
        density=0.8**4,
        dataset=dataset,
        training_steps=5,
        rewind=rewind,
        callback=cuts.append,
    )
    assert [cut.step for cut in cuts] == [1, 2, 3, 4]
    kept = np.arange(size)
    for round_, cut in enumerate(cuts, start=1):
        assert np.array_equal(cut.numbers, kept)
        kept = kept[cut.kept]
        if round_ < 4:
            assert len(kept) == size - math.floor((1 - (0.8**4) ** (round_ / 4)) * size)
        assert cut.scores[cut.kept].min() >= cut.scores[~cut.kept].max()
    assert np.array_equal(np.flatnonzero(mask), kept)


def test_several_networks_get_the_masks_of_each_alone(case):
    network, dataset = case
    networks = [network, *(network.reinitialized("kaiming_normal", seed) for seed in range(2))]
    options = {"density": 0.4, "dataset": dataset, "training_steps": 6, "rewind": 2, "steps": 3}
    together = prune_all(networks, "imp", seeds=[7, 8, 9], **options)
    for one, seed, mask in zip(networks, (7, 8, 9), together, strict=True):
        assert np.array_equal(prune(one, "imp", seed=seed, **options), mask)
    assert len({mask.tobytes() for mask in together}) == 3


def test_a_batch_larger_than_the_training_part_is_the_training_part(case):
    network, dataset = case
    samples = len(dataset.y_train)
    options = {"density": 0.4, "dataset": dataset, "training_steps": 6, "steps": 2}
    masks = [prune(network, "imp", training_batch=size, **options) for size in (samples, 10_000)]
    assert np.array_equal(*masks)


def test_the_network_is_left_as_it_was(case):
    network, dataset = case
    state = {name: tensor.clone() for name, tensor in network.module.state_dict().items()}
    prune(network, "imp", density=0.5, dataset=dataset, training_steps=3, rewind=2)
    assert all(torch.equal(state[name], tensor) for name, tensor in network.module.state_dict().items())
    assert all(parameter.grad is None for parameter in network.module.parameters())


def test_training_may_be_interrupted(case, monkeypatch):
    network, dataset = case
    steps = []

    def step(*arguments):
        steps.append(1)
        if len(steps) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(torch.optim.SGD, "step", step)
    # The native engine, in calls of one step.
    monkeypatch.setattr(loop, "CALL", 1)
    monkeypatch.setattr(loop, "train", step)
    with pytest.raises(KeyboardInterrupt):
        prune(network, "imp", density=0.5, dataset=dataset)


def test_no_data_is_refused_with_a_way_out(case):
    refused(lambda: prune(case[0], "imp", density=0.5), "imp", "dataset=None", "dataset=…", "synflow")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"training_steps": -1}, ("training_steps", ">= 0", "-1")),
        ({"training_steps": 2.5}, ("training_steps", "whole number", "2.5")),
        ({"rewind": -2}, ("rewind", "-2")),
        ({"rewind": True}, ("rewind", "True")),
        ({"training_batch": 0}, ("batch", "0")),
        ({"optimizer": "sdg"}, ("optimizer 'sdg'", "did you mean 'sgd'")),
        ({"lr": 0}, ("lr must be > 0",)),
        ({"precision": "double"}, ("precision 'double'",)),
        ({"device": "tpu"}, ("device", "'tpu'")),
        ({"rewinding": 3}, ("'imp' has no option 'rewinding'", "did you mean 'rewind'")),
    ],
)
def test_a_bad_option_is_refused(case, options, words):
    network, dataset = case
    refused(lambda: prune(network, "imp", density=0.5, dataset=dataset, **options), *words)


def test_an_rng_without_a_seed_is_refused(case):
    class Seedless:
        bit_generator = type("", (), {"seed_seq": None})

    network, dataset = case
    refused(
        lambda: imp(network, half(network), None, rng=Seedless(), dataset=dataset), "default_rng(seed)", "rng"
    )


def test_curvatures_are_not_of_networks_whose_samples_depend_on_each_other():
    def build(shape, classes):
        return nn.Sequential(
            nn.Flatten(),
            nn.Linear(16, 6),
            nn.BatchNorm1d(6, track_running_stats=False),
            nn.Linear(6, classes),
        )

    network = initialize(build, IMAGES)
    refused(
        lambda: prune(network, "obd", density=0.5, dataset=IMAGES, training_steps=2), "running statistics"
    )


@pytest.mark.parametrize("method", ["imp", "averaged_imp", "obd"])
def test_a_training_that_diverges_says_to_lower_lr(method):
    rng = np.random.default_rng(0)
    data = from_arrays("mine", rng.random((90, 4)), np.arange(90) % 3)
    network = initialize("mlp:5", data)
    with pytest.raises(BadInput, match="its training diverged, lower lr"):
        prune(
            network, method, density=0.5, dataset=data, steps=2, lr=1e30, training_steps=9, training_batch=8
        )
