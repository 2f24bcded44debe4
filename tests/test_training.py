"""The engine: a cohort trained together is every network trained by itself, by a plain loop of torch."""

import copy
import dataclasses
import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import every, refusal, refused
from hypothesis import given, settings
from hypothesis import strategies as st
from loops import Parts, by_hand, images, masks_for, matters, recipes, relative, tensors_of, torch_loop
from torch import nn

from ticketsearch import training
from ticketsearch.errors import BadInput
from ticketsearch.masks import live
from ticketsearch.models import initialize
from ticketsearch.training import (
    MASKINGS,
    Cohort,
    Recipe,
    Training,
    data_order,
    evaluate,
    find_device,
    one_thread,
    reproducible,
    train,
)
from ticketsearch.training.dropout import Noise
from ticketsearch.training.native import Native
from ticketsearch.training.single import Single
from ticketsearch.training.stacked import Stack
from ticketsearch.wiring import Step
from ticketsearch.wiring.operations import Dropout

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4}
RECIPES = recipes(50, 16)
optimizers = pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
engines = pytest.mark.parametrize("engine", ["native", "stacked", "single"])
PARTS = {"native": Native, "stacked": Stack, "single": Single}
maskings = pytest.mark.parametrize("masking", MASKINGS)


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


def hidden_weights(cohort):
    """Yield the weights that were not left out, as the optimizer left them, and their masks."""
    for part in cohort.parts:
        if isinstance(part, Native):  # it holds kept weights alone
            masks = part.compactions[0].wiring.spec.split(part.whole_mask)
            found = part.parameters()
            yield from ((found[name], torch.from_numpy(mask.copy())) for name, mask in masks.items())
            continue
        for layer in cohort.wiring.spec.layers:
            weight = (part.weights if isinstance(part, Single) else part.leaves)[layer.name].detach()
            yield weight, part.masks[layer.name]


def plain_training(network, mask, initial, dataset, recipe, order, dtype):
    """Train one masked network as one would by hand; returns its parameters and its training module."""
    module = copy.deepcopy(network.module).to(dtype)
    keep = {name: torch.from_numpy(part).to(dtype) for name, part in network.spec.split(mask).items()}
    parameters = {name: p.detach().to(dtype, copy=True).requires_grad_() for name, p in initial.items()}
    optimizer, schedule = by_hand(list(parameters.values()), recipe)

    def masked():
        return {name: p * keep[name] if name in keep else p for name, p in parameters.items()}

    for chosen in order:
        x, y = dataset.x_train[chosen].to(dtype), dataset.y_train[chosen]
        optimizer.zero_grad()
        F.cross_entropy(torch.func.functional_call(module, masked(), (x,)), y).backward()
        optimizer.step()
        schedule.step()
    trained = {name: value.detach() for name, value in masked().items()}
    with torch.no_grad():
        logits = torch.func.functional_call(module, trained, (dataset.x_validation.to(dtype),))
    return trained, F.cross_entropy(logits, dataset.y_validation).item(), logits


# All optimizers train one model, all models are trained by one optimizer; in float64 but for that pair.
PLAIN = ("mlp", "momentum")


@pytest.mark.parametrize(
    ("model", "optimizer", "dtype", "engine"),
    every(
        list(itertools.product(MODELS, RECIPES, TOLERANCE, PARTS)),
        default=lambda member: (
            member[:2] == PLAIN
            or (member[2] == torch.float64 and PLAIN[0] == member[0])
            or (member[2] == torch.float64 and PLAIN[1] == member[1])
        ),
    ),
)
def test_a_cohort_equals_each_network_trained_alone_by_a_plain_loop(tiny, model, optimizer, dtype, engine):
    """Own initial parameters and own data order for each mask, the most general case."""
    recipe = RECIPES[optimizer]
    networks = [MODELS[model](tiny, seed) for seed in range(3)]
    masks = masks_for(networks[0], 3)
    initial = [network.parameters() for network in networks]
    orders = [data_order(61, recipe, [seed]) for seed in range(3)]
    cohort = Cohort(networks[0].wiring, masks, initial, device=CPU, dtype=dtype, engine=engine)
    assert {type(part) for part in cohort.parts} == {PARTS[engine]}
    train(cohort, tiny, recipe, orders)
    found = evaluate(cohort, tiny.x_validation, tiny.y_validation)
    for i, mask in enumerate(masks):
        wanted, loss, _ = plain_training(networks[0], mask, initial[i], tiny, recipe, orders[i], dtype)
        ours = cohort.parameters()
        assert set(ours) == set(wanted)
        for name, value in wanted.items():
            assert relative(ours[name][i], value, matters(networks[0], mask)[name]) < TOLERANCE[dtype], name
        assert found.loss[i] == pytest.approx(loss, rel=TOLERANCE[dtype])


