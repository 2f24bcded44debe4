"""Trained tickets: their files, raw samples through them, and training of one ticket by a plain loop."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import every
from loops import matters, recipes, relative
from safetensors.torch import load_file, safe_open, save_file
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import ticketsearch as ts
from ticketsearch.errors import BadInput
from ticketsearch.experiment import TRAINED, Callback, Search, complete, create_run, trained_network
from ticketsearch.random_streams import Stream, seed_sequence
from ticketsearch.runs import BEST, Run
from ticketsearch.settings import Settings, apply
from ticketsearch.tickets import trained_metadata

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
        ({"accuracy": "1.5"}, "accuracy in its metadata is wrong"),
        ({"steps": "-1"}, "steps in its metadata is wrong"),
        ({"model": "mine.py:build"}, "runs no code"),
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


def test_running_statistics_go_home(tmp_path):
    changes = {"model.name": "resnet20", "model.options": {"width": 0.25}, "seeding.density": 0.3}
    _, path, file = completed(tmp_path, **changes, **{"final.steps": 4, "evolution.generations": 0})
    module, transform = ts.load_trained(file)
    x, y = raw_test_digits()
    with torch.no_grad():
        predicted = module(transform(x)).argmax(1).numpy()
    assert (predicted == y).mean() == pytest.approx(accuracy_of(path), abs=1.5 / len(y))
    assert any("running_mean" in name and bool(b.any()) for name, b in module.named_buffers())


@pytest.mark.parametrize("name", every(list(recipes(1, 1)), quick=["momentum"]))
@pytest.mark.parametrize("masking", ["parameter", "gradient", "forward"])
def test_the_plain_loop_equals_the_engine(name, masking, digits):
    network = ts.initialize("mlp:20,10", digits, seed=3)
    mask = ts.prune(network, "random", density=0.2, seed=1)
    recipe = replace(recipes(40, 32)[name], masking=masking)
    order = seed_sequence(5, Stream.ROUND, 0)
    module = ts.train(network, mask, digits, seed=5, recipe=recipe)
    fitness = ts.ShortTraining(network, digits, recipe=recipe)
    engine = fitness.trainer.weights(mask, network.initialization, order, recipe)
    relevant = matters(network, mask)
    for key, parameter in module.named_parameters():
        kept = relevant[key]
        torch.testing.assert_close(parameter.detach()[kept], engine[key][kept], rtol=0, atol=1e-6)
    if masking != "gradient":
        for key, kept in network.spec.split(mask).items():
            assert (module.get_parameter(key).detach().numpy()[~kept] == 0).all()


def test_the_plain_loop_trains_convolutions_with_batch_norm_as_the_engine_does(digits):
    network = ts.initialize("resnet20", digits, seed=1, width=0.25)
    mask = ts.prune(network, "synflow", density=0.3)
    recipe = ts.Recipe(steps=3, batch=16)
    module = ts.train(network, mask, digits, seed=2, recipe=recipe)
    engine = ts.ShortTraining(network, digits, recipe=recipe).trainer.weights(
        mask, network.initialization, seed_sequence(2, Stream.ROUND, 0), recipe
    )
    relevant = matters(network, mask)
    for key, tensor in {**dict(module.named_parameters()), **dict(module.named_buffers())}.items():
        if tensor.is_floating_point():  # not the number of batches, which nothing reads
            assert relative(tensor.detach(), engine[key], relevant[key]) < 1e-4


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
    with pytest.raises(BadInput, match="precision 'float32', but got 'bfloat16'"):
        ts.train(network, mask, digits, steps=1, precision="bfloat16")
