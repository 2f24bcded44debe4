"""Sweeps over seeds and settings: the plan, the folder, the runs, and their tables, figures and page."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import refusal, refused
from test_trackers import SMALL

import ticketsearch as ts
from ticketsearch import cli
from ticketsearch import settings as config
from ticketsearch.cli.sweep import parsed_seeds, parsed_sweeps
from ticketsearch.experiment import Callbacks, Search, complete, create_run
from ticketsearch.report.sweep import series_of
from ticketsearch.report.text import contender_table, content, sweep_headline, sweep_notes, value_table
from ticketsearch.runs import BEST, DENSE, Run, contender_rows, list_runs
from ticketsearch.settings import Settings
from ticketsearch.statistics import bootstrap, holm, paired
from ticketsearch.sweeps import (
    Sweep,
    SweepRow,
    combination_text,
    contender_differences,
    create_sweep,
    default_name,
    stored_plan,
    sweep_plan,
    value_differences,
)

SYNFLOW = "synflow, same initialization"
TEMPERATURES = {"evolution.temperature": [0.1, 0.3]}


def small(**changes):
    return config.load(None, (SMALL | {"evolution.generations": 1} | changes).items())


def shell(capsys, *words):
    """Run the program; return its exit code, output and errors."""
    with pytest.raises(SystemExit) as ended:
        cli.main(list(words))
    return ended.value.code, *capsys.readouterr()


def flags(**changes):
    """Return the small settings as flags of the shell."""
    chosen = SMALL | {"evolution.generations": 1} | changes
    chosen.pop("training.workers")
    return [word for name, value in chosen.items() for word in ("--set", f"{name}={value}")]


def lines_of(path):
    """Return the content of a run but for its name."""
    with Run.open(path) as run:
        return list(content(run))[1:]


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep of two values and two seeds from Python, with a tracker."""
    root = tmp_path_factory.mktemp("swept") / "runs"
    steps = []
    found = ts.sweep(
        small(),
        seeds=[0, 3],
        over={"temperature": (0.1, 0.3)},
        root=root,
        name="mine",
        track=["csv"],
        follow=lambda work: steps.extend(work),
    )
    return found, steps