@engines
@pytest.mark.parametrize("own_orders", [False, True])
@pytest.mark.parametrize("own_parameters", [False, True])
def test_what_is_given_once_is_shared_by_all_masks(tiny, own_parameters, own_orders, engine):
    recipe = RECIPES["momentum"]
    networks = [MODELS["mlp"](tiny, seed) for seed in range(4)]
    masks = masks_for(networks[0], 4)
    initial = [n.parameters() for n in networks][: 4 if own_parameters else 1]
    orders = [data_order(61, recipe, [seed]) for seed in range(4)][: 4 if own_orders else 1]
    cohort = Cohort(networks[0].wiring, masks, initial, device=CPU, dtype=torch.float64, engine=engine)
    train(cohort, tiny, recipe, orders)
    for i, mask in enumerate(masks):
        theta, order = initial[i if own_parameters else 0], orders[i if own_orders else 0]
        wanted, *_ = plain_training(networks[0], mask, theta, tiny, recipe, order, torch.float64)
        for name, value in wanted.items():
            matter = matters(networks[0], mask)[name]
            assert relative(cohort.parameters()[name][i], value, matter) < 1e-10


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
    train(cohort, tiny, RECIPES["momentum"], [data_order(61, RECIPES["momentum"], [0])])
    after = evaluate(cohort, tiny.x_validation, tiny.y_validation)
    assert (after.loss < 0.85 * before.loss).all()
    assert (after.accuracy > before.accuracy).all()


def test_training_writes_neither_to_the_network_nor_to_the_parameters_given(tiny):
    network = MODELS["mlp"](tiny, 0)
    given = network.parameters()
    cohort = Cohort(network.wiring, masks_for(network, 1), [given], device=CPU)
    train(cohort, tiny, RECIPES["momentum"], [data_order(61, RECIPES["momentum"], [0])])
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
    with pytest.raises(BadInput, match=r"1 or one for each mask \(3\), but got 2"):
        Cohort(network.wiring, masks_for(network, 3), [network.parameters()] * 2, device=CPU)


@engines
@pytest.mark.parametrize("samples", [1, 45, Single.block, Stack.block, 2 * Stack.block + 371])
def test_an_evaluation_is_the_mean_over_all_samples(tiny, samples, engine):
    network = MODELS["residual"](tiny, 0)
    masks = masks_for(network, 3)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(samples, 7, generator=generator)
    y = torch.randint(3, (samples,), generator=generator)
    cohort = Cohort(
        network.wiring, masks, [network.parameters()], device=CPU, dtype=torch.float64, engine=engine
    )
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


# --- three maskings


def one_layer(dataset):
    """A network of one Linear layer, three classes by seven features."""
    return initialize(lambda s, c: nn.Sequential(nn.Linear(s[0], c)), dataset, "as_built")


def cross_entropy_gradient(weight, bias, x, y):
    """Return dL/dW and dL/db of the mean cross-entropy of softmax(Wh + b), by hand."""
    z = x @ weight.T + bias
    probability = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    g = (probability - np.eye(len(weight))[y]) / len(y)
    return g.T @ x, g.sum(0)


@engines
@maskings
def test_one_step_of_sgd_on_one_layer_is_what_the_equations_say(tiny, masking, engine):
    if engine == "native" and masking != "parameter":
        pytest.skip("the native engine trains kept weights alone")
    network = one_layer(tiny)
    mask = masks_for(network, 1, seed=4)
    recipe = Recipe(steps=1, batch=11, lr=0.3, momentum=0.0, masking=masking)
    order = data_order(61, recipe, [0])
    cohort = Cohort(
        network.wiring, mask, [network.parameters()],
        device=CPU, dtype=torch.float64, masking=masking, engine=engine,
    )  # fmt: skip
    train(cohort, tiny, recipe, [order])
    x, y = tiny.x_train[order[0]].double().numpy(), tiny.y_train[order[0]].numpy()
    weight, bias = (p.double().numpy() for p in network.parameters().values())
    m = mask.reshape(weight.shape)
    forward = weight if masking == "gradient" else m * weight
    whole, of_bias = cross_entropy_gradient(forward, bias, x, y)
    wanted = {
        "parameter": m * weight - 0.3 * m * whole,  # equations 1 and 3
        "gradient": weight - 0.3 * m * whole,  # equation 3 alone
        "forward": weight - 0.3 * whole,  # equation 1 alone
    }[masking]
    found = [p[0].numpy() for p in cohort.parameters().values()]
    np.testing.assert_allclose(found[0], wanted, rtol=0, atol=1e-14)
    np.testing.assert_allclose(found[1], bias - 0.3 * of_bias, rtol=0, atol=1e-14)
    if masking == "gradient":
        assert (found[0][~m] == weight[~m]).all()
    assert np.abs(whole[~m]).min() > 1e-4  # what the maskings differ by


