"""The trainer: trains and evaluates populations of masks, divided into jobs, wherever these run.

A job holds masks of one layout, i.e. one tensor program where networks are dense. It says everything by
name or seed, so it is small, and what it gives does not depend on where it runs or what runs beside it.
"""

from __future__ import annotations

import math
import time
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ticketsearch.cost import Spent, spending
from ticketsearch.datasets import Dataset
from ticketsearch.errors import BadInput
from ticketsearch.masks import Guidance, Mask, pack, unpack
from ticketsearch.models import Initialization, Network
from ticketsearch.training import (
    BLOCK,
    Cohort,
    Evaluation,
    Recipe,
    State,
    Training,
    TrainingPart,
    data_order,
    evaluate,
    find_device,
    growable_operations,
    live_operations,
    programs,
    reproducible,
    resident,
)
from ticketsearch.workers import Source, Spread, check_stopped

__all__ = ["Job", "Order", "Outcome", "Trainer"]

# Backends that share this process's memory: their jobs are done by the trainer's own workshop.
IN_PROCESS = ("serial", "threads")
# Bytes that the masks and states of one job may take on their way to another process.
JOB_BYTES = 900_000
# Initializations whose tensors a workshop keeps.
INITIALIZATIONS = 64
# What errors say where memory was asked for in vain.
NO_MEMORY = ("can't allocate memory", "out of memory", "ALLOC_FAILED", "bad_alloc")

# Initial parameters and buffers by name.
Tensors = dict[str, torch.Tensor]
# A data order, or the seed of one.
Order = np.random.SeedSequence | NDArray[np.int64]


@dataclass(frozen=True)
class Job:
    """Masks to be trained from step ``done`` to step ``until``, and evaluated.

    Attributes
    ----------
    masks : packed and compressed, one a network.
    initializations : what they are trained from, one for all or one for each.
    orders : their data orders, one for all or one for each.
    recipe : of the training.
    until : the step to stop at.
    part : what is evaluated on, ``validation`` or ``test``.
    passes : ``masked`` of :func:`~ticketsearch.training.evaluate`, one evaluation for each.
    states : what training goes on from; None trains from the beginning.
    done : steps that the states have behind them.
    keeps_states : whether more training is to come.
    largest_state : bytes from which on a state is not kept after all; None if any is.
    candidates : for growth, as a share of the kept weights; None if no guidance is asked for.
    saliency : what guidance goes by, ``magnitude``, ``curvature`` or ``mixed``.
    pooled : whether losses, not accuracies, are also of the training part: means over all these samples.
    """

    masks: tuple[bytes, ...]
    initializations: tuple[Initialization, ...]
    orders: tuple[Order, ...]
    recipe: Recipe
    until: int
    part: str
    passes: tuple[bool | None, ...]
    states: tuple[State, ...] | None = None
    done: int = 0
    keeps_states: bool = False
    largest_state: int | None = None
    candidates: float | None = None
    saliency: str = "magnitude"
    pooled: bool = False

    def halves(self) -> list[Job]:
        """Return two jobs of half the masks each."""
        middle = len(self.masks) // 2
        return [self._of(slice(0, middle)), self._of(slice(middle, None))]

    def _of(self, cut: slice) -> Job:
        def part(values: tuple[Any, ...]) -> tuple[Any, ...]:
            return values[cut] if len(values) == len(self.masks) else values

        return replace(
            self,
            masks=self.masks[cut],
            initializations=part(self.initializations),
            orders=part(self.orders),
            states=None if self.states is None else self.states[cut],
        )


class Outcome(NamedTuple):
    """What a job gives.

    Attributes
    ----------
    evaluations : one for each pass, over the job's masks.
    states : one a mask where asked for, None for one that is too large.
    seconds : of ``training`` and ``validation``.
    guidance : one a mask where asked for, None for one that diverged.
    notes : lines to be shown.
    """

    evaluations: list[Evaluation]
    states: list[State | None] | None
    seconds: dict[str, float]
    guidance: list[Guidance | None] | None = None
    notes: tuple[str, ...] = ()


