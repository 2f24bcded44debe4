"""Short training: the default fitness, minus the loss of a masked network after some optimizer steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ticketsearch.checks import check, checked, is_integer
from ticketsearch.cost import Spent
from ticketsearch.datasets import Dataset
from ticketsearch.errors import BadInput
from ticketsearch.fitness.deprecated import accepts_old_keywords
from ticketsearch.fitness.jobs import Order, Outcome, Stage
from ticketsearch.fitness.memo import Evaluated, EvaluationKey, Memo, Observer
from ticketsearch.fitness.options import EvaluationOptions
from ticketsearch.fitness.trainer import Trainer
from ticketsearch.halving import HalvingResult, parse_steps, successive_halving
from ticketsearch.masks import Guidance, Mask, check_masks, digest
from ticketsearch.models import Initialization, Network
from ticketsearch.random_streams import Stream, seed_sequence
from ticketsearch.tickets import Scores, Ticket
from ticketsearch.training import (
    MASKINGS,
    Evaluation,
    Recipe,
    State,
    check_batch,
    check_independence,
    check_noise,
    check_normalisation,
    find_device,
)

__all__ = ["ShortTraining"]


class ShortTraining:
    """Fitness by a short training: minus the mean loss on validation samples (cross-entropy, nats).

    A mask's score depends on its initialization, the data order and the recipe alone, neither on the masks
    that are trained with it nor on the place. A memo keeps evaluations, so that none is repeated.

    Parameters
    ----------
    network : its parameters are the shared initialization θ₀.
    dataset : masks are trained on its training part and scored on its validation part.
    steps : optimizer steps of an evaluation, in place of the recipe's, or the rungs of successive halving,
        such as ``"50,200,800"`` or ``[50, 200, 800]``: see
        :func:`~ticketsearch.halving.successive_halving`. None takes the recipe's steps, by default 200.
    seed : with the evaluation round it gives the data order, common to all masks of a round.
    recipe : optimizer, learning rate, masking and precision, by default ``Recipe()``. The score is that of
        the forward pass that training uses: under masking ``gradient`` of all weights.
    options : samples, initialization, guidance and workers, by default ``EvaluationOptions()``.

    Raises :class:`BadInput` for data of another shape than the network's, and for a recipe or options that
    the network, the data or the device cannot follow.
    """

    @accepts_old_keywords
    @checked
    def __init__(
        self,
        network: Network,
        dataset: Dataset,
        *,
        steps: int | str | Sequence[int] | None = None,
        seed: int = 0,
        recipe: Recipe | None = None,
        options: EvaluationOptions | None = None,
    ) -> None:
        check("network", network, Network)
        check("dataset", dataset, Dataset)
        check("recipe", recipe, Recipe | None)
        check("options", options, EvaluationOptions | None)
        recipe, options = recipe or Recipe(), options or EvaluationOptions()
        dataset.check_fits(network)
        _check_precision(recipe, options)
        # Final, since the memo holds evaluations for as long as this lives: see EvaluationKey.
        self.network: Final = network
        self.dataset: Final = dataset
        self.rungs: Final = parse_steps(recipe.steps if steps is None else steps)
        self.recipe: Final = replace(recipe, steps=self.rungs[-1])
        self.options: Final = options
        self.seed: Final = seed
        check_batch(len(dataset.y_train), self.recipe)
        check_normalisation(network.wiring, self.recipe)
        check_noise(network.wiring)
        check_independence(network.wiring, network.input_shape)
        seed_sequence(seed, Stream.ROUND)  # refuses an invalid seed
        self.trainer: Final = Trainer(
            network,
            dataset,
            device=options.device,
            dtype=options.dtype,
            workers=options.workers,
            backend=options.backend,
            address=options.address,
        )
        self.memo: Final = Memo(guided=options.candidates is not None)
        self.observer: Observer | None = None

    def __call__(
        self, masks: ArrayLike, *, tickets: Sequence[Ticket] | None = None, round: int = 0
    ) -> Scores:
        """Return scores ``(population,)`` of masks ``(population, weights)``: minus the mean loss.

        Their ``measures`` hold the validation ``accuracy`` of each masked network, in [0, 1], and under a
        masking that moves pruned weights also the ``dense_accuracy`` of all weights. Successive halving adds
        ``rungs`` and ``agreements``; candidates add the ``guidance`` of each mask's last training.
        ``phases`` are seconds of training, of validation, and of waiting for workers.

        Raises :class:`BadInput` for masks of another network, tickets that carry other initializations than
        this fitness trains from, or an invalid round.
        """
        if not is_integer(round) or round < 0:
            raise BadInput(f"round must be an integer >= 0, but got {round!r}")
        population = check_masks(masks, self.network.spec)
        only_kept = MASKINGS[self.recipe.masking].only_kept
        passes = {"accuracy": None} if only_kept else {"accuracy": True, "dense_accuracy": False}
        run = _HalvingRun(
            self, population, self._initializations(len(population), tickets), round, tuple(passes.values())
        )
        indices = np.arange(len(population))
        if len(self.rungs) == 1:
            result = HalvingResult(np.zeros(len(population), dtype=np.int64), run(indices, 0), [])
        else:
            rng = np.random.default_rng(seed_sequence(self.seed, Stream.HALVING, round))
            result = successive_halving(len(population), self.rungs, run, rng)
        return Scores(
            result.score,
            {name: run.accuracy[result.rung, index, indices] for index, name in enumerate(passes)},
            rungs=None if len(self.rungs) == 1 else np.array(self.rungs)[result.rung],
            agreements=result.agreements,
            phases=run.seconds,
            guidance=None if self.options.candidates is None else run.guidance,
            spent=run.spent,
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

        A data order is an array ``(steps, batch)`` of sample indices, which goes whole to other processes, or
        its ``SeedSequence``. The evaluation uses the forward pass of training. Initial parameters are those
        of the tickets' initializations under ``own``, else of the network.
        """
        initializations = self._initializations(len(masks), tickets)
        trained = self.trainer.train(masks, initializations, orders, recipe, Stage(part=part))
        return trained.evaluations[0]

    def _initializations(self, masks: int, tickets: Sequence[Ticket] | None) -> list[Initialization]:
        """Return the initializations of the training, one for all or one for each mask.

        Raises :class:`BadInput` for tickets with other initializations than this fitness trains from.
        """
        shared, start = self.options.initialization == "shared", self.network.initialization
        if not shared and (tickets is None or any(t.initialization is None for t in tickets)):
            raise BadInput("initialization 'own' needs tickets that carry an initialization")
        if tickets is not None and len(tickets) != masks:
            raise BadInput(f"tickets must be one for each mask ({masks}), but got {len(tickets)}")
        others = {ticket.initialization for ticket in tickets or ()} - {None, start}
        if shared and others:
            raise BadInput(
                f"tickets are to be trained from {others.pop()}, but this fitness trains all from {start}; "
                "give it options=ts.EvaluationOptions(initialization='own')"
            )
        if shared or tickets is None:
            return [start]
        return [ticket.initialization for ticket in tickets if ticket.initialization is not None]


