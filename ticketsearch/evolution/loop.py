"""The generational loop, as a generator: the caller saves, prints and stops.

``for generation in evolve(first, fitness, spec): ...``
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ticketsearch.checks import Generations, checked
from ticketsearch.cost import Spent
from ticketsearch.errors import BadInput
from ticketsearch.evolution.density_schedule import DensitySchedule
from ticketsearch.evolution.deprecated import translate_old_keywords
from ticketsearch.evolution.evaluation import evaluate
from ticketsearch.evolution.generation import Generation, population_statistics
from ticketsearch.evolution.local_search import Improvement, LocalSearch
from ticketsearch.evolution.order_effects import OrderEffects, least_recently_evaluated
from ticketsearch.evolution.reproduction import Draft, Maker, Offspring, Reproduction
from ticketsearch.evolution.selection import NSGA2, ParentDraw, Tournament, seeded_random
from ticketsearch.evolution.timing import FITNESS, SELECTION
from ticketsearch.evolution.variation import Variation
from ticketsearch.masks import MaskSpec
from ticketsearch.plugins import parameters_of
from ticketsearch.random_streams import Stream, seed_sequence
from ticketsearch.tickets import Scores, Ticket, Tickets, as_tickets

__all__ = ["GuidanceWarning", "evolve"]

GUIDANCE = (
    "the fitness gives no guidance, so that guided operators choose at random ({}): pass a fitness that "
    "gives it, as ts.ShortTraining and ts.Scores(…, guidance=…) do, or operators that need none, as "
    "uniform_crossover and swap_mutation"
)


class GuidanceWarning(UserWarning):
    """Guided operators choose at random, as the fitness gives no guidance."""


@translate_old_keywords
@checked
def evolve(  # noqa: PLR0913 - the options of a search, each checked when it was made
    first: Iterable[Ticket] | NDArray[np.bool_],
    fitness: Callable[..., Any],
    spec: MaskSpec,
    *,
    variation: Variation = Variation(),  # noqa: B008 - frozen
    selection: Tournament | NSGA2 = Tournament(),  # noqa: B008 - frozen
    density: DensitySchedule | None = None,
    local_search: LocalSearch | None = None,
    generations: Generations = 20,
    seed: int = 0,
    after: Generation | None = None,
) -> Iterator[Generation]:
    """Yield generation 0 (the first population, evaluated) and ``generations`` more.

    Arguments are checked at once; a generation is computed when it is asked for.

    Each generation makes as many children as the population holds, evaluates them, and selects the survivors
    from parents and children (μ+λ). Tickets compare by rung, then score, where the fitness uses successive
    halving. With ``variation.trial`` and a fitness that gives guidance, generation g trains drafts of its
    children in evaluation round 2g − 1 and the children in round 2g; without ``trial`` the children are
    evaluated in round g.

    Parameters
    ----------
    first : tickets, or masks ``(population, weights)`` bool; duplicates are dropped.
    fitness : ``(population, weights)`` bool → ``(population,)`` float, larger is better; see
        :mod:`ticketsearch.fitness`.
    spec : the mask spec.
    variation : operators, rates and duplicate rejection.
    selection : :class:`Tournament` for the score alone, or :class:`NSGA2` for score and kept weights.
    density : density annealing; None for a constant density. For :class:`Tournament` alone.
    local_search : hill climbing of children; None for none. For :class:`Tournament`, without ``density``.
    generations : number of the last generation.
    seed : seed of all choices made here.
    after : continue after this generation, as if the search had not been interrupted; ``first`` is then not
        used.

    Raises :class:`ticketsearch.BadInput` for bad arguments, a fitness that returns another shape, or one that
    is not finite for any ticket of the first population. Warns (:class:`GuidanceWarning`) once where guided
    operators get no guidance from the fitness.
    """
    tickets = as_tickets(first) if after is None else after.population
    if not tickets:
        raise BadInput("an evolution begins with at least 1 ticket, but the first population is empty")
    if generations < 0:
        raise BadInput(f"generations must be >= 0, but got {generations}")
    if not callable(fitness):
        raise BadInput(f"a fitness is a callable from masks to scores, but got {type(fitness).__name__}")
    bounds = selection.bounds(spec.size)
    _check_one_size_rule(bounds is not None, density is not None, local_search is not None)
    counts = None if density is None else density.counts(spec.size, generations)
    improvement = None if local_search is None else local_search.improvement(fitness, spec)
    rng = np.random.default_rng(seed_sequence(seed, Stream.EVOLUTION))
    seen = variation.duplicates.seen(spec, after)
    reproduction = Reproduction(variation, spec, rng, seen, bounds)
    return _Loop(fitness, selection, reproduction, counts, improvement).run(tickets, generations, after)


class _Loop:
    """One search: the state that the steps of a generation read and change.

    Attributes
    ----------
    population : the current members.
    size : number of members, and of children of a generation.
    generation : number of the current generation.
    spent : cost of the current generation so far.
    """

    def __init__(
        self,
        fitness: Callable[..., Any],
        selection: Tournament | NSGA2,
        reproduction: Reproduction,
        counts: Sequence[int] | None,
        improvement: Improvement | None,
    ) -> None:
        self.fitness = fitness
        self.selection = selection
        self.reproduction = reproduction
        self.counts = counts
        self.improvement = improvement
        # A local search leaves the size of children to itself, so that no draft could be pruned to it.
        self.trial = reproduction.variation.trial and improvement is None
        self.reassess = selection.reassess if "round" in parameters_of(fitness) else 0
        self.phases = reproduction.phases
        self.rng = reproduction.rng
        self.population = Tickets()
        self.size = self.generation = 0
        self.spent = Spent()
        self.order_effects = OrderEffects()
        self._warned = False

    def run(self, first: Tickets, generations: int, after: Generation | None) -> Iterator[Generation]:
        """Yield the generations: select, vary, train drafts, evaluate, learn, survive."""
        if after is None:
            yield self._begin(first)
        else:
            self._continue(after)
        for generation in range(self.generation + 1, generations + 1):
            self._start(generation)
            with seeded_random(self.rng):
                parents = self.select()
                drafts = self.vary(parents)
                offspring = self.train_drafts(drafts)
            scores, members, before = self.evaluate(offspring.tickets)
            with seeded_random(self.rng), self.phases.measure(SELECTION):
                self.learn(offspring.tickets, members, before)
                self.survive(offspring.tickets)
            yield self._result(offspring, scores)

    def select(self) -> ParentDraw:
        """Return the draw of parents from the population."""
        with self.phases.measure(SELECTION):
            return self.selection.parents(self.population)

    def vary(self, parents: ParentDraw) -> Iterator[Draft]:
        """Return the drafts of children: endless, as a refused child is made again from other parents."""
        self._warn_without_guidance()
        return self.reproduction.drafts(parents)

    def train_drafts(self, drafts: Iterator[Draft]) -> Offspring:
        """Return the children: drafts as they are, trained and pruned, or improved by the local search."""
        if self.improvement is not None:
            return self._improved(list(islice(drafts, self.size)), self.improvement)
        makers: list[Maker]
        if self.trial and self._has_guidance():
            makers = self._trained(list(islice(drafts, self.size)))
        else:
            makers = [lambda attempt: next(drafts).child] * self.size
        return self.reproduction.admit(makers, self.population, self.generation)

    def evaluate(self, children: Tickets) -> tuple[Scores, Tickets, list[tuple[float, ...]]]:
        """Evaluate the children, and some members again; return scores, members and their fitness before."""
        # Copies, as the generation before holds these tickets too.
        self.population = Tickets(ticket.copy_for_reevaluation() for ticket in self.population)
        lasting = self.reproduction.sparse_enough(self.population)
        again = math.ceil(len(lasting) / self.reassess) if self.reassess else 0
        members = least_recently_evaluated(lasting, again)
        before = [ticket.fitness.values for ticket in members]
        round = 2 * self.generation if self.trial else self.generation
        return self._scores(Tickets([*children, *members]), round), members, before

    def learn(self, children: Tickets, members: Tickets, before: Sequence[tuple[float, ...]]) -> None:
        """Update the operators' qualities and the order effects, which are subtracted from all scores."""
        self.reproduction.reward(children)
        self.order_effects.estimate(members, before)
        self.order_effects.subtract([*self.population, *children])

    def survive(self, children: Tickets) -> None:
        """Select the next population from members and children."""
        candidates = Tickets([*self.population, *children])
        sparse = self.reproduction.sparse_enough(candidates) or candidates
        self.population = self.selection.survivors(sparse, self.size)

    def _begin(self, first: Tickets) -> Generation:
        self.phases.start()
        self.size = self.selection.population or len(first)
        self.spent = first.spent
        offspring = self.reproduction.first(first)
        self.population = offspring.tickets
        return self._result(offspring, self._scores(self.population, 0))

    def _continue(self, after: Generation) -> None:
        self.size = self.selection.population or after.state["population"]
        self.generation, self.population = after.number, after.population
        self.order_effects = after.order_effects.until(after.number)
        self.reproduction.restore(after.state)

    def _start(self, generation: int) -> None:
        self.phases.start()
        self.generation, self.spent = generation, Spent()
        if self.counts is not None:
            self.reproduction.keep = self.counts[min(generation, len(self.counts) - 1)]

    def _trained(self, drafts: Sequence[Draft]) -> list[Maker]:
        """Return makers that prune the drafts by the guidance of a training with their parents' weights."""
        unions = Tickets(draft.union(self.reproduction.spec) for draft in drafts)
        self._scores(unions, 2 * self.generation - 1)
        pairs = zip(unions, drafts, strict=True)
        return [partial(self.reproduction.prune, union, draft.kept) for union, draft in pairs]

    def _improved(self, drafts: Sequence[Draft], improve: Improvement) -> Offspring:
        with self.phases.measure(FITNESS):
            masks, spent = improve(np.stack([draft.child.mask for draft in drafts]), self.rng)
        self.spent += spent
        children = [d.child.copy_with_mask(mask) for d, mask in zip(drafts, masks, strict=True)]
        return self.reproduction.admit_once(children, self.generation)

    def _scores(self, tickets: Tickets, round: int) -> Scores:
        scores = evaluate(self.fitness, tickets, self.phases, generation=self.generation, round=round)
        self.spent += scores.spent
        return scores

    def _has_guidance(self) -> bool:
        return any(ticket.guidance is not None for ticket in self.population)

    def _warn_without_guidance(self) -> None:
        if self._warned or self._has_guidance() or not self.reproduction.guided:
            return
        self._warned = True
        warnings.warn(GUIDANCE.format(", ".join(self.reproduction.guided)), GuidanceWarning, stacklevel=4)

    def _result(self, offspring: Offspring, scores: Scores) -> Generation:
        return Generation(
            self.generation,
            self.population,
            offspring.tickets,
            offspring.refused,
            offspring.immigrants,
            population_statistics(self.population),
            self.reproduction.state(self.size),
            scores.agreements,
            self.phases.stop(),
            self.spent,
            self.order_effects,
            self.reproduction.seen,
        )


def _check_one_size_rule(front: bool, density: bool, local_search: bool) -> None:
    """Raise :class:`BadInput` where two options would set the weight counts of children."""
    rules = {"selection=NSGA2": front, "density": density, "local_search": local_search}
    chosen = [name for name, given in rules.items() if given]
    if len(chosen) > 1:
        raise BadInput(
            f"one option sets the weight counts of children, but got {' and '.join(chosen)}; leave one out"
        )
