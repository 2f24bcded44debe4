"""Fitness: what a score is, and that it depends on nothing but mask, initialization, order and recipe."""

import copy
import dataclasses
import itertools
import threading
import time
import warnings
from functools import partial

import numpy as np
import pytest
import torch
from conftest import every, refusal, refused
from torch import nn

from ticketsearch.cost import Spent
from ticketsearch.datasets import from_arrays
from ticketsearch.fitness import jobs
from ticketsearch.fitness.named import build_fitness, short_training
from ticketsearch.masks import live, live_units
from ticketsearch.masks.guidance import check_guidance
from ticketsearch.models import Initialization, initialize
from ticketsearch.random_streams import Stream, seed_sequence
from ticketsearch.tickets import Scores, Ticket, Tickets
from ticketsearch.training import (
    MASKINGS,
    Cohort,
    Recipe,
    Training,
    data_order,
    evaluate,
    layout,
    live_operations,
    operations_a_sample,
    train,
)

pytestmark = pytest.mark.slow


def masks_for(network, size, seed=0, density=0.6):
    return np.random.default_rng(seed).random((size, network.spec.size)) < density


def short(network, dataset, **options):
    usual = {"steps": 10, "batch": 13, "device": "cpu", "backend": "threads"}
    return short_training(network, dataset, **{**usual, **options})


def trained_alone(network, mask, dataset, recipe, order, dtype=torch.float32):
    cohort = Cohort(
        network.wiring, mask[None], [network.parameters()], device=torch.device("cpu"), dtype=dtype
    )
    train(cohort, dataset, recipe, [order])
    return evaluate(cohort, dataset.x_validation, dataset.y_validation)


def tickets_of(network, masks):
    """Tickets that begin from other initializations, every third from the network's own."""
    own = network.initialization
    return [
        Ticket(mask, own if i % 3 == 0 else Initialization(own.scheme, 50 + i))
        for i, mask in enumerate(masks)
    ]


# --- a score belongs to the mask alone


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("activation", "optimizer"),
    [("relu", "sgd"), ("elu", "sgd"), ("silu", "nesterov"), ("gelu", "adamw"), ("tanh", "adam")],
)
@pytest.mark.parametrize("hidden", every(["5", "9,7"], default=["9,7"]))
def test_a_mask_scores_the_same_bits_alone_and_in_any_company(tiny, hidden, activation, optimizer, dtype):
    """Odd widths, batches and samples, so that no network's tensors fit the processor's vectors."""
    network = initialize(f"mlp:{hidden}", tiny, activation=activation)
    options = {"optimizer": optimizer, "lr": 0.01, "weight_decay": 1e-3, "dtype": dtype}
    fitness = short(network, tiny, **options)
    masks = masks_for(network, 7)
    together = fitness(masks)
    assert len(set(together)) == 7
    for i in range(7):
        assert fitness(masks[i : i + 1]) == together[i]
    order = np.random.default_rng(1).permutation(7)
    assert np.array_equal(fitness(masks[order]), together[order])
    assert np.array_equal(fitness(masks[[4, 2]]), together[[4, 2]])
    assert np.array_equal(fitness(np.repeat(masks[3:4], 5, axis=0)), np.repeat(together[3], 5))
    for workers in (2, 3):
        assert np.array_equal(short(network, tiny, workers=workers, **options)(masks), together)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_mask_of_the_default_network_scores_the_same_bits_in_any_company(digits, optimizer):
    network = initialize("mlp:100,50", digits)
    options = {"steps": 20, "batch": 128, "optimizer": optimizer, "lr": 0.02}
    masks = masks_for(network, 6, density=0.5)
    together = short(network, digits, **options)(masks)
    for i in range(6):
        assert short(network, digits, **options)(masks[i : i + 1]) == together[i]
    assert np.array_equal(short(network, digits, workers=2, **options)(masks[::-1]), together[::-1])


class Normalised(nn.Module):
    """A narrow network of convolutions, batch normalisation and dropout."""

    def __init__(self, classes):
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Dropout(0.2)
        self.pool, self.head = nn.AvgPool2d(2), nn.Linear(3 * 16, classes)

    def forward(self, x):
        return self.head(self.drop(self.pool(torch.relu(self.norm(self.conv(x)))).flatten(1)))


