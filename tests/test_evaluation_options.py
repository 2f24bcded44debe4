"""Recipe and EvaluationOptions of a short training, and the keywords that they have replaced."""

import dataclasses
import warnings

import numpy as np
import pytest
from conftest import refused

import ticketsearch as ts
from ticketsearch.fitness.deprecated import POSITIONAL
from ticketsearch.fitness.options import OPTION_NAMES, RECIPE_NAMES, recipe_and_options
from ticketsearch.settings.fields import Evolution, Training

OLD = {
    "batch": 13,
    "optimizer": "adamw",
    "lr": 0.02,
    "momentum": 0.5,
    "weight_decay": 1e-3,
    "lr_schedule": "cosine",
    "masking": "forward",
    "precision": "float32",
    "workers": 2,
    "backend": "threads",
    "device": "cpu",
    "dtype": "float64",
    "initialization": "shared",
    "scored": "pooled",
    "candidates": 0.2,
    "saliency": "curvature",
}


@pytest.fixture
def network(tiny):
    return ts.initialize("mlp:9", tiny)


def masks_of(network):
    return np.random.default_rng(0).random((3, network.spec.size)) < 0.6


def same(first, second):
    assert first.tobytes() == second.tobytes()
    assert first.measures.keys() == second.measures.keys()
    for name, values in first.measures.items():
        assert np.array_equal(values, second.measures[name])
    assert first.spent == second.spent


def test_the_defaults_are_those_of_the_settings():
    settings = Training()
    recipe, options = ts.Recipe(), ts.EvaluationOptions()
    assert recipe.steps == settings.steps
    for name in RECIPE_NAMES:
        assert getattr(recipe, name) == getattr(settings, name), name
    # The command chooses a number of workers for 0, and no address is the empty text.
    for name in set(OPTION_NAMES) & set(Training.model_fields) - {"workers", "address"}:
        assert getattr(options, name) == getattr(settings, name), name
    evolution = Evolution()
    assert (options.candidates, options.saliency) == (evolution.candidates, evolution.saliency)
    assert {"steps", *RECIPE_NAMES, *OPTION_NAMES} == {*Training.model_fields, "candidates", "saliency"}


def test_steps_come_from_the_recipe_unless_given(network, tiny):
    recipe = ts.Recipe(steps=7, batch=13)
    assert ts.ShortTraining(network, tiny, recipe=recipe).recipe == recipe
    longer = ts.ShortTraining(network, tiny, steps="3,9", recipe=recipe)
    assert longer.rungs == (3, 9)
    assert longer.recipe == dataclasses.replace(recipe, steps=9)


def test_old_keywords_give_the_same_bits_and_a_warning_that_names_the_new_ones(network, tiny):
    recipe, options = recipe_and_options(OLD)
    wanted = ts.ShortTraining(network, tiny, steps=5, seed=3, recipe=recipe, options=options)
    with pytest.warns(DeprecationWarning, match="are deprecated") as caught:
        found = ts.ShortTraining(network, tiny, steps=5, seed=3, **OLD)
    (warning,) = caught
    assert warning.filename == __file__
    text = str(warning.message)
    call = eval(text[text.index("ts.ShortTraining") :], {"ts": ts, "network": network, "dataset": tiny})
    masks = masks_of(network)
    scores = wanted(masks, round=1)
    for fitness in (found, call):
        assert (fitness.recipe, fitness.options) == (wanted.recipe, wanted.options)
        same(fitness(masks, round=1), scores)


def test_old_positions_give_the_same_bits(network, tiny):
    values = {"steps": 5, "batch": 13, "optimizer": "sgd", "lr": 0.1, "momentum": 0.0}
    values |= {"workers": 1, "seed": 4, "device": "cpu"}
    with pytest.warns(DeprecationWarning, match="steps=5, seed=4, recipe=ts.Recipe"):
        found = ts.ShortTraining(network, tiny, *(values[name] for name in POSITIONAL))
    recipe = ts.Recipe(batch=13, lr=0.1, momentum=0.0)
    options = ts.EvaluationOptions(candidates=None, device="cpu")
    wanted = ts.ShortTraining(network, tiny, steps=5, seed=4, recipe=recipe, options=options)
    same(found(masks_of(network)), wanted(masks_of(network)))
    with pytest.raises(TypeError, match="positional"):
        ts.ShortTraining(network, tiny, *(values[name] for name in POSITIONAL), None)


def test_the_short_call_does_not_warn(network, tiny):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ts.ShortTraining(network=network, dataset=tiny, steps=5, seed=0, recipe=ts.Recipe(batch=13))


def test_old_and_new_together_are_refused(network, tiny):
    refused(
        lambda: ts.ShortTraining(network, tiny, lr=0.1, recipe=ts.Recipe()), "lr=0.1", "inside recipe", "move"
    )
    refused(
        lambda: ts.ShortTraining(network, tiny, workers=2, options=ts.EvaluationOptions()),
        "workers=2",
        "inside options",
    )


def test_options_are_checked_when_made():
    refused(lambda: ts.EvaluationOptions(backend="dask"), "'dask'", "address", "host:port")
    refused(lambda: ts.EvaluationOptions(scored="test"), "unknown scored 'test'", "pooled, validation")
    refused(lambda: ts.EvaluationOptions(candidates=-1), "candidates must be a share", "-1")
    with pytest.raises(dataclasses.FrozenInstanceError):
        ts.EvaluationOptions().workers = 2
