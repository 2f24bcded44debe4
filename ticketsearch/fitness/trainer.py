"""The trainer: trains and evaluates populations of masks, divided into jobs, here or in other processes."""

from __future__ import annotations

import time
import warnings
import zlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from ticketsearch.cost import Spent
from ticketsearch.datasets import Dataset
from ticketsearch.errors import BadInput
from ticketsearch.fitness.jobs import Job, JobRunner, Order, Outcome, Stage, state_bytes
from ticketsearch.masks import Guidance, Mask, pack
from ticketsearch.models import Initialization, Network
from ticketsearch.training import (
    BLOCK,
    Evaluation,
    Recipe,
    State,
    batches,
    engine_for,
    find_device,
    reproducible,
    training_cost,
)
from ticketsearch.workers import Source, Spread

__all__ = ["Trained", "Trainer"]

# Backends that share this process's memory: the trainer's own runner does their jobs.
IN_PROCESS = ("serial", "threads")
# Backends of engines that threads run side by side; others take processes.
BACKEND_OF = {"native": "threads"}
# Largest size in bytes of the masks and states that one job sends to another process.
JOB_BYTES = 900_000
# Runners that a worker process keeps, each with its data: more might not fit into memory.
RUNNERS = 2


class Trained(NamedTuple):
    """Outcome of training a population, over all its masks in their order.

    Attributes
    ----------
    evaluations : one for each pass.
    states : one for each mask; None where states are not kept, or one is too large to be sent on.
    seconds : of ``training`` and ``validation``, divided by the number of workers side by side, and of
        ``workers``: until they have started, and until the last has ended.
    guidance : one for each mask; None where it is not asked for, or training diverged.
    spent : steps and FLOPs of the stage; steps that are repeated for want of a state are not counted.
    """

    evaluations: list[Evaluation]
    states: list[State | None]
    seconds: dict[str, float]
    guidance: list[Guidance | None]
    spent: Spent = Spent()