class Declared(nn.Module):
    """What no trace reads, with its groups declared by hand."""

    neuron_groups = {"first": ("hidden", "input"), "second": ("output", "hidden")}  # noqa: RUF012

    def __init__(self, classes):
        super().__init__()
        self.first = nn.Parameter(torch.randn(9, 64) / 8)
        self.second = nn.Parameter(torch.randn(classes, 9) / 3)

    def forward(self, x):
        hidden = torch.relu(torch.einsum("ni,hi->nh", x.flatten(1), self.first))
        return torch.einsum("nh,oh->no", hidden, self.second)


GENERAL = {
    "conv2": lambda digits: initialize("conv2", digits, width=0.05),
    "resnet": lambda digits: initialize("resnet20", digits, depth=8, width=0.2),
    "normalised": lambda digits: initialize(lambda s, c: Normalised(c), digits),
    "declared": lambda digits: initialize(lambda s, c: Declared(c), digits, "as_built"),
}


@pytest.mark.parametrize(
    ("model", "masking"),
    every(
        list(itertools.product(GENERAL, MASKINGS)),
        default=[("declared", masking) for masking in MASKINGS] + [("conv2", "parameter")],
    ),
)
def test_a_mask_of_any_network_scores_the_same_bits_alone_and_in_any_company(digits, model, masking):
    """Threads train side by side, so they must share neither tensors nor a generator."""
    network = GENERAL[model](digits)
    assert not network.wiring.dense
    options = {"steps": 4, "batch": 13, "lr": 0.02, "weight_decay": 1e-3, "masking": masking}
    masks = masks_for(network, 5)
    together = short(network, digits, **options)(masks)
    assert len(set(together)) == 5
    assert np.isfinite(together).all()
    for i in range(5):
        assert short(network, digits, **options)(masks[i : i + 1]) == together[i]
    order = np.random.default_rng(1).permutation(5)
    for workers in (2, 5):
        spread = short(network, digits, workers=workers, **options)(masks[order])
        assert np.array_equal(spread, together[order])
        for name, column in together.measures.items():
            assert np.array_equal(spread.measures[name], column[order])


def test_buffers_begin_as_the_tickets_initialization_has_them(digits):
    """As built, two copies have other running means; each ticket is trained from its own."""

    def build(input_shape, classes):
        module = Normalised(classes)
        module.norm.running_mean.normal_()
        return module

    network = initialize(build, digits, "as_built")
    masks = masks_for(network, 3)
    tickets = tickets_of(network, masks)
    found = short(network, digits, steps=0, initialization="own")(masks, tickets=tickets)
    for i, ticket in enumerate(tickets):
        copied = initialize(build, digits, *ticket.initialization)
        assert short(copied, digits, steps=0)(masks[i : i + 1]) == found[i]
    assert not torch.equal(copied.buffers()["norm.running_mean"], network.buffers()["norm.running_mean"])


def test_the_bytes_a_cohort_may_take_change_no_score(tiny, monkeypatch):
    network = initialize("mlp:9,7", tiny)
    masks = masks_for(network, 7)
    stacked = partial(short, network, tiny, masking="forward")
    wanted = stacked()(masks)
    for allowed in (1, network.spec.size * 3):
        monkeypatch.setattr(layout, "WEIGHTS", allowed)
        sizes = []

        def counted(*arguments, sizes=sizes, **options):
            sizes.append(len(arguments[1]))
            return Cohort(*arguments, **options)

        monkeypatch.setattr(jobs, "Cohort", counted)
        assert np.array_equal(stacked()(masks), wanted)
        assert sizes == ([1] * 7 if allowed == 1 else [3, 2, 2])


