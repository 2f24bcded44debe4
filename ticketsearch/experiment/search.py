"""The search: settings become a dataset, a network, a first population, a fitness, and a run on disk."""

from __future__ import annotations

import platform
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from importlib.metadata import version
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from joblib import cpu_count

from ticketsearch import operators, pruners
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
    pareto_front,
)
from ticketsearch.fitness import ShortTraining, build_fitness, recipe_and_options
from ticketsearch.masks import Mask, MaskSpec, density, effective_density, layer_shuffle
from ticketsearch.models import Initialization, Network, initialize
from ticketsearch.plugins import (
    check_call,
    check_keywords,
    check_options,
    code_of,
    listed,
    parameters_of,
    resolve,
)
from ticketsearch.pruners import check_density
from ticketsearch.random_streams import Stream, seed_sequence
from ticketsearch.runs import (
    BEST,
    DENSE,
    RANDOM,
    NameTaken,
    Result,
    Run,
    counting_name,
    front_name,
    pruned_names,
)
from ticketsearch.seeding import fill_population, initializations, prune_copies, saved_tickets
from ticketsearch.settings import Settings, apply, as_list, changes, check_word, outside
from ticketsearch.storage import refuse_links
from ticketsearch.tickets import Seen, Ticket, TicketFitness, Tickets, initial_weights, save_ticket
from ticketsearch.training import Recipe, compaction_notes, find_device, operations_a_sample

__all__ = ["Search", "create_run", "resume"]

# Densities of the first population of a front, in geometric steps over its range.
FRONT_SEEDS = 4

PACKAGES = ("ticketsearch", "torch", "numpy", "deap", "networkx", "scipy", "scikit-learn", "joblib")


