"""Overlap of masks: raw, against chance, and aligned over renumberings of hidden neurons.

Overlap is intersection over union (IoU, Jaccard) of the kept weights. Raw overlap compares weight by weight
(``raw``, with the diversity of a population); its chance level, with the same number of weights in each
layer, is exact (``chance``). Aligned overlap first renumbers hidden units so that the intersection is large
(:mod:`ticketsearch.alignment`). All measures follow from counts of weights, pair by pair and layer by layer,
except the distances of ``profiles``. Null models measure the overlap that alignment alone creates: every mask
is shuffled and aligned in the same way (``null_models``, ``draws``), with intervals and tests
(``null_tests``). ``study`` combines all of them into ``results``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ticketsearch import lazy

__all__ = [
    "ALIGNED_DEGREES",
    "ALIGNED_UNIFORM",
    "NULLS",
    "UNIFORM",
    "Chance",
    "Diversity",
    "Masks",
    "Null",
    "OverlapStudy",
    "RawOverlap",
    "batches",
    "chance_iou",
    "conclude",
    "containment",
    "degree_shuffle",
    "degrees",
    "diversity",
    "drawn",
    "iou",
    "overlap_study",
    "pairwise_iou",
    "raw_overlap",
    "stacked",
]

_HOMES = {
    "chance": "Chance chance_iou",
    "draws": "Masks batches drawn stacked",
    "null_models": "ALIGNED_DEGREES ALIGNED_UNIFORM NULLS UNIFORM degree_shuffle",
    "null_tests": "Null",
    "profiles": "degrees",
    "raw": "Diversity RawOverlap containment diversity iou pairwise_iou raw_overlap",
    "results": "OverlapStudy",
    "study": "conclude overlap_study",
}

if TYPE_CHECKING:
    from ticketsearch.overlap.chance import Chance, chance_iou
    from ticketsearch.overlap.draws import Masks, batches, drawn, stacked
    from ticketsearch.overlap.null_models import (
        ALIGNED_DEGREES,
        ALIGNED_UNIFORM,
        NULLS,
        UNIFORM,
        degree_shuffle,
    )
    from ticketsearch.overlap.null_tests import Null
    from ticketsearch.overlap.profiles import degrees
    from ticketsearch.overlap.raw import (
        Diversity,
        RawOverlap,
        containment,
        diversity,
        iou,
        pairwise_iou,
        raw_overlap,
    )
    from ticketsearch.overlap.results import OverlapStudy
    from ticketsearch.overlap.study import conclude, overlap_study

__getattr__ = lazy.face(__name__, _HOMES)
