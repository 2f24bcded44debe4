"""Evolution with guidance: operators are given it, and with falling counts it includes magnitude pruning."""

import importlib
import sqlite3

import numpy as np
import pytest
from conftest import refused
from searches import Counts, plain

from ticketsearch.evolution import DensitySchedule, Duplicates, GuidanceWarning, Variation, evolve
from ticketsearch.experiment import Search, create_run, resume
from ticketsearch.fitness.jobs import Stage
from ticketsearch.fitness.named import short_training
from ticketsearch.masks import layer_counts
from ticketsearch.masks.guidance import Guidance
from ticketsearch.models import initialize
from ticketsearch.operators import guided_mutation, swap_mutation, union_crossover
from ticketsearch.pruners import prune
from ticketsearch.pruners.iterative import scheduled_count
from ticketsearch.runs import Run
from ticketsearch.settings import load
from ticketsearch.tickets import Scores

pytestmark = pytest.mark.slow


def unchanged(mask, *, spec, rng, rate):
    return mask


def guided(masks):
    """A fitness without training: heavy weights are those of high numbers, as are candidates for growth."""
    places = [np.flatnonzero(~mask)[-10:] for mask in masks]
    guidance = [
        Guidance(1.0 + np.flatnonzero(mask).astype("f4"), p, 1.0 + p.astype("f4"))
        for mask, p in zip(masks, places, strict=True)
    ]
    return Scores([float(np.flatnonzero(mask).sum()) for mask in masks], guidance=guidance)


def first_masks(network, size, density=0.5):
    rng, kept = np.random.default_rng(0), round(density * network.spec.size)
    masks = np.zeros((size, network.spec.size), dtype=bool)
    for mask in masks:
        mask[rng.choice(len(mask), kept, replace=False)] = True
    return masks


@pytest.mark.parametrize(("rounds", "density"), [(1, 0.3), (6, 0.1)])
def test_alone_from_all_weights_and_without_noise_it_is_iterative_magnitude_pruning(
    tiny, monkeypatch, rounds, density
):
    network = initialize("mlp:12,9", tiny, seed=3)
    orders = []
    module = importlib.import_module("ticketsearch.pruners.imp")
    data_order = module.data_order
    monkeypatch.setattr(module, "data_order", lambda *given: orders.append(data_order(*given)) or orders[-1])
    options = {"training_steps": 30, "training_batch": 16, "device": "cpu"}
    wanted = prune(network, "imp", density=density, dataset=tiny, steps=rounds, **options)
    assert len(orders) == rounds
    assert all(np.array_equal(order, orders[0]) for order in orders)
    training = short_training(network, tiny, steps=30, batch=16, device="cpu")

    def fitness(masks):
        found = training.trainer.train(
            masks, [network.initialization], orders[:1], training.recipe, Stage(candidates=0.1)
        )
        return Scores(-found.evaluations[0].loss, guidance=found.guidance)

    size = network.spec.size
    counts = [scheduled_count(size, density ** (number / rounds)) for number in range(rounds)]
    counts.append(round(density * size))
    options = {"crossover_rate": 0.0, "mutation": unchanged, "attempts": 0}
    generations = list(
        evolve(
            np.ones((1, size), dtype=bool),
            fitness,
            network.spec,
            **plain(generations=rounds, density=Counts(counts), **options),
        )
    )
    assert [g.population.masks.sum() for g in generations] == counts
    assert [g.immigrants for g in generations] == [0] * (rounds + 1)
    assert np.array_equal(generations[-1].population[0].mask, wanted)


def test_the_population_grows_as_sparse_as_it_is_told_to_and_stays_so(tiny):
    network = initialize("mlp:9,7", tiny)
    first, counts = first_masks(network, 8), [10**6, 50, 50, 30]
    found = list(evolve(first, guided, network.spec, **plain(generations=6, density=Counts(counts))))
    assert [sorted({int(m.sum()) for m in g.population.masks}) for g in found[1:]] == [
        *([50],) * 2,
        *([30],) * 4,
    ]
    assert all(len(g.population) == 8 for g in found)
    ancestors = {t.number: t for g in found for t in g.offspring}
    # In generation 1 all parents are cut: what is kept of the first one's weights are heavy ones.
    child = next(t for t in found[1].offspring if len(t.parents) == 1)
    parent = ancestors[child.parents[0]]
    heavy = np.flatnonzero(parent.mask)[-50:]
    assert np.isin(np.flatnonzero(child.mask & parent.mask), heavy).mean() > 0.9


