"""Fitness: how good a mask is. Larger is better.

A fitness is any callable from ``(population, weights)`` bool masks to ``(population,)`` floats. One that
names a parameter ``tickets`` is given the tickets (initialization, lineage), one that names ``round`` the
evaluation round, i.e. the generation. It may return :class:`~ticketsearch.tickets.Scores` to have further
measures recorded. What is not finite counts as diverged.
"""

from __future__ import annotations

import math
import sys
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ticketsearch.checks import check, checked, is_integer
from ticketsearch.cost import Spent
from ticketsearch.datasets import Dataset
from ticketsearch.errors import BadInput, unknown
from ticketsearch.fitness.trainer import Order, Trainer
from ticketsearch.fitness.untrained import Untrained
from ticketsearch.halving import Climb, climb, parse_steps
from ticketsearch.masks import Guidance, Mask, check_masks, digest
from ticketsearch.models import Initialization, Network
from ticketsearch.plugins import call, check_call, check_options, listed, one_line, parameters_of, resolve
from ticketsearch.random_streams import Stream, seed_sequence
from ticketsearch.tickets import Scores, Ticket
from ticketsearch.training import (
    MASKINGS,
    SALIENCIES,
    Evaluation,
    Recipe,
    State,
    check_batch,
    check_independence,
    check_noise,
    check_normalisation,
    find_device,
)
from ticketsearch.training.recipe import is_number

# The fitnesses that have a name; ShortTraining and build_fitness are importable beside them.
__all__ = ["short_training", "untrained"]

# Evaluations of single masks that are remembered, and fewer where each has guidance.
REMEMBERED, GUIDED = 2**14, 2**9
# The samples that scores are of.
SCORED = ("validation", "pooled")


class Known(NamedTuple):
    """What has been evaluated: loss and accuracy of each pass, and the guidance, if it did not diverge."""

    passes: tuple[tuple[float, float], ...]
    guidance: Guidance | None


class Fitness(Protocol):
    """Any callable of this shape; extra parameters ``tickets`` and ``round`` are given where named."""

    def __call__(self, masks: Mask, /) -> ArrayLike | Scores:
        """Return ``(population,)`` floats, larger is better, for ``(population, weights)`` bool masks."""