def test_workers_change_no_score_of_tickets_with_their_own_initialization(tiny):
    """A factory that draws its own weights: building it in the threads raced for torch's generator."""

    def deep(input_shape, classes):
        layers = [nn.Linear(input_shape[0], 8), nn.ReLU()]
        for _ in range(4):
            layers += [nn.Linear(8, 8), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(8, classes))

    network = initialize(deep, tiny, "as_built")
    masks = masks_for(network, 9)
    tickets = tickets_of(network, masks)
    alone = short(network, tiny, initialization="own")(masks, tickets=tickets)
    assert len(set(alone)) == 9
    state = torch.get_rng_state()
    for _ in range(2):
        spread = short(network, tiny, initialization="own", workers=3)
        assert np.array_equal(spread(masks, tickets=tickets), alone)
    assert torch.equal(torch.get_rng_state(), state)


def test_torch_keeps_its_threads(tiny):
    network = initialize("mlp:5", tiny)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        for workers in (1, 2):
            short(network, tiny, workers=workers)(masks_for(network, 4))
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


# --- what a score is


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_score_is_minus_the_validation_loss_and_accuracy_is_beside_it(tiny, dtype):
    network = initialize("mlp:9", tiny, seed=3)
    fitness = short(network, tiny, steps=25, batch=20, lr=0.1, seed=5, dtype=dtype)
    masks = masks_for(network, 3)
    found = fitness(masks, round=2)
    assert isinstance(found, Scores)
    assert found.dtype == np.float64
    assert set(found.measures) == {"accuracy"}
    recipe = Recipe(steps=25, batch=20, lr=0.1)
    order = data_order(61, recipe, seed_sequence(5, Stream.ROUND, 2))
    for i, mask in enumerate(masks):
        wanted = trained_alone(network, mask, tiny, recipe, order, getattr(torch, dtype))
        assert found[i] == -wanted.loss[0]
        assert found.measures["accuracy"][i] == wanted.accuracy[0]
    assert (found < 0).all()
    assert np.array_equal(fitness(masks, round=2), found)


@pytest.mark.parametrize("masking", ["parameter", "gradient"])
def test_a_pooled_score_is_of_the_samples_of_training_and_validation(tiny, masking):
    """Of all samples one mean; accuracies are those of validation, and what is spent counts all samples."""
    network = initialize("mlp:9,7", tiny)
    masks = masks_for(network, 3)
    alone = short(network, tiny, masking=masking)(masks)
    pooled = short(network, tiny, masking=masking, scored="pooled", workers=2)(masks)
    parts = [tiny.x_train, tiny.x_validation], [tiny.y_train, tiny.y_validation]
    everything = dataclasses.replace(tiny, x_validation=torch.cat(parts[0]), y_validation=torch.cat(parts[1]))
    expected = short(network, everything, masking=masking)(masks)
    np.testing.assert_allclose(pooled, expected, rtol=1e-6)
    assert not np.allclose(pooled, alone, rtol=1e-3)
    for name, accuracies in alone.measures.items():
        assert np.array_equal(pooled.measures[name], accuracies)
    assert pooled.spent == expected.spent != alone.spent


def test_what_scores_are_of_is_one_of_two(tiny):
    network = initialize("mlp:9,7", tiny)
    refused(
        lambda: short(network, tiny, scored="test"), "unknown scored 'test': known are pooled, validation"
    )


@pytest.mark.parametrize("masking", ["gradient", "forward"])
def test_the_score_is_of_the_forward_pass_of_training_and_both_accuracies_are_beside_it(tiny, masking):
    network = initialize("mlp:9", tiny, seed=3)
    options = {"steps": 25, "batch": 20, "lr": 0.1, "seed": 5, "masking": masking}
    masks = masks_for(network, 3)
    found = short(network, tiny, **options)(masks, round=2)
    assert set(found.measures) == {"accuracy", "dense_accuracy"}
    recipe = Recipe(steps=25, batch=20, lr=0.1, masking=masking)
    order = data_order(61, recipe, seed_sequence(5, Stream.ROUND, 2))
    device = torch.device("cpu")
    cohort = Cohort(network.wiring, masks, [network.parameters()], device=device, masking=masking)
    train(cohort, tiny, recipe, [order])
    arguments = cohort, tiny.x_validation, tiny.y_validation
    masked, dense = (evaluate(*arguments, masked=choice) for choice in (True, False))
    assert np.array_equal(found, -(dense if masking == "gradient" else masked).loss)
    assert np.array_equal(found.measures["accuracy"], masked.accuracy)
    assert np.array_equal(found.measures["dense_accuracy"], dense.accuracy)
    assert not np.array_equal(masked.accuracy, dense.accuracy)
    final = short(network, tiny, **options).trained(masks, recipe, [order])
    assert np.array_equal(final.loss, -found)


