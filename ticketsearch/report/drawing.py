"""The drawing of a diagram: units as dots in rows, the input image in perspective, lines between them."""

from __future__ import annotations

import itertools

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon

from ticketsearch.report.diagram import Bond, Diagram, Row
from ticketsearch.report.pages import BLUE, GREY, INK, ORANGE, PAPER, segments
from ticketsearch.typing import Floats

__all__ = ["draw_diagram", "drawing_height", "lines_drawn"]

# The most lines that can be told apart, and the number of paths they are drawn in: lines of one path do not
# darken each other where they cross, those of different paths do.
LINES, PATHS = 6000, 24
# Inches: the figure's width, between rows, and the height of an image.
WIDTH, GAP, IMAGE = 5.6, 1.1, 1.4
# The classes that are named one by one, and the sizes of dots in points for few and many weights.
NAMED, SMALL, LARGE = 20, 1.6, 8.0
COLOURS = {1: BLUE, -1: ORANGE, 0: GREY}


def lines_drawn(diagram: Diagram) -> list[int]:
    """Return the number of lines drawn for each bond: all, or for larger bonds the same number each."""
    pairs = [len(bond.tails) for bond in diagram.bonds]
    left = LINES
    for turn, count in enumerate(sorted(pairs)):
        most = left // (len(pairs) - turn)
        if count > most:
            return [min(count, most) for count in pairs]
        left -= count
    return pairs


def drawing_height(diagram: Diagram) -> float:
    """Return the height of the drawing in inches."""
    return 0.7 + (IMAGE if diagram.image else 0) + _gap(diagram) * (len(diagram.rows) - 1)


def _gap(diagram: Diagram) -> float:
    return min(GAP, 6.6 / max(len(diagram.rows) - 1, 1))


def draw_diagram(figure: Figure, diagram: Diagram) -> None:
    """Draw a live network from its inputs, above, to its outputs."""
    axes = figure.subplots()
    axes.set_axis_off()
    bottom = (IMAGE if diagram.image else 0) + _gap(diagram) * (len(diagram.rows) - 1)
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom + 0.3, -0.12)
    places = []
    for number, row in enumerate(diagram.rows):
        image = diagram.image if row.kind == "input" else None
        level = (IMAGE if diagram.image else 0) + _gap(diagram) * number
        places.append(
            _image_places(row) if image else np.stack([row.place, np.full(len(row.units), level)], 1)
        )
        _label(axes, row, IMAGE / 2 if image else level)
    for bond, count in zip(diagram.bonds, lines_drawn(diagram), strict=True):
        _lines(axes, bond, places, count)
    if diagram.image:
        corners = _plane(np.array([[0, 0], [1, 0], [1, 1], [0, 1]], dtype=np.float64))
        axes.add_patch(Polygon(corners, closed=True, fill=False, edgecolor=GREY, linewidth=0.8))
    for number, row in enumerate(diagram.rows):
        pixels = diagram.image is not None and row.kind == "input"
        largest = 3.2 if pixels else min(LARGE, 72 * WIDTH * 0.8 / max(len(row.units), 1))
        _dots(axes, row, places[number], largest)
        if row.kind == "output" and row.size <= NAMED:
            for unit, (x, y) in zip(row.units, places[number], strict=True):
                axes.text(x, y + 0.1, str(unit), ha="center", va="top")


def _plane(points: Floats) -> Floats:
    """Project points of the unit square, as an image seen at a slant."""
    along, down = points.T
    return np.stack([0.5 + (along - 0.5) * (0.62 + 0.3 * down), down * (IMAGE - 0.25)], axis=1)


def _image_places(row: Row) -> Floats:
    return _plane(np.stack([row.place, row.depth], axis=1))


def _label(axes: Axes, row: Row, level: float) -> None:
    noun = {"input": "inputs used", "hidden": "units live", "output": "outputs"}[row.kind]
    text = f"{row.name}\n{len(row.units):,} of {row.size:,}\n{noun}"
    axes.text(-0.02, level, text, ha="right", va="center", fontsize=8.5, linespacing=1.15)


def _lines(axes: Axes, bond: Bond, places: list[Floats], count: int) -> None:
    """Draw the first ``count`` pairs of a bond, in a colour a sign, thicker for more weights."""
    ends = np.stack(
        [places[bond.source][bond.tails[:count]], places[bond.target][bond.heads[:count]]], axis=1
    )
    opacity = float(np.clip(9 / np.sqrt(max(count, 1)), 0.14, 0.7))
    sign, kept = bond.sign[:count], bond.kept[:count]
    width = np.ceil(3 * kept / bond.positions).astype(int)
    turn = np.arange(count) % PATHS
    # Signs in turn, so that neither lies over the other.
    for path, value, thick in itertools.product(range(PATHS), COLOURS, (1, 2, 3)):
        chosen = ends[(sign == value) & (width == thick) & (turn == path)]
        if len(chosen):
            thickness = 0.5 if bond.positions == 1 else 0.4 * thick
            axes.add_patch(segments(chosen, COLOURS[value], thickness, opacity))


def _dots(axes: Axes, row: Row, places: Floats, largest: float) -> None:
    """Draw the units; the area of a dot grows with the unit's weights relative to its row, in seven sizes."""
    size = np.sqrt(row.degree / row.degree.max(initial=1))
    step = np.ceil(size * 7).astype(int)
    for size_step in np.unique(step):
        chosen = places[step == size_step]
        axes.plot(
            *chosen.T,
            "s" if row.depth.any() else "o",
            color=INK,
            markersize=max(min(SMALL, largest), largest * size_step / 7),
            markeredgecolor=PAPER,
            markeredgewidth=0.25,
            clip_on=False,
        )
