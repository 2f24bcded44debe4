"""Evaluations of an unfinished generation: stored as they come, and used when the search goes on."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ticketsearch.experiment.callbacks import Callback
from ticketsearch.fitness import Evaluated, EvaluationKey, ShortTraining
from ticketsearch.masks import Guidance
from ticketsearch.models import Initialization
from ticketsearch.runs import EvaluationRow, Run

__all__ = ["Unfinished", "restore_evaluations"]

# Least number of seconds between two commits of evaluations: more often, they would cost quick searches time
# that a repeated evaluation does not.
EVERY = 1.0


class Unfinished:
    """The observer of a short training: stores its evaluations in a run, and tells a callback.

    Parameters
    ----------
    run : the run, whose next generation is being made.
    callback : takes the number of masks that have been evaluated.
    """

    def __init__(self, run: Run, callback: Callback) -> None:
        self.run = run
        self.callback = callback
        self.generation = run.progress() + 1
        self._waiting: dict[EvaluationKey, Evaluated] = {}
        self._stored = time.monotonic()

    def __call__(self, made: Mapping[EvaluationKey, Evaluated], done: int, total: int) -> None:
        """Take evaluations that have just been made, the number of masks done, and that of all masks."""
        self._waiting |= made
        if time.monotonic() - self._stored >= EVERY:
            self.run.save_evaluations([_row(key, evaluated) for key, evaluated in self._waiting.items()])
            self._waiting.clear()
            self._stored = time.monotonic()
        self.callback.on_evaluated(self.run, self.generation, done, total)

    def next_generation(self) -> None:
        """Begin the next generation: the evaluations of the last one are part of it."""
        self.generation += 1
        self._waiting.clear()
        self._stored = time.monotonic()


def restore_evaluations(run: Run, fitness: ShortTraining) -> None:
    """Give a fitness the evaluations that a run stored of its unfinished generation."""
    fitness.memo.restore(dict(_evaluation(row) for row in run.evaluations()))


def _row(key: EvaluationKey, evaluated: Evaluated) -> EvaluationRow:
    guidance = evaluated.guidance
    saliency, candidates, growth = (
        (None,) * 3
        if guidance is None
        else (
            guidance.saliency.astype("<f4").tobytes(),
            guidance.candidates.astype("<u4").tobytes(),
            guidance.growth.astype("<f4").tobytes(),
        )
    )
    passes = np.array(evaluated.passes, dtype="<f8").tobytes()
    return EvaluationRow(
        key.round, key.steps, key.digest, *key.initialization, passes, saliency, candidates, growth
    )


def _evaluation(row: EvaluationRow) -> tuple[EvaluationKey, Evaluated]:
    key = EvaluationKey(row.digest, Initialization(row.scheme, row.seed), row.round, row.steps)
    passes: NDArray[np.float64] = np.frombuffer(row.passes, "<f8").reshape(-1, 2)
    guidance = None
    if row.saliency is not None and row.candidates is not None and row.growth is not None:
        guidance = Guidance(
            np.frombuffer(row.saliency, "<f4"),
            np.frombuffer(row.candidates, "<u4").astype(np.int64),
            np.frombuffer(row.growth, "<f4"),
        )
    return key, Evaluated(tuple((float(loss), float(accuracy)) for loss, accuracy in passes), guidance)