def decaying(recipe, masking, steps=12):
    return dataclasses.replace(recipe, steps=steps, masking=masking)


CASES = {
    "dense": (lambda tiny, digits: (tiny, MODELS["mlp"](tiny, 0)), None),
    "dense, residual": (lambda tiny, digits: (tiny, MODELS["residual"](tiny, 0)), None),
    "stacked": (lambda tiny, digits: (tiny, MODELS["residual"](tiny, 0)), "stacked"),
    "general": (lambda tiny, digits: (tiny, MODELS["mlp"](tiny, 0)), "single"),
    "convolutions": (lambda tiny, digits: (digits, images(digits)), "single"),
}
cases = pytest.mark.parametrize("case", CASES)
settings_of_training = pytest.mark.parametrize(
    ("case", "recipe"),
    every(
        list(itertools.product(CASES, RECIPES.values())),
        default=lambda member: member[0] == "dense" or member[1] == RECIPES["momentum"],
    ),
)


def begun(case, tiny, digits, masking, size=3):
    make, engine = CASES[case]
    dataset, network = make(tiny, digits)
    masks = masks_for(network, size, density=0.5)
    cohort = Cohort(network.wiring, masks, [tensors_of(network)], device=CPU, masking=masking, engine=engine)
    return dataset, network, masks, cohort


@settings_of_training
def test_pruned_weights_are_exactly_zero_after_every_step(tiny, digits, case, recipe):
    dataset, network, masks, cohort = begun(case, tiny, digits, "parameter")
    recipe = decaying(recipe, "parameter", 20)
    start = [weight.clone() for weight, _ in hidden_weights(cohort)]
    steps = []

    def check(step):
        for weight, mask in hidden_weights(cohort):  # as the optimizer left them
            assert torch.count_nonzero(weight[mask == 0]) == 0
        for name, part in network.spec.split(masks).items():
            assert torch.count_nonzero(cohort.parameters()[name][torch.from_numpy(~part)]) == 0
        steps.append(step)

    check(-1)
    order = data_order(len(dataset.y_train), recipe, [0])
    train(cohort, dataset, recipe, [order], after_step=check)
    assert steps == list(range(-1, recipe.steps))
    moved = [(weight != old).sum() for (weight, _), old in zip(hidden_weights(cohort), start, strict=True)]
    alive = sum(live(mask, network.spec).sum() for mask in masks)
    assert alive <= sum(mask.sum() for _, mask in hidden_weights(cohort)) <= masks.sum()
    assert sum(moved) > 0.3 * masks.sum()  # not all: some units are dead


@settings_of_training
def test_under_gradient_weights_that_are_not_kept_stay_exactly_at_their_initial_values(
    tiny, digits, case, recipe
):
    dataset, network, masks, cohort = begun(case, tiny, digits, "gradient")
    recipe = decaying(recipe, "gradient")
    initial = network.parameters()

    def check(_):
        found = cohort.parameters()
        for name, part in network.spec.split(masks).items():
            same = found[name] == initial[name]
            assert same[torch.from_numpy(~part)].all()
        return found

    check(-1)
    order = data_order(len(dataset.y_train), recipe, [0])
    train(cohort, dataset, recipe, [order], after_step=check)
    for name, part in network.spec.split(masks).items():
        kept = torch.from_numpy(part)
        moved = (cohort.parameters()[name] != initial[name])[kept]
        assert moved.float().mean() > 0.3, name


@settings_of_training
def test_under_forward_hidden_weights_keep_learning(tiny, digits, case, recipe):
    dataset, network, masks, cohort = begun(case, tiny, digits, "forward")
    recipe = dataclasses.replace(decaying(recipe, "forward"), weight_decay=0.0)
    initial = network.parameters()
    order = data_order(len(dataset.y_train), recipe, [0])
    train(cohort, dataset, recipe, [order])
    for name, part in network.spec.split(masks).items():
        moved = cohort.parameters()[name] != initial[name]
        assert moved[torch.from_numpy(~part)].float().mean() > 0.3, name
        assert moved[torch.from_numpy(part)].float().mean() > 0.3, name


