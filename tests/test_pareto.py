"""Two objectives: who is of the front, who survives, how many weights children keep, and the run's front."""

import random

import numpy as np
import pytest
from conftest import refused
from networks import mlp
from searches import plain

from ticketsearch import experiment
from ticketsearch import settings as config
from ticketsearch.evolution import NSGA2, DensitySchedule, evolve, pareto_front
from ticketsearch.evolution.pareto import draw_count, grow
from ticketsearch.report.front import front_points
from ticketsearch.runs import BEST, Run, queries
from ticketsearch.tickets import Scores, Ticket, TicketFitness, Tickets

pytestmark = pytest.mark.slow

SPEC = mlp(8, 6, 4)


def ticket(score, kept, number=0):
    mask = np.arange(20) < kept
    return Ticket(mask, number=number, fitness=TicketFitness((0.0, score)))


def likeness(masks):
    return masks @ np.arange(SPEC.size)


def first_masks(count=12, kept=24):
    rng = np.random.default_rng(0)
    return np.stack([rng.permutation(SPEC.size) < kept for _ in range(count)])


def test_a_front_holds_what_nothing_beats_and_of_equals_the_first():
    tickets = [ticket(3.0, 9, 0), ticket(3.0, 8, 1), ticket(1.0, 2, 2), ticket(0.5, 2, 3), ticket(3.0, 8, 4)]
    assert [t.number for t in pareto_front([*tickets, ticket(-np.inf, 1, 5)])] == [2, 1]
    assert pareto_front([ticket(-np.inf, 1)]) == []


def test_survivors_are_the_first_fronts_and_of_the_last_the_ends_and_those_that_stand_alone():
    line = [ticket(float(kept), kept, kept) for kept in (1, 2, 3, 4, 10)]
    beaten, lost = ticket(0.5, 2, 11), ticket(-np.inf, 1, 12)
    kept = NSGA2(size=2).survivors([lost, beaten, *line], 3)
    assert {t.number for t in kept} == {1, 4, 10}
    assert [t.number for t in NSGA2(size=2).survivors([lost, beaten, *line], 7)][-2:] == [11, 12]


def test_parents_come_from_the_front_rather_than_from_behind_it():
    tickets = Tickets([ticket(0.1 * kept, kept, kept) for kept in range(1, 8)])
    tickets += [ticket(0.0, 10 + kept, 10 + kept) for kept in range(8)]
    random.seed(0)
    chosen = NSGA2(size=3).parents(tickets)(400)
    shares = np.mean([t.number < 8 for t in chosen])
    assert 0.8 < shares < 1  # 1 − (8/15)³ = 0.85


def test_children_keep_other_numbers_of_weights_within_the_range():
    generations = list(
        evolve(first_masks(), likeness, SPEC, **plain(generations=20, fewest=5, most=40, seed=1))
    )
    children = [
        np.count_nonzero(t.mask) for g in generations[1:] for t in g.offspring if t.operator != "immigrant"
    ]
    assert (min(children), max(children)) == (5, 40)
    assert len(set(children)) > 20
    best = {len(g.front): g for g in generations}
    assert max(best) == len(generations[-1].population)
    scores = [t.score for t in generations[-1].front]
    assert scores == sorted(scores)


def test_a_front_never_loses_what_it_holds_at_its_ends():
    ends = [
        (min(np.count_nonzero(t.mask) for t in g.front), g.best.score)
        for g in evolve(first_masks(), likeness, SPEC, **plain(generations=15, fewest=5, most=40, seed=2))
    ]
    assert [least for least, _ in ends] == sorted((least for least, _ in ends), reverse=True)
    assert [most for _, most in ends] == sorted(most for _, most in ends)


def test_an_evolution_of_a_front_goes_on_where_it_stopped():
    def fronts(generations):
        return [[(t.number, t.digest, t.score) for t in g.population] for g in generations]

    options = {"generations": 8, "fewest": 5, "most": 40, "seed": 3}
    whole = list(evolve(first_masks(), likeness, SPEC, **plain(**options)))
    rest = list(evolve([], likeness, SPEC, **plain(**options, after=whole[4])))
    assert fronts(rest) == fronts(whole[5:])


