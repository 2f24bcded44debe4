"""The evolution: who is chosen, who survives, what is refused, and that it goes on where it stopped."""

import random
import time
import warnings
from collections import Counter

import numpy as np
import pytest
import torch
from networks import mlp
from searches import plain

from ticketsearch.errors import BadInput
from ticketsearch.evolution import Duplicates, Variation, evolve
from ticketsearch.evolution.timing import EVOLUTION_PHASES, FITNESS, KEYS, OPERATORS, REST, SELECTION
from ticketsearch.halving import Agreement, successive_halving
from ticketsearch.masks import digest, layer_counts
from ticketsearch.tickets import Scores, Ticket, Tickets

SPEC = mlp(8, 6, 4)
TARGET = np.arange(SPEC.size) % 3 == 0


def likeness(masks):
    """A landscape without training: how many bits agree with a hidden target."""
    return (masks == TARGET).sum(axis=1).astype(float)


def first_masks(count=12, kept=24, seed=0):
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, SPEC.size), dtype=bool)
    for mask in masks:
        mask[rng.choice(SPEC.size, kept, replace=False)] = True
    return masks


def run(**options):
    return list(evolve(first_masks(), likeness, SPEC, **plain(**{"generations": 15, "seed": 3, **options})))


def contents(generations):
    return [
        (
            g.number,
            [(t.number, t.digest, t.score, t.parents, t.operator) for t in g.population],
            g.refused,
            g.state,
        )
        for g in generations
    ]


def test_generation_zero_is_the_first_population_evaluated():
    first = first_masks()
    generations = run(generations=0)
    assert [g.number for g in generations] == [0]
    assert np.array_equal(generations[0].population.masks, first)
    assert [t.score for t in generations[0].population] == likeness(first).tolist()


def test_the_search_climbs_and_never_loses_its_best():
    best = [g.best.score for g in run(generations=40)]
    assert best == sorted(best)
    assert best[-1] > best[0] + 5


def test_better_parents_have_more_children():
    planted = Tickets(Ticket(mask) for mask in first_masks(8))
    scores = {ticket.digest: float(rank) for rank, ticket in enumerate(planted)}

    def fitness(masks):
        return np.array([scores.get(digest(mask), -100.0) for mask in masks])

    children = Counter()
    for seed in range(30):
        fresh = Tickets(Ticket(ticket.mask) for ticket in planted)
        for generation in evolve(fresh, fitness, SPEC, **plain(generations=1, seed=seed)):
            for ticket in generation.offspring:
                children.update(ticket.parents[:1])
    shares = [children[number] for number in range(8)]
    assert shares[7] > shares[4] > shares[0]
    assert shares[7] > 0.25 * sum(shares)  # 1 − (7/8)³ of three-way tournaments hold the best: a third


def test_survivors_are_the_elites_and_no_ticket_survives_twice():
    for before, after in zip(run(), run()[1:], strict=False):
        everyone = {t.number: t.score for t in [*before.population, *after.offspring]}
        survivors = [t.number for t in after.population]
        assert len(survivors) == len(set(survivors)) == 12
        top = sorted(everyone.values(), reverse=True)[:4]
        assert sorted((t.score for t in after.population), reverse=True)[:4] == top


def test_the_population_holds_no_network_twice_and_counts_stay_exact():
    keys = Counter()
    for generation in run(generations=30):
        keys.update(t.key for t in generation.offspring)
        assert len({t.key for t in generation.population}) == len(generation.population)
        assert (generation.population.masks.sum(axis=1) == 24).all()
        assert (layer_counts(generation.population.masks, SPEC) > 0).all()
    assert max(keys.values()) == 1


def test_isomorphic_tickets_of_the_first_population_are_dropped():
    masks = first_masks(6)
    twin = masks[0].copy()
    twin[:48] = masks[0][:48].reshape(6, 8)[::-1].ravel()
    twin[48:] = masks[0][48:].reshape(4, 6)[:, ::-1].ravel()
    generation = next(iter(evolve(np.vstack([masks, twin[None]]), likeness, SPEC, seed=0)))
    assert generation.refused == 1
    assert len(generation.population) == 6


