"""Evaluation: calls the fitness, checks its scores, and records them with the tickets."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ticketsearch.checks import real_array
from ticketsearch.errors import BadInput
from ticketsearch.evolution.timing import FITNESS, OWN, Phases
from ticketsearch.masks import check_guidance
from ticketsearch.plugins import call, parameters_of
from ticketsearch.tickets import Assessment, Scores, Tickets

__all__ = ["evaluate"]

# A fitness may return no larger numbers: their squares are still numbers.
LARGEST = 1e100


def evaluate(
    fitness: Callable[..., Any], tickets: Tickets, phases: Phases, *, generation: int, round: int
) -> Scores:
    """Record the scores of tickets in an evaluation round with them, and return the scores.

    Raises :class:`BadInput` for a fitness that returns another shape, or one that is not finite for any of
    the first tickets.
    """
    if not tickets:
        return Scores(np.empty(0))
    named = parameters_of(fitness)
    extra = {"tickets": tickets, "round": round}
    with phases.measure(FITNESS):
        given = {name: value for name, value in extra.items() if name in named}
        result = call(fitness, "fitness", _name_of(fitness), tickets.masks, **given)
    scores = _checked(result, tickets)
    # Once, here: NaN would win DEAP's selections.
    usable = np.isfinite(scores) & (np.asarray(scores) >= -LARGEST)
    values = np.where(usable, np.asarray(scores), -np.inf)
    if not np.isfinite(values).any() and generation == 0:
        raise BadInput(
            f"the fitness is not finite for any of the {len(tickets)} first tickets: nothing to select from; "
            "lower the learning rate or look into the fitness"
        )
    # What diverged on a high rung is no better than what diverged on a low one.
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
    """Return what a fitness returned as scores; raises :class:`BadInput` for any other shape."""
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
        if name in OWN or not 0 <= seconds < math.inf:
            raise BadInput(
                f"phases of a fitness are seconds >= 0, none named {', '.join(OWN)}, which are the "
                f"evolution's own, but got {name!r}: {seconds}"
            )
    return scores


def _check_size(what: str, values: NDArray[np.float64]) -> None:
    """Refuse numbers whose sums and squares could not be written, compared or drawn."""
    finite = np.abs(values[np.isfinite(values)])
    if finite.size and finite.max() > LARGEST:
        raise BadInput(
            f"{what} are numbers of at most {LARGEST:g} in size, but a fitness returned {finite.max():g}; "
            "scale them, or return -inf for a mask that is worth nothing"
        )
