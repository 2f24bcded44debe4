"""Comparisons: equal budgets, paired trainings, one evaluation on the test set, no work repeated or lost."""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import json
import math
import sqlite3
import sys
from subprocess import DEVNULL, PIPE, Popen

import numpy as np
import pytest
import scipy
import torch
from conftest import refused

import ticketsearch as ts
from ticketsearch import cli
from ticketsearch import settings as config
from ticketsearch.comparison import (
    Cell,
    Comparison,
    ComparisonStore,
    ComparisonWork,
    FinalTraining,
    FoundMask,
    MethodResult,
    comparison_plan,
    differences,
    matched,
    read_comparison,
)
from ticketsearch.comparison import final_training as finals
from ticketsearch.comparison.methods import best_of, evolved, pruned
from ticketsearch.cost import Spent, spending
from ticketsearch.experiment import Search
from ticketsearch.masks import layer_counts
from ticketsearch.models import initialize
from ticketsearch.operators import layer_shuffle
from ticketsearch.pruners import prune
from ticketsearch.random_streams import Stream, seed_sequence
from ticketsearch.report import write_comparisons
from ticketsearch.report.comparison_figures import budget_points, dot_rows
from ticketsearch.report.text import (
    cells_csv,
    comparison_headline,
    comparison_markdown,
    comparison_text,
    differences_csv,
)
from ticketsearch.runs import Run
from ticketsearch.statistics import bootstrap, holm, paired, smallest_p
from ticketsearch.training import live_operations

pytestmark = pytest.mark.slow

DATA = """
import numpy as np
import ticketsearch as ts

def load(flipped=False):
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, 7))
    parts = {}
    for part, size in (("train", 61), ("validation", 45), ("test", 33)):
        y = rng.permutation(np.arange(size) % 3)
        x = (centres[y] + rng.normal(scale=0.7, size=(size, 7))).astype(np.float32)
        parts[part] = (x, (y + 1) % 3 if flipped and part == "test" else y)
    return ts.Dataset(
        name="small",
        classes=3,
        **{f"{axis}_{part}": __import__("torch").from_numpy(both[i])
           for part, both in parts.items() for i, axis in enumerate("xy")},
    )
"""
SMALL = {
    "model.name": "mlp:6,5",
    "training.steps": 8,
    "training.batch": 16,
    "training.device": "cpu",
    "evolution.population": 4,
    "evolution.generations": 2,
    "evolution.elites": 1,
    "seeding.initializations": 2,
    "seeding.options": {"training_steps": 3},
    "final.steps": 6,
    "final.orders": 2,
    "final.candidates": 2,
}
SEARCHES = ("imp_best", "random_search", "one_plus_lambda")
ALL = ("dense", "random", "synflow", "snip", "imp", *SEARCHES, "evolution")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    file = tmp_path_factory.mktemp("data") / "small.py"
    file.write_text(DATA)
    return f"{file}:load"


@pytest.fixture(scope="module")
def settings(data):
    return config.load(None, {**SMALL, "data.name": data}.items())


@pytest.fixture(scope="module")
def whole(settings, tmp_path_factory):
    """The folder of a comparison of all kinds of methods."""
    folder = tmp_path_factory.mktemp("whole") / "all"
    run(folder, plan_of(settings))
    return folder


def plan_of(settings, methods=ALL, densities=(0.4, 0.2), **options):
    return comparison_plan(settings, methods, densities, **{"initializations": 2, **options})


def run(folder, plan, workers=1, steps=None):
    """ComparisonWork a plan off, or its first steps; return what they were of."""
    done = []
    with ComparisonStore.create(folder, plan) as store:
        for step in ComparisonWork(plan, store, workers).steps():
            done.append(step.what)
            if len(done) == steps:
                break
    return done


def rows(folder, *names):
    """All that a comparison holds, or some tables of it."""
    with sqlite3.connect(folder / "compare.sqlite") as connection:
        found = {
            name: connection.execute(f"SELECT * FROM {name} ORDER BY 1, 2").fetchall()
            for name in names or ("meta", "cells", "results")
        }
    connection.close()
    return found


def cells_of(folder):
    with ComparisonStore.open(folder) as store:
        return store.cells()


def search_of(plan, cell):
    return Search.prepare(config.Settings.model_validate_json(plan.settings_of(cell)))


