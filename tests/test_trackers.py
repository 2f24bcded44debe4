"""Trackers: figures of a run for other tools, each generation once, read back by the tools themselves."""

from __future__ import annotations

import csv
import importlib.util

import numpy as np
import pytest
from conftest import refusal
from test_evolution import SPEC

from ticketsearch import cli
from ticketsearch import settings as config
from ticketsearch.evolution import Generation
from ticketsearch.experiment import (
    TRACKERS,
    Callback,
    Callbacks,
    Search,
    complete,
    create_run,
    generation_figures,
    resume,
    trackers_of,
)
from ticketsearch.runs import Run, contender_rows
from ticketsearch.settings import Settings, leaves
from ticketsearch.tickets import Assessment, Ticket, Tickets

SMALL = {
    "data.name": "moons",
    "model.name": "mlp:5",
    "seeding.density": 0.5,
    "seeding.initializations": 2,
    "evolution.population": 4,
    "evolution.generations": 2,
    "training.steps": 4,
    "training.workers": 1,
    "training.device": "cpu",
    "final.steps": 4,
    "final.orders": 2,
    "final.candidates": 1,
    "final.contenders": "none",
}
WITHOUT_MLFLOW = importlib.util.find_spec("mlflow") is None
HERE = [name for name in TRACKERS if name != "mlflow" or not WITHOUT_MLFLOW]


class Stop(Callback):
    """Ends a search after a generation, as a kill would, before the trackers that follow."""

    def __init__(self, after):
        self.after = after

    def on_generation(self, run, generation):
        if generation.number == self.after:
            raise KeyboardInterrupt


def searched(root, name, callbacks, **changes):
    """Make a run with callbacks, and return its folder."""
    search = Search.prepare(config.load(None, (SMALL | changes).items()))
    with create_run(search, root, name) as run:
        complete(search, run, Callbacks(callbacks))
    return root / name


