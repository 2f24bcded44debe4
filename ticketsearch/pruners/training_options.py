"""Options of the pruners that train: checked once, the same keywords for each of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from typing import Any

from ticketsearch.checks import is_integer
from ticketsearch.errors import BadInput
from ticketsearch.pruners.batching import Parts, ScoreFunction
from ticketsearch.training import Recipe

__all__ = ["RewindOptions", "TrainingOptions", "trains"]


@dataclass(frozen=True)
class TrainingOptions:
    """The training of one pruning round; :func:`ticketsearch.pruners.imp.imp` explains each option.

    Raises :class:`BadInput` for a number of steps that is not an integer >= 0.
    """

    training_steps: int = 1000
    training_batch: int = 128
    optimizer: str = "sgd"
    lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 0.0
    lr_schedule: str = "constant"
    precision: str = "float32"
    device: str = "auto"

    rewind = 0  # not an option here, see RewindOptions

    def __post_init__(self) -> None:
        for option in ("training_steps", "rewind"):
            steps = getattr(self, option)
            if not is_integer(steps) or steps < 0:
                raise BadInput(f"{option} must be a whole number of optimizer steps >= 0, but got {steps!r}")

    def recipe(self, samples: int) -> Recipe:
        """Return the recipe of the dense and the masked steps on a training part of ``samples`` samples.

        Raises :class:`BadInput` for a bad option.
        """
        return Recipe(
            self.rewind + self.training_steps,
            min(self.training_batch, samples),
            self.optimizer,
            self.lr,
            self.momentum,
            self.weight_decay,
            self.lr_schedule,
        )


@dataclass(frozen=True)
class RewindOptions(TrainingOptions):
    """Training options with ``rewind``, the dense steps whose result each round starts from."""

    rewind: int = 0


def trains(
    options: type[TrainingOptions], *, curvature: bool = False
) -> Callable[[Callable[..., Parts]], ScoreFunction]:
    """Mark a score function that trains the network in each round, and give it its options.

    The function is written with one parameter ``training``; called, it takes the fields of ``options`` as
    keywords. ``curvature`` says that its scores need gradients of single samples, which cost passes beside
    those of the training.
    """
    settings = [
        inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default)
        for field in fields(options)
    ]

    def decorate(function: Callable[..., Parts]) -> ScoreFunction:
        @wraps(function)
        def scores(network: Any, mask: Parts, batch: Any, *, rng: Any, **keywords: Any) -> Parts:
            given = {
                setting.name: keywords.pop(setting.name) for setting in settings if setting.name in keywords
            }
            return function(network, mask, batch, rng=rng, training=options(**given), **keywords)

        signature = inspect.signature(function)
        parameters = [p for p in signature.parameters.values() if p.name != "training"]
        marked: Any = scores
        marked.__signature__ = signature.replace(parameters=[*parameters, *settings])
        marked.trains, marked.curvature = True, curvature
        return scores

    return decorate