def test_operators_are_given_the_guidance_and_the_noise_that_they_name(tiny):
    network = initialize("mlp:9,7", tiny)
    seen = []

    def mutation(mask, *, spec, rng, rate, guidance, temperature):
        seen.append((mask, guidance, temperature))
        return guided_mutation(mask, spec=spec, rng=rng, rate=rate, guidance=guidance)

    def crossover(a, b, *, spec, rng, guidance):
        seen.extend([(a, guidance[0], 0.5), (b, guidance[1], 0.5)])
        return union_crossover(a, b, spec=spec, rng=rng, guidance=guidance)

    operators = {"mutation": mutation, "crossover": crossover}
    run = evolve(
        first_masks(network, 6),
        guided,
        network.spec,
        **plain(generations=3, temperature=0.5, density=Counts([40]), **operators),
    )
    assert len(list(run)) == 4
    assert len(seen) > 18
    for mask, guidance, temperature in seen:
        assert temperature == 0.5
        assert len(guidance.saliency) == mask.sum() == 40
        assert not mask[guidance.candidates].any()


def test_guidance_makes_a_search_climb_faster_than_blind_operators(tiny):
    network = initialize("mlp:9,7", tiny)
    first = first_masks(network, 8, density=0.2)

    def best(**operators):
        *_, last = evolve(first, guided, network.spec, **plain(generations=5, **operators))
        return last.best.score

    assert best(mutation=guided_mutation, crossover=union_crossover) > best()


def test_without_guidance_guided_operators_and_pruning_choose_at_random_and_the_search_warns_once(tiny):
    network = initialize("mlp:9,7", tiny)
    search = evolve(
        first_masks(network, 6),
        lambda masks: np.arange(len(masks)),
        network.spec,
        density=DensitySchedule(0.5, 0.2, share=0.1),
        generations=3,
    )
    with pytest.warns(GuidanceWarning) as warned:
        *_, last = search
    assert len(warned) == 1
    for words in ("(union_crossover, guided_mutation)", "ts.ShortTraining", "ts.Scores", "swap_mutation"):
        assert words in str(warned[0].message)
    assert warned[0].filename == __file__
    assert (last.population.masks.sum(1) == round(0.2 * network.spec.size)).all()
    assert all(layer_counts(mask, network.spec).min() >= 1 for mask in last.population.masks)


def test_operators_that_are_not_used_do_not_warn(tiny):
    network = initialize("mlp:9,7", tiny)
    variation = Variation(mutation=swap_mutation, crossover_rate=0.0)
    options = {"variation": variation, "generations": 1}
    assert len(list(evolve(first_masks(network, 6), lambda masks: masks[:, 0], network.spec, **options))) == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((1.5, 0.1), ("start must be in (0, 1]", "1.5")),
        ((0.5, 0.0), ("final must be in (0, 1]", "0.0")),
        ((0.1, 0.5), ("falls from start to final", "start 0.1 and final 0.5")),
        ((0.5, 0.1, 0.0), ("share must be in (0, 1]", "0.0")),
        ((0.5, 1e-5), ("at least 1 weight", "final 1e-05 keeps 0 of")),
    ],
)
def test_a_bad_schedule_is_refused_in_one_line(tiny, options, words):
    network = initialize("mlp:9,7", tiny)

    def go():
        return evolve(first_masks(network, 2), guided, network.spec, density=DensitySchedule(*options))

    refused(go, *words)


def test_guidance_of_another_mask_is_refused(tiny):
    network = initialize("mlp:9,7", tiny)
    first = first_masks(network, 3)

    def wrong(masks):
        return Scores(np.zeros(3), guidance=[Guidance(np.ones(3), np.zeros(0), np.zeros(0))] * 3)

    refused(lambda: next(evolve(first, wrong, network.spec)), "one saliency a kept weight")
    short = Scores(np.zeros(3), guidance=[None])
    refused(lambda: next(evolve(first, lambda masks: short, network.spec)), "guidance is one a mask (3)")


