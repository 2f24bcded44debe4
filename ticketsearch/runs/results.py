"""The final comparison: who takes part, and what is kept of each final training."""

from __future__ import annotations

from typing import NamedTuple

from ticketsearch.config import Settings

__all__ = ["BEST", "DENSE", "RANDOM", "Result", "contenders", "pruned_name"]

# Contenders of the final comparison; the pruner's own mask is named after the pruner.
BEST, DENSE, RANDOM = "best ticket", "dense", "random, same layer densities"


class Result(NamedTuple):
    """One final training: who, with which data order, judged on which part (``validation`` or ``test``)."""

    contender: str
    data_order: int
    part: str
    ticket: int | None
    density: float
    effective_density: float
    loss: float
    accuracy: float


def pruned_name(settings: Settings) -> str:
    """Return what the final comparison calls the pruner's own mask."""
    return f"{settings.seeding.method.rpartition(':')[2]}, same initialization"


def contenders(settings: Settings) -> list[str]:
    """Return the names of the final comparison in the order of its table."""
    return [BEST, pruned_name(settings), RANDOM, DENSE]
