"""Arguments of a search from Python that make no search, and its table of progress in a notebook."""

from __future__ import annotations

import io
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import refused
from rich.console import Console
from torch import nn

import ticketsearch as ts
from ticketsearch.python.keywords import setting_name
from ticketsearch.python.progress import Line, NotebookTable

X, Y = np.zeros((260, 2)), np.arange(260) % 2


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("keyword", "setting"),
    [
        ("generations", "evolution.generations"),
        ("steps", "training.steps"),
        ("method", "seeding.method"),
        ("seed", "seed"),
        ("initializations", "seeding.initializations"),
        ("lr", "training.lr"),
        ("final.steps", "final.steps"),
    ],
)
def test_a_keyword_is_the_last_part_of_a_setting_as_a_flag_is(keyword, setting):
    assert setting_name(keyword) == setting


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"generation": 3}, "unknown keyword 'generation' (did you mean 'generations'?)"),
        ({"callback": []}, "unknown keyword 'callback' (did you mean 'callbacks'?)"),
        ({"candidates": 3}, "several settings end in 'candidates': evolution.candidates, final.candidates;"),
        ({"options": {}}, "**{'data.options': …}"),
        ({"evolution.generatons": 3}, "did you mean 'evolution.generations'?"),
        ({"generations": "many"}, "setting evolution.generations must be a valid integer, but got 'many'"),
        ({"objective": "strang"}, "unknown objective 'strang' (did you mean 'strong'?)"),
        ({"settings": 3}, "settings are a path of a TOML file, a mapping"),
        ({"settings": {3: 2}}, "but got {3: 2}"),
        ({"settings": "none.toml"}, "no settings file 'none.toml'"),
        ({"data": 3}, "data are a name, a ticketsearch.Dataset, or arrays (x, y)"),
        ({"data": (X, Y, X)}, "ticketsearch.from_arrays makes a dataset of other parts"),
        ({"data": (X, Y), "data.options": {"seed": 1}}, "make the object with them"),
        ({"model": nn.Linear(2, 2)}, "but got a Linear itself"),
        ({"model": 3}, "a model is a name or a callable, but got 3"),
        ({"model": "object:build"}, "model 'build' is a Python object, which no name finds"),
        ({"fitness": 3}, "a fitness is a name or a callable, but got 3"),
        ({"callbacks": [3]}, "a callback is a function(run, generation)"),
        ({"name": "../x"}, "a run's name is up to 100 letters"),
    ],
)
def test_bad_arguments_are_refused_in_one_line_before_there_is_a_folder(arguments, words, tmp_path):
    refused(lambda: ts.search(**arguments), words)
    assert not (tmp_path / "runs").exists()


class Display:
    """IPython's display, which keeps what is shown, and each update of it."""

    def __init__(self):
        self.shown = []

    def display(self, table, display_id):
        assert display_id is True
        self.shown.append(table)
        return self

    def update(self, table):
        self.shown.append(table)


@pytest.fixture
def display(monkeypatch):
    display = Display()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(display=display))
    return display


def test_a_notebook_shows_one_table_in_which_evaluations_are_counted_some_times_a_second(
    display, monkeypatch
):
    def drawn(table):
        console = Console(file=io.StringIO(), width=120)
        console.print(table)
        return console.file.getvalue().split()

    now = [0.0]
    monkeypatch.setattr("ticketsearch.python.progress.time.monotonic", lambda: now[0])
    shown = NotebookTable(5, Console(width=120))
    shown.say("Pruning [2] …")
    for now[0], done in ((0.1, 1), (0.25, 2), (0.3, 3), (0.5, 4)):
        shown.on_evaluated(None, 0, done, 12)
    shown.generation(Line(0, -0.25, -0.5, 0.05, 0.04, 7, 1, 32, 2.0))
    texts = [" ".join(drawn(table)) for table in display.shown]
    assert texts[:3] == ["Pruning [2] …", *(f"generation 0: {done} of 12 trained" for done in (2, 4))]
    assert re.search(r"left 0/5 -0\.2500 -0\.5000 .* Evolving$", texts[3])
    assert len(texts) == 4
