"""Density annealing: the number of kept weights falls from generation to generation."""

from __future__ import annotations

from dataclasses import dataclass

from ticketsearch.errors import BadInput
from ticketsearch.evolution.rules import POSITIVE_TO_1, check_fields

__all__ = ["DensitySchedule"]


@dataclass(frozen=True)
class DensitySchedule:
    """Density is annealed: each parent is first pruned by saliency to the generation's weight count.

    The count falls in geometric steps. Tickets that keep more weights than their generation allows do not
    survive it. With saliency by magnitude, one mask that keeps all weights, and no mutation, the search is
    iterative magnitude pruning.

    A subclass may return other weight counts from :meth:`counts`.

    Parameters
    ----------
    start : density of generation 0, in (0, 1]. The first population is taken as it is given.
    final : density at the end, in (0, ``start``].
    share : share of the generations in which the density falls, in (0, 1]; then it stays.

    Raises :class:`ticketsearch.BadInput` for values out of range.
    """

    start: float
    final: float
    share: float = 0.75

    def __post_init__(self) -> None:
        check_fields(self, start=POSITIVE_TO_1, final=POSITIVE_TO_1, share=POSITIVE_TO_1)
        if self.final > self.start:
            raise BadInput(
                f"a density falls from start to final, but got start {self.start} and final {self.final}; "
                "leave the schedule out for a constant density"
            )

    def counts(self, size: int, generations: int) -> list[int]:
        """Return the weights to keep by generation, of ``size``; the last count is that of all later ones.

        Raises :class:`ticketsearch.BadInput` for a density that keeps no weight.
        """
        first, last = (round(density * size) for density in (self.start, self.final))
        if last < 1:
            raise BadInput(f"a mask keeps at least 1 weight, but final {self.final} keeps 0 of {size}")
        falling = max(1, round(self.share * generations))
        return [round(first * (last / first) ** (number / falling)) for number in range(falling + 1)]
