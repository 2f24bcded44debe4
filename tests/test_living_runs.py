"""Runs that end early, stop in a generation, or are only forecast."""

import sqlite3

import pytest
from conftest import every, refused

from ticketsearch import experiment
from ticketsearch.errors import BadInput
from ticketsearch.experiment import Callback, unfinished
from ticketsearch.fitness.jobs import JobRunner
from ticketsearch.report.text import content, early_end_lines, forecast_lines
from ticketsearch.runs import Run
from ticketsearch.settings import load

SMALL = {
    "model.name": "conv2",
    "model.options": {"width": 0.0625},
    "seeding.density": 0.3,
    "seeding.initializations": 2,
    "seeding.steps": 2,
    "evolution.population": 4,
    "evolution.generations": 2,
    "training.steps": 3,
    "final.orders": 1,
    "final.candidates": 1,
    "final.steps": 3,
    "training.device": "cpu",
}


def prepared(**changes):
    return experiment.Search.prepare(load(None, (SMALL | changes).items()))


def searched(root, callback=None, **changes):
    """Run a search to its end; return the path of its run."""
    search = prepared(**changes)
    with experiment.create_run(search, root, "made") as run:
        experiment.complete(search, run, callback or Callback())
    return run.path


def resumed(path, assignments=(), **options):
    """Go on with a run to its end."""
    search, run = experiment.resume(path, dict(assignments), **options)
    with run:
        if search is not None:
            experiment.complete(search, run, Callback())


def told(path):
    """Return the content of a run, and the cost of each generation."""
    with Run.open(path) as run:
        return list(content(run)), [generation.spent for generation in run.generations()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return searched(tmp_path_factory.mktemp("whole"))


class Watch(Callback):
    """Notes the masks that are evaluated; interrupts a search after some masks of a generation."""

    def __init__(self, generation=-1, after=0):
        self.generation, self.after, self.evaluated = generation, after, []

    def on_evaluated(self, run, generation, done, total):
        self.evaluated.append((generation, done, total))
        if generation == self.generation and done >= self.after:
            raise KeyboardInterrupt


def stopped(root, generation, after):
    """Return the path of a run that was interrupted after so many masks of a generation."""
    with pytest.raises(KeyboardInterrupt):
        searched(root, Watch(generation, after))
    return root / "made"


@pytest.mark.slow
@pytest.mark.parametrize(("generation", "after"), every([(0, 2), (1, 1), (2, 3)], default=[(1, 1)]))
def test_a_search_that_stops_in_a_generation_repeats_no_evaluation(
    generation, after, whole, tmp_path, monkeypatch
):
    monkeypatch.setattr(unfinished, "EVERY", 0.0)
    trained = []
    run_job = JobRunner.run
    monkeypatch.setattr(
        JobRunner, "run", lambda self, job: (trained.append(len(job.masks)), run_job(self, job))[1]
    )
    search = prepared()
    with experiment.create_run(search, tmp_path, "uninterrupted") as run:
        generations = search.generations(run)
        for _ in range(generation + 1):
            trained.clear()
            next(generations)
    needed = sum(trained)
    path = stopped(tmp_path, generation, after)
    with Run.open(path) as run:
        stored = len(run.evaluations())
    assert after <= stored < needed
    trained.clear()
    search, run = experiment.resume(path, {})
    with run:
        next(search.generations(run))
        assert run.evaluations() == []
    assert sum(trained) == needed - stored
    resumed(path)
    assert told(path) == told(whole)


def test_an_evaluation_that_was_not_written_so_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(unfinished, "EVERY", 0.0)
    path = stopped(tmp_path, 1, 1)
    connection = sqlite3.connect(path / "run.sqlite")
    connection.execute("UPDATE evaluations SET passes = ?", (b"abc",))
    connection.commit()
    connection.close()
    refused(lambda: resumed(path), "run.sqlite", "pairs of a loss and an accuracy")


def test_evaluations_are_told_as_they_come(tmp_path):
    watch = Watch()
    searched(tmp_path, watch, **{"evolution.generations": 0})
    counts = [done for _, done, _ in watch.evaluated]
    assert len(counts) > 1
    assert counts == sorted(counts)
    assert watch.evaluated[-1] == (0, 4, 4)


def test_a_search_can_be_finished_early_and_taken_up_again(whole, tmp_path):
    path = stopped(tmp_path, 2, 1)
    resumed(path, finish=True)
    with Run.open(path) as run:
        assert run.finished
        assert (run.progress(), run.stopped) == (1, (2, 0))
        (line,) = early_end_lines(run)
    assert line.startswith("The search ended after generation 1 of 2, as asked;")
    resumed(path, {"evolution.generations": 2})
    with Run.open(path) as run:
        assert run.stopped is None
    assert told(path) == told(whole)


def test_fewer_generations_than_planned_down_to_those_there_are(tmp_path):
    path = stopped(tmp_path, 2, 1)
    refused(lambda: resumed(path, {"evolution.generations": 0}), "has 1 generations already, but got 0")
    resumed(path, {"evolution.generations": 1})
    with Run.open(path) as run:
        assert run.finished
        assert run.progress() == 1


def test_a_run_without_a_generation_cannot_be_finished(tmp_path):
    path = stopped(tmp_path, 0, 1)
    refused(lambda: resumed(path, finish=True), "has no generation yet")


def test_no_generation_begins_after_the_limit_of_minutes(whole, tmp_path):
    path = searched(tmp_path, **{"evolution.minutes": 1e-9})
    with Run.open(path) as run:
        assert run.finished
        assert (run.progress(), run.stopped) == (0, (2, 1e-9))
        (line,) = early_end_lines(run)
        assert "its limit of 1e-09 minutes was over" in line
        assert "--generations 2 --set evolution.minutes=0`" in line
    resumed(path, {"evolution.generations": 2, "evolution.minutes": 0})
    assert told(path)[1] == told(whole)[1]
    with pytest.raises(BadInput, match=r"evolution\.minutes"):
        load(None, {"evolution.minutes": -1}.items())


def test_a_forecast_counts_the_trainings(whole):
    search = prepared()
    expected = experiment.forecast(search)
    with Run.open(whole) as run:
        evaluations = sum(generation.spent.evaluations for generation in run.generations())
    assert expected.trainings["search"] == (evaluations, 3)
    assert expected.trainings["comparison"] == (3, 3)
    assert expected.seconds > 0
    lines = forecast_lines(search.settings, expected)
    assert any("evolution.population" in line and "4" in line and "32" in line for line in lines)
    assert lines[-1] == "No run was made."
