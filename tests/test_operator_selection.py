"""Adaptive operator selection: which operator is drawn, how qualities follow children, and resuming."""

from collections import Counter
from functools import partial

import numpy as np
import pytest
from conftest import refused
from networks import mlp
from searches import plain

from ticketsearch import experiment
from ticketsearch import settings as config
from ticketsearch.evolution import evolve
from ticketsearch.evolution.operator_selection import OperatorSelection, probabilities
from ticketsearch.operators import swap_mutation, uniform_crossover, union_crossover
from ticketsearch.report import write_report
from ticketsearch.report.text import content
from ticketsearch.runs import Run, operator_rows

SPEC = mlp(20, 15, 8)
TARGET = np.arange(SPEC.size) % 3 == 0


def likeness(masks):
    return (masks == TARGET).sum(axis=1).astype(float)


def first_masks(count=12, kept=140):
    rng = np.random.default_rng(0)
    masks = np.zeros((count, SPEC.size), dtype=bool)
    for mask in masks:
        mask[rng.choice(SPEC.size, kept, replace=False)] = True
    return masks


def towards(mask, *, spec, rng, rate):
    """A swap in the direction of the target."""
    child = mask.copy()
    wrong, missing = np.flatnonzero(mask & ~TARGET), np.flatnonzero(TARGET & ~mask)
    if not len(wrong) or not len(missing):
        return swap_mutation(mask, spec=spec, rng=rng, rate=rate)
    child[rng.choice(wrong)], child[rng.choice(missing)] = False, True
    return child


def away(mask, *, spec, rng, rate):
    """A mask with as little of the target as there can be, and any of the rest."""
    order = rng.permutation(np.flatnonzero(~TARGET))
    child = np.zeros_like(mask)
    child[order[: mask.sum()]] = True
    return child


def evolved(**options):
    return list(evolve(first_masks(), likeness, SPEC, **plain(**{"generations": 12, "seed": 3, **options})))


def selection_of(*names):
    def operator(name):
        def made():
            return name

        made.__name__ = name
        return made

    return OperatorSelection([partial(operator(name)) for name in names])


def test_at_first_all_have_the_same_chance_and_chances_are_of_a_whole():
    assert probabilities([1.0, 1.0, 1.0, 1.0]).tolist() == [0.25] * 4
    assert probabilities([0.0, 0.0]).tolist() == [0.5, 0.5]
    assert probabilities([0.7, 0.1, 0.0]).sum() == pytest.approx(1.0)


def test_chances_follow_qualities_above_a_floor():
    assert probabilities([0.6, 0.2]) == pytest.approx([0.1 + 0.8 * 0.75, 0.1 + 0.8 * 0.25])
    assert probabilities([1.0, 0.0]) == pytest.approx([0.9, 0.1])
    assert probabilities([1.0, *[0.0] * 9])[1:] == pytest.approx([0.05] * 9)


def test_draws_are_by_the_chances():
    both, rng = selection_of("a", "b"), np.random.default_rng(0)
    both.restore({"a": 0.2, "b": 0.6})
    drawn = Counter(both.draw(rng)[1] for _ in range(4000))
    assert drawn["a"] / 4000 == pytest.approx(0.3, abs=0.03)
    tool, name = both.draw(rng)
    assert tool() == name


def test_a_reward_is_the_share_in_the_better_half_and_each_child_weighs_the_same():
    both = selection_of("a", "b")
    both.reward(["a", "immigrant", "b", "a", "b", "b"])
    assert both.quality == pytest.approx([0.5 + 0.5 * 0.95**2, 1 / 3 + 2 / 3 * 0.95**3])
    before = both.quality.copy()
    both.reward(["immigrant", "a", "a"])
    assert both.quality == pytest.approx([0.5 + (before[0] - 0.5) * 0.95**2, before[1]])
    both.reward([])
    assert both.quality[1] == before[1]


def test_one_operator_is_drawn_without_a_random_number():
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state
    assert selection_of("a").draw(rng)[1] == "a"
    assert rng.bit_generator.state == before


