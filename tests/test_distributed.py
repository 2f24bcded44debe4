"""Trainings on processes and clusters: the scores of one process, also where a worker is killed meanwhile."""

import os
import signal
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import every
from joblib.externals.loky.backend.reduction import dumps

from ticketsearch import experiment
from ticketsearch import settings as config
from ticketsearch.fitness.named import short_training
from ticketsearch.fitness.trainer import JOB_BYTES
from ticketsearch.models import initialize
from ticketsearch.report import text
from ticketsearch.seeding import seed_population
from ticketsearch.workers import Spread

pytestmark = pytest.mark.slow

BACKENDS = pytest.mark.parametrize("backend", every(["loky", "dask"], default=["loky"]))


@pytest.fixture(scope="module")
def address():
    """The address of a dask cluster of two worker processes."""
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True}
    with distributed.LocalCluster(dashboard_address=":0", silence_logs=50, **options) as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def place(backend, request):
    """What says where workers are."""
    if backend == "dask":
        return {"backend": backend, "address": request.getfixturevalue("address")}
    return {"backend": backend, "workers": 2}


@pytest.fixture(scope="module")
def problem(digits):
    network = initialize("mlp:100,50", digits)
    return network, digits, seed_population(network, size=12, density=0.1, initializations=4)


def workers_of(backend, address=None):
    """Return the process ids of a backend's workers."""
    if backend == "dask":
        distributed = pytest.importorskip("distributed")
        with distributed.Client(address, set_as_default=False) as client:
            return list(client.run(os.getpid).values())
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            parent = next(line for line in status.read_text().splitlines() if line.startswith("PPid:"))
            command = (status.parent / "cmdline").read_text()
        except OSError:
            continue
        if int(parent.split()[1]) == os.getpid() and "popen_loky" in command:
            found.append(int(status.parent.name))
    return found


@BACKENDS
def test_scores_are_those_of_one_process_to_the_bit(problem, place):
    network, digits, first = problem
    for options in ({"steps": 20}, {"steps": "5,10,20"}, {"steps": 10, "initialization": "own"}):
        tickets = first if "initialization" in options else None
        wanted = short_training(network, digits, **options)(first.masks, tickets=tickets, round=3)
        found = short_training(network, digits, **options, **place)(first.masks, tickets=tickets, round=3)
        assert np.array_equal(found, wanted)
        for name, column in wanted.measures.items():
            assert np.array_equal(found.measures[name], column)
        assert found.agreements == wanted.agreements
        if wanted.rungs is not None:
            assert np.array_equal(found.rungs, wanted.rungs)


@BACKENDS
def test_what_is_sent_is_small(problem, place, monkeypatch):
    network, digits, first = problem
    sent = []

    def run(self, function, tasks):
        sent.extend(len(dumps((function, task))) for task in tasks)
        return plain(self, function, tasks)

    plain = Spread.run
    monkeypatch.setattr(Spread, "run", run)
    fitness = short_training(network, digits, steps="2,4", **place)
    fitness(first.masks)
    assert len(sent) >= 2
    assert max(sent) < JOB_BYTES


@pytest.mark.full
@BACKENDS
def test_a_worker_that_is_killed_in_mid_training_changes_nothing(problem, place):
    network, digits, first = problem
    wanted = short_training(network, digits, steps=1000)(first.masks)
    fitness = short_training(network, digits, steps=1000, **place)
    short_training(network, digits, steps=1, **place)(first.masks)  # workers are there and have their data
    before = workers_of(**{"backend": place["backend"], "address": place.get("address")})
    assert len(before) >= 2
    killed = []

    def kill():
        os.kill(before[0], signal.SIGKILL)
        killed.append(before[0])

    timer = threading.Timer(0.4, kill)
    timer.start()
    found = fitness(first.masks)
    timer.join()
    assert killed
    assert np.array_equal(found, wanted)


def dies_once(function, mark, task):
    """Do a task; the first process that has done one is killed before it can say so."""
    found = function(task)
    try:
        Path(mark).touch(exist_ok=False)
    except FileExistsError:
        return found
    os.kill(os.getpid(), signal.SIGKILL)


def content_of(folder, name, *assignments):
    """Run a small search; return the run's content but for its name: masks, lineage, scores, results."""
    small = {
        **{"model.name": "mlp:24,12", "seeding.density": 0.1, "seeding.initializations": 3},
        **{"evolution.population": 8, "evolution.generations": 2, "training.steps": 40},
        **{"final.steps": 20, "final.orders": 2, "training.device": "cpu"},
    }
    prepared = experiment.Search.prepare(config.load(None, [*small.items(), *assignments]))
    with experiment.create_run(prepared, folder, name) as run:
        list(prepared.generations(run))
        list(experiment.finish(prepared, run))
        return list(text.content(run))[1:]


@pytest.mark.full
def test_a_run_has_the_content_of_one_process_though_a_worker_is_killed_in_a_generation(
    tmp_path, monkeypatch
):
    wanted = content_of(tmp_path, "alone", ("training.workers", 1))
    begun, plain, mark = [], Spread.run, tmp_path / "killed"

    def run(self, function, tasks):
        begun.append(len(tasks))
        # The second time is generation 1.
        yield from plain(self, partial(dies_once, function, mark) if len(begun) == 2 else function, tasks)

    monkeypatch.setattr(Spread, "run", run)
    assert content_of(tmp_path, "two", ("training.workers", 2)) == wanted
    assert mark.exists()
    assert begun[1] >= 2
