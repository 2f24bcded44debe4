"""The loop that trains a cohort, and the evaluation of a cohort."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
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
from ticketsearch.training.checkpoints import State, load_states, states_of
from ticketsearch.training.cohort import Cohort, Part
from ticketsearch.training.cuda_graphs import RecordedSteps
from ticketsearch.training.device import in_precision, with_tf32
from ticketsearch.training.dropout import Noise
from ticketsearch.training.flops import BLOCK
from ticketsearch.training.recipe import OPTIMIZERS, Recipe
from ticketsearch.training.saliency import guidance_of
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
        check_normalisation(cohort.wiring, recipe)
        if not is_integer(begin) or not 0 <= begin <= recipe.steps:
            raise BadInput(
                f"training must begin at a step from 0 to {recipe.steps} (the recipe's), but got {begin!r}"
            )
        self.cohort = cohort
        self.recipe = recipe
        self.done = self._begin = begin
        self._x, y = cohort.resident(dataset.x_train), dataset.y_train.to(cohort.device)
        self._targets = F.one_hot(y, cohort.classes).to(cohort.dtype)
        self._work = []
        for indices, part in cohort.placed():
            order = np.stack(orders if len(orders) == 1 else [orders[index] for index in indices])
            optimizer = OPTIMIZERS[recipe.optimizer](part.trainable, recipe)
            steps = RecordedSteps(cohort.device, order, recordable=not cohort.wiring.drops)
            self._work.append((part, optimizer, order, steps))

    def advance(self, until: int, *, after_step: Callable[[int], Any] | None = None) -> None:
        """Train to step ``until`` of the recipe; no step synchronises with the device.

        ``after_step(step)`` is called after each optimizer step of all networks.
        """
        with with_tf32(self.recipe.precision):
            for step in range(self.done, until):
                for part, optimizer, order, steps in self._work:
                    if self.recipe.lr_schedule != "constant":
                        _set_rate(optimizer, self.recipe.rate(step))
                    steps.run(self._step(part, optimizer, order, step), step)
                self.done = step + 1
                if after_step is not None:
                    after_step(step)

    def states(self) -> list[State]:
        """Return each network's state, from which :meth:`restore` goes on."""
        states: list[State] = [{}] * self.cohort.size
        for (indices, part), (_, optimizer, *_) in zip(self.cohort.placed(), self._work, strict=True):
            for index, state in zip(indices, states_of(part, optimizer), strict=True):
                states[index] = state
        return states

    def restore(self, states: Sequence[State], done: int) -> None:
        """Go on from the states of networks with the same masks and recipe, after ``done`` steps."""
        for (indices, part), (_, optimizer, *_) in zip(self.cohort.placed(), self._work, strict=True):
            load_states(part, optimizer, [states[index] for index in indices])
        self.done = done

    def guidance(self, share: float, saliency: str = "magnitude") -> list[Guidance | None]:
        """Return the guidance of each network after its steps so far; None for one that diverged.

        ``share`` x kept weights are candidates for growth. Gradients are those of the loss on the first
        samples of the training (of the training part where there are no steps), at most ``BLOCK``.
        ``saliency`` is ``magnitude``, ``curvature`` or ``mixed``: see
        :func:`ticketsearch.training.saliency.guidance_of`.
        """
        guidance: list[Guidance | None] = [None] * self.cohort.size
        for (indices, part), (_, _, order, _) in zip(self.cohort.placed(), self._work, strict=True):
            first = order[:, self._begin :].reshape(len(order), -1)[:, : min(BLOCK, len(self._x))]
            if not first.size:
                first = np.arange(min(BLOCK, len(self._x)))[None]
            chosen = torch.from_numpy(first[0] if len(first) == 1 else first).to(self.cohort.device)
            targets = _taken(self._targets, chosen)
            slopes = part.slopes(
                _taken(self._x, chosen),
                partial(_gradient_of, targets),
                curved=saliency != "magnitude",
            )
            specs = self.cohort.specs(indices)
            trained = part.parameters()
            scores = guidance_of(part.compactions, part.whole_mask, trained, slopes, specs, share, saliency)
            for index, network_guidance in zip(indices, scores, strict=True):
                guidance[index] = network_guidance
        return guidance

    def _step(
        self, part: Part, optimizer: torch.optim.Optimizer, order: NDArray[np.int64], step: int
    ) -> Callable[[Tensor], None]:
        """Return one optimizer step of a part as a function of its sample indices."""

        def run(chosen: Tensor) -> None:
            with in_precision(self.recipe.precision, self.cohort.device):
                logits = part.forward(_taken(self._x, chosen), Noise(order[:, step], step))
            part.backward(logits, _gradient(logits.detach(), _taken(self._targets, chosen)))
            optimizer.step()

        return run


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


def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def _taken(rows: Tensor, indices: Tensor) -> Tensor:
    """Return ``rows[indices]``, several times as fast on a CPU."""
    return rows.index_select(0, indices.flatten()).view(*indices.shape, *rows.shape[1:])


def _gradient(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the gradient of each network's mean cross-entropy by its logits ``(P, classes, samples)``.

    ``targets`` hold 1 at each sample's class, ``(samples, classes)`` for all or ``(P, samples, classes)``.
    """
    gradient = F.softmax(logits.to(targets.dtype), dim=1)
    gradient -= targets.transpose(-1, -2)
    return gradient.div_(logits.shape[2]).to(logits.dtype)


def _gradient_of(targets: Tensor, logits: Tensor, samples: slice) -> Tensor:
    return _gradient(logits, targets[..., samples, :])


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
