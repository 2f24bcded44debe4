"""Training of networks by torch's operators and optimizers, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ticketsearch.masks import Guidance, MaskSpec
from ticketsearch.training.checkpoints import load_states, states_of
from ticketsearch.training.cuda_graphs import RecordedSteps
from ticketsearch.training.device import in_precision
from ticketsearch.training.dropout import Noise
from ticketsearch.training.flops import BLOCK
from ticketsearch.training.parts import AutogradPart, State, loss_gradient
from ticketsearch.training.recipe import OPTIMIZERS, Recipe
from ticketsearch.training.saliency import guidance_of

__all__ = ["AutogradTraining"]


class AutogradTraining:
    """The training of one part of a cohort by torch.

    Parameters
    ----------
    part : is trained in place.
    recipe : of the training.
    x, y : resident samples and labels of the training part.
    order : ``(1 or P, steps, batch)`` sample indices, over all steps of the recipe.
    """

    def __init__(
        self, part: AutogradPart, recipe: Recipe, x: Tensor, y: Tensor, order: NDArray[np.int64]
    ) -> None:
        self.part, self.recipe, self.order = part, recipe, order
        self._x, self._targets = x, F.one_hot(y, part.classes).to(part.dtype)
        self._optimizer = OPTIMIZERS[recipe.optimizer](part.trainable, recipe)
        self._steps = RecordedSteps(part.device, order, recordable=not part.wiring.drops)

    @property
    def at_once(self) -> int:
        """Steps of one call."""
        return 1

    def advance(self, begin: int, until: int) -> None:
        """Train from step ``begin`` to step ``until`` of the recipe."""
        for step in range(begin, until):
            if self.recipe.lr_schedule != "constant":
                _set_rate(self._optimizer, self.recipe.rate(step))
            self._steps.run(partial(self._step, step), step)

    def _step(self, step: int, chosen: Tensor) -> None:
        part = self.part
        with in_precision(self.recipe.precision, part.device):
            logits = part.forward(_taken(self._x, chosen), Noise(self.order[:, step], step))
        part.backward(logits, loss_gradient(logits.detach(), _taken(self._targets, chosen)))
        self._optimizer.step()

    def states(self) -> list[State]:
        """Return each network's state, from which :meth:`restore` goes on."""
        return states_of(self.part, self._optimizer)

    def restore(self, states: Sequence[State]) -> None:
        """Go on from the states of networks with the same masks and recipe."""
        load_states(self.part, self._optimizer, states)

    def guidance(
        self, begin: int, share: float, saliency: str, specs: Sequence[MaskSpec] | None
    ) -> list[Guidance | None]:
        """Return the guidance of each network: see :meth:`ticketsearch.training.Training.guidance`."""
        part, order = self.part, self.order
        first = order[:, begin:].reshape(len(order), -1)[:, : min(BLOCK, len(self._x))]
        if not first.size:
            first = np.arange(min(BLOCK, len(self._x)))[None]
        chosen = torch.from_numpy(first[0] if len(first) == 1 else first).to(part.device)
        targets = _taken(self._targets, chosen)
        slopes = part.slopes(
            _taken(self._x, chosen), partial(_gradient_of, targets), curved=saliency != "magnitude"
        )
        trained = part.parameters()
        return guidance_of(part.compactions, part.whole_mask, trained, slopes, specs, share, saliency)


def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def _taken(rows: Tensor, indices: Tensor) -> Tensor:
    """Return ``rows[indices]``, several times as fast on a CPU."""
    return rows.index_select(0, indices.flatten()).view(*indices.shape, *rows.shape[1:])


def _gradient_of(targets: Tensor, logits: Tensor, samples: slice) -> Tensor:
    return loss_gradient(logits, targets[..., samples, :])