def trained_module(network, tensors, mask=None):
    """Return a copy of the module with these tensors, its weights through the mask if there is one."""
    module = copy.deepcopy(network.module).double().eval()
    parts = {} if mask is None else network.spec.split(mask)
    with torch.no_grad():
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            keep = torch.from_numpy(parts[name]) if name in parts else 1
            tensor.copy_(tensors[name] * keep)
    return module


@cases
@maskings
def test_an_evaluation_is_of_the_weights_through_the_mask_or_of_all_weights(tiny, digits, case, masking):
    make, engine = CASES[case]
    dataset, network = make(tiny, digits)
    masks = masks_for(network, 3, density=0.5)
    initial = [tensors_of(network)]
    options = {"device": CPU, "dtype": torch.float64, "masking": masking, "engine": engine}
    cohort = Cohort(network.wiring, masks, initial, **options)
    recipe = Recipe(20, 16, lr=0.05, masking=masking)
    train(cohort, dataset, recipe, [data_order(len(dataset.y_train), recipe, [0])])
    x, y = dataset.x_validation, dataset.y_validation
    through, whole, own = (evaluate(cohort, x, y, masked=masked) for masked in (True, False, None))
    tensors = {**cohort.parameters(), **cohort.buffers()}
    for i, mask in enumerate(masks):
        for found, bits in ((through, mask), (whole, None)):
            mine = {name: tensor[i] for name, tensor in tensors.items()}
            with torch.no_grad():
                logits = trained_module(network, mine, bits)(x.double())
            assert found.loss[i] == pytest.approx(F.cross_entropy(logits, y).item(), rel=1e-10)
            assert found.accuracy[i] == (logits.argmax(1) == y).double().mean().item()
    expected = whole if masking == "gradient" else through
    assert np.array_equal(own.loss, expected.loss)
    assert np.array_equal(own.accuracy, expected.accuracy)
    assert np.array_equal(through.loss, whole.loss) is (masking == "parameter")


def test_a_cohort_is_trained_by_the_masking_it_was_made_for(tiny):
    network = MODELS["mlp"](tiny, 0)
    cohort = Cohort(network.wiring, masks_for(network, 1), [network.parameters()], device=CPU)
    recipe = Recipe(1, 16, masking="forward")
    message = refusal(train, cohort, tiny, recipe, [data_order(61, recipe, [0])])
    assert "'parameter', but got 'forward'" in message
    arguments = network.wiring, masks_for(network, 1), [network.parameters()]
    assert refusal(Cohort, *arguments, device=CPU, masking="froward").startswith(
        "unknown masking 'froward' (did you mean 'forward'?)"
    )


# --- two engines


ENGINE_MODELS = {
    **MODELS,
    "sigmoid": lambda dataset, seed: initialize("mlp:9,5", dataset, seed=seed, activation="sigmoid"),
    "concatenation and dropout": lambda dataset, seed: initialize(
        lambda s, c: Parts(s[0], c), dataset, "as_built", seed=seed
    ),
}


@maskings
@pytest.mark.parametrize("model", ENGINE_MODELS)
def test_engines_train_the_same_networks(tiny, model, masking):
    networks = [ENGINE_MODELS[model](tiny, seed) for seed in range(3)]
    masks = masks_for(networks[0], 3)
    recipe = Recipe(30, 13, lr=0.05, weight_decay=1e-3, masking=masking)
    orders = [data_order(61, recipe, [seed]) for seed in range(3)]
    cohorts = []
    for engine in ("native" if masking == "parameter" else "stacked", "single"):
        initial = [network.parameters() for network in networks]
        options = {"device": CPU, "dtype": torch.float64, "masking": masking, "engine": engine}
        cohorts.append(Cohort(networks[0].wiring, masks, initial, **options))
        train(cohorts[-1], tiny, recipe, orders)
    dense, general = (cohort.parameters() for cohort in cohorts)
    assert list(dense) == [name for name in general if name in dense]
    assert set(dense) == set(general)
    for name, value in general.items():
        matter = torch.stack([matters(networks[0], mask)[name] for mask in masks])
        assert relative(dense[name], value, matter) < 1e-10, name
    for masked in (None, True, False):
        ours, theirs = (evaluate(c, tiny.x_test, tiny.y_test, masked=masked) for c in cohorts)
        np.testing.assert_allclose(ours.loss, theirs.loss, rtol=1e-10)
        assert np.array_equal(ours.accuracy, theirs.accuracy)


