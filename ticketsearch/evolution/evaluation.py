"""Evaluation of tickets: the fitness is called, its scores are checked and recorded."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ticketsearch.checks import real_array
from ticketsearch.errors import BadInput
from ticketsearch.evolution.timing import EVOLUTION_PHASES, FITNESS, Phases
from ticketsearch.masks import check_guidance
from ticketsearch.plugins import call, parameters_of
from ticketsearch.tickets import Assessment, Scores, Tickets
from ticketsearch.typing import Floats

__all__ = ["evaluate"]

# Largest size of a number from a fitness, so that squares and sums stay finite.
LARGEST = 1e100


def evaluate(
    fitness: Callable[..., Any], tickets: Tickets, phases: Phases, *, generation: int, round: int
) -> Scores:
    """Return the scores of tickets in an evaluation round, and record them with the tickets.

    Parameters
    ----------
    fitness : masks to scores; gets ``tickets`` and ``round`` where it has these parameters.
    tickets : tickets to evaluate.
    phases : the stopwatch of the generation.
    generation : number of the generation.
    round : number of the evaluation round, which gives the data order.

    Raises :class:`BadInput` for a fitness that returns another shape, or one that is not finite for any of
    the first tickets.
    """
    if not tickets:
        return Scores(np.empty(0))
    parameters = parameters_of(fitness)
    extra = {name: v for name, v in (("tickets", tickets), ("round", round)) if name in parameters}
    with phases.measure(FITNESS):
        result = call(fitness, "fitness", _name_of(fitness), tickets.masks, **extra)
    scores = _checked(result, tickets)
    # NaN would win in the selections of DEAP.
    usable = np.isfinite(scores) & (np.asarray(scores) >= -LARGEST)
    values = np.where(usable, np.asarray(scores), -np.inf)
    if not np.isfinite(values).any() and generation == 0:
        raise BadInput(
            f"the fitness is not finite for any of the {len(tickets)} first tickets: nothing to select from; "
            "lower the learning rate or look into the fitness"
        )
    # A mask that diverged on a high rung is no better than one that diverged on a low rung.
    rungs = np.zeros(len(values)) if scores.rungs is None else np.where(np.isfinite(values), scores.rungs, 0)
    for i, ticket in enumerate(tickets):
        measures = {name: float(column[i]) for name, column in scores.measures.items()}
        ticket.add_evaluation(Assessment(generation, int(rungs[i]), float(values[i]), measures))
        ticket.guidance = None if scores.guidance is None else scores.guidance[i]
    phases.divide(FITNESS, scores.phases)
    return scores


def _name_of(fitness: Callable[..., Any]) -> str:
    return getattr(fitness, "__name__", type(fitness).__name__)


def _checked(result: Any, tickets: Tickets) -> Scores:
    """Return the result of a fitness as scores; raises :class:`BadInput` for another shape."""
    try:
        values = real_array("scores of a fitness", result).astype(np.float64)
    except BadInput as error:
        if "complex" in str(error):
            raise
        values = np.empty(0)
    if values.shape != (len(tickets),):
        got = values.shape if values.size else type(result).__name__
        raise BadInput(
            f"a fitness returns one float a mask, i.e. shape ({len(tickets)},), but got {got}; "
            "return an array with one score for each row of the masks"
        )
    scores = result if isinstance(result, Scores) else Scores(values)
    _check_size("scores", np.maximum(values, 0))  # a loss that is larger has diverged
    for name, column in scores.measures.items():
        _check_size(f"measures {name!r}", column)
        if column.shape != values.shape:
            raise BadInput(f"measures are one float a mask, {values.shape}, but {name!r} has {column.shape}")
    if scores.rungs is not None and scores.rungs.shape != values.shape:
        raise BadInput(f"rungs are one number of steps a mask, {values.shape}, but got {scores.rungs.shape}")
    if scores.guidance is not None:
        if len(scores.guidance) != len(tickets):
            raise BadInput(f"guidance is one a mask ({len(tickets)}), but got {len(scores.guidance)}")
        pairs = zip(scores.guidance, tickets, strict=True)
        scores.guidance = [None if g is None else check_guidance(*g, ticket.mask) for g, ticket in pairs]
    for name, seconds in scores.phases.items():
        if name in EVOLUTION_PHASES or not 0 <= seconds < math.inf:
            raise BadInput(
                f"phases of a fitness are seconds >= 0, and the names {', '.join(EVOLUTION_PHASES)} are "
                f"taken by the evolution, but got {name!r}: {seconds}"
            )
    return scores


def _check_size(what: str, values: Floats) -> None:
    """Refuse finite numbers whose sums and squares would overflow."""
    finite = np.abs(values[np.isfinite(values)])
    if finite.size and finite.max() > LARGEST:
        raise BadInput(
            f"{what} are numbers of at most {LARGEST:g} in size, but a fitness returned {finite.max():g}; "
            "scale them, or return -inf for a mask that is to be discarded"
        )
