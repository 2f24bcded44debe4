"""The trainer: jobs of any size give the same; what was evaluated once is remembered; ladders go on."""

import pickle
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from conftest import every, refused
from loops import images, masks_for, tensors_of
from torch import nn

from ticketsearch.datasets import from_arrays
from ticketsearch.fitness import jobs
from ticketsearch.fitness import trainer as module
from ticketsearch.fitness.jobs import Job, Stage
from ticketsearch.fitness.named import short_training
from ticketsearch.fitness.trainer import Trainer
from ticketsearch.masks import live, pack
from ticketsearch.models import Initialization, Network, initialize
from ticketsearch.random_streams import Stream, seed_sequence
from ticketsearch.tickets import Ticket
from ticketsearch.training import Cohort, Recipe, Training, data_order, evaluate, reproducible, train

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
RECIPE = Recipe(4, 13, "adamw", lr=0.02, weight_decay=1e-3)
# A training in two stages.
FIRST, SECOND = Stage(until=2, keeps_states=True), Stage(begin=2)


def serial(network, dataset, **options):
    return Trainer(network, dataset, device="cpu", **options)


def short(network, dataset, **options):
    return short_training(network, dataset, **{"steps": 6, "batch": 13, "device": "cpu", **options})


def seeds(number):
    return [np.random.SeedSequence(seed) for seed in range(number)]


def alone(network, dataset, mask, recipe, order, part="validation", masked=None):
    """Return what one network trained by itself comes to, from its own initialization."""
    options = {"device": CPU, "masking": recipe.masking}
    cohort = Cohort(network.wiring, mask[None], [tensors_of(network)], **options)
    with reproducible():
        train(cohort, dataset, recipe, [order])
        x, y = getattr(dataset, f"x_{part}"), getattr(dataset, f"y_{part}")
        return evaluate(cohort, x, y, masked=masked)


# --- jobs


def job(number, **options):
    arguments = {
        "masks": tuple(b"%d" % i for i in range(number)),
        "initializations": tuple(Initialization("pytorch", i) for i in range(number)),
        "orders": tuple(np.full((1, 1), i) for i in range(number)),
        "states": tuple({"0": np.full(1, i)} for i in range(number)),
    } | options
    stage = Stage(begin=2, until=4, keeps_states=True, part="test", passes=(True, False))
    return Job(**arguments, recipe=RECIPE, stage=stage)


