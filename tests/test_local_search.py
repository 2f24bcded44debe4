"""Local search: children that hill climbing has improved, and populations that ties do not fill."""

import numpy as np
import pytest
from conftest import refused
from networks import mlp
from searches import plain

from ticketsearch import experiment
from ticketsearch import settings as config
from ticketsearch.evolution import DensitySchedule, LocalSearch, Tournament, evolve
from ticketsearch.fitness.named import short_training
from ticketsearch.fitness.untrained import Untrained
from ticketsearch.models import initialize
from ticketsearch.report.text import content
from ticketsearch.runs import Run
from ticketsearch.tickets import Ticket, TicketFitness, Tickets
from ticketsearch.training import kept_operations, live_operations

pytestmark = pytest.mark.slow

SPEC = mlp(6, 5, 4)
TARGET = np.arange(SPEC.size) % 3 == 0


def likeness(masks):
    return (masks == TARGET).mean(axis=1)


def random_masks(count, kept):
    rng = np.random.default_rng(0)
    return np.stack([rng.permutation(SPEC.size) < kept for _ in range(count)])


def climbing(steps=30, most=20):
    return LocalSearch(steps, most).improvement(likeness, SPEC)


def keys(generations):
    return [[(t.key, t.score) for t in generation.population] for generation in generations]


def test_no_score_falls_and_enough_changes_find_the_top():
    masks = random_masks(30, 12)
    improved, spent = climbing(steps=5)(masks, np.random.default_rng(1))
    assert (likeness(improved) >= likeness(masks)).all()
    assert likeness(improved).mean() > likeness(masks).mean()
    assert spent.evaluations == 30 * 6
    longer, _ = climbing(steps=5000)(masks, np.random.default_rng(1))
    assert (longer == TARGET).all()
    assert np.array_equal(masks, random_masks(30, 12))


def test_a_change_prunes_keeps_or_both_anywhere_and_no_mask_grows_beyond_its_most():
    rng = np.random.default_rng(0)
    masks = random_masks(3000, 12)
    changed = climbing(most=13)._changed(masks, rng)
    grown, turned = changed.sum(1) - 12, (changed != masks).sum(1)
    assert {*zip(grown.tolist(), turned.tolist(), strict=True)} == {(-1, 1), (0, 2), (1, 1)}
    for before in (False, True):  # every weight has its share of the changes, of each kind
        share = ((masks == before) & (changed != masks)).sum(0) / (masks == before).sum(0)
        assert share.min() > 0.5 * share.mean()
    full = climbing(most=12)._changed(masks, rng)
    assert set((full.sum(1) - 12).tolist()) == {-1, 0}


def test_one_kept_weight_is_moved_and_a_whole_mask_only_pruned():
    rng = np.random.default_rng(0)
    one = climbing(most=1)._changed(random_masks(200, 1), rng)
    assert (one.sum(1) == 1).all()
    assert (one != random_masks(200, 1)).any(1).all()
    assert set(climbing()._changed(random_masks(200, 1), rng).sum(1).tolist()) == {1, 2}
    assert (climbing()._changed(random_masks(200, SPEC.size), rng).sum(1) == SPEC.size - 1).all()


def test_improved_children_are_what_generations_hold_and_their_evaluations_are_counted():
    options = {"generations": 3, "seed": 2, "elites": 8}
    first = random_masks(8, 20)
    unimproved = list(evolve(first, likeness, SPEC, **plain(**options)))
    better = list(evolve(first, likeness, SPEC, **plain(local_search=LocalSearch(30, 20), **options)))
    means = [np.mean([t.score for t in search[1].offspring]) for search in (unimproved, better)]
    assert means[1] > means[0]
    assert better[1].spent.evaluations == 8 * 31
    for child in better[1].offspring:
        assert child.score == likeness(child.mask[None])[0]
        assert child.mask.sum() <= 20


def test_a_child_that_climbs_to_a_network_seen_before_is_left_out():
    first = random_masks(6, 20)
    top = LocalSearch(5000, SPEC.size)
    generations = list(evolve(first, likeness, SPEC, **plain(generations=2, seed=0, local_search=top)))
    assert [len(generation.offspring) for generation in generations] == [6, 1, 0]
    assert [generation.refused for generation in generations] == [0, 5, 6]
    assert generations[-1].best.score == 1.0


def test_a_memetic_search_goes_on_as_if_it_had_not_stopped():
    options = {"seed": 4, "local_search": LocalSearch(7, 20), "ties": 2}
    whole = list(evolve(random_masks(9, 20), likeness, SPEC, **plain(generations=4, **options)))
    rest = list(evolve([], likeness, SPEC, **plain(generations=4, after=whole[2], **options)))
    assert keys(rest) == keys(whole[3:])
    other = list(evolve(random_masks(9, 20), likeness, SPEC, **plain(generations=4, **options | {"seed": 5})))
    assert keys(other)[4] != keys(whole)[4]


