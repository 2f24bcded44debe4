"""Fitness: scores of masks, by a short training or untrained, and the jobs that they are cut into."""

from __future__ import annotations

from ticketsearch.fitness.short_training import ShortTraining, build_fitness

__all__ = [
    "ShortTraining",
    "build_fitness",
]
