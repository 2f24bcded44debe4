"""Draws of null models: all masks of a study are shuffled and their overlap is counted."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from ticketsearch.alignment import Counts, aligned_counts, raw_counts
from ticketsearch.masks import Mask, MaskSpec, pack, unpack
from ticketsearch.overlap.null_models import NULLS
from ticketsearch.typing import Integers

__all__ = ["Batch", "Masks", "batches", "drawn"]

# Draws in one batch: about a second of work.
RAW_BATCH, ALIGNED_BATCH = 100, 4


def one_thread() -> AbstractContextManager[Any]:
    """Run NumPy's products on one thread inside: several threads make small ones wait for busy cores."""
    limits: AbstractContextManager[Any] = threadpool_limits(1, user_api="blas")
    return limits


@dataclass(frozen=True)
class Masks:
    """The masks of a study as bits, small enough to send to workers, and the options of their alignment.

    Attributes
    ----------
    spec : of all masks.
    bits : the packed mask of each.
    signs : for each mask, packed, which initial weights are positive; empty if they are not known.
    restarts, seed : see :func:`ticketsearch.alignment.align_order`; the seed of all random numbers.
    """

    spec: MaskSpec
    bits: tuple[bytes, ...]
    signs: tuple[bytes, ...]
    restarts: int
    seed: int

    @classmethod
    def packed(cls, masks: Mask, spec: MaskSpec, signs: Mask | None, restarts: int, seed: int) -> Masks:
        """Return ``(population, weights)`` masks, and signs of the same shape, as bits."""
        packed = () if signs is None else tuple(map(pack, signs))
        return cls(spec, tuple(map(pack, masks)), packed, restarts, seed)

    @cached_property
    def masks(self) -> Mask:
        """``(population, weights)``."""
        return np.stack([unpack(bits, self.spec) for bits in self.bits])

    @cached_property
    def positive(self) -> Mask | None:
        """``(population, weights)``, or None."""
        return np.stack([unpack(bits, self.spec) for bits in self.signs]) if self.signs else None

    @cached_property
    def compared(self) -> Mask:
        """``(population, weights)``: the masks without the weights that read padding alone."""
        return self.spec.reading(self.masks)

    def raw(self) -> Counts:
        """Return the counts of the masks in their given numbering."""
        return raw_counts(self.compared, self.spec, self.positive)

    def aligned(self) -> tuple[Counts, Mask]:
        """Return the counts after alignment, and for which pairs they are optimal."""
        rng = np.random.default_rng(np.random.SeedSequence(self.seed))
        with one_thread():
            return aligned_counts(self.compared, self.spec, self.restarts, rng, self.positive)

    def draw(self, null: str, index: int) -> Counts:
        """Return the counts of one draw of a null model; signs are not shuffled."""
        stream = np.random.SeedSequence(self.seed, spawn_key=(list(NULLS).index(null), index))
        rng = np.random.default_rng(stream)
        model = NULLS[null]
        masks = np.stack([model.shuffle(mask, spec=self.spec, rng=rng) for mask in self.compared])
        if not model.aligned:
            return raw_counts(masks, self.spec, self.positive)
        return aligned_counts(masks, self.spec, self.restarts, rng, self.positive)[0]


class Batch(NamedTuple):
    """Several draws of a null model, made together."""

    masks: Masks
    null: str
    numbers: tuple[int, ...]


def batches(masks: Masks, null: str, numbers: Sequence[int]) -> list[Batch]:
    """Return the draws ``numbers`` of a null model as batches."""
    size = ALIGNED_BATCH if NULLS[null].aligned else RAW_BATCH
    return [
        Batch(masks, null, tuple(numbers[start : start + size])) for start in range(0, len(numbers), size)
    ]


def drawn(batch: Batch) -> list[Integers]:
    """Return the counts of each draw of a batch, in the form of :func:`stacked`."""
    with one_thread():
        counts_of_draws = [batch.masks.draw(batch.null, index) for index in batch.numbers]
    return [stacked(counts) for counts in counts_of_draws]


def stacked(counts: Counts) -> Integers:
    """Return the shared and, if known, the agreeing counts as one array ``(1 or 2, pairs, layers)``."""
    return np.stack([part for part in (counts.shared, counts.agreeing) if part is not None])
