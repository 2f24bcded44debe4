"""The engine: a cohort trained as one tensor program is every network trained by itself."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ticketsearch import training
from ticketsearch.errors import BadInput
from ticketsearch.models import initialize
from ticketsearch.training import Cohort, Recipe, data_order, evaluate, find_device, one_thread, train

CPU = torch.device("cpu")
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4}
RECIPES = {
    "sgd": Recipe(50, 16, "sgd", lr=0.05, momentum=0.9, weight_decay=1e-3),
    "sgd without momentum": Recipe(50, 16, "sgd", lr=0.1, momentum=0.0),
    "nesterov": Recipe(50, 16, "nesterov", lr=0.05, momentum=0.8, weight_decay=1e-3),
    "adam": Recipe(50, 16, "adam", lr=0.01, weight_decay=1e-2),
    "adamw": Recipe(50, 16, "adamw", lr=0.01, weight_decay=0.1),
}
optimizers = pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)


class Residual(nn.Module):
    def __init__(self, features, classes):
        super().__init__()
        self.stem = nn.Linear(features, 6)
        self.body = nn.Linear(6, 6)
        self.head = nn.Linear(6, classes)

    def forward(self, x):
        x = torch.tanh(self.stem(x))
        return self.head(x + torch.relu(self.body(x)))


MODELS = {
    "mlp": lambda dataset, seed: initialize("mlp:9,5", dataset, seed=seed),
    "mlp without biases": lambda dataset, seed: initialize("mlp:9,5", dataset, seed=seed, bias=False),
    "gelu": lambda dataset, seed: initialize("mlp:8", dataset, seed=seed, activation="gelu"),
    "residual": lambda dataset, seed: initialize(
        lambda s, c: Residual(s[0], c), dataset, "as_built", seed=seed
    ),
}


def masks_for(network, size, seed=0, density=0.6):
    return np.random.default_rng(seed).random((size, network.spec.size)) < density


def plain_training(network, mask, initial, dataset, recipe, order, dtype):
    """Train one masked network as one would by hand; returns its parameters and its training module."""
    module = copy.deepcopy(network.module).to(dtype)
    keep = {name: torch.from_numpy(part).to(dtype) for name, part in network.spec.split(mask).items()}
    parameters = {name: p.detach().to(dtype, copy=True).requires_grad_() for name, p in initial.items()}
    values = list(parameters.values())
    decay, lr, momentum = recipe.weight_decay, recipe.lr, recipe.momentum
    optimizer = {
        "sgd": lambda: torch.optim.SGD(values, lr=lr, momentum=momentum, weight_decay=decay),
        "nesterov": lambda: torch.optim.SGD(
            values, lr=lr, momentum=momentum, weight_decay=decay, nesterov=True
        ),
        "adam": lambda: torch.optim.Adam(values, lr=lr, weight_decay=decay),
        "adamw": lambda: torch.optim.AdamW(values, lr=lr, weight_decay=decay),
    }[recipe.optimizer]()

    def masked():
        return {name: p * keep[name] if name in keep else p for name, p in parameters.items()}

    for chosen in order:
        x, y = dataset.x_train[chosen].to(dtype), dataset.y_train[chosen]
        optimizer.zero_grad()
        F.cross_entropy(torch.func.functional_call(module, masked(), (x,)), y).backward()
        optimizer.step()
    trained = {name: value.detach() for name, value in masked().items()}
    with torch.no_grad():
        logits = torch.func.functional_call(module, trained, (dataset.x_validation.to(dtype),))
    return trained, F.cross_entropy(logits, dataset.y_validation).item(), logits


def relative(ours, theirs):
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


@optimizers
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("model", MODELS)
def test_a_cohort_equals_each_network_trained_alone_by_a_plain_loop(tiny, model, dtype, recipe):
    """Own initial parameters and own data order for each mask, the most general case."""
    networks = [MODELS[model](tiny, seed) for seed in range(3)]
    masks = masks_for(networks[0], 3)
    initial = [network.parameters() for network in networks]
    orders = [data_order(61, recipe, [seed]) for seed in range(3)]
    cohort = Cohort(networks[0].wiring, masks, initial, device=CPU, dtype=dtype)
    train(cohort, tiny, recipe, orders)
    found = evaluate(cohort, tiny.x_validation, tiny.y_validation)
    for i, mask in enumerate(masks):
        wanted, loss, _ = plain_training(networks[0], mask, initial[i], tiny, recipe, orders[i], dtype)
        ours = cohort.parameters()
        assert set(ours) == set(wanted)
        for name, value in wanted.items():
            assert relative(ours[name][i], value) < TOLERANCE[dtype], name
        assert found.loss[i] == pytest.approx(loss, rel=TOLERANCE[dtype])


@pytest.mark.parametrize("own_orders", [False, True])
@pytest.mark.parametrize("own_parameters", [False, True])
def test_what_is_given_once_is_shared_by_all_masks(tiny, own_parameters, own_orders):
    recipe = RECIPES["sgd"]
    networks = [MODELS["mlp"](tiny, seed) for seed in range(4)]
    masks = masks_for(networks[0], 4)
    initial = [n.parameters() for n in networks][: 4 if own_parameters else 1]
    orders = [data_order(61, recipe, [seed]) for seed in range(4)][: 4 if own_orders else 1]
    cohort = Cohort(networks[0].wiring, masks, initial, device=CPU, dtype=torch.float64)
    train(cohort, tiny, recipe, orders)
    for i, mask in enumerate(masks):
        theta, order = initial[i if own_parameters else 0], orders[i if own_orders else 0]
        wanted, *_ = plain_training(networks[0], mask, theta, tiny, recipe, order, torch.float64)
        for name, value in wanted.items():
            assert relative(cohort.parameters()[name][i], value) < 1e-10


@optimizers
@pytest.mark.parametrize("model", ["mlp", "residual"])
def test_pruned_weights_are_exactly_zero_after_every_step(tiny, model, recipe):
    network = MODELS[model](tiny, 0)
    masks = masks_for(network, 4, density=0.5)
    cohort = Cohort(network.wiring, masks, [network.parameters()], device=CPU)
    start = [weight.detach().clone() for weight in cohort.weights]
    steps = []

    def check(step):
        for weight, mask in zip(cohort.weights, cohort.masks, strict=True):  # as the optimizer left them
            assert torch.count_nonzero(weight[mask == 0]) == 0
        steps.append(step)

    check(-1)
    train(cohort, tiny, recipe, [data_order(61, recipe, [0])], after_step=check)
    assert steps == list(range(-1, recipe.steps))
    for layer, weight, mask, before in zip(
        network.spec.layers, cohort.weights, cohort.masks, start, strict=True
    ):
        kept = masks[:, layer.slice].sum()
        assert mask.sum() == kept
        assert torch.count_nonzero(weight != before) > 0.3 * kept  # not all: some units are dead


@optimizers
def test_biases_of_hidden_layers_train(tiny, recipe):
    network = MODELS["mlp"](tiny, 0)
    cohort = Cohort(network.wiring, masks_for(network, 2), [network.parameters()], device=CPU)
    train(cohort, tiny, recipe, [data_order(61, recipe, [0])])
    for name in network.wiring.biases:
        assert (cohort.parameters()[name].abs().amax(dim=1) > 1e-4).all(), name


def test_training_learns(tiny):
    network = MODELS["mlp"](tiny, 0)
    cohort = Cohort(network.wiring, masks_for(network, 3), [network.parameters()], device=CPU)
    before = evaluate(cohort, tiny.x_validation, tiny.y_validation)
    train(cohort, tiny, RECIPES["sgd"], [data_order(61, RECIPES["sgd"], [0])])
    after = evaluate(cohort, tiny.x_validation, tiny.y_validation)
    assert (after.loss < 0.85 * before.loss).all()
    assert (after.accuracy > before.accuracy).all()


def test_training_writes_neither_to_the_network_nor_to_the_parameters_given(tiny):
    network = MODELS["mlp"](tiny, 0)
    given = network.parameters()
    cohort = Cohort(network.wiring, masks_for(network, 1), [given], device=CPU)
    train(cohort, tiny, RECIPES["sgd"], [data_order(61, RECIPES["sgd"], [0])])
    fresh = MODELS["mlp"](tiny, 0).parameters()
    for name, value in fresh.items():
        assert torch.equal(given[name], value)
        assert torch.equal(network.parameters()[name], value)


def test_a_network_that_diverges_leaves_its_cohort_alone(tiny):
    network = MODELS["mlp"](tiny, 0)
    good = network.parameters()
    bad = {name: value * float("nan") for name, value in good.items()}
    masks = masks_for(network, 3)
    recipe, order = RECIPES["adam"], [data_order(61, RECIPES["adam"], [0])]
    cohort = Cohort(network.wiring, masks, [good, bad, good], device=CPU)
    healthy = Cohort(network.wiring, masks, [good], device=CPU)
    for each in (cohort, healthy):
        train(each, tiny, recipe, order)
    losses = [evaluate(each, tiny.x_validation, tiny.y_validation).loss for each in (cohort, healthy)]
    assert np.isnan(losses[0][1])
    assert np.array_equal(losses[0][[0, 2]], losses[1][[0, 2]])


def test_no_steps_change_nothing(tiny):
    network = MODELS["mlp"](tiny, 0)
    masks = masks_for(network, 2)
    cohort = Cohort(network.wiring, masks, [network.parameters()], device=CPU)
    recipe = Recipe(steps=0, batch=16)
    train(cohort, tiny, recipe, [data_order(61, recipe, [0])])
    for name, part in network.spec.split(masks).items():
        wanted = network.parameters()[name] * torch.from_numpy(part)
        assert torch.equal(cohort.parameters()[name], wanted)


def test_parameters_are_copies(tiny):
    network = MODELS["mlp"](tiny, 0)
    cohort = Cohort(network.wiring, masks_for(network, 2), [network.parameters()], device=CPU)
    for value in cohort.parameters().values():
        value.fill_(7.0)
    assert not any((value == 7.0).any() for value in cohort.parameters().values())


def test_initial_parameters_are_one_for_all_or_one_a_mask(tiny):
    network = MODELS["mlp"](tiny, 0)
    with pytest.raises(BadInput, match=r"1 or one a mask \(3\), but got 2"):
        Cohort(network.wiring, masks_for(network, 3), [network.parameters()] * 2, device=CPU)


@pytest.mark.parametrize("samples", [1, 45, training.EVALUATION_BATCH, 2 * training.EVALUATION_BATCH + 371])
def test_an_evaluation_is_the_mean_over_all_samples(tiny, samples):
    network = MODELS["residual"](tiny, 0)
    masks = masks_for(network, 3)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(samples, 7, generator=generator)
    y = torch.randint(3, (samples,), generator=generator)
    cohort = Cohort(network.wiring, masks, [network.parameters()], device=CPU, dtype=torch.float64)
    found = evaluate(cohort, x, y)
    for i, mask in enumerate(masks):
        module = copy.deepcopy(network.module).double()
        with torch.no_grad():
            for name, part in network.spec.split(mask).items():
                module.get_parameter(name).mul_(torch.from_numpy(part))
            logits = module(x.double())
        assert found.loss[i] == pytest.approx(F.cross_entropy(logits, y).item(), rel=1e-12)
        assert found.accuracy[i] == (logits.argmax(1) == y).double().mean().item()


def test_images_are_flattened(digits):
    network = initialize("mlp:12", digits)
    masks = masks_for(network, 2)
    recipe = Recipe(steps=5, batch=32)
    order = data_order(len(digits.y_train), recipe, [0])
    cohort = Cohort(network.wiring, masks, [network.parameters()], device=CPU, dtype=torch.float64)
    train(cohort, digits, recipe, [order])
    found = evaluate(cohort, digits.x_validation, digits.y_validation)
    for i, mask in enumerate(masks):
        arguments = network, mask, network.parameters(), digits, recipe, order, torch.float64
        assert found.loss[i] == pytest.approx(plain_training(*arguments)[1], rel=1e-10)


# --- data order


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 30), st.integers(0, 2**32))
@settings(deadline=None)
def test_every_epoch_of_a_data_order_is_a_permutation(samples, batch, steps, seed):
    recipe = Recipe(steps=steps, batch=min(batch, samples))
    order = data_order(samples, recipe, [seed])
    assert order.shape == (steps, recipe.batch)
    assert order.dtype == np.int64
    drawn = order.ravel()
    for start in range(0, len(drawn), samples):
        epoch = drawn[start : start + samples]
        assert len(set(epoch.tolist())) == len(epoch)
        assert set(epoch.tolist()) <= set(range(samples))


def test_batches_straddle_epochs():
    order = data_order(10, Recipe(steps=5, batch=4), [0])
    assert sorted(order.ravel()[:10]) == list(range(10))
    assert sorted(order.ravel()[10:]) == list(range(10))
    assert order.shape == (5, 4)  # the third batch has two samples of either epoch


def test_a_data_order_depends_on_seed_and_round_and_nothing_else():
    recipe = Recipe(steps=4, batch=16)
    orders = [data_order(61, recipe, seed) for seed in ([0, 0], [0, 1], [1, 0], [0, 0])]
    assert np.array_equal(orders[0], orders[3])
    assert len({order.tobytes() for order in orders}) == 3
    assert np.array_equal(data_order(61, Recipe(steps=8, batch=16), [0, 0])[:4], orders[0])


def test_epochs_differ_in_their_order():
    order = data_order(20, Recipe(steps=2, batch=20), [0])
    assert not np.array_equal(order[0], order[1])
    assert not np.array_equal(order[0], np.arange(20))


def test_a_batch_larger_than_the_training_part_is_refused():
    assert data_order(10, Recipe(steps=1, batch=10), [0]).shape == (1, 10)
    with pytest.raises(BadInput, match="batch=11 for 10 samples"):
        data_order(10, Recipe(steps=1, batch=11), [0])


# --- recipes and devices


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": -1}, "steps must be >= 0, but got -1"),
        ({"batch": 0}, "batch must be >= 1, but got 0"),
        ({"steps": 2**22, "batch": 128}, "steps x batch must be <= 268,435,456"),
        ({"lr": 0}, "lr must be > 0 and finite, but got 0"),
        ({"lr": float("nan")}, "lr must be > 0 and finite, but got nan"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\), but got 1.0"),
        ({"momentum": -0.1}, r"momentum must be in \[0, 1\), but got -0.1"),
        ({"weight_decay": -1e-9}, "weight_decay must be >= 0, but got -1e-09"),
        ({"weight_decay": float("nan")}, "weight_decay must be >= 0, but got nan"),
        ({"optimizer": "nesterov", "momentum": 0}, "nesterov needs momentum > 0, but got 0"),
        (
            {"optimizer": "nestrov"},
            r"unknown optimizer 'nestrov' \(did you mean 'nesterov'\?\): known are adam, ",
        ),
    ],
)
def test_a_bad_recipe_is_refused_in_one_line(values, message):
    with pytest.raises(BadInput, match=message) as caught:
        Recipe(**values)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["gpu", "", "mps", "meta", "cuda:x", "tpu:0"])
def test_a_device_that_is_none_is_refused(name):
    with pytest.raises(BadInput, match=f"auto, cpu, cuda or cuda:N, but got '{name}'"):
        find_device(name)


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:3"])
def test_cuda_asked_for_and_absent_is_refused(name, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(BadInput, match=f"device '{name}' was asked for, but 0 CUDA devices are here"):
        find_device(name)


def test_auto_is_cuda_where_there_is_one(monkeypatch):
    for there in (False, True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert find_device("auto").type == ("cuda" if there else "cpu")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert find_device("cuda:1") == torch.device("cuda:1")
    assert find_device("cpu") == CPU


def test_one_thread_gives_the_threads_back_even_after_an_exception():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 3
        with pytest.raises(ZeroDivisionError), one_thread():
            assert 1 / 0
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("optimizer", training.OPTIMIZERS)
def test_cuda_and_cpu_find_the_same_loss(digits, optimizer):
    network = initialize("mlp:100,50", digits)
    masks = masks_for(network, 5, density=0.1)
    recipe = Recipe(steps=20, batch=128, optimizer=optimizer, lr=0.01)
    order = data_order(len(digits.y_train), recipe, [0])
    losses = []
    for device in (CPU, torch.device("cuda")):
        cohort = Cohort(network.wiring, masks, [network.parameters()], device=device)
        train(cohort, digits, recipe, [order])
        losses.append(evaluate(cohort, digits.x_validation, digits.y_validation).loss)
    np.testing.assert_allclose(*losses, rtol=1e-3)