class TestFlags:
    @pytest.mark.parametrize(
        ("text", "seeds"),
        [
            ("0-9", list(range(10))),
            ("0,3,5-7", [0, 3, 5, 6, 7]),
            ("4", [4]),
            (" 2 - 3 , 9", [2, 3, 9]),
            ("18446744073709551615", [2**64 - 1]),
        ],
    )
    def test_seeds_are_numbers_and_ranges(self, text, seeds):
        assert parsed_seeds(text) == seeds

    @pytest.mark.parametrize("text", ["", "a", "0-", "-3", "5-2", "0,,1", "1.5", "0-99999999999", "9" * 30])
    def test_other_texts_are_no_seeds(self, text):
        assert "--seeds takes" in refusal(parsed_seeds, text)

    def test_values_are_separated_by_commas_and_lists_are_written_as_lists(self):
        texts = [
            "evolution.temperature=0.1, 0.3",
            "training.steps=[[5, 10], [20]]",
            "evolution.trial=true,false",
        ]
        assert parsed_sweeps(texts) == {
            "evolution.temperature": [0.1, 0.3],
            "training.steps": [[5, 10], [20]],
            "evolution.trial": [True, False],
        }

    @pytest.mark.parametrize(
        "texts", [["evolution.temperature"], ["=1"], ["a.b="], ["a.b=1,,2"], ["a=1", "a=2"]]
    )
    def test_malformed_sweeps_are_refused(self, texts):
        assert "--sweep takes" in refusal(parsed_sweeps, texts)

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["--seeds", "0-2", "--seed", "1"], "--seed is for a single run"),
            (["--seeds", "0-2", "--dry-run"], "--dry-run is for a single run"),
            (["--seeds", "0,0"], "twice"),
            (["--sweep", "seed=0,1"], "--seeds 0-9"),
            (["--sweep", "evolution.temperatur=0.1,0.3"], "did you mean 'evolution.temperature'"),
            (["--sweep", "evolution.temperature=0.1,-1"], "-1"),
            (["--sweep", "seeding.density=0.5,0.0001"], "0.0001"),
            (["--seeds", "0-2", "--track", "csw"], "did you mean 'csv'"),
            (["--seeds", "0-2", "--workers", "-1"], "--workers takes an integer"),
            (["--seeds", "0-2", "--backend", "dask", "--scheduler", "here:1"], "training.address"),
            (["--seeds", "0-2", "--name", "../x"], "name"),
        ],
    )
    def test_bad_flags_are_one_line_and_no_folder(self, words, said, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        code, _, errors = shell(capsys, "evolve", *flags(), *words)
        assert code == 2
        assert said in errors
        assert next(line for line in errors.splitlines() if line != "Starting …").startswith("error: ")
        assert list(tmp_path.iterdir()) == []


class TestPlan:
    def test_the_runs_are_all_combinations_with_each_seed(self):
        over = {"evolution.temperature": [0.1, 0.3], "training.steps": [4, [4, 8]]}
        plan = sweep_plan(small(), [0, 7], over)
        names = [member.name for member in plan.members]
        assert names[:3] == [
            "temperature-0.1-steps-4-seed-0",
            "temperature-0.1-steps-4-seed-7",
            names[2],
        ]
        assert len(set(names)) == len(names) == 8
        last = plan.members[-1]
        assert last.values == (("evolution.temperature", 0.3), ("training.steps", [4, 8]))
        assert (last.seed, last.settings.seed) == (7, 7)
        assert last.settings.evolution.temperature == 0.3
        assert last.settings.training.steps == [4, 8]
        assert combination_text(last.values) == "temperature 0.3, steps 4,8"
        assert all(member.settings.training.workers == 1 for member in plan.members)

    def test_settings_that_share_the_last_part_of_their_names_are_named_in_full(self):
        over = {"evolution.mutation_rate": [0.1], "seeding.mutation_rate": [0.2]}
        plan = sweep_plan(small(), [0], over)
        (values,) = plan.combinations
        assert combination_text(values) == "evolution.mutation_rate 0.1, seeding.mutation_rate 0.2"

    def test_names_of_folders_are_short_and_differ_for_any_values(self):
        fitnesses = ["untrained", "short_training"]
        texts = ["path_mutation,swap_mutation", "swap_mutation,path_mutation", "swap_mutation"]
        over = {
            "evolution.mutation": texts,
            "fitness.name": fitnesses,
            "evolution.crossover": ["uniform_crossover,neuron_crossover", "uniform_crossover"],
            "evolution.identity": ["structure", "ticket"],
        }
        names = [member.name for member in sweep_plan(small(), [2**64 - 1], over).members]
        assert len(set(names)) == 24
        assert max(map(len, names)) <= 100

    @pytest.mark.parametrize(
        ("seeds", "over", "words"),
        [
            ([], {}, ["seeds", "none"]),
            ([1, 1], {}, ["seeds", "1 twice"]),
            ([-1], {}, ["seed", "-1"]),
            ([0], {"evolution.temperature": []}, ["values of evolution.temperature", "none"]),
            ([0], {"evolution.temperature": [0.3, 0.3]}, ["0.3 twice"]),
            ([0], {"training.steps": [5, "5"]}, ["5 twice"]),
            ([0], {"seed": [1, 2]}, ["--seeds"]),
            ([0], {"training.workers": [1, 2]}, ["training.workers", "time"]),
            ([0], {"training.device": ["cpu"]}, ["training.device", "time"]),
            ([0], {"evolution.minutes": [1, 2]}, ["evolution.minutes", "time"]),
            ([0], {"data.name": ["moons", "digits"]}, ["one test set", "data.name"]),
            ([0], {"data.options.seed": [1, 2]}, ["one test set", "data.options.seed"]),
            ([0], {"evolution": [{}]}, ["section", "evolution"]),
            ([0], {"evolution.nothing": [1]}, ["evolution.nothing"]),
            ([0], {"seeding.density": [0.5, 2]}, ["seeding.density", "2"]),
            ([0], {"evolution.start_density": [0.0, 0.4]}, ["evolution.start_density", "0.4"]),
            ([0], {"evolution.mutation": ["swap_mutatio"]}, ["swap_mutation"]),
            (range(6000), {"evolution.temperature": [0.1, 0.2]}, ["10,000 runs", "12,000"]),
        ],
    )
    def test_a_plan_that_cannot_be_run_is_refused(self, seeds, over, words):
        refused(lambda: sweep_plan(small(), seeds, over), *words)

    def test_its_name_stays_when_seeds_values_or_generations_are_added(self):
        plan = sweep_plan(small(), [0], TEMPERATURES)
        more = sweep_plan(
            small(**{"evolution.generations": 9, "evolution.temperature": 0.7, "seed": 4}),
            [0, 1],
            {"evolution.temperature": [0.1, 0.3, 0.9]},
        )
        assert default_name(plan) == default_name(more)
        assert default_name(plan).startswith("sweep-temperature-moons-mlp-")
        assert default_name(sweep_plan(small(), [0], {})).startswith("sweep-seeds-moons-mlp-")
        other = sweep_plan(small(**{"evolution.elites": 1}), [0], TEMPERATURES)
        assert default_name(other) != default_name(plan)


class TestFolder:
    def test_more_seeds_values_and_generations_may_be_added_and_none_taken_away(self, tmp_path):
        path = tmp_path / "one"
        create_sweep(path, sweep_plan(small(), [0, 1], TEMPERATURES))
        more = sweep_plan(
            small(**{"evolution.generations": 2}), [1, 0, 2], {"evolution.temperature": [0.3, 0.2, 0.1]}
        )
        create_sweep(path, more)
        assert stored_plan(path) == more
        fewer = sweep_plan(more.settings, [0, 1], more.over)
        refused(lambda: create_sweep(path, fewer), "list of seeds", "[1, 0, 2]", "[0, 1]", "--name")
        fewer = sweep_plan(more.settings, more.seeds, {"evolution.temperature": [0.3, 0.2]})
        refused(lambda: create_sweep(path, fewer), "list of values of evolution.temperature")
        fewer = sweep_plan(small(), more.seeds, more.over)
        refused(lambda: create_sweep(path, fewer), "evolution.generations", "2", "1")
        other = sweep_plan(more.settings, more.seeds, {"evolution.elites": [1]})
        refused(lambda: create_sweep(path, other), "list of swept settings")
        other = sweep_plan(small(**{"evolution.generations": 2, "training.lr": 0.1}), more.seeds, more.over)
        refused(lambda: create_sweep(path, other), "training.lr", "0.05", "0.1")
        assert stored_plan(path) == more

    def test_a_folder_of_something_else_is_refused_and_one_of_a_killed_process_is_taken(self, tmp_path):
        plan = sweep_plan(small(), [0], {})
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "run.sqlite").touch()
        refused(lambda: create_sweep(tmp_path / "run", plan), "is a run")
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "file").touch()
        refused(lambda: create_sweep(tmp_path / "other", plan), "not a sweep")
        refused(lambda: create_sweep(tmp_path / "other" / "file", plan), "not a sweep")
        (tmp_path / "killed").mkdir()
        (tmp_path / "killed" / ".sweep.json.0a1b").touch()
        create_sweep(tmp_path / "killed", plan)
        assert stored_plan(tmp_path / "killed") == plan

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("version", 2),
            ("seeds", []),
            ("seeds", [-1]),
            ("seeds", ["0"]),
            ("over", {"evolution.temperature": []}),
            ("over", {"evolution.temperature": ["hot"]}),
            ("over", [1]),
            ("settings", {"evolution": {"nothing": 1}}),
            ("settings", None),
            ("surplus", 1),
        ],
    )
    def test_a_damaged_plan_is_refused_by_file(self, name, value, tmp_path):
        create_sweep(tmp_path / "one", sweep_plan(small(), [0], TEMPERATURES))
        file = tmp_path / "one" / "sweep.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {name: value}))
        refused(lambda: stored_plan(tmp_path / "one"), "sweep.json", "is damaged")

    @pytest.mark.parametrize("text", ["", "{", "[]", "\xff", "[" * 100_000])
    def test_a_file_that_is_no_plan_is_refused(self, text, tmp_path):
        (tmp_path / "sweep.json").write_bytes(text.encode("latin-1"))
        refused(lambda: stored_plan(tmp_path), "is damaged")

    def test_a_folder_without_a_plan_is_no_sweep(self, tmp_path):
        refused(lambda: ts.read_sweep(tmp_path), "is no sweep")
        refused(lambda: ts.read_sweep(tmp_path / "nowhere"), "is no sweep")


