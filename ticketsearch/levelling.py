"""Levelling: scores of different rounds compare once what each round's data order is worth is taken off.

All masks of a round share a data order, and some orders suit every mask. That difference is often larger than
those between the masks, so that without levelling the children of a lucky round drive out better ones. Of
guided children of LeNet-300-100 on MNIST, at density 0.02 after 1,000 steps, validation losses have standard
deviations of 0.006 between orders, 0.0008 between masks, and 0.0007 of both together, i.e. noise.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ticketsearch.tickets import Ticket, TicketFitness, Tickets

__all__ = ["Levels", "longest_unseen"]

# What the state of a generation calls them.
WORTH = "worth"


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

    Made of a generation's state, from which it goes on; a state without any is that of a first generation.
    """

    def __init__(self, state: Mapping[str, Any]) -> None:
        self.worth: dict[int, dict[int, float]] = {}  # by rung, then generation
        for rung, generation, value in state.get(WORTH, ()):
            self.worth.setdefault(rung, {})[generation] = value

    def learn(self, again: Sequence[Ticket], before: Sequence[tuple[float, ...]]) -> None:
        """Learn from members that have been assessed again, and the values of their fitness before."""
        found: dict[tuple[int, int], list[float]] = {}
        for ticket, (rung, score) in zip(again, before, strict=True):
            last = ticket.assessments[-1]
            if last.rung == rung and math.isfinite(change := last.score - score):
                found.setdefault((last.rung, last.generation), []).append(change)
        for (rung, generation), changes in found.items():
            self.worth.setdefault(rung, {0: 0.0})[generation] = float(np.mean(changes))

    def apply(self, tickets: Iterable[Ticket]) -> None:
        """Set the fitness of tickets to the mean of their scores less what their rounds are worth.

        As ever, only the scores of a ticket's highest rung count, and what diverged stays so. Rounds that
        nothing is known of count as mean ones.
        """
        means = {rung: float(np.mean([*known.values()])) for rung, known in self.worth.items()}
        for ticket in tickets:
            if (known := self.worth.get(ticket.rung)) and not ticket.diverged:
                counted = [each for each in ticket.assessments if each.rung == ticket.rung]
                level = [each.score - known.get(each.generation, means[ticket.rung]) for each in counted]
                ticket.fitness = TicketFitness((float(ticket.rung), np.mean(level)))

    def state(self) -> dict[str, list[list[float]]]:
        """Return what is known, as a part of a generation's state."""
        known = [[rung, *item] for rung, rounds in self.worth.items() for item in rounds.items()]
        return {WORTH: known} if known else {}
