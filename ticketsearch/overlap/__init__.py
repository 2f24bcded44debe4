"""Overlap of masks: raw, against chance, and aligned over renumberings of hidden neurons.

Overlap is intersection over union (IoU, Jaccard) of the kept weights. Raw overlap compares weight by weight
(``raw``); its chance level, with the same number of weights in each layer, is exact (``chance``). Aligned
overlap first renumbers hidden units so that the intersection is large (``alignment``, which asks ``identity``
whether masks are the same network, leaves out what ``occupied`` does not hold, and climbs by ``ascent``;
``activations`` is another way to match units). All measures follow from counts of weights, pair by pair and
layer by layer (``counts``), but for the distances of ``profiles``. What alignment alone brings is measured by
null models, in which every mask is shuffled and aligned in the same way (``nulls``, ``draws``), with
intervals and tests (``inference``). ``study`` puts them side by side.
"""

from ticketsearch.overlap.alignment import align, align_order
from ticketsearch.overlap.chance import Chance, chance_iou
from ticketsearch.overlap.inference import Null, holm, jackknife
from ticketsearch.overlap.nulls import degree_shuffle
from ticketsearch.overlap.raw import RawOverlap, containment, iou, pairwise_iou, raw_overlap
from ticketsearch.overlap.study import OverlapStudy, overlap_study

__all__ = [
    "Chance",
    "Null",
    "OverlapStudy",
    "RawOverlap",
    "align",
    "align_order",
    "chance_iou",
    "containment",
    "degree_shuffle",
    "holm",
    "iou",
    "jackknife",
    "overlap_study",
    "pairwise_iou",
    "raw_overlap",
]