@pytest.mark.slow
class TestRuns:
    def test_each_run_has_the_content_of_the_single_run_of_its_settings_and_seed(self, swept, tmp_path):
        found, _ = swept
        settings = small(**{"seed": 3, "evolution.temperature": 0.3})
        search = Search.prepare(settings)
        with create_run(search, tmp_path, "single") as run:
            complete(search, run, Callbacks([]))
        assert lines_of(found.path / "temperature-0.3-seed-3") == lines_of(tmp_path / "single")
        assert lines_of(found.path / "temperature-0.1-seed-3") != lines_of(tmp_path / "single")

    def test_progress_counts_runs_and_each_has_its_page_and_its_trackers(self, swept):
        found, steps = swept
        assert steps == [("runs", done, 4) for done in (1, 2, 3, 4)]
        for name in found.finished:
            assert (found.path / name / "report.html").is_file()
            assert (found.path / name / "generations.csv").is_file()

    def test_rows_are_the_final_tables_of_the_runs(self, swept):
        found, _ = swept
        assert found.seeds == (0, 3)
        assert found.unfinished == ()
        assert repr(found) == "Sweep('mine', 2 seeds, 2 values of evolution.temperature)"
        for row in found.rows:
            (_, temperature), *_ = row.values
            for seed, accuracy in row.accuracies.items():
                with Run.open(found.path / f"temperature-{temperature}-seed-{seed}") as run:
                    table = {each.contender: each for each in contender_rows(run)}
                assert accuracy == table[row.contender].accuracy
            assert row.accuracy == bootstrap(np.array(list(row.accuracies.values())))
        assert found.at(found.combinations[0])[0].contender == BEST

    def test_called_again_it_does_nothing_and_with_another_seed_that_run_alone(self, swept, tmp_path):
        path = shutil.copytree(swept[0].path, tmp_path / "mine")
        before = {name: (path / name / "run.sqlite").stat().st_mtime_ns for name in swept[0].finished}
        steps = []
        more = ts.sweep(
            small(),
            seeds=[0, 3, 1],
            over={"evolution.temperature": [0.3, 0.1]},
            root=tmp_path,
            name="mine",
            follow=lambda work: steps.extend(work),
        )
        assert steps == [("runs", 5, 6), ("runs", 6, 6)]
        assert [row.accuracies.keys() for row in more.rows] == [{0, 3, 1}] * 8
        assert combination_text(more.combinations[0]) == "temperature 0.3"
        for name, modified in before.items():
            assert (path / name / "run.sqlite").stat().st_mtime_ns == modified

    def test_a_run_that_was_put_into_the_folder_is_refused(self, swept, tmp_path):
        found, _ = swept
        plan = sweep_plan(small(**{"training.lr": 0.1, "evolution.temperature": 0.1}), [0], {})
        create_sweep(tmp_path / "other", plan)
        (tmp_path / "other" / "seed-0").symlink_to(found.path / "temperature-0.1-seed-0")
        refused(lambda: ts.read_sweep(tmp_path / "other"), "not a run of this sweep", "training.lr")

    def test_unfinished_runs_are_named_and_gone_on_with(self, swept, tmp_path):
        settings = small(**{"evolution.temperature": 0.1})
        plan = sweep_plan(settings, [0, 3], {})
        path = tmp_path / "runs" / "half"
        create_sweep(path, plan)
        search = Search.prepare(plan.members[0].settings)
        with create_run(search, path, "seed-0") as run:
            next(search.generations(run, Callbacks([])))
        half = ts.read_sweep(path)
        assert half.unfinished == ("seed-0", "seed-3")
        assert sweep_headline(half) == ["2 runs are not finished: seed-0, seed-3."]
        assert half._repr_html_()
        whole = ts.sweep(settings, seeds=[0, 3], root=tmp_path / "runs", name="half")
        assert whole.unfinished == ()
        found, _ = swept
        assert lines_of(path / "seed-0") == lines_of(found.path / "temperature-0.1-seed-0")

    def test_settings_may_be_keywords_and_names_of_runs_are_checked(self, tmp_path):
        refused(lambda: ts.sweep(nothing=1), "unknown keyword")
        refused(lambda: ts.sweep(over={"nothing": [1]}), "unknown keyword")
        refused(lambda: ts.sweep(seeds="0-9", root=tmp_path), "seeds", "a list", "0-9")
        refused(lambda: ts.sweep(over={"temperature": "0.1"}, root=tmp_path), "a list", "0.1")
        refused(lambda: ts.sweep(small(), name="a/b", root=tmp_path), "name")
        refused(lambda: ts.sweep(small(), data=np.zeros(3), root=tmp_path), "data.name must be")
        assert list(tmp_path.iterdir()) == []


