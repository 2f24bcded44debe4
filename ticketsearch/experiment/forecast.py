"""A forecast of a search: its trainings, and their time and memory, measured on a few steps."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass, replace

import numpy as np

from ticketsearch.experiment.search import Search
from ticketsearch.masks import Mask
from ticketsearch.random_streams import Stream, seed_sequence
from ticketsearch.settings import as_list

__all__ = ["Forecast", "forecast"]

# Networks and steps that are measured: the time of the first steps, which warms up, is left out.
NETWORKS, WARM, STEPS = 8, 5, 25


@dataclass(frozen=True)
class Forecast:
    """Trainings of a search, and an estimate of their cost.

    Attributes
    ----------
    trainings : ``{part of the search: (number of trainings, steps of each)}``.
    seconds : of all trainings on ``workers``; other work, such as pruning, is left out.
    workers : trainings side by side.
    bytes : memory of a process after a short training; each worker process takes about as much.
    """

    trainings: dict[str, tuple[int, int]]
    seconds: float
    workers: int
    bytes: int


def forecast(search: Search) -> Forecast:
    """Return a forecast of a search, whose masks and dense network are trained for a few steps."""
    settings = search.settings
    evolution, final = settings.evolution, settings.final
    drafts = 2 if evolution.trial else 1
    again = math.ceil(evolution.population / evolution.reassess) if evolution.reassess else 0
    children = evolution.population * (1 + drafts * evolution.generations) + again * evolution.generations
    trained = search.trainer.recipe.steps if settings.fitness.name == "short_training" else 0
    sparse = final.orders * (2 + len(as_list(settings.seeding.method)))
    trainings = {
        "search": (children, trained),
        "choice of the winner": (final.candidates * final.orders, final.steps),
        "comparison": (sparse, final.steps),
        "dense network": (final.orders, final.steps),
    }
    masked, dense = _seconds_a_step(search)
    workers = search.trainer.options.workers
    seconds = sum(
        count * length * (dense if part == "dense network" else masked)
        for part, (count, length) in trainings.items()
    )
    return Forecast(trainings, seconds / workers, workers, _memory())


def _seconds_a_step(search: Search) -> tuple[float, float]:
    """Return the seconds of a step of one network, of the search's density and dense."""
    spec, density = search.network.spec, search.settings.seeding.density
    rng = np.random.default_rng(seed_sequence(search.settings.seed, Stream.CONTROL))
    count = min(NETWORKS, search.settings.evolution.population)
    masks = rng.random((count, spec.size)) < density
    masks[:, 0] = True  # a mask keeps some weight
    return _measured(search, masks), _measured(search, np.ones((1, spec.size), dtype=np.bool_))


def _measured(search: Search, masks: Mask) -> float:
    """Return the seconds that a step of one of these networks takes, evaluation left out."""
    order = [seed_sequence(search.settings.seed, Stream.CONTROL, 1)]
    taken = []
    for steps in (WARM, WARM + STEPS):
        recipe = replace(search.final_recipe, steps=steps)
        start = time.perf_counter()
        search.trainer.trainer.train(masks, [search.network.initialization], order, recipe)
        taken.append(time.perf_counter() - start)
    return max(taken[1] - taken[0], 0.0) / STEPS / len(masks)


def _memory() -> int:
    """Return the largest memory of this process so far, in bytes; 0 where the system does not say."""
    try:
        import resource
    except ImportError:  # on Windows
        return 0
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024