@pytest.mark.parametrize(
    "optimizer", every(["sgd", "nesterov", "adam", "adamw"], default=["nesterov", "adamw"])
)
@pytest.mark.parametrize("model", every(["dense", "normalised"], default=["dense"]))
def test_with_a_fixed_mask_forward_scores_what_parameter_scores_and_gradient_does_not(
    tiny, digits, model, optimizer
):
    """The weights that the mask hides never meet the kept ones: the optimizers go weight by weight."""
    network, data = (
        (initialize("mlp:9", tiny), tiny) if model == "dense" else (GENERAL[model](digits), digits)
    )
    masks = np.concatenate([masks_for(network, 3), np.ones((1, network.spec.size), dtype=bool)])
    options = {"optimizer": optimizer, "lr": 0.02, "weight_decay": 0.01}
    found = {m: short(network, data, masking=m, **options)(masks) for m in MASKINGS}
    assert np.array_equal(found["parameter"], short(network, data, **options)(masks))
    if model == "dense":  # by two engines
        np.testing.assert_allclose(found["forward"], found["parameter"], rtol=1e-5)
    else:
        assert np.array_equal(found["forward"], found["parameter"])
    assert np.isclose(found["gradient"], found["parameter"], rtol=1e-5).tolist() == [False] * 3 + [True]
    accuracies = [found[m].measures["dense_accuracy"] for m in ("gradient", "forward")]
    assert (accuracies[0] != accuracies[1]).any()
    assert accuracies[0][3] == accuracies[1][3] == found["parameter"].measures["accuracy"][3]


def test_integers_and_lists_are_masks_too(tiny):
    network = initialize("mlp:5", tiny)
    fitness = short(network, tiny)
    masks = masks_for(network, 2)
    assert np.array_equal(fitness(masks.astype(int).tolist()), fitness(masks))


def test_no_masks_give_no_scores(tiny):
    network = initialize("mlp:5", tiny)
    found = short(network, tiny)(np.empty((0, network.spec.size), dtype=bool))
    assert found.shape == found.measures["accuracy"].shape == (0,)


def test_an_empty_mask_is_scored(tiny):
    network = initialize("mlp:5", tiny)
    empty, full = short(network, tiny)(np.stack([np.zeros(network.spec.size), np.ones(network.spec.size)]))
    assert np.isfinite(empty)
    assert full > empty


def test_one_round_gives_one_data_order_and_a_new_round_another(tiny):
    network = initialize("mlp:9", tiny)
    masks = masks_for(network, 3)
    fitness = short(network, tiny, seed=1)
    first = fitness(masks, round=0)
    assert np.array_equal(fitness(masks), first)
    assert np.array_equal(short(network, tiny, seed=1)(masks), first)
    assert (fitness(masks, round=1) != first).all()
    assert (short(network, tiny, seed=2)(masks) != first).all()


def test_shared_refuses_tickets_that_carry_another_initialization(tiny):
    network = initialize("mlp:9", tiny)
    masks = masks_for(network, 4)
    fitness = short(network, tiny)
    message = refusal(fitness, masks, tickets=tickets_of(network, masks))
    assert "EvaluationOptions(initialization='own')" in message
    same = Tickets(Ticket(mask, network.initialization) for mask in masks)
    assert np.array_equal(fitness(masks, tickets=same), fitness(masks))


