"""Trained tickets: their files, raw samples through them, and training of one ticket by a plain loop."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import every
from loops import Parts, images, masks_for, matters, recipes
from safetensors.torch import load_file, safe_open, save_file
from torch import nn

import ticketsearch as ts
from ticketsearch.errors import BadInput
from ticketsearch.experiment import TRAINED, Callback, Search, complete, create_run, resume, trained_network
from ticketsearch.random_streams import Stream, seed_sequence
from ticketsearch.runs import BEST, Run
from ticketsearch.settings import Settings, apply
from ticketsearch.tickets import trained_metadata
from ticketsearch.training import data_order

SETTINGS = {
    "data.name": "digits",
    "model.name": "mlp:10",
    "seeding.initializations": 2,
    "seeding.steps": 2,
    "evolution.population": 3,
    "evolution.generations": 1,
    "training.steps": 5,
    "final.orders": 2,
    "final.candidates": 2,
    "final.steps": 60,
}


def completed(folder, **changes):
    """Return the search of these settings, and the path of its finished run."""
    prepared = Search.prepare(apply(Settings(), (SETTINGS | changes).items()))
    with create_run(prepared, folder, "made") as run:
        complete(prepared, run, Callback())
    return prepared, run.path, run.path / "tickets" / TRAINED


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return completed(tmp_path_factory.mktemp("runs"))


def accuracy_of(path, order=0):
    with Run.open(path) as run:
        return next(r.accuracy for r in run.results() if r.contender == BEST and r.data_order == order)


def raw_test_digits():
    """Return the raw test images of the dataset ``digits``, and their labels."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    fifth = len(bunch.target) // 5
    _, test = train_test_split(
        np.arange(len(bunch.target)),
        train_size=len(bunch.target) - fifth,
        test_size=fifth,
        stratify=bunch.target,
        random_state=0,
    )
    return bunch.images[test][:, None], bunch.target[test]


def test_raw_images_through_the_saved_winner_get_the_reports_accuracy(finished):
    _, path, file = finished
    module, transform = ts.load_trained(file)
    x, y = raw_test_digits()
    with torch.no_grad():
        predicted = module(transform(x)).argmax(1).numpy()
    assert (predicted == y).mean() == accuracy_of(path) == trained_metadata(file).accuracy


def test_the_files_weights_are_those_of_the_first_data_order(finished):
    prepared, path, file = finished
    with Run.open(path) as run:
        winner = run.ticket(next(r.ticket for r in run.results() if r.contender == BEST))
    module, _ = ts.load_trained(file)
    again = trained_network(prepared, winner, 0)
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), again.parameters(), strict=True))
    other = trained_network(prepared, winner, 1)
    assert not torch.equal(next(module.parameters()), next(other.parameters()))
    kept = prepared.network.spec.split(winner.mask)
    for name, parameter in module.named_parameters():
        if name in kept:
            assert (parameter.detach().numpy()[~kept[name]] == 0).all()


def test_the_file_tells_its_training(finished):
    prepared, _, file = finished
    told = trained_metadata(file)
    assert (told.model, told.steps, told.masking, told.class_names) == ("mlp:10", 60, "parameter", None)
    content = load_file(file)
    assert {name for name in content if name.startswith("mask/")} == {
        f"mask/{layer.name}" for layer in prepared.network.spec.layers
    }
    assert np.array_equal(content["inputs/mean"].numpy(), prepared.dataset.mean)


def changed(file, tmp_path, *, tensors=(), without=(), **metadata):
    """Return a copy of the file with other tensors and metadata."""
    with safe_open(file, framework="pt") as opened:
        told = {**opened.metadata(), **metadata}
    content = {name: t for name, t in (load_file(file) | dict(tensors)).items() if name not in without}
    path = tmp_path / "changed.safetensors"
    save_file(content, path, metadata=told)
    return path


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"format": "x"}, "its format is 'x'"),
        ({"format": "ticketsearch-ticket-1"}, "; ticketsearch.load_ticket reads it"),
        ({"accuracy": "1.5"}, "accuracy in its metadata is wrong"),
        ({"steps": "-1"}, "steps in its metadata is wrong"),
        ({"model": "mine.py:build"}, "load_trained(path, factory=…), or trust=True"),
        ({"model": "mlp:9"}, "the parameters are not those of model 'mlp:9'"),
        ({"without": ["inputs/mean"]}, "lacks mean"),
        ({"tensors": {"inputs/deviation": torch.zeros(1, 1, 1, dtype=torch.float64)}}, "deviation must be"),
        ({"tensors": {"inputs/mean": torch.zeros(7, dtype=torch.float64)}}, "broadcast to samples"),
        ({"tensors": {"mask/1.weight": torch.ones(2, 2)}}, "the mask of 1.weight"),
        ({"tensors": {"1.bias": torch.full((10,), torch.nan)}}, "NaN"),
        ({"tensors": {"buffers/mean": torch.ones(2)}}, "the buffers are not those"),
    ],
)
def test_a_file_that_is_not_as_it_was_written_is_refused(finished, tmp_path, changes, part):
    with pytest.raises(BadInput, match=re.escape(part)):
        ts.load_trained(changed(finished[2], tmp_path, **changes))


