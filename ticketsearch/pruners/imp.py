"""Iterative pruning with rewinding: train, cut the least salient weights, rewind the others, train again."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from ticketsearch.checks import is_integer
from ticketsearch.datasets import Dataset
from ticketsearch.errors import BadInput
from ticketsearch.masks import Mask, MaskSpec
from ticketsearch.pruners.batching import Batch, Copies, Parts, batched
from ticketsearch.pruners.saliency import find_precision
from ticketsearch.training import (
    Cohort,
    Recipe,
    Training,
    check_independence,
    data_order,
    find_device,
    reproducible,
)
from ticketsearch.typing import Integers

__all__ = ["averaged_imp", "imp", "obd"]

# Children of a pruning's seed that order the data; beyond the numbers that spawn() gives.
DATA_ORDER, AVERAGED = 2**32 - 1, 2**32 - 2


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
    lr_schedule: str = "constant",
    precision: str = "float32",
    device: str = "auto",
) -> Parts:
    """Return the absolute values of the trained weights, the scores of iterative magnitude pruning.

    The network is trained as masked so far (Frankle & Carbin 2019): from its initialization, or from what it
    was after ``rewind`` steps of dense training (Frankle et al. 2020), with that step's running statistics
    and learning rate, and an optimizer begun anew. A round is a step of the pruning loop, which by default
    cuts a fifth of the weights, or a little less. All rounds of one pruning see the training part in one
    order, the dense steps its beginning. Those are trained again in each round, so that nothing is kept
    between rounds. What comes of it is the mask alone: a ticket holds the initialization, not the weights of
    step ``rewind``.

    Parameters
    ----------
    dataset : its training part is trained on; given by the pruning loop.
    training_steps : optimizer steps a round. With 0 (and no rewinding) this is magnitude pruning.
    rewind : optimizer steps of the dense training before them.
    training_batch : samples an optimizer step, or the whole training part where that is smaller.
    optimizer, lr, momentum, weight_decay, lr_schedule : see :class:`ticketsearch.training.Recipe`.
    precision, device : see :func:`ticketsearch.pruners.saliency`.

    Raises :class:`BadInput` without data, or for a bad option.
    """
    recipe = training_steps, training_batch, optimizer, lr, momentum, weight_decay, lr_schedule
    masks = _flat(mask, network.spec)
    training = _rounds("imp", network, masks, rng, dataset, rewind, recipe, precision, device)
    final = training.cohort.parameters()
    return {name: final[name].abs().cpu() * kept for name, kept in mask.items()}


@batched
def averaged_imp(
    network: Copies,
    mask: Parts,
    batch: Batch | None,
    *,
    rng: Sequence[np.random.Generator],
    dataset: Dataset | None = None,
    orders: int = 3,
    training_steps: int = 1000,
    training_batch: int = 128,
    optimizer: str = "sgd",
    lr: float = 0.05,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    lr_schedule: str = "constant",
    precision: str = "float32",
    device: str = "auto",
) -> Parts:
    """Return the mean absolute values of the weights of several trainings.

    As :func:`imp`, which explains the other parameters, but that each round trains the masked network on
    several data orders, other ones each round: which weights are small depends on the order, the less the
    more of them are averaged. This package's own, as far as we know in no paper.

    Parameters
    ----------
    orders : trainings a round.

    Raises :class:`BadInput` without data, or for a bad option.
    """
    if not is_integer(orders) or orders < 1:
        raise BadInput(f"orders are trainings a round, an integer >= 1, but got {orders!r}")
    masks = _flat(mask, network.spec)
    networks = Copies([each for each in network.networks for _ in range(orders)])
    rngs = [
        np.random.default_rng(_child(own, AVERAGED, int(np.count_nonzero(kept)), number))
        for own, kept in zip(rng, masks, strict=True)
        for number in range(orders)
    ]
    recipe = training_steps, training_batch, optimizer, lr, momentum, weight_decay, lr_schedule
    masks = np.repeat(masks, orders, axis=0)
    training = _rounds("averaged_imp", networks, masks, rngs, dataset, 0, recipe, precision, device)
    final = training.cohort.parameters()
    return {
        name: final[name].abs().cpu().view(len(network), orders, *kept.shape[1:]).mean(1) * kept
        for name, kept in mask.items()
    }


@batched
def obd(
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
    lr_schedule: str = "constant",
    precision: str = "float32",
    device: str = "auto",
) -> Parts:
    """Return the loss that pruning each trained weight is expected to cost: optimal brain damage, in rounds.

    As :func:`imp`, which explains the parameters, but for what is cut: not the smallest weights, but those
    whose saliency is (LeCun, Denker & Solla 1990, "Optimal Brain Damage"), in nats to second order; see
    :class:`ticketsearch.masks.Guidance`. Raises :class:`BadInput` also for a network whose outputs for a
    sample depend on others, as curvatures are means over single samples.
    """
    check_independence(network.wiring, network.networks[0].input_shape)  # curvatures are of single samples
    recipe = training_steps, training_batch, optimizer, lr, momentum, weight_decay, lr_schedule
    masks = _flat(mask, network.spec)
    training = _rounds("obd", network, masks, rng, dataset, rewind, recipe, precision, device)
    scores = np.zeros(masks.shape, dtype=np.float32)
    for own, kept, guidance in zip(scores, masks, training.guidance(0.0, "curvature"), strict=True):
        own[kept] = np.nan if guidance is None else guidance.saliency
    return {
        layer.name: torch.from_numpy(scores[:, layer.slice].copy()).view(-1, *layer.shape)
        for layer in network.spec.layers
    }


def _check_steps(option: str, value: Any) -> None:
    if not is_integer(value) or value < 0:
        raise BadInput(f"{option} must be a whole number of optimizer steps >= 0, but got {value!r}")


def _rounds(
    name: str,
    network: Copies,
    masks: Mask,
    rng: Sequence[np.random.Generator],
    dataset: Dataset | None,
    rewind: int,
    recipe: tuple[Any, ...],
    precision: str,
    device: str,
) -> Training:
    """Return the training of one round, done; ``recipe`` begins with its steps and batch."""
    if dataset is None:
        raise BadInput(
            f"{name} needs data to train on, but got dataset=None; give dataset=…, or take a pruner that "
            "needs none, such as synflow"
        )
    steps, batch, *rest = recipe
    for option, value in (("training_steps", steps), ("rewind", rewind)):
        _check_steps(option, value)
    whole = Recipe(rewind + steps, min(batch, len(dataset.y_train)), *rest)
    orders = _orders(len(dataset.y_train), whole, rng)
    run = partial(_trained, network, dataset, whole, find_device(device), find_precision(precision))
    initial = [{**one.parameters(), **one.buffers()} for one in network.networks]
    with reproducible():
        if rewind:
            dense = np.ones_like(masks)
            initial = _moved(run(orders, dense, initial, 0, rewind).cohort, initial)
        return run(orders, masks, initial, rewind, whole.steps)


def _trained(
    network: Copies,
    dataset: Dataset,
    recipe: Recipe,
    device: torch.device,
    dtype: torch.dtype,
    orders: list[Integers],
    masks: Mask,
    initial: list[Parts],
    begin: int,
    end: int,
) -> Training:
    """Return the training of each copy, initial at step ``begin`` of its data order, to step ``end``."""
    cohort = Cohort(network.wiring, masks, initial, device=device, dtype=dtype, precision=recipe.precision)
    training = Training(cohort, dataset, recipe, orders, begin=begin)
    training.advance(end)
    return training


def _moved(cohort: Cohort, initial: list[Parts]) -> list[Parts]:
    """Return the parameters and buffers of each copy as training has left them."""
    moved = {**cohort.parameters(), **cohort.buffers()}
    return [
        {**tensors, **{name: stacked[i] for name, stacked in moved.items()}}
        for i, tensors in enumerate(initial)
    ]


def _orders(samples: int, recipe: Recipe, rngs: Sequence[np.random.Generator]) -> list[Integers]:
    """Return a data order a copy, the same however often its generator has been drawn from."""
    orders = []
    for rng in rngs:
        orders.append(data_order(samples, recipe, _child(rng, DATA_ORDER)))
    return orders


def _child(rng: np.random.Generator, *numbers: int) -> np.random.SeedSequence:
    """Return a seed that follows from the generator's own, however often it has been drawn from."""
    seed = rng.bit_generator.seed_seq
    if not isinstance(seed, np.random.SeedSequence):
        raise BadInput("imp needs an rng with a seed; make it by numpy.random.default_rng(seed)")
    return np.random.SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, *numbers))


def _flat(mask: Parts, spec: MaskSpec) -> Mask:
    """Return the ``(copies, weights)`` masks of parts ``(copies, *layer shape)``."""
    return torch.cat([mask[layer.name].flatten(1) for layer in spec.layers], dim=1).numpy()
