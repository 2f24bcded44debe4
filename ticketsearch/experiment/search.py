"""A search: settings become a dataset, a network, a first population, operators and a fitness."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any, cast

import numpy as np
import torch
from joblib import cpu_count

from ticketsearch import pruners
from ticketsearch.canonical import Weights
from ticketsearch.cost import Spent
from ticketsearch.datasets import Dataset, load_dataset
from ticketsearch.errors import BadInput
from ticketsearch.evolution import (
    NSGA2,
    DensitySchedule,
    Duplicates,
    Generation,
    LocalSearch,
    Tournament,
    Variation,
    evolve,
)
from ticketsearch.experiment.callbacks import Callback
from ticketsearch.experiment.checks import (
    check_contenders,
    check_evolution,
    check_local_search,
    resolve_operator,
)
from ticketsearch.experiment.objects import Objects
from ticketsearch.experiment.unfinished import Unfinished, restore_evaluations
from ticketsearch.fitness import ShortTraining, build_fitness, recipe_and_options
from ticketsearch.masks import Mask, MaskSpec
from ticketsearch.models import Initialization, Network, initialize
from ticketsearch.plugins import parameters_of
from ticketsearch.pruners import check_density
from ticketsearch.runs import Run
from ticketsearch.seeding import fill_population, initializations, prune_copies, saved_tickets
from ticketsearch.settings import Settings, as_list
from ticketsearch.tickets import Seen, Ticket, Tickets, initial_weights
from ticketsearch.training import Recipe, compaction_notes, engine_name, find_device, operations_a_sample

__all__ = ["Search"]

# Densities that each initialization is pruned to for the first population of a Pareto front.
FRONT_SEEDS = 4


@dataclass(frozen=True, eq=False)
class Search:
    """A search that is ready to run: the objects that its settings name.

    Attributes
    ----------
    settings : as given.
    dataset, network : loaded and initialized; the network carries the shared θ₀.
    fitness : masks to scores.
    trainer : the short training of the settings, which is the fitness where that is one.
    final_recipe : of the final training, for any fitness.
    crossover, mutation : the operators, one or several of each.
    objects : those that the settings name ``object:NAME``.
    began : time of a monotonic clock, in seconds, from which a limit of minutes counts.
    """

    settings: Settings
    dataset: Dataset
    network: Network
    fitness: Callable[..., Any]
    trainer: ShortTraining
    final_recipe: Recipe
    crossover: list[Callable[..., Mask]]
    mutation: list[Callable[..., Mask]]
    objects: Objects = field(default_factory=Objects)
    began: float = field(default_factory=time.monotonic)

    @classmethod
    def prepare(
        cls,
        settings: Settings,
        dataset: Dataset | None = None,
        spec: MaskSpec | None = None,
        objects: Objects | None = None,
    ) -> Search:
        """Check all settings, and load and build the objects that they name.

        ``dataset`` is that of the settings where it has been loaded before, ``objects`` are those that
        settings name ``object:NAME``. ``spec`` is the stored one of a run that goes on, by which its keys
        were made: it replaces that of the same network today, which may know more weights that cannot be
        live.

        Raises :class:`BadInput` for any setting that cannot be used.
        """
        objects = objects or Objects()
        objects.check(settings)
        if dataset is None:
            dataset = objects.data or load_dataset(settings.data.name, **settings.data.options)
        first = initializations(1, schemes=settings.seeding.schemes, seed=settings.seed)[0]
        model = objects.model or settings.model.name
        network = initialize(model, dataset, *first, **settings.model.options)
        if objects.model is not None:  # which may have the name of a listed model
            network = replace(network, name=settings.model.name)
        if spec is not None and spec.signature == network.spec.signature:
            network = replace(network, wiring=replace(network.wiring, spec=spec))
        check_density(settings.seeding.density, network.spec)
        check_evolution(settings, network)
        pruners.method_options(as_list(settings.seeding.method), settings.seeding.options)
        check_contenders(settings)
        evolution = settings.evolution
        crossover = [resolve_operator(name, "crossover", ("a", "b")) for name in as_list(evolution.crossover)]
        mutation = [resolve_operator(name, "mutation", ("mask",)) for name in as_list(evolution.mutation)]
        takes_guidance = any("guidance" in parameters_of(operator) for operator in (*crossover, *mutation))
        guided = takes_guidance or evolution.trial or evolution.start_density > 0
        candidates = evolution.candidates if guided else None
        fitness = objects.fitness or _fitness(settings, network, dataset, candidates)
        if settings.fitness.name == "short_training":
            trainer = cast(ShortTraining, fitness)
        else:
            trainer = _short_training(settings, network, dataset)
        final_recipe = replace(trainer.recipe, steps=settings.final.steps)
        search = cls(settings, dataset, network, fitness, trainer, final_recipe, crossover, mutation, objects)
        check_local_search(settings, search.local_search)
        return search

    @cached_property
    def seeds(self) -> Tickets:
        """The mask of each pruner of each initialization, the network's own first; equal masks too."""
        return self._pruned(self.settings.seeding.density)

    @cached_property
    def saved(self) -> Tickets:
        """The saved tickets that join the first population."""
        seeding, initialization = self.settings.seeding, self.settings.training.initialization
        return saved_tickets(seeding.tickets, self.network, seeding.density, own=initialization == "own")

    def _pruned(self, density: float) -> Tickets:
        seeding, seed = self.settings.seeding, self.settings.seed
        copies = initializations(seeding.initializations, schemes=seeding.schemes, seed=seed)[1:]
        # Initializations of saved tickets are pruned as well: a winner is compared with a mask of its own.
        trained = {ticket.initialization for ticket in self.saved if ticket.initialization is not None}
        copies += sorted(trained - {self.network.initialization, *copies})
        return prune_copies(
            self.network,
            self.dataset,
            density,
            copies,
            seed,
            method=seeding.method,
            schemes=seeding.schemes,
            own=self.settings.training.initialization == "own",
            weights=self.weights,
            scope=seeding.scope,
            schedule=seeding.schedule,
            steps=seeding.steps or None,
            **seeding.options,
        )

    @cached_property
    def first_population(self) -> Tickets:
        """The saved tickets, the pruned masks that are different networks, as many as fit, and their mutants.

        With annealed density the networks are pruned to the first density, for a Pareto front to several
        densities in its range.
        """
        evolution = self.settings.evolution
        if self.front is not None:
            densities = np.geomspace(evolution.least_density, evolution.largest_density, FRONT_SEEDS)
            by_density = [self._pruned(float(density)) for density in densities]
            pruned = Tickets(ticket for same_copy in zip(*by_density, strict=True) for ticket in same_copy)
            pruned.spent = sum((tickets.spent for tickets in by_density), Spent())
        else:
            pruned = self._pruned(evolution.start_density) if evolution.start_density else self.seeds
        seen = Seen(self.network.spec, weights=self.weights, keys=[t.key for t in pruned], searched=pruned)
        for ticket in self.saved:
            seen.admit(ticket)
        first = Tickets([*self.saved, *pruned])
        first.spent = pruned.spent
        return fill_population(
            first,
            self.network.spec,
            evolution.population,
            self.settings.seed,
            mutation_rate=self.settings.seeding.mutation_rate,
            weights=self.weights,
        )

    @cached_property
    def weights(self) -> Callable[[Ticket], Weights] | None:
        """The initial weights of a ticket, for duplicates that agree in these too; None by masks alone."""
        if self.settings.evolution.identity == "structure":
            return None

        @lru_cache(maxsize=16)
        def initial(initialization: Initialization) -> Weights:
            return initial_weights(self.network.reinitialized(*initialization))

        return lambda ticket: initial(ticket.initialization or self.network.initialization)

    @property
    def front(self) -> tuple[int, int] | None:
        """The fewest and the most weights of tickets on a Pareto front; None for the objective ``score``."""
        evolution, size = self.settings.evolution, self.network.spec.size
        if evolution.objective == "score":
            return None
        return round(evolution.least_density * size), round(evolution.largest_density * size)

    @property
    def density_schedule(self) -> DensitySchedule | None:
        """The annealed density, or None for a constant one."""
        evolution = self.settings.evolution
        if not evolution.start_density:
            return None
        return DensitySchedule(evolution.start_density, self.settings.seeding.density, evolution.annealed)

    @cached_property
    def local_search(self) -> LocalSearch | None:
        """The local search that improves children before they join the population, or None."""
        spec, steps = self.network.spec, self.settings.evolution.polish
        if not steps:
            return None
        most = round(self.settings.seeding.density * spec.size)
        return LocalSearch(steps, most, self.fitness)

    @property
    def engine(self) -> str:
        """The engine that trains masks, and its version; empty for a fitness that trains by its own means."""
        if not isinstance(self.fitness, ShortTraining):
            return ""
        training = self.settings.training
        device = find_device(training.device)
        return engine_name(self.network.wiring, training.masking, device, training.precision)

    @property
    def remarks(self) -> list[str]:
        """Notes on layers that the training engine cannot compact, as sentences for the user."""
        if not isinstance(self.fitness, ShortTraining):
            return []
        training = self.settings.training
        device = find_device(training.device)
        return compaction_notes(self.network.wiring, training.masking, device, training.precision)

    def generations(self, run: Run, callback: Callback | None = None) -> Iterator[Generation]:
        """Evolve from where the run stands; each generation is committed to the run before it is yielded.

        ``callback`` takes the number of masks that have been evaluated, of each generation.
        """
        unfinished = Unfinished(run, callback or Callback())
        if isinstance(self.fitness, ShortTraining):
            restore_evaluations(run, self.fitness)
            self.fitness.observer = unfinished
        evolution = self.settings.evolution
        variation = Variation(
            self.crossover,
            self.mutation,
            crossover_rate=evolution.crossover_rate,
            mutation_rate=evolution.mutation_rate,
            temperature=evolution.temperature,
            trial=evolution.trial,
            attempts=evolution.attempts,
            duplicates=Duplicates(weights=self.weights),
        )
        selection: Tournament | NSGA2
        size, reassess = evolution.tournament, evolution.reassess
        if self.front is None:
            selection = Tournament(evolution.population, size, evolution.elites, evolution.ties, reassess)
        else:
            selection = NSGA2(evolution.population, *self.front, size, reassess)
        after = run.last()
        for generation in evolve(
            self.first_population if after is None else [],
            self.fitness,
            self.network.spec,
            variation=variation,
            selection=selection,
            density=self.density_schedule,
            local_search=self.local_search,
            generations=evolution.generations,
            seed=self.settings.seed,
            after=after,
        ):
            run.append(generation)
            unfinished.next_generation()
            yield generation