def test_pruners_train_by_the_recipe_of_the_search_unless_their_options_say_otherwise(settings):
    given = {
        "training.lr_schedule": "cosine",
        "training.lr": 0.1,
        "seeding.options": {"training_steps": 3, "lr": 1.0},
    }
    plan = plan_of(config.apply(settings, [*given.items(), ("seeding.method", "imp")]))
    recipe = {"lr_schedule": "cosine", "lr": 1.0, "training_batch": 16, "training_steps": 3}
    assert recipe.items() <= plan.options["imp"].items()
    search = search_of(plan, Cell("evolution", 0.4, 0))
    assert recipe.items() <= search.settings.seeding.options.items()
    masks = [made.mask for made in pruned([search], "imp", plan.options["imp"])]
    constant = pruned([search], "imp", plan.options["imp"] | {"lr_schedule": "constant"})
    assert not np.array_equal(masks, [made.mask for made in constant])


def test_searches_spend_at_least_what_the_evolution_did(whole):
    cells = cells_of(whole)
    assert len(cells) == 2 + 8 * 2 * 2
    for cell, made in cells.items():
        spent = cells[cell._replace(method="evolution")].spent if cell.method != "dense" else Spent()
        if cell.method in SEARCHES:
            assert made.spent.flops >= spent.flops > 0, cell
            assert made.best_so_far[-1][0] <= made.spent.flops
            assert [flops for flops, _ in made.best_so_far] == sorted(
                {flops for flops, _ in made.best_so_far}
            )
        elif cell.method in ("dense", "random", "synflow", "snip"):
            assert made.spent == Spent()
        kept = 1.0 if cell.method == "dense" else cell.density
        assert made.mask.sum() == round(kept * len(made.mask)), cell


def test_searches_pay_for_no_guidance_that_they_do_not_use(whole, settings):
    cells = cells_of(whole)
    search = search_of(plan_of(settings), Cell("one_plus_lambda", 0.4, 0))
    assert search.fitness.options.candidates is not None  # the evolution's are guided
    live = live_operations(search.network.wiring, cells[Cell("synflow", 0.4, 0)].mask[None])
    began = cells[Cell("one_plus_lambda", 0.4, 0)].best_so_far[0][0]
    assert began == spending(live, steps=8, batch=16, samples=45).flops


def test_an_evolution_is_a_run_whose_generations_and_choosing_are_counted(whole, settings):
    cell = Cell("evolution", 0.2, 1)
    made = cells_of(whole)[cell]
    with Run.open(whole / "searches" / "density-0.2-1") as opened:
        own = sum((generation.spent for generation in opened.generations()), Spent())
        results = opened.results()
        masks = {ticket.number: ticket.mask for ticket in opened.population(2)}
        assert opened.settings.seed == 1
    assert {result.part for result in results} == {"validation"}
    means = {n: np.mean([r.accuracy for r in results if r.ticket == n]) for n in {r.ticket for r in results}}
    best = max(means, key=means.get)
    assert np.array_equal(made.mask, masks[best])
    assert made.validation == means[best]
    search = search_of(plan_of(settings), cell)
    live = live_operations(search.network.wiring, np.stack([masks[number] for number in means]))
    assert made.spent == own + spending(np.repeat(live, 2), steps=6, batch=16, samples=45)


def test_every_round_of_imp_is_counted(settings):
    search = search_of(plan_of(settings), Cell("imp", 0.4, 0))
    options = {"training_steps": 3, "training_batch": 16, "rewind": 2}
    (made,) = pruned([search], "imp", options)
    spec, wiring = search.network.spec, search.network.wiring
    masks = [np.ones(spec.size, dtype=bool)]
    prune(
        search.network,
        "imp",
        density=0.4,
        dataset=search.dataset,
        seed=int(seed_sequence(0, Stream.PRUNING).generate_state(1)[0]),
        callback=lambda cut: masks.append(np.isin(np.arange(spec.size), cut.numbers[cut.kept])),
        **options,
    )
    assert np.array_equal(made.mask, masks[-1])
    assert len(masks) == 1 + 5  # 0.8^5 < 0.4
    flops = sum(6 * 16 * 3 * int(live) for live in live_operations(wiring, np.stack(masks[:-1])))
    flops += 6 * 16 * 2 * int(live_operations(wiring, np.stack(masks[:1]))[0])
    assert made.spent == Spent(0, 5 * 3 + 2, flops)