@pytest.mark.parametrize("failing", [0, 1, 3])
def test_a_failing_cohort_stops_the_others_and_no_thread_is_left_behind(tiny, monkeypatch, failing):
    """Four cohorts for two workers: one takes long, one fails, the others are done at once."""
    network = initialize("mlp:9", tiny)
    fitness = short(network, tiny, workers=2, steps=100_000)
    masks = np.zeros((4, network.spec.size), dtype=bool)
    for i in range(4):
        masks[i, : i + 1] = True
    long = 1 if failing == 0 else 0

    def fail(training, until, **options):
        number = int(training.cohort.parts[0].whole_mask.sum()) - 1
        if number == failing:
            raise KeyboardInterrupt
        if number == long:
            advance(training, until, **options)

    advance = Training.advance
    monkeypatch.setattr(Training, "advance", fail)
    before = threading.active_count()
    start = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        fitness(masks)
    assert time.perf_counter() - start < 10
    assert threading.active_count() == before


def test_own_trains_every_mask_from_its_ticket(tiny):
    network = initialize("mlp:9", tiny)
    masks = masks_for(network, 4)
    tickets = tickets_of(network, masks)
    found = short(network, tiny, initialization="own")(masks, tickets=tickets)
    for i, ticket in enumerate(tickets):
        copied = initialize("mlp:9", tiny, *ticket.initialization)
        assert short(copied, tiny)(masks[i : i + 1]) == found[i]
    shared = short(network, tiny)(masks)
    assert (found == shared).tolist() == [True, False, False, True]


def test_a_learning_rate_that_diverges_gives_values_that_are_not_finite(tiny):
    network = initialize("mlp:9,9", tiny)
    for optimizer in ("sgd", "adamw"):
        fitness = short(network, tiny, lr=1e30, steps=20, optimizer=optimizer)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert not np.isfinite(fitness(masks_for(network, 3))).any()


def test_test_data_are_never_touched(tiny):
    network = initialize("mlp:9", tiny)
    masks = masks_for(network, 3)

    def score(**changed):
        return short(network, dataclasses.replace(tiny, **changed))(masks)

    wanted = score()
    poison = {"x_test": torch.full_like(tiny.x_test, 1e6), "y_test": (tiny.y_test + 1) % 3}
    assert np.array_equal(score(**poison), wanted)
    assert (score(x_validation=tiny.x_validation + 1) != wanted).all()
    assert (score(y_train=(tiny.y_train + 1) % 3) != wanted).all()


def test_the_test_part_is_evaluated_only_where_asked(tiny):
    network = initialize("mlp:9", tiny)
    masks = masks_for(network, 2)
    fitness = short(network, tiny)
    orders = [data_order(61, fitness.recipe, [seed]) for seed in (3, 4)]
    swapped = dataclasses.replace(tiny, x_validation=tiny.x_test, y_validation=tiny.y_test)
    on_test = fitness.trained(masks, fitness.recipe, orders, part="test")
    for i, mask in enumerate(masks):
        wanted = trained_alone(network, mask, swapped, fitness.recipe, orders[i])
        assert on_test.loss[i] == wanted.loss[0]
        assert on_test.accuracy[i] == wanted.accuracy[0]


def test_scoring_writes_neither_to_network_nor_masks_nor_data(tiny):
    network = initialize("mlp:9", tiny)
    before = copy.deepcopy(network.module.state_dict())
    masks = masks_for(network, 3)
    kept, fingerprint = masks.copy(), tiny.fingerprint
    short(network, tiny)(masks)
    assert np.array_equal(masks, kept)
    assert dataclasses.replace(tiny).fingerprint == fingerprint
    for name, value in network.module.state_dict().items():
        assert torch.equal(value, before[name])


# --- what is refused