@pytest.mark.parametrize(
    ("optimizer", "masking"),
    every(
        list(itertools.product(RECIPES, MASKINGS)),
        default=lambda member: "momentum" in member or "parameter" in member,
    ),
)
def test_convolutions_and_batch_normalisation_follow_a_plain_loop_at_every_step(digits, optimizer, masking):
    # Equal pixels make equal values, of which pooling would take one by their last bits.
    noise = torch.randn(digits.x_train.shape, generator=torch.Generator().manual_seed(0))
    digits = dataclasses.replace(digits, x_train=digits.x_train + 0.01 * noise)
    networks = [images(digits, seed=seed) for seed in range(2)]
    masks = masks_for(networks[0], 2)
    recipe = decaying(RECIPES[optimizer], masking, 15)
    orders = [data_order(len(digits.y_train), recipe, [seed]) for seed in range(2)]
    initial = [tensors_of(network) for network in networks]
    options = {"device": CPU, "dtype": torch.float64, "masking": masking}
    cohort = Cohort(networks[0].wiring, masks, initial, **options)
    loops = [torch_loop(n, m, digits, recipe, o) for n, m, o in zip(networks, masks, orders, strict=True)]
    steps = []

    def check(step):
        parameters, buffers = cohort.parameters(), cohort.buffers()
        for i, loop in enumerate(loops):
            module, hidden = next(loop)
            whole = hidden if masking == "forward" else dict(module.named_parameters())
            assert set(parameters) == set(whole)
            for name, value in whole.items():
                if name != "conv2.bias" or not recipe.optimizer.startswith("adam"):
                    # Normalisation takes this bias away: its gradient is rounding, which Adam scales to 1.
                    difference = (parameters[name][i] - value)[matters(networks[i], masks[i])[name]]
                    assert difference.abs().max() < 1e-10, (step, name)
            for name, value in module.named_buffers():
                if not name.endswith("num_batches_tracked"):
                    if name == "norm2.running_mean" and recipe.optimizer.startswith("adam"):
                        continue
                    difference = (buffers[name][i] - value)[matters(networks[i], masks[i])[name]]
                    assert difference.abs().max() < 1e-10, (step, name)
        steps.append(step)

    train(cohort, digits, recipe, orders, after_step=check)
    assert steps == list(range(15))
    assert not torch.equal(cohort.buffers()["norm1.running_mean"][0], initial[0]["norm1.running_mean"])
    found = evaluate(cohort, digits.x_validation, digits.y_validation)
    for i, loop in enumerate(loops):
        assert next(loop, None) is None
        mine = {n: t[i] for n, t in {**cohort.parameters(), **cohort.buffers()}.items()}
        module = trained_module(networks[i], mine, None if masking == "gradient" else masks[i])
        with torch.no_grad():
            logits = module(digits.x_validation.double())
        assert found.loss[i] == pytest.approx(F.cross_entropy(logits, digits.y_validation).item(), rel=1e-10)


def test_training_a_convolutional_network_writes_to_nothing_that_is_given(digits):
    network = images(digits)
    before = {name: tensor.clone() for name, tensor in network.module.state_dict().items()}
    given = tensors_of(network)
    recipe = Recipe(3, 16)
    cohort = Cohort(network.wiring, masks_for(network, 2), [given], device=CPU)
    train(cohort, digits, recipe, [data_order(len(digits.y_train), recipe, [0])])
    evaluate(cohort, digits.x_validation, digits.y_validation)
    for module in (network.module, network.wiring.module):
        assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert all(torch.equal(given[name], tensor) for name, tensor in before.items())


def test_an_evaluation_moves_no_running_statistics(digits):
    network = images(digits)
    cohort = Cohort(network.wiring, masks_for(network, 1), [tensors_of(network)], device=CPU)
    evaluate(cohort, digits.x_validation, digits.y_validation)
    for name, buffer in network.buffers().items():
        assert torch.equal(cohort.buffers()[name][0], buffer)


def test_a_missing_buffer_is_refused(digits):
    network = images(digits)
    arguments = network.wiring, masks_for(network, 1), [network.parameters()]
    assert "'norm1.running_mean' is missing" in refusal(Cohort, *arguments, device=CPU)