def test_the_best_of_is_chosen_by_validation_among_those_that_the_budget_pays(settings):
    search = search_of(plan_of(settings), Cell("imp_best", 0.4, 0))
    options = {"training_steps": 3, "training_batch": 16}
    one = best_of(search, "imp", options, 1)
    assert one.candidates == 1
    assert one.spent.evaluations == 2  # two data orders on validation data
    first = pruned([search], "imp", options)[0]
    several = best_of(search, "imp", options, 3 * one.spent.flops, first)
    assert several.candidates in (3, 4)
    assert several.spent.flops >= 3 * one.spent.flops
    made = pruned([search] * several.candidates, "imp", options, range(several.candidates))
    assert np.array_equal(made[0].mask, first.mask)
    assert any(np.array_equal(several.mask, other.mask) for other in made)
    assert [accuracy for _, accuracy in several.best_so_far] == sorted(
        accuracy for _, accuracy in several.best_so_far
    )
    assert several.validation == several.best_so_far[-1][1] >= one.validation


def test_test_data_are_read_by_the_final_trainings_alone(settings, whole, data, tmp_path):
    """Other labels of the test part change no mask, no budget and no choice."""
    flipped = config.apply(settings, [("data.options", {"flipped": True})])
    plan = plan_of(flipped, densities=(0.2,), initializations=1)
    run(tmp_path / "flipped", plan)
    other = {row[:3]: row for row in rows(tmp_path / "flipped", "cells")["cells"]}
    same = {row[:3]: row for row in rows(whole, "cells")["cells"] if row[:3] in other}
    assert len(other) == 9
    assert same == other
    first, second = (read_comparison(folder).at(0.2)[0] for folder in (whole, tmp_path / "flipped"))
    assert first.accuracies[0] != second.accuracies[0]


def test_interruptions_change_nothing_and_nothing_is_made_twice(settings, whole, tmp_path):
    plan = plan_of(settings)
    done = []
    for stop in (3, 9, 14):
        done += run(tmp_path / "parts", plan, steps=stop)
    done += run(tmp_path / "parts", plan)
    assert rows(tmp_path / "parts") == rows(whole)
    kinds = list(dict.fromkeys(done))
    assert kinds == ["evolutions", "pruned masks", "other searches", "final trainings"]
    assert done == sorted(done, key=kinds.index)  # others begin when the evolution has said what it spent
    assert {kind: done.count(kind) for kind in kinds} == {
        "evolutions": 4,
        "pruned masks": 8,
        "other searches": 12,
        "final trainings": 2 + 7 * 4 + 3 * 4,
    }
    assert run(tmp_path / "parts", plan) == []


def test_an_evolution_that_was_interrupted_goes_on(settings, whole, tmp_path):
    search = search_of(plan_of(settings), Cell("evolution", 0.4, 0))
    steps = search.generations

    def interrupted(run):
        for generation in steps(run):
            yield generation
            if generation.number == 1:
                raise KeyboardInterrupt

    object.__setattr__(search, "generations", interrupted)
    with pytest.raises(KeyboardInterrupt):
        evolved(search, tmp_path, "one")
    with Run.open(tmp_path / "one") as opened:
        assert opened.progress() == 1
    made = evolved(search_of(plan_of(settings), Cell("evolution", 0.4, 0)), tmp_path, "one")
    other = config.apply(settings, [("training.lr", 0.1)])
    search = search_of(plan_of(other), Cell("evolution", 0.4, 0))
    refused(lambda: evolved(search, tmp_path, "one"), "training.lr is 0.05 in 'one' and 0.1 here")
    expected = cells_of(whole)[Cell("evolution", 0.4, 0)]
    assert np.array_equal(made.mask, expected.mask)
    assert made._replace(mask=None) == expected._replace(mask=None, seconds=None)


def test_an_evolution_has_no_denser_masks_than_others(settings, tmp_path):
    annealed = config.apply(settings, [("evolution.start_density", 0.8), ("evolution.annealed", 0.5)])
    cell = Cell("evolution", 0.2, 0)
    made = evolved(search_of(plan_of(annealed, ["evolution"]), cell), tmp_path, "one")
    assert made.mask.sum() == round(0.2 * len(made.mask))
    with Run.open(tmp_path / "one") as opened:
        spent = np.cumsum([generation.spent.flops for generation in opened.generations()])
        assert opened.population(0)[0].mask.sum() > made.mask.sum()
    assert {flops for flops, _ in made.best_so_far} <= set(spent[1:])
    short = config.apply(annealed, [("evolution.generations", 0)])
    search = search_of(plan_of(short, ["evolution"]), cell)
    refused(lambda: evolved(search, tmp_path, "dense"), "must end at density 0.2", "evolution.annealed")


def test_a_comparison_of_when_there_was_a_setting_more_goes_on(settings, tmp_path):
    plan = plan_of(settings, ["synflow"], [0.4])
    assert run(tmp_path / "old", plan)
    stored = settings.model_dump(mode="json")
    stored["seeding"]["repeats"] = 1
    with sqlite3.connect(tmp_path / "old" / "compare.sqlite") as connection:
        connection.execute("UPDATE meta SET value = ? WHERE key = 'settings'", (json.dumps(stored),))
    connection.close()
    assert run(tmp_path / "old", plan) == []
    assert run(tmp_path / "old", plan_of(settings, ["synflow"], [0.4, 0.2]))