class Trainer:
    """Trains populations of masks of one network, in this process or in others.

    Parameters
    ----------
    network, dataset : of the fitness.
    device : ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    dtype : ``float32`` or ``float64``.
    workers : number of jobs side by side, one core each; changes no result.
    backend, address : place of the workers: see :class:`ticketsearch.workers.Spread`. ``auto`` takes threads
        where the native engine trains the network under masking ``parameter``, which they do side by side,
        else processes. One worker of this machine is this process.

    Raises :class:`BadInput` for a device that is not there, a cluster that cannot be reached, or a network
    that other processes cannot build.
    """

    def __init__(
        self,
        network: Network,
        dataset: Dataset,
        *,
        device: str = "auto",
        dtype: str = "float32",
        workers: int = 1,
        backend: str = "auto",
        address: str | None = None,
    ) -> None:
        self.device = find_device(device)
        self.runner = JobRunner(network, dataset, self.device, getattr(torch, dtype))
        if backend == "auto":
            backend = BACKEND_OF.get(engine_for(network.wiring, "parameter", self.device), "loky")
        gpus = torch.cuda.device_count() if self.device.type == "cuda" and self.device.index is None else 0
        alone = workers == 1 and backend in ("loky", "threads") and not address
        self._spread = Spread("serial" if alone else backend, workers, address=address, gpus=gpus)
        if gpus and backend == "threads" and workers > 1:
            raise BadInput(
                f"a GPU is for one process, but got backend 'threads' with {workers} workers; take 'loky'"
            )
        # "auto" means this process's choice, on every worker.
        self._place = (str(self.device), dtype)
        self._source = None if self.in_process else Source.of(network, dataset)

    @property
    def in_process(self) -> bool:
        """Whether jobs run in this process."""
        return self._spread.backend in IN_PROCESS

    def train(
        self,
        masks: Mask,
        initializations: Sequence[Initialization],
        orders: Sequence[Order],
        recipe: Recipe,
        stage: Stage | None = None,
        *,
        states: Sequence[State | None] | None = None,
        arrived: Callable[[list[int], Outcome], object] | None = None,
    ) -> Trained:
        """Train masks ``(P, weights)`` for one stage, and evaluate them.

        Initializations and data orders are one for all masks or one for each. ``stage`` is by default the
        whole training and its evaluation on the validation part. ``states`` are those of the stage before;
        masks without one are trained from the beginning, to the same result. ``arrived`` takes the indices
        and the outcome of each job as it ends.

        A data order given as an array ``(steps, batch)`` of sample indices is sent whole with each job that
        needs it, however large; its ``SeedSequence`` takes a few bytes.
        """
        stage = stage or Stage()
        if len(masks) == 0:
            return Trained([Evaluation(np.empty(0), np.empty(0)) for _ in stage.passes], [], {}, [])
        # The states of the last stage are not sent on.
        any_size = self.in_process or stage.until in (None, recipe.steps)
        largest_state = None if any_size else JOB_BYTES - -(-masks.shape[1] // 8)
        with reproducible():
            population = Job(
                tuple(zlib.compress(pack(mask), 1) for mask in masks),
                tuple(initializations),
                tuple(orders),
                recipe,
                stage,
                None if states is None else tuple(states),
                largest_state,
            )
            together = self._batches(masks, population)
            jobs = [population.of(indices) for indices in together]
            start = time.perf_counter()
            outcomes = self._outcomes(jobs, together, arrived)
            elapsed = time.perf_counter() - start
        trained = _joined(together, outcomes)
        side_by_side = min(self._spread.workers, len(jobs))
        seconds = {name: spent / side_by_side for name, spent in trained.seconds.items()}
        seconds["workers"] = max(0.0, elapsed - sum(seconds.values()))
        return trained._replace(seconds=seconds, spent=self.cost(masks, recipe, stage))

    def weights(
        self,
        mask: Mask,
        initialization: Initialization,
        order: Order,
        recipe: Recipe,
        state: State | None = None,
    ) -> dict[str, torch.Tensor]:
        """Return parameters and buffers of one mask's network after a whole training, to the bit as trained.

        ``state`` is that of the end of this training; without it the training runs now, in this process.
        Pruned weights are zero, except under a masking whose forward pass leaves the mask out.
        """
        stage, states = (Stage(), None) if state is None else (Stage(begin=recipe.steps), (state,))
        job = Job((zlib.compress(pack(mask), 1),), (initialization,), (order,), recipe, stage, states)
        with reproducible():
            return self.runner.weights(job)

    def cost(self, masks: Mask, recipe: Recipe, stage: Stage) -> Spent:
        """Return the steps and FLOPs of a stage."""
        _, y = self.runner.dataset.part(stage.part)
        _, y_train = self.runner.dataset.part("train")
        samples = len(y) + (len(y_train) if stage.pooled else 0)
        until = recipe.steps if stage.until is None else stage.until
        return training_cost(
            self.runner.network.wiring,
            masks,
            steps=until - stage.begin,
            batch=recipe.batch,
            samples=len(stage.passes) * samples,
            guiding=0 if stage.candidates is None else min(BLOCK, len(y_train)),
            grows=bool(stage.candidates),
        )

    def _batches(self, masks: Mask, population: Job) -> list[list[int]]:
        """Return the indices of the masks of each job: those trained together, as far as they can be sent.

        The process that runs the job computes the layout of its masks again, which is quicker than sending.
        """
        together = batches(
            self.runner.network.wiring,
            masks,
            self.runner.initial(population.initializations),
            masking=population.recipe.masking,
            device=self.device,
            precision=population.recipe.precision,
            workers=self._spread.workers,
        )
        if self.in_process:
            return together
        orders = [order.nbytes if isinstance(order, np.ndarray) else 0 for order in population.orders]
        shared, sizes = (0, orders) if len(orders) == len(masks) else (orders[0], [0] * len(masks))
        states = population.states or [None] * len(masks)
        # Upper bounds: masks as bits, uncompressed.
        packed = -(-masks.shape[1] // 8)
        sizes = [size + packed + state_bytes(state) for size, state in zip(sizes, states, strict=True)]
        return [part for indices in together for part in _sendable(indices, sizes, shared)]

    def _outcomes(
        self,
        jobs: list[Job],
        together: list[list[int]],
        arrived: Callable[[list[int], Outcome], object] | None,
    ) -> list[Outcome]:
        """Return the outcomes of jobs, in their order; ``arrived`` takes each as it ends."""
        if self._source is None:
            outcomes = self._spread.run(self.runner.run, jobs)
        else:
            tasks = [(self._source, *self._place, job) for job in jobs]
            outcomes = self._spread.run(_run_in_worker, tasks)
        by_index: dict[int, Outcome] = {}
        for index, outcome in outcomes:
            by_index[index] = outcome
            if arrived is not None:
                arrived(together[index], outcome)
        return [by_index[index] for index in range(len(jobs))]


# Runners of a worker process, by their source, device and type.
_runners: dict[tuple[str, str, str], JobRunner] = {}


def _run_in_worker(task: tuple[Source, str, str, Job]) -> Outcome:
    """Run a job in a worker process, which keeps network and data from job to job."""
    source, device, dtype, job = task
    key = source.key, device, dtype
    if key not in _runners:
        while len(_runners) >= RUNNERS:
            del _runners[next(iter(_runners))]
        _runners[key] = JobRunner(*source.load(), find_device(device), getattr(torch, dtype))
    with reproducible():
        return _runners[key].run(job)


def _sendable(indices: Sequence[int], sizes: Sequence[int], shared: int) -> list[list[int]]:
    """Divide masks into jobs of at most ``JOB_BYTES``.

    ``sizes`` are the bytes of each mask's data, ``shared`` those that every job sends.
    """
    parts: list[list[int]] = [[]]
    total = shared
    for index in indices:
        if parts[-1] and total + sizes[index] > JOB_BYTES:
            parts.append([])
            total = shared
        parts[-1].append(index)
        total += sizes[index]
    return parts


def _joined(together: Sequence[Sequence[int]], outcomes: Sequence[Outcome]) -> Trained:
    """Return the outcomes of jobs in the order of the masks; their notes become warnings."""
    whole = Outcome.joined(outcomes)
    places = np.argsort(np.concatenate(together)).tolist()
    for note in whole.notes:
        warnings.warn(note, stacklevel=4)
    return Trained(
        [Evaluation(*(column[places] for column in evaluation)) for evaluation in whole.evaluations],
        [None if whole.states is None else whole.states[place] for place in places],
        whole.seconds,
        [None if whole.guidance is None else whole.guidance[place] for place in places],
    )
