"""The final training: every mask on the same data orders, evaluated once on the test set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import torch
from torch import Tensor

from ticketsearch.experiment import Search
from ticketsearch.fitness import ShortTraining
from ticketsearch.masks import Mask, MaskSpec
from ticketsearch.operators import layer_shuffle
from ticketsearch.random_streams import Stream, seed_sequence
from ticketsearch.training import (
    Cohort,
    Evaluation,
    data_order,
    evaluate,
    find_device,
    one_thread,
    reproducible,
    train,
)

__all__ = ["matched", "tested"]

# Numbers of Stream.CONTROL that shuffled masks, and other initial weights, are drawn from.
SHUFFLED, REINITIALIZED = 0, 1
Tensors = Mapping[str, Tensor]


def tested(search: Search, mask: Mask, control: str, orders: Sequence[int]) -> Evaluation:
    """Return test loss and accuracy of a mask after the final training on each data order, by its number.

    ``control`` is ``""``, ``shuffled`` (as many weights in each layer, elsewhere) or ``reinitialized`` (other
    initial weights of the same scheme, see :func:`matched`), a new one for each order.
    """
    settings, network, dataset = search.settings, search.network, search.dataset
    recipe = replace(cast(ShortTraining, search.fitness).recipe, steps=settings.final.steps)
    original = {**network.parameters(), **network.buffers()}
    masks, initial = [mask] * len(orders), [original]
    if control == "shuffled":
        rngs = [np.random.default_rng(_sequence(search, SHUFFLED, order)) for order in orders]
        masks = [layer_shuffle(mask, spec=network.spec, rng=rng) for rng in rngs]
    elif control == "reinitialized":
        initial = [matched(_reinitialized(search, order), original, mask, network.spec) for order in orders]
    data_orders = [
        data_order(len(dataset.y_train), recipe, seed_sequence(settings.seed, Stream.REPORTING, order))
        for order in orders
    ]
    with one_thread(), reproducible():
        cohort = Cohort(
            network.wiring,
            np.stack(masks),
            initial,
            device=find_device(settings.training.device),
            dtype=getattr(torch, settings.training.dtype),
            masking=recipe.masking,
            precision=recipe.precision,
        )
        train(cohort, dataset, recipe, data_orders)
        return evaluate(cohort, dataset.x_test, dataset.y_test)


def matched(other: Tensors, original: Tensors, mask: Mask, spec: MaskSpec) -> dict[str, Tensor]:
    """Return other initial tensors, each layer scaled so that its kept weights are as large as originally.

    The root mean square is matched, which a single weight has too. A mask that was chosen by the size of
    weights would otherwise lose this advantage together with their places.
    """
    scaled = dict(other)
    for name, part in spec.split(mask).items():
        kept = torch.from_numpy(part.copy())
        wanted, present = (tensors[name][kept].square().mean().sqrt() for tensors in (original, other))
        if kept.any() and present > 0:
            scaled[name] = other[name] * (wanted / present)
    return scaled


def _reinitialized(search: Search, order: int) -> dict[str, Tensor]:
    (seed,) = _sequence(search, REINITIALIZED, order).generate_state(1)
    other = search.network.reinitialized(search.network.initialization.scheme, int(seed))
    return {**other.parameters(), **other.buffers()}


def _sequence(search: Search, number: int, order: int) -> np.random.SeedSequence:
    return seed_sequence(search.settings.seed, Stream.CONTROL, number, order)
