"""The loop: trains a cohort, and evaluates it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ticketsearch.datasets import Dataset
from ticketsearch.errors import BadInput
from ticketsearch.training.cohort import Cohort
from ticketsearch.training.noise import Noise
from ticketsearch.training.recipe import OPTIMIZERS, Recipe
from ticketsearch.wiring import Wiring

__all__ = ["Evaluation", "TrainingPart", "check_normalisation", "evaluate", "train"]


class Evaluation(NamedTuple):
    """Mean cross-entropy (nats) and accuracy in [0, 1] of each network of a cohort, both ``(P,)`` float64."""

    loss: NDArray[np.float64]
    accuracy: NDArray[np.float64]


class TrainingPart(NamedTuple):
    """The training part of a dataset alone, e.g. where it has been brought to a device once for many."""

    x_train: Tensor
    y_train: Tensor


def train(
    cohort: Cohort,
    dataset: Dataset | TrainingPart,
    recipe: Recipe,
    orders: Sequence[NDArray[np.int64]],
    *,
    after_step: Callable[[int], Any] | None = None,
) -> None:
    """Train a cohort in place on the training part.

    ``orders`` holds one data order ``(steps, batch)`` of sample numbers for all networks, or one for each;
    what dropout draws follows from them. ``after_step(step)`` is called after each optimizer step of all
    networks; nothing else synchronises with the device. On CUDA, convolutions give the same from run to run
    only within :func:`ticketsearch.training.reproducible`.

    Raises :class:`BadInput` for a recipe of another masking than the cohort's, or batches of one sample
    where batch normalisation needs two.
    """
    if recipe.masking != cohort.masking:
        raise BadInput(
            f"a cohort is trained by the masking it was made for, {cohort.masking!r}, but the recipe says "
            f"{recipe.masking!r}; give both the same"
        )
    check_normalisation(cohort.wiring, recipe)
    x, y = cohort.resident(dataset.x_train), dataset.y_train.to(cohort.device)
    work = []
    for place, part in cohort.placed():
        order = np.stack(orders if len(orders) == 1 else orders[place])
        optimizer = OPTIMIZERS[recipe.optimizer](part.trainable, recipe)
        work.append((part, order, torch.from_numpy(order).to(cohort.device), optimizer))
    for step in range(recipe.steps):
        for part, order, numbers, optimizer in work:
            chosen = numbers[0, step] if len(order) == 1 else numbers[:, step]
            logits = part.forward(x[chosen], Noise(order[:, step], step))
            labels = y[chosen].expand(part.size, -1)
            # Each network's loss is its own mean; their sum keeps the gradients apart.
            loss = F.cross_entropy(logits.flatten(0, 1), labels.reshape(-1), reduction="sum")
            optimizer.zero_grad()
            (loss / labels.shape[1]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        if after_step is not None:
            after_step(step)


@torch.no_grad()
def evaluate(cohort: Cohort, x: Tensor, y: Tensor, *, masked: bool | None = None) -> Evaluation:
    """Return each network's mean cross-entropy and accuracy on samples ``x`` with labels ``y``.

    By default of the forward pass that training used; with ``masked=True`` of the trained weights through the
    mask, with ``masked=False`` of all trained weights, those that the mask does not keep too. Running
    statistics are those of training in any case.
    """
    x, y = cohort.resident(x), y.to(cohort.device)
    loss = torch.zeros(cohort.size, dtype=torch.float64, device=cohort.device)
    correct = torch.zeros(cohort.size, dtype=torch.int64, device=cohort.device)
    for place, part in cohort.placed():
        blocks = [torch.split(whole, part.block) for whole in (x, y)]
        for samples, labels in zip(*blocks, strict=True):
            logits = part.forward(samples, masked=masked)
            each = F.cross_entropy(
                logits.flatten(0, 1), labels.expand(part.size, -1).reshape(-1), reduction="none"
            )
            loss[place] += each.view(part.size, -1).sum(1, dtype=torch.float64)
            correct[place] += (logits.argmax(2) == labels).sum(1)
    return Evaluation((loss / len(y)).cpu().numpy(), (correct.double() / len(y)).cpu().numpy())


def check_normalisation(wiring: Wiring, recipe: Recipe) -> None:
    """Raise :class:`BadInput` for batches of one sample where a batch normalisation sees one value a unit."""
    single = any(step.operation == "normalize" and math.prod(step.shape[1:]) == 1 for step in wiring.steps)
    if single and recipe.batch == 1:
        raise BadInput("batch normalisation needs batch >= 2 in training, but got 1; take larger batches")
