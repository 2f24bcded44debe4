"""Fitness functions by name: the listed ones, and those of a user's own code.

A fitness is any callable from ``(population, weights)`` bool masks to ``(population,)`` floats, larger is
better. A callable with a parameter ``tickets`` is given the tickets (initialization, lineage), one with
``round`` the evaluation round, i.e. the generation. It may return :class:`~ticketsearch.tickets.Scores` to
record further measures. Scores that are not finite count as diverged.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from ticketsearch.datasets import Dataset
from ticketsearch.errors import BadInput, nearest
from ticketsearch.fitness.options import OPTION_NAMES, RECIPE_NAMES, recipe_and_options
from ticketsearch.fitness.short_training import ShortTraining
from ticketsearch.fitness.untrained import Untrained
from ticketsearch.models import Network
from ticketsearch.plugins import call, check_call, check_options, listed, one_line, parameters_of, resolve

# The names that users may give; build_fitness is importable beside them.
__all__ = ["short_training", "untrained"]


def short_training(
    network: Network, dataset: Dataset, *, steps: Any = 200, seed: int = 0, **settings: Any
) -> ShortTraining:
    """Build :class:`ShortTraining`, the default fitness of a search.

    ``settings`` are fields of :class:`~ticketsearch.training.Recipe` and :class:`EvaluationOptions` by their
    names in the settings, such as ``batch`` and ``workers``.

    Raises :class:`BadInput` for an unknown name, and as those two do.
    """
    known = ("steps", "seed", *RECIPE_NAMES, *OPTION_NAMES)
    for name in settings:
        if name not in known:
            takes = f"it takes {', '.join(known)}"
            raise BadInput(f"fitness 'short_training' has no option {name!r}{nearest(name, known)}: {takes}")
    recipe, options = recipe_and_options(settings)
    return ShortTraining(network, dataset, steps=steps, seed=seed, recipe=recipe, options=options)


def untrained(network: Network, dataset: Dataset, **options: Any) -> Untrained:
    """Build :class:`~ticketsearch.fitness.untrained.Untrained`, the fitness of strong tickets."""
    check_options(Untrained, options, "fitness", "untrained")
    return Untrained(network, dataset, **options)


def build_fitness(
    name: str, network: Network, dataset: Dataset, run_seed: int = 0, **options: Any
) -> Callable[..., Any]:
    """Build the fitness of a name: a listed one, or ``file.py:build``.

    ``build(network, dataset, **options)`` returns the callable. A function with a parameter ``seed`` is given
    ``run_seed`` unless the options have a seed.

    Raises :class:`BadInput` for an unknown name or option, and for code that fails or builds no callable.
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
    except Exception as error:  # a user's function may raise anything
        raise BadInput(f"fitness {name!r} cannot be built ({one_line(error)})") from error
    if not callable(fitness):
        raise BadInput(f"fitness {name!r} must build a callable, but built {type(fitness).__name__}")
    return fitness  # type: ignore[no-any-return]