def rows(file):
    with file.open(encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


def timeless(records):
    return [{name: value for name, value in record.items() if name != "seconds"} for record in records]


def scalars(folder):
    """Return the scalars of TensorBoard by tag, as (step, value), and the texts."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    found = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    texts = {
        tag: [e.tensor_proto.string_val[0].decode() for e in events.Tensors(tag)]
        for tag in events.Tags()["tensors"]
    }
    return found, texts


def metrics(folder):
    """Return the one MLflow run of a store, and its metrics by name, as (step, value)."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=folder.resolve().as_uri())
    (experiment,) = [each for each in client.search_experiments() if each.name == "ticketsearch"]
    (run,) = client.search_runs([experiment.experiment_id])
    history = {name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
    return run, {name: [(m.step, m.value) for m in logged] for name, logged in history.items()}


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    """A run with all trackers that are installed here."""
    return searched(tmp_path_factory.mktemp("tracked"), "whole", trackers_of(HERE))


def test_the_figures_of_a_generation_are_those_of_its_best_ticket_and_of_its_population():
    masks = np.zeros((3, SPEC.size), dtype=np.bool_)
    masks[0, :4] = masks[1, 1:5] = masks[2, 2:6] = True
    population = Tickets(Ticket(mask, None, None, "made", key=str(i)) for i, mask in enumerate(masks))
    for ticket, score in zip(population, (0.25, 0.75, 0.5), strict=True):
        ticket.add_evaluation(Assessment(0, 0, score, {"accuracy": score / 2}))
    generation = Generation(
        3,
        population,
        Tickets(),
        7,
        0,
        {"best": 0.75, "mean": 0.5, "worst": 0.25},
        phases={"a": 1.5, "b": 0.5},
    )
    figures = generation_figures(generation, SPEC)
    live = figures.pop("effective_density")
    assert 0 <= live <= 4 / SPEC.size
    # Neighbours share 3 of 5 weights, the first and the last 2 of 6; all keep weights 2 and 3.
    assert figures == {
        "best_fitness": 0.75,
        "mean_fitness": 0.5,
        "accuracy": 0.375,
        "density": 4 / SPEC.size,
        "mean_iou": pytest.approx((3 / 5 + 3 / 5 + 2 / 6) / 3),
        "common_weights": 2,
        "refused": 7,
        "diverged": 0,
        "seconds": 2.0,
    }


def test_figures_that_are_not_known_are_left_out():
    population = Tickets([Ticket(np.ones(SPEC.size, dtype=np.bool_), None, None, "made", key="k")])
    population[0].add_evaluation(Assessment(0, 0, float("-inf"), {}))
    figures = generation_figures(Generation(0, population, Tickets()), SPEC)
    assert set(figures).isdisjoint({"best_fitness", "mean_fitness", "accuracy"})
    assert figures["mean_iou"] == 1


def test_csv_files_hold_the_figures_of_each_generation_and_the_final_table(tracked):
    written = rows(tracked / "generations.csv")
    with Run.open(tracked) as run:
        for row, generation in zip(written, run.generations(), strict=True):
            figures = generation_figures(generation, run.spec)
            seconds = float(row.pop("seconds"))
            assert seconds == pytest.approx(
                figures.pop("seconds"), abs=1
            )  # the store's own phase comes later
            assert {name: float(value) for name, value in row.items()} == {
                "generation": generation.number,
                **figures,
            }
        table = rows(tracked / "results.csv")
        for row, expected in zip(table, contender_rows(run), strict=True):
            for name, value in row.items():
                wanted = getattr(expected, name)
                assert (value if name == "contender" else float(value)) == wanted


def test_tensorboard_reads_the_figures_back(tracked):
    found, texts = scalars(tracked / "tensorboard")
    written = rows(tracked / "generations.csv")
    for name in set(written[0]) - {"generation"}:
        expected = [(int(row["generation"]), pytest.approx(float(row[name]), rel=1e-6)) for row in written]
        assert found[f"generation/{name}"] == expected
    table = rows(tracked / "results.csv")
    for row in table:
        ((step, accuracy),) = found[f"final/accuracy/{row['contender']}"]
        assert step == 2
        assert accuracy == pytest.approx(float(row["accuracy"]))
    (text,) = texts["final/text_summary"]
    assert text.count("\n") == len(table) + 1
    assert f"| dense | 1.0 | {table[-1]['effective_density']} | {table[-1]['accuracy']} |" in text


@pytest.mark.skipif(WITHOUT_MLFLOW, reason="MLflow is not installed: ticketsearch[mlflow]")
def test_mlflow_reads_the_figures_back(tracked):
    from mlflow import MlflowClient

    run, found = metrics(tracked / "mlruns")
    written = rows(tracked / "generations.csv")
    for name in set(written[0]) - {"generation"}:
        assert found[name] == [(int(row["generation"]), float(row[name])) for row in written]
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "whole"
    assert run.data.params["evolution.population"] == "4"
    assert set(run.data.params) == {name for name, _ in leaves(Settings().model_dump())}
    for row in rows(tracked / "results.csv"):
        name = f"final_accuracy/{row['contender'].replace(',', '')}"
        assert found[name] == [(2, float(row["accuracy"]))]
    client = MlflowClient(tracking_uri=(tracked / "mlruns").resolve().as_uri())
    (artifact,) = client.list_artifacts(run.info.run_id)
    assert artifact.path == "results.csv"


def goes_on(path, trackers, **changes):
    search, run = resume(path, changes)
    with run:
        complete(search, run, Callbacks(trackers))


def test_a_run_that_was_stopped_before_its_trackers_logged_has_no_generation_twice_and_none_missing(
    tracked, tmp_path
):
    stopped = pytest.raises(KeyboardInterrupt)
    with stopped:
        searched(tmp_path, "stopped", [Stop(1), *trackers_of(HERE)])
    path = tmp_path / "stopped"
    assert [row["generation"] for row in rows(path / "generations.csv")] == ["0"]
    with (path / "generations.csv").open("a", encoding="utf-8") as file:
        file.write("1,0.5,0.2")  # a row that was cut short
    goes_on(path, trackers_of(HERE))
    assert timeless(rows(path / "generations.csv")) == timeless(rows(tracked / "generations.csv"))
    assert rows(path / "results.csv") == rows(tracked / "results.csv")
    wanted, _ = scalars(tracked / "tensorboard")
    found, texts = scalars(path / "tensorboard")
    assert {tag: values for tag, values in found.items() if "seconds" not in tag} == {
        tag: values for tag, values in wanted.items() if "seconds" not in tag
    }
    assert len(texts["final/text_summary"]) == 1
    if not WITHOUT_MLFLOW:
        _, logged = metrics(path / "mlruns")
        _, expected = metrics(tracked / "mlruns")
        assert {name: values for name, values in logged.items() if name != "seconds"} == {
            name: values for name, values in expected.items() if name != "seconds"
        }


def test_a_tracker_that_joins_later_logs_earlier_generations_too_and_an_extended_run_goes_on(
    tracked, tmp_path
):
    path = searched(tmp_path, "later", [], **{"evolution.generations": 1})
    goes_on(path, trackers_of(["csv", "tensorboard"]), **{"evolution.generations": 2})
    assert timeless(rows(path / "generations.csv")) == timeless(rows(tracked / "generations.csv"))
    goes_on(path, trackers_of(["csv", "tensorboard"]), **{"evolution.generations": 3})
    assert [row["generation"] for row in rows(path / "generations.csv")] == ["0", "1", "2", "3"]
    found, texts = scalars(path / "tensorboard")
    assert [step for step, _ in found["generation/density"]] == [0, 1, 2, 3]
    assert [step for step, _ in found["final/accuracy/dense"]] == [2, 3]
    assert len(texts["final/text_summary"]) == 2


def test_at_the_shell_a_tracker_may_join_a_finished_run(tracked, tmp_path, monkeypatch, capsys):
    path = searched(tmp_path / "runs", "finished", [])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        cli.main(["evolve", "--resume", "finished", "--track", "csv"])
    assert ended.value.code == 0, capsys.readouterr().err
    assert timeless(rows(path / "generations.csv")) == timeless(rows(tracked / "generations.csv"))
    assert rows(path / "results.csv") == rows(tracked / "results.csv")


def test_unknown_trackers_and_trackers_that_are_not_installed_are_refused(monkeypatch, tmp_path, capsys):
    assert "did you mean 'tensorboard'?" in refusal(trackers_of, ["tensorbord"])
    assert "'csv' twice" in refusal(trackers_of, ["csv", "csv"])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for name in ("tensorboard", "mlflow"):
        assert f"pip install 'ticketsearch[{name}]'" in refusal(trackers_of, [name])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        cli.main(["evolve", "--track", "mlflow"])
    assert ended.value.code == 2
    assert "ticketsearch[mlflow]" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("tracker", "name"), [("csv", "results.csv"), ("tensorboard", "tensorboard")])
def test_nothing_is_written_through_a_link(tracked, tracker, name, tmp_path):
    path = searched(tmp_path, "linked", [])
    (path / name).symlink_to(tmp_path / "elsewhere")
    (each,) = trackers_of([tracker])
    with Run.open(path) as run:
        assert "is a link" in refusal(each.on_start, run)
    assert not (tmp_path / "elsewhere").exists()