def planted(seeds, **accuracies):
    """Return a sweep over temperatures with the accuracies of contenders, ``t1={BEST: [...], ...}``."""
    rows = []
    values = [(("evolution.temperature", float(name[1:])),) for name in accuracies]
    for value, table in zip(values, accuracies.values(), strict=True):
        for contender, figures in table.items():
            rows.append(SweepRow(value, contender, 0.1, dict(zip(range(seeds), figures, strict=False))))
    over = {"evolution.temperature": tuple(value for ((_, value),) in values)}
    return Sweep(Path("planted"), Settings(), tuple(range(seeds)), over, tuple(rows))


SEVEN = [0.9, 0.91, 0.92, 0.93, 0.94, 0.95, 0.96]


class TestDifferences:
    def test_they_are_paired_by_seed_and_corrected_by_holm_within_their_family(self):
        sweep = planted(
            7,
            t1={BEST: SEVEN, SYNFLOW: [v - 0.1 for v in SEVEN], DENSE: [0.93] * 7},
            t2={BEST: [v - 0.02 for v in SEVEN[:6]], SYNFLOW: SEVEN},
            t3={BEST: SEVEN},
        )
        tested = contender_differences(sweep)
        assert [(d.first.values[0][1], d.other.contender, d.test.pairs) for d in tested] == [
            (1.0, SYNFLOW, 7),
            (1.0, DENSE, 7),
            (2.0, SYNFLOW, 6),
        ]
        expected = [
            paired(np.array(SEVEN) - (np.array(SEVEN) - 0.1)),
            paired(np.array(SEVEN) - 0.93),
            paired(np.array(SEVEN[:6]) - 0.02 - np.array(SEVEN[:6])),
        ]
        assert [d.test.permutation for d in tested] == [test.permutation for test in expected]
        assert [d.test.permutation for d in tested] == [2 / 2**7, 1.0, 2 / 2**6]
        assert [d.holm for d in tested] == holm([2 / 2**7, 1.0, 2 / 2**6]) == [6 / 2**7, 1.0, 4 / 2**6]
        assert tested[0].test.difference.mean == pytest.approx(0.1)
        values = value_differences(sweep)
        assert [(d.first.values[0][1], d.other.values[0][1]) for d in values] == [(1, 2), (1, 3), (2, 3)]
        assert [round(d.test.difference.mean, 9) for d in values] == [0.02, 0.0, -0.02]
        assert [d.holm for d in values] == [6 / 2**6, 1.0, 6 / 2**6]

    def test_with_few_seeds_the_first_sentence_says_that_no_test_can_be_significant(self):
        few = planted(5, t1={BEST: SEVEN[:5], DENSE: SEVEN[:5]})
        assert sweep_headline(few)[0].startswith(
            "With 5 seeds no test can be significant: p is at least 0.062"
        )
        many = planted(6, t1={BEST: SEVEN[:6], DENSE: SEVEN[:6]})
        assert sweep_headline(many)[0].startswith("The best ticket minus dense is +0.00 points")
        one = planted(1, t1={BEST: [0.9], DENSE: [0.8]})
        assert sweep_headline(one) == [
            "With one seed no test can be significant: p is at least 1 (2/2^1); that takes 6 seeds or more.",
            "The best ticket minus dense is +10.00 points of test accuracy, corrected p = 1.",
        ]

    def test_the_headline_of_values_names_the_most_accurate_and_counts_significant_tests(self):
        sweep = planted(7, t1={BEST: SEVEN, DENSE: SEVEN}, t2={BEST: [v - 0.1 for v in SEVEN], DENSE: SEVEN})
        first, second = sweep_headline(sweep)
        low, high = bootstrap(np.array(SEVEN))[1:]
        assert first == (
            "The best tickets are most accurate with temperature 1.0: "
            f"0.9300 ({low:.4f} to {high:.4f}) on the test set."
        )
        assert second == "Of 1 tests between values 1 is significant: corrected p < 0.05."
        headings, cells = contender_table(sweep)
        assert headings[:2] == ("values", "contender")
        assert [row[:2] for row in cells] == [
            (f"temperature {value}", contender) for value in ("1.0", "2.0") for contender in (BEST, DENSE)
        ]
        ((first, other, difference, corrected, p),) = value_table(sweep)
        assert (first, other, corrected, p) == ("temperature 1.0", "temperature 2.0", "0.016", "0.016")
        assert difference.startswith("+0.1000 (")
        assert "2 tests, corrected together" in sweep_notes(sweep)[0]
        assert "one test" in sweep_notes(sweep)[1]

    def test_the_figure_has_the_interval_and_the_seeds_of_each_value(self):
        sweep = planted(7, t1={BEST: SEVEN, DENSE: SEVEN}, t2={BEST: [v - 0.1 for v in SEVEN]})
        best, dense = series_of(sweep)
        assert (best.contender, best.row, dense.contender, dense.row) == (BEST, [0, 1], DENSE, [0])
        assert best.accuracy[0] == dense.accuracy[0] == bootstrap(np.array(SEVEN))
        np.testing.assert_array_equal(best.points[1], np.array(SEVEN) - 0.1)


