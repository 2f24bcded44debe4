"""Drafts of children that are trained before they are pruned, and members that are evaluated again."""

from itertools import pairwise

import numpy as np
import pytest
from searches import plain

from ticketsearch.evolution import evolve
from ticketsearch.evolution.order_effects import OrderEffects, least_recently_evaluated
from ticketsearch.masks import digest
from ticketsearch.masks.guidance import Guidance
from ticketsearch.models import initialize
from ticketsearch.operators import guided_mutation, union_crossover
from ticketsearch.tickets import Assessment, Scores, Ticket

pytestmark = pytest.mark.slow


@pytest.fixture
def network(tiny):
    return initialize("mlp:9,7", tiny)


def first_masks(network, size, kept=40):
    rng = np.random.default_rng(0)
    masks = np.zeros((size, network.spec.size), dtype=bool)
    for mask in masks:
        mask[rng.choice(len(mask), kept, replace=False)] = True
    return masks


class Recorded:
    """A fitness that remembers what it was asked for; weights of high numbers are the salient ones."""

    def __init__(self, luck=()):
        self.asked, self.luck = [], luck

    def __call__(self, masks, *, round):
        self.asked.append((round, masks))
        places = [np.flatnonzero(~mask)[-5:] for mask in masks]
        guidance = [
            Guidance(1.0 + np.flatnonzero(mask).astype("f4"), p, 1.0 + p.astype("f4"))
            for mask, p in zip(masks, places, strict=True)
        ]
        luck = self.luck[round] if self.luck else 0.0
        values = [float(np.flatnonzero(mask)[:40].sum()) + luck for mask in masks]
        return Scores(values, {"round": [round] * len(masks)}, guidance=guidance)


def test_a_child_is_what_is_most_salient_of_it_and_all_its_parents_keep(network):
    fitness = Recorded()
    options = {"mutation": guided_mutation, "mutation_rate": 0.2, "crossover": union_crossover, "trial": True}
    generations = list(
        evolve(first_masks(network, 8), fitness, network.spec, **plain(generations=3, **options))
    )
    assert [round for round, _ in fitness.asked] == [0, 1, 2, 3, 4, 5, 6]
    parents = {t.number: t.mask for g in generations for t in g.offspring}
    crossed = 0
    for number in (1, 2, 3):
        (_, drafts), (_, children) = fitness.asked[2 * number - 1 : 2 * number + 1]
        assert np.array_equal(children, generations[number].offspring.masks)
        assert (children.sum(1) == 40).all()
        for draft, ticket in zip(drafts, generations[number].offspring, strict=True):
            crossed += len(ticket.parents) == 2
            assert all((draft >= parents[parent]).all() for parent in ticket.parents)
            assert draft.sum() > 40
            if generations[number].refused == 0:
                assert np.array_equal(np.flatnonzero(ticket.mask), np.flatnonzero(draft)[-40:])
    assert crossed


def test_a_draft_that_leaves_a_network_seen_before_is_pruned_otherwise(network):
    """Grown weights that are less salient than all others: what is most salient is the parent again."""

    def useless_mutation(mask, *, spec, rng, rate):
        child = mask.copy()
        child[rng.choice(np.flatnonzero(~mask)[:12], 3, replace=False)] = True
        child[np.flatnonzero(mask)[-3:]] = False
        return child

    first = np.zeros((1, network.spec.size), dtype=bool)
    first[0, np.random.default_rng(0).choice(np.arange(20, network.spec.size), 40, replace=False)] = True
    options = {"mutation": useless_mutation, "crossover_rate": 0.0, "trial": True, "population": 6}
    *_, last = evolve(first, Recorded(), network.spec, **plain(generations=1, **options))
    assert last.refused >= 6
    assert len({t.key for t in last.offspring}) == len(last.offspring) == 6
    assert any(t.operator == "useless_mutation" for t in last.offspring)


def test_members_take_turns_at_being_evaluated_again(network):
    fitness = Recorded()
    generations = list(
        evolve(first_masks(network, 6), fitness, network.spec, **plain(generations=4, elites=6, reassess=2))
    )
    assert [len(masks) for _, masks in fitness.asked] == [6, 9, 9, 9, 9]
    for before, after in pairwise(generations):
        asked = fitness.asked[after.number][1][6:]
        last = {t.digest: t.assessments[-1].generation for t in before.population}
        chosen = [last.pop(digest(mask)) for mask in asked]
        assert max(chosen) <= min(last.values())
    assert any(len(t.assessments) > 1 for t in generations[-1].population)


def test_members_that_are_evaluated_again_have_the_mean_score(network):
    *_, last = evolve(
        first_masks(network, 6), Recorded(), network.spec, **plain(generations=4, elites=6, reassess=1)
    )
    for ticket in last.population:
        rounds = range(ticket.generation, 5)
        assert [each.generation for each in ticket.assessments] == [*rounds]
        assert ticket.measures["round"] == pytest.approx(np.mean(rounds))