def test_a_seen_network_is_refused_and_after_all_attempts_an_immigrant_comes():
    asked = []

    def only_immigrants_are_new(mask, spec):
        # Everything after the first population counts as seen, until the attempts of one child are used up.
        asked.append(1)
        turn = len(asked) - 13
        return f"new {len(asked)}" if len(asked) <= 12 or turn % 12 == 11 else "seen"

    generations = run(generations=1, duplicates=Duplicates(only_immigrants_are_new), attempts=10)
    # One child slips through as the first "seen" key; from then on each takes 11 refusals and an immigrant.
    assert generations[1].immigrants >= 10
    assert generations[1].refused >= 10 * 11
    assert {t.operator for t in generations[1].offspring} >= {"immigrant"}


def test_an_exhausted_space_ends_in_fewer_children_not_in_a_loop():
    tiny = mlp(2, 1, 1)
    masks = np.array([[1, 0, 1], [0, 1, 1]], dtype=bool)
    generations = list(evolve(masks, lambda m: m[:, 0].astype(float), tiny, **plain(generations=3, seed=0)))
    assert len(generations) == 4
    assert all(len(g.offspring) == 0 for g in generations[1:])
    assert all(g.refused > 0 for g in generations[1:])


def test_the_same_seed_gives_the_same_evolution_and_another_does_not():
    assert contents(run()) == contents(run())
    assert contents(run()) != contents(run(seed=4))


@pytest.mark.parametrize("stop", [0, 1, 7, 14])
def test_going_on_after_any_generation_equals_an_uninterrupted_evolution(stop):
    whole = run()
    rest = list(evolve([], likeness, SPEC, **plain(generations=15, seed=3, population=12, after=whole[stop])))
    assert contents(rest) == contents(whole[stop + 1 :])


def test_global_random_generators_are_left_as_they_were():
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002 - the global one is what must not move
    before = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    run(generations=3)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # noqa: NPY002


def test_nan_never_wins_and_is_recorded_as_diverged():
    def fitness(masks):
        values = likeness(masks)
        values[::3] = np.nan
        values[1::3] = np.inf
        return values

    generations = run() and list(evolve(first_masks(), fitness, SPEC, **plain(generations=5, seed=0)))
    assert generations[0].diverged == 8
    assert np.isfinite(generations[-1].best.score)
    assert all(np.isfinite(value) for g in generations for value in g.statistics.values())


def test_a_fitness_that_is_never_finite_is_one_line():
    with pytest.raises(BadInput, match="not finite for any of the 12") as caught:
        run_with(lambda masks: np.full(len(masks), np.nan))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "result",
    [np.zeros(11), np.zeros((12, 1)), 0.5, None, ["a"] * 12, np.zeros((12, 2)), [[1.0], [1.0, 2.0]]],
    ids=["short", "column", "scalar", "none", "text", "two", "ragged"],
)
def test_a_fitness_of_another_shape_is_one_line(result):
    with pytest.raises(BadInput, match=r"one float a mask, i\.e\. shape \(12,\)") as caught:
        run_with(lambda masks: result)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wrapped", [lambda values: values, Scores])
@pytest.mark.parametrize(
    ("factor", "said"), [(1j, "real numbers, but got dtype complex128"), (1e308, "return -inf")]
)
def test_scores_that_are_complex_or_cannot_be_drawn_are_one_line(factor, said, wrapped):
    with pytest.raises(BadInput, match=said):
        run_with(lambda masks: wrapped(factor * np.ones(len(masks))))


def test_scores_with_a_gradient_are_taken_without_it():
    def fitness(masks):
        return torch.tensor(likeness(masks), requires_grad=True)

    assert next(evolve(first_masks(), fitness, SPEC)).best.score == likeness(first_masks()).max()
    assert Scores(fitness(first_masks())).tolist() == likeness(first_masks()).tolist()


def run_with(fitness):
    return list(evolve(first_masks(), fitness, SPEC, **plain(generations=1, seed=0)))


def test_a_fitness_is_given_tickets_and_round_where_it_names_them():
    calls = []

    def fitness(masks, tickets, *, round):
        assert [t.digest for t in tickets] == [digest(mask) for mask in masks]
        calls.append(round)
        return likeness(masks)

    list(evolve(first_masks(), fitness, SPEC, **plain(generations=2, seed=0)))
    assert calls == [0, 1, 2]


def test_measures_beside_the_scores_are_kept_with_the_tickets():
    def fitness(masks):
        return Scores(likeness(masks), {"kept": masks.sum(axis=1)})

    generation = next(iter(evolve(first_masks(), fitness, SPEC, seed=0)))
    assert all(ticket.measures == {"kept": 24.0} for ticket in generation.population)


