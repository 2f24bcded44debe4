"""The methods of a comparison: each makes masks and counts their cost."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from ticketsearch.cost import Spent, spending
from ticketsearch.errors import BadInput
from ticketsearch.experiment import Search, candidates_of, choose, create_run, resume, save_tickets
from ticketsearch.fitness import ShortTraining
from ticketsearch.masks import Mask
from ticketsearch.operators import layer_shuffle, swap_mutation
from ticketsearch.pruners import LayerCollapseWarning, TrainingCost, prune_all
from ticketsearch.random_streams import Stream, seed_sequence
from ticketsearch.runs import Result
from ticketsearch.settings import leaves
from ticketsearch.tickets import Scores, Ticket
from ticketsearch.training import live_operations

__all__ = ["FoundMask", "best_of", "evolved", "one_plus_lambda", "pruned", "random_search"]

# Numbers of Stream.CONTROL that these searches draw from; final_training has those of final trainings.
RANDOM_SEARCH, ONE_PLUS_LAMBDA = 2, 3


class FoundMask(NamedTuple):
    """A mask that a method has made, with its cost.

    Attributes
    ----------
    mask : ``(weights,)`` bool.
    spent : cost of all trainings and evaluations, those that chose the mask too.
    best_so_far : of a search, ``(flops, validation accuracy)`` of its best mask so far, by the trainings that
        it judges by.
    validation : mean validation accuracy after the final training, by which the mask was chosen; None for a
        mask that was the only one.
    candidates : the number of masks that it was chosen from.
    seconds : processor seconds of all threads of the process that made it; None where they were not measured.
        Unlike all else here they differ from machine to machine.
    """

    mask: Mask
    spent: Spent = Spent()
    best_so_far: tuple[tuple[int, float], ...] = ()
    validation: float | None = None
    candidates: int = 1
    seconds: float | None = None


def pruned(
    searches: Sequence[Search],
    method: str,
    options: Mapping[str, Any],
    orders: Sequence[int] | None = None,
) -> list[FoundMask]:
    """Return a pruner's mask of the network of each search, by default that of the search's first seed.

    ``orders`` number the seeds of a pruner that trains. Only pruners that train have a cost.
    """
    first, seeding = searches[0], searches[0].settings.seeding
    orders = [0] * len(searches) if orders is None else orders
    cost = TrainingCost(method, options, first.network.wiring, first.dataset)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LayerCollapseWarning)  # the test accuracy shows it
        masks = prune_all(
            [search.network for search in searches],
            method,
            density=seeding.density,
            dataset=first.dataset,
            seeds=[_seed(search, order) for search, order in zip(searches, orders, strict=True)],
            scope=seeding.scope,
            schedule=seeding.schedule,
            steps=seeding.steps or None,
            callback=cost.record,
            **options,
        )
    return [FoundMask(mask, cost.spent(copy)) for copy, mask in enumerate(masks)]


def _seed(search: Search, order: int) -> int:
    """Return the seed of a pruner; order 0 is that of the search's first copy."""
    return int(seed_sequence(search.settings.seed, Stream.PRUNING).generate_state(order + 1)[order])


def best_of(
    search: Search, method: str, options: Mapping[str, Any], budget: int, first: FoundMask | None = None
) -> FoundMask:
    """Return the best of as many prunings, of different data orders, as use up a budget in FLOPs.

    ``method`` is a pruner that trains; ``first`` is its mask of order 0, if it was made before. The cost of
    choosing counts too.
    """
    candidates = [first or pruned([search], method, options)[0]]
    spent = candidates[0].spent + _choosing(search, [candidates[0].mask])
    flops_each = max(1, spent.flops)
    while spent.flops < budget:
        orders = range(len(candidates), len(candidates) + max(1, (budget - spent.flops) // flops_each))
        candidates += pruned([search] * len(orders), method, options, orders)
        spent = sum((c.spent for c in candidates), _choosing(search, [c.mask for c in candidates]))
    tickets = [_ticket(search, candidate.mask, number) for number, candidate in enumerate(candidates)]
    winner, results = choose(search, tickets)
    accuracies = [_accuracy(results, ticket) for ticket in tickets]
    total, best_so_far = Spent(), []
    for candidate, best in zip(candidates, np.maximum.accumulate(accuracies), strict=True):
        total += candidate.spent + _choosing(search, [candidate.mask])
        best_so_far.append((total.flops, float(best)))
    return FoundMask(winner.mask, total, tuple(best_so_far), max(accuracies), len(candidates))


def evolved(search: Search, root: Path, name: str) -> FoundMask:
    """Return the winner of a search, which is the run ``root/name``; an existing run goes on.

    Raises :class:`BadInput` for an existing run of other settings.
    """
    exists, assignments = (root / name / "run.sqlite").is_file(), leaves(search.settings.model_dump())
    with resume(root / name, dict(assignments))[1] if exists else create_run(search, root, name) as run:
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
        candidates = candidates_of(search, sparse)
        winner, results = choose(search, candidates)
        run.save_results(results)
        save_tickets(search, run.path / "tickets", candidates, winner)
        total, best_so_far = Spent(), []
        for generation in run.generations():
            total += generation.spent
            if np.count_nonzero(generation.best.mask) <= target:  # denser ones would not compare
                best_so_far.append((total.flops, generation.best.measures["accuracy"]))
    total += _choosing(search, [ticket.mask for ticket in candidates])
    return FoundMask(winner.mask, total, tuple(best_so_far), _accuracy(results, winner), len(candidates))


def random_search(search: Search, options: Mapping[str, Any], budget: int) -> FoundMask:
    """Return the best of random masks, evaluated as tickets are until the budget in FLOPs is used up.

    They have the layer densities of the synflow mask of the same network.
    """
    model = pruned([search], "synflow", options)[0].mask
    spec, rng = search.network.spec, _rng(search, RANDOM_SEARCH)
    size = search.settings.evolution.population
    return _searched(
        search, budget, lambda _: [layer_shuffle(model, spec=spec, rng=rng) for _ in range(size)]
    )


def one_plus_lambda(search: Search, options: Mapping[str, Any], budget: int) -> FoundMask:
    """Return the best of a (1+λ) search that begins with the synflow mask, until the budget is used up.

    λ is the population of the evolution; children are swap mutants of the best mask so far. The budget is in
    FLOPs.
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


def _searched(search: Search, budget: int, propose: Callable[[Ticket | None], list[Mask]]) -> FoundMask:
    """Evaluate masks that are proposed from the best so far; choose as evolve does.

    All are trained on one data order, so that their scores compare.
    """
    tickets: list[Ticket] = []
    total, best_so_far = Spent(), list[tuple[int, float]]()
    while True:
        best = candidates_of(search, tickets)
        if tickets and (total + _choosing(search, [ticket.mask for ticket in best])).flops >= budget:
            break
        masks = propose(best[0] if best else None)
        scores = cast(ShortTraining, search.fitness)(np.stack(masks))
        tickets += _scored(search, masks, scores, len(tickets))
        total += scores.spent
        best_so_far.append((total.flops, candidates_of(search, tickets)[0].measures["accuracy"]))
        if not scores.spent.flops:
            break  # no mask is new, or live: this could go on for ever
    best = candidates_of(search, tickets)
    winner, results = choose(search, best)
    total += _choosing(search, [ticket.mask for ticket in best])
    return FoundMask(winner.mask, total, tuple(best_so_far), _accuracy(results, winner), len(best))


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
    """Return the cost of choosing among masks by the final training on several data orders."""
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
