"""Fitness: scores of masks, by a short training or untrained, and the jobs that they are divided into.

Fitness functions
    ShortTraining (``short_training``), EvaluationOptions (``options``), Untrained (``untrained``)
Fitness by name (``named``)
    build_fitness
Training of one ticket, step by step (``plain_training``)
    train
Training of populations (``trainer``, in the parts of ``jobs``)
    Trainer, Trained, Stage
"""

from __future__ import annotations

from ticketsearch.fitness.jobs import Stage
from ticketsearch.fitness.memo import Evaluated, EvaluationKey
from ticketsearch.fitness.named import build_fitness
from ticketsearch.fitness.options import EvaluationOptions, recipe_and_options
from ticketsearch.fitness.plain_training import train
from ticketsearch.fitness.short_training import ShortTraining
from ticketsearch.fitness.trainer import Trained, Trainer
from ticketsearch.fitness.untrained import Untrained

__all__ = [
    "Evaluated",
    "EvaluationKey",
    "EvaluationOptions",
    "ShortTraining",
    "Stage",
    "Trained",
    "Trainer",
    "Untrained",
    "build_fitness",
    "recipe_and_options",
    "train",
]
