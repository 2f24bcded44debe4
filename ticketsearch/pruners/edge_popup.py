"""Edge-popup: scores that learn which weights to keep while the weights themselves stay as initialized."""

from __future__ import annotations

import copy
import math
from typing import Any

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
    """The mask of the largest scores; backward the gradient passes as if mask and scores were one."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, count: int) -> Tensor:
        """Return a mask ``(weights,)`` of 0 and 1 with ``count`` ones."""
        return torch.zeros_like(scores).scatter_(0, scores.topk(count).indices, 1.0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Return the gradient as it is."""
        return gradients[0], None


@one_cut
def edge_popup(
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
    """Return scores that were trained so that the network of the ``target`` largest is right untrained.

    Ramanujan et al. 2020 ("What's Hidden in a Randomly Weighted Neural Network?"), with three changes: the
    largest scores of all layers together are kept, Adam moves the scores with a rate that falls to 0, and the
    loss is that of logits brought to a deviation of 2, as untrained networks have logits of any size.

    Parameters
    ----------
    target, dataset : given by the pruning loop; the scores learn the training part.
    training_steps : optimizer steps of the scores.
    training_batch : samples a step, drawn with replacement.
    lr : rate of the first step.
    device : ``auto`` (CUDA where there is one), ``cpu``, ``cuda`` or ``cuda:N``.

    Raises :class:`BadInput` without data, or for a number of steps or samples that is none.
    """
    if dataset is None:
        raise BadInput("edge_popup needs data that its scores learn, but got dataset=None; give dataset=…")
    for name, value in (("training_steps", training_steps), ("training_batch", training_batch)):
        check(name, value, Count)
        if value < 1:
            raise BadInput(f"{name} must be an integer >= 1, but got {value!r}")
    if not is_number(lr) or not 0 < lr < math.inf:
        raise BadInput(f"lr must be > 0 and finite, but got {shown(lr)}")
    place = find_device(device)
    module = copy.deepcopy(network.module).to(place).eval()
    tensors = {name: tensor.to(place) for name, tensor in network.parameters().items()}
    x, y = dataset.x_train.to(place), dataset.y_train.to(place)
    generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
    spec = network.spec
    kept = torch.cat([mask[layer.name].flatten() for layer in spec.layers]).to(place) != 0
    drawn = torch.rand(spec.size, generator=generator).to(place)
    scores = drawn.masked_fill(~kept, -1e9).requires_grad_()  # what an earlier cut pruned stays pruned
    optimizer = torch.optim.Adam([scores], lr=lr)
    with one_thread():
        for step in range(training_steps):
            chosen = torch.randint(len(y), (training_batch,), generator=generator).to(place)
            top = _Top.apply(scores, target)  # type: ignore[no-untyped-call]
            weights = {
                layer.name: tensors[layer.name] * top[layer.slice].view(layer.shape) for layer in spec.layers
            }
            logits = torch.func.functional_call(module, {**tensors, **weights}, (x[chosen],))
            scale = logits.detach().std().clamp_min(1e-6) / 2
            loss = F.cross_entropy(logits / scale, y[chosen])
            (scores.grad,) = torch.autograd.grad(loss, [scores])
            optimizer.param_groups[0]["lr"] = lr * (1 - step / training_steps)
            optimizer.step()
    final = scores.detach().double()
    final = ((final - final[kept].min() + 1) * kept).cpu()  # positive: what is pruned has scores of 0
    return {layer.name: final[layer.slice].view(layer.shape) for layer in spec.layers}