def _check_precision(recipe: Recipe, options: EvaluationOptions) -> None:
    """Raise :class:`BadInput` for a precision that the type of the weights or the device does not allow."""
    if options.dtype == "float64" and recipe.precision != "float32":
        raise BadInput(f"precision {recipe.precision!r} is for dtype float32, but got float64; leave one out")
    device = find_device(options.device)
    if recipe.precision == "tf32" and device.type != "cuda":
        raise BadInput(f"precision 'tf32' needs a CUDA device, but got {device}; take float32 or bfloat16")


class _HalvingRun:
    """Evaluation of one population, rung by rung.

    Attributes
    ----------
    accuracy : ``(rungs, passes, population)``, NaN where a mask did not reach a rung.
    seconds, spent : summed over the rungs.
    guidance : of each mask's last training.
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
        # The pass of training, which gives the score.
        self.scored_pass = 1 if MASKINGS[fitness.recipe.masking].dense else 0
        self.accuracy = np.full((len(fitness.rungs), len(passes), len(masks)), np.nan)
        self.seconds: dict[str, float] = {}
        self.spent = Spent()
        self.guidance: list[Guidance | None] = [None] * len(masks)
        self._evaluated: dict[EvaluationKey, Evaluated] = {}
        self._states: dict[Any, State | None] = {}  # by key at the first rung, as equal masks share one
        self._digests = [digest(mask) for mask in masks]

    def __call__(self, positions: NDArray[np.int64], rung: int) -> NDArray[np.float64]:
        """Train the masks at ``positions`` on to a rung; return their scores ``(n,)``."""
        keys = {index: self._key(index, rung) for index in positions.tolist()}
        missing: dict[Any, int] = {}  # equal masks once
        for index, key in keys.items():
            evaluated = self.fitness.memo.get(key)
            if evaluated is not None:
                self._evaluated[key] = evaluated
            else:
                missing.setdefault(key, index)
        restored = {
            key: index
            for index, key in keys.items()
            if key not in missing and self.fitness.memo.first_use(key)
        }
        if restored:
            self.spent += self.fitness.trainer.cost(
                self.masks[list(restored.values())], self.fitness.recipe, self._stage(rung)
            )
        if missing:
            self._train(list(missing.values()), rung, done=len(positions) - len(missing))
        scores = np.empty(len(positions))
        for place, (index, key) in enumerate(keys.items()):
            evaluated = self._evaluated[key]
            scores[place] = -evaluated.passes[self.scored_pass][0]
            self.accuracy[rung, :, index] = [accuracy for _, accuracy in evaluated.passes]
            self.guidance[index] = evaluated.guidance
        return scores

    def _stage(self, rung: int) -> Stage:
        rungs, options = self.fitness.rungs, self.fitness.options
        return Stage(
            begin=rungs[rung - 1] if rung else 0,
            until=rungs[rung],
            keeps_states=rung + 1 < len(rungs),
            passes=self.passes,
            pooled=options.scored == "pooled",
            candidates=options.candidates,
            saliency=options.saliency,
        )

    def _train(self, indices: list[int], rung: int, done: int) -> None:
        """Train masks on to a rung; ``done`` others are known already."""
        fitness = self.fitness
        shared = len(self.initializations) == 1
        total = done + len(indices)

        def arrived(places: list[int], outcome: Outcome) -> None:
            nonlocal done
            done += len(places)
            if fitness.observer is not None:
                made = {
                    self._key(indices[place], rung): _evaluated(
                        outcome.evaluations, outcome.guidance, position
                    )
                    for position, place in enumerate(places)
                }
                fitness.observer(made, done, total)

        trained = fitness.trainer.train(
            self.masks[indices],
            self.initializations if shared else [self.initializations[index] for index in indices],
            [seed_sequence(fitness.seed, Stream.ROUND, self.round)],
            fitness.recipe,
            self._stage(rung),
            states=[self._states.get(self._key(index, 0)) for index in indices],
            arrived=arrived,
        )
        for place, index in enumerate(indices):
            self._states[self._key(index, 0)] = trained.states[place]
            key = self._key(index, rung)
            self._evaluated[key] = _evaluated(trained.evaluations, trained.guidance, place)
            fitness.memo.add(key, self._evaluated[key])
        self.spent += trained.spent
        for name, seconds in trained.seconds.items():
            self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    def _key(self, index: int, rung: int) -> EvaluationKey:
        initialization = self.initializations[0 if len(self.initializations) == 1 else index]
        return EvaluationKey(self._digests[index], initialization, self.round, self.fitness.rungs[rung])


def _evaluated(
    evaluations: Sequence[Evaluation], guidance: Sequence[Guidance | None] | None, place: int
) -> Evaluated:
    """Return the evaluation of one mask, by its place among those that were trained with it."""
    passes = tuple((float(e.loss[place]), float(e.accuracy[place])) for e in evaluations)
    return Evaluated(passes, None if guidance is None else guidance[place])
