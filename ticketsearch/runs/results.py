"""The final comparison: its contenders, and the stored result of each final training."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ticketsearch.settings import Settings, as_list

__all__ = [
    "BEST",
    "CHEAP",
    "DENSE",
    "RANDOM",
    "Result",
    "added_pruners",
    "contenders",
    "front_name",
    "pruned_name",
    "pruned_names",
]

# The pruner that ``final.contenders = "auto"`` may add.
CHEAP = "imp"

# Contenders of the final comparison; the mask of a pruner is named after the pruner.
BEST, DENSE, RANDOM = "best ticket", "dense", "random, same layer densities"


class Result(NamedTuple):
    """One final training of a contender on a data order, evaluated on ``validation`` or ``test`` data."""

    contender: str
    data_order: int
    part: str
    ticket: int | None
    density: float
    effective_density: float
    loss: float
    accuracy: float


def pruned_name(method: str) -> str:
    """Return the contender's name of a pruner's mask."""
    return f"{method.rpartition(':')[2]}, same initialization"


def pruned_names(settings: Settings) -> dict[str, str]:
    """Return the contenders' names of the masks of the first population's pruners, by the pruner's name."""
    names = [method.rpartition(":")[2] for method in as_list(settings.seeding.method)]
    return {name: pruned_name(name) for name in names}


def added_pruners(settings: Settings, decided: str) -> list[str]:
    """Return the pruners that ``final.contenders`` adds to those of the first population.

    ``decided`` is the stored decision of ``auto``, the pruner's name or nothing.
    """
    if settings.final.contenders == "auto":
        named = [CHEAP] if decided == CHEAP else []
    else:
        named = [name for name in as_list(settings.final.contenders) if name != "none"]
    present = pruned_names(settings).values()
    return [method for method in named if pruned_name(method) not in present]


def front_name(ticket: int) -> str:
    """Return the contender's name of a ticket on the Pareto front, by its number."""
    return f"front, ticket {ticket}"


def contenders(settings: Settings, added: Iterable[str] = ()) -> list[str]:
    """Return the names of the final comparison in the order of its table, with those of added pruners."""
    return [BEST, *pruned_names(settings).values(), *map(pruned_name, added), RANDOM, DENSE]
