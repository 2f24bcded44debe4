"""Studies: what is compared; nothing is made twice or lost; words and tables say what is there."""

from __future__ import annotations

import csv
import dataclasses
import io
import sqlite3
import sys
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen

import numpy as np
import pytest
from conftest import refused

from ticketsearch import cli
from ticketsearch.masks import unpack
from ticketsearch.models import Initialization, initialize
from ticketsearch.overlap import overlap_study
from ticketsearch.overlap_studies import (
    OverlapStore,
    OverlapWork,
    Sizes,
    plan_digest,
    pruner_plan,
    read_overlaps,
    run_plan,
)
from ticketsearch.python import study_pruners
from ticketsearch.report.text import nulls_csv, overlap_headline, overlaps_text, pairs_csv
from ticketsearch.runs import Run, winner
from ticketsearch.seeding import initializations, prune_copies

pytestmark = pytest.mark.slow

SMALL = ("--model", "mlp:12", "--initializations", "3", "--densities", "0.1", "--workers", "1")
FEW = ("--draws", "20", "--aligned-draws", "5")


@pytest.fixture(scope="module")
def network(digits):
    return initialize("mlp:12,8", digits)


def small_plan(network, methods=("synflow", "magnitude"), densities=(0.1,), dataset=None, **sizes):
    own = initializations(3, schemes=["kaiming_normal"])
    thorough = Sizes(**{"draws": 120, "aligned_draws": 6} | sizes)
    return pruner_plan(network, methods, densities, own, sizes=thorough, dataset=dataset)


def run(folder, plan, network, dataset=None, workers=1, steps=None):
    """Work a plan off, or its first steps; return how many there were."""
    done = 0
    with OverlapStore.create(folder, plan) as store:
        for _ in OverlapWork(plan, store, network, dataset, workers).steps():
            done += 1
            if done == steps:
                break
    return done


def rows(folder):
    """All that a study holds."""
    with sqlite3.connect(folder / "overlap.sqlite") as connection:
        names = ("meta", "masks", "cases", "pairs", "draws")
        found = {
            name: connection.execute(f"SELECT * FROM {name} ORDER BY 1, 2, 3").fetchall()
            for name in names[1:]
        }
        found["meta"] = connection.execute("SELECT * FROM meta").fetchall()
    connection.close()
    return found


