"""Scores of masks, and a ticket's evaluations with the sums that their means are computed from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from deap import base
from numpy.typing import ArrayLike

from ticketsearch.checks import checked, real_array
from ticketsearch.cost import Spent
from ticketsearch.errors import BadInput
from ticketsearch.halving import Agreement
from ticketsearch.masks import Guidance
from ticketsearch.typing import Floats, Integers

__all__ = ["Assessment", "CorrectedSums", "EvaluationSums", "Scores", "TicketFitness"]


class TicketFitness(base.Fitness):  # type: ignore[misc]  # deap has no types
    """The rung in training steps (0 without successive halving), then the score, both maximized.

    Fitnesses compare by rung first, then by score. A diverged ticket has rung 0 and score −inf, so that no
    fitness is worse.
    """

    weights = (1.0, 1.0)


class Scores(np.ndarray[tuple[int, ...], np.dtype[np.float64]]):
    """The ``(population,)`` float scores that a fitness returns, with further data to record.

    ``Scores(values, {"accuracy": accuracy})`` is an array like any other. Larger is better; selection
    compares rungs, where there are any, then scores. An array computed from scores has none of the further
    data.

    Attributes
    ----------
    measures : ``{name: (population,) float}``.
    rungs : ``(population,)`` int, the training steps of each score with successive halving (see
        :func:`~ticketsearch.halving.successive_halving`), or None where all scores compare as they are.
    agreements : rank agreement of the rungs on this generation's controls.
    phases : ``{name: seconds}``, parts of the fitness's time, such as ``training``.
    guidance : prune and grow scores of each mask's weights, None for a diverged mask; None without guidance.
    spent : cost of the evaluations; zero where the fitness does not state it.
    """

    measures: dict[str, Floats]
    rungs: Integers | None
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
        spent: Spent = Spent(),  # noqa: B008 - frozen
    ) -> Scores:
        """Return a view of the values with the further data.

        Raises :class:`BadInput` for rungs that are not integers >= 0.
        """
        scores = real_array("scores", values).astype(np.float64).view(cls)
        columns = (measures or {}).items()
        scores.measures = {k: real_array(f"measures {k!r}", v).astype(np.float64) for k, v in columns}
        scores.rungs = None if rungs is None else _checked_rungs(rungs)
        scores.agreements = [Agreement(*map(int, counts)) for counts in agreements]
        scores.phases = {name: float(seconds) for name, seconds in (phases or {}).items()}
        scores.guidance = None if guidance is None else list(guidance)
        scores.spent = spent
        return scores

    def __array_finalize__(self, source: object) -> None:
        """Give an array that NumPy makes from scores empty further data."""
        self.measures, self.rungs, self.agreements, self.phases = {}, None, [], {}
        self.guidance, self.spent = None, Spent()


def _checked_rungs(given: ArrayLike) -> Integers:
    rungs = np.asarray(given)
    if rungs.dtype.kind not in "iu":
        raise BadInput(f"rungs are training steps, integers >= 0, but got {rungs.dtype}; round them")
    if (rungs < 0).any():
        raise BadInput(f"rungs are training steps, integers >= 0, but got {rungs.min()}; 0 is the lowest")
    return rungs.astype(np.int64)


class Assessment(NamedTuple):
    """One evaluation of a ticket: its generation, rung, score and measures; score −inf if it diverged."""

    generation: int
    rung: int
    score: float
    measures: dict[str, float]


class EvaluationSums(NamedTuple):
    """Sums over a ticket's evaluations on the highest rung, so that a mean takes constant time.

    ``measures`` holds sum and count by name, for the names in the first evaluation.
    """

    rung: int = -1
    terms: int = 0
    score: float = 0.0
    measures: Mapping[str, tuple[float, int]] = {}

    def added(self, assessment: Assessment) -> EvaluationSums:
        """Return the sums with one more evaluation; one on a higher rung replaces those before."""
        _, rung, score, measures = assessment
        if rung < self.rung:
            return self
        if rung > self.rung:
            return EvaluationSums(rung, 1, score, {name: (value, 1) for name, value in measures.items()})
        totals = {
            name: (total + measures[name], count + 1) if name in measures else (total, count)
            for name, (total, count) in self.measures.items()
        }
        return EvaluationSums(rung, self.terms + 1, self.score + score, totals)


class CorrectedSums(NamedTuple):
    """Sums over the first ``taken`` evaluations, on the highest rung, less the effects of their data orders.

    Scores on the ``unknown`` data orders, whose effects have no estimate, are summed as they are.
    """

    taken: int = 0
    rung: int = -1
    terms: int = 0
    total: float = 0.0
    unknown: int = 0

    def added(self, assessment: Assessment, effect: float | None) -> CorrectedSums:
        """Return the sums with one more evaluation and the effect of its data order, None if unknown."""
        taken, (_, rung, score, _) = self.taken + 1, assessment
        if rung < self.rung:
            return self._replace(taken=taken)
        before = CorrectedSums(rung=rung) if rung > self.rung else self
        return CorrectedSums(
            taken,
            rung,
            before.terms + 1,
            before.total + (score if effect is None else score - effect),
            before.unknown + (effect is None),
        )

    def mean(self, mean_effect: float) -> float:
        """Return the mean score, where data orders without an estimate have the mean effect."""
        return (self.total - self.unknown * mean_effect) / self.terms
