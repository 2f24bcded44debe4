"""Polishing: children are made as good as small changes make them before they join a population.

An evolution whose children are improved by a search of their own is called memetic (Moscato 1989). It pays
where a mask is scored fast, as without training.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ticketsearch.cost import Spent
from ticketsearch.errors import BadInput
from ticketsearch.masks import Mask, MaskSpec, check_masks
from ticketsearch.plugins import call, parameters_of
from ticketsearch.tickets import Scores

__all__ = ["Polish"]

# Of the changes tried, those that only prune a weight, and those that only keep another.
PRUNING, KEEPING = 0.1, 0.2


class Polish:
    """Hill climbing of masks side by side: random small changes, each undone where it lowers the score.

    A change prunes a kept weight, keeps a pruned one, or both: what is pruned or kept is drawn from all
    weights of the mask. None is pruned to nothing, nor grows beyond ``most``.

    Parameters
    ----------
    fitness : ``(P, weights)`` bool → ``(P,)`` float, larger is better; by masks alone, always the same.
    spec : the mask spec.
    steps : changes tried of each mask, >= 1.
    most : weights that a mask may grow to.

    Raises :class:`BadInput` for fewer steps, or a fitness that goes by more than masks.
    """

    def __init__(self, fitness: Callable[..., Any], spec: MaskSpec, *, steps: int, most: int) -> None:
        if steps < 1:
            raise BadInput(f"polishing tries at least 1 change, but got {steps}")
        if more := parameters_of(fitness) & {"tickets", "round"}:
            raise BadInput(
                f"polishing needs a fitness that goes by masks alone, as 'untrained', but got one that asks "
                f"for {' and '.join(sorted(more))}; leave evolution.polish 0"
            )
        self.fitness = fitness
        self.spec = spec
        self.steps = steps
        self.most = most

    def __call__(self, masks: Mask, rng: np.random.Generator) -> tuple[Mask, Spent]:
        """Return better masks, ``(P, weights)``, in the same order, and what their evaluations took."""
        best = check_masks(masks, self.spec)
        scores, spent = self._scored(best)
        for _ in range(self.steps):
            changed = self._changed(best, rng)
            found, own = self._scored(changed)
            spent += own
            better = found >= scores
            best = np.where(better[:, None], changed, best)
            scores = np.where(better, found, scores)
        return check_masks(best, self.spec), spent

    def _scored(self, masks: Mask) -> tuple[NDArray[np.float64], Spent]:
        found = call(self.fitness, "fitness", type(self.fitness).__name__, masks)
        spent = found.spent if isinstance(found, Scores) else Spent(evaluations=len(masks))
        return np.asarray(found, dtype=np.float64), spent

    def _changed(self, masks: Mask, rng: np.random.Generator) -> Mask:
        """Return each mask with one change."""
        kept = np.count_nonzero(masks, axis=1)
        kind = rng.random(len(masks))
        only_prunes = (kind < PRUNING) & (kept > 1)
        only_keeps = (kind >= PRUNING) & (kind < PRUNING + KEEPING) & (kept < self.most)
        free = self.spec.reading(~masks)
        prunes, keeps = ~only_keeps & (kept > 0), ~only_prunes & free.any(axis=1)
        # The largest of random numbers is anywhere with the same chance.
        numbers = rng.random(masks.shape)
        changed = masks.copy()
        for among, moves in ((masks, prunes), (free, keeps)):
            rows = np.flatnonzero(moves)
            changed[rows, np.where(among, numbers, -1.0).argmax(axis=1)[rows]] ^= True
        return changed