@dataclass(frozen=True, eq=False)
class Search:
    """Everything that settings stand for, ready to run; making one checks them all.

    Attributes
    ----------
    settings : as given.
    dataset, network : loaded and initialized; the network carries the shared θ₀.
    fitness : masks to scores.
    crossover, mutation : the operators, one or several of each.
    """

    settings: Settings
    dataset: Dataset
    network: Network
    fitness: Callable[..., Any]
    crossover: list[Callable[..., Mask]]
    mutation: list[Callable[..., Mask]]

    @classmethod
    def prepare(
        cls, settings: Settings, dataset: Dataset | None = None, spec: MaskSpec | None = None
    ) -> Search:
        """Load and build what the settings name; the dataset may have been loaded before.

        A run that goes on has a ``spec`` of its own, by which its keys were made: it takes the place of that
        of the same network today, which may tell more of what can be live.

        Raises :class:`BadInput` for any setting that cannot be used.
        """
        if dataset is None:
            dataset = load_dataset(settings.data.name, **settings.data.options)
        first = initializations(1, schemes=settings.seeding.schemes, seed=settings.seed)[0]
        network = initialize(settings.model.name, dataset, *first, **settings.model.options)
        if spec is not None and spec.signature == network.spec.signature:
            network = replace(network, wiring=replace(network.wiring, spec=spec))
        check_density(settings.seeding.density, network.spec)
        _check_start(settings)
        _check_front(settings, network)
        pruners.method_options(as_list(settings.seeding.method), settings.seeding.options)
        evolution = settings.evolution
        crossover = [_operator(name, "crossover", ("a", "b")) for name in as_list(evolution.crossover)]
        mutation = [_operator(name, "mutation", ("mask",)) for name in as_list(evolution.mutation)]
        named = any("guidance" in parameters_of(operator) for operator in (*crossover, *mutation))
        guided = named or settings.evolution.trial or settings.evolution.start_density > 0
        fitness = _fitness(settings, network, dataset, settings.evolution.candidates if guided else None)
        prepared = cls(settings, dataset, network, fitness, crossover, mutation)
        _check_polish(settings, prepared.polish)
        _ = prepared._final_recipe  # refuses what only the end of the search would meet
        return prepared

    @cached_property
    def seeds(self) -> Tickets:
        """What each pruner leaves of each initialization, the network's own first; equal masks too."""
        return self._pruned(self.settings.seeding.density)

    @cached_property
    def saved(self) -> Tickets:
        """The saved tickets that join the first population."""
        seeding, own = self.settings.seeding, self.settings.training.initialization == "own"
        return saved_tickets(seeding.tickets, self.network, seeding.density, own=own)

    def _pruned(self, density: float) -> Tickets:
        seeding, seed = self.settings.seeding, self.settings.seed
        copies = initializations(seeding.initializations, schemes=seeding.schemes, seed=seed)[1:]
        # Each initialization that tickets are trained from is pruned as well: winners are compared with that.
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
        """The saved tickets, the seeds that are different networks, as many as fit, and mutants of them.

        Where the density falls, the seeds are pruned to the density that it falls from; for a front, each
        initialization to several densities in its range.
        """
        start = self.settings.evolution.start_density
        if self.front is not None:
            low, high = self.settings.evolution.least_density, self.settings.evolution.largest_density
            each = [self._pruned(float(density)) for density in np.geomspace(low, high, FRONT_SEEDS)]
            pruned = Tickets(ticket for same in zip(*each, strict=True) for ticket in same)
            pruned.spent = sum((own.spent for own in each), Spent())
        else:
            pruned = self._pruned(start) if start else self.seeds
        seen = Seen(self.network.spec, weights=self.weights, keys=[t.key for t in pruned], searched=pruned)
        for ticket in self.saved:
            seen.admit(ticket)
        first = Tickets([*self.saved, *pruned])
        first.spent = pruned.spent
        return fill_population(
            first,
            self.network.spec,
            self.settings.evolution.population,
            self.settings.seed,
            mutation_rate=self.settings.seeding.mutation_rate,
            weights=self.weights,
        )

    @cached_property
    def weights(self) -> Callable[[Ticket], Weights] | None:
        """What of a ticket counts beside its mask, or None if the mask alone does."""
        if self.settings.evolution.identity == "structure":
            return None

        @lru_cache(maxsize=16)
        def initial(initialization: Initialization) -> Weights:
            return initial_weights(self.network.reinitialized(*initialization))

        return lambda ticket: initial(ticket.initialization or self.network.initialization)

    @cached_property
    def counts(self) -> list[int] | None:
        """Weights that each generation keeps, where the density falls from generation to generation."""
        evolution, size = self.settings.evolution, self.network.spec.size
        if not evolution.start_density:
            return None
        first, last = (round(d * size) for d in (evolution.start_density, self.settings.seeding.density))
        falling = max(1, round(evolution.annealed * evolution.generations))
        return [round(first * (last / first) ** (number / falling)) for number in range(falling + 1)]

    @property
    def front(self) -> tuple[int, int] | None:
        """The fewest and the most weights of a ticket of the front; None where the score is all."""
        evolution, size = self.settings.evolution, self.network.spec.size
        if evolution.objective == "score":
            return None
        return round(evolution.least_density * size), round(evolution.largest_density * size)

    @cached_property
    def polish(self) -> LocalSearch | None:
        """What improves children before they join; None where they join as they are made."""
        spec, steps = self.network.spec, self.settings.evolution.polish
        if not steps:
            return None
        most = round(self.settings.seeding.density * spec.size)
        return LocalSearch(steps, most, self.fitness)

    @property
    def remarks(self) -> list[str]:
        """Sentences on how tickets are trained that a user would want to know."""
        if not isinstance(self.fitness, ShortTraining):
            return []
        return compaction_notes(self.network.wiring, self.settings.training.masking)

    def generations(self, run: Run) -> Iterator[Generation]:
        """Evolve from where the run stands; each generation is committed to the run before it is yielded."""
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
        density = None
        if evolution.start_density:
            final = self.settings.seeding.density
            density = DensitySchedule(evolution.start_density, final, evolution.annealed)
        after = run.last()
        for generation in evolve(
            self.first_population if after is None else [],
            self.fitness,
            self.network.spec,
            variation=variation,
            selection=selection,
            density=density,
            local_search=self.polish,
            generations=evolution.generations,
            seed=self.settings.seed,
            after=after,
        ):
            run.append(generation)
            yield generation

    def finish(self, run: Run) -> Iterator[str]:
        """Choose the winner on validation data, compare it on test data, and save the best tickets.

        With a front, all of it are candidates, and those that no other one beats in validation accuracy and
        kept weights meet the test data beside the winner.

        Yields the names of contenders before their training; the results are in the run at the end. The
        candidates of best fitness get the final training on several data orders; the one of highest
        mean validation accuracy wins. It, the dense network, the pruner's mask of the same initialization
        and random masks of the same layer densities (a new one for each data order) are then trained on
        other data orders and meet the test data.
        """
        last = run.last()
        assert last is not None  # a run that has evolved has generations
        candidates = self.candidates(last.population)
        yield f"candidates {', '.join(str(ticket.number) for ticket in candidates)}"
        winner, chosen = self.choose(candidates)
        if self.front is not None:
            accuracy = {
                t.number: np.mean([r.accuracy for r in chosen if r.ticket == t.number]) for t in candidates
            }
            judged = pareto_front(
                replace(t, fitness=TicketFitness((0.0, accuracy[t.number]))) for t in candidates
            )
            candidates = [t for t in candidates if t.number in {found.number for found in judged}]
        tickets = {BEST: winner}
        if self.front is not None:
            tickets |= {front_name(t.number): t for t in candidates if t is not winner}
        contenders = self._contenders(winner, run.seeds())
        contenders |= {name: np.stack([t.mask] * self.settings.final.orders) for name, t in tickets.items()}
        compared: list[Result] = []
        for name, masks in contenders.items():
            yield name
            ticket = tickets.get(name, winner)
            number = ticket.number if name in tickets else None
            compared += self._trained(name, masks, ticket.initialization, Stream.REPORTING, number)
        run.check_place()
        self.save_tickets(run.path / "tickets", candidates, winner)
        run.save_results([*chosen, *compared])

    def candidates(self, tickets: Iterable[Ticket]) -> list[Ticket]:
        """Return the tickets among which the winner is chosen, best first: a front, or the fittest."""
        if self.front is not None:
            return pareto_front(tickets)[::-1]
        ranked = sorted(tickets, key=lambda ticket: ticket.fitness, reverse=True)
        return ranked[: self.settings.final.candidates]

    def choose(self, candidates: Iterable[Ticket]) -> tuple[Ticket, list[Result]]:
        """Return the candidate of highest mean validation accuracy after the final training, and all results.

        All are trained on the same data orders, which nothing else is trained on.
        """
        winner, best, results = None, -1.0, list[Result]()
        for ticket in candidates:
            masks = np.stack([ticket.mask] * self.settings.final.orders)
            name = f"candidate {ticket.number}"
            own = self._trained(name, masks, ticket.initialization, Stream.CHOOSING, ticket.number)
            accuracy = float(np.mean([result.accuracy for result in own]))
            if accuracy > best:
                winner, best = ticket, accuracy
            results += own
        assert winner is not None  # there is a candidate, and no accuracy is negative
        return winner, results

    def save_tickets(self, folder: Path, ranked: list[Ticket], winner: Ticket) -> None:
        """Write tickets into a folder in place of others there, the winner twice.

        Only files named as tickets are replaced or removed. Raises :class:`BadInput` where the folder is a
        link: what lies behind it is not the run's.
        """
        refuse_links(folder.parent, [folder.name])
        folder.mkdir(exist_ok=True)
        names = {f"ticket-{ticket.number:05d}.safetensors": ticket for ticket in ranked}
        for name, ticket in {**names, "best.safetensors": winner}.items():
            whole = folder / f".{name}"
            whole.unlink(missing_ok=True)  # of a process that was killed, or a link
            save_ticket(whole, self._network_of(ticket), ticket)
            whole.replace(folder / name)
        for stale in folder.glob("ticket-*.safetensors"):  # of an interrupted or since extended run
            if stale.name not in names:
                stale.unlink()

    def _network_of(self, ticket: Ticket) -> Network:
        """Return the network with the initialization the ticket is trained from."""
        return self.network.reinitialized(*(ticket.initialization or self.network.initialization))

    def _contenders(self, winner: Ticket, seeds: Tickets) -> dict[str, Mask]:
        """Return ``{name: (orders, weights) masks}`` of what the winner is compared with."""
        orders = self.settings.final.orders
        spec = self.network.spec
        names = pruned_names(self.settings)
        pruned = {names[s.operator]: s.mask for s in seeds if s.pruned_from == winner.initialization}
        rng = np.random.default_rng(seed_sequence(self.settings.seed, Stream.CONTROL))
        shuffled = [layer_shuffle(winner.mask, spec=spec, rng=rng) for _ in range(orders)]
        return {
            BEST: np.stack([winner.mask] * orders),
            **{name: np.stack([mask] * orders) for name, mask in pruned.items()},
            RANDOM: np.stack(shuffled),
            DENSE: np.ones((orders, spec.size), dtype=np.bool_),
        }

    def _trained(
        self,
        name: str,
        masks: Mask,
        initialization: Initialization | None,
        stream: Stream,
        ticket: int | None,
    ) -> list[Result]:
        final, recipe = self.settings.final, self._final_recipe
        orders = [seed_sequence(self.settings.seed, stream, i) for i in range(final.orders)]
        part: Literal["validation", "test"] = "validation" if stream == Stream.CHOOSING else "test"
        same = Tickets(Ticket(mask, initialization or self.network.initialization) for mask in masks)
        found = self._trainer.trained(masks, recipe, orders, tickets=same, part=part)
        return [
            Result(
                name,
                i,
                part,
                ticket,
                density(mask),
                effective_density(mask, self.network.spec),
                float(found.loss[i]),
                float(found.accuracy[i]),
            )
            for i, mask in enumerate(masks)
        ]

    @cached_property
    def _final_recipe(self) -> Recipe:
        return replace(self._trainer.recipe, steps=self.settings.final.steps)

    @cached_property
    def _trainer(self) -> ShortTraining:
        """What trains the final comparison, whatever fitness the search went by."""
        if self.settings.fitness.name == "short_training":
            return cast(ShortTraining, self.fitness)
        return _short_training(self.settings, self.network, self.dataset)


