"""Bars: the overlap layer by layer, raw and aligned, beside that expected by chance."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from ticketsearch.overlap import ALIGNED_DEGREES, ALIGNED_UNIFORM, OverlapStudy
from ticketsearch.report.pages import BLUE, INK, ORANGE, PURPLE
from ticketsearch.typing import Floats

__all__ = ["LayerBars", "draw_layer_bars", "layer_bars"]


class LayerBars(NamedTuple):
    """Mean IoU over pairs, whole network first, then layer by layer; each ``(1 + layers,)``.

    ``chance`` and ``aligned_null`` are of masks shuffled within layers, ``aligned_degrees`` of rewired ones.
    """

    names: list[str]
    raw: Floats
    chance: Floats
    aligned: Floats
    aligned_null: Floats | None
    aligned_degrees: Floats | None = None


def layer_bars(study: OverlapStudy) -> LayerBars:
    """Return the bars of a study; a null model of renumbered masks is None without its draws."""
    names = [layer.name for layer in study.spec.layers]
    expected = {
        null: np.array([tests[name].mean for name in ("iou", *names)]) for null, tests in study.nulls.items()
    }
    return LayerBars(
        ["all weights", *names],
        _means(study.iou, study.layers),
        _means(study.chance, study.layers_chance),
        _means(study.aligned, study.aligned_layers),
        expected.get(ALIGNED_UNIFORM),
        expected.get(ALIGNED_DEGREES),
    )


def _means(whole: Floats, layers: Floats) -> Floats:
    """Return the means over pairs, each counted once."""
    pairs = np.tril_indices(len(whole), -1)
    return np.array([matrix[pairs].mean() for matrix in (whole, *layers)])


def draw_layer_bars(figure: Figure, bars: LayerBars) -> None:
    """Draw two bars a layer, with a line across each at the mean of its null models.

    Renumbered masks are left out without null models of their own.
    """
    axes = figure.subplots()
    rows = [
        ("as they are", bars.raw, bars.chance, None, BLUE),
        ("renumbered to match", bars.aligned, bars.aligned_null, bars.aligned_degrees, ORANGE),
    ]
    if bars.aligned_null is None:
        rows.pop()
    height = 0.38
    for turn, (label, observed, shuffled, rewired, colour) in enumerate(rows):
        places = np.arange(len(bars.names)) + (turn - 0.5) * height
        axes.barh(places, observed, 0.86 * height, color=colour, label=label)
        for expected, ink in ((shuffled, INK), (rewired, PURPLE)):
            if expected is not None:
                axes.vlines(expected, places - height / 2, places + height / 2, color=ink, linewidth=1.8)
    shown = {"shuffled": INK} | ({} if bars.aligned_degrees is None else {"rewired": PURPLE})
    for label, ink in shown.items():
        axes.plot([], [], "|", color=ink, markersize=9, markeredgewidth=1.8, label=label)
    axes.set_yticks(range(len(bars.names)), bars.names)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(bars.names) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.set_xlim(0, None)
    axes.set_xlabel("IoU, mean over pairs of masks")
    handles, labels = axes.get_legend_handles_labels()
    order = [*range(len(shown), len(labels)), *range(len(shown))]  # bars first
    figure.legend(
        [handles[index] for index in order],
        [labels[index] for index in order],
        loc="outside upper left",
        ncols=4,
        fontsize=8.5,
        handlelength=1.2,
        columnspacing=1.2,
    )
