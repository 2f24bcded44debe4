"""Guidance against a plain loop: magnitudes of the trained weights, and gradients by the pruned ones."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import every, refused
from loops import Images, Parts, masks_for, tensors_of, torch_loop

from ticketsearch.datasets import from_arrays
from ticketsearch.masks import live, live_units
from ticketsearch.masks.guidance import check_guidance
from ticketsearch.models import initialize
from ticketsearch.training import SALIENCIES, Cohort, Recipe, Training, data_order

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
CASES = {
    "mlp": lambda data: initialize("mlp:9,7", data, seed=1),
    "parts": lambda data: initialize(lambda s, c: Parts(*s, c, p=0.0), data, seed=1),
    "images": lambda data: initialize(lambda s, c: Images(c), data, seed=1),
    "convolutions": lambda data: initialize("conv2", data, seed=1, width=0.05),
}


def data_for(case, tiny):
    """Images of noise: no two pixels of a pooling window are equal, so that all agree on the largest."""
    if case not in ("images", "convolutions"):
        return tiny
    rng = np.random.default_rng(0)
    return from_arrays("noise", rng.normal(size=(120, 1, 8, 8)), np.arange(120) % 3)


def joins_live_units(net, mask):
    """So does a weight exactly if it would be live and wake no hidden unit."""

    def alive(mask):
        units = live_units(mask, net.spec)
        return np.concatenate([units[group.name] for group in net.spec.groups if group.kind == "hidden"])

    before, found = alive(mask), np.zeros(len(mask), dtype=bool)
    for place in np.flatnonzero(~mask):
        more = mask.copy()
        more[place] = True
        found[place] = live(more, net.spec)[place] and np.array_equal(alive(more), before)
    return found


@pytest.mark.parametrize(
    ("case", "masking"),
    every(
        list(itertools.product(CASES, ("parameter", "gradient", "forward"))),
        default=lambda member: member[0] == "mlp" or member[1] == "parameter",
    ),
)
def test_guidance_is_what_a_plain_loop_finds(case, masking, tiny):
    dataset = data_for(case, tiny)
    net = CASES[case](dataset)
    recipe = Recipe(5, 16, "sgd", lr=0.05, momentum=0.9, masking=masking)
    order = data_order(len(dataset.y_train), recipe, [0])
    masks = masks_for(net, 3, density=0.2)
    cohort = Cohort(net.wiring, masks, [tensors_of(net)], device=CPU, dtype=torch.float64, masking=masking)
    training = Training(cohort, dataset, recipe, [order])
    training.advance(5)
    first = order.ravel()[: min(1024, len(dataset.y_train))]
    for mask, guidance in zip(masks, training.guidance(0.5), strict=True):
        *_, (module, hidden) = torch_loop(net, mask, dataset, recipe, order)
        module.eval().zero_grad()
        F.cross_entropy(module(dataset.x_train[first].double()), dataset.y_train[first]).backward()
        parameters = dict(module.named_parameters())
        names = [layer.name for layer in net.spec.layers]
        trained = np.concatenate([hidden[name].detach().abs().numpy().ravel() for name in names])
        slopes = np.concatenate([parameters[name].grad.abs().numpy().ravel() for name in names])
        np.testing.assert_allclose(guidance.saliency, trained[mask], rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(guidance.growth, slopes[guidance.candidates], rtol=1e-6, atol=1e-12)
        among = ~mask if masking != "parameter" else joins_live_units(net, mask)
        worth = np.sort(slopes[among & (slopes > 1e-15)])[::-1][: round(0.5 * mask.sum())]
        assert len(guidance.candidates) == len(worth) > 0
        assert not mask[guidance.candidates].any()
        assert (np.diff(guidance.candidates) > 0).all()
        np.testing.assert_allclose(np.sort(guidance.growth)[::-1], worth, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("masking", ["parameter", "forward"])
@pytest.mark.parametrize("case", CASES)
def test_guidance_by_curvature_is_the_change_of_the_loss_that_squared_gradients_let_expect(
    case, masking, tiny
):
    dataset = data_for(case, tiny)
    net = CASES[case](dataset)
    recipe = Recipe(5, 16, "sgd", lr=0.05, momentum=0.9, masking=masking)
    order = data_order(len(dataset.y_train), recipe, [0])
    (mask,) = masks_for(net, 1, density=0.2)
    cohort = Cohort(
        net.wiring, mask[None], [tensors_of(net)], device=CPU, dtype=torch.float64, masking=masking
    )
    training = Training(cohort, dataset, recipe, [order])
    training.advance(5)
    (guidance,) = training.guidance(0.5, "curvature")
    *_, (module, hidden) = torch_loop(net, mask, dataset, recipe, order)
    module.eval()
    parameters = dict(module.named_parameters())
    names = [layer.name for layer in net.spec.layers]
    first = order.ravel()[: len(dataset.y_train)]
    each = []
    for number in first:
        module.zero_grad()
        F.cross_entropy(
            module(dataset.x_train[number : number + 1].double()), dataset.y_train[number : number + 1]
        ).backward()
        each.append(np.concatenate([parameters[name].grad.numpy().ravel() for name in names]))
    slopes, squares = np.mean(each, axis=0), np.square(each).mean(axis=0)
    trained = np.concatenate([hidden[name].detach().numpy().ravel() for name in names])
    np.testing.assert_allclose(guidance.saliency, (trained**2 * squares / 2)[mask], rtol=1e-5, atol=1e-12)
    (mixed,) = training.guidance(0.5, "mixed")
    np.testing.assert_allclose(mixed.saliency, np.abs(trained)[mask], rtol=1e-5)
    assert np.array_equal(mixed.candidates, guidance.candidates)
    assert np.array_equal(mixed.growth, guidance.growth)
    among = ~mask if masking == "forward" else joins_live_units(net, mask)
    growth = slopes**2 / (2 * np.maximum(squares, 1e-4 * squares[among | mask].max()))
    np.testing.assert_allclose(guidance.growth, growth[guidance.candidates], rtol=1e-5)
    worth = np.sort(growth[among & (slopes**2 > 1e-30)])[::-1][: round(0.5 * mask.sum())]
    np.testing.assert_allclose(np.sort(guidance.growth)[::-1], worth, rtol=1e-5)


@pytest.mark.parametrize("saliency", SALIENCIES)
@pytest.mark.parametrize("case", every(CASES, default=["mlp", "images"]))
def test_guidance_is_the_same_alone_and_in_company(case, saliency, tiny):
    dataset = data_for(case, tiny)
    net = CASES[case](dataset)
    recipe, masks = Recipe(3, 16), masks_for(net, 6, density=0.3)
    order = data_order(len(dataset.y_train), recipe, [0])

    def found(some):
        training = Training(Cohort(net.wiring, some, [tensors_of(net)], device=CPU), dataset, recipe, [order])
        training.advance(3)
        return training.guidance(0.25, saliency)

    for number, own in enumerate(found(masks)):
        (alone,) = found(masks[number : number + 1])
        assert all(np.array_equal(a, b) for a, b in zip(own, alone, strict=True))
        assert [a.dtype for a in own] == [np.float32, np.int64, np.float32]


@pytest.mark.parametrize("saliency", SALIENCIES)
def test_a_training_that_diverged_gives_no_guidance(tiny, saliency):
    net, recipe = CASES["mlp"](tiny), Recipe(30, 16, lr=1e6)
    masks = np.stack([masks_for(net, 1)[0], np.zeros(net.spec.size, dtype=bool)])
    order = data_order(len(tiny.y_train), recipe, [0])
    training = Training(Cohort(net.wiring, masks, [tensors_of(net)], device=CPU), tiny, recipe, [order])
    training.advance(30)
    diverged, empty = training.guidance(0.5, saliency)
    assert diverged is None
    assert len(empty.saliency) == len(empty.candidates) == 0


def test_without_steps_guidance_is_of_the_initial_weights(tiny):
    net, recipe = CASES["mlp"](tiny), Recipe(0, 16)
    masks, order = masks_for(net, 1), data_order(len(tiny.y_train), Recipe(0, 16), [0])
    training = Training(Cohort(net.wiring, masks, [tensors_of(net)], device=CPU), tiny, recipe, [order])
    (guidance,) = training.guidance(0.5)
    layers = [net.parameters()[layer.name].abs().numpy().ravel() for layer in net.spec.layers]
    assert np.array_equal(guidance.saliency, np.concatenate(layers)[masks[0]])
    assert len(guidance.candidates)


def test_bad_guidance_of_a_fitness_of_ones_own_is_refused():
    mask = np.array([True, False, True, False])
    check_guidance([1.0, 2.0], [1, 3], [0.1, 0.2], mask)
    for values, word in (
        (([1.0], [], []), "one saliency a kept weight"),
        (([1.0, 2.0], [1], []), "one growth a candidate"),
        (([1.0, 2.0], [0], [0.5]), "numbers of pruned weights"),
        (([1.0, 2.0], [4], [0.5]), "numbers of pruned weights"),
        (([1.0, np.nan], [1], [0.5]), "finite"),
    ):
        refused(lambda values=values: check_guidance(*values, mask), word)