def create_run(search: Search, root: Path, name: str | None = None) -> Run:
    """Make the run folder ``root/name`` of a search; without a name it gets the next counting one.

    Do so when the search is prepared and its first population is made: no bad setting leaves a folder.
    Raises :class:`BadInput` for a name that is taken or would leave ``root``.
    """
    settings = search.settings
    environment = {package: version(package) for package in PACKAGES}
    environment["python"] = platform.python_version()
    environment["system"] = f"{platform.system()} {platform.machine()}"
    environment["device"] = _device_name(settings.training.device)
    environment["command"] = " ".join(["ticketsearch", *sys.argv[1:]])
    content = (settings, search.network.spec, search.dataset.fingerprint, environment, search.seeds)
    while name is None:
        with suppress(NameTaken):  # by a search that began at the same moment
            return Run.create(root, counting_name(root, settings), *content)
    return Run.create(root, name, *content)


def resume(path: Path, assignments: Mapping[str, Any], *, trust: bool = False) -> tuple[Search | None, Run]:
    """Open a run to go on with it; more generations extend it, any other changed setting is refused.

    The search is None where the run is finished and not extended: nothing is left to do. A function in a file
    may be named anew, where its file has moved. Code that is not named anew runs where the run is known to be
    the user's own and the code is as it was (:mod:`ticketsearch.settings.trust`), or with ``trust``.

    Raises :class:`BadInput` for changed settings, fewer generations than there are, changed data, and code
    that may not run.
    """
    run = Run.open(path, write=True)
    try:
        settings = apply(run.settings, assignments.items())
        moved = _refuse_changes(run, settings)
        wanted = settings.evolution.generations
        if run.finished and wanted == run.settings.evolution.generations:
            return None, run
        if not trust:
            check_word(f"run {run.name!r}", run.settings, run.origin, run.folder, assignments)
        search = Search.prepare(settings, spec=run.spec)
        if search.dataset.fingerprint != run.data_fingerprint:
            raise BadInput(
                f"the data of {settings.data.name!r} are not those run {run.name!r} began with; "
                "put them back, or start a new run"
            )
        if search.network.spec.signature != run.spec.signature:
            raise BadInput(
                f"model {settings.model.name!r} is not the network that run {run.name!r} began with; "
                "put it back, or start a new run"
            )
        if run.environment.get("device") != (device := _device_name(settings.training.device)):
            warnings.warn(
                f"run {run.name!r} began on {run.environment.get('device')} and goes on on {device}: its "
                "scores will agree with those of the first device to rounding, not to the bit",
                stacklevel=2,
            )
        if outside(run.settings):
            run.adopt(apply(run.settings, moved.items()))
        if wanted > run.settings.evolution.generations:
            run.extend(wanted)
    except BaseException:
        run.close()
        raise
    return search, run