def test_a_child_takes_its_first_parents_initialization_and_lineage():
    first = Tickets(Ticket(m, ("scheme", i), ("pruned", i)) for i, m in enumerate(first_masks()))
    everyone = {}
    for generation in evolve(first, likeness, SPEC, **plain(generations=5, seed=0)):
        for ticket in generation.offspring:
            everyone[ticket.number] = ticket
            if ticket.parents:
                parent = everyone[ticket.parents[0]]
                assert ticket.initialization == parent.initialization
                assert ticket.pruned_from == parent.pruned_from
                assert ticket.generation == generation.number
    assert {"swap_mutation", "uniform_crossover"} <= {t.operator for t in everyone.values()}


def test_masks_that_are_given_are_never_written_to():
    masks = first_masks()
    before = masks.copy()
    list(evolve(masks, likeness, SPEC, **plain(generations=5, seed=0)))
    assert np.array_equal(masks, before)


def test_no_warning_where_everything_diverges_later():
    def fitness(masks, round):
        return likeness(masks) if round == 0 else np.full(len(masks), np.nan)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        generations = list(evolve(first_masks(), fitness, SPEC, **plain(generations=2, seed=0)))
    assert generations[-1].diverged == 12
    assert np.isfinite(generations[-1].best.score)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"population": 0}, "population must be >= 1, but got 0"),
        ({"generations": -1}, "generations must be >= 0, but got -1"),
        ({"size": 0}, "size must be >= 1"),
        ({"crossover_rate": 1.5}, r"crossover_rate must be in \[0, 1\]"),
        ({"mutation_rate": 0.0}, r"mutation_rate must be in \(0, 1\]"),
        ({"elites": -1}, "elites must be >= 0"),
        ({"attempts": -1}, "attempts must be >= 0"),
        ({"reassess": -1}, "reassess must be >= 0, but got -1"),
        ({"ties": -1}, "ties must be >= 0"),
        ({"temperature": -0.1}, "temperature must be >= 0 and finite, but got -0.1"),
        ({"temperature": np.nan}, "temperature must be a number, but got nan"),
        ({"crossover": []}, "at least 1 crossover"),
        ({"mutation": 3}, "mutation must be a function"),
        ({"elites": "4"}, "elites must be an integer, but got '4'"),
    ],
)
def test_bad_arguments_are_refused_with_rule_and_value(options, message):
    with pytest.raises(BadInput, match=message):
        run(**options)


def test_masks_of_another_network_are_refused():
    with pytest.raises(BadInput, match=r"shape \(72,\)"):
        list(evolve(np.ones((4, 10), dtype=bool), likeness, SPEC))


def test_an_empty_first_population_is_refused():
    for population in (None, 5):
        with pytest.raises(BadInput, match="at least 1 ticket"):
            evolve([], likeness, SPEC, **plain(population=population))


def test_the_callers_tickets_may_begin_several_evolutions():
    first = Tickets(Ticket(mask) for mask in first_masks())
    one = next(evolve(first, likeness, SPEC))
    two = next(evolve(first, lambda masks: -likeness(masks), SPEC))
    assert [t.score for t in one.population] == likeness(first.masks).tolist()
    assert [t.score for t in two.population] == (-likeness(first.masks)).tolist()
    assert all(np.isnan(ticket.score) and ticket.number == -1 for ticket in first)


@pytest.mark.parametrize("which", ["mutation", "crossover"])
@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda mask: np.ones_like(mask), "made 72 of 24"),
        (lambda mask: np.zeros_like(mask), "made 0 of 24"),
        (lambda mask: mask[:-1], r"shape \(72,\)"),
        (lambda mask: mask * 2, "True and False"),
    ],
)
def test_an_operator_that_breaks_its_contract_is_refused(which, made, message):
    def operator(a, b=None, *, spec, rng, rate=None):
        return made(a)

    with pytest.raises(BadInput, match=message):
        run(**{which: operator}, crossover_rate=which == "crossover")


def test_an_operator_may_return_integers_and_be_any_callable():
    class Shuffle:
        def __call__(self, mask, *, spec, rng, rate):
            return rng.permutation(mask).astype(int)

    generations = list(
        evolve(first_masks(), likeness, SPEC, **plain(generations=1, mutation=Shuffle(), crossover_rate=0))
    )
    assert {t.operator for t in generations[1].offspring} == {"Shuffle"}
    assert generations[1].population.masks.dtype == bool


