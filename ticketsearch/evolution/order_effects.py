"""Levelling: scores of different rounds compare once what each round's data order is worth is taken off.

All masks of a round share a data order, and some orders suit every mask. That difference is often larger than
those between the masks, so that without levelling the children of a lucky round drive out better ones. Of
guided children of LeNet-300-100 on MNIST, at density 0.02 after 1,000 steps, validation losses have standard
deviations of 0.006 between orders, 0.0008 between masks, and 0.0007 of both together, i.e. noise.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from ticketsearch.tickets import Ticket, TicketFitness, Tickets

__all__ = ["Levels", "longest_unseen"]


def longest_unseen(members: Sequence[Ticket], count: int) -> Tickets:
    """Return the ``count`` members whose last assessment is longest ago, of equals those of lowest number.

    Not the fittest: they were the luckiest too, and would make a round seem worth less than it is.
    """
    ranked = sorted(members, key=lambda ticket: (ticket.assessments[-1].generation, ticket.number))
    return Tickets(ranked[:count])


class Levels:
    """What rounds are worth: how much more masks score on their data orders than on those of the first round.

    A round is a generation, on a ladder at each rung by itself. Its worth is learned from members that it
    assesses again: the mean of what they score in it less their fitness before. Members survived by scores,
    luck included, and so score a little less the next time, whatever the data order: rounds seem to be worth
    less and less, and fitness, of all tickets alike, rises a little by that alone. It is there to compare
    tickets; what a search has come to is for its final training to tell.

    Each round is learned of once and stays as it is, so that one object serves all generations of a search:
    :meth:`until` is what a generation knew.

    Parameters
    ----------
    rows : what is known, as rung, generation and value, in the order of generations.
    """

    def __init__(self, rows: Iterable[tuple[int, int, float]] = ()) -> None:
        self.worth: dict[int, dict[int, float]] = {}  # by rung, then generation
        self._sums: dict[int, float] = {}  # by rung
        for row in rows:
            self.note(*row)

    def learn(self, again: Sequence[Ticket], before: Sequence[tuple[float, ...]]) -> None:
        """Learn from members that have been assessed again, and the values of their fitness before."""
        found: dict[tuple[int, int], list[float]] = {}
        for ticket, (rung, score) in zip(again, before, strict=True):
            last = ticket.assessments[-1]
            if last.rung == rung and math.isfinite(change := last.score - score):
                found.setdefault((last.rung, last.generation), []).append(change)
        for round, changes in found.items():
            if math.isfinite(mean := float(np.mean(changes))):
                self.note(*round, mean)

    def apply(self, tickets: Iterable[Ticket]) -> None:
        """Set the fitness of tickets to the mean of their scores less what their rounds are worth.

        As ever, only the scores of a ticket's highest rung count, and what diverged stays so. Rounds that
        nothing is known of count as mean ones. Only assessments that are new to a ticket are looked at.
        """
        for ticket in tickets:
            if (known := self.worth.get(ticket.rung)) and not ticket.diverged:
                levelled = ticket.levelled
                for each in ticket.assessments[levelled.taken :]:
                    levelled = levelled.added(each, known.get(each.generation))
                ticket.levelled = levelled
                mean = self._sums[ticket.rung] / len(known)
                ticket.fitness = TicketFitness((float(ticket.rung), levelled.mean(mean)))

    def of(self, generation: int) -> list[tuple[int, float]]:
        """Return what a generation learned, as rungs and values."""
        return [
            (rung, known[generation])
            for rung, known in sorted(self.worth.items())
            if generation and generation in known
        ]

    def until(self, generation: int) -> Levels:
        """Return what was known after a generation."""
        rows = ((rung, number, value) for rung, own in self.worth.items() for number, value in own.items())
        return Levels(row for row in rows if 0 < row[1] <= generation)

    def note(self, rung: int, generation: int, value: float) -> None:
        """Take note of a round; the first one of a rung is what others are compared with."""
        self.worth.setdefault(rung, {0: 0.0})[generation] = value
        self._sums[rung] = self._sums.get(rung, 0.0) + value
