"""The loop that trains a cohort, and the evaluation of a cohort."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ticketsearch.checks import is_integer
from ticketsearch.datasets import Dataset
from ticketsearch.errors import BadInput
from ticketsearch.masks import Guidance
from ticketsearch.training.cohort import Cohort
from ticketsearch.training.device import with_tf32
from ticketsearch.training.parts import State
from ticketsearch.training.recipe import Recipe
from ticketsearch.wiring import Wiring

__all__ = ["Evaluation", "Training", "TrainingPart", "check_normalisation", "evaluate", "train"]


class Evaluation(NamedTuple):
    """Mean cross-entropy (nats) and accuracy in [0, 1] of each network, both ``(P,)`` float64."""

    loss: NDArray[np.float64]
    accuracy: NDArray[np.float64]


class TrainingPart(NamedTuple):
    """The training part of a dataset alone, e.g. one that stays on a device for many trainings."""

    x_train: Tensor
    y_train: Tensor


class Training:
    """The training of a cohort, which can stop at any step and go on.

    Parameters
    ----------
    cohort : is trained in place.
    dataset : the cohort learns its training part.
    recipe : of the same masking as the cohort.
    orders : data orders ``(steps, batch)`` of sample indices, one for all networks or one for each, over all
        steps of the recipe; they also fix the noise of dropout.
    begin : step of the recipe at which this training begins.

    Raises :class:`BadInput` for a recipe of another masking than the cohort's, batches of one sample
    where batch normalisation needs two, or a first step outside the recipe.
    """

    def __init__(
        self,
        cohort: Cohort,
        dataset: Dataset | TrainingPart,
        recipe: Recipe,
        orders: Sequence[NDArray[np.int64]],
        *,
        begin: int = 0,
    ) -> None:
        if recipe.masking != cohort.masking:
            raise BadInput(
                f"the recipe must have the masking of its cohort, {cohort.masking!r}, but got "
                f"{recipe.masking!r}; give both the same"
            )
        if cohort.engine == "native" and recipe.precision != "float32":
            raise BadInput(
                f"a cohort must have the precision of its recipe, but got {recipe.precision!r} for one of "
                f"float32; give Cohort precision={recipe.precision!r}"
            )
        check_normalisation(cohort.wiring, recipe)
        if not is_integer(begin) or not 0 <= begin <= recipe.steps:
            raise BadInput(
                f"training must begin at a step from 0 to {recipe.steps} (the recipe's), but got {begin!r}"
            )
        self.cohort = cohort
        self.recipe = recipe
        self.done = self._begin = begin
        x, y = cohort.resident(dataset.x_train), dataset.y_train.to(cohort.device)
        self._parts = [
            part.training(
                recipe, x, y, np.stack(orders if len(orders) == 1 else [orders[index] for index in indices])
            )
            for indices, part in cohort.placed()
        ]

    def advance(
        self,
        until: int,
        *,
        after_step: Callable[[int], Any] | None = None,
        between: Callable[[], Any] | None = None,
    ) -> None:
        """Train to step ``until`` of the recipe; no step synchronises with the device.

        ``after_step(step)`` is called after each optimizer step of all networks; ``between()`` is called now
        and then, and ends the training by an exception.
        """
        most = 1 if after_step else min((part.at_once for part in self._parts), default=until)
        with with_tf32(self.recipe.precision):
            while self.done < until:
                end = min(self.done + most, until)
                for part in self._parts:
                    part.advance(self.done, end)
                self.done = end
                if after_step is not None:
                    after_step(end - 1)
                if between is not None:
                    between()

    def states(self) -> list[State]:
        """Return each network's state, from which :meth:`restore` goes on."""
        states: list[State] = [{}] * self.cohort.size
        for indices, part in zip(self.cohort.indices, self._parts, strict=True):
            for index, state in zip(indices, part.states(), strict=True):
                states[index] = state
        return states

    def restore(self, states: Sequence[State], done: int) -> None:
        """Go on from the states of networks with the same masks and recipe, after ``done`` steps."""
        for indices, part in zip(self.cohort.indices, self._parts, strict=True):
            part.restore([states[index] for index in indices])
        self.done = done

    def guidance(self, share: float, saliency: str = "magnitude") -> list[Guidance | None]:
        """Return the guidance of each network after its steps so far; None for one that diverged.

        ``share`` x kept weights are candidates for growth. Gradients are those of the loss on the first
        samples of the training (of the training part where there are no steps), at most ``BLOCK``.
        ``saliency`` is ``magnitude``, ``curvature`` or ``mixed``: see
        :func:`ticketsearch.training.saliency.guidance_of`.
        """
        guidance: list[Guidance | None] = [None] * self.cohort.size
        for indices, part in zip(self.cohort.indices, self._parts, strict=True):
            specs = self.cohort.specs(indices)
            scores = part.guidance(self._begin, share, saliency, specs)
            for index, network_guidance in zip(indices, scores, strict=True):
                guidance[index] = network_guidance
        return guidance


def train(
    cohort: Cohort,
    dataset: Dataset | TrainingPart,
    recipe: Recipe,
    orders: Sequence[NDArray[np.int64]],
    *,
    after_step: Callable[[int], Any] | None = None,
) -> None:
    """Train a cohort in place on the training part, for all steps: see :class:`Training`.

    On CUDA, convolutions give the same bits from run to run only within
    :func:`ticketsearch.training.reproducible`.
    """
    Training(cohort, dataset, recipe, orders).advance(recipe.steps, after_step=after_step)


@torch.no_grad()
def evaluate(cohort: Cohort, x: Tensor, y: Tensor, *, masked: bool | None = None) -> Evaluation:
    """Return each network's mean cross-entropy and accuracy on samples ``x`` with labels ``y``.

    The default is the forward pass of training; ``masked=True`` uses the trained weights through the mask,
    ``masked=False`` all trained weights, pruned ones included. Running statistics are always those of
    training.
    """
    x, y = cohort.resident(x), y.to(cohort.device)
    loss = torch.zeros(cohort.size, dtype=torch.float64, device=cohort.device)
    correct = torch.zeros(cohort.size, dtype=torch.int64, device=cohort.device)
    for indices, part in cohort.placed():
        place = torch.from_numpy(indices).to(cohort.device)
        blocks = [torch.split(whole, part.block) for whole in (x, y)]
        for samples, labels in zip(*blocks, strict=True):
            logits = part.forward(samples, masked=masked)
            losses = F.cross_entropy(logits, labels.expand(part.size, -1), reduction="none")
            loss[place] += losses.sum(1, dtype=torch.float64)
            correct[place] += (logits.argmax(1) == labels).sum(1)
    return Evaluation((loss / len(y)).cpu().numpy(), (correct.double() / len(y)).cpu().numpy())


def check_normalisation(wiring: Wiring, recipe: Recipe) -> None:
    """Raise :class:`BadInput` for batches of one sample where batch normalisation gets one value a unit."""
    single = any(step.operation == "normalize" and math.prod(step.shape[1:]) == 1 for step in wiring.steps)
    if single and recipe.batch == 1:
        raise BadInput("batch normalisation needs batch >= 2 in training, but got 1; take larger batches")