class ShortTraining:
    """Fitness by a short training: minus the mean loss on validation samples (cross-entropy, nats).

    A mask's score depends on its initialization, the data order and the recipe alone, not on what it is
    trained with, nor on where. What has been evaluated once is not trained again.

    Parameters
    ----------
    network : its parameters are the shared initialization θ₀.
    dataset : trained on its training part, scored on its validation part.
    steps : optimizer steps of an evaluation, or a ladder of them such as ``"50,200,800"`` or
        ``[50, 200, 800]``: see :func:`~ticketsearch.halving.climb`.
    batch, optimizer, lr, momentum, weight_decay, lr_schedule : see :class:`~ticketsearch.training.Recipe`.
    workers : how many cohorts are trained side by side, one core each; changes no score.
    seed : with the evaluation round it gives the data order, common to all masks of a round.
    device : ``auto`` (CUDA where there is one), ``cpu``, ``cuda`` or ``cuda:N``.
    dtype : ``float32`` or ``float64``.
    precision : of products in training: see :class:`~ticketsearch.training.Recipe`.
    initialization : ``shared`` trains every mask from the network's θ₀, ``own`` from its ticket's.
    masking : ``parameter``, ``gradient`` or ``forward``; see :mod:`ticketsearch.training.mask_modes`. The
        score is that of the forward pass that training uses: under ``gradient`` of all weights.
    scored : the samples of the score: those of ``validation``, or these ``pooled`` with the training part.
        A search of many evaluations fits itself to the validation samples, which is harder with all.
    backend, address : where workers are: ``loky`` (processes of this machine), ``threads``, or the ``dask``
        or ``ray`` cluster at an address; see :class:`~ticketsearch.workers.Spread`.
    candidates : weights worth growing that the guidance of a mask names, as a share of its kept weights; None
        gives no guidance. See :mod:`ticketsearch.masks.guidance`.
    saliency : what guidance goes by: ``magnitude`` of trained weights and of gradients, ``curvature`` of the
        loss, or ``mixed``: it prunes by the one and grows by the other.
    """

    @checked
    def __init__(
        self,
        network: Network,
        dataset: Dataset,
        steps: int | str | Sequence[int] = 200,
        batch: int = 128,
        optimizer: str = "sgd",
        lr: float = 0.05,
        momentum: float = 0.9,
        workers: int = 1,
        seed: int = 0,
        device: str = "auto",
        *,
        weight_decay: float = 0.0,
        lr_schedule: str = "constant",
        dtype: Literal["float32", "float64"] = "float32",
        precision: str = "float32",
        initialization: Literal["shared", "own"] = "shared",
        masking: str = "parameter",
        scored: str = "validation",
        backend: str = "loky",
        address: str | None = None,
        candidates: float | None = None,
        saliency: str = "magnitude",
    ) -> None:
        check("network", network, Network)
        check("dataset", dataset, Dataset)
        if candidates is not None and (not is_number(candidates) or not 0 <= candidates < math.inf):
            raise BadInput(f"candidates are a share of the kept weights, >= 0, but got {candidates!r}")
        if scored not in SCORED:
            raise unknown("scored", scored, SCORED)
        if saliency not in SALIENCIES:
            raise unknown("saliency", saliency, SALIENCIES)
        if initialization not in ("shared", "own"):
            raise BadInput(f"initialization must be shared or own, but got {initialization!r}")
        if dtype not in ("float32", "float64"):
            raise BadInput(f"dtype must be float32 or float64, but got {dtype!r}")
        if dtype == "float64" and precision != "float32":
            raise BadInput(f"precision {precision!r} is for dtype float32, but got float64; leave one out")
        if dataset.input_shape != network.input_shape or dataset.classes != network.classes:
            raise BadInput(
                f"the network takes {network.input_shape} and {network.classes} classes, but dataset "
                f"{dataset.name!r} has {dataset.input_shape} and {dataset.classes}"
            )
        # Final, as what has been evaluated is remembered for as long as this lives: see _Ascent._key.
        self.network: Final = network
        self.dataset: Final = dataset
        if precision == "tf32" and find_device(device).type != "cuda":
            raise BadInput(
                f"precision 'tf32' needs a CUDA device, but got {find_device(device)}; "
                "take float32 or bfloat16"
            )
        self.rungs: Final = parse_steps(steps)
        self.recipe: Final = Recipe(
            self.rungs[-1], batch, optimizer, lr, momentum, weight_decay, lr_schedule, masking, precision
        )
        self.seed: Final = seed
        self.initialization: Final = initialization
        self.candidates: Final = candidates
        self.saliency: Final = saliency
        self.scored: Final = scored
        check_batch(len(dataset.y_train), self.recipe)
        check_normalisation(network.wiring, self.recipe)
        check_noise(network.wiring)
        check_independence(network.wiring, network.input_shape)
        seed_sequence(seed, Stream.ROUND)  # refuses what is no seed
        self.trainer: Final = Trainer(
            network,
            dataset,
            device=device,
            dtype=dtype,
            workers=workers,
            backend=backend,
            address=address,
        )
        self._memo: OrderedDict[Any, Known] = OrderedDict()

    def __call__(
        self, masks: ArrayLike, *, tickets: Sequence[Ticket] | None = None, round: int = 0
    ) -> Scores:
        """Return scores ``(population,)`` of masks ``(population, weights)``: minus the mean loss.

        Their ``measures`` hold the validation ``accuracy`` of each masked network, in [0, 1], and where
        other weights than the kept ones are not zero also the ``dense_accuracy`` of all weights. On a ladder
        they also carry ``rungs`` and ``agreements``; where candidates are asked for, the ``guidance`` of the
        last training of each. ``phases`` are seconds of training, of validation, and of waiting for workers.
        Raises :class:`BadInput` for masks of another network, tickets that carry other initializations than
        this fitness trains from, or a round that is no number of one.
        """
        if not is_integer(round) or round < 0:
            raise BadInput(f"round must be an integer >= 0, but got {round!r}")
        checked = check_masks(masks, self.network.spec)
        rule = MASKINGS[self.recipe.masking]
        passes = (None,) if rule.only_kept else (True, False)
        ascent = _Ascent(self, checked, self._initializations(len(checked), tickets), round, passes)
        if len(self.rungs) == 1:
            values = ascent(np.arange(len(checked)), 0)
            found = Climb(np.zeros(len(checked), dtype=np.int64), values, [])
        else:
            rng = np.random.default_rng(seed_sequence(self.seed, Stream.LADDER, round))
            found = climb(len(checked), self.rungs, ascent, rng)
        names = ("accuracy",) if rule.only_kept else ("accuracy", "dense_accuracy")
        each = np.arange(len(checked))
        return Scores(
            found.score,
            {name: ascent.accuracy[found.rung, number, each] for number, name in enumerate(names)},
            rungs=None if len(self.rungs) == 1 else np.array(self.rungs)[found.rung],
            agreements=found.agreements,
            phases=ascent.seconds,
            guidance=None if self.candidates is None else ascent.guidance,
            spent=ascent.spent,
        )

    def trained(
        self,
        masks: Mask,
        recipe: Recipe,
        orders: Sequence[Order],
        *,
        tickets: Sequence[Ticket] | None = None,
        part: Literal["validation", "test"] = "validation",
    ) -> Evaluation:
        """Train masks ``(P, weights)`` with one data order for all or one for each; evaluate on ``part``.

        A data order is given as ``(steps, batch)`` sample numbers, which go whole to other processes, or by
        its ``SeedSequence``. What is evaluated is the forward pass that training uses. Parameters are taken
        from the tickets' initializations under ``own``, else from the network.
        """
        wanted = self._initializations(len(masks), tickets)
        return self.trainer.train(masks, wanted, orders, recipe, part=part).evaluations[0]

    def remembered(self, key: Any) -> Known | None:
        """Return what is known under a key, if it is remembered."""
        return self._memo.get(key)

    def remember(self, key: Any, known: Known) -> None:
        """Remember what has been evaluated, and forget the oldest where there is too much."""
        self._memo[key] = known
        if len(self._memo) > (REMEMBERED if self.candidates is None else GUIDED):
            self._memo.popitem(last=False)

    def _initializations(self, masks: int, tickets: Sequence[Ticket] | None) -> list[Initialization]:
        """Return what is trained from, one for all or one a mask.

        Refuses tickets whose initializations are not those that this fitness trains from.
        """
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
        if self.initialization == "shared" or tickets is None:
            return [self.network.initialization]
        return [ticket.initialization for ticket in tickets if ticket.initialization is not None]


