"""The figure of null models: the draws of each, and the observed overlap among them."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ticketsearch.overlap import Null, OverlapStudy
from ticketsearch.report.pages import GREY, ORANGE
from ticketsearch.report.text import shown_effect
from ticketsearch.typing import Floats

__all__ = ["NULL_LABELS", "NullPanel", "draw_nulls", "null_panels", "null_text", "signed"]

# The labels of null models: how masks are compared, and what its shuffles keep.
NULL_LABELS = {
    "uniform": ("as they are", "layer counts"),
    "aligned_uniform": ("renumbered", "layer counts"),
    "aligned_degrees": ("renumbered", "unit degrees"),
}


class NullPanel(NamedTuple):
    """One null model: how masks are compared, what it keeps, ``(draws,)`` mean IoU over pairs, its test.

    ``more`` says whether masks are more alike than its draws; None where these are too few to tell.
    """

    compared: str
    kept: str
    draws: Floats
    null: Null
    more: bool | None


def null_panels(study: OverlapStudy) -> list[NullPanel]:
    """Return the null models of a study that have draws."""
    return [
        NullPanel(*labels, study.drawn[name]["iou"], null := study.nulls[name]["iou"], study.more(null))
        for name, labels in NULL_LABELS.items()
        if name in study.drawn
    ]


def null_text(null: Null, more: bool | None) -> str:
    """Return a test as text: ``more alike\\n+0.0110 (95 % +0.0040 to +0.0181), p = 0.02``."""
    p = null.p if null.holm is None else null.holm
    interval = "" if math.isnan(null.low) else f" (95 % {signed(null.low)} to {signed(null.high)})"
    verdict = "too few draws to tell" if more is None else "more alike" if more else "no more alike"
    return f"{verdict}\n{signed(shown_effect(null))}{interval}, p = {p:.2g}"


def signed(value: float) -> str:
    """Return a difference of IoU with its sign."""
    return f"{value:+.4f}".replace("-", "−")


def draw_nulls(figure: Figure, panels: list[NullPanel]) -> None:
    """Draw a histogram a null model, on a scale of its own, with the observed mean as a line."""
    figure.set_layout_engine("constrained", h_pad=0.1)
    for axes, panel in zip(figure.subplots(len(panels), 1, squeeze=False).flat, panels, strict=True):
        shown = np.append(panel.draws, panel.null.observed)
        bins = 2 * np.sqrt(len(panel.draws)), 70 * np.ptp(panel.draws) / (np.ptp(shown) or 1), 30
        axes.hist(panel.draws, max(1, round(min(bins))), color=GREY, label="draws of the null model")
        axes.axvline(panel.null.observed, color=ORANGE, linewidth=2, label="observed")
        margin = 0.06 * np.ptp(shown) or 0.01
        axes.set_xlim(shown.min() - margin, shown.max() + margin)
        title = f"{panel.compared}, shuffles keep {panel.kept}: {null_text(panel.null, panel.more)}"
        axes.set_title(title, linespacing=1.3)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
    axes.set_xlabel("IoU, mean over pairs of masks")
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=2, fontsize=8.5)
