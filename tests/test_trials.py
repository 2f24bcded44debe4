"""Trials of children before they are pruned to their size, and members that are assessed again."""

import numpy as np
import pytest
from conftest import refused

from ticketsearch.evolution import evolve
from ticketsearch.guidance import Guidance
from ticketsearch.models import initialize
from ticketsearch.operators import guided_mutation, union_crossover
from ticketsearch.tickets import Assessment, Scores, Ticket


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

    def __init__(self, luck=0.0):
        self.asked, self.luck = [], luck

    def __call__(self, masks, *, round):
        self.asked.append((round, masks))
        places = [np.flatnonzero(~mask)[-5:] for mask in masks]
        guidance = [
            Guidance(1.0 + np.flatnonzero(mask).astype("f4"), p, 1.0 + p.astype("f4"))
            for mask, p in zip(masks, places, strict=True)
        ]
        values = [float(np.flatnonzero(mask)[:40].sum()) + self.luck * round for mask in masks]
        return Scores(values, {"round": [round] * len(masks)}, guidance=guidance)


def test_a_child_is_what_is_most_salient_of_it_and_all_its_parents_keep(network):
    fitness = Recorded()
    options = {"mutation": guided_mutation, "mutation_rate": 0.2, "crossover": union_crossover, "trial": True}
    found = list(evolve(first_masks(network, 8), fitness, network.spec, generations=3, **options))
    assert [round for round, _ in fitness.asked] == [0, 1, 2, 3, 4, 5, 6]
    parents = {t.number: t.mask for g in found for t in g.offspring}
    crossed = 0
    for number in (1, 2, 3):
        (_, drafts), (_, children) = fitness.asked[2 * number - 1 : 2 * number + 1]
        assert np.array_equal(children, found[number].offspring.masks)
        assert (children.sum(1) == 40).all()
        for draft, ticket in zip(drafts, found[number].offspring, strict=True):
            crossed += len(ticket.parents) == 2
            assert all((draft >= parents[parent]).all() for parent in ticket.parents)
            assert draft.sum() > 40
            if found[number].refused == 0:
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
    *_, last = evolve(first, Recorded(), network.spec, generations=1, **options)
    assert last.refused >= 6
    assert len({t.key for t in last.offspring}) == len(last.offspring) == 6
    assert any(t.operator == "useless_mutation" for t in last.offspring)


def test_members_that_are_assessed_again_have_the_mean_of_their_scores(network):
    fitness = Recorded(luck=-50)  # later rounds are worse for all
    found = list(evolve(first_masks(network, 6), fitness, network.spec, generations=4, elites=6, reassess=2))
    assert [len(masks) for _, masks in fitness.asked] == [6, 6, 12, 6, 12]
    for generation in found:
        for ticket in generation.population:
            seen = range(ticket.generation + 1, generation.number + 1)
            rounds = [ticket.generation, *(number for number in seen if number % 2 == 0)]
            assert [each.generation for each in ticket.assessments] == rounds
            plain = np.flatnonzero(ticket.mask)[:40].sum()
            assert ticket.score == pytest.approx(plain - 50 * np.mean(rounds))
            assert ticket.measures["round"] == pytest.approx(np.mean(rounds))
    assert any(len(t.assessments) > 1 for t in found[-1].population)


def test_only_assessments_of_the_highest_rung_count():
    ticket = Ticket(np.ones(3, dtype=bool))
    for given in ((0, 50, -1.0), (1, 200, -3.0), (2, 50, -2.0), (3, 200, -5.0)):
        ticket.add(Assessment(*given, {"accuracy": -given[2]}))
    assert (ticket.rung, ticket.score, ticket.measures) == (200, -4.0, {"accuracy": 4.0})
    ticket.afresh().add(Assessment(4, 200, float("-inf"), {}))
    assert ticket.score == -4.0
    ticket.add(Assessment(4, 200, float("-inf"), {}))
    assert ticket.diverged


def test_what_trials_take_is_counted(tiny, network):
    from ticketsearch.fitness import ShortTraining

    fitness = ShortTraining(network, tiny, steps=3, batch=16, device="cpu", candidates=0.2)
    options = {"mutation": guided_mutation, "crossover": union_crossover}
    first, second = (
        list(evolve(first_masks(network, 4), fitness, network.spec, generations=1, trial=trial, **options))[1]
        for trial in (False, True)
    )
    assert first.spent.evaluations == 4
    assert second.spent.evaluations == 8
    assert second.spent.steps == 24


def test_a_negative_number_of_generations_between_assessments_is_refused(network):
    refused(lambda: evolve(first_masks(network, 2), Recorded(), network.spec, reassess=-1), "reassess", "-1")


def test_without_guidance_nothing_is_tried(network):
    asked = []

    def fitness(masks, *, round):
        asked.append((round, len(masks)))
        return [float(np.flatnonzero(mask).sum()) for mask in masks]

    list(evolve(first_masks(network, 4), fitness, network.spec, generations=2, trial=True))
    assert asked == [(0, 4), (2, 4), (4, 4)]