def command(*arguments):
    """Run the command line; return its exit code."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["overlap", *arguments])
    return ended.value.code


def test_a_plan_compares_initializations_orders_and_methods(network, digits):
    plan = small_plan(network, ("synflow", "imp"), (0.1, 0.2), digits, orders=3)
    found = [
        (mask_set.kind, mask_set.method, mask_set.density, len(mask_set.names)) for mask_set in plan.mask_sets
    ]
    assert found == [
        ("initializations", "synflow", 0.1, 3),
        ("initializations", "synflow", 0.2, 3),
        ("initializations", "imp", 0.1, 3),
        ("initializations", "imp", 0.2, 3),
        ("orders", "imp", 0.1, 3),
        ("orders", "imp", 0.2, 3),
        ("methods", None, 0.1, 2),
        ("methods", None, 0.2, 2),
    ]
    # Twelve over initializations, two further orders at each density; the rest is there already.
    assert len(plan.prunings) == len(set(plan.prunings)) == 16
    assert {mask for mask_set in plan.mask_sets for mask in mask_set.masks} == {p.name for p in plan.prunings}
    assert len({mask_set.title for mask_set in plan.mask_sets}) == 8
    assert {mask_set.signed for mask_set in plan.mask_sets if mask_set.kind != "initializations"} == {False}


def test_a_study_prunes_what_a_search_would(network, tmp_path):
    plan = small_plan(network, ("synflow", "random"), draws=0, aligned_draws=0)
    run(tmp_path, plan, network)
    seeds = prune_copies(
        network, None, 0.1, list(initializations(3, schemes=["kaiming_normal"]))[1:], method="random"
    )
    with OverlapStore.open(tmp_path) as store:
        masks = store.masks()
    # The network itself is not the first initialization of the plan, so the others are compared.
    own = [masks[name] for name in plan.mask_sets[1].masks[1:]]
    assert [unpack(mask.bits, network.spec).tolist() for mask in own] == seeds.masks[1:].tolist()
    weights = network.reinitialized(*plan.prunings[1].initialization).parameters()
    positive = network.spec.join(
        {layer.name: weights[layer.name].numpy() > 0 for layer in network.spec.layers}
    )
    assert np.array_equal(unpack(masks[plan.prunings[1].name].signs, network.spec), positive)


def test_a_study_finds_what_the_study_of_its_masks_finds(network, tmp_path):
    plan = small_plan(network)
    run(tmp_path, plan, network)
    case = read_overlaps(tmp_path).cases[0]
    weights = []
    for pruning in plan.prunings[:3]:
        tensors = network.reinitialized(*pruning.initialization).parameters()
        weights.append(network.spec.join({la.name: tensors[la.name].numpy() for la in network.spec.layers}))
    direct = overlap_study(
        case.study.masks,
        network.spec,
        names=case.study.names,
        weights=weights,
        draws=120,
        aligned_draws=6,
        seed=plan.mask_sets[0].seed(0),
    )
    assert case.study.nulls == direct.nulls
    assert case.study.keys == direct.keys
    for name in ("iou", "aligned", "aligned_layers", "signs", "aligned_signs", "degree_distance"):
        assert np.array_equal(getattr(case.study, name), getattr(direct, name)), name
    assert case.study.summary() == direct.summary()


def test_interruptions_change_nothing_and_nothing_is_made_twice(network, tmp_path):
    plan = small_plan(network)
    whole = run(tmp_path / "whole", plan, network)
    done = 0
    for stop in (2, 5, 3):
        done += run(tmp_path / "parts", plan, network, steps=stop)
    done += run(tmp_path / "parts", plan, network)
    assert done == whole == 6 + 3 + 3 * (2 + 2 + 2)
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")
    assert run(tmp_path / "parts", plan, network) == 0


@pytest.mark.full
def test_any_number_of_workers_gives_the_same(network, digits, tmp_path):
    plan = pruner_plan(
        network,
        ("snip", "imp"),
        (0.1,),
        initializations(3),
        sizes=Sizes(draws=150, aligned_draws=8, orders=2),
        options={"training_steps": 5},
        dataset=digits,
    )
    for workers in (1, 2):
        run(tmp_path / str(workers), plan, network, digits, workers)
    assert rows(tmp_path / "1") == rows(tmp_path / "2")


def test_a_part_of_a_study_can_be_read(network, tmp_path):
    plan = small_plan(network)
    run(tmp_path, plan, network, steps=6)
    assert read_overlaps(tmp_path).cases == ()
    assert overlap_headline(read_overlaps(tmp_path).cases) == "Nothing was compared yet."
    run(tmp_path, plan, network, steps=4)
    overlaps = read_overlaps(tmp_path)
    assert overlaps.cases[0].title == "synflow at density 0.1"
    assert overlaps.cases[0].study.uniform.draws == 100
    assert overlaps.cases[0].study.aligned_uniform is None
    assert "-" in overlaps_text(overlaps).splitlines()[-2]


def test_a_folder_holds_one_study(network, tmp_path):
    plan = small_plan(network)
    run(tmp_path / "study", plan, network, steps=7)
    before = rows(tmp_path / "study")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "overlap.sqlite").write_text(
        "no database at all, though it is long enough to be one"
    )
    cases = [
        (
            lambda: run(tmp_path / "study", small_plan(network, draws=99), network),
            "has 120 draws and can only be extended, but got 99",
        ),
        (
            lambda: run(tmp_path / "study", small_plan(network, ("synflow",)), network),
            "methods synflow, magnitude there and synflow here",
        ),
        (
            lambda: run(tmp_path / "study", small_plan(network, densities=(0.1, 0.2)), network),
            "densities 0.1 there and 0.1, 0.2 here",
        ),
        (
            lambda: run(tmp_path / "study", dataclasses.replace(plan, mask_sets=plan.mask_sets[1:]), network),
            "other masks there",
        ),
        (
            lambda: run(tmp_path / "study", small_plan(network, orders=7), network),
            "orders 4 there and 7 here",
        ),
        (lambda: run(tmp_path / "other", plan, network), "exists already and is not a study"),
        (lambda: run(tmp_path / "file", plan, network), "is a file"),
        (lambda: run(tmp_path / "torn", plan, network), "is damaged or not a study"),
        (lambda: read_overlaps(tmp_path / "other"), "no study in"),
    ]
    for call, words in cases:
        refused(call, words)
    assert rows(tmp_path / "study") == before
    with OverlapStore.create(tmp_path / "study", plan):
        refused(lambda: OverlapStore.create(tmp_path / "study", plan), "being written by another process")


def test_a_study_may_get_more_draws_and_keeps_those_it_has(network, tmp_path):
    run(tmp_path / "grown", small_plan(network, draws=100, aligned_draws=2), network)
    before = rows(tmp_path / "grown")
    assert run(tmp_path / "grown", small_plan(network), network) == 3 * 3
    after = rows(tmp_path / "grown")
    assert set(before["draws"]) < set(after["draws"])
    run(tmp_path / "whole", small_plan(network), network)
    assert after == rows(tmp_path / "whole")
    assert plan_digest(small_plan(network)) == plan_digest(small_plan(network, draws=100))


def test_a_plan_is_told_from_others_by_its_identity(network):
    plans = [
        small_plan(network),
        small_plan(network),
        small_plan(network, restarts=5),
        small_plan(network, ("random",)),
    ]
    names = [plan_digest(plan) for plan in plans]
    assert names[0] == names[1]
    assert len(set(names)) == 3


def test_what_a_pruner_refuses_loses_nothing(network, digits, tmp_path):
    plan = small_plan(network, ("synflow", "snip"), dataset=digits)
    refused(lambda: run(tmp_path, plan, network, dataset=None), "snip needs data")
    with OverlapStore.open(tmp_path) as store:
        assert list(store.masks()) == sorted(pruning.name for pruning in plan.prunings[:3])


def test_bad_plans_are_refused(network, digits, tmp_path):
    two = [Initialization("kaiming_normal", 0), Initialization("kaiming_normal", 1)]
    cases = [
        (lambda: pruner_plan(network, ["sinflow"], [0.1], two), "did you mean 'synflow'"),
        (lambda: pruner_plan(network, ["synflow"], [1.5], two), "1.5"),
        (lambda: pruner_plan(network, ["synflow"], [1e-6], two), "too few for one in each"),
        (lambda: pruner_plan(network, ["synflow"], [], two), "at least one method and one density"),
        (lambda: pruner_plan(network, [], [0.1], two), "at least one method and one density"),
        (lambda: pruner_plan(network, ["random"] * 2, [0.1], two), "methods of a study must be different"),
        (lambda: pruner_plan(network, ["random"], [0.1], two[:1]), "at least 2 initializations, but got 1"),
        (
            lambda: pruner_plan(network, ["random"], [0.1], [two[0]] * 2),
            "initializations of a study must be diff",
        ),
        (lambda: pruner_plan(network, ["random"], [0.1], [("he", 0), *two]), "unknown initialization scheme"),
        (lambda: pruner_plan(network, ["random"], [0.1], two, stepz=3), "did you mean 'steps'"),
        (lambda: pruner_plan(network, ["random"], ["a"], two), "but got 'a'"),
        (lambda: pruner_plan(network, ["random"], [0.1], two, seed=-1), "a seed is an integer"),
        (lambda: pruner_plan(network, ["synflow", "snip"], [0.1], two), "snip needs data"),
        (lambda: pruner_plan(network, ["imp"], [0.1], two), "imp needs data"),
        (lambda: pruner_plan(network, ["snip"], [0.1], two, sizes=Sizes(draws=1.5)), "0 up, but got 1.5"),
        (lambda: pruner_plan(network, ["snip"], [0.1], two, sizes=Sizes(draws=-1)), "0 up, but got -1"),
        (lambda: pruner_plan(network, ["snip"], [0.1], two, sizes=Sizes(restarts=0)), "1 up, but got 0"),
        (lambda: pruner_plan(network, ["snip"], [0.1], two, options={"floor": 1}), "no option 'floor'"),
        (
            lambda: study_pruners(network, digits, ["imp"], folder=tmp_path, initializations=1),
            "at least 2 initializations, but got 1",
        ),
        (
            lambda: study_pruners(network, digits, ["imp"], folder=tmp_path, initializations=1.5),
            "initializations is an integer from 1 up, but got 1.5",
        ),
    ]
    for call, words in cases:
        refused(call, words)
    assert not list(tmp_path.iterdir())


def test_titles_are_short_where_they_can_be_and_differ_always(network, tmp_path):
    own = initializations(2)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "p.py").write_text("from ticketsearch.pruners import random as scores")
    files = [f"{tmp_path}/{name}/p.py:scores" for name in ("a", "b")]

    def titles(methods, densities):
        return [mask_set.title for mask_set in pruner_plan(network, methods, densities, own).mask_sets]

    assert titles(files[:1], [0.1, 0.2]) == ["p.py:scores at density 0.1", "p.py:scores at density 0.2"]
    assert titles(files, 0.1)[:2] == [f"{file} at density 0.1" for file in files]
    assert titles("random", [0.1, 0.1000000001, 0.2]) == [
        "random at density 0.1",
        "random at density 0.1000000001",
        "random at density 0.2",
    ]
    plan = pruner_plan(network, files, [0.1, np.float64(0.1000000001)], own, sizes=Sizes(0, 0))
    run(tmp_path / "study", plan, network)
    assert len(read_overlaps(tmp_path / "study").cases) == 6


def test_dead_networks_are_counted_and_are_not_the_same_network(network, tmp_path):
    own = initializations(4)
    plan = pruner_plan(network, "random", [0.005, 0.9], own, sizes=Sizes(0, 0))
    run(tmp_path, plan, network)
    overlaps = read_overlaps(tmp_path)
    assert overlaps.cases[0].study.blocked.all()
    assert not overlaps.cases[1].study.blocked.any()
    headline = overlap_headline(overlaps.cases)
    assert "4 of 8 masks are disconnected" in headline
    assert "Of 6 pairs of the others, none is the same" in headline
    dead = dataclasses.replace(overlaps, cases=overlaps.cases[:1])
    assert "4 of 4 masks are disconnected" in overlap_headline(dead.cases)
    assert "same network" not in overlap_headline(dead.cases)
    assert overlaps_text(dead).splitlines()[-2].endswith("0/0")


def test_a_whole_study_in_python_is_made_once(network, digits, tmp_path):
    arguments = {"folder": tmp_path, "initializations": 2, "draws": 9, "aligned_draws": 2, "seed": 3}
    overlaps = study_pruners(network, digits, ["snip"], [0.1], **arguments)
    before = rows(tmp_path)
    again = study_pruners(network, digits, ["snip"], [0.1], **arguments)
    assert rows(tmp_path) == before
    assert overlaps_text(again) == overlaps_text(overlaps)
    with pytest.warns(DeprecationWarning, match=r"call ts\.overlaps_text"):
        assert overlaps.lines() == overlaps_text(overlaps).splitlines()
    with pytest.warns(DeprecationWarning, match=r"call ts\.overlaps_text"):
        assert overlaps.headline() == overlap_headline(overlaps.cases)
    assert overlaps.settings["data"] == "digits"
    assert overlaps.settings["aligned draws"] == "2"
    assert overlaps.settings["methods"] == "snip"
    assert overlaps.settings["densities"] == "0.1"
    assert overlaps.settings["initializations"] == "2 (kaiming_normal, kaiming_uniform)"
    assert "; methods snip; densities 0.1; " in overlaps_text(overlaps).splitlines()[-1]
    assert overlaps.input_shape == (1, 8, 8)
    assert overlaps.cases[0].study.names[0] == "kaiming_normal 0"


def test_words_and_tables_say_what_was_found(network, tmp_path):
    run(tmp_path, small_plan(network), network)
    overlaps = read_overlaps(tmp_path)
    studies = [case.study for case in overlaps.cases]
    most = 100 * max(study.iou[np.triu_indices(3, 1)].max() for study in studies[:2])
    assert (
        f"The masks of 3 initializations share no more than {most:.1f} % of the weights that either keeps"
        in overlap_headline(overlaps.cases)
    )
    assert "Of 6 pairs, none is the same network" in overlap_headline(overlaps.cases)
    assert overlap_headline(overlaps.cases).endswith(
        "there are too few draws to tell whether pruned masks share more."
    )
    text = overlaps_text(overlaps)
    for study in studies:
        assert f"{study.aligned_degrees.mean:.4f}" in text
        assert f"{study.aligned_degrees.holm:.3g}" in text
    pairs = list(csv.DictReader(io.StringIO(pairs_csv(overlaps.cases))))
    assert len(pairs) == 3 + 3 + 1
    assert float(pairs[1]["aligned"]) == studies[0].aligned[0, 2]
    assert float(pairs[4][f"iou of {network.spec.layers[1].name}"]) == studies[1].layers[1, 0, 2]
    assert pairs[-1]["signs"] == ""
    tests = list(csv.DictReader(io.StringIO(nulls_csv(overlaps.cases))))
    assert len(tests) == 3 * (6 + 6 + 5)
    assert {row["holm"] == "" for row in tests if row["measure"] == "containment"} == {True}


def test_the_command_goes_on_and_prints_what_is_there(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    add = OverlapStore.add_draws

    def interrupted(store, *arguments):
        add(store, *arguments)
        raise KeyboardInterrupt

    def interrupted_reading(folder):
        raise KeyboardInterrupt

    monkeypatch.setattr(OverlapStore, "add_draws", interrupted)
    assert command(*SMALL, *FEW, "--methods", "synflow,magnitude") == 130
    captured = capsys.readouterr()
    assert "the same command goes on from there" in captured.err
    assert captured.out == ""
    monkeypatch.setattr(OverlapStore, "add_draws", add)
    with monkeypatch.context() as patch:
        # Ctrl-C when all is done but the page.
        patch.setattr("ticketsearch.python.studies.read_overlaps", interrupted_reading)
        assert command(*SMALL, *FEW, "--methods", "synflow,magnitude") == 130
    assert "the same command goes on from there" in capsys.readouterr().err
    assert command(*SMALL, *FEW, "--methods", "synflow,magnitude") == 0
    captured = capsys.readouterr()
    assert "share no more than" in captured.out
    assert "initializations 3 (kaiming_normal, kaiming_uniform, xavier_uniform)" in captured.out
    assert "scope global; schedule exponential" in captured.out
    (folder,) = Path("runs").iterdir()
    assert folder.name.startswith("overlap-mlp-")
    assert {"overlap.html", "overlap.sqlite", "pairs.csv", "nulls.csv"} <= {
        path.name for path in folder.iterdir()
    }
    assert command(*SMALL, *FEW, "--methods", "synflow,magnitude", "--out", "named") == 0
    assert rows(Path("named")) == rows(folder)
    assert command(*SMALL, *FEW, "--methods", "synflow", "--out", "named") == 2
    assert "give the same, or another --out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--methods", "synflow,magnitud"), "did you mean 'magnitude'"),
        (("--methods", ","), "at least one method"),
        (("--densities", "0.1,x"), "numbers with commas between"),
        (("--densities", ""), "numbers with commas between"),
        (("--densities", "0.1;0.2"), "numbers with commas between"),
        (("--densities", "0.00001"), "too few for one in each"),
        (("--densities", "2"), "but got 2"),
        (("--initializations", "1"), "at least 2 initializations"),
        (("--initializations", "two"), "seeding.initializations"),
        (("--draws", "-1"), "--draws takes an integer from 0 up"),
        (("--aligned-draws", "1e3"), "--aligned-draws takes an integer"),
        (("--workers", "0"), "--workers takes an integer from 1 up"),
        (("--scheme", "he"), "unknown initialization scheme 'he'"),
        (("--data", "idx:nowhere"), "nowhere"),
        (("--set", "seeding.density=0.1"), "a study takes --densities"),
        (("--set", "seeding.options.rho=1"), "no option 'rho'"),
        (("nowhere",), "no run in"),
        (("nowhere", "--methods", "snip"), "takes networks and masks from the runs, but got --methods"),
    ],
)
def test_bad_input_is_one_line_and_leaves_no_folder(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert command(*arguments) == 2
    error = capsys.readouterr().err
    assert words in error
    assert len(error.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_winner_is_compared_with_its_seeds_alone(small_run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert command(str(small_run), *FEW, "--workers", "1", "--out", "study") == 0
    assert "A winner and the masks of its first population share no more than" in capsys.readouterr().out
    (case,) = read_overlaps("study").cases
    assert case.title == "winner of small and its first population"
    with Run.open(small_run) as run:
        masks = np.stack([winner(run).mask, *run.seeds().masks])
    assert np.array_equal(case.study.masks, masks)
    assert case.study.uniform.observed == pytest.approx(case.study.iou[0, 1:].mean(), rel=1e-12)
    assert case.study.drawn["uniform"]["iou"].shape == (20,)


def test_winners_of_several_searches_are_compared_with_each_other(small_run, tmp_path, monkeypatch):
    import shutil

    shutil.copytree(small_run, tmp_path / "other")
    with Run.open(small_run) as first, Run.open(tmp_path / "other") as second:
        plan = run_plan([first, second], sizes=Sizes(9, 0))
        refused(lambda: run_plan([first, first]), f"but {first.path} came twice")
        monkeypatch.setattr(second, "results", list)
        refused(lambda: run_plan([first, second]), "'other' is not finished", "--resume other")
        monkeypatch.setattr(second, "spec", first.spec.__class__((), (), (), ()))
        refused(lambda: run_plan([first, second]), "'other' is of another than 'small'")
    run(tmp_path / "study", plan, None)
    overlaps = read_overlaps(tmp_path / "study")
    assert [case.kind for case in overlaps.cases] == ["seeds", "seeds", "winners"]
    assert overlaps.cases[2].study.names == ("small", "other")
    assert overlaps.cases[2].study.identical == 1
    assert overlap_headline(overlaps.cases).startswith("The winners of 2 searches share no more than 100.0 %")


@pytest.mark.full
def test_a_killed_study_goes_on_to_the_same_content(tmp_path):
    arguments = [
        sys.executable,
        "-m",
        "ticketsearch",
        "overlap",
        *SMALL,
        "--methods",
        "synflow",
        "--draws",
        "600",
    ]
    arguments += ["--aligned-draws", "8"]
    for name, kill in (("killed", True), ("killed", False), ("whole", False)):
        process = Popen([*arguments, "--out", name], cwd=tmp_path, stdout=DEVNULL, stderr=PIPE, text=True)
        if kill:
            for line in process.stderr:
                if line.startswith("draws: "):
                    process.kill()
                    break
        process.stderr.read()
        process.stderr.close()
        assert process.wait(timeout=120) == (-9 if kill else 0)
        if kill:
            assert 0 < len(rows(tmp_path / name)["draws"]) < 616
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")
