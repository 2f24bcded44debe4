"""Estimates the effect of each generation's data order on scores and subtracts it.

All masks of an evaluation round share a data order, and some orders raise the scores of every mask. This
effect is often larger than the differences between masks, so that children of a lucky round would drive out
better ones. For guided children of LeNet-300-100 on MNIST, at density 0.02 after 1,000 steps, validation
losses have standard deviations of 0.006 between orders, 0.0008 between masks, and 0.0007 of the interaction,
which is noise.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from ticketsearch.tickets import Ticket, TicketFitness, Tickets

__all__ = ["OrderEffects", "least_recently_evaluated"]


def least_recently_evaluated(members: Sequence[Ticket], count: int) -> Tickets:
    """Return the ``count`` members whose last evaluation is longest ago, ties by the lower ticket number.

    The fittest members would bias the estimate: they were the luckiest too, and regress to the mean.
    """
    ranked = sorted(members, key=lambda ticket: (ticket.assessments[-1].generation, ticket.number))
    return Tickets(ranked[:count])


class OrderEffects:
    """Effects of data orders: the mean difference of scores to those on the first generation's data order.

    With successive halving each rung has effects of its own. The effect of a generation is estimated from
    members that are evaluated again in it: the mean of their new scores less their fitness before. Members
    survived by scores that include luck, and so score a little less the next time on any data order: the
    estimates drift downwards, and the fitness of all tickets alike rises a little by that alone. Fitness is
    there to compare tickets; the final training measures them.

    Each effect is estimated once and then stays, so that one object serves all generations of a search;
    :meth:`until` returns the effects that a generation knew.

    Parameters
    ----------
    rows : known effects as (rung, generation, effect), in the order of generations.
    """

    def __init__(self, rows: Iterable[tuple[int, int, float]] = ()) -> None:
        self.effects: dict[int, dict[int, float]] = {}  # by rung, then generation
        self._sums: dict[int, float] = {}  # by rung
        for row in rows:
            self.add(*row)

    def estimate(self, members: Sequence[Ticket], before: Sequence[tuple[float, ...]]) -> None:
        """Estimate an effect from members that were evaluated again, and their fitness values before."""
        differences: dict[tuple[int, int], list[float]] = {}
        for ticket, (rung, score) in zip(members, before, strict=True):
            last = ticket.assessments[-1]
            if last.rung == rung and math.isfinite(difference := last.score - score):
                differences.setdefault((last.rung, last.generation), []).append(difference)
        for (rung, generation), values in differences.items():
            if math.isfinite(mean := float(np.mean(values))):
                self.add(int(rung), generation, mean)

    def subtract(self, tickets: Iterable[Ticket]) -> None:
        """Set the fitness of tickets to the mean of their scores less the effects of the data orders.

        Only scores of a ticket's highest rung count, and diverged tickets stay so. A generation without an
        estimate has the mean effect. Only evaluations that are new to a ticket are read.
        """
        for ticket in tickets:
            if (effects := self.effects.get(ticket.rung)) and not ticket.diverged:
                corrected = ticket.corrected
                for assessment in ticket.assessments[corrected.taken :]:
                    corrected = corrected.added(assessment, effects.get(assessment.generation))
                ticket.corrected = corrected
                mean = self._sums[ticket.rung] / len(effects)
                ticket.fitness = TicketFitness((float(ticket.rung), corrected.mean(mean)))

    def of(self, generation: int) -> list[tuple[int, float]]:
        """Return the effects that were estimated in a generation, as (rung, effect)."""
        return [
            (rung, effects[generation])
            for rung, effects in sorted(self.effects.items())
            if generation and generation in effects
        ]

    def until(self, generation: int) -> OrderEffects:
        """Return the effects that were known after a generation."""
        rows = (
            (rung, number, effect)
            for rung, effects in self.effects.items()
            for number, effect in effects.items()
        )
        return OrderEffects(row for row in rows if 0 < row[1] <= generation)

    def add(self, rung: int, generation: int, effect: float) -> None:
        """Add an estimate; generation 0 has effect 0 on each rung."""
        self.effects.setdefault(rung, {0: 0.0})[generation] = effect
        self._sums[rung] = self._sums.get(rung, 0.0) + effect