def _refuse_changes(run: Run, settings: Settings) -> dict[str, Any]:
    """Raise :class:`BadInput` for other settings; return names of own functions whose files moved."""
    changed = changes(run.settings, settings)
    changed.pop("evolution.generations", None)
    moved = {name: new for name, (old, new) in changed.items() if _moved(old, new)}
    changed = {name: values for name, values in changed.items() if name not in moved}
    if changed:
        name, (old, new) = next(iter(changed.items()))
        raise BadInput(
            f"a run goes on with its own settings, but {name} is {old!r} in {run.name!r} and {new!r} here; "
            "leave it out, or start a new run"
        )
    wanted, have = settings.evolution.generations, run.settings.evolution.generations
    if wanted < have:
        raise BadInput(f"run {run.name!r} has {have} generations and can only be extended, but got {wanted}")
    return moved


def _moved(old: Any, new: Any) -> bool:
    """Whether names are the same but for the files that own functions are in."""
    if not isinstance(old, str | list) or not isinstance(new, str | list):
        return False
    pairs = list(zip_longest(as_list(old), as_list(new), fillvalue=""))
    codes = [(code_of(str(a)), code_of(str(b))) for a, b in pairs]
    return all(
        str(a) == str(b) or (x and y and x.is_file and y.is_file and x.function == y.function)
        for (a, b), (x, y) in zip(pairs, codes, strict=True)
    )