@pytest.mark.parametrize("number", [2, 3, 8, 9])
def test_the_halves_of_a_job_are_the_whole(number):
    whole = job(number)
    first, second = whole.halves()
    assert (len(first.masks), len(second.masks)) == (number // 2, number - number // 2)
    for name in ("masks", "initializations", "orders", "states"):
        assert getattr(first, name) + getattr(second, name) == getattr(whole, name), name
    for half in (first, second):
        assert (half.recipe, half.stage) == (whole.recipe, whole.stage)


def test_what_a_job_has_once_both_halves_have_and_no_states_are_none():
    shared = {"initializations": (Initialization("pytorch", 0),), "orders": (np.random.SeedSequence(0),)}
    whole = job(5, **shared, states=None)
    for half in whole.halves():
        assert (half.initializations, half.orders) == (whole.initializations, whole.orders)
        assert half.states is None


# --- populations


@cache
def wide():
    rng = np.random.default_rng(0)
    return from_arrays("wide", rng.normal(size=(300, 300)), np.arange(300) % 5)


def mixed(network, seed=0):
    """Masks of many layouts, in no order."""
    rng = np.random.default_rng(seed)
    return np.stack(
        [rng.random(network.spec.size) < share for share in (0.01, 0.4, 0.05, 0.4, 0.01, 0.1, 0.02)]
    )


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("part", ["validation", "test"])
def test_what_comes_back_is_in_the_order_of_the_masks(part, shared):
    data = wide()
    network = initialize("mlp", data, hidden="120,60")
    masks = mixed(network)
    copies = 1 if shared else len(masks)
    begun = [Initialization("kaiming_normal", seed) for seed in range(copies)]
    found = serial(network, data).train(
        masks, begun, seeds(copies), RECIPE, Stage(part=part, keeps_states=True)
    )
    (evaluation,) = found.evaluations
    for i, mask in enumerate(masks):
        own = network.reinitialized(*begun[0 if shared else i])
        order = data_order(len(data.y_train), RECIPE, seeds(copies)[0 if shared else i])
        wanted = alone(own, data, mask, RECIPE, order, part)
        assert evaluation.loss[i] == wanted.loss[0]
        assert evaluation.accuracy[i] == wanted.accuracy[0]
    assert len(set(evaluation.loss)) == len(masks)
    sizes = [sum(array.size for array in state.values()) for state in found.states]
    alive = np.array([live(mask, network.spec).sum() for mask in masks[1:4:2]])
    assert np.array_equal(np.argsort(sizes[1:4:2]), np.argsort(alive))
    assert max(sizes[0], sizes[4]) < sizes[6] < sizes[2] < sizes[5] < min(sizes[1], sizes[3])
    assert set(found.seconds) == {"training", "validation", "workers"}
    assert min(found.seconds["training"], found.seconds["validation"]) > 0


def test_each_pass_is_an_evaluation_of_its_own(tiny):
    network, recipe = initialize("mlp", tiny, hidden="9"), Recipe(6, 13, masking="forward")
    masks, order = masks_for(network, 3), data_order(len(tiny.y_train), recipe, [0])
    passes = (False, True, None)
    found = serial(network, tiny).train(
        masks, [network.initialization], [order], recipe, Stage(passes=passes)
    )
    for masked, evaluation in zip(passes, found.evaluations, strict=True):
        for i, mask in enumerate(masks):
            assert evaluation.loss[i] == alone(network, tiny, mask, recipe, order, masked=masked).loss[0]
    assert np.array_equal(found.evaluations[1].loss, found.evaluations[2].loss)
    assert (found.evaluations[0].loss != found.evaluations[1].loss).all()


def test_no_masks_give_nothing(tiny):
    network = initialize("mlp", tiny, hidden="9")
    masks = np.empty((0, network.spec.size), dtype=bool)
    found = serial(network, tiny).train(
        masks, [network.initialization], seeds(1), RECIPE, Stage(passes=(True, False))
    )
    assert [evaluation.loss.shape for evaluation in found.evaluations] == [(0,), (0,)]
    assert found.states == []


MODELS = {
    "dense": lambda tiny, digits: (wide(), initialize("mlp", wide(), hidden="120,60")),
    "convolutions": lambda tiny, digits: (digits, images(digits, p=0.3)),
}
models = pytest.mark.parametrize("model", MODELS)


@models
def test_training_goes_on_from_states_to_the_same_bits_with_or_without_them(model, tiny, digits):
    """Also where some are missing: these networks are trained from the beginning again."""
    data, network = MODELS[model](tiny, digits)
    masks, arguments = mixed(network), ([network.initialization], seeds(1), RECIPE)
    trainer = serial(network, data)
    straight = trainer.train(masks, *arguments)
    first = trainer.train(masks, *arguments, FIRST)
    assert first.evaluations[0].loss.tolist() != straight.evaluations[0].loss.tolist()
    missing = [state if i % 3 else None for i, state in enumerate(first.states)]
    for states in (first.states, missing, [None] * len(masks)):
        second = trainer.train(masks, *arguments, SECOND, states=states)
        assert np.array_equal(second.evaluations[0].loss, straight.evaluations[0].loss)
        assert second.states == [None] * len(masks)
    picked = [5, 0, 3]
    own = [first.states[i] for i in picked]
    some = trainer.train(masks[picked], *arguments, SECOND, states=own)
    assert np.array_equal(some.evaluations[0].loss, straight.evaluations[0].loss[picked])


def recorded(trainer, monkeypatch):
    """Return a list of the jobs that the trainer has done."""
    ran, run = [], trainer.runner.run
    monkeypatch.setattr(trainer.runner, "run", lambda job: ran.append(job) or run(job))
    return ran


def test_jobs_for_other_processes_are_small(monkeypatch):
    """Sixteen sparse networks of one layout on their way up a ladder, each with its state."""
    rng = np.random.default_rng(0)
    data = from_arrays("images", rng.normal(size=(120, 1, 28, 28)), np.arange(120) % 10)
    network = initialize("lenet_300_100", data)
    masks = rng.random((16, network.spec.size)) < 0.02
    monkeypatch.setattr(module, "batches", lambda *_, **__: [list(range(16))])
    trainer, arguments = serial(network, data), ([network.initialization], seeds(1), Recipe(3, 64))
    here = trainer.train(masks, *arguments, FIRST)
    straight = trainer.train(masks, *arguments)
    monkeypatch.setattr(Trainer, "in_process", False)
    jobs = recorded(trainer, monkeypatch)
    there = trainer.train(masks, *arguments, SECOND, states=here.states)
    assert np.array_equal(there.evaluations[0].loss, straight.evaluations[0].loss)
    (together,) = jobs
    assert together.states is not None
    assert len(pickle.dumps(together)) < 1_000_000
    assert sum(map(len, together.masks)) < 16 * len(pack(masks[0])) / 2  # sparse bits are compressed


def weight(state):
    return 0 if state is None else sum(array.nbytes for array in state.values())


@pytest.mark.parametrize("own_orders", [False, True])
def test_the_bytes_a_job_may_take_change_no_result(own_orders, monkeypatch):
    """A state that is too large for a job of its own does not come back: training is done again."""
    data = wide()
    network = initialize("mlp", data, hidden="120,60")
    masks, trainer = mixed(network), serial(network, data)
    orders = [
        data_order(len(data.y_train), RECIPE, [seed]) for seed in range(len(masks) if own_orders else 1)
    ]
    arguments = [network.initialization], orders, RECIPE
    first = trainer.train(masks, *arguments, FIRST)
    straight = trainer.train(masks, *arguments)
    bits, sizes = len(pack(masks[0])), [weight(state) for state in first.states]
    monkeypatch.setattr(Trainer, "in_process", False)
    for most in (0, sorted(sizes)[3], 3 * max(sizes)):
        allowed = bits + most
        monkeypatch.setattr(module, "JOB_BYTES", allowed)
        with monkeypatch.context() as patch:
            jobs = recorded(trainer, patch)
            again = trainer.train(masks, *arguments, FIRST)
            for size, one, other in zip(sizes, again.states, first.states, strict=True):
                assert (one is None) is (size > most)
                assert one is None or all(np.array_equal(one[name], other[name]) for name in other)
            second = trainer.train(masks, *arguments, SECOND, states=again.states)
        assert np.array_equal(second.evaluations[0].loss, straight.evaluations[0].loss)
        assert sum(len(job.masks) for job in jobs) == 2 * len(masks)
        for job in jobs:
            own = [bits + weight(state) for state in job.states or [None] * len(job.masks)]
            assert len(own) == 1 or sum(own) <= allowed


def test_the_data_order_of_all_masks_counts_once_a_job_and_one_of_each_with_its_mask(monkeypatch):
    data = wide()
    network = initialize("mlp", data, hidden="120,60")
    masks, trainer = mixed(network), serial(network, data)
    order = data_order(len(data.y_train), Recipe(60, 13), [0])  # larger than a mask; begun alone
    bits = len(pack(masks[0]))
    monkeypatch.setattr(Trainer, "in_process", False)
    monkeypatch.setattr(module, "batches", lambda *_, **__: [list(range(7))])
    for number, allowed, sizes in (
        (1, order.nbytes + 7 * bits, [7]),
        (1, order.nbytes + 4 * bits - 1, [3, 3, 1]),
        (7, 3 * (order.nbytes + bits), [3, 3, 1]),
    ):
        monkeypatch.setattr(module, "JOB_BYTES", allowed)
        with monkeypatch.context() as patch:
            jobs = recorded(trainer, patch)
            trainer.train(masks, [network.initialization], [order] * number, RECIPE)
        assert [len(job.masks) for job in jobs] == sizes


def test_a_runner_keeps_the_tensors_of_a_few_initializations(tiny, monkeypatch):
    network, made = initialize("mlp", tiny, hidden="9"), []
    build = Network.reinitialized
    monkeypatch.setattr(Network, "reinitialized", lambda net, *own: made.append(own[1]) or build(net, *own))
    monkeypatch.setattr(jobs, "INITIALIZATIONS", 2)
    runner = serial(network, tiny).runner

    def wanted(*numbers):
        made.clear()
        found = runner.initial([Initialization("kaiming_normal", number) for number in numbers])
        for number, own in zip(numbers, found, strict=True):
            for name, tensor in tensors_of(build(network, "kaiming_normal", number)).items():
                assert torch.equal(own[name], tensor)
        return made

    assert wanted(1, 2, 1, 2) == [1, 2]
    assert wanted(2, 1) == []
    assert wanted(3) == [3]
    assert wanted(2, 3) == []
    assert wanted(2, 1) == [1]  # forgotten meanwhile; the other is not, as it is wanted
    assert wanted(1, 2) == []
    assert wanted(5, 6, 7, 5) == [5, 6, 7]  # more at once than are kept otherwise
    assert wanted(6, 7, 5) == []


# --- what does not fit


def too_large():
    torch.empty(2**60)


def full(error):
    def fail():
        raise error

    return fail


FULL = {
    "device": full(torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")),
    "cublas": full(
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
    ),
    "numpy": full(MemoryError("Unable to allocate 8.00 EiB")),
    "torch": too_large,
}


@pytest.fixture
def room(monkeypatch):
    """Let cohorts fail as soon as they have trained a step, if they are larger than asked for."""

    def limited(most, fail):
        advance = Training.advance

        def advanced(training, until, **options):
            if training.cohort.size > most:
                advance(training, training.done + 1, **options)
                fail()
            advance(training, until, **options)

        monkeypatch.setattr(Training, "advance", advanced)

    return limited


@pytest.mark.parametrize(
    ("model", "most", "fail"),
    every(
        [(model, *own) for model in MODELS for own in zip((1, 2, 3, 1), FULL.values(), strict=True)],
        default=lambda member: member[0] == next(iter(MODELS)) or member[1] == 2,
    ),
)
def test_a_job_that_does_not_fit_is_halved_to_the_same_bits_and_a_line_says_so(
    most, fail, model, tiny, digits, room, monkeypatch
):
    """From the beginning and from states, which come back as they would; each line once."""
    data, network = MODELS[model](tiny, digits)
    masks = np.concatenate([mixed(network), mixed(network)[[1, 1, 1]]])
    arguments = [network.initialization], seeds(len(masks)), RECIPE
    trainer = serial(network, data)
    passes = {"passes": (True, False)}
    straight = trainer.train(masks, *arguments, Stage(**passes))
    first = trainer.train(masks, *arguments, FIRST)
    monkeypatch.setattr(module, "batches", lambda *_, **__: [[9, 8, 7, 3, 1], [0, 2, 4, 5, 6]])
    room(most, fail)
    with pytest.warns(UserWarning, match="do not fit") as caught:
        halved = trainer.train(masks, *arguments, Stage(**passes))
    lines = [str(warning.message) for warning in caught]
    sizes = [5, *([3] if most < 3 else []), *([2] if most < 2 else [])]
    assert sorted(lines) == sorted(
        f"{size} networks at once do not fit into the memory of cpu: halved" for size in sizes
    )
    with pytest.warns(UserWarning, match="halved"):
        again = trainer.train(masks, *arguments, FIRST)
    with pytest.warns(UserWarning, match="halved"):
        on = trainer.train(masks, *arguments, replace(SECOND, **passes), states=again.states)
    for found in (halved, on):
        for ours, theirs in zip(found.evaluations, straight.evaluations, strict=True):
            assert np.array_equal(ours.loss, theirs.loss)
            assert np.array_equal(ours.accuracy, theirs.accuracy)
    for one, other in zip(again.states, first.states, strict=True):
        assert set(one) == set(other)
        assert all(np.array_equal(one[name], other[name]) for name in other)


@pytest.mark.parametrize("fail", FULL.values(), ids=FULL)
def test_one_network_that_does_not_fit_is_refused(fail, tiny, room):
    network = initialize("mlp", tiny, hidden="9")
    room(0, fail)
    arguments = masks_for(network, 3), [network.initialization], seeds(1), RECIPE
    refused(
        lambda: serial(network, tiny).train(*arguments), "one network at a time", "memory of cpu", "batch"
    )


@pytest.mark.parametrize(
    "error",
    [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("memory"), KeyboardInterrupt()],
)
def test_other_errors_pass_through(error, tiny, room, monkeypatch):
    network = initialize("mlp", tiny, hidden="9")
    room(1, full(error))
    monkeypatch.setattr(Job, "halves", lambda job: pytest.fail("halved"))
    with pytest.raises(type(error)) as caught:
        serial(network, tiny).train(masks_for(network, 3), [network.initialization], seeds(1), RECIPE)
    assert caught.value is error


# --- what is remembered


@pytest.fixture
def advanced(monkeypatch):
    """A list of the trainings: how many networks, from which step, to which."""
    found, advance = [], Training.advance

    def noted(training, until, **options):
        found.append((training.cohort.size, training.done, until))
        advance(training, until, **options)

    monkeypatch.setattr(Training, "advance", noted)
    return found


def test_a_mask_is_trained_once(tiny, advanced):
    network = initialize("mlp", tiny, hidden="9")
    fitness, masks = short(network, tiny), masks_for(network, 5)
    first = fitness(masks)
    assert advanced == [(5, 0, 6)]
    again = fitness(masks[::-1])
    assert len(advanced) == 1
    assert np.array_equal(again, first[::-1])
    assert np.array_equal(again.measures["accuracy"], first.measures["accuracy"][::-1])
    assert again.phases == {}
    more = masks_for(network, 2, seed=1)
    found = fitness(np.concatenate([masks[:2], more, masks[3:]]))
    assert advanced[1:] == [(2, 0, 6)]
    assert np.array_equal(found[[0, 1, 4, 5]], first[[0, 1, 3, 4]])
    assert np.array_equal(found[2:4], short(network, tiny)(more))


def test_the_same_mask_twice_is_trained_once(tiny, advanced):
    network = initialize("mlp", tiny, hidden="9")
    masks = masks_for(network, 3)
    found = short(network, tiny)(masks[[0, 1, 0, 2, 1, 0]])
    assert advanced == [(3, 0, 6)]
    assert np.array_equal(found, short(network, tiny)(masks)[[0, 1, 0, 2, 1, 0]])
    assert np.isfinite(found.measures["accuracy"]).all()


def test_another_round_trains_again_and_the_first_is_remembered_still(tiny, advanced):
    network = initialize("mlp", tiny, hidden="9")
    fitness, masks = short(network, tiny), masks_for(network, 3)
    first, second = fitness(masks, round=0), fitness(masks, round=1)
    assert len(advanced) == 2
    assert (first != second).all()
    assert np.array_equal(fitness(masks, round=0), first)
    assert np.array_equal(fitness(masks, round=1), second)
    assert len(advanced) == 2


def test_another_initialization_trains_again(tiny, advanced):
    network = initialize("mlp", tiny, hidden="9")
    fitness = short(network, tiny, initialization="own")
    mask = masks_for(network, 1)

    def score(*numbers):
        tickets = [Ticket(mask[0], Initialization("kaiming_normal", number)) for number in numbers]
        return fitness(np.repeat(mask, len(numbers), axis=0), tickets=tickets)

    found = score(0, 1, 0, 1, 2)
    assert advanced == [(3, 0, 6)]
    assert len(set(found)) == 3
    assert found[0] == found[2] == short(network, tiny)(mask)[0]
    assert np.array_equal(score(2, 1, 0), found[[4, 1, 0]])
    assert len(advanced) == 2  # the shared one above
    score(3)
    assert advanced[2:] == [(1, 0, 6)]


def test_another_fitness_remembers_nothing_of_this_one(tiny, advanced):
    network = initialize("mlp", tiny, hidden="9")
    masks = masks_for(network, 2)
    scores = [
        short(network, tiny, **options)(masks) for options in ({}, {"lr": 0.1}, {"seed": 1}, {"steps": 7})
    ]
    assert len(advanced) == 4
    assert len({score.tobytes() for score in scores}) == 4


def test_the_oldest_is_forgotten_where_there_are_too_many(tiny, advanced, monkeypatch):
    monkeypatch.setattr("ticketsearch.fitness.memo.MEMO_SIZE", 3)
    network = initialize("mlp", tiny, hidden="9")
    fitness, masks = short(network, tiny, candidates=None), masks_for(network, 5)
    first = fitness(masks)  # more than are remembered
    assert np.array_equal(fitness(masks[2:]), first[2:])
    assert len(advanced) == 1
    assert np.array_equal(fitness(masks[:2]), first[:2])
    assert advanced[1:] == [(2, 0, 6)]


def test_what_diverged_is_remembered_too(tiny, advanced):
    network = initialize("mlp", tiny, hidden="9,9")
    fitness, masks = short(network, tiny, lr=1e30, steps=20), masks_for(network, 2)
    for _ in range(2):
        assert not np.isfinite(fitness(masks)).any()
    assert len(advanced) == 1


# --- ladders

RUNGS = (4, 8, 16)


class Plain(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv2d(1, 3, 3, stride=2), nn.BatchNorm2d(3), nn.Dropout(0.3)
        self.head = nn.Linear(27, classes)

    def forward(self, x):
        return self.head(self.drop(torch.relu(self.norm(self.conv(x))).flatten(1)))


LADDERS = {
    "dense": lambda tiny, digits: (tiny, initialize("mlp", tiny, hidden="12,9"), "parameter"),
    "dense, gradient": lambda tiny, digits: (tiny, initialize("mlp", tiny, hidden="12,9"), "gradient"),
    "convolutions": lambda tiny, digits: (digits, initialize(lambda s, c: Plain(c), digits), "parameter"),
}


@pytest.mark.parametrize("case", every(LADDERS, default=["dense", "convolutions"]))
def test_a_ladder_scores_as_trainings_of_its_rungs_do(case, tiny, digits):
    """To the bit: the shorter data order is the beginning of the longer one."""
    data, network, masking = LADDERS[case](tiny, digits)
    masks = masks_for(network, 12, density=0.5)
    options = {"masking": masking, "optimizer": "adamw", "lr": 0.01, "seed": 3}
    found = short(network, data, steps="4,8,16", **options)(masks, round=2)
    assert found.rungs.dtype.kind == "i"
    assert sorted(found.rungs.tolist()) == [4] * 6 + [8] * 3 + [16] * 3
    single = {rung: short(network, data, steps=rung, **options)(masks, round=2) for rung in RUNGS}
    for i, rung in enumerate(found.rungs.tolist()):
        assert found[i] == single[rung][i]
        for name, column in found.measures.items():
            assert column[i] == single[rung].measures[name][i], name
    assert set(found.measures) == {"accuracy", *(["dense_accuracy"] if masking == "gradient" else [])}
    # The better half of all goes on, and of these the better half.
    assert set(np.argsort(-single[4])[:6]) == set(np.flatnonzero(found.rungs > 4))
    on = np.flatnonzero(found.rungs > 4)
    assert set(on[np.argsort(-single[8][on])[:3]]) == set(np.flatnonzero(found.rungs > 8))
    assert [(a.lower_steps, a.upper_steps) for a in found.agreements] == [(4, 8), (8, 16)]
    assert [a.pairs for a in found.agreements] == [1, 6]  # two controls, then two more
    assert set(found.phases) == {"training", "validation", "workers"}
    assert np.array_equal(data_order(50, Recipe(16, 13), [0])[:4], data_order(50, Recipe(4, 13), [0]))


def test_a_ladder_trains_each_mask_on_from_where_it_stopped(tiny, advanced):
    network = initialize("mlp", tiny, hidden="9")
    fitness, masks = short(network, tiny, steps=RUNGS), masks_for(network, 12)
    first = fitness(masks)
    assert advanced == [(12, 0, 4), (8, 4, 8), (7, 8, 16)]  # halves and two controls a rung, which stay
    again = fitness(masks)
    assert len(advanced) == 3
    assert np.array_equal(again, first)
    assert np.array_equal(again.rungs, first.rungs)
    assert again.agreements == first.agreements


def test_equal_masks_climb_as_one(tiny, advanced):
    """Whichever of them goes on, its training does too."""
    network = initialize("mlp", tiny, hidden="9")
    masks = masks_for(network, 6)
    found = short(network, tiny, steps=RUNGS)(masks[[0, 1, 2, 3, 4, 5, 5, 4, 3, 2, 1, 0]])
    assert advanced[0] == (6, 0, 4)
    assert [done for _, done, _ in advanced] == [0, 4, 8]
    single = {rung: short(network, tiny, steps=rung)(masks) for rung in RUNGS}
    for i, number in enumerate([0, 1, 2, 3, 4, 5, 5, 4, 3, 2, 1, 0]):
        assert found[i] == single[found.rungs[i]][number]


def test_masks_that_are_remembered_of_a_lower_rung_climb_on_to_the_same_scores(tiny, advanced):
    """They have no states any more, so they and what trains beside them begin again."""
    network = initialize("mlp", tiny, hidden="9")
    masks = masks_for(network, 20)
    fitness = short(network, tiny, steps=RUNGS)
    fitness(masks[:12])
    before = len(advanced)
    company = np.concatenate([masks[6:], masks[:2], masks[15:16]])
    found = fitness(company)
    fresh = short(network, tiny, steps=RUNGS)(company)
    assert advanced[before] == (8, 0, 4)  # those that are new
    assert np.array_equal(found, fresh)
    assert np.array_equal(found.rungs, fresh.rungs)
    assert np.array_equal(found.measures["accuracy"], fresh.measures["accuracy"])
    assert found.agreements == fresh.agreements


def test_one_rung_is_no_ladder(tiny):
    network = initialize("mlp", tiny, hidden="9")
    masks = masks_for(network, 4)
    one, plain = (short(network, tiny, steps=steps)(masks) for steps in ("6", 6))
    assert one.rungs is None is plain.rungs
    assert one.agreements == []
    assert np.array_equal(one, plain)


def test_the_data_order_of_a_round_is_the_recipes_of_the_highest_rung(tiny, monkeypatch):
    network = initialize("mlp", tiny, hidden="9")
    orders = []

    def noted(samples, recipe, seed):
        orders.append((recipe.steps, seed.entropy, seed.spawn_key))
        return data_order(samples, recipe, seed)

    monkeypatch.setattr(jobs, "data_order", noted)
    short(network, tiny, steps=RUNGS, seed=5)(masks_for(network, 8), round=3)
    wanted = seed_sequence(5, Stream.ROUND, 3)
    assert set(orders) == {(16, wanted.entropy, wanted.spawn_key)}


# --- on a CUDA device


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@models
def test_cuda_and_cpu_find_the_same_loss_straight_on_and_from_states(model, tiny, digits):
    """Twenty steps, more than are run before a step is recorded, and twice ten."""
    data, network = MODELS[model](tiny, digits)
    masks, recipe = mixed(network), Recipe(20, 64, lr=0.02)
    arguments = masks, [network.initialization], seeds(1), recipe
    here = serial(network, data).train(*arguments).evaluations[0].loss
    device = Trainer(network, data, device="cuda")
    np.testing.assert_allclose(device.train(*arguments).evaluations[0].loss, here, rtol=1e-3)
    states = device.train(*arguments, Stage(until=10, keeps_states=True)).states
    found = device.train(*arguments, Stage(begin=10), states=states).evaluations[0].loss
    np.testing.assert_allclose(found, here, rtol=1e-3)