@pytest.mark.parametrize(
    ("options", "words"),
    [
        *(
            ({"workers": value}, ("workers must be an integer from 1 to", f"got {value!r}"))
            for value in (0, -2, 99999999999, 1.5, "2", None)
        ),
        *(
            ({"workers": workers, "backend": backend, "address": "h:1"}, ("'h:1'", f"backend {backend!r}"))
            for workers in (1, 2)
            for backend in ("loky", "threads")
        ),
        ({"backend": []}, ("unknown backend '[]'",)),
        ({"backend": "aut"}, ("unknown backend 'aut' (did you mean 'auto'?)",)),
        ({"masking": []}, ("unknown masking '[]'",)),
        ({"optimizer": None}, ("unknown optimizer 'None'",)),
        ({"device": None}, ("auto, cpu, cuda or cuda:N, but got None",)),
        ({"batch": 1.5}, ("batch must be an integer >= 1", "got 1.5")),
        ({"batch": "8"}, ("batch must be an integer >= 1", "got '8'")),
        ({"lr": "0.1"}, ("lr must be > 0 and finite", "got '0.1'")),
        ({"momentum": None}, ("momentum must be in [0, 1)", "got None")),
        ({"weight_decay": float("inf")}, ("weight_decay must be >= 0 and finite", "got inf")),
        ({"candidates": "0.5"}, ("candidates must be a share", "got '0.5'")),
        ({"dtype": "float16"}, ("unknown dtype 'float16'", "float32, float64")),
        ({"initialization": "fresh"}, ("unknown initialization 'fresh'", "own, shared")),
        ({"optimizer": "sdg"}, ("unknown optimizer 'sdg'", "did you mean 'sgd'")),
        ({"masking": "weights"}, ("unknown masking 'weights'", "forward, gradient, parameter")),
        ({"batch": 62}, ("batch=62", "61 samples")),
        ({"lr": -1.0}, ("lr must be > 0", "-1.0")),
        ({"device": "tpu"}, ("auto, cpu, cuda", "'tpu'")),
    ],
)
def test_a_bad_option_is_refused(tiny, options, words):
    network = initialize("mlp:5", tiny)
    refused(lambda: short(network, tiny, **options), *words)


@pytest.mark.parametrize("round", [-1, 1.5, "1", None])
def test_a_round_that_is_none_is_refused(tiny, round):
    network = initialize("mlp:5", tiny)
    fitness, masks = short(network, tiny), masks_for(network, 2)
    refused(lambda: fitness(masks, round=round), "round must be an integer >= 0", f"got {round!r}")
    assert np.array_equal(fitness(masks, round=np.int64(2)), fitness(masks, round=2))


def test_what_cannot_be_trained_is_refused_before_it_is(digits):
    class Random(Declared):
        def __init__(self, classes):
            super().__init__(classes)
            self.drop = nn.Dropout(0.1)

    network = initialize(lambda s, c: Random(c), digits, "as_built")
    refused(lambda: short(network, digits), "'drop'", "declared by hand")

    def normalised(shape, classes):
        layers = nn.Flatten(), nn.Linear(64, 4), nn.BatchNorm1d(4), nn.Linear(4, classes)
        return nn.Sequential(*layers)

    network = initialize(normalised, digits)
    refused(lambda: short(network, digits, batch=1), "batch >= 2", "but got 1")


def test_a_dataset_of_another_shape_or_number_of_classes_is_refused(tiny, digits):
    network = initialize("mlp:5", tiny)
    refused(lambda: short(network, digits), "(7,)", "3 classes", "'digits'", "(1, 8, 8)", "10")
    rng = np.random.default_rng(0)
    four = from_arrays("four", rng.normal(size=(60, 7)), np.arange(60) % 4)
    refused(lambda: short(network, four), "3 classes", "'four'", "4")


def test_masks_of_another_shape_or_other_values_are_refused(tiny):
    network = initialize("mlp:5", tiny)
    fitness = short(network, tiny)
    refused(lambda: fitness(np.ones(network.spec.size, dtype=bool)), f"(population, {network.spec.size})")
    refused(lambda: fitness(np.ones((2, network.spec.size + 1))), f"(2, {network.spec.size + 1})")
    refused(lambda: fitness(np.full((2, network.spec.size), 0.5)), "1 and 0")


def test_own_without_tickets_or_with_the_wrong_number_is_refused(tiny):
    network = initialize("mlp:5", tiny)
    fitness = short(network, tiny, initialization="own")
    masks = masks_for(network, 4)
    tickets = tickets_of(network, masks)
    refused(lambda: fitness(masks), "'own'", "initialization")
    refused(lambda: fitness(masks, tickets=[*tickets[:3], Ticket(masks[3])]), "'own'", "initialization")
    for wrong in (tickets[:1], tickets[:3], [*tickets, tickets[0]]):
        refused(lambda wrong=wrong: fitness(masks, tickets=wrong), "one for each mask (4)", str(len(wrong)))