@pytest.mark.full
def test_more_of_everything_is_added_to_what_is_there(settings, whole, tmp_path):
    run(tmp_path / "grown", plan_of(settings, ("dense", "evolution"), (0.2,), initializations=1, orders=1))
    first = rows(tmp_path / "grown")
    done = run(tmp_path / "grown", plan_of(settings))
    assert "evolutions" in done
    grown = rows(tmp_path / "grown")
    assert grown == rows(whole)
    assert set(first["results"]) < set(grown["results"])
    assert done.count("evolutions") == 3


@pytest.mark.full
def test_any_number_of_workers_gives_the_same(settings, whole, tmp_path):
    run(tmp_path / "two", plan_of(settings), workers=2)
    assert rows(tmp_path / "two") == rows(whole)


def test_all_methods_of_an_initialization_begin_alike_and_see_the_same_orders(settings):
    plan = plan_of(settings)
    for number in (0, 1):
        searches = [
            search_of(plan, Cell(method, density, number))
            for method, density in (("dense", 1.0), ("imp", 0.4), ("evolution", 0.2))
        ]
        assert len({search.network.initialization for search in searches}) == 1
        mask = prune(searches[0].network, "synflow", density=0.2)
        found = [finals.tested(search, mask, "", [0, 1]) for search in searches]
        assert all(np.array_equal(found[0].accuracy, other.accuracy) for other in found)
        assert all(np.array_equal(found[0].loss, other.loss) for other in found)
        assert found[0].loss[0] != found[0].loss[1]
        assert np.array_equal(finals.tested(searches[0], mask, "", [1]).loss, found[0].loss[1:])


def test_final_trainings_are_those_of_a_search(settings):
    """The same mask, data orders and steps give what the last stage of ``evolve`` gives."""
    search = search_of(plan_of(settings), Cell("evolution", 0.4, 1))
    mask = prune(search.network, "synflow", density=0.4)
    found = finals.tested(search, mask, "", [0, 1])
    orders = [seed_sequence(1, Stream.REPORTING, order) for order in (0, 1)]
    recipe = search.fitness.recipe.__class__(steps=6, batch=16)
    same = search.fitness.trained(np.stack([mask] * 2), recipe, orders, part="test")
    assert np.array_equal(found.accuracy, same.accuracy)
    np.testing.assert_allclose(found.loss, same.loss, rtol=1e-6)


def test_controls_are_shuffled_masks_and_other_weights_of_the_same_scale(settings, monkeypatch):
    search = search_of(plan_of(settings), Cell("evolution", 0.4, 0))
    spec = search.network.spec
    mask = layer_shuffle(
        prune(search.network, "synflow", density=0.4), spec=spec, rng=np.random.default_rng(1)
    )
    seen = {}
    cohort = finals.Cohort

    def watched(wiring, masks, initial, **options):
        seen["masks"], seen["initial"] = masks, initial
        return cohort(wiring, masks, initial, **options)

    monkeypatch.setattr(finals, "Cohort", watched)
    finals.tested(search, mask, "shuffled", [0, 1])
    for shuffled in seen["masks"]:
        assert np.array_equal(layer_counts(shuffled, spec), layer_counts(mask, spec))
        assert not np.array_equal(shuffled, mask)
    assert not np.array_equal(*seen["masks"])
    original = search.network.parameters()
    assert all(torch.equal(seen["initial"][0][name], value) for name, value in original.items())
    finals.tested(search, mask, "reinitialized", [0, 1])
    assert np.array_equal(seen["masks"], np.stack([mask] * 2))
    for tensors in seen["initial"]:
        for name, part in spec.split(mask).items():
            kept = torch.from_numpy(part.copy())
            sizes = [tensor[name][kept].square().mean() for tensor in (tensors, original)]
            torch.testing.assert_close(*sizes)
            assert not torch.equal(tensors[name], original[name])
    name = spec.layers[0].name
    assert not torch.equal(seen["initial"][0][name], seen["initial"][1][name])


def test_weights_are_matched_where_there_are_any(tiny):
    network = initialize("mlp:4", tiny)
    spec = network.spec
    mask = np.zeros(spec.size, dtype=bool)
    mask[3] = True
    original, other = network.parameters(), network.reinitialized("sparse", 3).parameters()
    found = matched(other, original, mask, spec)
    first, second = (layer.name for layer in spec.layers)
    expected = 0.0 if other[first].flatten()[3] == 0 else abs(float(original[first].flatten()[3]))
    assert abs(float(found[first].flatten()[3])) == pytest.approx(expected)
    assert torch.equal(found[second], other[second])


