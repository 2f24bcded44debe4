"""Parameters with requires_grad=False: every engine leaves them alone, masks may prune them."""

import copy
import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import every, refused
from loops import Images, by_hand, masks_for, matters, recipes, relative, tensors_of
from torch import nn

import ticketsearch as ts
from ticketsearch.masks import live_units
from ticketsearch.models import initialize
from ticketsearch.pruners import prune
from ticketsearch.training import Cohort, Recipe, Training, data_order, train
from ticketsearch.training.native import Native

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
RECIPES = recipes(6, 16)


def frozen(build, *names):
    """Return a factory whose module has these parameters frozen."""

    def factory(input_shape, classes):
        module = build(input_shape, classes)
        for name in names:
            module.get_parameter(name).requires_grad_(False)
        return module

    return factory


def layers(input_shape, classes):
    features = int(np.prod(input_shape))
    wide = nn.Linear(features, 12), nn.Tanh(), nn.Linear(12, 9), nn.Tanh(), nn.Linear(9, classes)
    return nn.Sequential(nn.Flatten(), *wide)


def normed(input_shape, classes):
    return Images(classes)


CASES = {
    "first weights": (layers, ["1.weight"]),
    "first layer": (layers, ["1.weight", "1.bias"]),
    "all biases": (layers, ["1.bias", "3.bias", "5.bias"]),
    "all but the last bias": (layers, ["1.weight", "1.bias", "3.weight", "3.bias", "5.weight"]),
    "a convolution": (normed, ["conv1.weight", "conv2.bias"]),
    "a normalisation": (normed, ["norm1.weight", "norm1.bias"]),
    "all of an image network but its last layer": (
        normed,
        ["conv1.weight", "norm1.weight", "norm1.bias", "conv2.weight", "conv2.bias"],
    ),
}


def by_plain_loop(network, mask, dataset, recipe, order):
    """Return what a loop of torch trains: what has requires_grad moves, weights through the mask."""
    module = copy.deepcopy(network.module).double().train()
    keep = {name: torch.from_numpy(part).double() for name, part in network.spec.split(mask).items()}
    with torch.no_grad():
        for name, own in keep.items():
            module.get_parameter(name).mul_(own)
    learning = [own for own in module.parameters() if own.requires_grad]
    optimizer, schedule = by_hand(learning, recipe)
    for chosen in order:
        optimizer.zero_grad()
        F.cross_entropy(module(dataset.x_train[chosen].double()), dataset.y_train[chosen]).backward()
        for name, own in keep.items():
            if module.get_parameter(name).grad is not None:
                module.get_parameter(name).grad.mul_(own)
        optimizer.step()
        schedule.step()
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def check(network, dataset, masks, recipe, engine):
    """Compare an engine with the loop, and frozen parameters with what they were."""
    orders = [data_order(len(dataset.y_train), recipe, [7])]
    cohort = Cohort(
        network.wiring, masks, [tensors_of(network)], device=CPU, dtype=torch.float64, engine=engine
    )
    train(cohort, dataset, recipe, orders)
    trained = {**cohort.parameters(), **cohort.buffers()}
    initial = tensors_of(network)
    for number, mask in enumerate(masks):
        theirs = by_plain_loop(network, mask, dataset, recipe, orders[0])
        matter = matters(network, mask)
        for name, own in trained.items():
            if name in ("conv2.bias", "norm2.running_mean"):  # normalised away: a gradient of rounding
                continue
            if own.is_floating_point() and bool(matter[name].any()) and theirs[name].abs().max() > 0:
                assert relative(own[number], theirs[name].detach(), matter[name]) < 1e-10, name
        parts = network.spec.split(mask)
        for name in network.wiring.frozen:
            kept = torch.from_numpy(parts[name]) if name in parts else 1
            assert torch.equal(trained[name][number], initial[name].double() * kept), name
    return cohort


@pytest.mark.parametrize(
    ("case", "recipe"),
    every(
        list(itertools.product(CASES, RECIPES)),
        default=lambda member: member[0] == "first layer" or member[1] == "adamw",
    ),
)
def test_a_frozen_parameter_stays_and_the_others_train_as_in_a_plain_loop(case, recipe, digits):
    build, names = CASES[case]
    network = initialize(frozen(build, *names), digits, scheme="as_built", seed=2)
    assert network.wiring.frozen == set(names)
    masks = masks_for(network, 2)
    for engine in ("stacked", "single") if network.wiring.dense else ("single",):
        check(network, digits, masks, RECIPES[recipe], engine)
    if network.wiring.dense:
        cohort = check(network, digits, masks, RECIPES[recipe], None)
        assert all(isinstance(part, Native) for part in cohort.parts)
        Training(
            cohort, digits, RECIPES[recipe], [data_order(len(digits.y_train), RECIPES[recipe], [7])]
        ).guidance(0.1)


@pytest.mark.parametrize("masking", ["gradient", "forward"])
@pytest.mark.parametrize("engine", ["stacked", "single"])
def test_a_frozen_weight_stays_under_every_masking(masking, engine, digits):
    network = initialize(frozen(layers, "1.weight", "3.bias"), digits)
    recipe = Recipe(4, 16, "adamw", weight_decay=0.1, masking=masking)
    cohort = Cohort(
        network.wiring,
        masks_for(network, 2),
        [tensors_of(network)],
        device=CPU,
        masking=masking,
        engine=engine,
    )
    train(cohort, digits, recipe, [data_order(len(digits.y_train), recipe, [1])])
    trained = cohort.parameters()
    for name in ("1.weight", "3.bias"):
        assert (trained[name] == network.parameters()[name]).all()
    assert (trained["3.weight"] != network.parameters()["3.weight"]).any()


