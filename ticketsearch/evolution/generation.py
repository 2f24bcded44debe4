"""One generation of a search."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ticketsearch.cost import Spent
from ticketsearch.errors import renamed
from ticketsearch.evolution.order_effects import OrderEffects
from ticketsearch.evolution.pareto import pareto_front
from ticketsearch.halving import Agreement
from ticketsearch.tickets import Ticket, Tickets

if TYPE_CHECKING:
    from ticketsearch.tickets import Seen

__all__ = ["Generation", "population_statistics"]


@dataclass(frozen=True)
class Generation:
    """One generation: the survivors, the tickets evaluated for it, and the state to continue from.

    Attributes
    ----------
    number : 0 is the first population.
    population : the survivors; a ticket keeps its place in it.
    offspring : the tickets evaluated in this generation (generation 0: the first population).
    refused : children that were duplicates of a network of this search.
    immigrants : random masks that took the place of children, after all attempts.
    statistics : ``best``, ``mean`` and ``worst`` finite score of the population; with successive halving of
        the tickets on the highest rung, as scores of different rungs do not compare.
    state : JSON-able state of the random generator and the ticket counter, and the qualities of operators
        where there are several of a kind.
    agreements : rank agreement of the rungs on this generation's controls, with successive halving.
    phases : wall-clock seconds by phase, see :mod:`ticketsearch.evolution.timing`; a run adds its store's.
    spent : cost of its evaluations, as the fitness states it.
    order_effects : effects of data orders on scores; one object of all generations of a search.
    seen : the networks of the search; one object of all its generations. None where it is unknown: a search
        that continues from here may then evaluate a network a second time.
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
    order_effects: OrderEffects = field(default_factory=OrderEffects, repr=False)
    seen: Seen | None = field(default=None, repr=False, compare=False)

    levels = renamed("levels", "order_effects")

    def __repr__(self) -> str:
        scores = (
            f", {name} score {self.statistics[name]:.4g}"
            for name in ("best", "mean")
            if name in self.statistics
        )
        return (
            f"Generation({self.number}, {len(self.population):,} tickets, {len(self.offspring):,} offspring"
            f"{''.join(scores)})"
        )

    @property
    def best(self) -> Ticket:
        """The ticket of the highest fitness: the highest rung, then the highest score."""
        return max(self.population, key=lambda ticket: ticket.fitness)

    @property
    def front(self) -> Tickets:
        """The Pareto front of the population in score and kept weights, the sparsest ticket first."""
        return pareto_front(self.population)

    @property
    def seconds(self) -> float:
        """Wall-clock time of the generation."""
        return sum(self.phases.values())

    @property
    def diverged(self) -> int:
        """Number of offspring without a finite fitness."""
        return sum(ticket.diverged for ticket in self.offspring)


def population_statistics(population: Tickets) -> dict[str, float]:
    """Return best, mean and worst finite score on the highest rung; empty where no score is finite."""
    finite = [ticket for ticket in population if not ticket.diverged]
    top = max((ticket.rung for ticket in finite), default=0)
    scores = [ticket.score for ticket in finite if ticket.rung == top]
    if not scores:
        return {}
    return {"best": max(scores), "mean": float(np.mean(scores)), "worst": min(scores)}
