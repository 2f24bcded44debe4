"""Fitness: how good a mask is. Larger is better.

A fitness is any callable from ``(population, weights)`` bool masks to ``(population,)`` floats. One that
names a parameter ``tickets`` is given the tickets (initialization, lineage), one that names ``round`` the
evaluation round, i.e. the generation. It may return :class:`~ticketsearch.tickets.Scores` to have further
measures recorded. What is not finite counts as diverged.
"""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from ticketsearch.datasets import Dataset
from ticketsearch.errors import BadInput
from ticketsearch.masks import Mask, check_masks
from ticketsearch.models import Initialization, Network
from ticketsearch.names import check_options, listed, resolve
from ticketsearch.streams import Stream, seed_sequence
from ticketsearch.tickets import Scores, Ticket
from ticketsearch.training import (
    MASKINGS,
    Cohort,
    Evaluation,
    Recipe,
    TrainingPart,
    check_batch,
    check_noise,
    check_normalisation,
    data_order,
    evaluate,
    find_device,
    reproducible,
    train,
)

# The fitnesses that have a name; ShortTraining and build_fitness are importable beside them.
__all__ = ["short_training"]

# Bytes that one cohort's stacked weights, gradients and activations may take.
COHORT_BYTES = 512 * 2**20

# Initial parameters and buffers by name.
Tensors = dict[str, torch.Tensor]


class Fitness(Protocol):
    """Any callable of this shape; extra parameters ``tickets`` and ``round`` are given where named."""

    def __call__(self, masks: Mask, /) -> ArrayLike | Scores:
        """Return ``(population,)`` floats, larger is better, for ``(population, weights)`` bool masks."""