def test_the_count_is_drawn_about_the_parents_and_grown_masks_keep_what_they_have():
    rng = np.random.default_rng(0)
    drawn = [draw_count(100, (60, 130), rng) for _ in range(500)]
    assert (min(drawn), max(drawn)) == (60, 130)
    assert abs(np.median(drawn) - 100) < 5
    mask = np.arange(50) < 10
    assert grow(mask, 10, rng) is mask
    more = grow(mask, 17, rng)
    assert np.count_nonzero(more) == 17
    assert more[:10].all()


def test_bounds_successive_halving_and_density_schedules_are_refused(tiny):
    def go(fitness=likeness, **options):
        return list(evolve(first_masks(), fitness, SPEC, **plain(generations=1, **options)))

    refused(lambda: NSGA2(fewest=9, most=4), "fewest <= most", "fewest 9 and most 4")
    refused(lambda: go(fewest=9, most=73), "1 <= fewest <= most <= 72", "(9, 73)")
    refused(lambda: go(fewest=4, most=9, density=DensitySchedule(0.5, 0.2)), "leave one out")
    halved = lambda masks: Scores(likeness(masks), rungs=np.full(len(masks), 5))  # noqa: E731
    refused(lambda: go(halved, fewest=4, most=40), "successive halving")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("evolution.least_density", 0.6, ("largest_density", "0.6 and 0.5")),
        ("evolution.least_density", 0.0001, ("0.0001 keeps 0",)),
        ("evolution.start_density", 0.5, ("start_density", "leave one out")),
        ("training.steps", [10, 20], ("list of rungs", "one number")),
    ],
)
def test_settings_that_no_front_can_use_are_refused(name, value, words):
    given = [("model.name", "mlp:12"), ("evolution.objective", "front"), (name, value)]
    refused(lambda: experiment.Search.prepare(config.load(None, given)), *words)


def test_a_run_ends_with_a_front_that_validation_chose_and_test_data_met_once(tmp_path):
    given = [
        *(("model.name", "mlp:12"), ("seeding.initializations", 2), ("evolution.population", 8)),
        *(("evolution.generations", 2), ("training.steps", 15), ("training.device", "cpu")),
        *(("final.steps", 15), ("final.orders", 2), ("evolution.objective", "front")),
        *(("evolution.least_density", 0.05), ("evolution.largest_density", 0.4)),
    ]
    prepared = experiment.Search.prepare(config.load(None, given))
    counts = {np.count_nonzero(t.mask) for t in prepared.first_population}
    assert {44, 89, 178, 355} <= counts  # 0.05, 0.1, 0.2 and 0.4 of 888
    with experiment.create_run(prepared, tmp_path, "front") as run:
        for _ in prepared.generations(run):
            pass
        list(experiment.finish(prepared, run))
        results = run.results()
        validated = {r.ticket: [] for r in results if r.part == "validation"}
        for result in results:
            if result.part == "validation":
                validated[result.ticket].append(result.accuracy)
        assert set(validated) == {t.number for t in run.last().front}
        tested = {r.ticket for r in results if r.part == "test"} - {None}
        judged = {
            n: (np.mean(values), np.count_nonzero(run.ticket(n).mask)) for n, values in validated.items()
        }
        beaten = {
            n
            for n, (accuracy, kept) in judged.items()
            if any(a >= accuracy and k <= kept and (a, k) != (accuracy, kept) for a, k in judged.values())
        }
        assert tested == set(judged) - beaten
        best = next(r.ticket for r in results if r.contender == BEST)
        assert queries.winner(run).number == best
        assert judged[best][0] == max(accuracy for accuracy, _ in judged.values())
        rows = queries.front_rows(run)
        assert len(rows) == len(tested)
        points = front_points(run)
        assert points.tested.tolist() == [[row.density, row.accuracy] for row in rows]
        assert len(points.members) == 8
        assert (np.diff(points.front, axis=0) > 0).all()
    assert Run.open(tmp_path / "front").last().front