def test_raw_samples_of_another_shape_are_refused(finished):
    _, transform = ts.load_trained(finished[2])
    with pytest.raises(BadInput, match=r"raw samples have shape \(samples, 1, 8, 8\), but got \(8, 8\)"):
        transform(np.zeros((8, 8)))
    with pytest.raises(BadInput, match="finite"):
        transform(np.full((1, 1, 8, 8), np.nan))


OWN_CONVOLUTIONS = """
from torch import nn

def build(input_shape, classes):
    first = nn.Conv2d(input_shape[0], 4, 3), nn.BatchNorm2d(4), nn.ReLU()
    return nn.Sequential(*first, nn.Flatten(), nn.Linear(4 * 36, classes))
"""
STRONG = {
    "fitness.name": "untrained",
    "final.steps": 0,
    "evolution.identity": "ticket",
    "evolution.crossover": "uniform_crossover",
    "evolution.mutation": "swap_mutation",
    "seeding.method": "random",
    "seeding.density": 0.3,
    "seeding.schemes": ["uniform"],
}
KINDS = {
    "strong": STRONG,
    "front": {"evolution.objective": "front", "evolution.population": 6, "evolution.least_density": 0.05},
    "own initializations": {"training.initialization": "own", "evolution.crossover": "uniform_crossover"},
    "forward": {"training.masking": "forward"},
    "gradient": {"training.masking": "gradient"},
    "rungs": {"training.steps": [2, 5]},
    "convolutions": {"model.name": "mine.py:build", "evolution.generations": 0, "final.steps": 20},
    "workers": {"model.name": "mine.py:build", "evolution.generations": 0, "training.workers": 2},
}