NOTHING = np.zeros(0, dtype=bool)


def made_up(accuracies, name="made up"):
    """A comparison of given accuracies ``{(method, density): values}``."""
    results = tuple(
        MethodResult(
            method, density, dict(enumerate(values)), dict.fromkeys(range(len(values)), FoundMask(NOTHING))
        )
        for (method, density), values in accuracies.items()
    )
    return Comparison(name, config.Settings(), 3, results, ())


def test_families_of_tests_are_corrected_apart_and_over_all_comparisons():
    rng = np.random.default_rng(0)
    masks = ("imp", "imp_best", "evolution", "evolution/shuffled")
    keys = [("dense", 1.0), *itertools.product(masks, (0.2, 0.1))]
    comparisons = [
        made_up({key: rng.normal(number / 4, 1, 8) for number, key in enumerate(keys)}, name)
        for name in ("a", "b")
    ]
    found = differences(comparisons)
    assert {one.reference for one in found} == {"evolution"}
    first = [one for one in found if one.other == "imp_best"]
    assert [(one.comparison, one.density, one.family) for one in first] == [
        (name, density, "imp_best") for name in ("a", "b") for density in (0.2, 0.1)
    ]
    others = [
        [one for one in found if (one.comparison, one.family) == own]
        for own in itertools.product(("a", "b"), ("methods", "controls"))
    ]
    assert [len(own) for own in others] == [4, 2, 4, 2]
    assert {one.other for one in others[1]} == {"evolution/shuffled"}
    for family in (first, *others):
        assert [one.holm for one in family] == holm([one.test.permutation for one in family])
    alone = [one for one in differences(comparisons[:1]) if one.other == "imp_best"]
    assert [one.holm for one in alone] == holm([one.test.permutation for one in first[:2]])
    pairs = {one.method: np.mean(list(one.accuracies.values())) for one in comparisons[1].at(0.1)}
    expected = pairs["evolution"] - pairs["dense"]
    (dense,) = (one for one in found if (one.comparison, one.density, one.other) == ("b", 0.1, "dense"))
    assert dense.test.difference.mean == pytest.approx(expected)


def test_the_dense_network_alone_has_a_table_and_a_page(tmp_path):
    comparison = made_up({("dense", 1.0): [0.5, 0.6]})
    assert comparison.densities == [1.0]
    assert any(line.split()[:2] == ["dense", "0.5500"] for line in comparison_text(comparison).splitlines())
    assert "0.5500" in write_comparisons([comparison], tmp_path / "page.html").read_text()


def test_one_density_has_a_row_of_initializations_a_method_and_several_have_lines(tmp_path):
    one = {("dense", 1.0): [0.9], ("imp", 0.1): [0.5, 0.6, 0.7], ("evolution", 0.1): [0.6, 0.8]}
    comparison = made_up(one)
    rows = dot_rows(comparison, 0.1)
    assert [row.method for row in rows] == ["dense", "imp", "evolution"]
    assert [row.accuracies.tolist() for row in rows] == list(one.values())
    assert [row.accuracy for row in rows[1:]] == [bootstrap(np.array(one[key])) for key in list(one)[1:]]
    page = write_comparisons([comparison], tmp_path / "one.html").read_text()
    parts = ["<h1>", "With 2", "Density 0.1: evolution minus imp", "Test accuracy at density 0.1", "<table"]
    places = [page.index(part) for part in parts]
    assert places == sorted(places)
    assert "Test accuracy against density" not in page
    page = write_comparisons([made_up(one | {("imp", 0.2): [0.7]})], tmp_path / "two.html").read_text()
    assert "Test accuracy against density" in page
    assert "Test accuracy at density" not in page


