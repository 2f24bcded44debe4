"""How each method makes its masks, and what it spends on them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from ticketsearch.cost import Spent, spending
from ticketsearch.errors import BadInput
from ticketsearch.experiment import Search, create_run, resume
from ticketsearch.fitness import ShortTraining
from ticketsearch.masks import Mask
from ticketsearch.operators import layer_shuffle, swap_mutation
from ticketsearch.pruners import LayerCollapseWarning, TrainingCost, prune_all
from ticketsearch.random_streams import Stream, seed_sequence
from ticketsearch.runs import Result
from ticketsearch.settings import leaves
from ticketsearch.tickets import Scores, Ticket
from ticketsearch.training import live_operations

__all__ = ["Made", "best_of", "evolved", "one_plus_lambda", "pruned", "random_search"]

# Numbers of Stream.CONTROL that the searches here draw from; those of final trainings are in ``finals``.
RANDOM_SEARCH, ONE_PLUS_LAMBDA = 2, 3


class Made(NamedTuple):
    """A mask, and what it took to make it.

    Attributes
    ----------
    mask : ``(weights,)`` bool.
    spent : on all trainings and evaluations, those that chose the mask too.
    trail : what a search had after spending so many FLOPs, ``(flops, validation accuracy)``: of its best mask
        so far, by the trainings that it judges by.
    validation : mean accuracy of the mask by which it was chosen, after the final training; None for one that
        was not chosen.
    candidates : among how many it was chosen.
    """

    mask: Mask
    spent: Spent = Spent()
    trail: tuple[tuple[int, float], ...] = ()
    validation: float | None = None
    candidates: int = 1


def pruned(
    searches: Sequence[Search],
    method: str,
    options: Mapping[str, Any],
    orders: Sequence[int] | None = None,
) -> list[Made]:
    """Return what a pruner leaves of the network of each search: its first seed, of order 0.

    ``orders`` number the seeds of a pruner that trains. Only pruners that train spend anything.
    """
    first, seeding = searches[0], searches[0].settings.seeding
    numbers = [0] * len(searches) if orders is None else orders
    cost = TrainingCost(method, options, first.network.wiring, first.dataset)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LayerCollapseWarning)  # the accuracy says it
        masks = prune_all(
            [search.network for search in searches],
            method,
            density=seeding.density,
            dataset=first.dataset,
            seeds=[_seed(search, number) for search, number in zip(searches, numbers, strict=True)],
            scope=seeding.scope,
            schedule=seeding.schedule,
            steps=seeding.steps or None,
            callback=cost.record,
            **options,
        )
    return [Made(mask, cost.spent(copy)) for copy, mask in enumerate(masks)]


def _seed(search: Search, number: int) -> int:
    """Return the seed of a pruner; number 0 is that of the search's own first copy."""
    return int(seed_sequence(search.settings.seed, Stream.PRUNING).generate_state(number + 1)[number])


