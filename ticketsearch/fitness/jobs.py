"""Jobs: parts of a population, each trained and evaluated in one process, and the runner that does them.

A job holds masks of one layout, i.e. of one tensor program where networks are dense. It names everything by
name or seed, so it is small, and its outcome depends neither on the place nor on the jobs beside it.
"""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from ticketsearch.datasets import PARTS, Dataset
from ticketsearch.errors import BadInput, unknown
from ticketsearch.masks import Guidance, unpack
from ticketsearch.models import Initialization, Network
from ticketsearch.training import (
    MASKINGS,
    SALIENCIES,
    Cohort,
    Evaluation,
    Recipe,
    State,
    Training,
    TrainingPart,
    data_order,
    evaluate,
    resident,
)
from ticketsearch.workers import check_stopped

__all__ = ["Job", "JobRunner", "Order", "Outcome", "Stage", "state_bytes"]

# Initializations whose tensors a runner keeps.
INITIALIZATIONS = 64
# Substrings of allocation errors.
NO_MEMORY = ("can't allocate memory", "out of memory", "ALLOC_FAILED", "bad_alloc")

# Initial parameters and buffers by name.
Tensors = dict[str, torch.Tensor]
# A data order, or the seed of one.
Order = np.random.SeedSequence | NDArray[np.int64]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage of a training, from step ``begin`` to step ``until``, and the evaluation at its end.

    Attributes
    ----------
    begin : number of steps that the given states have behind them.
    until : step to stop at; None is the recipe's last one.
    keeps_states : whether the states at its end are returned: another stage goes on from them, and they
        hold the trained weights.
    part : part of the dataset for the evaluation, ``train``, ``validation`` or ``test``.
    passes : forward passes to evaluate, each the ``masked`` of :func:`~ticketsearch.training.evaluate`.
    pooled : whether losses, not accuracies, are means over ``part`` and the training part together.
    candidates : number of weights that guidance names for growth, as a share of the kept weights; None gives
        no guidance.
    saliency : scores of guidance, ``magnitude``, ``curvature`` or ``mixed``.

    Raises :class:`BadInput` for a stage that ends before it begins, or an unknown part or saliency.
    """

    begin: int = 0
    until: int | None = None
    keeps_states: bool = False
    part: str = "validation"
    passes: tuple[bool | None, ...] = (None,)
    pooled: bool = False
    candidates: float | None = None
    saliency: str = "magnitude"

    def __post_init__(self) -> None:
        if self.part not in PARTS:
            raise unknown("part", self.part, PARTS)
        if self.saliency not in SALIENCIES:
            raise unknown("saliency", self.saliency, SALIENCIES)
        if self.begin < 0 or (self.until is not None and self.until < self.begin):
            raise BadInput(
                f"a stage must begin at a step >= 0 and end no earlier, but got begin={self.begin} and "
                f"until={self.until}"
            )


@dataclass(frozen=True)
class Job:
    """Masks to be trained for one stage, and evaluated.

    Attributes
    ----------
    masks : packed and compressed, one for each network.
    initializations : initializations, one for all or one for each.
    orders : data orders, one for all or one for each.
    recipe : of the training.
    stage : steps to train, and how to evaluate.
    states : states to go on from, one for each; None trains from the beginning.
    largest_state : bytes above which a state is not kept after all; None keeps any.
    """

    masks: tuple[bytes, ...]
    initializations: tuple[Initialization, ...]
    orders: tuple[Order, ...]
    recipe: Recipe
    stage: Stage
    states: tuple[State | None, ...] | None = None
    largest_state: int | None = None

    def of(self, indices: Sequence[int]) -> Job:
        """Return the job of some of the masks.

        Where one of their states is missing, all are trained from the beginning, to the same result.
        """

        def chosen(values: tuple[T, ...]) -> tuple[T, ...]:
            return tuple(values[i] for i in indices) if len(values) == len(self.masks) else values

        states = None if self.states is None else chosen(self.states)
        if states is not None and any(state is None for state in states):
            states = None
        return replace(
            self,
            masks=chosen(self.masks),
            initializations=chosen(self.initializations),
            orders=chosen(self.orders),
            stage=self.stage if states is not None else replace(self.stage, begin=0),
            states=states,
        )

    def halves(self) -> list[Job]:
        """Return two jobs of half the masks each."""
        middle, count = len(self.masks) // 2, len(self.masks)
        return [self.of(range(middle)), self.of(range(middle, count))]


class Outcome(NamedTuple):
    """Outcome of a job.

    Attributes
    ----------
    evaluations : one for each pass, over the job's masks.
    states : one for each mask if they are kept, None for a state that is too large.
    seconds : of ``training`` and ``validation``.
    guidance : one for each mask if it is asked for, None for one that diverged.
    notes : lines to be shown.
    """

    evaluations: list[Evaluation]
    states: list[State | None] | None
    seconds: dict[str, float]
    guidance: list[Guidance | None] | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def joined(cls, outcomes: Sequence[Outcome], notes: tuple[str, ...] = ()) -> Outcome:
        """Return the outcome of several jobs of one stage as of one job, with further notes first."""

        def chained(lists: Sequence[list[T] | None]) -> list[T] | None:
            return [value for values in lists if values is not None for value in values]

        first = outcomes[0]
        return cls(
            [
                Evaluation(*(np.concatenate(column) for column in zip(*parts, strict=True)))
                for parts in zip(*(outcome.evaluations for outcome in outcomes), strict=True)
            ],
            None if first.states is None else chained([outcome.states for outcome in outcomes]),
            {name: sum(outcome.seconds[name] for outcome in outcomes) for name in first.seconds},
            None if first.guidance is None else chained([outcome.guidance for outcome in outcomes]),
            tuple(dict.fromkeys([*notes, *(note for outcome in outcomes for note in outcome.notes)])),
        )


class JobRunner:
    """Runs jobs on a network and its data on one device, one at a time or in threads.

    Parameters
    ----------
    network, dataset : of the fitness.
    device, dtype : place and precision of the training.
    """

    def __init__(self, network: Network, dataset: Dataset, device: torch.device, dtype: torch.dtype) -> None:
        self.network = network
        self.dataset = dataset
        self.device = device
        self.dtype = dtype
        self._tensors: dict[Initialization, Tensors] = {}
        self._parts: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def initial(self, initializations: Sequence[Initialization]) -> list[Tensors]:
        """Return initial parameters and buffers.

        New initializations are not for threads: building a network seeds torch's global generator.
        """
        for initialization in dict.fromkeys(initializations):
            if initialization not in self._tensors:
                network = self.network.reinitialized(*initialization)
                self._tensors[initialization] = {**network.parameters(), **network.buffers()}
                if len(self._tensors) > max(INITIALIZATIONS, len(initializations)):
                    unused = next(known for known in self._tensors if known not in initializations)
                    del self._tensors[unused]
        return [self._tensors[initialization] for initialization in initializations]

    def resident(self, part: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Return samples and labels of a part on the device, where they stay."""
        if part not in self._parts:
            x, y = self.dataset.part(part)
            samples = resident(x, flat=self.network.wiring.dense, device=self.device, dtype=self.dtype)
            self._parts[part] = samples, y.to(self.device)
        return self._parts[part]

    def run(self, job: Job) -> Outcome:
        """Run a job; one that does not fit into memory is run in halves, which changes no result.

        Raises :class:`BadInput` where one mask alone does not fit.
        """
        torch.set_num_threads(1)  # of this thread, which may not be the main one
        try:
            return self._run_once(job)
        except (RuntimeError, MemoryError) as error:
            if not _out_of_memory(error):
                raise
            if len(job.masks) == 1:
                raise BadInput(
                    f"one network at a time must fit into the memory of {self.device}, but does not; take a "
                    "smaller batch or model, or another device"
                ) from error
        # After the handler: the exception holds the tensors that did not fit.
        return self._halved(job)

    def _halved(self, job: Job) -> Outcome:
        """Run the halves of a job that does not fit into memory."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        note = f"{len(job.masks)} networks at once do not fit into the memory of {self.device}: halved"
        return Outcome.joined([self.run(half) for half in job.halves()], (note,))

    def _run_once(self, job: Job) -> Outcome:
        stage, start = job.stage, time.perf_counter()
        cohort, training = self._trained(job)
        states: list[State | None] | None = None
        if stage.keeps_states:
            most = math.inf if job.largest_state is None else job.largest_state
            states = [state if state_bytes(state) <= most else None for state in training.states()]
        guidance = None
        if stage.candidates is not None:
            guidance = training.guidance(stage.candidates, stage.saliency)
        middle = time.perf_counter()
        evaluations = [self._evaluation(cohort, stage, masked) for masked in stage.passes]
        seconds = {"training": middle - start, "validation": time.perf_counter() - middle}
        return Outcome(evaluations, states, seconds, guidance)

    def weights(self, job: Job) -> Tensors:
        """Return parameters and buffers of the one network of a job at the end of its stage, on the CPU.

        Weights are those of the forward pass of training: masked, except under a masking that leaves the mask
        out of it.
        """
        cohort, _ = self._trained(job)
        tensors = {**cohort.parameters(), **cohort.buffers()}
        named = {name: tensor[0].detach().cpu() for name, tensor in tensors.items()}
        if not MASKINGS[job.recipe.masking].dense:
            mask = unpack(zlib.decompress(job.masks[0]), self.network.spec)
            for name, kept in self.network.spec.split(mask).items():
                named[name] = named[name] * torch.from_numpy(kept.copy())
        return named

    def _trained(self, job: Job) -> tuple[Cohort, Training]:
        """Return the cohort of a job, trained to the end of its stage, and its training."""
        x, y = self.resident("train")
        cohort = Cohort(
            self.network.wiring,
            np.stack([unpack(zlib.decompress(mask), self.network.spec) for mask in job.masks]),
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
            training.restore([state for state in job.states if state is not None], job.stage.begin)
        until = job.recipe.steps if job.stage.until is None else job.stage.until
        training.advance(until, between=check_stopped)
        return cohort, training

    def _evaluation(self, cohort: Cohort, stage: Stage, masked: bool | None) -> Evaluation:
        """Return loss and accuracy of one pass on the stage's part, the loss pooled if asked for."""
        x, y = self.resident(stage.part)
        evaluation = evaluate(cohort, x, y, masked=masked)
        if not stage.pooled:
            return evaluation
        x_train, y_train = self.resident("train")
        training_loss = evaluate(cohort, x_train, y_train, masked=masked).loss
        share = len(y_train) / (len(y_train) + len(y))
        return evaluation._replace(loss=share * training_loss + (1 - share) * evaluation.loss)


def state_bytes(state: State | None) -> int:
    """Return the bytes of a state's arrays."""
    return 0 if state is None else sum(array.nbytes for array in state.values())


def _out_of_memory(error: Exception) -> bool:
    """Whether an error is a failed allocation, on a device or not."""
    typed = isinstance(error, MemoryError | torch.cuda.OutOfMemoryError)
    return typed or any(words in str(error) for words in NO_MEMORY)
