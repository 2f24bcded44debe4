"""Adaptive operator selection by probability matching (Thierens 2005).

D. Thierens, "An adaptive pursuit strategy for allocating operator probabilities", GECCO 2005.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from ticketsearch.errors import BadInput
from ticketsearch.masks import Mask
from ticketsearch.typing import Floats

__all__ = ["OperatorSelection", "Operators", "as_operators", "operator_name", "probabilities"]

# One operator, or several that the search selects from.
Operators = Callable[..., Mask] | Sequence[Callable[..., Mask]]
# Adaptation rate: weight of one child against all that its operator made before it.
ADAPTATION = 0.05


class OperatorSelection:
    """Draws an operator with a probability that follows the quality of its children.

    The reward of an operator in a generation is the share of its children that are in the better half of all
    children of that generation. Ranks need no scale (Fialho 2010, "Adaptive operator selection for
    optimization"), and children of one generation are trained on the same data order, at the same density.
    Survival would say less where the density is annealed, as nearly all children survive then.

    The quality of an operator is an exponential moving average of its rewards that starts at 1, so that an
    operator that has made no child yet is drawn. Probabilities are proportional to qualities above a floor.
    Adaptive pursuit, which bets on the best operator, would follow the noise of a few children.

    Attributes
    ----------
    names : names of the operators, as in :attr:`ticketsearch.tickets.Ticket.operator`.
    quality : ``(operators,)`` float, in [0, 1].
    """

    def __init__(self, operators: Sequence[partial[Mask]]) -> None:
        self.operators = list(operators)
        self.names = [operator_name(operator.func) for operator in operators]
        self.quality = np.ones(len(operators))

    def draw(self, rng: np.random.Generator) -> tuple[partial[Mask], str]:
        """Return an operator and its name; a single operator takes no random number."""
        index = int(rng.choice(len(self.names), p=probabilities(self.quality))) if len(self.names) > 1 else 0
        return self.operators[index], self.names[index]

    def reward(self, names: Sequence[str]) -> None:
        """Update the qualities by one generation: the operators of its children, the best child's first."""
        better = names[: (len(names) + 1) // 2]
        for index, name in enumerate(self.names):
            if children := names.count(name):
                weight = 1 - (1 - ADAPTATION) ** children
                self.quality[index] += weight * (better.count(name) / children - self.quality[index])

    def state(self) -> dict[str, float]:
        """Return the qualities by name, for :meth:`restore`."""
        return dict(zip(self.names, self.quality.tolist(), strict=True))

    def restore(self, state: dict[str, float]) -> None:
        """Continue from a saved state; an operator that is not in it starts at quality 1."""
        self.quality = np.array([state.get(name, 1.0) for name in self.names])


def probabilities(quality: ArrayLike) -> Floats:
    """Return the probability ``(operators,)`` of each operator to make the next child.

    The floor is 0.1, or half of an even share if that is less.
    """
    qualities = np.asarray(quality, dtype=np.float64)
    count, total = len(qualities), float(qualities.sum())
    floor = min(0.1, 0.5 / count)
    return floor + (1 - count * floor) * (qualities / total if total else np.full(count, 1 / count))


def as_operators(operators: Operators, kind: str) -> list[Callable[..., Mask]]:
    """Return one operator or several as a list.

    Raises :class:`BadInput` for an empty list, and for two operators of one name.
    """
    listed = [operators] if callable(operators) else list(operators)
    if not listed:
        raise BadInput(f"an evolution has at least 1 {kind}, but got none")
    names = [operator_name(operator) for operator in listed]
    for name in names:
        if names.count(name) > 1:
            raise BadInput(f"operators are told apart by their names, but got two {kind}s named {name!r}")
    return listed


def operator_name(operator: Callable[..., Mask]) -> str:
    """Return the name of a function, or the class name of another callable."""
    return str(getattr(operator, "__name__", type(operator).__name__))