class _Ascent:
    """One population on its way up the rungs.

    ``accuracy`` is ``(rungs, passes, population)``, NaN where a mask did not come; ``seconds`` and ``spent``
    are summed up; ``guidance`` is that of each mask's last training.
    """

    def __init__(
        self,
        fitness: ShortTraining,
        masks: Mask,
        initializations: list[Initialization],
        round: int,
        passes: tuple[bool | None, ...],
    ) -> None:
        self.fitness = fitness
        self.masks = masks
        self.initializations = initializations
        self.round = round
        self.passes = passes
        # The pass that training uses, and the score is of.
        self.own = 1 if MASKINGS[fitness.recipe.masking].dense else 0
        self.accuracy = np.full((len(fitness.rungs), len(passes), len(masks)), np.nan)
        self.seconds: dict[str, float] = {}
        self.spent = Spent()
        self.guidance: list[Guidance | None] = [None] * len(masks)
        self._found: dict[Any, Known] = {}
        self._states: dict[Any, State | None] = {}  # by key at the first rung, as equal masks share one
        self._digests = [digest(mask) for mask in masks]

    def __call__(self, positions: NDArray[np.int64], rung: int) -> NDArray[np.float64]:
        """Train the masks at ``positions`` on to a rung; return their scores ``(n,)``."""
        fitness = self.fitness
        keys = {number: self._key(number, rung) for number in positions.tolist()}
        missing = {}  # each mask once
        for number, key in keys.items():
            known = fitness.remembered(key)
            if known is not None:
                self._found[key] = known
            elif key not in missing:
                missing[key] = number
        if missing:
            self._train(list(missing.values()), rung)
        scores = np.empty(len(positions))
        for place, (number, key) in enumerate(keys.items()):
            found = self._found[key]
            scores[place] = -found.passes[self.own][0]
            self.accuracy[rung, :, number] = [accuracy for _, accuracy in found.passes]
            self.guidance[number] = found.guidance
        return scores

    def _train(self, numbers: list[int], rung: int) -> None:
        fitness, rungs = self.fitness, self.fitness.rungs
        shared = len(self.initializations) == 1
        trained = fitness.trainer.train(
            self.masks[numbers],
            self.initializations if shared else [self.initializations[number] for number in numbers],
            [seed_sequence(fitness.seed, Stream.ROUND, self.round)],
            fitness.recipe,
            until=rungs[rung],
            passes=self.passes,
            states=[self._states.get(self._key(number, 0)) for number in numbers],
            done=rungs[rung - 1] if rung else 0,
            keeps_states=rung + 1 < len(rungs),
            candidates=fitness.candidates,
            saliency=fitness.saliency,
            pooled=fitness.scored == "pooled",
        )
        for place, number in enumerate(numbers):
            self._states[self._key(number, 0)] = trained.states[place]
            key = self._key(number, rung)
            each = ((float(e.loss[place]), float(e.accuracy[place])) for e in trained.evaluations)
            self._found[key] = Known(tuple(each), trained.guidance[place])
            fitness.remember(key, self._found[key])
        self.spent += trained.spent
        for name, seconds in trained.seconds.items():
            self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    def _key(self, number: int, rung: int) -> Any:
        """Return everything that an evaluation depends on, but for what a fitness keeps for life.

        A memo is of one fitness, whose network, data, seed, recipe, precision and device never change; one
        that is shared or saved would need them in its keys.
        """
        initialization = self.initializations[0 if len(self.initializations) == 1 else number]
        return self._digests[number], initialization, self.round, self.fitness.rungs[rung]


