"""Cost of a search: evaluations, optimizer steps, and floating-point operations (FLOPs) of live weights.

Steps alone do not compare methods: a step of a network at 2 % density costs a fiftieth of a dense one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["Spent", "spending"]


@dataclass(frozen=True)
class Spent:
    """Cost of trainings and evaluations; costs add up.

    Attributes
    ----------
    evaluations : number of networks evaluated.
    steps : number of optimizer steps, summed over networks.
    flops : floating-point operations of live kept weights, for each weight and sample 2 in a forward pass and
        6 with the backward pass, and of the gradients that score pruned weights for growth. Other operations,
        such as those of dead weights that pad a product, are not counted.
    """

    evaluations: int = 0
    steps: int = 0
    flops: int = 0

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.evaluations + other.evaluations, self.steps + other.steps, self.flops + other.flops)


def spending(
    operations: ArrayLike,
    *,
    steps: int,
    batch: int,
    samples: int,
    guiding: int = 0,
    growable: ArrayLike = 0,
) -> Spent:
    """Return the cost of training networks and evaluating each.

    Parameters
    ----------
    operations : ``(networks,)`` int, live kept weights of each, times the positions they are applied at: see
        :func:`ticketsearch.training.live_operations`.
    steps, batch : optimizer steps of each network, and samples of a step.
    samples : samples of each network's evaluation.
    guiding : samples whose gradients give guidance: 8 operations for each weight, squares included, and 4 for
        each growable one.
    growable : pruned weights that guidance scores for growth, ``(networks,)`` or one number.
    """
    live = np.asarray(operations, dtype=np.int64)
    flops_of_weight = 6 * batch * steps + 2 * samples + 8 * guiding
    flops = int(live.sum()) * flops_of_weight + 4 * guiding * int(np.sum(growable))
    return Spent(len(live), len(live) * steps, flops)