def test_batches_of_one_are_refused_where_batch_normalisation_needs_two(tiny, digits):
    def normalised(shape, classes):
        return nn.Sequential(nn.Linear(shape[0], 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, classes))

    network = initialize(normalised, tiny)
    cohort = Cohort(network.wiring, masks_for(network, 1), [tensors_of(network)], device=CPU)
    for batch in (1, 2):
        recipe = Recipe(1, batch)
        arguments = cohort, tiny, recipe, [data_order(61, recipe, [0])]
        if batch == 1:
            assert "batch >= 2 in training, but got 1" in refusal(train, *arguments)
        else:
            train(*arguments)
    network = images(digits)  # many positions are many values
    cohort = Cohort(network.wiring, masks_for(network, 1), [tensors_of(network)], device=CPU)
    recipe = Recipe(1, 1)
    train(cohort, digits, recipe, [data_order(len(digits.y_train), recipe, [0])])


class Declared(nn.Module):
    """What no trace reads, with its groups declared by hand."""

    neuron_groups = {  # noqa: RUF012
        "first": ("hidden", "input"),
        "shift": ("hidden",),
        "norm.weight": ("hidden",),
        "norm.bias": ("hidden",),
        "norm.running_mean": ("hidden",),
        "norm.running_var": ("hidden",),
        "second": ("output", "hidden"),
    }

    def __init__(self, features, classes, p=0.0):
        super().__init__()
        self.first, self.shift = nn.Parameter(torch.randn(6, features) / 3), nn.Parameter(torch.zeros(6))
        self.norm = nn.BatchNorm1d(6)
        self.second = nn.Parameter(torch.randn(classes, 6) / 3)
        self.drop = nn.Dropout(p)

    def forward(self, x):
        x = torch.einsum("ni,hi->nh", x, self.first) + self.shift
        return torch.einsum("nh,oh->no", self.drop(torch.relu(self.norm(x))), self.second)


def declared(dataset, p=0.0):
    return initialize(lambda shape, classes: Declared(shape[0], classes, p), dataset, "as_built")


@maskings
def test_a_network_with_declared_groups_follows_a_plain_loop(tiny, masking):
    network = declared(tiny)
    masks = masks_for(network, 1)
    recipe = Recipe(10, 16, weight_decay=1e-3, masking=masking)
    order = data_order(61, recipe, [0])
    options = {"device": CPU, "dtype": torch.float64, "masking": masking}
    cohort = Cohort(network.wiring, masks, [tensors_of(network)], **options)
    train(cohort, tiny, recipe, [order])
    *_, (module, hidden) = torch_loop(network, masks[0], tiny, recipe, order)
    wanted = hidden if masking == "forward" else dict(module.named_parameters())
    for name, value in wanted.items():
        # The shift's gradient is rounding, as normalisation takes it away.
        assert (cohort.parameters()[name][0] - value.detach()).abs().max() < 1e-10, name
    for name, value in module.named_buffers():
        assert (cohort.buffers()[name][0] - value).abs().max() < 1e-10, name


def test_dropout_in_a_network_with_declared_groups_is_refused(tiny):
    network = declared(tiny, p=0.5)
    arguments = network.wiring, masks_for(network, 1), [tensors_of(network)]
    assert "'drop' drops units of Declared" in refusal(Cohort, *arguments, device=CPU)


# --- dropout


def dropped(function, p, shape, batches=((0, 1, 2), (3, 4, 5)), step=0):
    """Return the factors of a dropout step on values of a shape."""
    like = torch.zeros(1, dtype=torch.float64)
    made = Step("dropout", (0,), shape[1:], Dropout(function, p))
    return Noise(np.array(batches), step).factors(made, shape, like)


@pytest.mark.parametrize(
    ("function", "shape", "drawn"),
    [
        (F.dropout, (40, 9), (40, 9)),
        (F.dropout, (40, 9, 3, 2), (40, 9, 3, 2)),
        (F.dropout1d, (40, 9, 3), (40, 9, 1)),
        (F.dropout2d, (40, 9, 3, 2), (40, 9, 1, 1)),
        (F.dropout3d, (40, 9, 3, 2, 2), (40, 9, 1, 1, 1)),
        (F.dropout1d, (40, 9), (40, 1)),
        (F.dropout2d, (40, 9), (40, 9)),
        (F.dropout2d, (40, 9, 3), (40, 9, 1)),
        (F.dropout3d, (40, 9, 3, 2), (40, 1, 1, 1)),
    ],
)
@pytest.mark.filterwarnings("ignore:dropout")
def test_dropout_drops_what_torchs_function_drops(function, shape, drawn):
    factors = dropped(function, 0.25, shape)
    assert factors.shape == (2, *drawn)
    assert set(factors.unique().tolist()) == {0.0, 1 / 0.75}
    theirs = function(torch.ones(shape, dtype=torch.float64), 0.25, True)
    assert set(theirs.unique().tolist()) == {0.0, 1 / 0.75}
    # What torch drops together: constant along the axes that we draw once for.
    for axis, size in enumerate(drawn):
        if size == 1:
            assert (theirs == theirs.narrow(axis, 0, 1)).all()
        else:
            assert not (theirs == theirs.narrow(axis, 0, 1)).all()
    assert (dropped(F.dropout, 0.25, (200, 50)) == 0).double().mean() == pytest.approx(0.25, abs=0.01)


