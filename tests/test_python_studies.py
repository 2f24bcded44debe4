"""Studies from Python: the pages and tables of the shell, in the same folder, and results for notebooks."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from itertools import count

import pytest
from conftest import refused

import ticketsearch as ts
from ticketsearch import cli
from ticketsearch import settings as config
from ticketsearch.comparison import Comparison, ComparisonStore, differences
from ticketsearch.overlap_studies import Overlaps
from ticketsearch.report.text import comparison_headline, overlap_headline

pytestmark = pytest.mark.slow

SMALL = {
    "model.name": "mlp:6",
    "training.steps": 5,
    "evolution.population": 4,
    "evolution.generations": 1,
    "seeding.initializations": 2,
    "seeding.options.training_steps": 3,
    "final.steps": 5,
    "final.orders": 1,
    "final.candidates": 2,
}
METHODS = ["dense", "synflow", "imp", "imp_best", "evolution"]
PAGES = ("compare.html", "overlap.html")


@pytest.fixture(scope="module")
def settings():
    return config.load(None, SMALL.items())


@pytest.fixture(scope="module")
def clock():
    """Each mask takes a quarter of a second, so that no time of this machine is in a table."""
    with pytest.MonkeyPatch.context() as patch:
        ticks = count()
        patch.setattr("ticketsearch.comparison.run.time.process_time", lambda: next(ticks) / 4)
        yield


@pytest.fixture(scope="module")
def compared(settings, clock, tmp_path_factory):
    """The comparison from Python, and its folder."""
    folder = tmp_path_factory.mktemp("python") / "mine"
    return ts.compare(settings, METHODS, [0.2], folder=folder, initializations=2), folder


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    """The overlap study from Python, and its folder."""
    folder = tmp_path_factory.mktemp("python") / "mine"
    network = ts.initialize("mlp:6", ts.load_dataset("digits"))
    options = {"initializations": ts.initializations(3), "draws": 20, "aligned_draws": 5, "orders": 0}
    # As the shell takes them from the settings.
    options |= {"scope": "global", "schedule": "exponential", "steps": None}
    return ts.study_pruners(
        network, ts.load_dataset("digits"), ["synflow"], 0.2, folder=folder, **options
    ), folder


def shell(*arguments):
    with pytest.raises(SystemExit) as ended:
        cli.main([*map(str, arguments)])
    assert ended.value.code == 0


def written(folder):
    """The files of a folder by name, as bytes, without the database, its lock and the folders inside."""
    return {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if path.is_file() and path.suffix in (".html", ".md", ".csv")
    }


def content(file):
    """All rows of a database by table."""
    with closing(sqlite3.connect(file)) as connection:
        names = [
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        return {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in names}


def test_a_comparison_from_python_leaves_the_folder_of_the_shell(compared, clock, tmp_path):
    found, folder = compared
    flags = [word for name, value in SMALL.items() for word in ("--set", f"{name}={value}")]
    flags += [
        "--methods",
        ",".join(METHODS),
        "--densities",
        "0.2",
        "--initializations",
        "2",
        "--workers",
        "1",
    ]
    shell("compare", *flags, "--out", tmp_path / "mine")
    assert set(written(folder)) == {"compare.html", "compare.md", "cells.csv", "differences.csv"}
    assert written(folder) == written(tmp_path / "mine")
    assert {path.name for path in folder.iterdir()} == {path.name for path in (tmp_path / "mine").iterdir()}
    assert content(folder / "compare.sqlite") == content(tmp_path / "mine" / "compare.sqlite")
    assert ts.comparison_text(found) == ts.comparison_text(ts.read_comparison(tmp_path / "mine"))


def test_an_overlap_study_from_python_leaves_the_folder_of_the_shell(studied, tmp_path):
    _, folder = studied
    flags = ["--model", "mlp:6", "--methods", "synflow", "--densities", "0.2", "--initializations", "3"]
    flags += ["--draws", "20", "--aligned-draws", "5", "--orders", "0", "--workers", "1"]
    shell("overlap", *flags, "--out", tmp_path / "mine")
    assert set(written(folder)) == {"overlap.html", "pairs.csv", "nulls.csv"}
    for name, there in written(tmp_path / "mine").items():
        assert (folder / name).read_bytes() == there, name
    assert content(folder / "overlap.sqlite") == content(tmp_path / "mine" / "overlap.sqlite")


def test_seconds_are_measured_for_every_mask_but_the_dense_network(compared):
    found, folder = compared
    seconds = {result.method: result.seconds for result in found.results}
    # Two masks of one pruning share its tick; imp_best pays for the mask of imp too.
    assert seconds == {
        "dense": None,
        "synflow": 0.125,
        "imp": 0.125,
        "imp_best": 0.375,
        "evolution": 0.25,
        "evolution/shuffled": 0.25,
        "evolution/reinitialized": 0.25,
    }
    assert "| 0.38 |" in (folder / "compare.md").read_text()
    assert (folder / "cells.csv").read_text().splitlines()[0].endswith(",candidates,seconds")


def test_an_evolution_that_began_in_an_earlier_process_has_no_seconds(settings, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    arguments = {"folder": tmp_path / "mine", "initializations": 1, "controls": []}
    with monkeypatch.context() as patch:
        patch.setattr("ticketsearch.comparison.methods.choose", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ts.compare(settings, ["evolution"], [0.2], **arguments)
    found = ts.compare(settings, ["evolution"], [0.2], **arguments)
    assert [result.seconds for result in found.results] == [None]


def test_a_file_of_schema_1_is_read_and_goes_on_with_seconds(settings, clock, tmp_path):
    folder = tmp_path / "old"
    ts.compare(settings, ["synflow"], [0.2], folder=folder, initializations=1)
    with closing(sqlite3.connect(folder / "compare.sqlite", isolation_level=None)) as connection:
        connection.execute("DROP TABLE times")
        connection.execute("PRAGMA user_version = 1")
    assert [result.seconds for result in ts.read_comparison(folder).results] == [None]
    found = ts.compare(settings, ["synflow", "snip"], [0.2], folder=folder, initializations=1)
    assert {result.method: result.seconds for result in found.results} == {"synflow": None, "snip": 0.25}
    with closing(sqlite3.connect(folder / "compare.sqlite", isolation_level=None)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (2,)
        connection.execute("UPDATE times SET seconds = -1")
    refused(lambda: ts.read_comparison(folder), "compare.sqlite", "table times, row 1 seconds")


def test_a_wrong_reference_is_refused_before_any_work(settings, tmp_path):
    refused(
        lambda: ts.compare(settings, ["synflow"], [0.2], folder=tmp_path / "none", reference="sinflow"),
        "did you mean 'synflow'",
    )
    assert not list(tmp_path.iterdir())


def test_steps_are_followed(settings, tmp_path):
    def follow(steps):
        kinds.extend(step.what for step in steps)

    kinds = []
    ts.compare(settings, ["synflow"], [0.2], folder=tmp_path / "a", initializations=2, follow=follow)
    assert kinds == ["pruned masks", "final trainings", "final trainings"]


def test_a_notebook_shows_headline_and_figures_and_keeps_its_own_style(compared, studied):
    comparison, overlaps = compared[0], studied[0]
    assert isinstance(comparison, Comparison)
    assert isinstance(overlaps, Overlaps)
    for found, lines, figures in (
        (comparison, comparison_headline(differences([comparison])), ["accuracies", "budgets", "searches"]),
        (overlaps, [overlap_headline(overlaps.cases)], ["overview"]),
        (ts.read_overlaps(studied[1]), [overlap_headline(overlaps.cases)], ["overview"]),
    ):
        shown = found._repr_html_()
        assert re.findall(r'<figure id="(\w+)"', shown) == figures
        for line in lines:
            assert f"<p>{line}</p>" in shown
        assert "<html" not in shown
        assert "<body" not in shown
        assert "<script" not in shown
        (style,) = re.findall(r"<style>(.*?)</style>\n<p>", shown, re.DOTALL)
        rules = re.sub(r"@media [^{]*\{(.*?\})\s*\}", r"\1", style, flags=re.DOTALL)
        selectors = [name.strip() for names in re.findall(r"([^{}]+)\{", rules) for name in names.split(",")]
        assert selectors
        assert all(name.startswith(".ticketsearch-result") for name in selectors), selectors


def test_an_empty_comparison_is_shown_too(settings, tmp_path):
    def stop(steps):
        return

    found = ts.compare(settings, ["synflow"], [0.2], folder=tmp_path / "a", follow=stop)
    assert "No results yet." in found._repr_html_()
    assert "<svg" not in found._repr_html_()
    with ComparisonStore.open(tmp_path / "a") as store:
        assert json.dumps(store.results()) == "{}"