def best_of(
    search: Search, method: str, options: Mapping[str, Any], budget: int, first: Made | None = None
) -> Made:
    """Return the best of as many prunings, of different data orders, as use up a budget.

    ``method`` is a pruner that trains, and ``first`` what it left of order 0, where it was made before. What
    choosing spends counts too.
    """
    made = [first or pruned([search], method, options)[0]]
    spent = made[0].spent + _choosing(search, [made[0].mask])
    each = max(1, spent.flops)
    while spent.flops < budget:
        more = range(len(made), len(made) + max(1, (budget - spent.flops) // each))
        made += pruned([search] * len(more), method, options, more)
        spent = sum((one.spent for one in made), _choosing(search, [one.mask for one in made]))
    tickets = [_ticket(search, one.mask, number) for number, one in enumerate(made)]
    winner, results = search.choose(tickets)
    accuracies = [_accuracy(results, ticket) for ticket in tickets]
    total, trail = Spent(), []
    for one, best in zip(made, np.maximum.accumulate(accuracies), strict=True):
        total += one.spent + _choosing(search, [one.mask])
        trail.append((total.flops, float(best)))
    return Made(winner.mask, total, tuple(trail), max(accuracies), len(made))


def evolved(search: Search, root: Path, name: str) -> Made:
    """Return the winner of a search, which is a run in ``root``; one that is there goes on.

    Raises :class:`BadInput` for one that is there of other settings.
    """
    there, given = (root / name / "run.sqlite").is_file(), leaves(search.settings.model_dump())
    with resume(root / name, dict(given))[1] if there else create_run(search, root, name) as run:
        for _ in search.generations(run):
            pass
        last = run.last()
        assert last is not None  # it has evolved
        target = round(search.settings.seeding.density * run.spec.size)
        sparse = [ticket for ticket in last.population if np.count_nonzero(ticket.mask) <= target]
        if not sparse:
            raise BadInput(
                f"the evolution must end at density {search.settings.seeding.density:g}, but all its masks "
                "keep more; let evolution.annealed end earlier, or add generations"
            )
        candidates = search.candidates(sparse)
        winner, results = search.choose(candidates)
        run.save_results(results)
        search.save_tickets(run.path / "tickets", candidates, winner)
        total, trail = Spent(), []
        for generation in run.generations():
            total += generation.spent
            if np.count_nonzero(generation.best.mask) <= target:  # denser ones would not compare
                trail.append((total.flops, generation.best.measures["accuracy"]))
    total += _choosing(search, [ticket.mask for ticket in candidates])
    return Made(winner.mask, total, tuple(trail), _accuracy(results, winner), len(candidates))


def random_search(search: Search, options: Mapping[str, Any], budget: int) -> Made:
    """Return the best of random masks, evaluated as tickets are until the budget is used up.

    They have the layer densities of the synflow mask of the same network.
    """
    model = pruned([search], "synflow", options)[0].mask
    spec, rng = search.network.spec, _rng(search, RANDOM_SEARCH)
    size = search.settings.evolution.population
    return _searched(
        search, budget, lambda _: [layer_shuffle(model, spec=spec, rng=rng) for _ in range(size)]
    )


def one_plus_lambda(search: Search, options: Mapping[str, Any], budget: int) -> Made:
    """Return the best of a (1+λ) search that begins with the synflow mask, until the budget is used up.

    λ is the population of the evolution; children are swap mutants of the best mask so far.
    """
    start = pruned([search], "synflow", options)[0].mask
    spec, rng = search.network.spec, _rng(search, ONE_PLUS_LAMBDA)
    evolution = search.settings.evolution

    def children(best: Ticket | None) -> list[Mask]:
        if best is None:
            return [start]
        return [
            swap_mutation(best.mask, spec=spec, rng=rng, rate=evolution.mutation_rate)
            for _ in range(evolution.population)
        ]

    return _searched(search, budget, children)


def _searched(search: Search, budget: int, propose: Callable[[Ticket | None], list[Mask]]) -> Made:
    """Evaluate masks that are proposed from the best so far; choose as evolve does.

    All are trained on one data order, so that their scores compare.
    """
    tickets: list[Ticket] = []
    total, trail = Spent(), list[tuple[int, float]]()
    while True:
        best = search.candidates(tickets)
        if tickets and (total + _choosing(search, [ticket.mask for ticket in best])).flops >= budget:
            break
        masks = propose(best[0] if best else None)
        scores = cast(ShortTraining, search.fitness)(np.stack(masks))
        tickets += _scored(search, masks, scores, len(tickets))
        total += scores.spent
        trail.append((total.flops, search.candidates(tickets)[0].measures["accuracy"]))
        if not scores.spent.flops:
            break  # nothing is new, or live: this could go on for ever
    best = search.candidates(tickets)
    winner, results = search.choose(best)
    total += _choosing(search, [ticket.mask for ticket in best])
    return Made(winner.mask, total, tuple(trail), _accuracy(results, winner), len(best))


def _scored(search: Search, masks: Sequence[Mask], scores: Scores, first: int) -> list[Ticket]:
    """Return masks as tickets that compare by their scores."""
    tickets = []
    rungs = np.zeros(len(masks)) if scores.rungs is None else scores.rungs
    for index, mask in enumerate(masks):
        ticket = _ticket(search, mask, first + index)
        score = float(scores[index])
        finite = np.isfinite(score)
        ticket.fitness.values = (float(rungs[index]), score) if finite else (0.0, -np.inf)
        ticket.measures = {name: float(column[index]) for name, column in scores.measures.items()}
        tickets.append(ticket)
    return tickets


def _ticket(search: Search, mask: Mask, number: int) -> Ticket:
    return Ticket(mask, search.network.initialization, number=number)


def _rng(search: Search, number: int) -> np.random.Generator:
    return np.random.default_rng(seed_sequence(search.settings.seed, Stream.CONTROL, number))


def _choosing(search: Search, masks: Sequence[Mask]) -> Spent:
    """Return what it takes to choose among masks by the final training on several data orders."""
    final = search.settings.final
    operations = live_operations(search.network.wiring, np.stack(masks))
    return spending(
        np.repeat(operations, final.orders),
        steps=final.steps,
        batch=search.settings.training.batch,
        samples=len(search.dataset.y_validation),
    )


def _accuracy(results: Sequence[Result], ticket: Ticket) -> float:
    return float(np.mean([result.accuracy for result in results if result.ticket == ticket.number]))
