"""Tickets: a mask, the initialization it is trained from, where it came from, and how it scored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from deap import base
from numpy.typing import ArrayLike, NDArray

from ticketsearch.checks import checked, real_array
from ticketsearch.cost import Spent
from ticketsearch.errors import BadInput
from ticketsearch.halving import Agreement
from ticketsearch.masks import Guidance, Mask, digest
from ticketsearch.models import Initialization

__all__ = ["Assessment", "Scores", "Ticket", "TicketFitness", "Tickets", "as_tickets"]


class TicketFitness(base.Fitness):  # type: ignore[misc]  # deap has no types
    """The rung in training steps (0 without a ladder), then the score; both larger is better.

    Wherever fitnesses are compared, a higher rung comes before any score. Where training diverged they are 0
    and −inf: nothing is worse.
    """

    weights = (1.0, 1.0)


class Scores(np.ndarray[tuple[int, ...], np.dtype[np.float64]]):
    """The ``(population,)`` float scores a fitness returns, with what is to be recorded beside them.

    ``Scores(values, {"accuracy": accuracy})`` is an array like any other: larger is better, and it is what
    selection goes by, after the rungs where there are any. What is computed from it is an array without
    all that.

    Attributes
    ----------
    measures : ``{name: (population,) float}``.
    rungs : ``(population,)`` int, the training steps that each score was reached with on a ladder (see
        :func:`~ticketsearch.halving.climb`), or None where all scores compare as they are.
    agreements : how far the rungs agree on this generation's controls.
    phases : ``{name: seconds}``, parts of the time that the fitness took, such as ``training``.
    guidance : what each mask's training revealed, None for one that diverged; None where nothing did.
    spent : what the evaluations took; nothing where the fitness does not say.
    """

    measures: dict[str, NDArray[np.float64]]
    rungs: NDArray[np.int64] | None
    agreements: list[Agreement]
    phases: dict[str, float]
    guidance: list[Guidance | None] | None
    spent: Spent

    @checked
    def __new__(
        cls,
        values: ArrayLike,
        measures: Mapping[str, ArrayLike] | None = None,
        *,
        rungs: ArrayLike | None = None,
        agreements: Iterable[Agreement] = (),
        phases: Mapping[str, float] | None = None,
        guidance: Iterable[Guidance | None] | None = None,
        spent: Spent = Spent(),  # noqa: B008 - never changes
    ) -> Scores:
        """Return a view of the values that carries the rest.

        Raises :class:`BadInput` for rungs that are no integers >= 0.
        """
        scores = real_array("scores", values).astype(np.float64).view(cls)
        named = (measures or {}).items()
        scores.measures = {k: real_array(f"measures {k!r}", v).astype(np.float64) for k, v in named}
        scores.rungs = None if rungs is None else _rungs(rungs)
        scores.agreements = [Agreement(*map(int, counts)) for counts in agreements]
        scores.phases = {name: float(seconds) for name, seconds in (phases or {}).items()}
        scores.guidance = None if guidance is None else list(guidance)
        scores.spent = spent
        return scores

    def __array_finalize__(self, source: object) -> None:
        """Called by NumPy for whatever is made from scores."""
        self.measures, self.rungs, self.agreements, self.phases = {}, None, [], {}
        self.guidance, self.spent = None, Spent()


def _rungs(given: ArrayLike) -> NDArray[np.int64]:
    rungs = np.asarray(given)
    if rungs.dtype.kind not in "iu":
        raise BadInput(f"rungs are training steps, integers >= 0, but got {rungs.dtype}; round them")
    if (rungs < 0).any():
        raise BadInput(f"rungs are training steps, integers >= 0, but got {rungs.min()}; 0 is the lowest")
    return rungs.astype(np.int64)


class Assessment(NamedTuple):
    """What a fitness said of a ticket in one generation; the score is −inf if training diverged."""

    generation: int
    rung: int
    score: float
    measures: dict[str, float]


class Sums(NamedTuple):
    """Sums over a ticket's assessments of the highest rung: a mean takes no longer the more there are.

    ``measures`` are sums and numbers of summands by name, of the names that the first assessment has.
    """

    rung: int = -1
    number: int = 0
    score: float = 0.0
    measures: Mapping[str, tuple[float, int]] = {}

    def added(self, assessment: Assessment) -> Sums:
        """Return the sums with one more assessment; one of a higher rung is the first of its own."""
        _, rung, score, measures = assessment
        if rung < self.rung:
            return self
        if rung > self.rung:
            return Sums(rung, 1, score, {name: (value, 1) for name, value in measures.items()})
        totals = {
            name: (total + measures[name], count + 1) if name in measures else (total, count)
            for name, (total, count) in self.measures.items()
        }
        return Sums(rung, self.number + 1, self.score + score, totals)


class CorrectedSums(NamedTuple):
    """Sums over the first ``taken`` evaluations, of the highest rung, less the effects of their data orders.

    Scores on the ``unknown`` data orders, whose effects have no estimate, are summed as they are.
    """

    taken: int = 0
    rung: int = -1
    number: int = 0
    total: float = 0.0
    unknown: int = 0

    def added(self, assessment: Assessment, effect: float | None) -> CorrectedSums:
        """Return the sums with one more evaluation and the effect of its data order; None if unknown."""
        taken, (_, rung, score, _) = self.taken + 1, assessment
        if rung < self.rung:
            return self._replace(taken=taken)
        before = CorrectedSums(rung=rung) if rung > self.rung else self
        return CorrectedSums(
            taken,
            rung,
            before.number + 1,
            before.total + (score if effect is None else score - effect),
            before.unknown + (effect is None),
        )

    def mean(self, mean_effect: float) -> float:
        """Return the mean score, where data orders without an estimate have the mean effect."""
        return (self.total - self.unknown * mean_effect) / self.number


@dataclass(eq=False)
class Ticket:
    """A mask with its initialization, provenance and scores.

    Attributes
    ----------
    mask : ``(weights,)`` bool, read-only.
    initialization : what it is trained from; None where the fitness has no use for one.
    pruned_from : the initialization whose pruning its lineage began with (first parents' line).
    operator : what made it: a pruner, a crossover or mutation, ``immigrant``, ``given``.
    generation : the generation it was evaluated in.
    parents : numbers of its parents.
    number : its number in the run, in order of evaluation.
    key : its duplicate key; equal for the same network up to hidden-neuron permutation.
    exact : whether the key alone says so; if not, tickets were compared pair by pair.
    fitness : DEAP's fitness, by which tickets compare; ``rung`` and ``score`` read it.
    measures : further figures of its evaluation, e.g. ``accuracy``.
    assessments : what fitness and measures are the means of, those of the highest rung; fitness is less what
        their rounds are worth, where that is known (:mod:`ticketsearch.evolution.order_effects`).
    guidance : what its training revealed, for operators; None where nothing did.
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
    sums: Sums = field(default=Sums(), repr=False)
    corrected: CorrectedSums = field(default=CorrectedSums(), repr=False)

    def add_evaluation(self, assessment: Assessment) -> None:
        """Record an evaluation and update fitness and measures."""
        self.assessments.append(assessment)
        self.sums = self.sums.added(assessment)
        rung, number, score, measures = self.sums
        self.fitness.values = (float(rung), score / number)
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
            sums=Sums(),
            corrected=CorrectedSums(),
        )

    def copy_for_reevaluation(self) -> Ticket:
        """Return a copy that can be evaluated again while this one stays as it is."""
        return replace(self, fitness=TicketFitness(self.fitness.values), assessments=[*self.assessments])

    @property
    def score(self) -> float:
        """How good it is at its rung, larger is better; −inf if training diverged, NaN before evaluation.

        Scores of different rungs do not compare; ``fitness`` does.
        """
        return float(self.fitness.values[1]) if self.fitness.valid else float("nan")

    @property
    def rung(self) -> int:
        """The training steps of its score; 0 where there is no ladder, and if training diverged."""
        return int(self.fitness.values[0]) if self.fitness.valid else 0

    @property
    def diverged(self) -> bool:
        """Whether the fitness was not finite."""
        return self.score == float("-inf")

    @cached_property
    def digest(self) -> str:
        """The mask's identity."""
        return digest(self.mask)


class Tickets(list[Ticket]):
    """A list of tickets whose masks are at hand as one array.

    ``spent`` is what making them took, where a pruner trained for it.
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
