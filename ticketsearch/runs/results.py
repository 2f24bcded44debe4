"""The final comparison: its contenders, and the stored result of each final training."""

from __future__ import annotations

from typing import NamedTuple

from ticketsearch.settings import Settings, as_list

__all__ = ["BEST", "DENSE", "RANDOM", "Result", "contenders", "front_name", "pruned_names"]

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


def pruned_names(settings: Settings) -> dict[str, str]:
    """Return the contenders' names of the pruners' masks, by the pruner's name."""
    names = [method.rpartition(":")[2] for method in as_list(settings.seeding.method)]
    return {name: f"{name}, same initialization" for name in names}


def front_name(ticket: int) -> str:
    """Return the contender's name of a ticket on the Pareto front, by its number."""
    return f"front, ticket {ticket}"


def contenders(settings: Settings) -> list[str]:
    """Return the names of the final comparison in the order of its table."""
    return [BEST, *pruned_names(settings).values(), RANDOM, DENSE]
