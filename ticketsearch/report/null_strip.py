"""The strip of an overlap study: observed overlap among the draws of its null models, on one axis."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from ticketsearch.overlap import ALIGNED_DEGREES, ALIGNED_UNIFORM, UNIFORM, OverlapStudy
from ticketsearch.report.pages import BLUE, GREY, ORANGE, Picture, picture
from ticketsearch.typing import Floats

__all__ = ["StripRow", "strip_picture", "strip_rows"]

SHUFFLED, REWIRED = "shuffled within layers", "rewired, same fan-ins and fan-outs"
COLOURS = {SHUFFLED: GREY, REWIRED: BLUE}


class StripRow(NamedTuple):
    """Masks compared in one way: the mean IoU over pairs, and of each draw by null model, ``(draws,)``."""

    compared: str
    observed: float
    draws: dict[str, Floats]


def strip_rows(study: OverlapStudy) -> list[StripRow]:
    """Return the rows of a study with draws: masks as they are, and renumbered to match."""
    return [
        StripRow("as they are", study.mean(study.iou), {SHUFFLED: study.drawn[UNIFORM]["iou"]}),
        StripRow(
            "renumbered\nto match",
            study.mean(study.aligned),
            {SHUFFLED: study.drawn[ALIGNED_UNIFORM]["iou"], REWIRED: study.drawn[ALIGNED_DEGREES]["iou"]},
        ),
    ]


def strip_picture(study: OverlapStudy) -> Picture:
    """Return the figure of a study with draws."""
    rows = strip_rows(study)
    draws = len(rows[0].draws[SHUFFLED])
    return picture(
        "nulls",
        "Overlap of the masks, and of masks at random",
        partial(draw_strip, rows=rows),
        2.6,
        caption=f"IoU, mean over pairs of masks. Ticks: {draws} draws of each null model, which replace all "
        "masks and are compared in the same way.",
    )


def draw_strip(figure: Figure, rows: list[StripRow]) -> None:
    """Draw a row a comparison: a dot at the observed overlap, and below it a tick a draw."""
    axes = figure.subplots()
    for place, row in enumerate(rows):
        axes.plot(row.observed, place - 0.25, "o", color=ORANGE, markersize=6)
        for level, (label, draws) in enumerate(row.draws.items()):
            height = np.full(len(draws), place + 0.25 * level)
            axes.plot(draws, height, "|", color=COLOURS[label], markersize=9, markeredgewidth=1.1)
    axes.plot([], [], "o", color=ORANGE, markersize=6, label="observed")
    for label, colour in COLOURS.items():
        axes.plot([], [], "|", color=colour, markersize=9, markeredgewidth=1.6, label=label)
    axes.set_yticks(range(len(rows)), [row.compared for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, None)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("IoU")
    figure.legend(loc="outside lower center", ncols=2, fontsize=8.5, handlelength=1.2, columnspacing=1.2)
