"""Selection of parents and of survivors: by tournament, or by NSGA-II for two objectives."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
from deap import tools

from ticketsearch.checks import Count, Members
from ticketsearch.errors import BadInput
from ticketsearch.evolution.pareto import rank
from ticketsearch.evolution.rules import AT_LEAST_0, AT_LEAST_1, AT_LEAST_1_OR_NONE, check_fields
from ticketsearch.tickets import Ticket, Tickets

__all__ = ["NSGA2", "ParentDraw", "Tournament", "seeded_random"]

# Returns the given number of parents; reads the global generator, see seeded_random.
ParentDraw = Callable[[int], Sequence[Ticket]]


@dataclass(frozen=True)
class Tournament:
    """Tournament selection by fitness, with elites; the defaults are those of the command line.

    Survivors are chosen from parents and children together (μ+λ): the elites, and the others by tournament
    without replacement.

    Parameters
    ----------
    population : population size μ, and the number of children of a generation; by default as many as the
        first population has.
    size : tickets of a tournament, >= 1.
    elites : number of best tickets that always survive, >= 0.
    ties : largest number of survivors with the same fitness, as long as there are others; 0 for no limit.
    reassess : reciprocal of the share of members that are evaluated again in each generation, on the data
        order of its children: 3 for a third of them, 0 for none. The least recently evaluated members are.
        A member's fitness is the mean of its scores, less the effects of their data orders; see
        :mod:`ticketsearch.evolution.order_effects`. Without effect where the fitness has no parameter
        ``round``.

    Raises :class:`ticketsearch.BadInput` for values out of range.
    """

    population: Members | None = None
    size: Members = 3
    elites: Count = 4
    ties: Count = 0
    reassess: Count = 3

    def __post_init__(self) -> None:
        check_fields(
            self,
            population=AT_LEAST_1_OR_NONE,
            size=AT_LEAST_1,
            elites=AT_LEAST_0,
            ties=AT_LEAST_0,
            reassess=AT_LEAST_0,
        )

    def bounds(self, size: int) -> None:
        """Return None: a child keeps as many weights as its first parent."""

    def parents(self, population: Tickets) -> ParentDraw:
        """Return a function that draws winners of tournaments."""
        return partial(tools.selTournament, population, tournsize=self.size)

    def survivors(self, candidates: Tickets, size: int) -> Tickets:
        """Return ``size`` of the candidates, or all where they are fewer; no ticket survives twice."""
        if self.ties:
            candidates = self._with_few_ties(candidates, size)
        kept = Tickets(tools.selBest(candidates, min(self.elites, size)))
        elites = {id(ticket) for ticket in kept}
        rest = [ticket for ticket in candidates if id(ticket) not in elites]
        while rest and len(kept) < size:
            winner = tools.selTournament(rest, 1, self.size)[0]
            kept.append(winner)
            rest = [ticket for ticket in rest if ticket is not winner]
        return kept

    def _with_few_ties(self, candidates: Tickets, size: int) -> Tickets:
        """Return at most ``ties`` candidates of each fitness, and others only to make up ``size``."""
        count: Counter[tuple[float, ...]] = Counter()
        few, surplus = Tickets(), Tickets()
        for ticket in candidates:
            count[ticket.fitness.values] += 1
            (few if count[ticket.fitness.values] <= self.ties else surplus).append(ticket)
        return Tickets([*few, *surplus[: max(0, size - len(few))]])


@dataclass(frozen=True)
class NSGA2:
    """Selection by NSGA-II for two objectives: a high score and few kept weights.

    Tickets compare by Pareto front, then by crowding distance (Deb et al. 2002, "A fast and elitist
    multiobjective genetic algorithm: NSGA-II"). The result is ``Generation.front``.

    A child's weight count is drawn about its first parent's: the parent is pruned to it, or the child gets
    random weights.

    Parameters
    ----------
    population : as of :class:`Tournament`.
    fewest, most : bounds of a child's weight count, 1 <= fewest <= most; by default a hundredth and half of
        all weights.
    size : tickets of a tournament of parents, >= 1.
    reassess : as of :class:`Tournament`.

    Raises :class:`ticketsearch.BadInput` for values out of range.
    """

    population: Members | None = None
    fewest: int | None = None
    most: int | None = None
    size: Members = 3
    reassess: Count = 3

    def __post_init__(self) -> None:
        check_fields(
            self,
            population=AT_LEAST_1_OR_NONE,
            fewest=AT_LEAST_1_OR_NONE,
            most=AT_LEAST_1_OR_NONE,
            size=AT_LEAST_1,
            reassess=AT_LEAST_0,
        )
        if self.fewest is not None and self.most is not None and self.fewest > self.most:
            raise BadInput(f"fewest <= most must hold, but got fewest {self.fewest} and most {self.most}")

    def bounds(self, size: int) -> tuple[int, int]:
        """Return the bounds of a weight count for masks of ``size`` weights.

        Raises :class:`ticketsearch.BadInput` for bounds that such a mask does not reach.
        """
        fewest = max(1, round(0.01 * size)) if self.fewest is None else self.fewest
        most = max(1, round(0.5 * size)) if self.most is None else self.most
        if not fewest <= most <= size:
            raise BadInput(f"1 <= fewest <= most <= {size} must hold, but got ({fewest}, {most})")
        return fewest, most

    def parents(self, population: Tickets) -> ParentDraw:
        """Return a function that draws winners of tournaments by front and crowding distance."""
        candidates = rank(population)

        def draw(count: int) -> list[Ticket]:
            winners = tools.selTournament(candidates, count, self.size, fit_attr="crowded_rank")
            return [candidate.ticket for candidate in winners]

        return draw

    def survivors(self, candidates: Tickets, size: int) -> Tickets:
        """Return the ``size`` candidates of best front and crowding distance."""
        ranked = sorted(rank(candidates), key=lambda candidate: candidate.crowded_rank, reverse=True)
        return Tickets(candidate.ticket for candidate in ranked[:size])


@contextmanager
def seeded_random(rng: np.random.Generator) -> Iterator[None]:
    """Seed the global generator, which DEAP's selections read, and restore it afterwards."""
    before = random.getstate()
    random.seed(int(rng.integers(2**63)))
    try:
        yield
    finally:
        random.setstate(before)
