"""The results of a study of a set of masks, and their text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ticketsearch.alignment import IOU, pair_indices
from ticketsearch.masks import Mask, MaskSpec, live
from ticketsearch.overlap.null_models import ALIGNED_DEGREES, ALIGNED_UNIFORM, UNIFORM
from ticketsearch.overlap.null_tests import Null
from ticketsearch.statistics import LEVEL
from ticketsearch.typing import Floats, Integers

__all__ = ["OverlapStudy", "chosen_pairs"]


@dataclass(frozen=True, eq=False)
class OverlapStudy:
    """The overlap of masks, and the overlap expected by chance.

    Matrices are ``(population, population)`` and symmetric, by layer with ``(layers, ...)`` before.

    Attributes
    ----------
    names : one a mask.
    masks : ``(population, weights)`` bool.
    spec : of the masks.
    iou, chance, containment : raw IoU, its expectation by chance, and raw containment.
    aligned, aligned_containment : IoU and containment after alignment; lower bounds except where ``exact``.
    layers, layers_chance, aligned_layers : IoU layer by layer: raw, its expectation, and aligned.
    signs, aligned_signs : IoU that counts weights kept in both if they have the same initial sign, over the
        union of kept ones; None where the initial weights were not given.
    density_distance, degree_distance : of the layer densities, and of the fan-ins and fan-outs; see
        :mod:`ticketsearch.overlap.profiles`.
    degrees : ``{"<hidden group> in", "<hidden group> out": (population, units)}``, each row descending.
    keys : the canonical key of each mask's live part.
    exact : bool, True where no other renumbering shares more weights.
    nulls : ``{null model: {measure: Null}}``. Models are ``uniform``, masks shuffled within layers with the
        same counts, compared raw; ``aligned_uniform``, the same, aligned in the same way as the masks; and
        ``aligned_degrees``, masks of the same degrees, aligned. Measures are ``iou``, ``containment``,
        ``signs``, and the name of each layer. Tests, which are corrected together, are those of ``iou`` and
        ``signs``.
    drawn : ``{null model: {measure: (draws,)}}``, the mean over pairs of each draw. A null model without
        draws is in neither.
    leaders : 0, or the number of first masks that are compared with the others: means are then over those
        pairs alone.
    """

    names: tuple[str, ...]
    masks: Mask
    spec: MaskSpec
    iou: Floats
    chance: Floats
    containment: Floats
    aligned: Floats
    aligned_containment: Floats
    layers: Floats
    layers_chance: Floats
    aligned_layers: Floats
    signs: Floats | None
    aligned_signs: Floats | None
    density_distance: Floats
    degree_distance: Floats
    degrees: Mapping[str, Integers]
    keys: tuple[str, ...]
    exact: Mask
    nulls: Mapping[str, Mapping[str, Null]]
    drawn: Mapping[str, Mapping[str, Floats]]
    leaders: int = 0

    def __repr__(self) -> str:
        return (
            f"OverlapStudy({len(self.names)} masks, IoU {self.mean(self.iou):.4f} raw and "
            f"{self.mean(self.aligned):.4f} aligned)"
        )

    def pairs(self, matrix: NDArray[Any]) -> NDArray[Any]:
        """Return the values of a ``(..., population, population)`` matrix for the pairs that count."""
        chosen = chosen_pairs(len(self.names), self.leaders)
        first, second = pair_indices(len(self.names))
        return matrix[..., first[chosen], second[chosen]]

    @cached_property
    def blocked(self) -> Mask:
        """The blocked masks, ``(population,)`` bool: masks without a live weight."""
        return np.array([not live(mask, self.spec).any() for mask in self.masks])

    @property
    def passing(self) -> int:
        """Number of pairs of masks that both have live weights; only these can be the same network."""
        return int(np.count_nonzero(self.pairs(self._passing())))

    @property
    def identical(self) -> int:
        """Number of passing pairs that are the same network up to a renumbering of hidden neurons."""
        keys = np.array(self.keys)
        return int(np.count_nonzero(self.pairs(self._passing() & (keys[:, None] == keys))))

    def _passing(self) -> Mask:
        both: Mask = ~(self.blocked[:, None] | self.blocked)
        return both

    @property
    def uniform(self) -> Null | None:
        """Raw IoU against masks of the same layer counts."""
        return self._null(UNIFORM)

    @property
    def aligned_uniform(self) -> Null | None:
        """Aligned IoU against masks of the same layer counts."""
        return self._null(ALIGNED_UNIFORM)

    @property
    def aligned_degrees(self) -> Null | None:
        """Aligned IoU against masks of the same degrees."""
        return self._null(ALIGNED_DEGREES)

    def _null(self, name: str) -> Null | None:
        return self.nulls[name][IOU] if name in self.nulls else None

    def more(self, null: Null) -> bool | None:
        """Return whether a test finds more overlap than chance; None if its draws are too few to tell."""
        if null.holm is None:
            return None
        if null.holm <= 1 - LEVEL:
            return True
        tests = [test for by_measure in self.nulls.values() for test in by_measure.values()]
        # In the best case only the tests of as few draws or fewer remain when this one's turn comes.
        rivals = sum(test.holm is not None and test.draws <= null.draws for test in tests)
        return None if rivals / (1 + null.draws) > 1 - LEVEL else False

    def mean(self, matrix: Floats) -> float:
        """Return the mean of a ``(population, population)`` matrix over the pairs that count."""
        return float(self.pairs(matrix).mean())

    def summary(self) -> str:
        """Return the study's results as text, one sentence a line."""
        uniform, moved, degrees = (
            self._sentence(null, what)
            for null, what in (
                (self.uniform, "raw overlap"),
                (self.aligned_uniform, "aligned overlap"),
                (self.aligned_degrees, "aligned overlap"),
            )
        )
        least = "" if self.pairs(self.exact).all() else "at least "
        # Draws say it in the next sentence.
        chance = "" if self.uniform else f", where chance gives {self.mean(self.chance):.4f}"
        blocked, masks = int(self.blocked.sum()), f"{len(self.names)} masks"
        if blocked:
            masks = f"those that let something through ({blocked} of {masks} let nothing through)"
        lines = [
            f"Of the {self.passing} pairs of {masks}, {self.identical} are the same network up to a "
            "renumbering of hidden neurons.",
            f"As they are, pairs share {self.mean(self.iou):.4f} of the weights that either keeps on average "
            f"(intersection over union){chance}.",
            f"Against masks of the same layer counts, {uniform}.",
            f"Renumbered to match, they share {least}{self.mean(self.aligned):.4f}.",
            f"Against masks of the same layer counts, {moved}.",
            f"Against masks of the same degrees, {degrees}.",
        ]
        return "\n".join(lines)

    def _sentence(self, null: Null | None, what: str) -> str:
        if null is None:
            return f"{what} was not tested (no draws)"
        more = self.more(null)
        verdict = {True: "more than", False: "no more than", None: "not known to be more than"}[more]
        few = ", too few to tell" if more is None else ""
        interval = "" if math.isnan(null.low) else f", approximate 95 % {null.low:+.4f} to {null.high:+.4f}"
        return (
            f"{what} is {verdict} shuffled masks have ({null.mean:.4f} ± {null.sd:.4f}; difference "
            f"{null.effect:+.4f}{interval}; p = {null.p:.3g}, corrected {null.holm:.3g}, "
            f"{null.draws} draws{few})"
        )


def chosen_pairs(masks: int, leaders: int) -> Mask:
    """Return which pairs count, ``(pairs,)``: all, or those of a first mask and another."""
    first, second = pair_indices(masks)
    chosen: Mask = (first < leaders) & (second >= leaders) if leaders else np.ones(len(first), dtype=np.bool_)
    return chosen