@pytest.mark.slow
class TestPage:
    def test_page_and_tables_are_in_the_folder(self, swept):
        found, _ = swept
        page = (found.path / "sweep.html").read_text(encoding="utf-8")
        assert page.index("<svg") < page.index("<table")
        for name in found.finished:
            assert f'<a href="{name}/report.html">' in page
        for line in sweep_headline(found):
            assert line.split(":")[0] in page
        with (found.path / "runs.csv").open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        expected = [
            (str(row.values[0][1]), str(seed), row.contender, str(accuracy))
            for row in found.rows
            for seed, accuracy in row.accuracies.items()
        ]
        written = [
            (row["evolution.temperature"], row["seed"], row["contender"], row["test_accuracy"])
            for row in rows
        ]
        assert written == expected
        with (found.path / "differences.csv").open(encoding="utf-8") as file:
            differences = list(csv.DictReader(file))
        assert len(differences) == len(contender_differences(found)) + 1
        assert differences[-1]["minus_contender"] == BEST

    def test_a_notebook_shows_the_headline_and_the_figure(self, swept):
        html = swept[0]._repr_html_()
        assert "<svg" in html
        assert "With 2 seeds no test can be significant" in html

    def test_its_text_is_that_of_the_shell(self, swept):
        text = ts.sweep_text(swept[0])
        assert text.splitlines()[0].startswith("With 2 seeds")
        assert "temperature 0.1  best ticket" in text


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The working folder of the tests at the shell, which build on each other."""
    return tmp_path_factory.mktemp("shell")


@pytest.mark.slow
class TestShell:
    def test_a_sweep_prints_its_table_and_its_runs_are_listed_and_shown(self, folder, monkeypatch, capsys):
        monkeypatch.chdir(folder)
        command = ["evolve", *flags(), "--seeds", "0-1", "--name", "both", "--workers", "1", "--track", "csv"]
        code, output, errors = shell(capsys, *command)
        assert code == 0, errors
        assert "Sweep of 2 runs in runs/both" in errors
        assert "runs: 2 of 2" in errors
        assert "With 2 seeds no test can be significant" in output
        assert f"Page:   {Path('runs/both/sweep.html')}" in output
        assert (folder / "runs" / "both" / "seed-1" / "results.csv").is_file()
        assert [path.name for path in list_runs(Path("runs"))] == ["seed-0", "seed-1"]
        _, listed, _ = shell(capsys, "list", "--where", "seed=1")
        assert [line.split()[:2] for line in listed.splitlines()[1:]] == [["both/seed-1", "finished"]]
        _, shown, _ = shell(capsys, "show", "both/seed-1")
        assert shown.startswith("run seed-1\n")
        assert cli.completion.run_names("bo") == ["both/seed-0", "both/seed-1"]
        # The same command, and the sweep by its name, end in the same table without another run.
        again = shell(capsys, *command)
        resumed = shell(capsys, "evolve", "--resume", "both")
        assert (again[0], resumed[0]) == (0, 0)
        assert output == again[1] == resumed[1]
        assert "1 of 2" not in again[2] + resumed[2]

    def test_a_resumed_sweep_takes_more_seeds_and_no_other_settings(self, folder, monkeypatch, capsys):
        monkeypatch.chdir(folder)
        code, _, errors = shell(capsys, "evolve", "--resume", "both", "--seeds", "0-2", "--workers", "1")
        assert code == 0, errors
        assert "runs: 3 of 3" in errors
        code, _, errors = shell(capsys, "evolve", "--resume", "both", "--density", "0.3")
        assert (code, "seeding.density is 0.5" in errors) == (2, True)
        code, _, errors = shell(capsys, "evolve", "--resume", "both", "--finish")
        assert (code, "--finish is for a single run" in errors) == (2, True)

    def test_names_of_runs_and_of_other_folders_are_taken(self, folder, monkeypatch, capsys):
        monkeypatch.chdir(folder)
        code, _, errors = shell(capsys, "evolve", *flags(), "--name", "both")
        assert (code, "exists already and is not a run" in errors) == (2, True)
        code, _, errors = shell(capsys, "evolve", *flags(), "--seeds", "0", "--name", "both/seed-0")
        assert code == 2

    def test_stored_code_is_run_with_trust_alone(self, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "own.py").write_text("raise SystemExit('run')\n")
        plan = sweep_plan(small(), [0], {})
        create_sweep(tmp_path / "runs" / "strange", plan)
        file = tmp_path / "runs" / "strange" / "sweep.json"
        stored = json.loads(file.read_text())
        stored["settings"]["model"]["name"] = "own.py:model"
        file.write_text(json.dumps(stored))
        code, _, errors = shell(capsys, "evolve", "--resume", "strange")
        assert code == 2
        assert "files run no code, but sweep" in errors
        assert "--trust" in errors

    def test_an_interruption_says_how_to_go_on(self, folder, monkeypatch, capsys):
        def stopped(work):
            raise KeyboardInterrupt

        monkeypatch.chdir(folder)
        monkeypatch.setattr("ticketsearch.sweeps.SweepWork.steps", stopped)
        code, _, errors = shell(capsys, "evolve", *flags(), "--seeds", "0-2", "--name", "both")
        assert code == 130
        assert "the same command goes on from there" in errors


class TestProcesses:
    @pytest.mark.slow
    def test_several_workers_make_the_same_runs_as_one(self, swept, tmp_path):
        found, _ = swept
        again = ts.sweep(small(), seeds=[0, 3], over=TEMPERATURES, root=tmp_path, name="two", workers=2)
        assert again.rows == found.rows
        for name in found.finished:
            assert lines_of(again.path / name) == lines_of(found.path / name)

    @pytest.mark.full
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
    def test_a_sweep_that_was_ended_goes_on_to_the_same_content(self, number, tmp_path):
        changes = {"evolution.generations": 8, "training.steps": 100}
        words = [sys.executable, "-m", "ticketsearch", "evolve", *flags(**changes), "--seeds", "0,2"]
        words += ["--workers", "2", "--name", "ended"]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            words, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        begun = tmp_path / "runs" / "ended" / "seed-0" / "run.sqlite"
        deadline = time.monotonic() + 120
        while not begun.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL)
        assert ("the same command goes on" in errors) == (number == signal.SIGINT)
        done = subprocess.run(
            words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=180
        )
        assert done.returncode == 0, done.stderr
        for member in sweep_plan(small(**changes), [0, 2], {}).members:
            search = Search.prepare(member.settings)
            with create_run(search, tmp_path / "single", member.name) as run:
                complete(search, run, Callbacks([]))
            assert lines_of(tmp_path / "runs" / "ended" / member.name) == lines_of(
                tmp_path / "single" / member.name
            )
