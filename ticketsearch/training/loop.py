"""The loop: trains a cohort, and evaluates it."""

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
from ticketsearch.training.cuda_graphs import Replayed
from ticketsearch.training.dropout import Noise
from ticketsearch.training.layout import BLOCK
from ticketsearch.training.recipe import OPTIMIZERS, Recipe, in_precision, with_tf32
from ticketsearch.training.saliency import revealed
from ticketsearch.wiring import Wiring

__all__ = ["Evaluation", "Training", "TrainingPart", "check_normalisation", "evaluate", "train"]


class Evaluation(NamedTuple):
    """Mean cross-entropy (nats) and accuracy in [0, 1] of each network of a cohort, both ``(P,)`` float64."""

    loss: NDArray[np.float64]
    accuracy: NDArray[np.float64]


class TrainingPart(NamedTuple):
    """The training part of a dataset alone, e.g. where it has been brought to a device once for many."""

    x_train: Tensor
    y_train: Tensor


class Training:
    """The training of a cohort, which can stop at any step, be looked at, and go on.

    Parameters
    ----------
    cohort : is trained in place.
    dataset : its training part is learned.
    recipe : as the cohort's masking.
    orders : one data order ``(steps, batch)`` of sample numbers for all networks, or one for each; what
        dropout draws follows from them.
    begin : the step of the recipe at which the cohort is as it is; the orders are those of all steps.

    Raises :class:`BadInput` for a recipe of another masking than the cohort's, batches of one sample
    where batch normalisation needs two, or a step to begin at that the recipe does not have.
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
                f"a cohort is trained by the masking it was made for, {cohort.masking!r}, but the recipe "
                f"says {recipe.masking!r}; give both the same"
            )
        check_normalisation(cohort.wiring, recipe)
        if not is_integer(begin) or not 0 <= begin <= recipe.steps:
            raise BadInput(
                f"training begins at a step from 0 to those of its recipe, {recipe.steps}, but got {begin!r}"
            )
        self.cohort = cohort
        self.recipe = recipe
        self.done = self._begin = begin
        self._x, y = cohort.resident(dataset.x_train), dataset.y_train.to(cohort.device)
        self._targets = F.one_hot(y, cohort.classes).to(cohort.dtype)
        self._work = []
        draws = any(step.operation == "dropout" for step in cohort.wiring.steps)
        for numbers, part in cohort.placed():
            order = np.stack(orders if len(orders) == 1 else [orders[number] for number in numbers])
            optimizer = OPTIMIZERS[recipe.optimizer](part.trainable, recipe)
            replayed = Replayed(cohort.device, order, recordable=not draws)
            self._work.append((part, optimizer, order, replayed))

    def advance(self, until: int, *, after_step: Callable[[int], Any] | None = None) -> None:
        """Train to step ``until`` (of the recipe's); nothing in between synchronises with the device.

        ``after_step(step)`` is called after each optimizer step of all networks.
        """
        with with_tf32(self.recipe.precision):
            for step in range(self.done, until):
                for part, optimizer, order, replayed in self._work:
                    if self.recipe.lr_schedule != "constant":
                        _set_rate(optimizer, self.recipe.rate(step))
                    replayed.step(self._stepped(part, optimizer, order, step), step)
                self.done = step + 1
                if after_step is not None:
                    after_step(step)

    def states(self) -> list[State]:
        """Return for each network what training goes on from; see :meth:`restore`."""
        found: list[State] = [{}] * self.cohort.size
        for (numbers, part), (_, optimizer, *_) in zip(self.cohort.placed(), self._work, strict=True):
            for number, state in zip(numbers, states_of(part, optimizer), strict=True):
                found[number] = state
        return found

    def restore(self, states: Sequence[State], done: int) -> None:
        """Go on from the states of networks with the same masks and recipe, after ``done`` steps."""
        for (numbers, part), (_, optimizer, *_) in zip(self.cohort.placed(), self._work, strict=True):
            load_states(part, optimizer, [states[number] for number in numbers])
        self.done = done

    def guidance(self, share: float, saliency: str = "magnitude") -> list[Guidance | None]:
        """Return what training has revealed of each network so far; None where it diverged.

        ``share`` x kept weights are candidates for growth. Gradients are those of the loss on the first
        samples that training met (of the training part where there are no steps), at most ``BLOCK``. For
        ``saliency``, ``magnitude``, ``curvature`` or ``mixed``, see
        :func:`ticketsearch.training.saliency.revealed`.
        """
        found: list[Guidance | None] = [None] * self.cohort.size
        for (numbers, part), (_, _, order, _) in zip(self.cohort.placed(), self._work, strict=True):
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
            specs = self.cohort.specs(numbers)
            trained = part.parameters()
            own = revealed(part.compactions, part.whole_mask, trained, slopes, specs, share, saliency)
            for number, guidance in zip(numbers, own, strict=True):
                found[number] = guidance
        return found

    def _stepped(
        self, part: Part, optimizer: torch.optim.Optimizer, order: NDArray[np.int64], step: int
    ) -> Callable[[Tensor], None]:
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
    """Train a cohort in place on the training part: all steps of :class:`Training`, which explains the rest.

    On CUDA, convolutions give the same from run to run only within
    :func:`ticketsearch.training.reproducible`.
    """
    Training(cohort, dataset, recipe, orders).advance(recipe.steps, after_step=after_step)


def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def _taken(rows: Tensor, numbers: Tensor) -> Tensor:
    """Return ``rows[numbers]``, which on a CPU takes several times as long."""
    return rows.index_select(0, numbers.flatten()).view(*numbers.shape, *rows.shape[1:])


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

    By default of the forward pass that training used; with ``masked=True`` of the trained weights through the
    mask, with ``masked=False`` of all trained weights, those that the mask does not keep too. Running
    statistics are those of training in any case.
    """
    x, y = cohort.resident(x), y.to(cohort.device)
    loss = torch.zeros(cohort.size, dtype=torch.float64, device=cohort.device)
    correct = torch.zeros(cohort.size, dtype=torch.int64, device=cohort.device)
    for numbers, part in cohort.placed():
        place = torch.from_numpy(numbers).to(cohort.device)
        blocks = [torch.split(whole, part.block) for whole in (x, y)]
        for samples, labels in zip(*blocks, strict=True):
            logits = part.forward(samples, masked=masked)
            each = F.cross_entropy(logits, labels.expand(part.size, -1), reduction="none")
            loss[place] += each.sum(1, dtype=torch.float64)
            correct[place] += (logits.argmax(1) == labels).sum(1)
    return Evaluation((loss / len(y)).cpu().numpy(), (correct.double() / len(y)).cpu().numpy())


def check_normalisation(wiring: Wiring, recipe: Recipe) -> None:
    """Raise :class:`BadInput` for batches of one sample where a batch normalisation sees one value a unit."""
    single = any(step.operation == "normalize" and math.prod(step.shape[1:]) == 1 for step in wiring.steps)
    if single and recipe.batch == 1:
        raise BadInput("batch normalisation needs batch >= 2 in training, but got 1; take larger batches")