def test_training_that_stops_and_goes_on_keeps_frozen_parameters(digits):
    network = initialize(frozen(normed, "conv1.weight", "norm1.bias"), digits)
    recipe = RECIPES["adam"]
    orders = [data_order(len(digits.y_train), recipe, [3])]
    found = []
    for stop in (None, 3):
        cohort = Cohort(network.wiring, masks_for(network, 1), [tensors_of(network)], device=CPU)
        training = Training(cohort, digits, recipe, orders)
        if stop:
            training.advance(stop)
            states = training.states()
            cohort = Cohort(network.wiring, masks_for(network, 1), [tensors_of(network)], device=CPU)
            training = Training(cohort, digits, recipe, orders)
            training.restore(states, stop)
        training.advance(recipe.steps)
        found.append(cohort.parameters())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_running_statistics_of_a_frozen_normalisation_move_and_those_in_evaluation_mode_do_not(digits):
    class Fixed(Images):
        def train(self, mode=True):
            super().train(mode)
            self.norm1.eval()
            return self

    network = initialize(lambda shape, classes: Fixed(classes), digits)
    before = network.buffers()
    masks = masks_for(network, 1)
    cohort = check(network, digits, masks, RECIPES["momentum"], False)
    after = cohort.buffers()
    assert torch.equal(after["norm1.running_mean"][0], before["norm1.running_mean"].double())
    assert not torch.equal(after["norm2.running_mean"][0], before["norm2.running_mean"].double())
    network = initialize(frozen(normed, "norm1.weight", "norm1.bias"), digits)
    after = check(network, digits, masks, RECIPES["momentum"], False).buffers()
    assert not torch.equal(after["norm1.running_mean"][0], before["norm1.running_mean"].double())


def test_a_frozen_bias_of_zero_gives_no_unit_life(digits):
    free = initialize(layers, digits)
    still = initialize(frozen(layers, "1.bias"), digits)
    mask = np.ones(free.spec.size, dtype=bool)
    free.spec.split(mask)["1.weight"][0] = False  # nothing feeds unit 0
    assert live_units(mask, free.spec)["1"][0]
    assert not live_units(mask, still.spec)["1"][0]
    built = initialize(frozen(layers, "1.bias"), digits, scheme="as_built")
    assert live_units(mask, built.spec)["1"][0]  # a frozen bias that is not 0 is a constant
    other = mask.copy()
    free.spec.split(other)["3.weight"][:, 0] = False  # nobody reads it
    keys = [ts.canonical_key(each, still.spec) for each in (mask, other)]
    assert keys[0] == keys[1]
    assert ts.canonical_key(mask, free.spec) != ts.canonical_key(other, free.spec)


def test_a_slope_that_is_frozen_at_zero_passes_no_gradient_to_a_bias():
    from ticketsearch.wiring import trace

    def constant(freeze):
        module = nn.Sequential(nn.Linear(4, 3), nn.PReLU(init=0.0), nn.Linear(3, 2))
        nn.init.zeros_(module[0].bias)
        module[1].weight.requires_grad_(not freeze)
        return trace(module, (4,)).spec.nodes[1].constant

    assert (constant(False), constant(True)) == (True, False)


@pytest.mark.parametrize("name", ["imp", "obd", "averaged_imp"])
def test_pruners_that_train_score_frozen_weights_by_what_they_are(name, digits):
    network = initialize(frozen(layers, "1.weight"), digits)
    masks = prune(network, name, density=0.3, dataset=digits, training_steps=5, training_batch=32, seed=1)
    assert np.count_nonzero(masks) == round(0.3 * network.spec.size)
    if name == "imp":
        # The frozen ones are cut by their initial magnitudes alone.
        weights = network.parameters()["1.weight"].abs().numpy()
        kept = network.spec.split(masks)["1.weight"]
        assert weights[kept].min() >= weights[~kept].max()


def test_frozen_layers_make_another_fitness_and_none_that_learn_is_refused(digits):
    def build(names):
        return initialize(frozen(layers, *names), digits, scheme="as_built", seed=1)

    names = ["1.weight", "1.bias", "3.weight", "3.bias", "5.weight", "5.bias"]
    masks = np.ones((1, build([]).spec.size), dtype=bool)
    losses = {
        len(own): float(ts.ShortTraining(build(own), digits, steps=5)(masks)[0]) for own in ([], names[:1])
    }
    assert losses[0] != losses[1]
    refused(lambda: build(names), "all parameters of Sequential have requires_grad=False")
    assert build([]).reinitialized("orthogonal", 3).wiring.frozen == frozenset()
    assert build(names[:2]).reinitialized("orthogonal", 3).wiring.frozen == set(names[:2])


def test_a_saved_ticket_keeps_what_is_frozen(digits, tmp_path):
    factory = frozen(layers, "1.weight")
    network = initialize(factory, digits)
    ticket = ts.Ticket(masks_for(network, 1)[0])
    ts.save_ticket(tmp_path / "t.safetensors", network, ticket)
    loaded = ts.load_ticket(tmp_path / "t.safetensors", factory=factory)
    assert loaded.network.wiring.frozen == {"1.weight"}
