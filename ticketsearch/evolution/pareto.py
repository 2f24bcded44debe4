"""Pareto front and crowding distance of tickets in two objectives: a high score and few kept weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from deap import base, tools

from ticketsearch.errors import BadInput
from ticketsearch.masks import Mask
from ticketsearch.tickets import Ticket, Tickets

__all__ = ["Candidate", "draw_count", "grow", "pareto_front", "rank"]

# Standard deviation of the logarithm of a child's weight count about its parent's.
STEP = 0.2


class _Objectives(base.Fitness):  # type: ignore[misc]  # deap has no types
    """The score and minus the kept weights, both maximized."""

    weights = (1.0, 1.0)


class _CrowdedRank(base.Fitness):  # type: ignore[misc]
    """Minus the front's number, then the crowding distance: NSGA-II's crowded-comparison order."""

    weights = (1.0, 1.0)


@dataclass(eq=False)
class Candidate:
    """A ticket with the attributes that DEAP's tools compare."""

    ticket: Ticket
    fitness: _Objectives = field(init=False)
    crowded_rank: _CrowdedRank = field(init=False)

    def __post_init__(self) -> None:
        self.fitness = _Objectives((self.ticket.score, -float(np.count_nonzero(self.ticket.mask))))


def pareto_front(tickets: Iterable[Ticket]) -> Tickets:
    """Return the tickets that no other ticket dominates, those of fewest kept weights first.

    A ticket dominates another with a score at least as high and at most as many kept weights, one of them
    strictly. The first of several tickets equal in both is returned; diverged tickets are not on the front.
    """
    first: dict[tuple[float, ...], Ticket] = {}
    for candidate in _fronts(list(tickets))[0]:
        first.setdefault(candidate.fitness.values, candidate.ticket)
    return Tickets(first[key] for key in sorted(first, key=lambda key: -key[1]))


def rank(tickets: Sequence[Ticket]) -> list[Candidate]:
    """Return the tickets front by front, each with its rank by front and crowding distance."""
    fronts = _fronts(tickets)
    for number, candidates in enumerate(fronts):
        finite = [candidate for candidate in candidates if not candidate.ticket.diverged]
        tools.emo.assignCrowdingDist(finite)
        for candidate in candidates:
            crowding = candidate.fitness.crowding_dist if finite else 0.0
            candidate.crowded_rank = _CrowdedRank((-float(number), crowding))
    return [candidate for candidates in fronts for candidate in candidates]


def _fronts(tickets: Sequence[Ticket]) -> list[list[Candidate]]:
    """Return the tickets by front, diverged tickets as the last one.

    Raises :class:`BadInput` for scores of different rungs, which do not compare.
    """
    if any(ticket.rung for ticket in tickets):
        raise BadInput(
            "a Pareto front compares scores as they are, but the fitness uses successive halving; "
            "train all masks for the same number of steps"
        )
    finite = [Candidate(ticket) for ticket in tickets if not ticket.diverged]
    diverged = [Candidate(ticket) for ticket in tickets if ticket.diverged]
    fronts: list[list[Candidate]] = tools.sortNondominated(finite, len(finite)) if finite else [[]]
    return [*fronts, diverged] if diverged else fronts


def draw_count(kept: int, bounds: tuple[int, int], rng: np.random.Generator) -> int:
    """Return a child's weight count: log-normal about its parent's ``kept`` weights, within the bounds."""
    fewest, most = bounds
    return min(max(round(kept * math.exp(rng.normal(0, STEP))), fewest), most)


def grow(mask: Mask, count: int, rng: np.random.Generator) -> Mask:
    """Return a mask ``(weights,)`` of at least ``count`` weights: the kept ones, and random others."""
    missing = count - int(np.count_nonzero(mask))
    if missing <= 0:
        return mask
    grown = mask.copy()
    grown[rng.choice(np.flatnonzero(~mask), missing, replace=False)] = True
    grown.flags.writeable = False
    return grown