def test_all_or_nothing_can_be_dropped():
    assert (dropped(F.dropout, 0.0, (4, 3)) == 1).all()
    assert (dropped(F.dropout, 1.0, (4, 3)) == 0).all()


def test_noise_depends_on_samples_and_step_and_nothing_else():
    first = dropped(F.dropout, 0.5, (3, 20))
    assert torch.equal(first, dropped(F.dropout, 0.5, (3, 20)))
    assert torch.equal(first[1:], dropped(F.dropout, 0.5, (3, 20), batches=((3, 4, 5),)))
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first, dropped(F.dropout, 0.5, (3, 20), step=1))
    noise, step = Noise(np.array([[0, 1]]), 0), Step("dropout", (0,), (9,), Dropout(F.dropout, 0.5))
    like = torch.zeros(1)
    assert not torch.equal(noise.factors(step, (2, 9), like), noise.factors(step, (2, 9), like))


def with_dropout(kind, tiny, digits):
    if kind == "convolutions":
        return digits, images(digits, p=0.4), "single"
    return tiny, ENGINE_MODELS["concatenation and dropout"](tiny, 0), kind


@pytest.mark.parametrize("kind", [*PARTS, "convolutions"])
def test_dropout_is_the_same_in_any_cohort_and_leaves_torchs_generator_alone(tiny, digits, kind):
    dataset, network, engine = with_dropout(kind, tiny, digits)
    masks = masks_for(network, 4)
    recipe = Recipe(12, 13)
    orders = [data_order(len(dataset.y_train), recipe, [seed]) for seed in (0, 0, 1, 1)]

    def losses(masks, orders):
        cohort = Cohort(network.wiring, masks, [tensors_of(network)], device=CPU, engine=engine)
        torch.manual_seed(len(masks))  # of no account
        state = torch.get_rng_state()
        train(cohort, dataset, recipe, orders)
        assert torch.equal(torch.get_rng_state(), state)
        return evaluate(cohort, dataset.x_validation, dataset.y_validation).loss

    together = losses(masks, orders)
    for i in range(4):
        assert losses(masks[i : i + 1], orders[i : i + 1])[0] == together[i]
    assert np.array_equal(losses(masks[:2], orders[:1]), together[:2])
    same = losses(masks[[0, 0, 0]], [orders[0], orders[2], orders[0]])
    assert same[0] == same[2] == together[0] != same[1]


def test_dropout_follows_a_plain_loop_with_the_same_noise(tiny, monkeypatch):
    """The network's own module, its dropout replaced by the factors that the engine draws."""
    network = ENGINE_MODELS["concatenation and dropout"](tiny, 0)
    masks = masks_for(network, 1)
    recipe = Recipe(10, 13, weight_decay=1e-3)
    order = data_order(61, recipe, [0])
    cohort = Cohort(network.wiring, masks, [network.parameters()], device=CPU, dtype=torch.float64)
    train(cohort, tiny, recipe, [order])
    steps = [step for step in network.wiring.steps if step.operation == "dropout"]
    calls = iter(
        noise.factors(step, (13, *step.shape), torch.zeros(1, dtype=torch.float64))[0]
        for noise in (Noise(chosen[None], number) for number, chosen in enumerate(order))
        for step in steps
    )
    monkeypatch.setattr(nn.Dropout, "forward", lambda self, x: x * next(calls))
    *_, (module, _) = torch_loop(network, masks[0], tiny, recipe, order)
    assert next(calls, None) is None
    for name, value in module.named_parameters():
        assert relative(cohort.parameters()[name][0], value.detach()) < 1e-10, name


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
    with pytest.raises(BadInput, match="10 samples, but got batch=11"):
        data_order(10, Recipe(steps=1, batch=11), [0])


