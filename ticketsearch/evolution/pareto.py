"""The front: which tickets no other one beats in both objectives, a high score and few kept weights.

Selection is NSGA-II's (Deb et al. 2002, "A fast and elitist multiobjective genetic algorithm"), by DEAP.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from deap import base, tools

from ticketsearch.errors import BadInput
from ticketsearch.masks import Mask
from ticketsearch.tickets import Ticket, Tickets

__all__ = ["FrontSelection", "check_range", "drawn_count", "front", "grown"]

# Deviation of the logarithm of a child's weights about its parent's.
STEP = 0.2


class _Objectives(base.Fitness):  # type: ignore[misc]  # deap has no types
    """The score and minus the kept weights, both larger is better."""

    weights = (1.0, 1.0)


class _Standing(base.Fitness):  # type: ignore[misc]
    """Minus the number of the front, then the crowding distance: the order of NSGA-II."""

    weights = (1.0, 1.0)


@dataclass(eq=False)
class _Candidate:
    """A ticket as DEAP's tools compare it."""

    ticket: Ticket
    fitness: _Objectives = field(init=False)
    standing: _Standing = field(init=False)

    def __post_init__(self) -> None:
        self.fitness = _Objectives((self.ticket.score, -float(np.count_nonzero(self.ticket.mask))))


def front(tickets: Iterable[Ticket]) -> Tickets:
    """Return the tickets that none of the others beats, those of fewest kept weights first.

    One beats another with a score as high and as few kept weights, and one of both better. Of tickets that
    are equal in both the first is named; those that diverged are none of the front.
    """
    found: dict[tuple[float, ...], Ticket] = {}
    for candidate in _fronts(list(tickets))[0]:
        found.setdefault(candidate.fitness.values, candidate.ticket)
    return Tickets(found[key] for key in sorted(found, key=lambda key: -key[1]))


class FrontSelection:
    """Who has children and who survives, by NSGA-II: the front before others, then where fewer are near.

    Parameters
    ----------
    tournament : tickets that a tournament of parents draws.
    """

    def __init__(self, tournament: int) -> None:
        self.tournament = tournament
        self._of: Sequence[Ticket] | None = None
        self._candidates: list[_Candidate] = []

    def parents(self, tickets: Sequence[Ticket], count: int) -> list[Ticket]:
        """Return winners of tournaments; reads the global generator, as DEAP's selections do."""
        if tickets is not self._of:
            self._of, self._candidates = tickets, _standings(tickets)
        chosen = tools.selTournament(self._candidates, count, self.tournament, fit_attr="standing")
        return [candidate.ticket for candidate in chosen]

    def survivors(self, candidates: Sequence[Ticket], size: int) -> Tickets:
        """Return the ``size`` candidates of best standing."""
        ranked = sorted(_standings(candidates), key=lambda each: each.standing, reverse=True)
        return Tickets(candidate.ticket for candidate in ranked[:size])


def _fronts(tickets: Sequence[Ticket]) -> list[list[_Candidate]]:
    """Return the tickets front by front; those that diverged are the last.

    Raises :class:`BadInput` for scores of different rungs, which do not compare.
    """
    if any(ticket.rung for ticket in tickets):
        raise BadInput(
            "a front compares scores as they are, but the fitness has a ladder; train all for as long"
        )
    finite = [_Candidate(ticket) for ticket in tickets if not ticket.diverged]
    diverged = [_Candidate(ticket) for ticket in tickets if ticket.diverged]
    fronts: list[list[_Candidate]] = tools.sortNondominated(finite, len(finite)) if finite else [[]]
    return [*fronts, diverged] if diverged else fronts


def _standings(tickets: Sequence[Ticket]) -> list[_Candidate]:
    fronts = _fronts(tickets)
    for number, candidates in enumerate(fronts):
        finite = [candidate for candidate in candidates if not candidate.ticket.diverged]
        tools.emo.assignCrowdingDist(finite)
        for candidate in candidates:
            crowding = candidate.fitness.crowding_dist if finite else 0.0
            candidate.standing = _Standing((-float(number), crowding))
    return [candidate for candidates in fronts for candidate in candidates]


def check_range(counts: tuple[int, int], size: int) -> None:
    """Raise :class:`BadInput` unless counts are the fewest and the most weights of a mask of ``size``."""
    if not 1 <= counts[0] <= counts[1] <= size:
        raise BadInput(
            f"a front is of the fewest and the most weights kept, 1 <= fewest <= most <= {size}, "
            f"but got {counts}"
        )


def drawn_count(kept: int, counts: tuple[int, int], rng: np.random.Generator) -> int:
    """Return how many weights a child keeps whose parent keeps ``kept``: about as many, in the range."""
    fewest, most = counts
    return min(max(round(kept * math.exp(rng.normal(0, STEP))), fewest), most)


def grown(mask: Mask, count: int, rng: np.random.Generator) -> Mask:
    """Return a mask ``(weights,)`` of at least ``count`` weights: the kept ones, and random others."""
    missing = count - int(np.count_nonzero(mask))
    if missing <= 0:
        return mask
    more = mask.copy()
    more[rng.choice(np.flatnonzero(~mask), missing, replace=False)] = True
    more.flags.writeable = False
    return more