def test_the_headline_is_the_difference_to_imp_best_or_the_most_accurate_other_method():
    accuracies = {("dense", 1.0): [0.9] * 6, ("imp", 0.1): np.arange(6) / 9, ("snip", 0.1): [0.1] * 6}
    accuracies |= {("evolution", 0.1): np.arange(6) / 9 + 0.05, ("evolution/shuffled", 0.1): [0.95] * 6}
    (line,) = comparison_headline(differences([made_up(accuracies)]))
    assert line == (
        "Density 0.1: evolution minus imp is +5.00 points of test accuracy (95 % +5.00 to +5.00), "
        "corrected p = 0.094."
    )
    with_best = accuracies | {("imp_best", 0.1): [0.0] * 6}
    first, second = comparison_headline(differences([made_up(with_best)]))
    assert first.startswith("Density 0.1: evolution minus imp_best is +")
    assert "in 0 of 1 tests" in second or "in 1 of 1 tests" in second
    controls = {key: value for key, value in accuracies.items() if key[0].startswith("evolution")}
    assert comparison_headline(differences([made_up(controls)])) == []
    (line,) = comparison_headline(differences([made_up({**controls, ("dense", 1.0): [0.9] * 6})]))
    assert "evolution minus dense is −" in line
    first, *_ = comparison_headline(differences([made_up({("imp", 0.1): [0.5], ("snip", 0.1): [0.4]})]))
    assert first.startswith("With one initialization no test can be significant: p is at least 1 (2/2^1)")


def test_one_data_order_is_called_one_and_has_no_deviation():
    for orders, words in ((1, "on one data order, "), (3, "on 3 data orders, ")):
        comparison = made_up({("imp", 0.1): [0.5, 0.6]})
        text = comparison_text(dataclasses.replace(comparison, orders=orders))
        assert words in text
        assert "±" not in text


def test_a_pruner_in_a_folder_is_a_method_and_no_control():
    names = ("own/file.py:scores", "evolution", "evolution/shuffled")
    comparison = made_up({(name, 0.1): [0.5, 0.6] for name in names})
    found = {one.other: one.family for one in differences([comparison])}
    assert found == {"own/file.py:scores": "methods", "evolution/shuffled": "controls"}
    assert [point.method for point in budget_points(comparison, 0.1)] == list(names[:2])


def test_differences_are_paired_over_the_initializations_that_both_have():
    comparison = made_up({("imp", 0.1): [0.5, 0.6, 0.7], ("evolution", 0.1): [0.6, 0.8]})
    (one,) = differences([comparison])
    assert one.test.pairs == 2
    assert one.test.difference.mean == pytest.approx(0.15)
    refused(lambda: differences([comparison], "evolutoin"), "did you mean 'evolution'")
    refused(lambda: differences([comparison] * 2), "have different names, but got made up, made up")
    (turned,) = differences([comparison], "imp")
    assert turned.test.difference.mean == pytest.approx(-0.15)


@pytest.mark.parametrize("count", [3, 6, 10])
def test_paired_tests_are_exact(count):
    values = np.random.default_rng(count).normal(0.5, 1, count)
    found = paired(values)
    assert found.wilcoxon == pytest.approx(scipy.stats.wilcoxon(values, method="exact").pvalue)
    expected = scipy.stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=np.inf
    ).pvalue
    assert found.permutation == pytest.approx(expected)
    assert paired(np.abs(values)).permutation == smallest_p(count) == 2 / 2**count
    assert found.difference.low < found.difference.mean < found.difference.high


def test_tests_of_nothing_and_of_many():
    assert paired(np.zeros(4))[2:] == (1.0, 1.0)
    assert math.isnan(paired(np.array([0.3])).difference.low)
    many = np.random.default_rng(0).normal(1, 0.1, 40)
    assert paired(many).permutation == pytest.approx(smallest_p(40), rel=0.5)
    assert paired(many - many.mean()).permutation > 0.5


def test_an_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = [low < 0 < high for _, low, high in (bootstrap(rng.normal(size=10)) for _ in range(600))]
    assert 0.93 < np.mean(covered) < 0.97


