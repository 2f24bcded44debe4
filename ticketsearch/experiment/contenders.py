"""Contenders that ``final.contenders`` adds: their masks, and the costs by which ``auto`` decides."""

from __future__ import annotations

from typing import Any

import numpy as np

from ticketsearch.experiment.search import Search
from ticketsearch.masks import Mask, density
from ticketsearch.pruners import prune, resolve_pruner, schedule_steps
from ticketsearch.random_streams import Stream, seed_sequence
from ticketsearch.runs import CHEAP
from ticketsearch.settings import Settings
from ticketsearch.tickets import Ticket

__all__ = ["added_mask", "cheap_contender", "imp_cost", "search_cost"]

# The largest cost of a contender that ``auto`` adds, as a share of the search's.
SHARE = 0.1


def cheap_contender(settings: Settings) -> str:
    """Return the pruner that ``auto`` adds to the final comparison: ``imp`` where it is cheap, else none.

    Without a final training, as of the objective ``strong``, its masks would not be trained.
    """
    if settings.final.contenders != "auto" or not settings.final.steps:
        return ""
    return CHEAP if imp_cost(settings) < SHARE * search_cost(settings) else ""


def imp_cost(settings: Settings) -> float:
    """Return the steps of iterative magnitude pruning, each weighted by its density.

    It begins each round with the mask of the round before, and trains it as long as the final training.
    """
    target = settings.seeding.density
    rounds = schedule_steps(CHEAP, target)
    densities = target ** (np.arange(rounds) / rounds)
    return float(densities.sum()) * settings.final.steps


def search_cost(settings: Settings) -> float:
    """Return the steps of the search's trainings, each weighted by its density, as if none was skipped.

    With successive halving all masks are trained to the first rung alone, with a range of densities all have
    the least: the search takes at least this long.
    """
    evolution, steps = settings.evolution, settings.training.steps
    if settings.fitness.name != "short_training":
        return 0.0
    least = settings.seeding.density if evolution.objective == "score" else evolution.least_density
    first = steps if isinstance(steps, int) else steps[0]
    return float(evolution.population * (evolution.generations + 1) * first * least)


def added_mask(search: Search, winner: Ticket, method: str) -> Mask:
    """Return the ``(weights,)`` mask of a pruner, of the winner's initialization at the winner's density.

    The pruner's seed is that of ``ticketsearch prune`` for the first initialization. One that trains does so
    by the search's recipe, each round as long as the final training.
    """
    settings = search.settings
    seed = int(seed_sequence(settings.seed, Stream.PRUNING).generate_state(1)[0])
    return prune(
        search.network.reinitialized(*(winner.initialization or search.network.initialization)),
        method,
        density=density(winner.mask),
        dataset=search.dataset,
        seed=seed,
        **(_training_options(search) if getattr(resolve_pruner(method), "trains", False) else {}),
    )


def _training_options(search: Search) -> dict[str, Any]:
    """Return the options of pruners that train, by the recipe of the final training."""
    recipe, training = search.final_recipe, search.settings.training
    return {
        "training_steps": recipe.steps,
        "training_batch": recipe.batch,
        "optimizer": recipe.optimizer,
        "lr": recipe.lr,
        "momentum": recipe.momentum,
        "weight_decay": recipe.weight_decay,
        "lr_schedule": recipe.lr_schedule,
        "device": training.device,
    }
