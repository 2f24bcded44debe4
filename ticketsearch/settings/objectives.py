"""Objectives of a search: each stands for several settings."""

from __future__ import annotations

from typing import Any

from ticketsearch.errors import unknown

__all__ = ["OBJECTIVES", "objective_settings"]

# Settings that each objective stands for; settings that are given take precedence.
OBJECTIVES: dict[str, dict[str, Any]] = {
    "score": {"evolution.objective": "score"},
    "front": {"evolution.objective": "front"},
    "strong": {
        "fitness.name": "untrained",
        "final.steps": 0,
        "evolution.mutation": "swap_mutation",
        "evolution.mutation_rate": 0.05,
        "evolution.crossover": "uniform_crossover",
        "evolution.identity": "ticket",  # masks equal up to renumbering select different weights
        "evolution.population": 200,
        "evolution.generations": 100,
        "seeding.method": "random",
        "seeding.density": 0.3,
        "seeding.schemes": ["uniform"],
    },
}


def objective_settings(name: str) -> dict[str, Any]:
    """Return the settings that an objective stands for, by dotted name.

    Raises :class:`BadInput` for another name.
    """
    if name not in OBJECTIVES:
        raise unknown("objective", name, OBJECTIVES)
    return OBJECTIVES[name]
