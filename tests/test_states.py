"""States: training that stops at a step and goes on in another cohort ends in the same bits."""

import itertools

import numpy as np
import pytest
import torch
from conftest import every
from loops import Images, Parts, Stream, masks_for, recipes, tensors_of
from torch import nn

from ticketsearch.masks import live, live_units
from ticketsearch.models import initialize
from ticketsearch.training import MASKINGS, Cohort, Recipe, Training, data_order, evaluate

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
STEPS = 5
RECIPES = recipes(STEPS, 13)
# Tensors of a weight's shape that an optimizer holds beside it.
SLOTS = {"sgd": 0, "momentum": 1, "nesterov": 1, "adam": 2, "adamw": 2}


def sloped(features, classes):
    """A slope for each unit and one for all: tensors of one entry, and of no axis but the units'."""
    layers = nn.Linear(features, 9), nn.PReLU(9), nn.Linear(9, 7), nn.PReLU(), nn.Linear(7, classes)
    return nn.Sequential(*layers)


class Scaled(nn.Module):
    """What no trace reads, with its groups declared by hand; its scale has no axis."""

    neuron_groups = {"first": ("hidden", "input"), "second": ("output", "hidden")}  # noqa: RUF012

    def __init__(self, features, classes):
        super().__init__()
        self.first = nn.Parameter(torch.randn(9, features) / 3)
        self.second = nn.Parameter(torch.randn(classes, 9) / 3)
        self.scale = nn.Parameter(torch.tensor(1.5))

    def forward(self, x):
        hidden = torch.relu(torch.einsum("ni,hi->nh", x, self.first))
        return self.scale * torch.einsum("nh,oh->no", hidden, self.second)


CASES = {
    "dense": lambda tiny, digits: (tiny, initialize("mlp", tiny, hidden="12,9"), None),
    "dense, wide": lambda tiny, digits: (digits, initialize("mlp", digits, hidden="150,40"), None),
    "dense, dropout": lambda tiny, digits: (
        tiny,
        initialize(lambda s, c: Parts(s[0], c), tiny, "as_built"),
        None,
    ),
    "dense, normalised": lambda tiny, digits: (
        tiny,
        initialize(lambda s, c: Stream(s[0], c, True), tiny, "as_built"),
        None,
    ),
    "stacked": lambda tiny, digits: (tiny, initialize("mlp", tiny, hidden="12,9"), "stacked"),
    "stacked, wide": lambda tiny, digits: (digits, initialize("mlp", digits, hidden="150,40"), "stacked"),
    "stacked, dropout": lambda tiny, digits: (
        tiny,
        initialize(lambda s, c: Parts(s[0], c), tiny, "as_built"),
        "stacked",
    ),
    "general": lambda tiny, digits: (tiny, initialize("mlp", tiny, hidden="12,9"), "single"),
    "convolutions, batch normalisation, dropout": lambda tiny, digits: (
        digits,
        initialize(lambda s, c: Images(c, 0.3), digits),
        "single",
    ),
    "slopes": lambda tiny, digits: (tiny, initialize(lambda s, c: sloped(s[0], c), tiny), "single"),
    "declared": lambda tiny, digits: (
        tiny,
        initialize(lambda s, c: Scaled(s[0], c), tiny, "as_built"),
        "single",
    ),
}
cases = pytest.mark.parametrize("case", CASES)
optimizers = pytest.mark.parametrize("optimizer", RECIPES)


class Setting:
    """Masks of several densities, each with its data order: what trains in this or that company."""

    def __init__(self, case, tiny, digits, optimizer, masking="parameter"):
        self.data, self.network, self.engine = CASES[case](tiny, digits)
        self.recipe = Recipe(**{**vars(RECIPES[optimizer]), "masking": masking})
        self.masks = np.concatenate(
            [
                masks_for(self.network, 1, seed, share)
                for seed, share in enumerate((0.6, 0.3, 0.3, 0.15, 0.05))
            ]
        )
        samples = len(self.data.y_train)
        self.orders = [data_order(samples, self.recipe, [seed]) for seed in range(len(self.masks))]

    def training(self, numbers):
        """Return the training of the masks of these numbers, not begun."""
        cohort = Cohort(
            self.network.wiring, self.masks[numbers], [tensors_of(self.network)],
            device=CPU, masking=self.recipe.masking, engine=self.engine,
        )  # fmt: skip
        return Training(cohort, self.data, self.recipe, [self.orders[number] for number in numbers])


def results(training, data):
    """Return everything that a training has made of each network."""
    cohort = training.cohort
    tensors = {**cohort.parameters(), **cohort.buffers()}
    for name, masked in (("through the mask", True), ("of all weights", False)):
        tensors[name] = torch.from_numpy(
            evaluate(cohort, data.x_validation, data.y_validation, masked=masked).loss
        )
    return tensors


def identical(found, wanted, numbers):
    assert set(found) == set(wanted)
    for name, own in found.items():
        assert torch.equal(own, wanted[name][numbers]), name


def equal(one, other):
    """Check states to the bit."""
    assert set(one) == set(other)
    for name, array in one.items():
        assert (array.dtype, array.shape) == (other[name].dtype, other[name].shape)
        assert array.tobytes() == other[name].tobytes(), name


