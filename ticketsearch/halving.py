"""Successive halving inside a generation, and rank agreement between its rungs.

All masks are trained to the first rung, the better half of them to the next rung, and so on (Jamieson &
Talwalkar 2016, "Non-stochastic best arm identification and hyperparameter optimization"; here η = 2). Masks
compare by rung, then score. Controls tell whether a rung ranks masks well enough to halve by it: a random
tenth of the masks that it leaves behind is trained on all the same, and Kendall's τ measures how far two
rungs agree on their order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from operator import index
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ticketsearch.checks import Members, check, checked
from ticketsearch.errors import BadInput, shown
from ticketsearch.typing import Floats, Integers

__all__ = [
    "ENOUGH_PAIRS",
    "LEAST_TAU",
    "Agreement",
    "HalvingResult",
    "Pool",
    "Tau",
    "counted",
    "parse_steps",
    "pool",
    "successive_halving",
]

# A rung whose τ with the next one is below LEAST_TAU on at least ENOUGH_PAIRS pairs is not trusted.
LEAST_TAU = 0.4
ENOUGH_PAIRS = 10
# One in this many of the masks that a rung leaves behind is trained on as a control.
CONTROL_SHARE = 10

# Standard normal quantile of a 95 % interval.
Z = 1.959963984540054


class Agreement(NamedTuple):
    """Pairs of one generation's controls, counted by how two successive rungs order them.

    A pair is concordant where both rungs rank the same mask first, discordant where they rank different masks
    first, tied where either rung ranks both equal. Counts of several generations can be added.
    """

    lower_steps: int
    upper_steps: int
    concordant: int
    discordant: int
    tied: int

    @property
    def pairs(self) -> int:
        """Number of pairs."""
        return self.concordant + self.discordant + self.tied


class HalvingResult(NamedTuple):
    """Rungs and scores of a population after successive halving, and how far the rungs agree.

    Attributes
    ----------
    rung : ``(population,)`` int, the index of the rung that a mask earned, from 0; 0 where training diverged.
    score : ``(population,)`` float, the score on that rung; −inf where training diverged, on any rung.
    agreements : one for each two successive rungs, also where no pair could be compared.
    """

    rung: Integers
    score: Floats
    agreements: list[Agreement]


class Tau(NamedTuple):
    """Kendall's τ between two rungs, in [−1, 1], with its 95 % interval; NaN where there are no pairs."""

    lower_steps: int
    upper_steps: int
    pairs: int
    tau: float
    low: float
    high: float

    @property
    def untrusted(self) -> bool:
        """Whether the order on the lower rung is too unlike that on the upper one to halve by it."""
        return self.pairs >= ENOUGH_PAIRS and self.tau < LEAST_TAU


def parse_steps(value: int | str | Sequence[int]) -> tuple[int, ...]:
    """Return the rungs of ``steps`` in optimizer steps: 200, "200", "50,200,800" or [50, 200, 800].

    Raises :class:`BadInput` for anything but integers >= 0, each larger than the one before.
    """
    try:
        if isinstance(value, str):
            rungs = tuple(int(part) for part in value.split(","))
        else:
            given = value if isinstance(value, Sequence) else [value]
            rungs = tuple(_integer(part) for part in given)
    except (TypeError, ValueError):
        rungs = ()
    if not rungs or rungs[0] < 0 or any(upper <= lower for lower, upper in pairwise(rungs)):
        raise BadInput(
            "steps must be an integer >= 0, or the rungs of successive halving, each larger than the one "
            f"before, e.g. 200 or 50,200,800, but got {shown(value)}"
        )
    return rungs


