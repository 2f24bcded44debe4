"""The cost of pruners that train: steps, samples and FLOPs of each initialization."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from inspect import signature
from typing import Any

import numpy as np

from ticketsearch.cost import Spent, spending
from ticketsearch.datasets import Dataset
from ticketsearch.masks import Mask
from ticketsearch.pruners.batching import ScoreFunction
from ticketsearch.pruners.iterative import PruningStep
from ticketsearch.pruners.pruning import known_pruner
from ticketsearch.training import BLOCK, live_operations
from ticketsearch.wiring import Wiring

__all__ = ["TrainingCost"]


class TrainingCost:
    """The cost of the rounds of a pruning, from the masks that each round starts with.

    Parameters
    ----------
    method : the pruner; one that trains nothing costs nothing.
    options : of the pruner.
    wiring, dataset : of the networks that are pruned.
    """

    def __init__(
        self,
        method: str | ScoreFunction,
        options: Mapping[str, Any],
        wiring: Wiring,
        dataset: Dataset | None,
    ) -> None:
        self.wiring, self.dataset = wiring, dataset
        pruner = known_pruner(method)
        self.trains, self.curvature = (getattr(pruner, mark, False) for mark in ("trains", "curvature"))
        parameters = signature(pruner).parameters.values() if pruner is not None and self.trains else ()
        self.options = {parameter.name: parameter.default for parameter in parameters} | dict(options)
        self.masks: defaultdict[int, list[Mask]] = defaultdict(list)

    def record(self, step: PruningStep) -> None:
        """Record one cut: the callback of :func:`ticketsearch.pruners.prune_all`."""
        if self.trains:
            mask = np.zeros(self.wiring.spec.size, dtype=np.bool_)
            mask[step.numbers] = True
            self.masks[step.copy].append(mask)

    def spent(self, copy: int) -> Spent:
        """Return the cost of the rounds of a copy; dense steps before a rewind count once."""
        if copy not in self.masks or self.dataset is None:
            return Spent()
        samples = len(self.dataset.y_train)
        operations = live_operations(self.wiring, np.stack(self.masks[copy]))
        batch = min(self.options["training_batch"], samples)
        guiding = min(BLOCK, samples) if self.curvature else 0
        spent = spending(operations[:1], steps=self.options.get("rewind", 0), batch=batch, samples=0)
        trainings = np.repeat(operations, self.options.get("orders", 1))
        steps = self.options["training_steps"]
        spent += spending(trainings, steps=steps, batch=batch, samples=0, guiding=guiding)
        return replace(spent, evaluations=0)
