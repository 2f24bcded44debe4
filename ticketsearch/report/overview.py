"""The overview of an overlap study: the overlap of each set of masks, beside the draws of its null models."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from ticketsearch.overlap import OverlapStudy
from ticketsearch.overlap_studies import Case
from ticketsearch.report.pages import BLUE, GREY, ORANGE, Picture, picture

__all__ = ["NullSpan", "OverviewRow", "draw_overview", "overview_picture", "overview_rows"]

# The most rows of the figure, and the most characters on a line of a label.
ROWS, LABEL = 24, 26
# From the dot of a row to its first bar, where rows are 1 apart.
STEP = 0.24
# Null models of masks as they are, and renumbered, by the label of each.
SHUFFLED, REWIRED = "shuffled within layers", "same degrees, rewired"
RAW = {SHUFFLED: "uniform"}
ALIGNED = {SHUFFLED: "aligned_uniform", REWIRED: "aligned_degrees"}
COLOURS = {SHUFFLED: GREY, REWIRED: BLUE}


class NullSpan(NamedTuple):
    """The mean of a null model's draws, and the ends of the span of 95 % of them."""

    mean: float
    low: float
    high: float


class OverviewRow(NamedTuple):
    """One set of masks: the mean IoU over pairs, and the null models that were drawn, by label."""

    title: str
    observed: float
    nulls: dict[str, NullSpan]


def overview_rows(cases: Sequence[Case], *, aligned: bool) -> list[OverviewRow]:
    """Return a row a set of masks, compared as they are, or aligned.

    Renumbering makes any two masks more alike, so that aligned sets without draws have no row.
    """
    rows = []
    for case in cases:
        study = case.study
        nulls = {
            label: _span(study, model)
            for label, model in (ALIGNED if aligned else RAW).items()
            if model in study.drawn
        }
        if not aligned and not nulls:
            expected = study.mean(study.chance)
            nulls = {SHUFFLED: NullSpan(expected, expected, expected)}
        if nulls:
            rows.append(OverviewRow(case.title, study.mean(study.aligned if aligned else study.iou), nulls))
    return rows


def _span(study: OverlapStudy, model: str) -> NullSpan:
    draws = study.drawn[model]["iou"]
    return NullSpan(float(draws.mean()), *(float(end) for end in np.quantile(draws, (0.025, 0.975))))


def overview_picture(cases: Sequence[Case]) -> Picture:
    """Return the figure of all sets of masks: as they are, and renumbered."""
    shown = cases[:ROWS]
    some = f" The first {ROWS} of {len(cases)} sets are drawn." if len(cases) > ROWS else ""
    draws = {
        name: partial(draw_overview, rows=rows, title=name)
        for name, aligned in (("as they are", False), ("renumbered to match", True))
        if (rows := overview_rows(shown, aligned=aligned))
    }
    return picture(
        "overview",
        "Overlap of masks, beside that of masks at random",
        draws,
        1.05 + 0.34 * len(shown),
        caption="IoU, mean over pairs of masks. Bars: 95 % of the draws of a null model, with a tick at "
        "their mean; each draw replaces all masks, which are then compared in the same way as the masks "
        f"themselves. Scales differ.{some}",
    )


def draw_overview(figure: Figure, rows: Sequence[OverviewRow], title: str) -> None:
    """Draw a row a set of masks: a dot at its overlap, and a bar a null model."""
    axes = figure.subplots()
    for place, row in enumerate(rows):
        # One below the other, so that the dot hides no bar.
        first, *others = place + STEP * (np.arange(1 + len(row.nulls)) - len(row.nulls) / 2)
        axes.plot(row.observed, first, "o", color=ORANGE, markersize=5)
        for level, (label, span) in zip(others, row.nulls.items(), strict=True):
            axes.hlines(level, span.low, span.high, color=COLOURS[label], linewidth=3)
            axes.vlines(span.mean, level - STEP / 2, level + STEP / 2, color=COLOURS[label], linewidth=1.8)
    axes.plot([], [], "o", color=ORANGE, markersize=5, label="observed")
    for label in dict.fromkeys(label for row in rows for label in row.nulls):
        axes.plot([], [], color=COLOURS[label], linewidth=3, label=label)
    axes.set_yticks(range(len(rows)), [textwrap.fill(row.title, LABEL) for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    shown = [value for row in rows for value in (row.observed, *(span.high for span in row.nulls.values()))]
    axes.set_xlim(0, 1.06 * max(shown) or 1)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.set_title(title)
    axes.set_xlabel("IoU")
    figure.legend(loc="outside lower center", ncols=3, fontsize=8.5, handlelength=1.4, columnspacing=1.2)