@pytest.mark.parametrize("kind", every(list(KINDS), [kind for kind in KINDS if kind != "workers"], ["front"]))
def test_every_kind_of_search_keeps_the_network_that_its_report_measured(tmp_path, monkeypatch, kind):
    (tmp_path / "mine.py").write_text(OWN_CONVOLUTIONS)
    monkeypatch.chdir(tmp_path)
    # Large states must come home whole from worker processes.
    monkeypatch.setattr("ticketsearch.fitness.trainer.JOB_BYTES", 2000)
    prepared, path, file = completed(tmp_path, **KINDS[kind])
    module, transform = ts.load_trained(file, trust=True)
    x, y = raw_test_digits()
    with torch.no_grad():
        predicted = module(transform(x)).argmax(1).numpy()
    assert (predicted == y).mean() == accuracy_of(path) == trained_metadata(file).accuracy
    with Run.open(path) as run:
        winner = run.ticket(next(r.ticket for r in run.results() if r.contender == BEST))
    again = trained_network(prepared, winner, 0)
    for kept, trained in zip(module.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(kept, trained)
    assert all(bool(buffer.any()) for name, buffer in module.named_buffers() if name.endswith("mean"))


def test_a_strong_winner_is_its_masked_initialization(tmp_path):
    prepared, path, file = completed(tmp_path, **STRONG)
    with Run.open(path) as run:
        winner = run.ticket(next(r.ticket for r in run.results() if r.contender == BEST))
    initial = prepared.network.reinitialized(*winner.initialization).parameters()
    module, _ = ts.load_trained(file)
    kept = {
        name: torch.from_numpy(part.copy()) for name, part in prepared.network.spec.split(winner.mask).items()
    }
    for name, parameter in module.named_parameters():
        assert torch.equal(parameter, initial[name] * kept.get(name, torch.ones(())))


def test_an_extended_run_keeps_the_network_of_its_new_winner(tmp_path):
    _, path, file = completed(tmp_path)
    file.write_bytes(b"of another winner")
    search, run = resume(path, {"evolution.generations": 2})
    with run:
        complete(search, run, Callback())
        winner = run.ticket(next(r.ticket for r in run.results() if r.contender == BEST))
    assert trained_metadata(file).digest == winner.digest
    assert trained_metadata(file).accuracy == accuracy_of(path)
    assert not [other for other in file.parent.iterdir() if other.name.startswith(".")]


def largest_difference(network, recipe, dataset, dtype="float32"):
    """Return the largest difference of tensors that matter between the plain loop and the engine."""
    mask = masks_for(network, 1, density=0.3)[0]
    module = ts.train(network, mask, dataset, seed=5, recipe=recipe, dtype=dtype)
    options = ts.EvaluationOptions(dtype=dtype, device="cpu", candidates=None)
    engine = ts.ShortTraining(network, dataset, recipe=recipe, options=options).trainer.weights(
        mask, network.initialization, seed_sequence(5, Stream.ROUND, 0), recipe
    )
    if recipe.masking != "gradient":
        for name, kept in network.spec.split(mask).items():
            assert (module.get_parameter(name).detach().numpy()[~kept] == 0).all()
    relevant = matters(network, mask)
    # Not the number of batches of batch normalisation, which nothing reads.
    floats = {name: tensor for name, tensor in module.state_dict().items() if tensor.is_floating_point()}
    return max(
        float((tensor - engine[name])[relevant[name]].abs().max())
        for name, tensor in floats.items()
        if relevant[name].any()
    )


MASKED = ["parameter", "gradient", "forward"]


@pytest.mark.parametrize("masking", MASKED)
@pytest.mark.parametrize("name", every(list(recipes(1, 1)), quick=["momentum"]))
def test_the_plain_loop_equals_the_engine(name, masking, digits):
    network = ts.initialize("mlp:20,10", digits, seed=3)
    recipe = replace(recipes(60, 32)[name], masking=masking)
    assert largest_difference(network, recipe, digits) < 1e-6
    assert largest_difference(network, recipe, digits, "float64") < 1e-10


@pytest.mark.parametrize("masking", every(MASKED, quick=["parameter"]))
@pytest.mark.parametrize("name", every(["sgd", "momentum", "nesterov"], quick=["nesterov"]))
def test_the_plain_loop_equals_the_engine_for_convolutions_batch_norm_and_dropout(name, masking, digits):
    recipe = replace(recipes(40, 32)[name], masking=masking)
    assert largest_difference(images(digits, p=0.3), recipe, digits, "float64") < 1e-10


@pytest.mark.parametrize("name", every(list(recipes(1, 1)), quick=["adam"]))
def test_the_plain_loop_drops_the_units_that_the_engine_drops(name, digits):
    factory = lambda shape, classes: nn.Sequential(nn.Flatten(), Parts(64, classes))  # noqa: E731
    network = ts.initialize(factory, digits, seed=1)
    assert largest_difference(network, recipes(40, 32)[name], digits, "float64") < 1e-10
    without = ts.initialize(lambda s, c: nn.Sequential(nn.Flatten(), Parts(64, c, p=0.0)), digits, seed=1)
    mask = masks_for(network, 1)[0]
    dropped, whole = (ts.train(n, mask, digits, steps=5, batch=32) for n in (network, without))
    assert not torch.equal(dropped[1].head.weight, whole[1].head.weight)


def test_the_plain_loop_trains_the_winner_again_from_its_data_order(finished):
    prepared, path, file = finished
    with Run.open(path) as run:
        winner = run.ticket(next(r.ticket for r in run.results() if r.contender == BEST))
    network = prepared.network.reinitialized(*winner.initialization)
    order = seed_sequence(prepared.settings.seed, Stream.REPORTING, 0)
    module = ts.train(network, winner.mask, prepared.dataset, order=order, recipe=prepared.final_recipe)
    kept, _ = ts.load_trained(file)
    relevant = matters(network, winner.mask)
    for name, parameter in module.named_parameters():
        matter = relevant[name]
        torch.testing.assert_close(parameter[matter], kept.get_parameter(name)[matter], rtol=0, atol=1e-6)


def test_the_plain_loop_follows_a_data_order_that_is_given(digits):
    network = ts.initialize("mlp:10", digits)
    mask = np.ones(network.spec.size, bool)
    order = data_order(len(digits.y_train), ts.Recipe(steps=4, batch=8), seed_sequence(7, Stream.ROUND, 0))
    given = ts.train(network, mask, digits, order=order, steps=4, batch=8)
    drawn = ts.train(network, mask, digits, seed=7, steps=4, batch=8)
    turned = ts.train(network, mask, digits, order=order[::-1], steps=4, batch=8)
    assert all(torch.equal(a, b) for a, b in zip(given.parameters(), drawn.parameters(), strict=True))
    assert not torch.equal(next(given.parameters()), next(turned.parameters()))
    with pytest.raises(
        BadInput, match=r"shape \(steps, batch\), here \(3, 8\), but got int64 of shape \(4, 8\)"
    ):
        ts.train(network, mask, digits, order=order, steps=3, batch=8)
    with pytest.raises(BadInput, match="indices of the 1079 training samples, from 0, but got -1"):
        ts.train(network, mask, digits, order=order - order.min() - 1, steps=4, batch=8)


def test_the_plain_loop_tells_its_progress_and_leaves_the_network_as_it_was(digits):
    network = ts.initialize("mlp:10", digits)
    before = network.parameters()
    told = []
    ts.train(network, np.ones(network.spec.size, bool), digits, steps=3, progress=lambda *s: told.append(s))
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert all(torch.equal(before[name], value) for name, value in network.parameters().items())


def test_the_plain_loop_refuses_what_it_cannot_do(digits, tiny):
    network = ts.initialize("mlp:10", digits)
    mask = np.ones(network.spec.size, bool)
    with pytest.raises(BadInput, match="has no option 'stepz'"):
        ts.train(network, mask, digits, stepz=3)
    with pytest.raises(BadInput, match="steps must be an integer >= 0, but got -1"):
        ts.train(network, mask, digits, steps=-1)
    with pytest.raises(BadInput, match="initialize the network for it"):
        ts.train(network, mask, tiny, steps=1)
    with pytest.raises(BadInput, match="unknown dtype 'float16'"):
        ts.train(network, mask, digits, steps=1, dtype="float16")
    with pytest.raises(BadInput, match="precision 'float32', but got 'bfloat16'"):
        ts.train(network, mask, digits, steps=1, precision="bfloat16")
