"""The overlap of all pairs of masks as two matrices, raw and aligned, on one scale."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from ticketsearch.report.pages import GREY, INK, WASH
from ticketsearch.typing import Floats

__all__ = ["PairMatrices", "draw_matrix", "pair_matrices"]

# The most masks whose values are printed in the cells.
PRINTED = 12


class PairMatrices(NamedTuple):
    """IoU below the diagonal, ``(masks, masks)`` and NaN elsewhere, and ``top``, the largest of both."""

    names: list[str]
    raw: Floats
    aligned: Floats
    top: float


def pair_matrices(names: list[str], raw: ArrayLike, aligned: ArrayLike) -> PairMatrices:
    """Return the ``(masks, masks)`` IoU of all pairs below the diagonal: each pair once."""
    shown = []
    for matrix in (raw, aligned):
        below = np.array(matrix, dtype=np.float64)
        below[np.triu_indices(len(below))] = np.nan
        shown.append(below)
    return PairMatrices(names, shown[0], shown[1], max(float(np.nanmax(shown)), 1e-9))


def draw_matrix(figure: Figure, names: list[str], shown: Floats, top: float, title: str) -> None:
    """Draw a matrix below its diagonal; the colour scale is in the empty corner, if there is one."""
    axes = figure.subplots()
    count = len(names)
    axes.imshow(shown, cmap=WASH, vmin=0, vmax=top, interpolation="none")
    if count <= PRINTED:
        for i, j in np.argwhere(~np.isnan(shown)):
            text = f"{shown[i, j]:.3f}".removeprefix("0")
            axes.text(j, i, text, ha="center", va="center", fontsize=9 if count < 10 else 7.5)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    every = -(-count // 20)
    axes.set_xticks(range(0, count - 1, every), names[: count - 1 : every])
    axes.set_yticks(range(1, count, every), names[1::every])
    axes.set_xlim(-0.5, count - 1.5)
    axes.set_ylim(count - 0.5, 0.5)
    axes.tick_params(length=0)
    axes.set_title(title)
    if count < 3:
        return
    inset = axes.inset_axes((0.58, 0.88, 0.4, 0.035))
    bar = figure.colorbar(ScalarMappable(Normalize(0, top), WASH), cax=inset, orientation="horizontal")
    bar.outline.set_edgecolor(GREY)
    inset.set_xticks([0, top], ["0", f"{top:.3f}".removeprefix("0")], color=INK)
    inset.set_title("IoU", fontsize=8, loc="center", pad=3)
