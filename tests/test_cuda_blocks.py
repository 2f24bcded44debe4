"""Networks trained in blocks of a CUDA device: what the kernels compute is what the native engine computes.

The kernels run on a CUDA device where there is one, and else in Triton's interpreter on the CPU.
"""

import os

import numpy as np
import pytest
import torch
from loops import Stream, masks_for, matters, recipes, relative, tensors_of, torch_loop
from torch import nn

from ticketsearch.datasets import from_arrays
from ticketsearch.models import initialize
from ticketsearch.training import Recipe, data_order
from ticketsearch.training.cohort import resident
from ticketsearch.training.cuda_blocks import Blocks, fits
from ticketsearch.training.layout import exact_compactions
from ticketsearch.training.native import Native

CUDA = torch.cuda.is_available()
if not CUDA:
    os.environ.setdefault("TRITON_INTERPRET", "1")
pytest.importorskip("triton")
pytestmark = [pytest.mark.slow, *([pytest.mark.cuda] if CUDA else [])]

DEVICE = torch.device("cuda" if CUDA else "cpu")
STEPS = 4
RECIPES = recipes(STEPS, 13)
DENSITIES = (0.6, 0.2, 0.0, 1.0)


def data(samples=60, features=11):
    rng = np.random.default_rng(0)
    return from_arrays("small", rng.normal(size=(samples, features)), np.arange(samples) % 3)


class Company:
    """Masks of an architecture, with what they begin from and learn from; ``shared`` by all of them."""

    def __init__(self, recipe, shared=True, scheme="as_built", activation="relu"):
        self.data, self.recipe = data(), recipe
        seeds = range(1 if shared else len(DENSITIES))
        options = {"hidden": "9,7", "activation": activation}
        self.nets = [initialize("mlp", self.data, scheme, seed, **options) for seed in seeds]
        self.masks = np.concatenate([masks_for(self.nets[0], 1, 0, density) for density in DENSITIES])
        self.orders = np.stack([data_order(len(self.data.y_train), recipe, [seed]) for seed in seeds])

    def training(self, engine, numbers=None):
        """Return the training, not begun, of the masks of these numbers, by default of all."""
        numbers = np.arange(len(self.masks)) if numbers is None else np.array(numbers)
        own = [0] if len(self.nets) == 1 else numbers
        tensors = [tensors_of(self.nets[number]) for number in own]
        masks, device = self.masks[numbers], DEVICE if engine is Blocks else torch.device("cpu")
        compactions, live = zip(*exact_compactions(self.nets[0].wiring, masks, tensors), strict=True)
        assert fits(self.nets[0].wiring, compactions, self.recipe)
        options = {"device": device} if engine is Blocks else {"dtype": torch.float32}
        part = engine(compactions, masks, live, tensors, **options)
        x = resident(self.data.x_train, flat=True, device=device, dtype=torch.float32)
        return part.training(self.recipe, x, self.data.y_train.to(device), self.orders[own])


def same(ours, theirs, tolerance=1e-5):
    for name, tensor in theirs.items():
        assert torch.allclose(ours[name].cpu(), tensor, rtol=tolerance, atol=tolerance), name


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("name", RECIPES)
def test_kernels_train_as_the_native_engine(name, shared):
    company = Company(RECIPES[name], shared)
    ours, theirs = company.training(Blocks), company.training(Native)
    for training in (ours, theirs):
        training.advance(0, STEPS)
    same(ours.part.parameters(), theirs.part.parameters(), 1e-4 if "adam" in name else 1e-5)
    for layer, kept in company.nets[0].spec.split(company.masks).items():
        assert (ours.part.parameters()[layer].cpu().numpy()[~kept] == 0).all()


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "tanh", "sigmoid"])
def test_kernels_have_the_maps_of_fits(activation):
    company = Company(RECIPES["momentum"], activation=activation)
    ours, theirs = company.training(Blocks), company.training(Native)
    for training in (ours, theirs):
        training.advance(0, 2)
    same(ours.part.parameters(), theirs.part.parameters())


