"""Strong tickets: what a masked network is right about as it was initialized, and the search for it."""

import numpy as np
import pytest
import torch
from conftest import refused
from searches import plain

from ticketsearch import experiment
from ticketsearch import settings as config
from ticketsearch.evolution import evolve
from ticketsearch.fitness.untrained import Untrained
from ticketsearch.models import initialize

pytestmark = pytest.mark.slow


def random_masks(network, count, density=0.4):
    rng = np.random.default_rng(0)
    return rng.random((count, network.spec.size)) < density


def argmax_accuracy(network, mask, x, y):
    parameters = network.parameters()
    for name, part in network.spec.split(mask).items():
        parameters[name] = parameters[name] * torch.from_numpy(part.copy())
    with torch.no_grad():
        logits = torch.func.functional_call(network.module, parameters, (x,))
    return float((logits.argmax(1) == y).double().mean())


@pytest.mark.parametrize("scheme", ["uniform", "kaiming_normal"])
def test_the_score_is_the_accuracy_of_the_masked_initial_network(tiny, scheme):
    network = initialize("mlp:9,8", tiny, scheme=scheme, seed=1)
    masks = random_masks(network, 40)
    masks[0] = False  # equal logits: the first class, as by argmax
    for part in ("train", "validation"):
        scores = Untrained(network, tiny, part=part, device="cpu")(masks)
        x, y = getattr(tiny, f"x_{part}"), getattr(tiny, f"y_{part}")
        assert list(scores) == pytest.approx([argmax_accuracy(network, mask, x, y) for mask in masks], abs=0)
    assert len(set(scores.tolist())) > 5


def test_convolutions_have_strong_tickets_too(digits):
    network = initialize("conv2", digits, scheme="kaiming_normal", seed=1, width=0.1)
    masks = random_masks(network, 3)
    scores = Untrained(network, digits, samples=100, device="cpu")(masks)
    assert (scores * 100 == np.round(scores * 100)).all()
    assert scores.spent.steps == 0
    assert scores.spent.evaluations == 3
    assert scores.spent.flops > 0


def test_a_score_does_not_depend_on_its_company(digits):
    network = initialize("mlp:40", digits, scheme="uniform", seed=2)
    masks = random_masks(network, 130, 0.2)
    fitness = Untrained(network, digits, device="cpu")
    together = fitness(masks)
    assert [fitness(mask[None])[0] for mask in masks[::13]] == together[::13].tolist()
    assert fitness(masks[::-1])[::-1].tolist() == together.tolist()


def test_a_part_of_the_samples_has_each_classs_share_of_them(tiny):
    network = initialize("mlp:9", tiny, scheme="uniform", seed=1)
    fitness = Untrained(network, tiny, samples=30, device="cpu")
    counts = [sum(map(len, blocks)) for blocks in fitness._blocks]
    assert sum(counts) == fitness.samples == 30
    shares = torch.bincount(tiny.y_train) * 30 / len(tiny.y_train)
    assert np.abs(np.array(counts) - shares.numpy()).max() < 1


def test_bad_arguments_are_refused_in_one_line(tiny, digits):
    network = initialize("mlp:9", tiny)
    refused(lambda: Untrained(network, tiny, samples=62), "62", "61")
    refused(lambda: Untrained(network, tiny, part="all"), "part", "all")
    refused(lambda: Untrained(network, digits), "digits")


def test_evolution_finds_better_strong_tickets_and_no_network_is_changed(tiny):
    network = initialize("mlp:9", tiny, scheme="uniform", seed=1)
    before = {name: tensor.clone() for name, tensor in network.parameters().items()}
    fitness = Untrained(network, tiny, device="cpu")
    found = list(
        evolve(random_masks(network, 20, 0.3), fitness, network.spec, **plain(generations=10, seed=0))
    )
    assert found[-1].best.score > found[0].best.score
    assert all(torch.equal(before[name], tensor) for name, tensor in network.parameters().items())


def test_a_run_of_strong_tickets_trains_nothing(tmp_path):
    given = [
        *(("model.name", "mlp:9"), ("fitness.name", "untrained"), ("final.steps", 0), ("final.orders", 2)),
        *(("evolution.population", 10), ("evolution.generations", 3), ("evolution.identity", "ticket")),
        *(("seeding.method", "random"), ("seeding.density", 0.3), ("seeding.schemes", ["uniform"])),
        *(("training.device", "cpu"), ("evolution.crossover", "uniform_crossover")),
        ("evolution.mutation", "swap_mutation"),
    ]
    prepared = experiment.Search.prepare(config.load(None, given))
    with experiment.create_run(prepared, tmp_path, "strong") as run:
        spent = [generation.spent for generation in prepared.generations(run)]
        list(experiment.finish(prepared, run))
        validated = [r for r in run.results() if r.part == "validation"]
        validation = Untrained(prepared.network, prepared.dataset, part="validation", device="cpu")
        for result in validated:
            assert result.accuracy == validation(run.ticket(result.ticket).mask[None])[0]
    assert sum(each.steps for each in spent) == 0
    assert validated
