"""Training of one ticket by a plain loop of torch, as one would write it for a single network."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from ticketsearch.checks import check, checked, real_array
from ticketsearch.datasets import Dataset
from ticketsearch.errors import BadInput, unknown
from ticketsearch.fitness.options import DTYPES
from ticketsearch.masks import check_mask
from ticketsearch.models import Network
from ticketsearch.plugins import check_options
from ticketsearch.random_streams import Stream, seed_sequence
from ticketsearch.training import (
    MASKINGS,
    OPTIMIZERS,
    Masking,
    Noise,
    Recipe,
    check_batch,
    check_noise,
    check_normalisation,
    data_order,
    find_device,
    reproducible,
)

__all__ = ["train"]


@checked
def train(  # noqa: PLR0913 - the documented interface to a single training
    network: Network,
    mask: ArrayLike,
    dataset: Dataset,
    *,
    seed: int = 0,
    order: np.random.SeedSequence | ArrayLike | None = None,
    recipe: Recipe | None = None,
    device: str = "auto",
    dtype: str = "float32",
    progress: Callable[[int, int], Any] | None = None,
    **settings: Any,
) -> nn.Module:
    """Train one ticket in plain PyTorch, and return its module in evaluation mode.

    The engine that searches train by gives the same weights up to rounding: its sums have another order.
    This loop reads as one would write it for one network; it forms no cohort and leaves no unit out.

    Parameters
    ----------
    network : its parameters are the initial weights; it is not changed.
    mask : ``(weights,)`` bool.
    dataset : its training part is learned.
    seed : draws the data order, one random permutation of the training part after another. The noise of
        dropout follows from the samples of each step.
    order : in place of a seed, ``(steps, batch)`` indices of training samples, or a seed sequence.
    recipe : of the training, by default ``Recipe()``: see :class:`ticketsearch.Recipe`.
    device : ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    dtype : ``float32`` or ``float64``, of the training and of the module.
    progress : is called with (steps done, all steps) after each step.
    settings : fields of the recipe in place of its own, such as ``steps=1000, lr=0.1``.

    Pruned weights of the module are zero, except under masking ``gradient``, whose forward pass uses them.

    Raises :class:`BadInput` for a mask of another network, data or an order of another shape, unknown or
    wrong settings, a precision other than float32, and dropout where groups are declared by hand.
    """
    check("network", network, Network)
    check("dataset", dataset, Dataset)
    check_options(Recipe, settings, "function", "train")
    recipe = replace(recipe or Recipe(), **settings)
    _check_fits(network, dataset, recipe, dtype)
    place, kind = find_device(device), getattr(torch, dtype)
    masks = {
        name: torch.from_numpy(kept.copy()).to(place)
        for name, kept in network.spec.split(check_mask(mask, network.spec)).items()
    }
    batches = _batches(len(dataset.y_train), recipe, seed, order)
    module = copy.deepcopy(network.module).to(place, kind).train()
    x, y = dataset.x_train.to(place, kind), dataset.y_train.to(place)
    with reproducible():
        _descend(network, module, masks, recipe, x, y, batches, progress)
    return module.eval()


def _check_fits(network: Network, dataset: Dataset, recipe: Recipe, dtype: str) -> None:
    """Raise :class:`BadInput` for data, a recipe or a type that the network cannot be trained with."""
    dataset.check_fits(network)
    check_batch(len(dataset.y_train), recipe)
    check_normalisation(network.wiring, recipe)
    check_noise(network.wiring)
    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    if recipe.precision != "float32":
        raise BadInput(
            f"ts.train computes in precision 'float32', but got {recipe.precision!r}; leave it out"
        )


def _batches(
    samples: int, recipe: Recipe, seed: int, order: np.random.SeedSequence | ArrayLike | None
) -> NDArray[np.int64]:
    """Return the indices of each step's samples, ``(steps, batch)``."""
    if order is None or isinstance(order, np.random.SeedSequence):
        return data_order(samples, recipe, seed_sequence(seed, Stream.ROUND, 0) if order is None else order)
    indices = real_array("order", order)
    if indices.dtype.kind not in "iu" or indices.shape != (recipe.steps, recipe.batch):
        raise BadInput(
            f"order must be integers of shape (steps, batch), here {(recipe.steps, recipe.batch)}, but got "
            f"{indices.dtype} of shape {indices.shape}"
        )
    if indices.size and not 0 <= indices.min() <= indices.max() < samples:
        raise BadInput(
            f"order must hold indices of the {samples} training samples, from 0, but got {indices.min()} to "
            f"{indices.max()}"
        )
    return indices.astype(np.int64)


def _descend(
    network: Network,
    module: nn.Module,
    masks: Mapping[str, Tensor],
    recipe: Recipe,
    x: Tensor,
    y: Tensor,
    batches: NDArray[np.int64],
    progress: Callable[[int, int], Any] | None,
) -> None:
    """Train a module in place; at the end its weights are those of the forward pass of training."""
    masking: Masking = MASKINGS[recipe.masking]
    weights = {name: module.get_parameter(name) for name in masks}
    start = {name: weight.detach().clone() for name, weight in weights.items()}
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(masking.begin(weight, masks[name], start[name]))
    trainable: list[Tensor] = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer = OPTIMIZERS[recipe.optimizer](trainable, recipe)
    for step, batch in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate(step)
        forward = {
            name: masking.forward(weight, masks[name], start[name]) for name, weight in weights.items()
        }
        chosen = torch.from_numpy(batch).to(x.device)
        logits = _logits(network, module, forward, x[chosen], Noise(batch[None], step))
        optimizer.zero_grad()
        loss = F.cross_entropy(logits, y[chosen])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if progress is not None:
            progress(step + 1, len(batches))
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(masking.forward(weight, masks[name], start[name]))


def _logits(
    network: Network, module: nn.Module, weights: Mapping[str, Tensor], x: Tensor, noise: Noise
) -> Tensor:
    """Return the logits of the network's module in training, with these weights in place of its own."""
    if network.wiring.drops:  # torch's own dropout would draw other noise than the engine
        tensors = {**dict(module.named_parameters()), **dict(module.named_buffers()), **weights}
        return noise.forward(network.wiring, tensors, x)
    logits: Tensor = torch.func.functional_call(module, dict(weights), (x,))
    return logits