class ShortTraining:
    """Fitness by a short training: minus the mean validation loss (cross-entropy, nats).

    Masks of dense networks are trained together in cohorts, those of others one by one. A mask's score
    depends on its initialization, the data order and the recipe alone, not on its cohort or position in it.

    Parameters
    ----------
    network : its parameters are the shared initialization θ₀.
    dataset : trained on its training part, scored on its validation part.
    steps, batch, optimizer, lr, momentum, weight_decay : see :class:`~ticketsearch.training.Recipe`.
    workers : threads that train cohorts side by side, one core each; changes no score.
    seed : with the evaluation round it gives the data order, common to all masks of a round.
    device : ``auto`` (CUDA where there is one), ``cpu``, ``cuda`` or ``cuda:N``.
    dtype : ``float32`` or ``float64``.
    initialization : ``shared`` trains every mask from the network's θ₀, ``own`` from its ticket's.
    masking : ``parameter``, ``gradient`` or ``forward``; see :mod:`ticketsearch.training.maskings`. The score
        is that of the forward pass that training uses: under ``gradient`` of all weights.
    """

    def __init__(
        self,
        network: Network,
        dataset: Dataset,
        steps: int = 200,
        batch: int = 128,
        optimizer: str = "sgd",
        lr: float = 0.05,
        momentum: float = 0.9,
        workers: int = 1,
        seed: int = 0,
        device: str = "auto",
        *,
        weight_decay: float = 0.0,
        dtype: Literal["float32", "float64"] = "float32",
        initialization: Literal["shared", "own"] = "shared",
        masking: str = "parameter",
    ) -> None:
        if workers < 1:
            raise BadInput(f"workers must be >= 1, but got {workers}")
        if initialization not in ("shared", "own"):
            raise BadInput(f"initialization must be shared or own, but got {initialization!r}")
        if dtype not in ("float32", "float64"):
            raise BadInput(f"dtype must be float32 or float64, but got {dtype!r}")
        if dataset.input_shape != network.input_shape or dataset.classes != network.classes:
            raise BadInput(
                f"the network takes {network.input_shape} and {network.classes} classes, but dataset "
                f"{dataset.name!r} has {dataset.input_shape} and {dataset.classes}"
            )
        self.network = network
        self.dataset = dataset
        self.recipe = Recipe(steps, batch, optimizer, lr, momentum, weight_decay, masking)
        self.workers = workers
        self.seed = seed
        self.device = find_device(device)
        self.dtype: torch.dtype = getattr(torch, dtype)
        self.initialization = initialization
        self._tensors: dict[Initialization, Tensors] = {}
        check_batch(len(dataset.y_train), self.recipe)
        check_normalisation(network.wiring, self.recipe)
        check_noise(network.wiring)
        seed_sequence(seed, Stream.ROUND)  # refuses what is no seed

    def __call__(
        self, masks: ArrayLike, *, tickets: Sequence[Ticket] | None = None, round: int = 0
    ) -> Scores:
        """Return scores ``(population,)`` of masks ``(population, weights)``: minus the validation loss.

        Their ``measures`` hold the validation ``accuracy`` of each masked network, in [0, 1], and where
        other weights than the kept ones are not zero also the ``dense_accuracy`` of all weights.
        Raises :class:`BadInput` for masks of another network, or tickets that carry other initializations
        than this fitness trains from.
        """
        checked = check_masks(masks, self.network.spec)
        stream = seed_sequence(self.seed, Stream.ROUND, round)
        order = data_order(len(self.dataset.y_train), self.recipe, stream)
        if self.recipe.masking == "parameter":
            found = self.trained(checked, self.recipe, [order], tickets=tickets)
            return Scores(-found.loss, {"accuracy": found.accuracy})
        passes = self._evaluations(checked, self.recipe, [order], tickets, "validation", (True, False))
        score = passes[1 if MASKINGS[self.recipe.masking].dense else 0].loss
        return Scores(-score, {"accuracy": passes[0].accuracy, "dense_accuracy": passes[1].accuracy})

    def trained(
        self,
        masks: Mask,
        recipe: Recipe,
        orders: Sequence[NDArray[np.int64]],
        *,
        tickets: Sequence[Ticket] | None = None,
        part: Literal["validation", "test"] = "validation",
    ) -> Evaluation:
        """Train masks ``(P, weights)`` with one data order for all or one for each; evaluate on ``part``.

        What is evaluated is the forward pass that training uses. Parameters are taken from the tickets'
        initializations under ``own``, else from the network.
        """
        return self._evaluations(masks, recipe, orders, tickets, part, (None,))[0]

    def _evaluations(
        self,
        masks: Mask,
        recipe: Recipe,
        orders: Sequence[NDArray[np.int64]],
        tickets: Sequence[Ticket] | None,
        part: Literal["validation", "test"],
        passes: Sequence[bool | None],
    ) -> list[Evaluation]:
        """Return an evaluation of all masks for each of the passes, ``masked`` of :func:`evaluate`."""
        self._check_tickets(len(masks), tickets)
        size = self._cohort_size(len(masks))
        cohorts = [slice(start, start + size) for start in range(0, len(masks), size)]
        # Not in the threads: building a network seeds torch's global generator and tracing patches nn.Module.
        initial = {cut.start: self._initial(None if tickets is None else tickets[cut]) for cut in cohorts}
        stopped = threading.Event()

        def check(_: int) -> None:
            if stopped.is_set():
                raise InterruptedError("another cohort failed, or the search was interrupted")

        def run(cut: slice) -> list[Evaluation]:
            torch.set_num_threads(1)
            cohort = Cohort(
                self.network.wiring,
                masks[cut],
                initial[cut.start],
                device=self.device,
                dtype=self.dtype,
                masking=recipe.masking,
            )
            own = orders if len(orders) == 1 else orders[cut]
            train(cohort, training, recipe, own, after_step=check)
            return [evaluate(cohort, x, y, masked=masked) for masked in passes]

        if len(masks) == 0:
            return [Evaluation(np.empty(0), np.empty(0)) for _ in passes]
        with reproducible():
            # Once for all cohorts: a device need not hold the data a thread.
            training = TrainingPart(*self._resident("train"))
            x, y = self._resident(part)
            found = _side_by_side(run, cohorts, self.workers, stopped)
        return [
            Evaluation(*(np.concatenate(column) for column in zip(*each, strict=True)))
            for each in zip(*found, strict=True)
        ]

    def _check_tickets(self, masks: int, tickets: Sequence[Ticket] | None) -> None:
        """Refuse tickets whose initializations are not those that this fitness trains from."""
        if self.initialization == "own" and (
            tickets is None or any(t.initialization is None for t in tickets)
        ):
            raise BadInput("initialization 'own' needs tickets that carry an initialization")
        if tickets is not None and len(tickets) != masks:
            raise BadInput(f"tickets are one a mask ({masks}), but got {len(tickets)}")
        theirs = {t.initialization for t in tickets or ()} - {None, self.network.initialization}
        if self.initialization == "shared" and theirs:
            raise BadInput(
                f"tickets are to be trained from {theirs.pop()}, but this fitness trains all from "
                f"{self.network.initialization}; give it initialization='own'"
            )

    def _resident(self, part: str) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = getattr(self.dataset, f"x_{part}"), getattr(self.dataset, f"y_{part}")
        return x.to(self.device, self.dtype), y.to(self.device)

    def _initial(self, tickets: Sequence[Ticket] | None) -> list[Tensors]:
        wanted = [self.network.initialization]
        if self.initialization == "own" and tickets is not None:
            wanted = [ticket.initialization for ticket in tickets if ticket.initialization is not None]
        for initialization in wanted:
            if initialization not in self._tensors:
                network = self.network.reinitialized(*initialization)
                self._tensors[initialization] = {**network.parameters(), **network.buffers()}
        return [self._tensors[initialization] for initialization in wanted]

    def _cohort_size(self, population: int) -> int:
        """Split evenly over the workers, within the bytes a cohort may take; one network if not dense."""
        if not self.network.wiring.dense:
            return 1
        # Weights, their product with the mask, gradient, momentum, mask, and a step's temporaries.
        each = self.network.spec.size * 8 * self.dtype.itemsize
        return max(1, min(-(-population // self.workers), COHORT_BYTES // each))


def _side_by_side(
    run: Callable[[slice], list[Evaluation]], cohorts: list[slice], workers: int, stopped: threading.Event
) -> list[list[Evaluation]]:
    """Run all cohorts, in threads if there are several workers; the first failure stops the others."""
    if workers == 1 or len(cohorts) == 1:
        return [run(cut) for cut in cohorts]
    # Left only when all threads have ended: torch must not be at work while Python exits.
    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(run, cut) for cut in cohorts]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for failure in filter(None, (future.exception() for future in done)):
                raise failure
            return [future.result() for future in futures]
        except BaseException:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def short_training(network: Network, dataset: Dataset, **options: Any) -> ShortTraining:
    """Build :class:`ShortTraining`, the fitness that a search uses unless told otherwise."""
    check_options(ShortTraining, options, "fitness", "short_training")
    return ShortTraining(network, dataset, **options)


def build_fitness(
    name: str, network: Network, dataset: Dataset, run_seed: int = 0, **options: Any
) -> Callable[..., Any]:
    """Build the fitness that ``name`` stands for: a listed one, or ``file.py:build``.

    ``build(network, dataset, **options)`` returns the callable; one that names ``seed`` is given
    ``run_seed`` unless the options say otherwise.
    """
    build = resolve(name, listed(sys.modules[__name__]), "fitness", ("network", "dataset"))
    if "seed" in inspect.signature(build).parameters:
        options = {"seed": run_seed, **options}
    check_options(build, options, "fitness", name)
    fitness = build(network, dataset, **options)
    if not callable(fitness):
        raise BadInput(f"fitness {name!r} must build a callable, but built {type(fitness).__name__}")
    return fitness  # type: ignore[no-any-return]
