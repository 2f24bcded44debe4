"""The answers at the head of a run's page and summary, its course by generation, and added contenders."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from conftest import refusal

from ticketsearch import experiment, report
from ticketsearch import settings as config
from ticketsearch.experiment.contenders import added_mask, cheap_contender, imp_cost, search_cost
from ticketsearch.overlap import diversity
from ticketsearch.pruners import prune
from ticketsearch.report import text
from ticketsearch.report.null_strip import strip_rows
from ticketsearch.report.text import answers
from ticketsearch.runs import ContenderRow, Run, contender_rows, queries
from ticketsearch.runs.results import added_pruners
from ticketsearch.statistics import bootstrap
from ticketsearch.tickets import Ticket, Tickets

pytestmark = pytest.mark.slow


@pytest.fixture
def run(small_run):
    with Run.open(small_run) as opened:
        yield opened


def planted(monkeypatch, run, **accuracies):
    """Give the run a final table of these accuracies by data order; the first row is the winner's."""
    rows = [
        ContenderRow(name.replace("_", " "), 0.1, 0.1, float(np.mean(values)), 0.0, 1.0, 0.0, tuple(values))
        for name, values in accuracies.items()
    ]
    named = {
        "synflow": "synflow, same initialization",
        "imp": "imp, same initialization",
        "best": "best ticket",
    }
    rows = [row._replace(contender=named.get(row.contender, row.contender)) for row in rows]
    monkeypatch.setattr(answers, "contender_rows", lambda _: rows)


# The first sentence


def test_the_first_sentence_ranks_the_winner_and_says_what_was_not_run(run, monkeypatch):
    planted(monkeypatch, run, best=(0.95, 0.96, 0.97), synflow=(0.92, 0.929, 0.938), dense=(0.96, 0.96, 0.96))
    assert answers.winner_sentence(run) == (
        "The winner is 3.1 points above SynFlow's mask and level with the dense network; iterative magnitude "
        "pruning at this budget was not run: `ticketsearch compare`."
    )
    assert text.answer_lines(run)[-1].endswith(
        "networks are level where the 95 % bootstrap interval of the difference, paired over 3 data orders, "
        "includes 0."
    )


def test_with_the_row_of_imp_the_sentence_compares_with_it(run, monkeypatch):
    monkeypatch.setattr(run, "contenders", ["imp"])
    planted(monkeypatch, run, best=(0.9, 0.9), synflow=(0.8, 0.8), imp=(0.904, 0.904), dense=(0.9, 0.9))
    assert answers.winner_sentence(run) == (
        "The winner is 10.0 points above SynFlow's mask, 0.4 points below iterative magnitude pruning's mask "
        "and level with the dense network."
    )


def test_a_mask_of_another_density_is_named_with_it(run, monkeypatch):
    planted(monkeypatch, run, best=(0.9, 0.9), synflow=(0.8, 0.8), dense=(0.9, 0.9))
    rows = answers.contender_rows(run)
    monkeypatch.setattr(answers, "contender_rows", lambda _: [rows[0]._replace(density=0.23), *rows[1:]])
    assert answers.winner_sentence(run).startswith(
        "The winner is 10.0 points above SynFlow's mask of density 0.1 and level with the dense network;"
    )


def test_of_one_data_order_there_is_no_interval_and_the_note_says_so(run, monkeypatch):
    settings = config.apply(run.settings, [("final.orders", 1)])
    monkeypatch.setattr(run, "settings", settings)
    planted(monkeypatch, run, best=(0.9,), synflow=(0.9,), dense=(0.8998,))
    synflow, dense = answers.advantages(run)
    assert (synflow.level, dense.level) == (True, False)
    assert answers.points_cell(synflow) == ("+0.0",)
    assert "0.02 points above the dense network" in answers.winner_sentence(run)
    assert "small differences may be chance" in text.answer_lines(run)[-1]


def test_advantages_are_paired_by_data_order(run):
    best, *others = contender_rows(run)
    for row, advantage in zip(others, text.advantages(run), strict=True):
        differences = np.array(best.accuracies) - np.array(row.accuracies)
        assert advantage.contender == row.contender
        assert advantage.difference == bootstrap(differences)
        assert advantage.level == (advantage.difference.low <= 0 <= advantage.difference.high)


def test_the_second_answer_counts_networks_beside_chance(run, monkeypatch):
    masks = run.seeds()
    assert answers.networks_sentence(run).startswith(
        "3 initializations gave 3 different networks up to renumbering hidden neurons; IoU of their masks 0."
    )
    dead = dataclasses.replace(masks[0], mask=np.zeros(run.spec.size, dtype=bool))
    for seeds, words in (
        ([masks[0]] * 3, "3 initializations gave one network up to"),
        ([dead, *masks[1:]], "gave 2 connected masks, which are 2 different networks up to"),
        ([dead] * 2, "All 2 masks are disconnected: no kept path leads from an input to an output."),
        ([masks[0]], ""),
    ):
        monkeypatch.setattr(run, "seeds", lambda seeds=seeds: Tickets(seeds))
        sentence = answers.networks_sentence(run)
        assert words in sentence if words else not sentence


def test_an_unfinished_run_answers_the_second_question_alone(run, monkeypatch):
    monkeypatch.setattr(answers, "contender_rows", lambda _: [])
    assert text.answer_lines(run) == [answers.networks_sentence(run)]


# The course of the search


def test_accuracy_and_diversity_are_those_of_the_populations(run):
    curves = report.population_curves(run)
    populations = [generation.population for generation in run.generations()]
    assert curves.generation.tolist() == list(range(len(populations)))
    best = [max(p, key=lambda ticket: ticket.fitness).measures["accuracy"] for p in populations]
    assert curves.best.tolist() == best
    assert curves.mean == pytest.approx([np.mean([t.measures["accuracy"] for t in p]) for p in populations])
    measured = [diversity(population.masks) for population in populations]
    assert curves.mean_iou.tolist() == [one.mean_iou for one in measured]
    assert curves.common.tolist() == [one.common for one in measured]