def test_a_run_keeps_the_guidance_of_the_living_and_no_other(tiny, tmp_path):
    network = initialize("mlp:9,7", tiny)
    settings = load(None, [("evolution.generations", 3), ("evolution.population", 6)])
    with Run.create(tmp_path, "run", settings, network.spec, "data", {}) as run:
        for generation in evolve(first_masks(network, 6), guided, network.spec, **plain(generations=3)):
            run.append(generation)
        last = run.last()
        kept = {ticket.number: ticket.guidance for ticket in last.population}
        assert kept.keys() == {ticket.number for ticket in generation.population}
        for ticket in generation.population:
            for own, stored in zip(ticket.guidance, kept[ticket.number], strict=True):
                assert np.array_equal(own, stored)
                assert own.dtype == stored.dtype
        connection = sqlite3.connect(tmp_path / "run" / "run.sqlite")
        assert connection.execute("SELECT count(*) FROM guidance").fetchone() == (6,)
        connection.close()


def guided_settings(**changes):
    given = {
        "model.name": "mlp:12",
        "seeding.density": 0.05,
        "seeding.initializations": 3,
        "evolution.population": 6,
        "evolution.generations": 4,
        "evolution.mutation": "guided_mutation",
        "evolution.crossover": "union_crossover",
        "evolution.temperature": 0.1,
        "evolution.start_density": 0.5,
        "training.steps": 20,
        "final.steps": 20,
        "final.orders": 1,
        "final.candidates": 1,
        **changes,
    }
    return load(None, given.items())


def test_a_search_whose_density_falls_ends_at_the_density_asked_for():
    search = Search.prepare(guided_settings())
    size = search.network.spec.size
    counts = search.density_schedule.counts(size, 4)
    assert counts == pytest.approx([0.5 * size * 0.1 ** (g / 3) for g in range(4)], rel=0.02)
    assert (counts[0], counts[-1]) == (round(0.5 * size), round(0.05 * size))
    assert (search.first_population.masks.sum(1) == round(0.5 * size)).all()
    assert (search.seeds.masks.sum(1) == round(0.05 * size)).all()  # the winner is compared with them
    assert Search.prepare(guided_settings(**{"evolution.start_density": 0.0})).density_schedule is None


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"evolution.trial": True, "evolution.reassess": 2},
        {"evolution.start_density": 0.0, "evolution.elites": 6},
    ],
)
def test_a_guided_run_that_was_interrupted_goes_on_to_the_same_content(tmp_path, more):
    search = Search.prepare(guided_settings(**more, **{"evolution.saliency": "curvature"}))
    content = []
    for name, stop in (("whole", None), ("interrupted", 2)):
        with create_run(search, tmp_path, name) as run:
            for generation in search.generations(run):
                if generation.number == stop:
                    break
        again, run = resume(tmp_path / name, {})
        with run:
            for _ in again.generations(run):
                pass
            fitness = [t.fitness.values for t in run.last().population]
            content.append(
                [(t.digest, t.assessments, t.parents, t.operator) for t in run.tickets()] + fitness
            )
            target = round(0.05 * search.network.spec.size)
            assert {int(t.mask.sum()) for t in run.last().population} == {target}
    assert content[0] == content[1]


def test_what_guides_nothing_costs_nothing():
    blind = {"evolution.mutation": "swap_mutation", "evolution.crossover": "uniform_crossover"}
    blind |= {"evolution.trial": False}
    assert Search.prepare(guided_settings()).fitness.options.candidates == 1.0
    assert (
        Search.prepare(guided_settings(**blind)).fitness.options.candidates == 1.0
    )  # the density falls by it
    assert (
        Search.prepare(guided_settings(**blind, **{"evolution.start_density": 0})).fitness.options.candidates
        is None
    )


def test_a_density_that_would_rise_is_refused():
    refused(
        lambda: Search.prepare(guided_settings(**{"evolution.start_density": 0.01})),
        "evolution.start_density",
        "0.01",
        "0.05",
    )


def test_where_no_new_network_is_found_the_old_ones_stay_though_they_keep_too_much(tiny):
    network = initialize("mlp:1", tiny)
    first = np.ones((1, network.spec.size), dtype=bool)
    options = {"density": Counts([10, 5]), "duplicates": Duplicates(lambda mask, spec: "one")}
    found = evolve(first, guided, network.spec, **plain(generations=2, **options))
    assert [(len(g.offspring), int(g.population[0].mask.sum())) for g in found] == [(1, 10), (0, 10), (0, 10)]
