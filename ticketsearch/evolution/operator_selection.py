"""Credit: which of several operators makes the next child, by how good their children were."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ticketsearch.errors import BadInput
from ticketsearch.masks import Mask

__all__ = ["Credit", "Operators", "probabilities", "several"]

# One operator, or several of which credit draws.
Operators = Callable[..., Mask] | Sequence[Callable[..., Mask]]
# What one child weighs against all that its operator made before it.
ADAPTATION = 0.05


class Credit:
    """Operators, each drawn by how many of its children are among the better half: probability matching.

    A generation's reward of an operator is the share of its children that are in the better half of all
    children of that generation: ranks need no scale (Fialho 2010, "Adaptive operator selection for
    optimization"), and these have been trained on the same data orders, at the same density. To
    survive says less where the density falls, since nearly all children do. The quality of an operator
    follows the rewards, the newest child weighing most, from 1, so that what has not been tried is thought
    well of; probabilities are in proportion to qualities above a floor (Thierens 2005, "An adaptive pursuit
    strategy for allocating operator probabilities"). Adaptive pursuit, which bets on the best of
    them, would follow the noise of so few children as a generation has.

    Attributes
    ----------
    names : of the operators, as in :attr:`ticketsearch.tickets.Ticket.operator`.
    quality : ``(operators,)`` float, in [0, 1].
    """

    def __init__(self, operators: Sequence[partial[Mask]], kind: str) -> None:
        if not operators:
            raise BadInput(f"an evolution has at least 1 {kind}, but got none")
        self.operators = list(operators)
        self.names = [getattr(each.func, "__name__", type(each.func).__name__) for each in operators]
        for name in self.names:
            if self.names.count(name) > 1:
                raise BadInput(f"operators are told apart by their names, but got two {kind}s named {name!r}")
        self.quality = np.ones(len(operators))

    def draw(self, rng: np.random.Generator) -> tuple[partial[Mask], str]:
        """Return an operator and its name; of one operator without a random number."""
        index = int(rng.choice(len(self.names), p=probabilities(self.quality))) if len(self.names) > 1 else 0
        return self.operators[index], self.names[index]

    def reward(self, made: Sequence[str]) -> None:
        """Take account of a generation: the operators of its children, the best child's first."""
        better = made[: (len(made) + 1) // 2]
        for index, name in enumerate(self.names):
            if number := made.count(name):
                weight = 1 - (1 - ADAPTATION) ** number
                self.quality[index] += weight * (better.count(name) / number - self.quality[index])

    def state(self) -> dict[str, float]:
        """Return the qualities by name, for :meth:`restore`."""
        return dict(zip(self.names, self.quality.tolist(), strict=True))

    def restore(self, state: dict[str, float]) -> None:
        """Go on from a saved state; an operator that it does not name begins anew."""
        self.quality = np.array([state.get(name, 1.0) for name in self.names])


def probabilities(quality: ArrayLike) -> NDArray[np.float64]:
    """Return the chances ``(operators,)`` to make the next child.

    None is below the floor: 0.1, or half of an even share if that is less.
    """
    given = np.asarray(quality, dtype=np.float64)
    number, total = len(given), float(given.sum())
    floor = min(0.1, 0.5 / number)
    return floor + (1 - number * floor) * (given / total if total else np.full(number, 1 / number))


def several(operators: Operators) -> list[Callable[..., Mask]]:
    """Return one operator or several as a list."""
    return [operators] if callable(operators) else list(operators)