def test_a_subclass_of_a_fitness_and_odd_callables_are_called_as_they_are():
    class Fitness:
        scores = ()

        def __call__(self, masks):
            return likeness(masks) - 100

    assert next(evolve(first_masks(), Fitness(), SPEC)).best.score < -20
    with pytest.raises(BadInput, match="a fitness is a callable"):
        evolve(first_masks(), None, SPEC)


def test_a_duplicate_key_is_called_with_mask_and_spec():
    variation = Variation(duplicates=Duplicates(lambda mask, spec: digest(mask)))
    assert len(next(evolve(first_masks(), likeness, SPEC, variation=variation)).population) == 12


def test_measures_of_another_shape_are_refused():
    with pytest.raises(BadInput, match="measures are one float a mask"):
        next(evolve(first_masks(), lambda m: Scores(likeness(m), {"kept": 3.0}), SPEC))


def test_lists_of_masks_begin_an_evolution_too():
    assert len(next(evolve([list(mask) for mask in first_masks()], likeness, SPEC)).population) == 12


# Successive halving


RUNGS = (50, 200, 800)


def halving_fitness(masks, round):
    """The landscape under successive halving, with less noise on each rung."""
    rng = np.random.default_rng(round)
    noise = rng.normal(size=(3, len(masks))) * [[4], [2], [0.5]]
    true = likeness(masks)
    result = successive_halving(
        len(masks), RUNGS, lambda positions, rung: (true + noise[rung])[positions], rng
    )
    return Scores(result.score, rungs=np.array(RUNGS)[result.rung], agreements=result.agreements)


def planted(rungs, scores):
    """A fitness that gives the first population these rungs and scores, and children the worst."""

    def fitness(masks, round):
        if round:
            return Scores(np.full(len(masks), -1000.0), rungs=np.zeros(len(masks), dtype=int))
        return Scores(scores, rungs=rungs)

    return fitness


def test_tickets_compare_by_rung_then_score_wherever_they_are_chosen():
    rungs, scores = np.repeat([800, 200, 50], 4), np.array([1, 2, 3, 4, 11, 12, 13, 14, 21, 22, 23, 24])
    fitness = planted(rungs, scores)
    options = {"generations": 1, "elites": 6, "size": 200, "seed": 0}
    generations = list(evolve(first_masks(), fitness, SPEC, **plain(**options)))
    assert [(t.rung, t.score) for t in generations[0].population] == list(zip(rungs, scores, strict=True))
    for generation in generations:
        assert (generation.best.rung, generation.best.score) == (800, 4)
    # Tournaments of two hundred draws hold everyone: survivors and parents are the best.
    elites = [(t.rung, t.score) for t in generations[1].population[:6]]
    assert elites == [(800, 4), (800, 3), (800, 2), (800, 1), (200, 14), (200, 13)]
    assert [t.number for t in generations[1].population] == [3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8]
    parents = Counter(number for t in generations[1].offspring for number in t.parents[:1])
    assert set(parents) == {3}


def test_what_diverges_on_a_high_rung_is_worse_than_any_score_on_the_lowest():
    fitness = planted([800] * 6 + [50] * 6, [np.nan, np.inf, -np.inf, 1, 1, 1, *range(-6, 0)])
    generations = list(evolve(first_masks(), fitness, SPEC, **plain(generations=1, seed=0, elites=12)))
    assert [t.rung for t in generations[0].population] == [0, 0, 0, 800, 800, 800] + [50] * 6
    assert all(t.diverged for t in generations[0].population[:3])
    assert not any(t.diverged for t in generations[1].population)
    assert sum(t.score == -1000 for t in generations[1].population) == 3


def test_statistics_are_of_the_highest_rung_that_is_there():
    generation = next(evolve(first_masks(), planted([800] * 3 + [50] * 9, range(12)), SPEC))
    assert generation.statistics == {"best": 2, "mean": 1, "worst": 0}
    generation = next(evolve(first_masks(), planted([800] * 3 + [50] * 9, [np.nan] * 3 + [*range(9)]), SPEC))
    assert generation.statistics == {"best": 8, "mean": 4, "worst": 0}


