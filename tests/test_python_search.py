"""A search from Python: the shell's run to the bit, objects in place of names, and results taken home."""

from __future__ import annotations

import csv
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import refusal, refused
from torch import nn

import ticketsearch as ts
from ticketsearch import cli, models
from ticketsearch.report.text import content
from ticketsearch.runs import generation_records, result_records, ticket_records
from ticketsearch.settings import load, settings_digest

pytestmark = pytest.mark.slow

SMALL = {
    "density": 0.3,
    "population": 6,
    "generations": 2,
    "steps": 10,
    "initializations": 2,
    "device": "cpu",
    "final.steps": 20,
    "final.orders": 2,
    "final.candidates": 2,
}
FLAGS = [word for name, value in SMALL.items() if "." not in name for word in (f"--{name}", str(value))]
FLAGS += [word for name, value in SMALL.items() if "." in name for word in ("--set", f"{name}={value}")]
NAMED = {"data": "moons", "model": "mlp:10"}
RNG = np.random.default_rng(0)
X = RNG.normal(loc=5, scale=3, size=(260, 2)).astype(np.float32)
Y = (X[:, 0] > X[:, 1]).astype(int)
ARRAYS = (X[:200], Y[:200], X[200:], Y[200:])


def build(input_shape, classes, *, hidden=12):
    return nn.Sequential(nn.Linear(*input_shape, hidden), nn.ReLU(), nn.Linear(hidden, classes))


def build_deeper(input_shape, classes):
    return nn.Sequential(build(input_shape, 12), nn.ReLU(), nn.Linear(12, classes))


def shell(*arguments):
    with pytest.raises(SystemExit) as ended:
        cli.main([*map(str, arguments)])
    return ended.value.code


def lines(run):
    """Return the content of a run, which equal runs share, without its name."""
    return list(content(run))[1:]


class StopError(Exception):
    pass