def test_ties_give_way_to_others_and_fill_what_these_leave():
    scores = [5.0, 5.0, 5.0, 5.0, 4.0, 3.0, 3.0, 3.0]
    tickets = Tickets(Ticket(mask) for mask in random_masks(len(scores), 20))
    for ticket, score in zip(tickets, scores, strict=True):
        ticket.fitness = TicketFitness((0.0, score))

    def kept(size, ties):
        kept = Tournament(elites=size, ties=ties).survivors(tickets, size)
        assert len({id(ticket) for ticket in kept}) == size
        return [ticket.score for ticket in kept]

    assert kept(4, 0) == [5, 5, 5, 5]
    assert kept(4, 2) == [5, 5, 4, 3]
    assert kept(3, 1) == [5, 4, 3]
    assert kept(5, 1) == [5, 5, 5, 4, 3]


def test_an_untrained_networks_passes_are_counted_by_kept_weights(tiny):
    network = initialize("mlp:9", tiny, scheme="uniform", seed=1)
    masks = np.zeros((2, network.spec.size), dtype=bool)
    masks[0] = True
    masks[1, network.spec.layers[0].slice] = True  # leads nowhere
    first = network.spec.layers[0].size
    assert kept_operations(network.wiring, masks).tolist() == [network.spec.size, first]
    assert live_operations(network.wiring, masks).tolist() == [network.spec.size, 0]
    spent = Untrained(network, tiny, samples=30, device="cpu")(masks).spent
    assert spent.flops == 2 * 30 * (network.spec.size + first)


def test_a_local_search_that_cannot_be_is_refused_in_one_line(tiny):
    refused(lambda: LocalSearch(0, 9), "steps must be >= 1, but got 0")
    refused(lambda: LocalSearch(9, 0), "most must be >= 1, but got 0")
    training, local = short_training(initialize("mlp:9", tiny), tiny, steps=1, batch=9), LocalSearch(9, 9)
    words = ("fitness of masks alone", "untrained", "round and tickets")
    refused(lambda: LocalSearch(9, 9, training), *words)
    refused(lambda: evolve(random_masks(3, 20), training, SPEC, local_search=local), *words)
    for options in ({"fewest": 4, "most": 9}, {"density": DensitySchedule(0.5, 0.2)}):
        given = plain(local_search=local, **options)
        refused(lambda given=given: evolve(random_masks(3, 20), likeness, SPEC, **given), "local_search")


def test_a_local_search_may_climb_another_fitness_than_that_of_the_search():
    first = random_masks(6, 20)
    blind = LocalSearch(20, 20, lambda masks: np.zeros(len(masks)))
    searches = [plain(generations=1, local_search=local) for local in (LocalSearch(20, 20), blind)]
    climbed, wandered = (list(evolve(first, likeness, SPEC, **options))[1] for options in searches)
    assert climbed.best.score > wandered.best.score


STRONG = [
    *(("model.name", "mlp:9"), ("fitness.name", "untrained"), ("final.steps", 0), ("final.orders", 1)),
    *(("evolution.population", 6), ("evolution.generations", 2), ("evolution.identity", "ticket")),
    *(("seeding.method", "random"), ("seeding.density", 0.3), ("seeding.schemes", ["uniform"])),
    *(("training.device", "cpu"), ("evolution.polish", 5), ("evolution.ties", 2)),
    *(("evolution.crossover", "uniform_crossover"), ("evolution.mutation", "swap_mutation")),
]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (("fitness.name", "short_training"), ("untrained", "evolution.polish")),
        (("evolution.start_density", 0.5), ("start_density", "leave one out")),
        (("evolution.objective", "front"), ("polish", "front")),
    ],
)
def test_settings_that_cannot_have_a_local_search_are_refused(setting, words):
    refused(lambda: experiment.Search.prepare(config.load(None, [*STRONG, setting])), *words)


def test_a_memetic_run_goes_on_where_it_stopped(tmp_path):
    prepared = experiment.Search.prepare(config.load(None, STRONG))
    assert prepared.local_search.most == round(0.3 * prepared.network.spec.size)
    with experiment.create_run(prepared, tmp_path, "whole") as run:
        assert [g.spent.evaluations for g in prepared.generations(run)] == [6, 42, 42]
        list(experiment.finish(prepared, run))
        whole = list(content(run))
    with experiment.create_run(prepared, tmp_path, "cut") as run:
        next(generations := prepared.generations(run))
        next(generations)
        generations.close()
    again, run = experiment.resume(tmp_path / "cut", {})
    with run:
        list(again.generations(run))
        list(experiment.finish(again, run))
    with Run.open(tmp_path / "cut") as run:
        assert list(content(run))[1:] == whole[1:]  # but their names