def _fitness(
    settings: Settings, network: Network, dataset: Dataset, candidates: float | None
) -> Callable[..., Any]:
    if settings.fitness.name != "short_training":
        options = settings.fitness.options
        if settings.fitness.name == "untrained":
            options = {"device": settings.training.device, **options}
        return build_fitness(settings.fitness.name, network, dataset, settings.seed, **options)
    if settings.fitness.options:
        raise BadInput("fitness 'short_training' is set under [training]; leave fitness.options empty")
    return _short_training(settings, network, dataset, candidates)


def _short_training(
    settings: Settings, network: Network, dataset: Dataset, candidates: float | None = None
) -> ShortTraining:
    values = settings.training.model_dump(exclude={"steps"})
    values["workers"] = values["workers"] or _workers(settings, network)
    values["address"] = values["address"] or None
    guidance = {"candidates": candidates, "saliency": settings.evolution.saliency}
    recipe, options = recipe_and_options(values | guidance)
    steps = settings.training.steps
    return ShortTraining(network, dataset, steps=steps, seed=settings.seed, recipe=recipe, options=options)


def _workers(settings: Settings, network: Network) -> int:
    """Return the default number of workers: one a GPU or a core, but 1 for a search of less than a minute.

    Starting workers takes seconds. The time is that of dense networks at 10¹¹ operations a second.
    """
    training, evolution = settings.training, settings.evolution
    if find_device(training.device).type == "cuda":
        return torch.cuda.device_count()
    steps = training.steps if isinstance(training.steps, int) else training.steps[-1]
    trained = evolution.population * (evolution.generations + 1) * steps
    trained += settings.final.steps * settings.final.orders * (settings.final.candidates + 4)
    operations = 6.0 * training.batch * operations_a_sample(network.wiring) * trained
    return cpu_count() if operations > 60 * 1e11 else 1
