"""The generational loop and its parts, one file a mechanism."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ticketsearch import lazy

__all__ = [
    "EVOLUTION_PHASES",
    "NSGA2",
    "STORE",
    "DensitySchedule",
    "Duplicates",
    "Generation",
    "GuidanceWarning",
    "LocalSearch",
    "OrderEffects",
    "Tournament",
    "Variation",
    "evolve",
    "pareto_front",
    "probabilities",
]

_HOMES = {
    "density_schedule": "DensitySchedule",
    "generation": "Generation",
    "local_search": "LocalSearch",
    "loop": "GuidanceWarning evolve",
    "operator_selection": "probabilities",
    "order_effects": "OrderEffects",
    "pareto": "pareto_front",
    "selection": "NSGA2 Tournament",
    "timing": "EVOLUTION_PHASES STORE",
    "variation": "Duplicates Variation",
}

if TYPE_CHECKING:
    from ticketsearch.evolution.density_schedule import DensitySchedule
    from ticketsearch.evolution.generation import Generation
    from ticketsearch.evolution.local_search import LocalSearch
    from ticketsearch.evolution.loop import GuidanceWarning, evolve
    from ticketsearch.evolution.operator_selection import probabilities
    from ticketsearch.evolution.order_effects import OrderEffects
    from ticketsearch.evolution.pareto import pareto_front
    from ticketsearch.evolution.selection import NSGA2, Tournament
    from ticketsearch.evolution.timing import EVOLUTION_PHASES, STORE
    from ticketsearch.evolution.variation import Duplicates, Variation

__getattr__ = lazy.face(__name__, _HOMES)