def stop_after(generation):
    def stop(run, last):
        if last.number == generation:
            raise StopError

    return stop


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def without_page(monkeypatch):
    """Searches write no page: its figures take longer than a small search."""
    monkeypatch.setattr("ticketsearch.report.write_report", lambda run: run.path / "report.html")


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    """A finished run of listed names."""
    return ts.search(**NAMED, **SMALL, root=tmp_path_factory.mktemp("named"), name="made")


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A finished run of arrays and a factory."""
    return ts.search(data=ARRAYS, model=build, **SMALL, root=tmp_path_factory.mktemp("own"))


@pytest.fixture
def halted(tmp_path):
    """The folder of a run that was stopped after its generation 1."""
    with pytest.raises(StopError):
        ts.search(**NAMED, **SMALL, root=tmp_path, name="halted", callbacks=[stop_after(1)])
    return tmp_path / "halted"


def test_a_search_is_that_of_the_shell_to_the_bit(named, tmp_path):
    flags = ("--data", NAMED["data"], "--model", NAMED["model"], "--name", "made")
    assert shell("evolve", *flags, *FLAGS) == 0
    with ts.Run.open(tmp_path / "runs" / "made") as made:
        assert list(content(made)) == list(content(named))
        assert made.settings == named.settings
        files = [sorted(p.relative_to(r.path).as_posix() for p in r.path.rglob("*")) for r in (made, named)]
    assert files[0] == files[1]
    assert "report.html" in files[0]


@pytest.mark.parametrize("given", ["object", "mapping", "dotted", "file"])
def test_settings_come_in_any_form(given, named, tmp_path):
    settings = named.settings
    forms = {
        "object": settings,
        "mapping": settings.model_dump(),
        "dotted": {"data.name": "moons"},
        "file": str(named.path / "settings.toml"),
    }
    stop = {"callbacks": [stop_after(0)], "root": tmp_path, "name": given}
    more = {"model": "mlp:10", **SMALL} if given == "dotted" else {}
    with pytest.raises(StopError):
        ts.search(forms[given], **more, **stop)
    with ts.Run.open(tmp_path / given) as run:
        assert run.settings == settings


@pytest.mark.usefixtures("without_page")
def test_keywords_take_precedence_over_settings_and_both_over_an_objective(tmp_path):
    run = ts.search(
        {"evolution": {"generations": 5, "population": 6}, "seeding": {"initializations": 2}},
        **NAMED,
        objective="strong",
        generations=np.int64(0),
        schemes=("uniform",),
        root=tmp_path,
    )
    assert (run.settings.evolution.generations, run.settings.evolution.population) == (0, 6)
    assert (run.settings.fitness.name, run.settings.seeding.density) == ("untrained", 0.3)
    assert run.finished


def test_a_run_that_is_there_is_refused_with_the_ways_to_go_on(named):
    refused(lambda: ts.search(named.path), "is a run", f"Run.open({str(named.path)!r}).resume()")
    again = {"root": named.path.parent, "name": "made"}
    refused(lambda: ts.search(**NAMED, **SMALL, **again), "exists already", "resume()", "--resume made")


def test_the_run_of_a_search_holds_no_lock_and_is_read_and_written_by_others(named):
    with ts.Run.open(named.path, write=True) as writer:
        assert lines(writer) == lines(named)


@pytest.mark.usefixtures("without_page")
def test_an_interrupted_search_says_how_to_go_on_and_ends_as_if_it_had_not_been(halted, named):
    with ts.Run.open(halted) as run:
        assert repr(run) == "Run('halted', generation 1 of 2, density 0.3)"
        assert "no best ticket before its final comparison" in refusal(lambda: run.best)
        assert "--resume halted --finish" in refusal(run.trained)
        refused(lambda: run.export("x.csv", "csv"), "--resume halted --finish")
        assert run.resume() is run
        assert lines(run) == lines(named)
    with pytest.raises(StopError) as caught:
        ts.search(**NAMED, **SMALL, root=halted.parent, name="again", callbacks=[stop_after(0)])
    assert "Run.open(" in caught.value.__notes__[0]


@pytest.mark.usefixtures("without_page")
def test_a_run_is_finished_early_with_what_there_is(halted, tmp_path):
    whole = ts.search(**NAMED, **{**SMALL, "generations": 1}, root=tmp_path / "whole", name="halted")
    with ts.Run.open(halted) as run:
        assert run.finish().settings.evolution.generations == 1
        assert run.finished
        assert list(content(run)) == list(content(whole))
        assert "but got 0; give 1 or more" in refusal(run.resume, 0)


def test_a_run_without_a_generation_cannot_be_finished(tmp_path):
    class Interrupt(ts.Callback):
        def on_start(self, run):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ts.search(**NAMED, **SMALL, root=tmp_path, name="none", callbacks=[Interrupt()])
    with ts.Run.open(tmp_path / "none") as run:
        assert repr(run) == "Run('none', no generation yet, density 0.3)"
        assert "nothing to compare" in refusal(run.finish)


@pytest.mark.usefixtures("without_page")
def test_callbacks_take_the_run_and_each_generation(tmp_path):
    taken = []
    run = ts.search(**NAMED, **SMALL, root=tmp_path, callbacks=[lambda *arguments: taken.append(arguments)])
    assert [generation.number for _, generation in taken] == [0, 1, 2]
    assert all(isinstance(given, ts.Run) and given.path == run.path for given, _ in taken)


@pytest.mark.usefixtures("without_page")
def test_plain_lines_of_progress_are_shown_where_they_are_asked_for(tmp_path, capsys):
    options = {**NAMED, **SMALL, "generations": 0, "root": tmp_path}
    ts.search(**options)
    assert capsys.readouterr() == ("", "")
    ts.search(**options, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.partition(" ")[0] for line in err.splitlines()][:3] == ["Pruning", "Run", "generation"]


def test_tables_are_data_frames_of_the_records(named):
    for which, records in (
        ("tickets", ticket_records(named)),
        ("generations", generation_records(named)),
        ("results", result_records(named)),
    ):
        frame = named.dataframe(which)
        assert list(frame.columns) == list(records[0])
        assert frame.astype(object).where(frame.notna(), None).to_dict("records") == records
    results = named.dataframe("results")
    assert (str(results.ticket.dtype), results.ticket.isna().sum()) == ("Int64", 6)
    assert named.dataframe().ticket.tolist() == [ticket.number for ticket in named.tickets()]
    assert "unknown table 'ticket' (did you mean 'tickets'?)" in refusal(named.dataframe, "ticket")


def test_a_missing_pandas_is_named_with_its_extra(named, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert 'pip install "ticketsearch[pandas]"' in refusal(named.dataframe)


def test_the_best_ticket_is_the_winner_of_the_final_comparison(named):
    results = [result for result in named.results() if result.contender == "best ticket"]
    assert {named.best.number} == {result.ticket for result in results}
    assert named.report() == named.path / "report.html"


def test_the_trained_network_has_the_reported_accuracy_on_raw_samples(own):
    for order in (0, 1):
        module = own.trained(order=order)
        assert not module.training
        logits = module(own.standardize(ARRAYS[2]))
        accuracy = (logits.argmax(1).numpy() == ARRAYS[3]).mean()
        (result,) = [r for r in own.results() if (r.contender, r.data_order) == ("best ticket", order)]
        assert accuracy == pytest.approx(result.accuracy, abs=1e-12)
    by_number = own.trained(own.best.number)
    for name, tensor in own.trained().state_dict().items():
        torch.testing.assert_close(by_number.state_dict()[name], tensor)


def test_a_ticket_or_order_that_a_run_lacks_is_refused(named):
    assert "a ticket is 'best' or the number of one, but got 'bst'" in refusal(named.trained, "bst")
    assert "has no ticket 9999" in refusal(named.compact, 9999)
    assert "an integer from 0 to 1, but got 2" in refusal(named.trained, order=2)


def test_the_compact_network_computes_the_same_from_the_live_units_alone(own):
    x = own.standardize(X)
    torch.testing.assert_close(own.compact()(x), own.trained()(x), rtol=0, atol=1e-6)
    ticket = next(t for t in own.tickets() if t.number != own.best.number)
    torch.testing.assert_close(
        own.compact(ticket.number)(x), own.trained(ticket.number)(x), rtol=0, atol=1e-6
    )
    assert sum(p.numel() for p in own.compact().parameters()) < sum(
        p.numel() for p in own.trained().parameters()
    )


@pytest.mark.usefixtures("without_page")
def test_pruned_weights_that_are_not_zero_have_no_compact_network(tmp_path):
    options = {**SMALL, "generations": 0, "masking": "gradient", "root": tmp_path}
    run = ts.search(**NAMED, **options)
    assert "training.masking = 'gradient'" in refusal(run.compact)
    assert run.trained()[1].weight.count_nonzero() == run.trained()[1].weight.numel()


def loaded(path, form, x):
    """Return the logits of an exported file."""
    if form == "onnx":
        import onnxruntime

        return torch.from_numpy(onnxruntime.InferenceSession(path).run(None, {"inputs": x.numpy()})[0])
    if form == "compact":
        return torch.export.load(path).module()(x)
    module = build((2,), 2)
    state = torch.load(path, weights_only=True)
    if form == "pruned":
        for layer in (module[0], module[2]):
            nn.utils.prune.identity(layer, "weight")
    module.load_state_dict(state)
    return module(x)


@pytest.mark.parametrize("form", ["torch", "pruned", "compact", "onnx"])
def test_an_exported_network_computes_the_same_without_the_package(form, own, tmp_path):
    x = own.standardize(X)
    path = own.export(tmp_path / f"best.{'pt2' if form == 'compact' else form}", form)
    torch.testing.assert_close(loaded(path, form, x), own.trained()(x), rtol=0, atol=1e-5)


def test_kept_weights_are_rows_of_a_table(own, tmp_path):
    rows = list(csv.DictReader(own.export(tmp_path / "kept.csv", "csv").read_text().splitlines()))
    assert list(rows[0]) == ["layer", "index_0", "index_1", "value"]
    assert len(rows) == own.best.mask.sum()
    module = own.trained()
    for row in rows:
        weight = module.get_parameter(row["layer"])[int(row["index_0"]), int(row["index_1"])]
        assert np.float32(row["value"]) == weight.detach().numpy()


def test_an_export_that_cannot_be_written_is_refused(named, tmp_path):
    out = tmp_path / "out"
    assert "unknown format 'onx' (did you mean 'onnx'?)" in refusal(named.export, out, "onx")
    assert "is a folder" in refusal(named.export, tmp_path, "csv")
    assert "there is no folder" in refusal(named.export, tmp_path / "no" / "file", "csv")
    assert list(tmp_path.iterdir()) == []


def test_the_shell_exports_runs_and_ticket_files(named, tmp_path, capsys):
    best = named.path / "tickets" / "best.safetensors"
    assert shell("export", named.path, "--format", "csv", "--out", "trained.csv") == 0
    assert capsys.readouterr() == ("trained.csv\n", "")
    assert (tmp_path / "trained.csv").read_bytes() == named.export(
        tmp_path / "python.csv", "csv"
    ).read_bytes()
    assert shell("export", best, "--format", "csv", "--out", "initial.csv") == 0
    out, err = capsys.readouterr()
    assert (out, "holds initial weights" in err) == ("initial.csv\n", True)
    initial = list(csv.DictReader((tmp_path / "initial.csv").read_text().splitlines()))
    network, mask = ts.load_ticket(best)
    weights = np.concatenate([network.parameters()[layer.name].flatten() for layer in network.spec.layers])
    assert [np.float32(row["value"]) for row in initial] == weights[mask].tolist()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--format", "onx", "--out", "x"), "unknown format 'onx' (did you mean 'onnx'?)"),
        (("--out", "there.csv"), "'there.csv' exists already; give another --out, or --force"),
        (("--out", "no/x.csv"), "there is no folder 'no' for 'x.csv'"),
        (("--out", "."), "'.' is a folder; give --out FILE"),
    ],
)
def test_the_shell_refuses_a_bad_export(arguments, words, named, tmp_path, capsys):
    (tmp_path / "there.csv").touch()
    assert shell("export", named.path, *arguments) == 2
    assert words in capsys.readouterr().err


def test_the_shell_refuses_what_is_no_run_and_no_ticket(named, capsys):
    trained = named.path / "tickets" / "best-trained.safetensors"
    assert shell("export", trained, "--format", "csv", "--out", "x.csv") == 2
    assert f"give the run itself: ticketsearch export {named.path.resolve()}" in capsys.readouterr().err
    assert shell("export", "nowhere", "--format", "csv", "--out", "x.csv") == 2
    assert "no run in 'runs/nowhere'" in capsys.readouterr().err


def test_objects_stand_where_names_do_and_settings_name_them(own, capsys):
    assert (own.settings.data.name, own.settings.model.name) == ("object:arrays", "object:build")
    assert own.name == "arrays-build-001"
    assert load(own.path / "settings.toml") == own.settings
    for command in (
        ("evolve", "--resume", own.path, "--generations", "9"),
        ("export", own.path, "--out", "x"),
    ):
        assert shell(*command) == 2
        line = capsys.readouterr().err.splitlines()[-1]
        assert f"ticketsearch.Run.open('{own.path}').resume(data=…, model=…)" in line
    assert shell("evolve", own.path / "settings.toml") == 2
    assert "dataset 'arrays' is a Python object, which no name finds" in capsys.readouterr().err


@pytest.mark.usefixtures("without_page")
def test_a_run_of_objects_goes_on_with_the_same_objects_alone(own, tmp_path):
    with pytest.raises(StopError):
        ts.search(data=ARRAYS, model=build, **SMALL, root=tmp_path, name="own", callbacks=[stop_after(0)])
    other = (X[::-1][:200], *ARRAYS[1:])
    with ts.Run.open(tmp_path / "own") as run:
        assert "resume(data=…, model=…)" in refusal(run.resume)
        assert "resume(model=…)" in refusal(run.resume, data=ARRAYS)
        assert "the data of 'arrays' are not those" in refusal(run.resume, data=other, model=build)
        assert "model 'build' is not the network" in refusal(run.resume, data=ARRAYS, model=build_deeper)
        assert "data.name is 'object:arrays' in 'own' and 'moons' here" in refusal(run.resume, data="moons")
        assert "resume(data=…, model=…)" in refusal(run.resume)  # nothing of these was kept
        run.resume(data=ARRAYS, model=build)
        assert lines(run) == lines(own)


@pytest.mark.usefixtures("without_page")
def test_the_run_that_a_search_returned_holds_its_objects(own, tmp_path):
    run = ts.search(data=ARRAYS, model=build, **{**SMALL, "generations": 0}, root=tmp_path, name="own")
    run.resume(generations=2)
    assert lines(run) == lines(own)
    with ts.Run.open(run.path) as again:
        assert "needs the Python objects of its search (arrays, build)" in refusal(again.trained)
        x = again.standardize(X)  # which needs none
        torch.testing.assert_close(again.trained(data=ARRAYS, model=build)(x), run.trained()(x))
        assert "has no ticket" in refusal(again.compact, 9999)
        torch.testing.assert_close(again.compact()(x), run.compact()(x))  # they are held now


def test_a_finished_run_takes_objects_too(own):
    with ts.Run.open(own.path) as run:
        refused(
            lambda: run.resume(data=(X[:100], Y[:100]), model=build), "the data of 'arrays' are not those"
        )
        run.resume(data=ARRAYS, model=build)
        assert run.trained()(own.standardize(X)).shape == (260, 2)


@pytest.mark.usefixtures("without_page")
def test_the_objects_of_listed_names_give_the_same_tickets(named, tmp_path):
    def mlp(input_shape, classes):
        return models.mlp(input_shape, classes, hidden="10")

    dataset = ts.load_dataset("moons")
    run = ts.search(data=dataset, model=mlp, **SMALL, root=tmp_path)
    assert (run.settings.data.name, run.settings.model.name) == ("object:moons", "object:mlp")
    assert lines(run)[1:] == lines(named)[1:]  # all but the digest of the settings
    assert settings_digest(run.settings) != settings_digest(named.settings)
    assert "load_ticket(path, factory=" in refusal(ts.load_ticket, run.path / "tickets" / "best.safetensors")


@pytest.mark.filterwarnings("ignore::ticketsearch.evolution.GuidanceWarning")
@pytest.mark.usefixtures("without_page")
def test_a_fitness_may_be_a_function(tmp_path):
    def first_weights(masks):
        return masks[:, :20].sum(axis=1).astype(float)

    run = ts.search(**NAMED, **SMALL, fitness=first_weights, root=tmp_path)
    assert run.settings.fitness.name == "object:first_weights"
    assert run.last().best.score == max(ticket.mask[:20].sum() for ticket in run.tickets())
    with ts.Run.open(run.path) as again:
        assert "resume(fitness=…)" in refusal(again.resume, generations=3)
        assert again.resume(generations=3, fitness=first_weights).finished
    options = {"fitness": first_weights, "fitness.options": {"a": 1}}
    refused(lambda: ts.search(**NAMED, **SMALL, **options, root=tmp_path), "make the object with them")


@pytest.mark.usefixtures("without_page")
def test_an_object_s_name_is_a_word_whatever_its_own_name_is(tmp_path):
    dataset = ts.from_arrays("two words/../x.py:load,\n" + "y" * 99, X, Y)
    options = {**SMALL, "generations": 0, "root": tmp_path}
    run = ts.search(data=dataset, model=lambda shape, classes: build(shape, classes), **options)
    assert re.fullmatch(r"object:[\w.-]{1,40}", run.settings.data.name)
    assert run.settings.model.name == "object:lambda"
    assert re.fullmatch(r"[\w.-]+-lambda-001", run.name)


def test_a_run_is_short_as_text_and_has_figures_in_a_notebook(own):
    assert repr(own) == f"Run('arrays-build-001', finished, density 0.3, best ticket {own.best.number})"
    html = own._repr_html_()
    assert html.count("<svg ") == 5
    assert "Run arrays-build-001: " in html
    style = html[html.index("<style>") : html.index("</style>")]
    rules = re.findall(r"^ *([^@{}\n]+) \{", style, re.MULTILINE)
    assert rules
    assert all(
        rule.startswith(".ticketsearch-result") for rule in rules
    )  # the notebook's page keeps its style
    with ts.Run.open(own.path) as closed:
        pass
    assert repr(closed) == "Run('arrays-build-001')"


SCRIPT = """
import numpy as np
import torch
import ticketsearch as ts

rng = np.random.default_rng(0)
x = rng.normal(size=(300, 2))
y = (x[:, 0] > 0).astype(int)


def build(input_shape, classes):
    return torch.nn.Sequential(torch.nn.Linear(2, 9), torch.nn.ReLU(), torch.nn.Linear(9, classes))


options = dict(density=0.3, population=6, generations=1, steps=10, initializations=2, device="cpu")
options |= {"final.steps": 20, "final.orders": 2, "training.backend": "loky"}
run = ts.search(data=(x, y), model=build, workers=2, **options)
print(run.finished, run.settings.model.name, run.trained()(run.standardize(x)).shape)
"""


@pytest.mark.full
@pytest.mark.parametrize("how", ["script", "prompt"])
def test_functions_of_a_script_and_of_a_prompt_work_in_worker_processes_too(how, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "script.py"] if how == "script" else [sys.executable, "-"]
    typed = SCRIPT if how == "prompt" else None
    done = subprocess.run(command, input=typed, capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout == "True object:build torch.Size([300, 2])\n", done.stderr
