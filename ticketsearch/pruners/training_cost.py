"""Rounds: what a pruner that trains spends on each of several initializations."""

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
from ticketsearch.pruners.imp import averaged_imp, imp, obd
from ticketsearch.pruners.iterative import Cut
from ticketsearch.training import BLOCK, live_operations
from ticketsearch.wiring import Wiring

__all__ = ["Rounds"]

FUNCTIONS: dict[object, ScoreFunction] = {"imp": imp, "averaged_imp": averaged_imp, "obd": obd}


class Rounds:
    """The masks that the rounds of a pruning began with, seen by watching it.

    Parameters
    ----------
    method : the pruner; one that trains nothing spends nothing.
    options : of the pruner.
    wiring, dataset : of what is pruned.
    """

    def __init__(
        self, method: object, options: Mapping[str, Any], wiring: Wiring, dataset: Dataset | None
    ) -> None:
        self.method, self.wiring, self.dataset = method, wiring, dataset
        parameters = signature(FUNCTIONS[method]).parameters if method in FUNCTIONS else {}
        self.options = {name: parameter.default for name, parameter in parameters.items()} | dict(options)
        self.masks: defaultdict[int, list[Mask]] = defaultdict(list)

    def watch(self, cut: Cut) -> None:
        """See one cut, as :func:`ticketsearch.pruners.prune_all` tells of them."""
        if self.method in FUNCTIONS:
            mask = np.zeros(self.wiring.spec.size, dtype=np.bool_)
            mask[cut.numbers] = True
            self.masks[cut.copy].append(mask)

    def spent(self, copy: int) -> Spent:
        """Return what the rounds of a copy took; dense steps before a rewind count once."""
        if copy not in self.masks or self.dataset is None:
            return Spent()
        samples = len(self.dataset.y_train)
        operations = live_operations(self.wiring, np.stack(self.masks[copy]))
        batch = min(self.options["training_batch"], samples)
        guiding = min(BLOCK, samples) if self.method == "obd" else 0
        spent = spending(operations[:1], steps=self.options.get("rewind", 0), batch=batch, samples=0)
        trainings = np.repeat(operations, self.options.get("orders", 1))
        steps = self.options["training_steps"]
        spent += spending(trainings, steps=steps, batch=batch, samples=0, guiding=guiding)
        return replace(spent, evaluations=0)