def short_training(network: Network, dataset: Dataset, **options: Any) -> ShortTraining:
    """Build :class:`ShortTraining`, the fitness that a search uses unless told otherwise."""
    check_options(ShortTraining, options, "fitness", "short_training")
    return ShortTraining(network, dataset, **options)


def untrained(network: Network, dataset: Dataset, **options: Any) -> Untrained:
    """Build :class:`~ticketsearch.fitness.untrained.Untrained`, the fitness of strong tickets."""
    check_options(Untrained, options, "fitness", "untrained")
    return Untrained(network, dataset, **options)


def build_fitness(
    name: str, network: Network, dataset: Dataset, run_seed: int = 0, **options: Any
) -> Callable[..., Any]:
    """Build the fitness that ``name`` stands for: a listed one, or ``file.py:build``.

    ``build(network, dataset, **options)`` returns the callable; one that names ``seed`` is given
    ``run_seed`` unless the options say otherwise.
    """
    build = resolve(name, listed(sys.modules[__name__]), "fitness", ("network", "dataset"))
    if "seed" in parameters_of(build):
        options = {"seed": run_seed, **options}
    check_options(build, options, "fitness", name)
    check_call(build, "fitness", name, "build(network, dataset, **options)", 2, options)
    try:
        fitness = call(build, "fitness", name, network, dataset, **options)
    except BadInput:
        raise
    except Exception as error:  # a function of the user's may raise anything
        raise BadInput(f"fitness {name!r} cannot be built ({one_line(error)})") from error
    if not callable(fitness):
        raise BadInput(f"fitness {name!r} must build a callable, but built {type(fitness).__name__}")
    return fitness  # type: ignore[no-any-return]
