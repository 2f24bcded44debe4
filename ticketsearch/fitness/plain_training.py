"""Training of one ticket by a plain loop of torch, as one would write it for a single network."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor, nn

from ticketsearch.checks import check, checked
from ticketsearch.datasets import Dataset
from ticketsearch.errors import BadInput
from ticketsearch.masks import check_mask
from ticketsearch.models import Network
from ticketsearch.plugins import check_options
from ticketsearch.random_streams import Stream, seed_sequence
from ticketsearch.training import (
    MASKINGS,
    OPTIMIZERS,
    Masking,
    Recipe,
    check_batch,
    check_normalisation,
    data_order,
    find_device,
    reproducible,
)

__all__ = ["train"]


@checked
def train(
    network: Network,
    mask: ArrayLike,
    dataset: Dataset,
    *,
    seed: int | np.random.SeedSequence = 0,
    recipe: Recipe | None = None,
    device: str = "auto",
    progress: Callable[[int, int], Any] | None = None,
    **settings: Any,
) -> nn.Module:
    """Train one ticket in plain PyTorch, and return its module in evaluation mode.

    The engine that searches train by gives the same weights to 1e-6 (float32). This loop reads as one would
    write it for one network; it forms no cohort and leaves no unit out.

    Parameters
    ----------
    network : its parameters are the initial weights; it is not changed.
    mask : ``(weights,)`` bool.
    dataset : its training part is learned.
    seed : draws the data order, one random permutation of the training part after another, and the noise of
        dropout, which is torch's own here.
    recipe : of the training, by default ``Recipe()``: see :class:`ticketsearch.Recipe`.
    device : ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    progress : is called with (steps done, all steps) after each step.
    settings : fields of the recipe in place of its own, such as ``steps=1000, lr=0.1``.

    Pruned weights of the module are zero, except under masking ``gradient``, whose forward pass uses them.

    Raises :class:`BadInput` for a mask of another network, data of another shape, unknown or wrong settings,
    and a precision other than float32.
    """
    check("network", network, Network)
    check("dataset", dataset, Dataset)
    check_options(Recipe, settings, "function", "train")
    recipe = replace(recipe or Recipe(), **settings)
    dataset.check_fits(network)
    check_batch(len(dataset.y_train), recipe)
    check_normalisation(network.wiring, recipe)
    if recipe.precision != "float32":
        raise BadInput(
            f"ts.train computes in precision 'float32', but got {recipe.precision!r}; leave it out"
        )
    place = find_device(device)
    masks = {
        name: torch.from_numpy(kept.copy()).to(place)
        for name, kept in network.spec.split(check_mask(mask, network.spec)).items()
    }
    order_seed = seed if isinstance(seed, np.random.SeedSequence) else seed_sequence(seed, Stream.ROUND, 0)
    order = torch.from_numpy(data_order(len(dataset.y_train), recipe, order_seed)).to(place)
    module = copy.deepcopy(network.module).to(place)
    x, y = dataset.x_train.to(place), dataset.y_train.to(place)
    noise = torch.random.fork_rng(devices=[place] if place.type == "cuda" else [])
    with reproducible(), noise:
        torch.manual_seed(int(order_seed.generate_state(1, np.uint64)[0] >> np.uint64(1)))
        _descend(module.train(), masks, recipe, x, y, order, progress)
    return module.eval()


def _descend(
    module: nn.Module,
    masks: dict[str, Tensor],
    recipe: Recipe,
    x: Tensor,
    y: Tensor,
    order: Tensor,
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
    for step, batch in enumerate(order):
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate(step)
        forward = {
            name: masking.forward(weight, masks[name], start[name]) for name, weight in weights.items()
        }
        logits = torch.func.functional_call(module, forward, (x[batch],))
        optimizer.zero_grad()
        loss = F.cross_entropy(logits, y[batch])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if progress is not None:
            progress(step + 1, len(order))
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(masking.forward(weight, masks[name], start[name]))
