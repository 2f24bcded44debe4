"""The ladder: successive halving inside a generation, and how far its rungs agree.

All masks are trained to the first rung, the better half of them to the next, and so on (Jamieson & Talwalkar
2016); masks compare by rung, then score. Whether a rung may be trusted to halve, controls tell: a random
tenth of the masks it leaves behind is trained on all the same, and Kendall τ says how alike two rungs order
them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from operator import index
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ticketsearch.checks import Members, check, checked
from ticketsearch.errors import BadInput, shown

__all__ = [
    "ENOUGH_PAIRS",
    "LEAST_TAU",
    "Agreement",
    "Climb",
    "Pool",
    "Tau",
    "climb",
    "counted",
    "parse_steps",
    "pool",
]

# A rung that agrees less with the next one is not to be trusted, where so many pairs or more say so.
LEAST_TAU = 0.4
ENOUGH_PAIRS = 10
# One in so many of the masks that a rung leaves behind goes on as a control.
CONTROL_SHARE = 10

# Standard normal quantile of a 95 % interval.
Z = 1.959963984540054


class Agreement(NamedTuple):
    """Pairs of one generation's controls by how two successive rungs order them; counts can be added up.

    A pair is concordant where both rungs put the same mask first, tied where either puts none first.
    """

    lower_steps: int
    upper_steps: int
    concordant: int
    discordant: int
    tied: int

    @property
    def pairs(self) -> int:
        """How many pairs there are."""
        return self.concordant + self.discordant + self.tied


class Climb(NamedTuple):
    """What a population earned on a ladder, and how far the rungs agree.

    Attributes
    ----------
    rung : ``(population,)`` int, the number of the rung earned, from 0; 0 where training diverged.
    score : ``(population,)`` float, the score at that rung; −inf where training diverged, at any rung.
    agreements : one for each two successive rungs, also where no pair could be compared.
    """

    rung: NDArray[np.int64]
    score: NDArray[np.float64]
    agreements: list[Agreement]


class Tau(NamedTuple):
    """Kendall τ between two rungs, in [−1, 1], with its 95 % interval; NaN where there are no pairs."""

    lower_steps: int
    upper_steps: int
    pairs: int
    tau: float
    low: float
    high: float

    @property
    def untrusted(self) -> bool:
        """Whether the lower rung orders masks too unlike the upper one to halve by it."""
        return self.pairs >= ENOUGH_PAIRS and self.tau < LEAST_TAU


def parse_steps(value: int | str | Sequence[int]) -> tuple[int, ...]:
    """Return the rungs of ``steps`` in optimizer steps: 200, "200", "50,200,800" or [50, 200, 800].

    Raises :class:`BadInput` for anything but integers >= 0, each larger than the one before.
    """
    try:
        if isinstance(value, str):
            rungs = tuple(int(number) for number in value.split(","))
        else:
            given = value if isinstance(value, Sequence) else [value]
            rungs = tuple(_whole(number) for number in given)
    except (TypeError, ValueError):
        rungs = ()
    if not rungs or rungs[0] < 0 or any(b <= a for a, b in pairwise(rungs)):
        raise BadInput(
            "steps must be an integer >= 0, or a ladder of them in which each is larger than the one before, "
            f"e.g. 200 or 50,200,800, but got {shown(value)}"
        )
    return rungs


@checked
def climb(
    size: int,
    rungs: Sequence[int],
    evaluate: Callable[[NDArray[np.int64], int], ArrayLike],
    rng: np.random.Generator,
) -> Climb:
    """Evaluate a population of ``size`` rung by rung, after the first with the better half at each.

    ``evaluate(positions, rung)`` continues the training of the masks at ``positions``, ``(n,)`` int in rising
    order, to ``rungs[rung]`` steps, and returns their scores ``(n,)``, larger is better. It is called once a
    rung, as long as there is a mask to train, and never again with one that was left out.

    The better half is rounded up, ties go to the lower position, and what is not finite never goes on. Of the
    other finite ones a random tenth, rounded up and at least 2 where there are 2, goes on as controls, to the
    top unless training diverges. A control keeps the rung and the score it earned: what it reaches later
    counts for τ alone, so that luck in the draw is no advantage.

    Each two successive rungs are compared on all controls so far, those drawn at the lower of the two and
    those drawn before: but for rounding they are a random tenth of all masks that have not earned the upper
    rung. These are the worse ones, whose scores lie closer together, so τ over a whole population would
    mostly be larger. A control that diverges at the upper rung comes last there.

    Raises :class:`BadInput` for scores of another shape.
    """
    check("size", size, Members)
    if size < 0:
        raise BadInput(f"size must be >= 0, but got {size}")
    rung, score = np.zeros(size, dtype=np.int64), np.full(size, -np.inf)
    reached = np.full(size, -np.inf)  # the latest score of each mask, also of controls

    def train(positions: NDArray[np.int64], number: int) -> None:
        if len(positions):
            found = np.asarray(evaluate(positions, number), dtype=np.float64)
            if found.shape != positions.shape:
                raise BadInput(f"a rung gives one score a mask, {positions.shape}, but got {found.shape}")
            reached[positions] = np.where(np.isfinite(found), found, -np.inf)

    contenders, controls = np.arange(size), np.arange(0)
    train(contenders, 0)
    score[:] = reached
    agreements = []
    for number in range(1, len(rungs)):
        contenders, others = _halved(contenders, score)
        controls = np.sort(np.concatenate([controls, _drawn(others, rng)]))
        before = reached[controls]
        train(np.sort(np.concatenate([contenders, controls])), number)
        agreements.append(_agreement(rungs[number - 1], rungs[number], before, reached[controls]))
        score[contenders] = reached[contenders]
        rung[contenders] = np.where(np.isfinite(score[contenders]), number, 0)
        controls = controls[np.isfinite(reached[controls])]
    return Climb(rung, score, agreements)


class Pool:
    """Kendall τ between each two rungs over the agreements of several generations.

    τ-a: (concordant − discordant) / all pairs, tied ones included; only masks of one generation make a pair,
    as another has another data order. The interval is Wilson's for the share (1 + τ) / 2, with as many
    independent pairs as one can make of the controls without using one twice: the variance of τ is at most
    that of so many (Hoeffding 1948), so it errs on the wide side.

    Of each two rungs it holds sums alone, so that a generation more takes no longer the more there are.
    """

    def __init__(self, agreements: Iterable[Agreement] = ()) -> None:
        self._sums: dict[tuple[int, int], tuple[int, int, float]] = {}
        self.add(agreements)

    def add(self, agreements: Iterable[Agreement]) -> None:
        """Take account of further generations."""
        for each in agreements:
            steps, pairs = (each.lower_steps, each.upper_steps), each.pairs
            all_pairs, surplus, shared = self._sums.get(steps, (0, 0, 0.0))
            shared += pairs**2 / _independent(pairs) if pairs else 0.0
            self._sums[steps] = all_pairs + pairs, surplus + each.concordant - each.discordant, shared

    def taus(self) -> list[Tau]:
        """Return what there is of each two rungs, lowest rungs first."""
        return [_tau(steps, *sums) for steps, sums in sorted(self._sums.items())]


def pool(agreements: Iterable[Agreement]) -> list[Tau]:
    """Return Kendall τ for each two rungs, lowest rungs first; see :class:`Pool`."""
    return Pool(agreements).taus()


def counted(pairs: int) -> str:
    """Return a number of pairs in words, e.g. ``1 pair``."""
    return f"{pairs} pair{'' if pairs == 1 else 's'}"


def _whole(value: Any) -> int:
    if isinstance(value, bool):
        raise TypeError("true and false are no numbers of steps")
    return index(value)


def _halved(
    contenders: NDArray[np.int64], score: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the better half of the contenders and the others, both finite and in rising order."""
    ranked = contenders[np.argsort(-score[contenders], kind="stable")]
    finite = ranked[np.isfinite(score[ranked])]
    half = -(-len(contenders) // 2)
    return np.sort(finite[:half]), np.sort(finite[half:])


def _drawn(others: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    count = max(2, -(-len(others) // CONTROL_SHARE))
    return rng.choice(others, min(count, len(others)), replace=False)


def _agreement(
    lower_steps: int, upper_steps: int, lower: NDArray[np.float64], upper: NDArray[np.float64]
) -> Agreement:
    first, second = np.triu_indices(len(lower), k=1)
    # No differences: −inf less −inf is no number.
    orders = [(x[first] > x[second]).astype(int) - (x[first] < x[second]) for x in (lower, upper)]
    product = orders[0] * orders[1]
    counts = (int(np.count_nonzero(product == sign)) for sign in (1, -1, 0))
    return Agreement(lower_steps, upper_steps, *counts)


def _tau(steps: tuple[int, int], pairs: int, surplus: int, shared: float) -> Tau:
    """Return τ of sums: ``surplus`` is concordant less discordant pairs; see :class:`Pool`."""
    if pairs == 0:
        return Tau(*steps, 0, math.nan, math.nan, math.nan)
    tau = surplus / pairs
    # Generations count by their pairs; with equal ones this is the sum of their independent pairs.
    independent = pairs**2 / shared
    share, spread = (1 + tau) / 2, Z**2 / independent
    middle = (share + spread / 2) / (1 + spread)
    width = math.sqrt(share * (1 - share) * spread + spread**2 / 4) / (1 + spread)
    low, high = (2 * (middle + side * width) - 1 for side in (-1, 1))
    return Tau(*steps, pairs, tau, max(low, -1.0), min(high, 1.0))


def _independent(pairs: int) -> int:
    """Return how many pairs without a mask in common the masks of so many pairs make."""
    return (1 + math.isqrt(1 + 8 * pairs)) // 4