def test_successive_halving_runs_inside_a_generation_and_its_rungs_have_an_agreement():
    generations = list(evolve(first_masks(), halving_fitness, SPEC, **plain(generations=20, seed=3)))
    for generation in generations:
        assert Counter(t.rung for t in generation.offspring) == {50: 6, 200: 3, 800: 3}
        lower, upper = generation.agreements
        assert (lower[:2], lower.pairs) == ((50, 200), 1)
        assert (upper[:2], upper.pairs) == ((200, 800), 6)
    best = [g.best.score for g in generations]
    assert best == sorted(best)
    assert best[-1] > best[0] + 5
    assert sum(t.rung == 800 for t in generations[-1].population) > 6  # three of twelve children earn it


@pytest.mark.parametrize("stop", [0, 6])
def test_an_evolution_with_successive_halving_goes_on_as_if_uninterrupted(stop):
    options = {"generations": 8, "seed": 3}
    whole = list(evolve(first_masks(), halving_fitness, SPEC, **plain(**options)))
    rest = list(evolve([], halving_fitness, SPEC, **plain(population=12, after=whole[stop], **options)))
    assert contents(rest) == contents(whole[stop + 1 :])
    assert [g.agreements for g in rest] == [g.agreements for g in whole[stop + 1 :]]


def test_without_successive_halving_there_are_no_rungs_and_no_agreements():
    for generation in run(generations=2):
        assert generation.agreements == []
        assert {t.rung for t in generation.population} == {0}


def test_agreements_of_a_fitness_are_kept_as_they_are():
    agreements = [Agreement(1, 2, 3, 4, 5)]
    generation = next(evolve(first_masks(), lambda m: Scores(likeness(m), agreements=agreements), SPEC))
    assert generation.agreements == agreements


def test_rungs_of_another_shape_are_refused():
    with pytest.raises(BadInput, match=r"one number of steps a mask, \(12,\), but got \(2,\)"):
        next(evolve(first_masks(), lambda m: Scores(likeness(m), rungs=[50, 200]), SPEC))


# Phases


def test_each_part_of_a_generation_has_its_time():
    def slow(function, seconds):
        def slowed(*arguments, **options):
            time.sleep(seconds)
            return function(*arguments, **options)

        return slowed

    def key(mask, spec):
        return digest(mask)

    def shuffled(mask, *, spec, rng, rate):
        return rng.permutation(mask)

    started = time.perf_counter()
    generations = []
    for generation in evolve(
        first_masks(),
        slow(likeness, 0.05),
        SPEC,
        **plain(
            generations=2,
            seed=0,
            crossover_rate=0,
            duplicates=Duplicates(slow(key, 0.004)),
            mutation=slow(shuffled, 0.006),
        ),
    ):
        generations.append(generation)
        time.sleep(0.03)  # what the caller does takes no part
    passed = time.perf_counter() - started
    for generation in generations:
        phases = generation.phases
        made = len(generation.offspring) + generation.refused
        assert phases[FITNESS] >= 0.05
        assert phases[KEYS] >= 0.004 * made
        assert phases.get(OPERATORS, 0) >= (0.006 * made if generation.number else 0)
        assert generation.seconds == sum(phases.values())
        assert set(phases) == {FITNESS, KEYS, REST, *({OPERATORS, SELECTION} if generation.number else ())}
    assert sum(g.seconds for g in generations) <= passed - 3 * 0.03


def test_a_fitness_may_tell_its_phases_apart():
    def fitness(masks):
        time.sleep(0.02)
        return Scores(likeness(masks), phases={"training": 0.004, "validation": 0.001})

    phases = next(evolve(first_masks(), fitness, SPEC)).phases
    assert phases["training"] == pytest.approx(0.004)
    assert phases["validation"] == pytest.approx(0.001)
    assert phases[FITNESS] >= 0.0149


@pytest.mark.parametrize(
    ("name", "seconds"),
    [*((name, 0.1) for name in EVOLUTION_PHASES), ("training", -0.1), ("training", float("nan"))],
)
def test_phases_that_cannot_be_told_from_the_evolutions_own_are_refused(name, seconds):
    with pytest.raises(BadInput, match="phases of a fitness are seconds >= 0") as caught:
        next(evolve(first_masks(), lambda m: Scores(likeness(m), phases={name: seconds}), SPEC))
    assert repr(name) in str(caught.value)