# --- fitness by name


def test_a_fitness_is_built_by_name_with_its_options(tiny):
    network = initialize("mlp:5", tiny)
    options = {"steps": 10, "batch": 13, "device": "cpu", "seed": 4}
    built = build_fitness("short_training", network, tiny, **options)
    masks = masks_for(network, 2)
    assert np.array_equal(built(masks), short_training(network, tiny, **options)(masks))


def test_an_unknown_fitness_is_refused_with_the_nearest(tiny):
    network = initialize("mlp:5", tiny)
    refused(
        lambda: build_fitness("short_trainin", network, tiny),
        "'short_trainin'",
        "did you mean 'short_training'",
    )


def test_an_unknown_option_of_the_short_training_is_refused(tiny):
    network = initialize("mlp:5", tiny)
    refused(lambda: build_fitness("short_training", network, tiny, stepz=1), "no option 'stepz'", "'steps'")


FILE = """
import numpy as np

def build(network, dataset, *, weight=1.0):
    return lambda masks: weight * np.asarray(masks).sum(axis=1)

def no_fitness(network, dataset):
    return 3.0
"""


def test_a_fitness_of_a_file_is_built_and_its_options_are_checked(tiny, tmp_path):
    (tmp_path / "mine.py").write_text(FILE)
    network = initialize("mlp:5", tiny)
    name = f"{tmp_path / 'mine.py'}:build"
    masks = masks_for(network, 3)
    built = build_fitness(name, network, tiny, weight=-2.0)
    assert np.array_equal(built(masks), -2.0 * masks.sum(axis=1))
    refused(lambda: build_fitness(name, network, tiny, wait=1), "no option 'wait'", "weight")
    refused(lambda: build_fitness(name.replace("build", "biuld"), network, tiny), "'biuld'", "'build'")
    refused(
        lambda: build_fitness(name.replace("build", "no_fitness"), network, tiny), "build a callable", "float"
    )


def test_a_users_build_is_given_the_runs_seed_if_it_names_one(tiny, tmp_path):
    (tmp_path / "mine.py").write_text(
        "def named(network, dataset, *, seed):\n    return lambda masks: masks[:, 0] * 0.0 + seed\n"
        "def plain(network, dataset):\n    return lambda masks: masks[:, 0] * 0.0\n"
    )
    network = initialize("mlp:5", tiny)
    masks = masks_for(network, 2)
    named = f"{tmp_path}/mine.py:named"
    assert build_fitness(named, network, tiny, 7)(masks).tolist() == [7, 7]
    assert build_fitness(named, network, tiny, 7, seed=3)(masks).tolist() == [3, 3]
    assert build_fitness(f"{tmp_path}/mine.py:plain", network, tiny, 7)(masks).tolist() == [0, 0]


def test_guidance_comes_with_scores_where_candidates_are_asked_for(tiny):
    network = initialize("mlp:9,7", tiny)
    masks = masks_for(network, 5)
    plain, guided = (short(network, tiny, candidates=share) for share in (None, 0.5))
    scores = guided(masks)
    assert plain(masks).guidance is None
    assert np.array_equal(scores, plain(masks))
    for mask, guidance in zip(masks, scores.guidance, strict=True):
        check_guidance(*guidance, mask)
        assert 0 < len(guidance.candidates) <= round(0.5 * mask.sum())
    again = guided(masks[::-1]).guidance[::-1]  # remembered
    spread = short(network, tiny, candidates=0.5, workers=2, backend="threads")(masks).guidance
    for one, *others in zip(scores.guidance, again, spread, strict=True):
        assert all(np.array_equal(a, b) for other in others for a, b in zip(one, other, strict=True))


