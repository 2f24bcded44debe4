"""Overlap of masks: raw, against chance, and aligned over renumberings of hidden neurons.

Overlap is intersection over union (IoU, Jaccard) of the kept weights. Raw overlap compares weight by weight
(``raw``); its chance level, with the same number of weights in each layer, is exact (``chance``). Aligned
overlap first renumbers hidden units so that the intersection is large (``alignment``, ``ascent``); what that
alone brings is measured by null models, in which every mask is shuffled and aligned in the same way
(``nulls``). ``study`` puts them side by side.
"""

from ticketsearch.overlap.alignment import align, align_order
from ticketsearch.overlap.chance import Chance, chance_iou
from ticketsearch.overlap.nulls import Null, degree_shuffle
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
    "iou",
    "overlap_study",
    "pairwise_iou",
    "raw_overlap",
]
