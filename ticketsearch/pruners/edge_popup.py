"""Edge-popup: scores that learn which weights to keep while the weights themselves stay as initialized."""

from __future__ import annotations

import copy
import math
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ticketsearch.checks import Count, check, is_number
from ticketsearch.datasets import Dataset
from ticketsearch.errors import BadInput, shown
from ticketsearch.models import Network
from ticketsearch.pruners.batching import Batch, Parts, one_cut
from ticketsearch.training import find_device, one_thread

__all__ = ["edge_popup"]


class _Top(torch.autograd.Function):
    """The mask of the largest scores; its gradient passes to the scores unchanged (straight-through)."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, count: int) -> Tensor:
        """Return a mask ``(weights,)`` of 0 and 1 with ``count`` ones."""
        return torch.zeros_like(scores).scatter_(0, scores.topk(count).indices, 1.0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Return the gradient unchanged."""
        return gradients[0], None


@one_cut
def edge_popup(  # noqa: PLR0913 - a score function with its options
    network: Network,
    mask: Parts,
    batch: Batch | None,
    *,
    rng: np.random.Generator,
    target: int,
    dataset: Dataset | None = None,
    training_steps: int = 500,
    training_batch: int = 256,
    lr: float = 0.02,
    device: str = "auto",
) -> Parts:
    """Return trained scores: the weights of the ``target`` largest, untrained, form an accurate network.

    Ramanujan et al. 2020 ("What's Hidden in a Randomly Weighted Neural Network?"), with three changes: the
    largest scores of all layers together are kept, Adam trains the scores with a rate that falls to 0, and
    logits are scaled to a standard deviation of 2 before the loss, as untrained networks have logits of any
    size.

    Parameters
    ----------
    target, dataset : given by the pruning loop; the scores are trained on the training part.
    training_steps : optimizer steps of the scores.
    training_batch : samples a step, drawn with replacement.
    lr : rate of the first step.
    device : ``auto`` (CUDA where there is one), ``cpu``, ``cuda`` or ``cuda:N``.

    Raises :class:`BadInput` without data, or for an invalid number of steps or samples.
    """
    if dataset is None:
        raise BadInput("edge_popup needs data that its scores learn, but got dataset=None; give dataset=…")
    for name, value in (("training_steps", training_steps), ("training_batch", training_batch)):
        check(name, value, Count)
        if value < 1:
            raise BadInput(f"{name} must be an integer >= 1, but got {value!r}")
    if not is_number(lr) or not 0 < lr < math.inf:
        raise BadInput(f"lr must be > 0 and finite, but got {shown(lr)}")
    training = _Training(training_steps, training_batch, lr, find_device(device))
    scores, kept = _trained_scores(network, mask, dataset, target, rng, training)
    shifted = ((scores - scores[kept].min() + 1) * kept).cpu()  # positive; pruned weights have scores of 0
    return {layer.name: shifted[layer.slice].view(layer.shape) for layer in network.spec.layers}


class _Training(NamedTuple):
    """The training of the scores: optimizer steps, samples a step, the first rate, and the device."""

    steps: int
    batch: int
    lr: float
    device: torch.device


def _trained_scores(
    network: Network,
    mask: Parts,
    dataset: Dataset,
    target: int,
    rng: np.random.Generator,
    training: _Training,
) -> tuple[Tensor, Tensor]:
    """Return the trained scores and the weights kept so far, ``(weights,)`` float64 and bool."""
    device, spec = training.device, network.spec
    module = copy.deepcopy(network.module).to(device).eval()
    tensors = {name: tensor.to(device) for name, tensor in network.parameters().items()}
    x, y = dataset.x_train.to(device), dataset.y_train.to(device)
    generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
    kept = torch.cat([mask[layer.name].flatten() for layer in spec.layers]).to(device) != 0
    drawn = torch.rand(spec.size, generator=generator).to(device)
    scores = drawn.masked_fill(~kept, -1e9).requires_grad_()  # weights that an earlier cut pruned stay pruned
    optimizer = torch.optim.Adam([scores], lr=training.lr)
    with one_thread():
        for step in range(training.steps):
            chosen = torch.randint(len(y), (training.batch,), generator=generator).to(device)
            top = _Top.apply(scores, target)  # type: ignore[no-untyped-call]
            weights = {
                layer.name: tensors[layer.name] * top[layer.slice].view(layer.shape) for layer in spec.layers
            }
            logits = torch.func.functional_call(module, {**tensors, **weights}, (x[chosen],))
            scale = logits.detach().std().clamp_min(1e-6) / 2
            loss = F.cross_entropy(logits / scale, y[chosen])
            (scores.grad,) = torch.autograd.grad(loss, [scores])
            optimizer.param_groups[0]["lr"] = training.lr * (1 - step / training.steps)
            optimizer.step()
    return scores.detach().double(), kept
