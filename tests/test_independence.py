"""A score depends on no other sample: networks whose samples meet in evaluation are refused."""

import dataclasses
from functools import cache

import numpy as np
import pytest
from torch import nn

from ticketsearch import BadInput, Recipe, ShortTraining, from_arrays, initialize
from ticketsearch.fitness.untrained import Untrained
from ticketsearch.training import check_independence

pytestmark = pytest.mark.slow


@cache
def samples():
    images = np.random.default_rng(0).random((900, 2, 4, 4))
    return from_arrays("mine", images, np.arange(900) % 3)


class Norm(nn.Module):
    """A network whose groups are declared, so that nothing of it is traced."""

    def __init__(self, **options):
        super().__init__()
        self.a, self.b = nn.Linear(32, 5, bias=False), nn.Linear(5, 3, bias=False)
        self.norm = nn.BatchNorm1d(5, **options)
        self.neuron_groups = {"a.weight": ("hidden", "input"), "b.weight": ("output", "hidden")}
        own = {**dict(self.norm.named_parameters()), **dict(self.norm.named_buffers())}
        self.neuron_groups |= {f"norm.{name}": ("hidden",) for name, tensor in own.items() if tensor.ndim}

    def forward(self, x):
        return self.b(self.norm(self.a(x.flatten(1))))


def traced(**options):
    layers = [nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4, **options), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)]
    return lambda input_shape, classes: nn.Sequential(*layers)


def declared(**options):
    return lambda input_shape, classes: Norm(**options)


@pytest.mark.parametrize("build", [traced, declared])
@pytest.mark.parametrize("fitness", [ShortTraining, Untrained])
def test_batch_normalisation_without_running_statistics_is_refused_by_name(build, fitness):
    network = initialize(build(track_running_stats=False), samples())
    with pytest.raises(
        BadInput, match=r"\((1|norm) has no running statistics\); give it track_running_stats"
    ):
        fitness(network, samples())
    fitness(initialize(build(), samples()), samples())


def test_samples_that_meet_in_any_other_way_are_refused():
    network = initialize("mlp:4", samples())
    assert check_independence(network.wiring, network.input_shape) is None
    meeting = dataclasses.replace(network.wiring, steps=())
    meeting.module.register_forward_hook(lambda module, given, outputs: outputs - outputs.mean(0))
    with pytest.raises(BadInput, match="normalise by running statistics"):
        check_independence(meeting, network.input_shape)


def test_a_score_depends_on_no_order_of_validation_samples():
    rng = np.random.default_rng(0)
    turn = rng.permutation(len(samples().y_validation))
    other = dataclasses.replace(
        samples(), x_validation=samples().x_validation[turn], y_validation=samples().y_validation[turn]
    )
    network = initialize(traced(), samples())
    mask = rng.random((1, network.spec.size)) < 0.5
    first, second = (
        ShortTraining(network, data, steps=5, recipe=Recipe(batch=32))(mask) for data in (samples(), other)
    )
    assert first == pytest.approx(second, abs=1e-6)
    assert first.measures["accuracy"] == second.measures["accuracy"]
