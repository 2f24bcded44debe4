"""Edge-popup: scores learn, weights do not."""

import numpy as np
import pytest
import torch
from conftest import refused

from ticketsearch.fitness.untrained import Untrained
from ticketsearch.models import initialize
from ticketsearch.pruners import prune

pytestmark = pytest.mark.slow


def popped(network, dataset, seed=0, **options):
    return prune(network, "edge_popup", density=0.3, dataset=dataset, seed=seed, device="cpu", **options)


def test_its_masks_are_right_without_training_and_the_network_is_as_before(tiny):
    network = initialize("mlp:20", tiny, scheme="uniform", seed=1)
    before = {name: tensor.clone() for name, tensor in network.parameters().items()}
    mask = popped(network, tiny, training_steps=200, training_batch=32)
    assert np.count_nonzero(mask) == round(0.3 * network.spec.size)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.parameters().items())
    rng = np.random.default_rng(0)
    drawn = np.stack([rng.permutation(mask) for _ in range(200)])
    validation = Untrained(network, tiny, part="validation", device="cpu")
    assert validation(mask[None])[0] > np.max(validation(drawn))


def test_the_seed_gives_the_mask(tiny):
    network = initialize("mlp:9", tiny, scheme="uniform", seed=1)
    masks = [popped(network, tiny, seed, training_steps=20) for seed in (0, 0, 1)]
    assert np.array_equal(masks[0], masks[1])
    assert not np.array_equal(masks[0], masks[2])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"training_steps": 0}, ("training_steps", "0")),
        ({"training_batch": 1.5}, ("training_batch", "1.5")),
        ({"dataset": None}, ("edge_popup", "dataset")),
    ],
)
def test_what_it_cannot_use_is_refused(tiny, options, words):
    network = initialize("mlp:9", tiny)
    given = {"dataset": tiny, **options}
    refused(lambda: prune(network, "edge_popup", density=0.3, device="cpu", **given), *words)
