"""Memetic local search: each child is hill-climbed before it joins the population (Moscato 1989).

P. Moscato, "On evolution, search, optimization, genetic algorithms and martial arts: towards memetic
algorithms", Caltech Concurrent Computation Program report 826. It pays where scores are cheap, as those of
untrained networks are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ticketsearch.checks import Count
from ticketsearch.cost import Spent
from ticketsearch.errors import BadInput
from ticketsearch.evolution.rules import AT_LEAST_1, check_fields
from ticketsearch.masks import Mask, MaskSpec, check_masks
from ticketsearch.plugins import call, parameters_of
from ticketsearch.tickets import Scores
from ticketsearch.typing import Floats

__all__ = ["HillClimbing", "Improvement", "LocalSearch"]

# Probabilities of a change that only prunes a weight, and of one that only keeps another.
PRUNING, KEEPING = 0.1, 0.2

# Returns improved masks (P, weights) in the same order, and the cost of that.
Improvement = Callable[[Mask, np.random.Generator], tuple[Mask, Spent]]


@dataclass(frozen=True)
class LocalSearch:
    """Each child is improved by hill climbing before it is evaluated; see :class:`HillClimbing`.

    A child that hill climbing turns into a duplicate is left out, and no other child takes its place. The
    weight counts of children are free, up to ``most``.

    Parameters
    ----------
    steps : changes tried on each child, >= 1.
    most : largest number of weights that a child may grow to, >= 1.
    fitness : ``(P, weights)`` bool → ``(P,)`` float, the scores that are climbed: by masks alone, and the
        same at each call. By default the fitness of the search.

    Raises :class:`ticketsearch.BadInput` for values out of range, and for a fitness that takes more than
    masks.
    """

    steps: Count
    most: int
    fitness: Callable[..., Any] | None = None

    def __post_init__(self) -> None:
        check_fields(self, steps=AT_LEAST_1, most=AT_LEAST_1)
        if self.fitness is not None:
            _check_by_masks_alone(self.fitness)

    def improvement(self, fitness: Callable[..., Any], spec: MaskSpec) -> Improvement:
        """Return the hill climbing on masks of ``spec``; ``fitness`` is that of the search."""
        climbed = fitness if self.fitness is None else self.fitness
        _check_by_masks_alone(climbed)
        return HillClimbing(climbed, spec, steps=self.steps, most=self.most)


class HillClimbing:
    """Hill climbing of masks side by side: random small changes, each undone where it lowers the score.

    A change prunes a kept weight, keeps a pruned one, or does both; the weight is drawn from all weights of
    the mask. At least one weight stays, and no mask grows beyond ``most``.

    Parameters
    ----------
    fitness : ``(P, weights)`` bool → ``(P,)`` float, larger is better.
    spec : the mask spec.
    steps : changes tried on each mask.
    most : largest number of weights that a mask may grow to.
    """

    def __init__(self, fitness: Callable[..., Any], spec: MaskSpec, *, steps: int, most: int) -> None:
        self.fitness = fitness
        self.spec = spec
        self.steps = steps
        self.most = most

    def __call__(self, masks: Mask, rng: np.random.Generator) -> tuple[Mask, Spent]:
        """Return improved masks ``(P, weights)`` in the same order, and the cost of their evaluations."""
        best = check_masks(masks, self.spec)
        scores, spent = self._scored(best)
        for _ in range(self.steps):
            changed = self._changed(best, rng)
            changed_scores, cost = self._scored(changed)
            spent += cost
            better = changed_scores >= scores
            best = np.where(better[:, None], changed, best)
            scores = np.where(better, changed_scores, scores)
        return check_masks(best, self.spec), spent

    def _scored(self, masks: Mask) -> tuple[Floats, Spent]:
        scores = call(self.fitness, "fitness", type(self.fitness).__name__, masks)
        spent = scores.spent if isinstance(scores, Scores) else Spent(evaluations=len(masks))
        return np.asarray(scores, dtype=np.float64), spent

    def _changed(self, masks: Mask, rng: np.random.Generator) -> Mask:
        """Return each mask with one change."""
        kept = np.count_nonzero(masks, axis=1)
        kind = rng.random(len(masks))
        only_prunes = (kind < PRUNING) & (kept > 1)
        only_keeps = (kind >= PRUNING) & (kind < PRUNING + KEEPING) & (kept < self.most)
        free = self.spec.reading(~masks)
        prunes, keeps = ~only_keeps & (kept > 0), ~only_prunes & free.any(axis=1)
        # The position of the largest of uniform numbers is uniform.
        numbers = rng.random(masks.shape)
        changed = masks.copy()
        for eligible, moves in ((masks, prunes), (free, keeps)):
            rows = np.flatnonzero(moves)
            changed[rows, np.where(eligible, numbers, -1.0).argmax(axis=1)[rows]] ^= True
        return changed


def _check_by_masks_alone(fitness: Callable[..., Any]) -> None:
    """Raise :class:`BadInput` for a fitness that takes tickets or the evaluation round."""
    if more := parameters_of(fitness) & {"tickets", "round"}:
        raise BadInput(
            f"a local search needs a fitness of masks alone, such as 'untrained', but got one that takes "
            f"{' and '.join(sorted(more))}; leave out evolution.polish (local_search in Python)"
        )