def test_of_a_long_run_generations_are_sampled_with_the_first_and_the_last(run):
    whole, some = report.population_curves(run), report.population_curves(run, most=2)
    assert some.generation.tolist() == [0, 2]
    assert some.mean_iou.tolist() == whole.mean_iou[[0, 2]].tolist()


def test_the_strip_holds_the_observed_overlap_and_all_draws(run):
    study = text.seed_study(run)
    raw, renumbered = strip_rows(study)
    pairs = np.triu_indices(3, 1)
    assert raw.observed == pytest.approx(study.iou[pairs].mean())
    assert renumbered.observed == pytest.approx(study.aligned[pairs].mean())
    assert [len(draws) for row in (raw, renumbered) for draws in row.draws.values()] == [19, 19, 19]
    assert all(draws.mean() > raw.observed for draws in renumbered.draws.values())


# Contenders that are added


def settings_of(*assignments):
    return config.load(None, assignments)


def test_the_costs_that_auto_compares_have_their_values_by_hand():
    given = (("seeding.density", 0.25), ("final.steps", 100), ("evolution.population", 10))
    settings = settings_of(*given, ("evolution.generations", 4), ("training.steps", "20,80"))
    rounds = 0.25 ** (np.arange(7) / 7)  # seven cuts of a fifth, or a little less
    assert imp_cost(settings) == pytest.approx(100 * rounds.sum())
    assert search_cost(settings) == 10 * 5 * 20 * 0.25
    front = config.apply(settings, [("evolution.objective", "front"), ("evolution.least_density", 0.1)])
    assert search_cost(front) == pytest.approx(10 * 5 * 20 * 0.1)


def test_auto_adds_imp_to_long_searches_alone():
    assert cheap_contender(settings_of()) == ""
    long = [("evolution.generations", 200)]
    assert cheap_contender(settings_of(*long)) == "imp"
    for other in (("final.contenders", "none"), ("final.steps", 0), ("fitness.name", "untrained")):
        assert cheap_contender(settings_of(*long, other)) == ""


@pytest.mark.parametrize(
    ("setting", "decided", "added"),
    [
        ("auto", "imp", ["imp"]),
        ("auto", "", []),
        ("auto", "elsewhere.py:run", []),  # a stored decision names no code
        ("none", "imp", []),
        ("imp,snip", "", ["imp", "snip"]),
        ("synflow,snip", "", ["snip"]),  # synflow prunes the first population
    ],
)
def test_the_setting_decides_and_the_store_only_for_auto(setting, decided, added):
    assert added_pruners(settings_of(("final.contenders", setting)), decided) == added


def test_unknown_and_equal_names_of_contenders_are_refused(tmp_path):
    wrong = settings_of(("final.contenders", "impp"))
    assert refusal(experiment.Search.prepare, wrong).startswith("unknown pruner 'impp' (did you mean 'imp'?)")
    for name in ("a", "b"):
        (tmp_path / f"{name}.py").write_text("def cut(network, mask, batch, *, rng):\n    return mask\n")
    files = [f"{tmp_path}/{name}.py:cut" for name in ("a", "b")]
    assert "told apart by the names of their functions" in refusal(
        experiment.Search.prepare, settings_of(("final.contenders", files))
    )


@pytest.fixture(scope="module")
def search():
    given = (("model.name", "mlp:12"), ("seeding.density", 0.2), ("evolution.population", 4))
    more = (("evolution.generations", 1), ("training.steps", 3), ("final.steps", 4), ("final.orders", 2))
    few = (("seeding.initializations", 2), ("final.candidates", 1), ("training.device", "cpu"))
    named = ("final.contenders", "imp")
    return experiment.Search.prepare(settings_of(*given, *more, *few, named))


def test_an_added_mask_is_that_of_the_pruner_by_the_recipe_of_the_final_training(search):
    winner = Ticket(search.first_population[0].mask, search.network.initialization)
    mask = added_mask(search, winner, "imp")
    seed = int(experiment.contenders.seed_sequence(0, 1).generate_state(1)[0])
    options = {"training_steps": 4, "training_batch": 128, "device": "cpu"}
    expected = prune(
        search.network, "imp", density=winner.mask.mean(), dataset=search.dataset, seed=seed, **options
    )
    assert np.array_equal(mask, expected)
    assert mask.sum() == winner.mask.sum()


def test_added_contenders_have_rows_and_a_resumed_run_keeps_them(search, tmp_path):
    with experiment.create_run(search, tmp_path, "one") as run:
        for _ in search.generations(run):
            pass
        for _ in experiment.finish(search, run):
            pass
        assert [row.contender for row in contender_rows(run)] == [
            *("best ticket", "synflow, same initialization", "imp, same initialization"),
            *("random, same layer densities", "dense"),
        ]
        assert "iterative magnitude pruning's mask" in answers.winner_sentence(run)
        assert queries.winner(run).mask.sum() == round(0.2 * run.spec.size)
    with Run.open(tmp_path / "one") as again:
        assert again.contenders == ["imp"]


def test_the_decision_of_auto_is_stored_when_the_run_is_made(search, tmp_path):
    auto = dataclasses.replace(search, settings=config.apply(search.settings, [("final.contenders", "auto")]))
    with experiment.create_run(auto, tmp_path, "short") as run:
        assert run.contenders == []
        run.plan(1000)
    with Run.open(tmp_path / "short") as run:
        assert cheap_contender(run.settings) == "imp"  # it would be added to a new run as long
        assert run.contenders == []