# Masking and optimizer do not depend on the network: all of them on two, and every network by one.
@pytest.mark.parametrize(
    ("case", "optimizer", "masking"),
    every(
        list(itertools.product(CASES, RECIPES, MASKINGS)),
        default=lambda member: (
            member[0] in ("dense", "stacked", "general") or member[1:] == ("adam", "parameter")
        ),
    ),
)
def test_training_goes_on_in_another_cohort_to_the_same_bits(case, optimizer, masking, tiny, digits):
    """Stopped at any step; the others in another order, some of them, and some of them twice."""
    setting = Setting(case, tiny, digits, optimizer, masking)
    straight, states = setting.training(np.arange(5)), []
    states.append(straight.states())
    straight.advance(STEPS, after_step=lambda _: states.append(straight.states()))
    wanted = results(straight, setting.data)
    assert not torch.equal(wanted["through the mask"][0], wanted["through the mask"][1])
    for stopped, numbers in zip(
        range(STEPS + 1), ([3, 1], [4, 2, 0, 1, 3], [2], [1, 1, 4], [0, 3], [3, 0]), strict=True
    ):
        training = setting.training(np.array(numbers))
        training.restore([states[stopped][number] for number in numbers], stopped)
        for own, number in zip(training.states(), numbers, strict=True):
            equal(own, states[stopped][number])
        assert training.done == stopped
        training.advance(STEPS)
        identical(results(training, setting.data), wanted, numbers)
        for own, number in zip(training.states(), numbers, strict=True):
            equal(own, states[STEPS][number])


@cases
def test_what_is_restored_is_the_states_and_not_what_the_cohort_begins_with(case, tiny, digits):
    """A cohort that has trained on another data order, and one with another initialization."""
    setting = Setting(case, tiny, digits, "adam")
    straight = setting.training(np.arange(5))
    straight.advance(2)
    states = straight.states()
    straight.advance(STEPS)
    other = setting.training(np.arange(5))
    other.advance(1)
    other.restore(states, 2)
    other.advance(STEPS)
    identical(results(other, setting.data), results(straight, setting.data), np.arange(5))


@cases
def test_states_are_copies(case, tiny, digits):
    setting = Setting(case, tiny, digits, "sgd")
    training, straight = setting.training(np.arange(5)), setting.training(np.arange(5))
    training.advance(2)
    straight.advance(STEPS)
    for state in training.states():
        for array in state.values():
            array[...] = 7
    states = training.states()
    kept = [{name: array.copy() for name, array in state.items()} for state in states]
    training.advance(STEPS)
    for state, before in zip(states, kept, strict=True):
        equal(state, before)
    identical(results(training, setting.data), results(straight, setting.data), np.arange(5))
    other = setting.training(np.arange(5))
    other.restore(states, 2)
    other.advance(STEPS)
    for state, before in zip(states, kept, strict=True):
        equal(state, before)


# --- small


@optimizers
def test_a_state_holds_kept_weights_alone(optimizer, digits):
    """Those between the units that are left, what the optimizer has beside each, and buffers once."""
    setting = Setting("convolutions, batch normalisation, dropout", None, digits, optimizer)
    training = setting.training(np.arange(5))
    training.advance(2)
    spec = setting.network.spec
    for part, (number,) in zip(training.cohort.parts, training.cohort.indices, strict=True):
        mask, state = setting.masks[number], training.states()[number]
        parts = {name: torch.from_numpy(own.copy()) for name, own in spec.split(mask).items()}
        kept = sum(int(part.compactions[0].shrunk(name, own).sum()) for name, own in parts.items())
        assert int(live(mask, spec).sum()) <= kept <= mask.sum()
        first, second = (max(1, int(live_units(mask, spec)[name].sum())) for name in ("conv1", "conv2"))
        others = 2 * first + second + 10  # scale and shift, a bias, and those of the classes
        buffers = 2 * first + 2 * second + 2
        counters = sum(name.endswith(" step") for name in state)
        expected = (kept + others) * (1 + SLOTS[optimizer]) + buffers + counters
        assert sum(array.size for array in state.values()) == expected


@pytest.mark.parametrize("engine", ["native", "stacked"])
@optimizers
def test_states_of_sparse_networks_are_small(optimizer, engine, digits):
    """What their masks leave out is not held, also of networks that are rounded up to common widths."""
    network = initialize("lenet_300_100", digits)
    masks = np.random.default_rng(0).random((3, network.spec.size)) < 0.02
    recipe = Recipe(**{**vars(RECIPES[optimizer]), "steps": 2})
    cohort = Cohort(network.wiring, masks, [network.parameters()], device=CPU, engine=engine)
    training = Training(cohort, digits, recipe, [data_order(len(digits.y_train), recipe, [0])])
    training.advance(2)
    biases = 300 + 100 + 10
    for mask, state in zip(masks, training.states(), strict=True):
        assert all(array.dtype == np.float32 for array in state.values())
        size = sum(array.nbytes for array in state.values())
        least, most = (int(own.sum()) for own in (live(mask, network.spec), mask))
        slots = 4 * (1 + SLOTS[optimizer])
        assert least * slots <= size <= (most + biases) * slots + 4 * len(state)


@pytest.mark.parametrize("masking", ["gradient", "forward"])
def test_under_other_maskings_a_state_holds_all_weights_that_may_have_moved(masking, tiny):
    setting = Setting("dense", tiny, None, "sgd", masking)
    training = setting.training(np.arange(5))
    training.advance(1)
    for state in training.states():
        assert sum(array.size for array in state.values()) >= 2 * setting.network.spec.size