@pytest.mark.parametrize("reassess", [1, 3])
def test_lucky_rounds_change_nothing_where_members_are_evaluated_again(network, reassess):
    """Rounds that add the same to all scores: with members to compare with, the search is the same."""

    def search(fitness):
        options = {"mutation": guided_mutation, "elites": 6, "seed": 1, "reassess": reassess}
        return list(evolve(first_masks(network, 6), fitness, network.spec, **plain(generations=5, **options)))

    luck = [0, -5e4, 3e4, 8, -70, 9e4]
    even, lucky = search(Recorded()), search(Recorded(luck))
    for one, other in zip(even, lucky, strict=True):
        assert [t.digest for t in one.population] == [t.digest for t in other.population]
        assert [t.score for t in one.population] == pytest.approx([t.score for t in other.population])
    unaided = evolve(first_masks(network, 6), Recorded(luck), network.spec, **plain(generations=1, elites=6))
    assert {t.generation for t in list(unaided)[-1].population} == {0}  # all children seem worse


def evaluated(*scores, rung=0):
    """Return a ticket with a score in each of the first generations, None for none."""
    ticket = Ticket(np.ones(3, dtype=bool))
    for generation, score in enumerate(scores):
        if score is not None:
            ticket.add_evaluation(Assessment(generation, rung, score, {}))
    return ticket


def test_an_order_effect_is_the_mean_difference_of_members_to_their_fitness_before():
    effects = OrderEffects()
    one, other = evaluated(1.0, 4.0), evaluated(2.0, 7.0)
    effects.estimate([one, other], [(0.0, 1.0), (0.0, 2.0)])
    assert effects.effects == {0: {0: 0.0, 1: 4.0}}
    effects.subtract([one, other])
    assert (one.score, other.score) == (0.5, 2.5)
    one.add_evaluation(Assessment(2, 0, 11.5, {}))
    effects.estimate([one], [(0.0, 0.5)])
    assert effects.effects[0] == {0: 0.0, 1: 4.0, 2: 11.0}
    new, unknown = evaluated(None, None, 8.0), evaluated(None, None, None, 8.0)
    effects.subtract([one, other, new, unknown])
    assert (one.score, other.score, new.score) == (0.5, 2.5, -3.0)
    assert unknown.score == 3.0  # of a mean round
    assert [effects.of(number) for number in range(4)] == [[], [(0, 4.0)], [(0, 11.0)], []]
    assert effects.until(2).effects == effects.effects
    assert effects.until(1).effects == {0: {0: 0.0, 1: 4.0}}


def test_those_that_were_unseen_for_longest_come_first_whatever_their_fitness():
    members = [evaluated(*scores) for scores in ((1.0,), (9.0,), (5.0, 8.0), (None, 3.0), (2.0,))]
    for number, member in enumerate(members):
        member.number = 4 - number
    assert least_recently_evaluated(members, 4) == [members[4], members[1], members[0], members[3]]


def test_rounds_of_other_rungs_and_what_diverged_teach_nothing():
    effects, infinite = OrderEffects(), float("-inf")
    climbed, diverged = evaluated(1.0, 5.0, rung=200), evaluated(1.0, infinite)
    effects.estimate([climbed, diverged], [(50.0, 1.0), (0.0, 1.0)])
    assert effects.effects == {}
    effects = OrderEffects([(0, 1, 3.0), (50, 1, 7.0), (200, 1, 1.0)])
    effects.subtract([climbed, diverged])
    assert climbed.score == (1 + 4) / 2
    assert diverged.diverged


def test_only_evaluations_of_the_highest_rung_count():
    ticket = Ticket(np.ones(3, dtype=bool))
    for given in ((0, 50, -1.0), (1, 200, -3.0), (2, 50, -2.0), (3, 200, -5.0)):
        ticket.add_evaluation(Assessment(*given, {"accuracy": -given[2]}))
    assert (ticket.rung, ticket.score, ticket.measures) == (200, -4.0, {"accuracy": 4.0})
    ticket.copy_for_reevaluation().add_evaluation(Assessment(4, 200, float("-inf"), {}))
    assert ticket.score == -4.0
    ticket.add_evaluation(Assessment(4, 200, float("-inf"), {}))
    assert ticket.diverged


def test_what_trials_take_is_counted(tiny, network):
    from ticketsearch.fitness.named import short_training

    fitness = short_training(network, tiny, steps=3, batch=16, device="cpu", candidates=0.2)
    options = {"mutation": guided_mutation, "crossover": union_crossover}
    first, second = (
        list(
            evolve(
                first_masks(network, 4), fitness, network.spec, **plain(generations=1, trial=trial, **options)
            )
        )[1]
        for trial in (False, True)
    )
    assert first.spent.evaluations == 4
    assert second.spent.evaluations == 8
    assert second.spent.steps == 24


def test_without_guidance_nothing_is_tried(network):
    asked = []

    def fitness(masks, *, round):
        asked.append((round, len(masks)))
        return [float(np.flatnonzero(mask).sum()) for mask in masks]

    list(evolve(first_masks(network, 4), fitness, network.spec, **plain(generations=2, trial=True)))
    assert asked == [(0, 4), (2, 4), (4, 4)]
