"""Heat maps of the inputs: how many kept weights read each pixel of an image."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from ticketsearch.masks import Mask, MaskSpec, live_edges
from ticketsearch.report.pages import GREY, HEAT, INK
from ticketsearch.typing import Floats, Indices

__all__ = ["PixelUse", "arrangement", "draw_pixel_use", "pixel_use"]

# The most initializations drawn one by one.
SHOWN = 18


class PixelUse(NamedTuple):
    """Number of live weights that read each pixel: by mask ``(masks, height, width)``, mean, the winner's."""

    seeds: Indices
    mean: Floats
    winner: Indices | None


def pixel_use(
    seeds: Mask, winner: Mask | None, spec: MaskSpec, input_shape: tuple[int, ...]
) -> PixelUse | None:
    """Return the use of pixels of images ``(channels, height, width)`` by ``(masks, weights)`` masks.

    None if the inputs are not images, or weights do not read single pixels, as in a convolution.
    """
    first = [i for i, group in enumerate(spec.groups) if group.kind == "input"]
    if len(input_shape) != 3 or [spec.groups[i].size for i in first] != [math.prod(input_shape)]:
        return None

    def used(mask: Mask) -> Indices:
        edges, _ = live_edges(mask, spec)
        sources = [e.columns for e, p in zip(edges, spec.pieces, strict=True) if p.source == first[0]]
        counts = np.bincount(np.concatenate(sources), minlength=math.prod(input_shape))
        summed: Indices = counts.reshape(input_shape).sum(axis=0)
        return summed

    by_mask = np.stack([used(mask) for mask in seeds])
    return PixelUse(by_mask, by_mask.mean(axis=0), None if winner is None else used(winner))


def arrangement(use: PixelUse) -> tuple[int, int]:
    """Return the rows and columns of the maps: at most five beside each other, rows as even as can be."""
    maps = min(len(use.seeds), SHOWN) + 1 + (use.winner is not None)
    rows = -(-maps // 5)
    return rows, -(-maps // rows)


def draw_pixel_use(figure: Figure, use: PixelUse) -> None:
    """Draw a map an initialization, then their mean and the winner's, all on one scale."""
    maps = [(str(number), pixels) for number, pixels in enumerate(use.seeds[:SHOWN], 1)]
    maps.append(("mean", use.mean))
    if use.winner is not None:
        maps.append(("winner", use.winner))
    top = max(float(pixels.max()) for _, pixels in maps)
    panels = figure.subplots(*arrangement(use), squeeze=False)
    for axes in panels.flat:
        axes.set_axis_off()
    for axes, (name, pixels) in zip(panels.flat, maps, strict=False):
        axes.set_axis_on()
        axes.imshow(pixels, cmap=HEAT, vmin=0, vmax=top, interpolation="none")
        axes.grid(visible=False)
        axes.spines[:].set(visible=True, edgecolor=GREY, linewidth=0.6)
        axes.set_xticks([])
        axes.set_yticks([])
        share = np.count_nonzero(pixels) / pixels.size
        axes.set_title(f"{name}" if name == "mean" else f"{name}  ({share:.0%})", fontsize=9)
    scale = ScalarMappable(Normalize(0, top), HEAT)
    bar = figure.colorbar(scale, ax=panels, orientation="horizontal", aspect=40, shrink=0.6, pad=0.03)
    bar.outline.set_edgecolor(GREY)
    bar.set_label("kept weights that read the pixel", color=INK)