def test_kernels_train_as_a_plain_loop():
    company = Company(RECIPES["nesterov"])
    ours = company.training(Blocks)
    ours.advance(0, STEPS)
    trained = ours.part.parameters()
    for index in (0, 3):
        net, mask = company.nets[0], company.masks[index]
        *_, (module, _) = torch_loop(net, mask, company.data, company.recipe, company.orders[0])
        matter = matters(net, mask)
        for name, tensor in module.named_parameters():
            ours_of = trained[name][index].cpu().double()
            assert relative(ours_of, tensor.detach(), matter[name]) < 1e-5


def test_a_network_gets_the_same_bits_alone_and_in_company():
    company = Company(RECIPES["momentum"], shared=False)
    together, alone = company.training(Blocks), company.training(Blocks, [1])
    together.advance(0, STEPS)
    alone.advance(0, STEPS)
    for name, tensor in alone.part.parameters().items():
        assert torch.equal(together.part.parameters()[name][1], tensor[0])


@pytest.mark.parametrize("name", ["momentum", "adam"])
def test_training_goes_on_from_states_to_the_same_bits(name):
    company = Company(RECIPES[name])
    whole, begun, resumed = (company.training(Blocks) for _ in range(3))
    whole.advance(0, STEPS)
    begun.advance(0, 2)
    resumed.restore(begun.states())
    resumed.advance(2, STEPS)
    for state, expected in zip(resumed.states(), whole.states(), strict=True):
        assert all(np.array_equal(state[key], expected[key]) for key in expected)


def test_states_are_those_of_the_native_engine():
    company = Company(RECIPES["momentum"])
    ours, theirs = company.training(Blocks), company.training(Native)
    ours.advance(0, 2)
    theirs.restore(ours.states())
    for training in (ours, theirs):
        training.advance(2, STEPS)
    same(ours.part.parameters(), theirs.part.parameters())


def test_logits_and_guidance_are_those_of_the_native_engine():
    company = Company(RECIPES["momentum"])
    ours, theirs = company.training(Blocks), company.training(Native)
    for training in (ours, theirs):
        training.advance(0, 1)
    x = resident(company.data.x_test, flat=True, device=torch.device("cpu"), dtype=torch.float32)
    torch.testing.assert_close(ours.part.forward(x.to(DEVICE)).cpu(), theirs.part.forward(x))
    for mine, expected in zip(
        ours.guidance(0, 0.3, "mixed", None), theirs.guidance(0, 0.3, "mixed", None), strict=True
    ):
        assert mine is not None
        assert expected is not None
        for ours_of, theirs_of in zip(mine, expected, strict=True):
            np.testing.assert_allclose(ours_of, theirs_of, rtol=1e-3, atol=1e-6)


# Of the interpreter's numpy.
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_a_network_that_diverges_leaves_the_others_as_they_were():
    company = Company(RECIPES["momentum"], shared=False)
    expected, training = company.training(Blocks, [0]), company.training(Blocks)
    states = training.states()
    states[1]["parameters"][:] = np.nan
    training.restore(states)
    for each in (expected, training):
        each.advance(0, 2)
    assert np.isnan(training.states()[1]["parameters"]).any()
    assert np.array_equal(training.states()[0]["parameters"], expected.states()[0]["parameters"])


def test_kernels_refuse_what_they_lack():
    small = data()
    recipe = RECIPES["momentum"]
    fitting = initialize("mlp", small, hidden="9").wiring
    residual = initialize(lambda s, c: Stream(*s, c), small, "as_built").wiring
    dropping = initialize(
        lambda s, c: nn.Sequential(nn.Linear(*s, 5), nn.Dropout(0.2), nn.Linear(5, c)), small, "as_built"
    ).wiring
    assert fits(fitting, [], recipe)
    assert not fits(residual, [], recipe)
    assert not fits(dropping, [], recipe)
    assert not fits(fitting, [], Recipe(1, 2000))
    assert not fits(fitting, [], Recipe(1, 13, precision="tf32"))
    assert not fits(fitting, [], Recipe(1, 13, masking="gradient"))
