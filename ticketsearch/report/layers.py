"""Bars: the overlap layer by layer, raw and aligned, beside that expected by chance."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from ticketsearch.overlap import OverlapStudy
from ticketsearch.report.pages import BLUE, INK, ORANGE
from ticketsearch.typing import Floats

__all__ = ["LayerBars", "draw_layer_bars", "layer_bars"]


class LayerBars(NamedTuple):
    """Mean IoU over pairs, whole network first, then layer by layer; each ``(1 + layers,)``."""

    names: list[str]
    raw: Floats
    chance: Floats
    aligned: Floats
    aligned_null: Floats | None


def layer_bars(study: OverlapStudy) -> LayerBars:
    """Return the bars of a study; ``aligned_null`` is None without draws of ``aligned_uniform``."""
    names = [layer.name for layer in study.spec.layers]
    nulls = study.nulls.get("aligned_uniform")
    return LayerBars(
        ["all weights", *names],
        _means(study.iou, study.layers),
        _means(study.chance, study.layers_chance),
        _means(study.aligned, study.aligned_layers),
        None if nulls is None else np.array([nulls[name].mean for name in ("iou", *names)]),
    )


def _means(whole: Floats, layers: Floats) -> Floats:
    """Return the means over pairs, each counted once."""
    pairs = np.tril_indices(len(whole), -1)
    return np.array([matrix[pairs].mean() for matrix in (whole, *layers)])


def draw_layer_bars(figure: Figure, bars: LayerBars) -> None:
    """Draw two bars a layer, with a line across each at its expectation by chance or the null model."""
    axes = figure.subplots()
    rows = (
        ("as they are", bars.raw, bars.chance, BLUE),
        ("renumbered to match", bars.aligned, bars.aligned_null, ORANGE),
    )
    height = 0.38
    for turn, (label, observed, expected, colour) in enumerate(rows):
        places = np.arange(len(bars.names)) + (turn - 0.5) * height
        axes.barh(places, observed, 0.86 * height, color=colour, label=label)
        if expected is not None:
            axes.vlines(expected, places - height / 2, places + height / 2, color=INK, linewidth=1.8)
    axes.plot([], [], "|", color=INK, markersize=9, markeredgewidth=1.8, label="chance")
    axes.set_yticks(range(len(bars.names)), bars.names)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(bars.names) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.set_xlim(0, None)
    axes.set_xlabel("IoU, mean over pairs of masks")
    (chance, *bars_), (word, *words) = axes.get_legend_handles_labels()
    figure.legend(
        [*bars_, chance], [*words, word], loc="outside upper left", ncols=3, fontsize=8.5, handlelength=1.2
    )
