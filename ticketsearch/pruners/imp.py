"""Iterative magnitude pruning: train, cut the smallest weights, rewind the others, train again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from ticketsearch.datasets import Dataset
from ticketsearch.datasets.dataset import is_integer
from ticketsearch.errors import BadInput, unknown
from ticketsearch.masks import Mask, MaskSpec
from ticketsearch.pruners.copies import Batch, Copies, Parts, batched
from ticketsearch.pruners.saliency import find_precision
from ticketsearch.training import (
    SALIENCIES,
    Cohort,
    Recipe,
    Training,
    data_order,
    find_device,
    reproducible,
)

__all__ = ["imp"]

# Of the child of a pruning's seed that orders the data; beyond the numbers that spawn() gives.
DATA_ORDER = 2**32 - 1


@batched
def imp(
    network: Copies,
    mask: Parts,
    batch: Batch | None,
    *,
    rng: Sequence[np.random.Generator],
    dataset: Dataset | None = None,
    training_steps: int = 1000,
    rewind: int = 0,
    training_batch: int = 128,
    optimizer: str = "sgd",
    lr: float = 0.05,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    saliency: str = "magnitude",
    precision: str = "float32",
    device: str = "auto",
) -> Parts:
    """Return the saliency of the trained weights: absolute values are iterative magnitude pruning.

    The network is trained as masked so far (Frankle & Carbin 2019): from its initialization, or from what it
    was after ``rewind`` steps of dense training (Frankle et al. 2020), with that step's running statistics
    and an optimizer begun anew. A round is a step of the pruning loop, which by default cuts a fifth of the
    weights, or a little less. All rounds of one pruning see the training part in one order, the dense steps
    its beginning. Those are trained again in each round, so that nothing is kept between rounds. What comes
    of it is the mask alone: a ticket holds the initialization, not the weights of step ``rewind``.

    Parameters
    ----------
    dataset : its training part is trained on; given by the pruning loop.
    training_steps : optimizer steps a round. With 0 (and no rewinding) this is magnitude pruning.
    rewind : optimizer steps of the dense training before them.
    training_batch : samples an optimizer step, or the whole training part where that is smaller.
    optimizer, lr, momentum, weight_decay : see :class:`ticketsearch.training.Recipe`.
    saliency : ``magnitude``, or ``curvature``: the loss that pruning a weight is expected to cost (LeCun,
        Denker & Solla 1990, "Optimal Brain Damage"), see :class:`ticketsearch.guidance.Guidance`.
    precision, device : see :func:`ticketsearch.pruners.saliency`.

    Raises :class:`BadInput` without data, or for a bad option.
    """
    if dataset is None:
        raise BadInput(
            "imp needs data to train on, but got dataset=None; give dataset=…, or take a pruner that needs "
            "none, such as synflow"
        )
    for name, steps in (("training_steps", training_steps), ("rewind", rewind)):
        if not is_integer(steps) or steps < 0:
            raise BadInput(f"{name} must be a whole number of optimizer steps >= 0, but got {steps!r}")
    if saliency not in SALIENCIES:
        raise unknown("saliency", saliency, SALIENCIES)
    size = min(training_batch, len(dataset.y_train))
    recipe = Recipe(rewind + training_steps, size, optimizer, lr, momentum, weight_decay)
    orders = _orders(len(dataset.y_train), recipe, rng)
    run = partial(_trained, network, dataset, recipe, find_device(device), find_precision(precision))
    initial = [{**one.parameters(), **one.buffers()} for one in network.networks]
    with reproducible():
        if rewind:
            dense = np.ones((len(network), network.spec.size), dtype=np.bool_)
            initial = _moved(run(dense, initial, [order[:rewind] for order in orders]).cohort, initial)
        masks = _flat(mask, network.spec)
        training = run(masks, initial, [order[rewind:] for order in orders])
        if saliency == "curvature":
            return _curvatures(training, masks, network.spec)
    final = training.cohort.parameters()
    return {name: final[name].abs().cpu() * kept for name, kept in mask.items()}


def _trained(
    network: Copies,
    dataset: Dataset,
    recipe: Recipe,
    device: torch.device,
    dtype: torch.dtype,
    masks: Mask,
    initial: list[Parts],
    orders: list[NDArray[np.int64]],
) -> Training:
    """Return the training of each copy on its data order, done."""
    cohort = Cohort(network.wiring, masks, initial, device=device, dtype=dtype)
    training = Training(cohort, dataset, replace(recipe, steps=len(orders[0])), orders)
    training.advance(training.recipe.steps)
    return training


def _moved(cohort: Cohort, initial: list[Parts]) -> list[Parts]:
    """Return the parameters and buffers of each copy as training has left them."""
    moved = {**cohort.parameters(), **cohort.buffers()}
    return [
        {**tensors, **{name: stacked[i] for name, stacked in moved.items()}}
        for i, tensors in enumerate(initial)
    ]


def _curvatures(training: Training, masks: Mask, spec: MaskSpec) -> Parts:
    """Return saliencies by curvature, those of networks that diverged being NaN."""
    scores = np.zeros(masks.shape, dtype=np.float32)
    for own, kept, guidance in zip(scores, masks, training.guidance(0.0, "curvature"), strict=True):
        own[kept] = np.nan if guidance is None else guidance.saliency
    return {
        layer.name: torch.from_numpy(scores[:, layer.slice].copy()).view(-1, *layer.shape)
        for layer in spec.layers
    }


def _orders(samples: int, recipe: Recipe, rngs: Sequence[np.random.Generator]) -> list[NDArray[np.int64]]:
    """Return a data order a copy, the same however often its generator has been drawn from."""
    orders = []
    for rng in rngs:
        seed = rng.bit_generator.seed_seq
        if not isinstance(seed, np.random.SeedSequence):
            raise BadInput("imp needs an rng with a seed; make it by numpy.random.default_rng(seed)")
        own = np.random.SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, DATA_ORDER))
        orders.append(data_order(samples, recipe, own))
    return orders


def _flat(mask: Parts, spec: MaskSpec) -> Mask:
    """Return the ``(copies, weights)`` masks of parts ``(copies, *layer shape)``."""
    return torch.cat([mask[layer.name].flatten(1) for layer in spec.layers], dim=1).numpy()
