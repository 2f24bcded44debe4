"""What a search spends: optimizer steps and the floating-point operations of the weights that are live.

Steps alone would not do to compare methods: one of a network of which 2 % is left is worth a fiftieth of one
of the whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["Spent", "spending"]


@dataclass(frozen=True)
class Spent:
    """What trainings and evaluations took; adds up.

    Attributes
    ----------
    evaluations : networks evaluated.
    steps : optimizer steps, summed over networks.
    flops : floating-point operations by live kept weights: 2 a weight and sample in a forward pass, 6 with
        the backward pass; and those of the gradients that tell which pruned weights to grow. What a program
        does beside these, as dead weights that fill up a product, is not counted.
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
    """Return what it takes to train networks for ``steps`` and evaluate each on ``samples``.

    ``guiding`` are the samples whose gradients guidance goes by: 8 operations a weight with their squares,
    and 4 for each of the ``growable`` pruned weights, ``(networks,)`` or one number.

    ``operations``, ``(networks,)`` int: live kept weights of each, times the positions they are applied at;
    see :func:`ticketsearch.training.live_operations`.
    """
    live = np.asarray(operations, dtype=np.int64)
    each = 6 * batch * steps + 2 * samples + 8 * guiding
    flops = int(live.sum()) * each + 4 * guiding * int(np.sum(growable))
    return Spent(len(live), len(live) * steps, flops)