def test_a_list_of_one_is_that_one():
    alone, listed = evolved(), evolved(mutation=[swap_mutation], crossover=[uniform_crossover])
    assert [g.state for g in alone] == [g.state for g in listed]
    assert "credit" not in alone[-1].state


def test_what_makes_better_children_is_drawn_more_often():
    generations = evolved(mutation=[away, towards], crossover_rate=0.2)
    quality = generations[-1].state["credit"]["mutation"]
    assert list(generations[-1].state["credit"]) == ["mutation"]
    assert quality["towards"] > 2 * quality["away"]
    made = Counter(t.operator for g in generations[6:] for t in g.offspring)
    assert made["towards"] > 2 * made["away"] > 0


@pytest.mark.filterwarnings("ignore::ticketsearch.evolution.GuidanceWarning")
def test_an_evolution_goes_on_with_its_qualities():
    options = {"mutation": [away, towards], "crossover": [uniform_crossover, union_crossover]}
    whole = evolved(**options)
    half = evolved(**options, generations=5)
    rest = list(evolve([], likeness, SPEC, **plain(**options, generations=12, seed=3, after=half[-1])))
    assert [g.state for g in [*half, *rest]] == [g.state for g in whole]
    assert [t.digest for t in rest[-1].population] == [t.digest for t in whole[-1].population]


def test_operators_that_cannot_be_told_apart_or_are_none_are_refused():
    refused(lambda: evolved(mutation=[away, away]), "told apart by their names", "two mutations", "'away'")
    refused(lambda: evolved(crossover=[]), "at least 1 crossover")


SMALL = (
    *(("model.name", "mlp:12"), ("seeding.density", 0.1), ("seeding.initializations", 3)),
    *(("evolution.population", 6), ("evolution.generations", 3), ("training.steps", 20)),
    *(("final.steps", 20), ("final.orders", 2), ("training.device", "cpu")),
    ("evolution.mutation", "swap_mutation,path_mutation"),
)


@pytest.mark.slow
def test_a_run_shows_the_qualities_of_its_operators_and_resumes_with_it(tmp_path):
    def run(name, generations):
        prepared = experiment.Search.prepare(
            config.load(None, [*SMALL, ("evolution.generations", generations)])
        )
        with experiment.create_run(prepared, tmp_path, name) as opened:
            list(prepared.generations(opened))
            list(experiment.finish(prepared, opened))

    run("whole", 3)
    run("short", 1)
    prepared, opened = experiment.resume(tmp_path / "short", {"evolution.generations": 3})
    with opened:
        list(prepared.generations(opened))
        list(experiment.finish(prepared, opened))
    with Run.open(tmp_path / "short") as short, Run.open(tmp_path / "whole") as whole:
        assert list(content(short))[1:] == list(content(whole))[1:]
        rows = operator_rows(whole)
        assert [row.name for row in rows] == ["swap_mutation", "path_mutation"]
        assert sum(row.probability for row in rows) == pytest.approx(1.0)
        children = Counter(t.operator for t in whole.tickets() if t.generation > 0)
        survivors = Counter(
            t.operator
            for g in whole.generations()
            if g.number
            for t in g.population
            if t.generation == g.number
        )
        for row in rows:
            assert (row.children, row.survivors) == (children[row.name], survivors[row.name])
            assert any(
                line.split()[:3] == [row.name, str(row.children), str(row.survivors)]
                for line in content(whole)
            )
        assert "Which operators did best?" in write_report(whole).read_text()


def test_one_operator_of_each_kind_shows_no_qualities(tmp_path):
    prepared = experiment.Search.prepare(
        config.load(
            None, [*SMALL[:-1], ("evolution.generations", 1), ("evolution.mutation", ["swap_mutation"])]
        )
    )
    assert prepared.settings.evolution.mutation == "swap_mutation"
    with experiment.create_run(prepared, tmp_path, "one") as run:
        list(prepared.generations(run))
        assert operator_rows(run) == []
        assert not any(line.startswith("Operators") for line in content(run))