def test_words_and_tables_say_what_was_found(whole):
    comparison = read_comparison(whole)
    assert comparison.densities == [0.4, 0.2]
    assert comparison.orders == 2
    assert comparison.methods == [
        *("dense", "random", "snip", "synflow", "imp", "one_plus_lambda", "random_search", "imp_best"),
        *("evolution", "evolution/shuffled", "evolution/reinitialized"),
    ]
    with ComparisonStore.open(whole) as store:
        results = store.results()
    own = results[FinalTraining(Cell("imp", 0.4, 1), "")]
    (result,) = (s for s in comparison.at(0.4) if s.method == "imp")
    assert result.accuracies[1] == np.mean([own[order].accuracy for order in (0, 1)])
    text = comparison_text(comparison)
    assert f"{result.accuracy.mean:.4f}" in text
    assert "Density 0.4" in text
    assert "over 2 initializations, 2 in all, corrected together" in text
    first, *differing = text.splitlines()[:3]
    assert first == (
        "With 2 initializations no test can be significant: p is at least 0.5 (2/2^2); that takes 6 "
        "initializations or more."
    )
    for line, density in zip(differing, comparison.densities, strict=True):
        (one,) = (d for d in differences([comparison]) if (d.density, d.other) == (density, "imp_best"))
        mean, low, high = (f"{100 * value:+.2f}".replace("-", "−") for value in one.test.difference)
        assert line == (
            f"Density {density}: evolution minus imp_best is {mean} points of test accuracy "
            f"(95 % {low} to {high}), corrected p = {one.holm:.2g}."
        )
    assert text.count("can be significant") == 1
    cells = list(csv.DictReader(io.StringIO(cells_csv([comparison]))))
    assert len(cells) == sum(len(result.accuracies) for result in comparison.results)
    table = list(csv.DictReader(io.StringIO(differences_csv(differences([comparison])))))
    assert len(table) == 2 * 10
    assert {row["family"] for row in table if row["other"] == "imp_best"} == {"imp_best"}
    marked = comparison_markdown([comparison]).splitlines()
    rows = [line.strip("|").split(" | ") for line in marked if line.startswith("| ")]
    assert {len(row) for row in rows} == {9}
    assert marked.index("### Density 0.4") < marked.index("### Density 0.2")
    (found,) = (one for one in differences([comparison]) if (one.density, one.other) == (0.2, "imp"))
    (row,) = (row for row in rows[len(rows) // 2 :] if row[0].strip() == "imp")
    assert row[6].startswith(f"{found.test.difference.mean:+.4f}".replace("-", "−"))
    assert row[7] == f"{found.holm:.2g}"


def test_lines_are_the_text_and_deprecated(whole):
    comparison = read_comparison(whole)
    with pytest.warns(DeprecationWarning, match=r"call ts\.comparison_text"):
        lines = comparison.lines("imp")
    assert lines == ts.comparison_text([comparison], "imp").splitlines()


def test_enough_initializations_may_still_be_too_few_for_a_family():
    def said(count, densities):
        accuracies = {(m, d): np.arange(count) / 9 for m in ("imp_best", "evolution") for d in densities}
        return comparison_text(made_up(accuracies))

    assert said(5, (0.1,)).startswith("With 5 initializations no test can be significant: p is at least 0.0")
    assert "p is at least" not in said(6, (0.1,))
    assert "the smallest of 2 cannot fall below 0.05" in said(6, (0.1, 0.2))
    assert "cannot" not in said(10, (0.1, 0.2))


def test_a_comparison_in_python_is_made_once(settings, tmp_path):
    arguments = {"folder": tmp_path / "one", "initializations": 2, "budget": 1}
    found = ts.compare(settings, ["synflow", "random_search"], [0.4], **arguments)
    before = rows(tmp_path / "one")
    again = ts.compare(settings, ["synflow", "random_search"], [0.4], **arguments)
    assert ts.comparison_text(again) == ts.comparison_text(found)
    assert rows(tmp_path / "one") == before
    assert [result.method for result in found.results] == ["synflow", "random_search"]
    assert ts.comparison_text(ts.read_comparison(tmp_path / "one")) == ts.comparison_text(found)
    other = config.apply(settings, [("training.lr", 0.1)])
    refused(
        lambda: ts.compare(other, ["synflow"], [0.4], **arguments),
        "training.lr is 0.05 in",
        "0.1 here",
    )
    refused(
        lambda: ts.compare(settings, ["synflow"], [0.4], **arguments | {"budget": 2}), "the budget is 1 in"
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"methods": ["sinflow"]}, "did you mean 'synflow'"),
        ({"methods": []}, "at least one method and one density"),
        ({"densities": []}, "at least one method and one density"),
        ({"methods": ["snip", "snip"]}, "methods of a comparison must be different ones"),
        ({"densities": [0.2, 0.2]}, "densities of a comparison must be different ones"),
        ({"densities": [1.5]}, "1.5"),
        ({"densities": [1e-6]}, "too few for one in each"),
        ({"methods": ["imp_best"]}, "imp_best gets the budget of the evolution, which is not compared"),
        ({"methods": ["evolution"], "budget": 5}, "but got a budget of 5 too"),
        ({"methods": ["imp_best"], "budget": 0}, "budget is an integer from 1 up, but got 0"),
        ({"controls": ["snip"]}, "controls are of methods that are compared"),
        ({"methods": ["dense"], "controls": ["dense"]}, "and not of 'dense'"),
        ({"initializations": 0}, "initializations is an integer from 1 up, but got 0"),
        ({"orders": 0}, "orders is an integer from 1 up, but got 0"),
        ({"seeding.density": 0.3}, "but seeding.density is 0.3"),
        ({"final.contenders": "imp"}, "a comparison lists its methods, but got final.contenders 'imp'"),
        ({"training.initialization": "own"}, "training.initialization is 'own'"),
        ({"training.masking": "gradient"}, "pruned weights take part too"),
        ({"seeding.tickets": ["best.safetensors"]}, "counts the whole cost of a mask"),
        ({"fitness.name": "nowhere.py:build"}, "only fitness 'short_training' reports"),
        ({"seeding.options": {"rho": 1}}, "no option 'rho'"),
    ],
)
def test_bad_plans_are_refused(settings, change, words):
    own = {name: value for name, value in change.items() if "." in name}
    given = {"methods": ["synflow"], "densities": [0.2]}
    given |= {name: value for name, value in change.items() if "." not in name}
    refused(lambda: comparison_plan(config.apply(settings, own.items()), **given), words)


