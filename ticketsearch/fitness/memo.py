"""The memo of a fitness: its evaluations, so that none is repeated."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import NamedTuple

from ticketsearch.masks import Guidance
from ticketsearch.models import Initialization

__all__ = ["Evaluated", "EvaluationKey", "Memo", "Observer"]

# Number of evaluations of single masks in the memo, and of those with guidance, which are large.
MEMO_SIZE, MEMO_SIZE_WITH_SCORES = 2**14, 2**9


class Evaluated(NamedTuple):
    """Evaluation of a mask: loss and accuracy of each pass, and its guidance, None if it diverged."""

    passes: tuple[tuple[float, float], ...]
    guidance: Guidance | None


class EvaluationKey(NamedTuple):
    """Everything that an evaluation depends on, but for the constants of the fitness.

    A memo belongs to one fitness, whose network, data, seed, recipe, precision and device never change.
    """

    digest: str
    initialization: Initialization
    round: int
    steps: int


# Takes the evaluations that have just been made, the number of masks done, and that of all masks.
Observer = Callable[[Mapping[EvaluationKey, Evaluated], int, int], object]


class Memo:
    """Evaluations by their keys; the oldest one leaves a memo that is full.

    ``guided`` says that evaluations hold guidance.
    """

    def __init__(self, *, guided: bool) -> None:
        self._size = MEMO_SIZE_WITH_SCORES if guided else MEMO_SIZE
        self._evaluations: OrderedDict[EvaluationKey, Evaluated] = OrderedDict()
        self._restored: set[EvaluationKey] = set()

    def get(self, key: EvaluationKey) -> Evaluated | None:
        """Return the evaluation of a key if the memo holds it."""
        return self._evaluations.get(key)

    def add(self, key: EvaluationKey, evaluated: Evaluated) -> None:
        """Put an evaluation into the memo."""
        self._evaluations[key] = evaluated
        if len(self._evaluations) > self._size:
            self._evaluations.popitem(last=False)

    def restore(self, evaluations: Mapping[EvaluationKey, Evaluated]) -> None:
        """Add evaluations of a search that was interrupted.

        Their cost counts when they are first used, as if they were made then: a search that goes on costs as
        much as one that was not interrupted.
        """
        for key, evaluated in evaluations.items():
            self.add(key, evaluated)
        self._restored |= evaluations.keys()

    def first_use(self, key: EvaluationKey) -> bool:
        """Return whether an evaluation was restored and is used for the first time."""
        first = key in self._restored
        self._restored.discard(key)
        return first