# --- recipes and devices


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": -1}, "steps must be an integer >= 0, but got -1"),
        ({"steps": 1.5}, "steps must be an integer >= 0, but got 1.5"),
        ({"batch": 0}, "batch must be an integer >= 1, but got 0"),
        ({"batch": True}, "batch must be an integer >= 1, but got True"),
        ({"batch": "8"}, "batch must be an integer >= 1, but got '8'"),
        ({"steps": 2**22, "batch": 128}, "steps x batch must be <= 268,435,456"),
        ({"lr": 0}, "lr must be > 0 and finite, but got 0"),
        ({"lr": float("nan")}, "lr must be > 0 and finite, but got nan"),
        ({"lr": "0.1"}, "lr must be > 0 and finite, but got '0.1'"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\), but got 1.0"),
        ({"momentum": -0.1}, r"momentum must be in \[0, 1\), but got -0.1"),
        ({"weight_decay": -1e-9}, "weight_decay must be >= 0 and finite, but got -1e-09"),
        ({"weight_decay": float("nan")}, "weight_decay must be >= 0 and finite, but got nan"),
        ({"weight_decay": float("inf")}, "weight_decay must be >= 0 and finite, but got inf"),
        ({"optimizer": "nesterov", "momentum": 0}, "nesterov needs momentum > 0, but got 0"),
        ({"lr_schedule": "cosin"}, r"unknown lr_schedule 'cosin' \(did you mean 'cosine'\?\): known are "),
        ({"lr_schedule": []}, r"unknown lr_schedule '\[\]': known are constant, cosine, linear"),
        ({"masking": []}, r"unknown masking '\[\]': known are forward, gradient, parameter"),
        ({"masking": "weight"}, "unknown masking 'weight': known are forward, gradient, parameter"),
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


@pytest.mark.parametrize(("schedule", "end"), [("constant", 0.05), ("linear", 0.0), ("cosine", 0.0)])
def test_the_rate_after_the_last_step_is_what_the_schedule_ends_with(schedule, end):
    for step in (10, 11, 30):
        assert Recipe(10, lr_schedule=schedule).rate(step) == end
    assert Recipe(10, lr_schedule=schedule).rate(0) == 0.05
    assert Recipe(0, lr_schedule=schedule).rate(0) == end


@pytest.mark.parametrize("begin", [-1, 6, 1.5, None])
def test_training_begins_at_a_step_of_its_recipe(tiny, begin):
    network = initialize("mlp:9", tiny)
    recipe = Recipe(5, 8)
    orders = [data_order(len(tiny.y_train), recipe, [0])]
    cohort = Cohort(network.wiring, masks_for(network, 1), [tensors_of(network)], device=CPU)
    refused(
        lambda: Training(cohort, tiny, recipe, orders, begin=begin),
        "from 0 to 5",
        repr(begin),
    )


@pytest.mark.parametrize("name", ["gpu", "", "mps", "meta", "cuda:x", "tpu:0", None, 1.5, 10**30])
def test_a_device_that_is_none_is_refused(name):
    with pytest.raises(BadInput, match=f"auto, cpu, cuda or cuda:N, but got {name!r}"):
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


def test_reproducible_convolutions_leave_torch_as_it_was():
    cudnn = torch.backends.cudnn
    before = (cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32)
    with reproducible():
        assert torch.get_num_threads() == 1
        assert (cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32) == (True, False, False)
    assert (cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32) == before
    with pytest.raises(ZeroDivisionError), reproducible():
        assert 1 / 0
    assert (cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32) == before


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@maskings
@pytest.mark.parametrize("optimizer", training.OPTIMIZERS)
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize("model", ["mlp", "convolutional"])
def test_cuda_and_cpu_find_the_same_loss(digits, model, schedule, optimizer, masking):
    network = initialize("mlp:100,50", digits) if model == "mlp" else images(digits, p=0.2)
    masks = masks_for(network, 5, density=0.5)
    recipe = Recipe(20, 128, optimizer, lr=0.01, lr_schedule=schedule, masking=masking)
    order = data_order(len(digits.y_train), recipe, [0])
    losses = []
    for device in (CPU, torch.device("cuda")):
        cohort = Cohort(network.wiring, masks, [tensors_of(network)], device=device, masking=masking)
        with reproducible():
            train(cohort, digits, recipe, [order])
            losses.append(evaluate(cohort, digits.x_validation, digits.y_validation).loss)
    np.testing.assert_allclose(*losses, rtol=1e-3)