class Trained(NamedTuple):
    """What training a population gives: see :class:`Outcome`, over all its masks in their order.

    ``seconds`` are of ``training`` and ``validation``, shared by those that work side by side, and of
    ``workers``: until they have started, and until the last has ended. ``spent`` counts the steps that were
    asked for, also where some had to be done again.
    """

    evaluations: list[Evaluation]
    states: list[State | None]
    seconds: dict[str, float]
    guidance: list[Guidance | None]
    spent: Spent = Spent()


class Workshop:
    """A network and its data on a device: what does jobs, one at a time or in threads.

    Parameters
    ----------
    network, dataset : as a fitness has them.
    device, dtype : where and in what precision jobs are done.
    """

    def __init__(self, network: Network, dataset: Dataset, device: torch.device, dtype: torch.dtype) -> None:
        self.network = network
        self.dataset = dataset
        self.device = device
        self.dtype = dtype
        self._tensors: dict[Initialization, Tensors] = {}
        self._parts: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def initial(self, wanted: Sequence[Initialization]) -> list[Tensors]:
        """Return initial parameters and buffers.

        New ones are not for threads: building a network seeds torch's global generator.
        """
        for initialization in dict.fromkeys(wanted):
            if initialization not in self._tensors:
                network = self.network.reinitialized(*initialization)
                self._tensors[initialization] = {**network.parameters(), **network.buffers()}
                if len(self._tensors) > max(INITIALIZATIONS, len(wanted)):
                    unused = next(known for known in self._tensors if known not in wanted)
                    del self._tensors[unused]
        return [self._tensors[initialization] for initialization in wanted]

    def resident(self, part: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Return samples and labels of a part on the device, where they stay."""
        if part not in self._parts:
            x, y = getattr(self.dataset, f"x_{part}"), getattr(self.dataset, f"y_{part}")
            stacked = self.network.wiring.dense
            ready = resident(x, stacked=stacked, device=self.device, dtype=self.dtype)
            self._parts[part] = ready, y.to(self.device)
        return self._parts[part]

    def do(self, job: Job) -> Outcome:
        """Do a job; one that does not fit into memory is done in halves, which changes no result.

        Raises :class:`BadInput` where one mask alone does not fit.
        """
        torch.set_num_threads(1)  # of this thread, if it is another one
        try:
            return self._done(job)
        except (RuntimeError, MemoryError) as error:
            if not _out_of_memory(error):
                raise
            if len(job.masks) == 1:
                raise BadInput(
                    f"one network at a time does not fit into the memory of {self.device}; take a smaller "
                    "batch or model, or another device"
                ) from error
        # Outside: the exception holds on to the tensors that did not fit.
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        halves = [self.do(half) for half in job.halves()]
        note = f"{len(job.masks)} networks at once do not fit into the memory of {self.device}: halved"
        return Outcome(
            [
                Evaluation(*(np.concatenate(column) for column in zip(*each, strict=True)))
                for each in zip(*(half.evaluations for half in halves), strict=True)
            ],
            None if not job.keeps_states else [state for half in halves for state in half.states or ()],
            {name: sum(half.seconds[name] for half in halves) for name in halves[0].seconds},
            None if job.candidates is None else [own for half in halves for own in half.guidance or ()],
            tuple(dict.fromkeys([note, *(note for half in halves for note in half.notes)])),
        )

    def _done(self, job: Job) -> Outcome:
        start = time.perf_counter()
        x, y = self.resident("train")
        spec = self.network.spec
        cohort = Cohort(
            self.network.wiring,
            np.stack([unpack(zlib.decompress(mask), spec) for mask in job.masks]),
            self.initial(job.initializations),
            device=self.device,
            dtype=self.dtype,
            masking=job.recipe.masking,
            precision=job.recipe.precision,
        )
        orders = [
            order if isinstance(order, np.ndarray) else data_order(len(y), job.recipe, order)
            for order in job.orders
        ]
        training = Training(cohort, TrainingPart(x, y), job.recipe, orders)
        if job.states is not None:
            training.restore(job.states, job.done)
        training.advance(job.until, after_step=lambda _: check_stopped())
        states: list[State | None] | None = None
        if job.keeps_states:
            most = math.inf if job.largest_state is None else job.largest_state
            states = [state if _bytes(state) <= most else None for state in training.states()]
        guidance = None
        if job.candidates is not None:
            guidance = training.guidance(job.candidates, job.saliency)
        middle = time.perf_counter()
        found = [evaluate(cohort, *self.resident(job.part), masked=masked) for masked in job.passes]
        if job.pooled:
            learned = [evaluate(cohort, x, y, masked=masked) for masked in job.passes]
            share = len(y) / (len(y) + len(self.resident(job.part)[1]))
            found = [
                own._replace(loss=share * own_learned.loss + (1 - share) * own.loss)
                for own, own_learned in zip(found, learned, strict=True)
            ]
        seconds = {"training": middle - start, "validation": time.perf_counter() - middle}
        return Outcome(found, states, seconds, guidance)


class Trainer:
    """Trains populations of masks of one network, in this process or in others.

    Parameters
    ----------
    network, dataset : as a fitness has them.
    device : ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    dtype : ``float32`` or ``float64``.
    workers : how many jobs are done side by side, one core each; changes no result.
    backend, address : where: see :class:`ticketsearch.workers.Spread`. One worker of this machine is this
        process.

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
        backend: str = "loky",
        address: str | None = None,
    ) -> None:
        self.device = find_device(device)
        self.workshop = Workshop(network, dataset, self.device, getattr(torch, dtype))
        gpus = torch.cuda.device_count() if self.device.type == "cuda" and self.device.index is None else 0
        alone = workers == 1 and backend in ("loky", "threads") and not address
        self._spread = Spread("serial" if alone else backend, workers, address=address, gpus=gpus)
        if gpus and backend == "threads" and workers > 1:
            raise BadInput(
                f"a GPU is for one process, but got backend 'threads' with {workers} workers; take 'loky'"
            )
        # What was asked for by "auto" is what it is here, on every worker.
        self._place = (str(self.device), dtype)
        self._source = None if self.in_process else Source.of(network, dataset)

    @property
    def in_process(self) -> bool:
        """Whether jobs are done in this process."""
        return self._spread.backend in IN_PROCESS

    def train(
        self,
        masks: Mask,
        initializations: Sequence[Initialization],
        orders: Sequence[Order],
        recipe: Recipe,
        *,
        until: int | None = None,
        part: Literal["validation", "test"] = "validation",
        passes: Sequence[bool | None] = (None,),
        states: Sequence[State | None] | None = None,
        done: int = 0,
        keeps_states: bool = False,
        candidates: float | None = None,
        saliency: str = "magnitude",
        pooled: bool = False,
    ) -> Trained:
        """Train masks ``(P, weights)`` and evaluate them: see :class:`Job` for what is given.

        ``states`` are those of an earlier call; where one is missing, training is done again from the
        beginning, to the same result. They are missing where they would be too large to be sent. A data order
        given as an array is sent whole with each job that needs it, however large; its seed is a few bytes.
        """
        if len(masks) == 0:
            return Trained([Evaluation(np.empty(0), np.empty(0)) for _ in passes], [], {}, [])
        with reproducible():
            cuts, jobs = [], []
            common = (recipe, recipe.steps if until is None else until, part, tuple(passes))
            for cut in self._cuts(masks, initializations, orders, recipe, states):
                own = None if states is None else [states[number] for number in cut]
                whole = own is not None and all(state is not None for state in own)
                job = Job(
                    tuple(zlib.compress(pack(masks[number]), 1) for number in cut),
                    _of(initializations, cut, len(masks)),
                    _of(orders, cut, len(masks)),
                    *common,
                    tuple(own) if whole and own is not None else None,  # type: ignore[arg-type]
                    done if whole else 0,
                    keeps_states,
                    None if self.in_process else JOB_BYTES - -(-masks.shape[1] // 8),
                    candidates,
                    saliency,
                    pooled,
                )
                cuts.append(cut)
                jobs.append(job)
            start = time.perf_counter()
            outcomes = self._outcomes(jobs)
            passed = time.perf_counter() - start
        found = _joined(len(masks), cuts, outcomes, len(passes))
        side_by_side = min(self._spread.workers, len(jobs))
        seconds = {name: spent / side_by_side for name, spent in found.seconds.items()}
        waited = max(0.0, passed - sum(seconds.values()))
        dataset = self.workshop.dataset
        samples = len(getattr(dataset, f"y_{part}")) + (len(dataset.y_train) if pooled else 0)
        spent = spending(
            live_operations(self.workshop.network.wiring, masks),
            steps=jobs[0].until - done,
            batch=recipe.batch,
            samples=len(passes) * samples,
            guiding=0 if candidates is None else min(BLOCK, len(dataset.y_train)),
            growable=growable_operations(self.workshop.network.wiring, masks) if candidates else 0,
        )
        return found._replace(seconds={**seconds, "workers": waited}, spent=spent)

    def _cuts(
        self,
        masks: Mask,
        initializations: Sequence[Initialization],
        orders: Sequence[Order],
        recipe: Recipe,
        states: Sequence[State | None] | None,
    ) -> list[list[int]]:
        """Return the numbers of the masks of each job: those of one program, as far as they can be sent.

        Whoever does the job finds the layout of its masks again, which is quicker than sending it.
        """
        found = programs(
            self.workshop.network.wiring,
            masks,
            self.workshop.initial(initializations),
            masking=recipe.masking,
            device=self.device,
            precision=recipe.precision,
            workers=self._spread.workers,
        )
        if self.in_process:
            return found
        # At most: as bits, uncompressed.
        each = -(-masks.shape[1] // 8)
        sent = [order.nbytes if isinstance(order, np.ndarray) else 0 for order in orders]
        once, own = (0, sent) if len(orders) == len(masks) else (sent[0], [0] * len(masks))
        cuts = []
        for numbers in found:
            cut: list[int] = []
            size = once
            for number in numbers:
                more = each + own[number] + (0 if states is None else _bytes(states[number]))
                if cut and size + more > JOB_BYTES:
                    cuts.append(cut)
                    cut, size = [], once
                cut.append(number)
                size += more
            cuts.append(cut)
        return cuts

    def _outcomes(self, jobs: list[Job]) -> list[Outcome]:
        """Return what the jobs give, in their order."""
        found: dict[int, Outcome] = {}
        if self._source is None:
            found |= self._spread.run(self.workshop.do, jobs)
        else:
            found |= self._spread.run(_distant, [(self._source, *self._place, job) for job in jobs])
        return [found[index] for index in range(len(jobs))]


# Workshops of a worker process, by what they are made of; the data of more than two might not fit.
_workshops: dict[tuple[str, str, str], Workshop] = {}


def _distant(task: tuple[Source, str, str, Job]) -> Outcome:
    """Do a job in a process of its own, which keeps network and data from job to job."""
    source, device, dtype, job = task
    key = source.key, device, dtype
    if key not in _workshops:
        while len(_workshops) > 1:
            del _workshops[next(iter(_workshops))]
        _workshops[key] = Workshop(*source.load(), find_device(device), getattr(torch, dtype))
    with reproducible():
        return _workshops[key].do(job)


def _of(values: Sequence[Any], cut: list[int], size: int) -> tuple[Any, ...]:
    return tuple(values) if len(values) == 1 != size else tuple(values[number] for number in cut)


def _bytes(state: State | None) -> int:
    return 0 if state is None else sum(array.nbytes for array in state.values())


def _joined(size: int, cuts: list[list[int]], outcomes: list[Outcome], passes: int) -> Trained:
    evaluations = [Evaluation(np.empty(size), np.empty(size)) for _ in range(passes)]
    states: list[State | None] = [None] * size
    guidance: list[Guidance | None] = [None] * size
    seconds: dict[str, float] = {}
    for cut, outcome in zip(cuts, outcomes, strict=True):
        for whole, part in zip(evaluations, outcome.evaluations, strict=True):
            whole.loss[cut], whole.accuracy[cut] = part
        if outcome.states is not None:
            for number, state in zip(cut, outcome.states, strict=True):
                states[number] = state
        if outcome.guidance is not None:
            for number, own in zip(cut, outcome.guidance, strict=True):
                guidance[number] = own
        for name, spent in outcome.seconds.items():
            seconds[name] = seconds.get(name, 0.0) + spent
    for note in dict.fromkeys(note for outcome in outcomes for note in outcome.notes):
        warnings.warn(note, stacklevel=4)
    return Trained(evaluations, states, seconds, guidance)


def _out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory was asked for in vain, on a device or not."""
    named = isinstance(error, MemoryError | torch.cuda.OutOfMemoryError)
    return named or any(words in str(error) for words in NO_MEMORY)
