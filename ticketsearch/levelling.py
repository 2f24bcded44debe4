"""Levelling: scores of different rounds compare once what each round's data order is worth is taken off.

All masks of a round share a data order, and some orders suit every mask. That difference is often larger than
those between the masks, so that without levelling the children of a lucky round drive out better ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

from ticketsearch.tickets import Ticket, TicketFitness, Tickets

__all__ = ["Levels", "longest_unseen"]

# Its name in the state of a generation.
WORTH = "worth"


def longest_unseen(members: Sequence[Ticket], count: int) -> Tickets:
    """Return the ``count`` members whose last assessment is longest ago, of equals the fittest."""
    ranked = sorted(members, key=lambda ticket: ticket.fitness, reverse=True)
    return Tickets(sorted(ranked, key=lambda ticket: ticket.assessments[-1].generation)[:count])


class Levels:
    """What rounds are worth: how much more masks score on their data orders.

    Made of the states of generations: of the last one to go on from there, of all for what all are worth.

    A round is a generation and a rung. Its worth is learned from members that it assesses again: the mean of
    what they score in it less their fitness before. Those that had joined by a single assessment do not
    count where there are others: they were chosen for it, luck included, so that the next one is likely to be
    lower whatever the data order. What is not known, as that of the first round, is 0.
    """

    def __init__(self, *states: Mapping[str, Any]) -> None:
        known = chain.from_iterable(state.get(WORTH, ()) for state in states)
        self.worth = {(generation, rung): value for generation, rung, value in known}

    def learn(self, again: Sequence[Ticket], before: Sequence[tuple[float, ...]]) -> None:
        """Learn from members that have been assessed again, and the values of their fitness before."""
        found: dict[tuple[int, int], list[tuple[bool, float]]] = {}
        for ticket, old in zip(again, before, strict=True):
            last = ticket.assessments[-1]
            change = last.score - old[1]
            if math.isfinite(change) and last.rung == old[0]:
                tried = sum(each.rung == last.rung for each in ticket.assessments) > 2
                found.setdefault((last.generation, last.rung), []).append((tried, change))
        for round, changes in found.items():
            own = [change for tried, change in changes if tried] or [change for _, change in changes]
            self.worth[round] = sum(own) / len(own)

    def apply(self, tickets: Iterable[Ticket]) -> None:
        """Set the fitness of tickets to the mean of their scores less what their rounds are worth.

        As ever, only the scores of a ticket's highest rung count.
        """
        for ticket in tickets:
            counted = [each for each in ticket.assessments if each.rung == ticket.rung]
            worth = sum(self.worth.get((each.generation, each.rung), 0.0) for each in counted)
            if worth and not ticket.diverged:
                mean = sum(each.score for each in counted) / len(counted)
                ticket.fitness = TicketFitness((float(ticket.rung), mean - worth / len(counted)))

    def state(self, tickets: Iterable[Ticket]) -> dict[str, list[tuple[int, int, float]]]:
        """Return what is known of the rounds of some tickets, as a part of a generation's state."""
        rounds = {(each.generation, each.rung) for ticket in tickets for each in ticket.assessments}
        known = [(*round, value) for round, value in self.worth.items() if round in rounds]
        return {WORTH: known} if known else {}
