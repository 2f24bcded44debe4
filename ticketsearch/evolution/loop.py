"""The evolution: DEAP's tools around whole-mask operators, as a generator of generations.

``for generation in evolve(first, fitness, spec): ...``; saving, printing and stopping are the loop's body.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from deap import base, tools
from numpy.typing import NDArray

from ticketsearch.canonical import Weights, canonical_identity
from ticketsearch.checks import Count, Generations, Members, checked
from ticketsearch.cost import Spent
from ticketsearch.errors import BadInput
from ticketsearch.evolution.evaluation import assess
from ticketsearch.evolution.operator_selection import Credit, Operators, several
from ticketsearch.evolution.order_effects import Levels, longest_unseen
from ticketsearch.evolution.pareto import FrontSelection, check_range
from ticketsearch.evolution.pareto import front as front_of
from ticketsearch.evolution.reproduction import Breeding, seeded_random, survivors
from ticketsearch.evolution.timing import SELECTION
from ticketsearch.halving import Agreement
from ticketsearch.masks import Mask, MaskSpec, layer_shuffle
from ticketsearch.operators import swap_mutation, uniform_crossover
from ticketsearch.plugins import parameters_of
from ticketsearch.random_streams import Stream, seed_sequence
from ticketsearch.tickets import Key, Scores, Seen, Ticket, Tickets, as_tickets

__all__ = ["Generation", "evolve"]


@dataclass(frozen=True)
class Generation:
    """One generation: the survivors, what was evaluated for it, and the state to go on from.

    Attributes
    ----------
    number : 0 is the first population.
    population : the survivors; a ticket keeps its place in it.
    offspring : the tickets evaluated in this generation (generation 0: the first population).
    refused : children that were a network already seen in this run.
    immigrants : children given up after all attempts and replaced by random masks.
    statistics : ``best``, ``mean`` and ``worst`` score of the population (finite ones), from DEAP; on a
        ladder of those on the highest rung that is there, as scores of different rungs do not compare.
    state : JSON-able state of the random generator and the ticket counter, and the credit of operators
        where there are several of a kind.
    agreements : how far the rungs of a ladder agree on this generation's controls.
    phases : wall-clock seconds by phase, see :mod:`ticketsearch.evolution.timing`; a run adds that of
        its store.
    spent : what its evaluations took, as the fitness says.
    levels : what rounds are worth, as far as that is known; one object of all generations of a search, which
        goes on to learn.
    """

    number: int
    population: Tickets
    offspring: Tickets
    refused: int = 0
    immigrants: int = 0
    statistics: dict[str, float] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)
    agreements: list[Agreement] = field(default_factory=list)
    phases: dict[str, float] = field(default_factory=dict)
    spent: Spent = field(default_factory=Spent)
    levels: Levels = field(default_factory=Levels, repr=False)

    @property
    def best(self) -> Ticket:
        """The ticket of the highest fitness: on a ladder the highest rung, then the highest score."""
        return max(self.population, key=lambda ticket: ticket.fitness)

    @property
    def front(self) -> Tickets:
        """The tickets that no other one beats in both score and kept weights, the sparsest first."""
        return front_of(self.population)

    @property
    def seconds(self) -> float:
        """The wall-clock time of the generation."""
        return sum(self.phases.values())

    @property
    def diverged(self) -> int:
        """How many of the offspring have no finite fitness."""
        return sum(ticket.diverged for ticket in self.offspring)


@checked
def evolve(
    first: Iterable[Ticket] | NDArray[np.bool_],
    fitness: Callable[..., Any],
    spec: MaskSpec,
    *,
    generations: Generations = 20,
    seed: int = 0,
    population: Members | None = None,
    elites: Count = 4,
    tournament: Members = 3,
    crossover_rate: float = 0.5,
    mutation_rate: float = 0.05,
    crossover: Operators = uniform_crossover,
    mutation: Operators = swap_mutation,
    attempts: Count = 10,
    duplicate_key: Key = canonical_identity,
    weights: Callable[[Ticket], Weights] | None = None,
    counts: Sequence[int] | None = None,
    temperature: float = 0.0,
    trial: bool = False,
    reassess: Count = 0,
    front: tuple[int, int] | None = None,
    polish: Callable[..., tuple[Mask, Spent]] | None = None,
    ties: Count = 0,
    after: Generation | None = None,
    seen: Iterable[str] = (),
    searched: Iterable[Ticket] = (),
) -> Iterator[Generation]:
    """Yield generation 0 (the first population, evaluated) and ``generations`` more.

    Arguments are checked at once; the work is done as the generations are asked for.

    Each generation makes as many children as the population holds: two parents by tournament, crossover
    with its rate, else mutation of the first. A child that is a network seen before in this run, by its
    duplicate key, is refused and made again, up to ``attempts`` times; then a random mask with the layer
    counts of a member takes its place. Survivors of parents and children (μ+λ): the elites, and the rest by
    tournament without replacement. Tickets compare by rung, then score, where the fitness has a ladder.

    With ``trial`` there are two evaluation rounds a generation, and generation g's children are scored in
    round 2 g; otherwise in round g.

    Where the fitness gives guidance (:class:`ticketsearch.Guidance`), operators that name it choose by it.
    With ``counts`` the population grows sparser on its way: parents are cut by the saliency of their weights
    before an operator sees them, and tickets that keep more than their generation may do not survive it. By
    magnitude, from the mask of all weights, alone and without mutation, that is iterative magnitude pruning.

    With ``front`` there are two objectives, a high score and few kept weights, and selection is NSGA-II's:
    see :mod:`ticketsearch.evolution.pareto`, and ``Generation.front`` for the result.

    Parameters
    ----------
    first : tickets, or masks ``(population, weights)``; a network that is there twice is dropped.
    fitness : ``(population, weights)`` bool → ``(population,)`` float; see :mod:`ticketsearch.fitness`.
    spec : the mask spec.
    generations : the number of the last generation.
    seed : of all choices made here.
    population : μ; by default the size of ``first``.
    elites : best tickets that always survive; with a front all that do are the best.
    tournament : tickets a tournament draws.
    crossover_rate : chance of crossover rather than mutation, in [0, 1].
    mutation_rate : passed to the mutation as ``rate``.
    crossover, mutation : an operator, or several, of which each child's is drawn by how good its earlier
        children were; see :mod:`ticketsearch.operators` and :mod:`ticketsearch.evolution.operator_selection`.
    attempts : how often a refused child is made again.
    duplicate_key : ``key(mask, spec)``, equal for masks that count as the same network.
    weights : if given, returns of a ticket the initial weights that count as well, up to the same
        renumbering: the key is then ``key(mask, spec, weights)``; see
        :func:`ticketsearch.tickets.duplicates.initial_weights`.
    counts : how many weights the children of each generation keep at most, by its number; the last number
        holds on. What is given for generation 0, the first population, is not looked at. None for as many as
        their parents.
    temperature : of the noise on guided choices, >= 0; see :func:`ticketsearch.masks.guidance.strongest`.
    trial : whether a child is first trained together with all that its parents keep, and what is least
        salient then is pruned; where the fitness gives no guidance, none is.
    reassess : of so many members one is evaluated again beside the children of each generation, on the data
        order of that round: those that were not for the longest time. They have the mean of their scores,
        and tell what the round's data order is worth, which is taken off; see
        :mod:`ticketsearch.evolution.order_effects`. 0 for none, and none where the fitness does not name
        ``round``.
    front : the fewest and the most weights of a child, whose number is drawn about its first parent's: it is
        cut where that is less, and gets random weights where it is more. None for one objective, the score.
    polish : ``polish(masks, rng)`` returns children ``(population, weights)`` improved, and what that took,
        as :class:`ticketsearch.evolution.local_search.Polish` does; what comes of it may keep another number
        of weights.
        None for children as operators make them.
    ties : survivors that may have the same fitness, as long as there are others; 0 for any number.
    after, seen, searched : go on after this generation, with all duplicate keys of the run so far and the
        tickets whose canonical form had to be searched for; see :class:`ticketsearch.tickets.Seen`.

    Raises :class:`BadInput` for bad arguments, a fitness that returns another shape, or one that is not
    finite for any ticket of the population.
    """
    tickets = as_tickets(first) if after is None else after.population
    if not tickets:
        raise BadInput("an evolution begins with at least 1 ticket, but the first population is empty")
    before = len(tickets) if after is None else after.state["population"]
    size = before if population is None else population
    _check_arguments(
        size, generations, elites, tournament, crossover_rate, mutation_rate, attempts, reassess, ties
    )
    if polish is not None and (trial or counts is not None or front is not None):
        raise BadInput("polishing gives children a size of its own, but got a trial, counts or a front too")
    if ties and front is not None:
        raise BadInput("ties are of one objective, the score, but got a front too; leave one out")
    _check_plan(counts, temperature, spec)
    if front is not None:
        check_range(front, spec.size)
        if counts is not None:
            raise BadInput("counts fall where the score is all, but got a front too; leave one out")
    if not callable(fitness):
        raise BadInput(f"a fitness is a callable from masks to scores, but got {type(fitness).__name__}")
    rng = np.random.default_rng(seed_sequence(seed, Stream.EVOLUTION))
    toolbox = base.Toolbox()
    same: dict[str, Any] = {"spec": spec, "rng": rng}
    mates = [partial(f, **same, **_noise(f, temperature)) for f in several(crossover)]
    mutants = [partial(f, **same, rate=mutation_rate, **_noise(f, temperature)) for f in several(mutation)]
    operators = {"crossover": Credit(mates, "crossover"), "mutation": Credit(mutants, "mutation")}
    toolbox.register("immigrate", layer_shuffle, spec=spec, rng=rng)
    if front is None:
        toolbox.register("select", tools.selTournament, tournsize=tournament)
        toolbox.register("survive", survivors, elites=elites, toolbox=toolbox, ties=ties)
    else:
        selection = FrontSelection(tournament)
        toolbox.register("select", selection.parents)
        toolbox.register("survive", selection.survivors)
    toolbox.register("evaluate", assess, fitness)
    statistics = tools.Statistics(key=lambda ticket: ticket.score)
    statistics.register("best", np.max)
    statistics.register("mean", np.mean)
    statistics.register("worst", np.min)
    known = Seen(spec, duplicate_key, weights, keys=seen, searched=searched)
    breeding = Breeding(
        toolbox, operators, spec, rng, known, crossover_rate, attempts, size, temperature, front, trial
    )
    again = reassess if "round" in parameters_of(fitness) else 0
    return _generations(tickets, breeding, statistics, generations, counts, again, polish, after)


def _generations(
    tickets: Tickets,
    breeding: Breeding,
    statistics: tools.Statistics,
    generations: int,
    counts: Sequence[int] | None,
    reassess: int,
    polish: Callable[..., tuple[Mask, Spent]] | None,
    after: Generation | None,
) -> Iterator[Generation]:
    toolbox, size, phases = breeding.toolbox, breeding.size, breeding.phases
    levels = Levels() if after is None else after.levels.until(after.number)
    if after is None:
        phases.start()
        spent = tickets.spent
        tickets, refused = breeding.first(tickets)
        scores = toolbox.evaluate(tickets, phases, generation=0, round=0)
        scores.spent += spent
        yield _generation(0, tickets, tickets, refused, 0, scores, statistics, breeding, levels)
    else:
        breeding.restore(after.state)
    for number in range(1 if after is None else after.number + 1, generations + 1):
        phases.start()
        breeding.keep = None if counts is None else counts[min(number, len(counts) - 1)]
        round, spent, immigrants = 2 * number if breeding.trial else number, Spent(), 0
        with seeded_random(breeding.rng):
            if breeding.trial and any(ticket.guidance is not None for ticket in tickets):
                drafts, sizes = breeding.drafts(tickets)
                tried = toolbox.evaluate(drafts, phases, generation=number, round=2 * number - 1)
                spent = tried.spent
                children, refused, immigrants = breeding.pruned(drafts, sizes, tickets, number)
            elif polish is not None:
                children, refused, spent = breeding.polished(tickets, number, polish)
            else:
                children, refused, immigrants = breeding.children(tickets, number)
        tickets = Tickets(ticket.afresh() for ticket in tickets)
        lasting = breeding.lasting(tickets)
        again = longest_unseen(lasting, math.ceil(len(lasting) / reassess) if reassess else 0)
        before = [ticket.fitness.values for ticket in again]
        scores = toolbox.evaluate(Tickets([*children, *again]), phases, generation=number, round=round)
        scores.spent += spent
        breeding.reward(children)
        with seeded_random(breeding.rng), phases.measure(SELECTION):
            levels.learn(again, before)
            levels.apply([*tickets, *children])
            tickets = toolbox.survive(breeding.sparse([*tickets, *children]), size)
        found = tickets, children, refused, immigrants
        yield _generation(number, *found, scores, statistics, breeding, levels)


def _generation(
    number: int,
    population: Tickets,
    offspring: Tickets,
    refused: int,
    immigrants: int,
    scores: Scores,
    statistics: tools.Statistics,
    breeding: Breeding,
    levels: Levels,
) -> Generation:
    finite = [ticket for ticket in population if not ticket.diverged]
    top = max((ticket.rung for ticket in finite), default=0)
    shown = [ticket for ticket in finite if ticket.rung == top]
    compiled = {name: float(value) for name, value in statistics.compile(shown).items()} if shown else {}
    return Generation(
        number,
        population,
        offspring,
        refused,
        immigrants,
        compiled,
        breeding.state(),
        scores.agreements,
        breeding.phases.stop(),
        scores.spent,
        levels,
    )


def _noise(operator: Callable[..., Mask], temperature: float) -> dict[str, float]:
    return {"temperature": temperature} if "temperature" in parameters_of(operator) else {}


def _check_plan(counts: Sequence[int] | None, temperature: float, spec: MaskSpec) -> None:
    if not 0 <= temperature < math.inf:
        raise BadInput(f"temperature must be >= 0 and finite, but got {temperature}")
    if counts is None:
        return
    if not len(counts):
        raise BadInput("counts has a number of weights for each generation, but is empty; None leaves it out")
    for number in counts:
        if not 1 <= number <= spec.size:
            raise BadInput(f"counts are weights to keep, 1 to {spec.size}, but got {number}")


def _check_arguments(
    size: int,
    generations: int,
    elites: int,
    tournament: int,
    crossover_rate: float,
    mutation_rate: float,
    attempts: int,
    reassess: int,
    ties: int,
) -> None:
    rules = (
        ("population", size, size >= 1, ">= 1"),
        ("generations", generations, generations >= 0, ">= 0"),
        ("elites", elites, elites >= 0, ">= 0"),
        ("tournament", tournament, tournament >= 1, ">= 1"),
        ("crossover_rate", crossover_rate, 0 <= crossover_rate <= 1, "in [0, 1]"),
        ("mutation_rate", mutation_rate, 0 < mutation_rate <= 1, "in (0, 1]"),
        ("attempts", attempts, attempts >= 0, ">= 0"),
        ("reassess", reassess, reassess >= 0, ">= 0"),
        ("ties", ties, ties >= 0, ">= 0"),
    )
    for name, value, holds, rule in rules:
        if not holds:
            raise BadInput(f"{name} must be {rule}, but got {value}")
