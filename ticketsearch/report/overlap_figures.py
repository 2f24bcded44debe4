"""The figures of one overlap study: pairs, null models, layers, profiles, pixels."""

from __future__ import annotations

from functools import partial

from ticketsearch.masks import Mask, MaskSpec
from ticketsearch.overlap import OverlapStudy
from ticketsearch.report.inputs import SHOWN, arrangement, draw_pixel_use, pixel_use
from ticketsearch.report.layers import draw_layer_bars, layer_bars
from ticketsearch.report.matrices import draw_matrix, pair_matrices
from ticketsearch.report.nulls import draw_nulls, null_panels
from ticketsearch.report.pages import Picture, picture
from ticketsearch.report.profiles import Profile, draw_profiles, drawn

__all__ = [
    "layer_picture",
    "mask_labels",
    "null_pictures",
    "pair_picture",
    "pixel_pictures",
    "profile_pictures",
    "raw_picture",
]

# The most characters of a label; masks of longer names are numbered, with a list below the figures.
LABEL = 14


def mask_labels(study: OverlapStudy) -> list[str]:
    """Return the labels of the masks in figures: their names, or numbers from 1 on if these are long."""
    if max(map(len, study.names)) <= LABEL:
        return list(study.names)
    return [str(number) for number in range(1, len(study.names) + 1)]


def pair_picture(study: OverlapStudy, prefix: str = "") -> Picture:
    """Return the figure of all pairs of masks, raw and aligned."""
    shown = pair_matrices(mask_labels(study), study.iou, study.aligned)
    sides = {"as they are": shown.raw, "renumbered to match": shown.aligned}
    draws = {
        name: partial(draw_matrix, names=shown.names, shown=matrix, top=shown.top, title=name)
        for name, matrix in sides.items()
    }
    return picture(f"{prefix}pairs", "Overlap (IoU) of each pair of masks", draws, 3.9, 4.4)


def raw_picture(study: OverlapStudy) -> Picture:
    """Return the figure of all pairs of masks as they are, in their given numbering."""
    shown = pair_matrices(mask_labels(study), study.iou, study.iou)
    draw = partial(draw_matrix, names=shown.names, shown=shown.raw, top=shown.top, title="as they are")
    return picture("pairs", "Overlap (IoU) of each pair of masks", draw, 3.9, 4.4)


def null_pictures(study: OverlapStudy, prefix: str = "") -> list[Picture]:
    """Return the figure of the null models with draws, if there are some."""
    panels = null_panels(study)
    if not panels:
        return []
    return [
        picture(
            f"{prefix}nulls",
            "Observed overlap among the draws of null models",
            partial(draw_nulls, panels=panels),
            0.7 + 1.3 * len(panels),
            caption="Each draw shuffles all masks and takes the mean IoU over their pairs, as for the masks "
            "themselves. Effects are observed − mean of the draws, with an approximate interval over masks; "
            "p is corrected within this set of masks alone. Scales differ.",
        )
    ]


def layer_picture(study: OverlapStudy, prefix: str = "") -> Picture:
    """Return the figure of overlap by layer."""
    bars = layer_bars(study)
    compared = "as they are" if bars.aligned_null is None else "compared in the same way"
    rewired = "" if bars.aligned_degrees is None else "; rewired: of the same fan-ins and fan-outs"
    return picture(
        f"{prefix}bars",
        "Overlap layer by layer",
        partial(draw_layer_bars, bars=bars),
        1 + 0.4 * len(bars.names),
        caption=f"Lines: means of null models, {compared}. Shuffled: masks of the same layer counts"
        f"{rewired}.",
    )


def profile_pictures(groups: list[Profile], *, winner: bool = False, prefix: str = "") -> list[Picture]:
    """Return the figure of fan-in and fan-out, if there are hidden units; the last mask may be a winner."""
    if not groups:
        return []
    shown = drawn(groups)
    some = f" {len(shown)} of {len(groups)} groups are drawn." if len(shown) < len(groups) else ""
    lines = "a grey line a mask" + (", that of the winner orange" if winner else "")
    return [
        picture(
            f"{prefix}profiles",
            "Fan-in and fan-out of the hidden units",
            partial(draw_profiles, groups=shown, highlighted=winner),
            0.8 + 1.4 * len(shown),
            caption=f"Units of a group in order of their weights, {lines}.{some}",
        )
    ]


def pixel_pictures(
    masks: Mask,
    spec: MaskSpec,
    input_shape: tuple[int, ...],
    winner: Mask | None = None,
    prefix: str = "",
) -> list[Picture]:
    """Return the maps of the pixels that masks read, if their inputs are the pixels of an image."""
    use = pixel_use(masks, winner, spec, input_shape)
    if use is None:
        return []
    rows, columns = arrangement(use)
    some = f" The first {SHOWN} of {len(masks)} masks are drawn." if len(masks) > SHOWN else ""
    return [
        picture(
            f"{prefix}pixels",
            "Pixels that each mask reads",
            partial(draw_pixel_use, use=use),
            0.8 + (5 / columns + 0.3) * rows,
            5.2,
            caption="Live weights at each pixel, one scale for all; in brackets the share of pixels that any "
            f"weight reads.{some}",
            wide=True,
        )
    ]