def command(*arguments):
    """Run the command line; return its exit code."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["compare", *arguments])
    return ended.value.code


def flags(data, *more):
    given = [f"{name}={value}" for name, value in SMALL.items() if not isinstance(value, dict)]
    given += ["seeding.options.training_steps=3"]
    return [*(word for each in given for word in ("--set", each)), "--data", data, "--workers", "1", *more]


def test_the_command_goes_on_and_prints_what_is_there(data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = flags(data, "--methods", "dense,imp,imp_best,evolution", "--densities", "0.4")
    arguments += ["--initializations", "2"]
    add = ComparisonStore.add_results

    def interrupted(store, *given):
        add(store, *given)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ComparisonStore, "add_results", interrupted)
        assert command(*arguments) == 130
    captured = capsys.readouterr()
    assert "the same command goes on from there" in captured.err
    assert captured.out == ""
    assert command(*arguments) == 0
    captured = capsys.readouterr()
    assert "evolution minus" in captured.out
    assert "final trainings" in captured.err
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("compare-small-mlp-")
    files = {path.name for path in folder.iterdir()}
    assert {"compare.html", "compare.sqlite", "cells.csv", "differences.csv", "searches"} <= files
    assert command(*arguments, "--out", "named", "--reference", "imp") == 0
    assert "imp minus" in capsys.readouterr().out
    assert rows(tmp_path / "named") == rows(folder)
    assert command(str(folder), "named", "--out", "both") == 0
    out = capsys.readouterr().out
    assert "over 2 initializations, 2 in all, corrected together" in out
    page = (tmp_path / "both" / "compare.html").read_text()
    assert page.count("<svg") == 2 * 3
    assert command(str(folder / "searches")) == 2
    assert "no comparison in" in capsys.readouterr().err
    assert command(str(folder), "--methods", "snip") == 2
    assert "but got --methods" in capsys.readouterr().err
    assert command(str(folder), "--initializations", "20") == 2
    assert "but got --initializations" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        cli.main(["report", str(folder / "searches" / "density-0.4-0")])
    assert ended.value.code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--methods", "dense,magnitud"), "did you mean 'magnitude'"),
        (("--densities", "0.1;0.2"), "numbers with commas between"),
        (("--initializations", "two"), "--initializations takes an integer from 1 up"),
        (("--orders", "0"), "--orders takes an integer from 1 up"),
        (("--workers", "0"), "--workers takes an integer from 1 up"),
        (("--budget", "much"), "--budget takes a number of FLOPs"),
        (("--methods", "imp_best"), "add 'evolution' to the methods"),
        (("--methods", "snip", "--reference", "snap"), "did you mean 'snip'"),
        (("nowhere.toml",), "no settings file 'nowhere.toml'"),
        (("a.toml", "b.toml"), "settings are one file, but got 2"),
        (("--set", "seeding.density=0.1"), "give --densities"),
    ],
)
def test_bad_input_is_one_line_and_leaves_no_folder(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert command("--model", "mlp:5", *arguments) == 2
    error = capsys.readouterr().err
    assert words in error
    assert len(error.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.full
def test_a_killed_comparison_goes_on_to_the_same_content(data, tmp_path):
    arguments = flags(
        data, "--methods", "imp,imp_best,evolution", "--densities", "0.4", "--initializations", "2"
    )
    start = [sys.executable, "-m", "ticketsearch", "compare", *arguments]
    for name, kill in (("killed", True), ("killed", False), ("whole", False)):
        process = Popen([*start, "--out", name], cwd=tmp_path, stdout=DEVNULL, stderr=PIPE, text=True)
        if kill:
            for line in process.stderr:
                if line.startswith("evolutions: "):
                    process.kill()
                    break
        process.stderr.read()
        process.stderr.close()
        assert process.wait(timeout=120) == (-9 if kill else 0)
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")
