"""A ticket: a mask, the initialization it is trained from, its provenance and its evaluations."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from ticketsearch.cost import Spent
from ticketsearch.errors import shown
from ticketsearch.masks import Guidance, Mask, digest
from ticketsearch.models import Initialization
from ticketsearch.tickets.scores import Assessment, CorrectedSums, EvaluationSums, TicketFitness

__all__ = ["Ticket", "Tickets", "as_tickets"]


@dataclass(eq=False)
class Ticket:
    """A mask with its initialization, provenance and scores.

    Attributes
    ----------
    mask : ``(weights,)`` bool, read-only.
    initialization : the initial weights it is trained from; None where the fitness does not use any.
    pruned_from : the initialization that the ancestor of its lineage was pruned from, along first parents.
    operator : name of the function that made it: a pruner, a crossover or mutation; or ``immigrant`` or
        ``given``.
    generation : number of the generation it was first evaluated in.
    parents : numbers of its parents.
    number : its number in the run, in order of evaluation.
    key : its duplicate key, equal for the same network up to a renumbering of hidden units.
    exact : whether the key alone decides that; if not, tickets were compared pair by pair.
    fitness : DEAP's fitness, by which tickets compare; ``rung`` and ``score`` read it.
    measures : further figures of its evaluations, e.g. ``accuracy``; their means.
    assessments : its evaluations. Fitness and measures are the means of those on the highest rung; fitness is
        corrected by the effects of their data orders (:mod:`ticketsearch.evolution.order_effects`).
    guidance : prune and grow scores of its weights, from its last training; None without.
    sums, corrected : sums over the evaluations, from which the means are computed.
    """

    mask: Mask
    initialization: Initialization | None = None
    pruned_from: Initialization | None = None
    operator: str = "given"
    generation: int = 0
    parents: tuple[int, ...] = ()
    number: int = -1
    key: str = ""
    exact: bool = True
    fitness: TicketFitness = field(default_factory=TicketFitness)
    measures: dict[str, float] = field(default_factory=dict)
    guidance: Guidance | None = None
    assessments: list[Assessment] = field(default_factory=list)
    sums: EvaluationSums = field(default=EvaluationSums(), repr=False)
    corrected: CorrectedSums = field(default=CorrectedSums(), repr=False)

    def __repr__(self) -> str:
        kept, size = np.count_nonzero(self.mask), np.size(self.mask)
        score = f"{self.score:.4g}" if self.fitness.valid else "not evaluated"
        return (
            f"Ticket({self.number}, {kept:,} of {size:,} weights, density {kept / max(size, 1):.3g}, "
            f"score {score}, {shown(self.operator, 30)})"
        )

    def add_evaluation(self, assessment: Assessment) -> None:
        """Record an evaluation and update fitness and measures."""
        self.assessments.append(assessment)
        self.sums = self.sums.added(assessment)
        rung, terms, score, measures = self.sums
        self.fitness.values = (float(rung), score / terms)
        self.measures = {name: total / count for name, (total, count) in measures.items()}

    def copy_with_mask(self, mask: Mask) -> Ticket:
        """Return a copy with another mask, which has not been evaluated."""
        return replace(
            self,
            mask=mask,
            fitness=TicketFitness(),
            measures={},
            guidance=None,
            assessments=[],
            sums=EvaluationSums(),
            corrected=CorrectedSums(),
        )

    def copy_for_reevaluation(self) -> Ticket:
        """Return a copy that can be evaluated again while this one stays as it is."""
        return replace(self, fitness=TicketFitness(self.fitness.values), assessments=[*self.assessments])

    @property
    def score(self) -> float:
        """The mean score on its rung, larger is better; −inf if training diverged, NaN before evaluation.

        The mean is over all evaluations, less the effects of their data orders; ``first_score`` is the first
        one alone.

        Scores of different rungs do not compare; ``fitness`` does.
        """
        return float(self.fitness.values[1]) if self.fitness.valid else float("nan")

    @property
    def first_score(self) -> float:
        """The score of the first evaluation as it was measured; −inf if it diverged, NaN before it."""
        return self.assessments[0].score if self.assessments else float("nan")

    @property
    def rung(self) -> int:
        """Training steps of its score; 0 without successive halving, and if training diverged."""
        return int(self.fitness.values[0]) if self.fitness.valid else 0

    @property
    def diverged(self) -> bool:
        """Whether the fitness was not finite."""
        return self.score == float("-inf")

    @cached_property
    def digest(self) -> str:
        """Digest of the mask."""
        return digest(self.mask)


class Tickets(list[Ticket]):
    """A list of tickets, with their masks as one array.

    ``spent`` is the cost of making them, where a pruner trained for it.
    """

    spent: Spent = Spent()

    @property
    def masks(self) -> Mask:
        """The ``(population, weights)`` bool array of the masks."""
        return np.stack([ticket.mask for ticket in self])


def as_tickets(first: Iterable[Ticket] | ArrayLike) -> Tickets:
    """Return tickets as they are, and the rows of a ``(population, weights)`` array as new tickets."""
    if isinstance(first, Tickets):
        return first
    given = list(first) if isinstance(first, Iterable) else [first]
    if all(isinstance(ticket, Ticket) for ticket in given):
        return Tickets(given)  # type: ignore[arg-type]
    return Tickets(Ticket(mask) for mask in np.asarray(first))
