"""Iterative pruning with rewinding: train, cut the least salient weights, rewind the others, train again."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch

from ticketsearch.checks import is_integer
from ticketsearch.datasets import Dataset
from ticketsearch.errors import BadInput
from ticketsearch.masks import Mask, MaskSpec
from ticketsearch.pruners.batching import Batch, Copies, Parts, batched
from ticketsearch.pruners.saliency import find_precision
from ticketsearch.pruners.training_options import RewindOptions, TrainingOptions, trains
from ticketsearch.training import Cohort, Training, check_independence, data_order, find_device, reproducible

__all__ = ["TRAINING", "averaged_imp", "imp", "obd"]

# Children of a pruning's seed that order the data; beyond the numbers that spawn() gives.
DATA_ORDER, AVERAGED = 2**32 - 1, 2**32 - 2


@trains(RewindOptions)
@batched
def imp(
    network: Copies,
    mask: Parts,
    batch: Batch | None,
    *,
    rng: Sequence[np.random.Generator],
    dataset: Dataset | None = None,
    training: RewindOptions,
) -> Parts:
    """Return the absolute values of the trained weights, the scores of iterative magnitude pruning.

    The network is trained as masked so far (Frankle & Carbin 2019, "The Lottery Ticket Hypothesis"): from its
    initialization, or from its weights after ``rewind`` steps of dense training (Frankle et al. 2020, "Linear
    Mode Connectivity and the Lottery Ticket Hypothesis"), with that step's running statistics and learning
    rate, and a new optimizer. A round is a step of the pruning loop, which by default cuts a fifth of the
    weights, or a little less. All rounds of one pruning use one data order; the dense steps are its
    beginning. The dense steps are repeated in each round, so that nothing is stored between rounds. The
    result is the mask alone: a ticket holds the initialization, not the weights of step ``rewind``.

    Parameters
    ----------
    dataset : its training part is trained on; given by the pruning loop.
    training_steps : optimizer steps a round. With 0 (and no rewinding) this is magnitude pruning.
    rewind : optimizer steps of dense training before them.
    training_batch : samples an optimizer step, or the whole training part where that is smaller.
    optimizer, lr, momentum, weight_decay, lr_schedule : see :class:`ticketsearch.training.Recipe`.
    precision, device : see :func:`ticketsearch.pruners.saliency`.

    Raises :class:`BadInput` without data, or for a bad option.
    """
    rounds = _trained_rounds("imp", network, _flat(mask, network.spec), rng, dataset, training)
    weights = rounds.cohort.parameters()
    return {name: weights[name].abs().cpu() * kept for name, kept in mask.items()}


@trains(TrainingOptions)
@batched
def averaged_imp(
    network: Copies,
    mask: Parts,
    batch: Batch | None,
    *,
    rng: Sequence[np.random.Generator],
    dataset: Dataset | None = None,
    orders: int = 3,
    training: TrainingOptions,
) -> Parts:
    """Return the mean absolute values of the weights of several trainings.

    Like :func:`imp`, which explains the other parameters, but each round trains the masked network on
    several data orders, drawn anew each round: the data order decides in part which weights become small,
    and averaging takes that part away. This package's own method; we know of no paper.

    Parameters
    ----------
    orders : trainings a round.

    Raises :class:`BadInput` without data, or for a bad option.
    """
    if not is_integer(orders) or orders < 1:
        raise BadInput(f"orders are trainings a round, an integer >= 1, but got {orders!r}")
    masks = _flat(mask, network.spec)
    repeated = Copies([one for one in network.networks for _ in range(orders)])
    rngs = [
        np.random.default_rng(_child(generator, AVERAGED, int(np.count_nonzero(kept)), order))
        for generator, kept in zip(rng, masks, strict=True)
        for order in range(orders)
    ]
    masks = np.repeat(masks, orders, axis=0)
    weights = _trained_rounds("averaged_imp", repeated, masks, rngs, dataset, training).cohort.parameters()
    return {
        name: weights[name].abs().cpu().view(len(network), orders, *kept.shape[1:]).mean(1) * kept
        for name, kept in mask.items()
    }


@trains(RewindOptions, curvature=True)
@batched
def obd(
    network: Copies,
    mask: Parts,
    batch: Batch | None,
    *,
    rng: Sequence[np.random.Generator],
    dataset: Dataset | None = None,
    training: RewindOptions,
) -> Parts:
    """Return the loss that pruning each trained weight is expected to add: optimal brain damage in rounds.

    Like :func:`imp`, which explains the parameters, but with another score: the saliency of LeCun, Denker &
    Solla 1990 ("Optimal Brain Damage"), in nats to second order; see :class:`ticketsearch.masks.Guidance`.
    Raises :class:`BadInput` also for a network whose outputs for a sample depend on others, as curvatures are
    means over single samples.
    """
    check_independence(network.wiring, network.networks[0].input_shape)  # curvatures are of single samples
    masks = _flat(mask, network.spec)
    rounds = _trained_rounds("obd", network, masks, rng, dataset, training)
    scores = np.zeros(masks.shape, dtype=np.float32)
    for row, kept, guidance in zip(scores, masks, rounds.guidance(0.0, "curvature"), strict=True):
        row[kept] = np.nan if guidance is None else guidance.saliency
    return {
        layer.name: torch.from_numpy(scores[:, layer.slice].copy()).view(-1, *layer.shape)
        for layer in network.spec.layers
    }


# Names of the pruners that train the network in each round.
TRAINING = tuple(pruner.__name__ for pruner in (imp, averaged_imp, obd))


def _trained_rounds(
    name: str,
    network: Copies,
    masks: Mask,
    rngs: Sequence[np.random.Generator],
    dataset: Dataset | None,
    options: TrainingOptions,
) -> Training:
    """Return the finished training of one round, each copy with its mask, ``(copies, weights)``."""
    if dataset is None:
        raise BadInput(
            f"{name} needs data to train on, but got dataset=None; give dataset=…, or take a pruner that "
            "needs none, such as synflow"
        )
    samples = len(dataset.y_train)
    recipe, rewind = options.recipe(samples), options.rewind
    # The order is the same however often a generator has been drawn from.
    orders = [data_order(samples, recipe, _child(rng, DATA_ORDER)) for rng in rngs]
    cohort = partial(
        Cohort,
        network.wiring,
        device=find_device(options.device),
        dtype=find_precision(options.precision),
        precision=recipe.precision,
    )

    def trained(masks: Mask, tensors: list[Parts], *, begin: int, end: int) -> Training:
        training = Training(cohort(masks, tensors), dataset, recipe, orders, begin=begin)
        training.advance(end)
        return training

    initial = [{**one.parameters(), **one.buffers()} for one in network.networks]
    with reproducible():
        if rewind:
            initial = _rewound(trained(np.ones_like(masks), initial, begin=0, end=rewind).cohort, initial)
        return trained(masks, initial, begin=rewind, end=recipe.steps)


def _rewound(cohort: Cohort, initial: list[Parts]) -> list[Parts]:
    """Return the parameters and buffers of each copy after the dense steps."""
    trained = {**cohort.parameters(), **cohort.buffers()}
    return [
        {**tensors, **{name: stacked[i] for name, stacked in trained.items()}}
        for i, tensors in enumerate(initial)
    ]


def _child(rng: np.random.Generator, *numbers: int) -> np.random.SeedSequence:
    """Return a seed that follows from the generator's seed, however often it has been drawn from."""
    seed = rng.bit_generator.seed_seq
    if not isinstance(seed, np.random.SeedSequence):
        raise BadInput("imp needs an rng with a seed; make it by numpy.random.default_rng(seed)")
    return np.random.SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, *numbers))


def _flat(mask: Parts, spec: MaskSpec) -> Mask:
    """Return the ``(copies, weights)`` masks of parts ``(copies, *layer shape)``."""
    return torch.cat([mask[layer.name].flatten(1) for layer in spec.layers], dim=1).numpy()