def test_guidance_on_a_ladder_is_of_the_last_training_of_each(tiny):
    network = initialize("mlp:9,7", tiny)
    masks = masks_for(network, 12)
    ladder = short(network, tiny, steps=[5, 20], candidates=0.5)(masks)
    assert {5, 20} == set(ladder.rungs.tolist())
    alone = {steps: short(network, tiny, steps=steps, candidates=0.5)(masks).guidance for steps in (5, 20)}

    def same(number, steps):
        pairs = zip(ladder.guidance[number], alone[steps][number], strict=True)
        return all(np.array_equal(own, other) for own, other in pairs)

    assert all(same(number, 20) for number in np.flatnonzero(ladder.rungs == 20))
    left = [same(number, 5) for number in np.flatnonzero(ladder.rungs == 5)]
    controls = [same(number, 20) for number in np.flatnonzero(ladder.rungs == 5)]
    assert (np.add(left, controls) == 1).all()  # a control was trained on all the same
    assert 0 < sum(controls) < len(controls)


@pytest.mark.parametrize("share", [-0.1, np.nan, np.inf])
def test_candidates_are_a_share(tiny, share):
    refused(lambda: short(initialize("mlp:5", tiny), tiny, candidates=share), "candidates", str(share))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_what_a_caller_has_switched_on_in_torch_changes_no_score(tiny, precision):
    network = initialize("mlp:9,7", tiny)
    masks = masks_for(network, 3)
    wanted = short(network, tiny, precision=precision)(masks)
    contexts = (
        torch.autocast("cpu", dtype=torch.bfloat16),
        torch.autocast("cpu", enabled=False),
        torch.no_grad(),
        torch.inference_mode(),
    )
    for context in contexts:
        with context:
            assert np.array_equal(short(network, tiny, precision=precision)(masks), wanted)


def test_what_an_evaluation_takes_is_counted_by_live_weights_and_once(tiny):
    network = initialize("mlp:9,7", tiny)
    masks = masks_for(network, 3, density=0.15)
    fitness = short(network, tiny, steps=3, candidates=None)
    each = [int(live(mask, network.spec).sum()) for mask in masks]
    assert sum(each) < masks.sum()  # some are dead
    operations = sum(6 * 13 * 3 * n + 2 * len(tiny.y_validation) * n for n in each)
    assert fitness(masks).spent == Spent(3, 9, operations)
    assert fitness(masks).spent == Spent()  # all known
    assert fitness(masks, round=1).spent == Spent(3, 9, operations)


def test_what_guidance_takes_is_counted_by_kept_weights_and_by_those_that_may_grow(tiny):
    network = initialize("mlp:9,7", tiny)
    masks = masks_for(network, 3, density=0.15)
    plain = short(network, tiny, steps=3, candidates=None)(masks).spent
    kept = sum(int(live(mask, network.spec).sum()) for mask in masks)
    growable = 0
    for mask in masks:
        units = live_units(mask, network.spec)
        alive = [units[group.name] | (group.kind != "hidden") for group in network.spec.groups]
        joined = sum(int(a.sum()) * int(b.sum()) for a, b in itertools.pairwise(alive))
        growable += joined - int(live(mask, network.spec).sum())
    assert 0 < growable < (~masks).sum()
    samples = len(tiny.y_train)
    for candidates, expected in ((1.0, 8 * kept + 4 * growable), (0.0, 8 * kept)):
        spent = short(network, tiny, steps=3, candidates=candidates)(masks).spent
        assert spent.flops - plain.flops == samples * expected


def test_rungs_of_a_ladder_count_the_steps_between_them(tiny):
    network = initialize("mlp:9,7", tiny)
    spent = short(network, tiny, steps=[2, 5])(masks_for(network, 8)).spent
    assert (spent.evaluations, spent.steps) == (
        8 + 4 + 2,
        8 * 2 + 6 * 3,
    )  # all; the better half and 2 controls


def test_a_convolution_counts_at_each_of_its_positions():
    dataset = from_arrays("images", np.zeros((20, 1, 8, 8)), np.arange(20) % 2, standardize="none")
    network = initialize("conv2", dataset)
    whole = np.ones((1, network.spec.size), dtype=np.bool_)
    assert live_operations(network.wiring, whole).tolist() == [operations_a_sample(network.wiring)]