def _operator(name: str, kind: str, supplied: tuple[str, ...]) -> Callable[..., Mask]:
    known = {known: f for known, f in listed(operators).items() if known.endswith(f"_{kind}")}
    operator = resolve(name, known, kind, supplied)
    keywords = ("spec", "rng", "rate") if kind == "mutation" else ("spec", "rng")
    check_keywords(operator, keywords, kind, name)
    check_options(operator, {}, kind, name, (*keywords, "guidance", "temperature"))
    named = [*keywords, *(parameters_of(operator) & {"guidance", "temperature"})]
    form = f"function({', '.join(supplied)}, *, {', '.join(keywords)})"
    check_call(operator, kind, name, form, len(supplied), named)
    return operator


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


def _check_start(settings: Settings) -> None:
    start, end = settings.evolution.start_density, settings.seeding.density
    if 0 < start < end:
        raise BadInput(
            f"evolution.start_density falls to seeding.density, so that it is larger, but got {start:g} and "
            f"{end:g}; raise it, or leave it out"
        )


def _check_front(settings: Settings, network: Network) -> None:
    evolution = settings.evolution
    if evolution.objective == "score":
        return
    low, high = evolution.least_density, evolution.largest_density
    if low > high:
        raise BadInput(
            f"evolution.least_density is at most evolution.largest_density, but got {low:g} and {high:g}"
        )
    check_density(low, network.spec)
    if evolution.start_density:
        raise BadInput(
            "evolution.start_density is for objective 'score', but got objective 'front', which has all "
            "densities at once; leave one out"
        )
    if not isinstance(settings.training.steps, int):
        raise BadInput(
            "a front compares scores of one training, but got a ladder as training.steps; give one number"
        )


def _check_polish(settings: Settings, polish: LocalSearch | None) -> None:
    evolution = settings.evolution
    if polish is not None and evolution.start_density:
        raise BadInput(
            "polishing gives children a size of its own, but got evolution.start_density beside "
            "evolution.polish; leave one out"
        )
    for name, own in (("polish", evolution.polish), ("ties", evolution.ties)):
        if own and evolution.objective == "front":
            raise BadInput(
                f"evolution.{name} is for objective 'score', but got objective 'front'; leave one out"
            )


def _workers(settings: Settings, network: Network) -> int:
    """Return how many workers pay: one a GPU, or one a core; one for a search that is over in a minute.

    To start others takes seconds. The time is that of dense networks at 10¹¹ operations a second.
    """
    training, evolution = settings.training, settings.evolution
    if find_device(training.device).type == "cuda":
        return torch.cuda.device_count()
    steps = training.steps if isinstance(training.steps, int) else training.steps[-1]
    trained = evolution.population * (evolution.generations + 1) * steps
    trained += settings.final.steps * settings.final.orders * (settings.final.candidates + 4)
    operations = 6.0 * training.batch * operations_a_sample(network.wiring) * trained
    return cpu_count() if operations > 60 * 1e11 else 1


def _device_name(device: str) -> str:
    found = find_device(device)
    if found.type == "cuda":
        return f"{found} ({torch.cuda.get_device_name(found)})"
    return f"{found} ({platform.processor() or platform.machine()})"
