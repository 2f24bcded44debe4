"""The generational loop and its parts, one file a mechanism."""

from __future__ import annotations

from ticketsearch.evolution.local_search import Polish
from ticketsearch.evolution.loop import Generation, evolve
from ticketsearch.evolution.operator_selection import probabilities
from ticketsearch.evolution.order_effects import Levels
from ticketsearch.evolution.pareto import front
from ticketsearch.evolution.timing import OWN, STORE

__all__ = [
    "OWN",
    "STORE",
    "Generation",
    "Levels",
    "Polish",
    "evolve",
    "front",
    "probabilities",
]