@checked
def successive_halving(
    size: int,
    rungs: Sequence[int],
    evaluate: Callable[[Integers, int], ArrayLike],
    rng: np.random.Generator,
) -> HalvingResult:
    """Evaluate a population rung by rung, after the first rung only its better half on each.

    The better half is rounded up, ties go to the lower position, and masks that diverged are left behind. Of
    the other finite masks a random tenth, rounded up and at least 2 where there are 2, is trained on as
    controls, to the top unless training diverges. A control keeps the rung and the score that it earned:
    later scores count for τ alone, so that luck in the draw is no advantage.

    Each two successive rungs are compared on all controls so far, those drawn on the lower of the two and
    those drawn before: but for rounding they are a random tenth of all masks that have not earned the upper
    rung. These are the worse masks, whose scores lie closer together, so τ over a whole population would
    mostly be larger. A control that diverges on the upper rung comes last there.

    Parameters
    ----------
    size : number of masks in the population.
    rungs : the training steps of each rung, ascending.
    evaluate : ``evaluate(positions, rung)`` continues the training of the masks at ``positions``, ``(n,)``
        int in ascending order, to ``rungs[rung]`` steps, and returns their scores ``(n,)``, larger is
        better. It is called once a rung while there is a mask to train, and never again with a mask that was
        left behind.
    rng : generator of the draw of controls.

    Raises :class:`BadInput` for scores of another shape.
    """
    check("size", size, Members)
    if size < 0:
        raise BadInput(f"size must be >= 0, but got {size}")
    rung, score = np.zeros(size, dtype=np.int64), np.full(size, -np.inf)
    reached = np.full(size, -np.inf)  # the latest score of each mask, also of controls

    def train(positions: Integers, number: int) -> None:
        if len(positions):
            scores = np.asarray(evaluate(positions, number), dtype=np.float64)
            if scores.shape != positions.shape:
                raise BadInput(f"a rung gives one score a mask, {positions.shape}, but got {scores.shape}")
            reached[positions] = np.where(np.isfinite(scores), scores, -np.inf)

    contenders, controls = np.arange(size), np.arange(0)
    train(contenders, 0)
    score[:] = reached
    agreements = []
    for number in range(1, len(rungs)):
        contenders, others = _halved(contenders, score)
        controls = np.sort(np.concatenate([controls, _drawn_controls(others, rng)]))
        before = reached[controls]
        train(np.sort(np.concatenate([contenders, controls])), number)
        agreements.append(_agreement(rungs[number - 1], rungs[number], before, reached[controls]))
        score[contenders] = reached[contenders]
        rung[contenders] = np.where(np.isfinite(score[contenders]), number, 0)
        controls = controls[np.isfinite(reached[controls])]
    return HalvingResult(rung, score, agreements)


class Pool:
    """Kendall's τ between each two rungs, over the agreements of several generations.

    τ-a: (concordant − discordant) / all pairs, tied ones included. Only masks of one generation make a pair,
    as another generation has another data order. The interval is Wilson's for the share (1 + τ) / 2, with as
    many independent pairs as the controls make without using one twice: the variance of τ is at most that of
    this many pairs (Hoeffding 1948), so the interval is conservative.

    It holds sums alone, so that a further generation takes constant time.
    """

    def __init__(self, agreements: Iterable[Agreement] = ()) -> None:
        self._sums: dict[tuple[int, int], tuple[int, int, float]] = {}
        self.add(agreements)

    def add(self, agreements: Iterable[Agreement]) -> None:
        """Add the agreements of further generations."""
        for agreement in agreements:
            steps, pairs = (agreement.lower_steps, agreement.upper_steps), agreement.pairs
            all_pairs, surplus, shared = self._sums.get(steps, (0, 0, 0.0))
            surplus += agreement.concordant - agreement.discordant
            shared += pairs**2 / _independent(pairs) if pairs else 0.0
            self._sums[steps] = all_pairs + pairs, surplus, shared

    def taus(self) -> list[Tau]:
        """Return Kendall's τ for each two rungs, lowest rungs first."""
        return [_tau(steps, *sums) for steps, sums in sorted(self._sums.items())]


def pool(agreements: Iterable[Agreement]) -> list[Tau]:
    """Return Kendall's τ for each two rungs, lowest rungs first; see :class:`Pool`."""
    return Pool(agreements).taus()


def counted(pairs: int) -> str:
    """Return a number of pairs as text, e.g. ``1 pair``."""
    return f"{pairs} pair{'' if pairs == 1 else 's'}"


def _integer(value: Any) -> int:
    if isinstance(value, bool):
        raise TypeError("a truth value is not a number of steps")
    return index(value)


def _halved(contenders: Integers, score: Floats) -> tuple[Integers, Integers]:
    """Return the better half of the contenders and the others, both finite and in ascending order."""
    ranked = contenders[np.argsort(-score[contenders], kind="stable")]
    finite = ranked[np.isfinite(score[ranked])]
    half = -(-len(contenders) // 2)
    return np.sort(finite[:half]), np.sort(finite[half:])


def _drawn_controls(others: Integers, rng: np.random.Generator) -> Integers:
    count = max(2, -(-len(others) // CONTROL_SHARE))
    return rng.choice(others, min(count, len(others)), replace=False)


def _agreement(lower_steps: int, upper_steps: int, lower: Floats, upper: Floats) -> Agreement:
    first, second = np.triu_indices(len(lower), k=1)
    # Comparisons, not differences: −inf less −inf is NaN.
    orders = [(x[first] > x[second]).astype(int) - (x[first] < x[second]) for x in (lower, upper)]
    product = orders[0] * orders[1]
    counts = (int(np.count_nonzero(product == sign)) for sign in (1, -1, 0))
    return Agreement(lower_steps, upper_steps, *counts)


def _tau(steps: tuple[int, int], pairs: int, surplus: int, shared: float) -> Tau:
    """Return τ from sums; ``surplus`` is concordant less discordant pairs, see :class:`Pool`."""
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
    """Return how many pairs without a common mask the masks of this many pairs make."""
    return (1 + math.isqrt(1 + 8 * pairs)) // 4
