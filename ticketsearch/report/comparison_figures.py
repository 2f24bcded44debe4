"""The figures of a comparison: accuracy by method, against density, against cost, and during the searches."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

from ticketsearch.comparison import BestSoFar, Comparison
from ticketsearch.report.pages import BLUE, GREY, INK, ORANGE, PURPLE, TEAL, Picture, picture
from ticketsearch.statistics import Interval
from ticketsearch.typing import Floats

__all__ = [
    "BudgetPoint",
    "Curve",
    "DotRow",
    "accuracy_pictures",
    "budget_points",
    "cost_picture",
    "curves",
    "dot_rows",
    "search_pictures",
]

# Colour and line style of each method.
Looks = dict[str, dict[str, Any]]
COLOURS = (ORANGE, BLUE, TEAL, PURPLE, INK, GREY)
# The marker of each line style, where a figure has points.
MARKS = {"-": "o", "--": "s", ":": "^"}
# Methods that have the same colour on every page.
FIRST = ("evolution", "imp_best", "imp", "synflow", "dense", "random")


class Curve(NamedTuple):
    """The test accuracy of one method at its densities: mean and interval, each ``(densities,)``."""

    method: str
    density: Floats
    accuracy: Floats
    low: Floats
    high: Floats


class DotRow(NamedTuple):
    """The test accuracies of one method, ``(initializations,)``, with their mean and its interval."""

    method: str
    accuracies: Floats
    accuracy: Interval


class BudgetPoint(NamedTuple):
    """The test accuracy of one method at one density, and the FLOPs of making one mask; 0 for none."""

    method: str
    flops: float
    accuracy: float
    low: float
    high: float


def curves(comparison: Comparison) -> list[Curve]:
    """Return a curve a method; the dense network's is level over all densities."""
    drawn = []
    for method in comparison.methods:
        points = [(d, r) for d in comparison.densities for r in comparison.at(d) if r.method == method]
        densities = np.array([density for density, _ in points])
        drawn.append(Curve(method, densities, *np.array([result.accuracy for _, result in points]).T))
    return drawn


def dot_rows(comparison: Comparison, density: float) -> list[DotRow]:
    """Return a row a method at one density, in the order of the table."""
    return [
        DotRow(result.method, np.array(list(result.accuracies.values())), result.accuracy)
        for result in comparison.at(density)
    ]


def budget_points(comparison: Comparison, density: float) -> list[BudgetPoint]:
    """Return the points of a density, without controls: their masks have points already."""
    return [
        BudgetPoint(result.method, float(result.spent.flops), *result.accuracy)
        for result in comparison.at(density)
        if not result.is_control
    ]


def accuracy_pictures(comparison: Comparison, prefix: str = "") -> list[Picture]:
    """Return the figure of test accuracies: lines over densities, or of a single density a row a method."""
    name, looks = f"{prefix}accuracies", _looks(comparison.methods)
    if len(comparison.densities) > 1:
        draw = partial(draw_curves, curves=curves(comparison), looks=looks)
        caption = "Means over initializations with 95 % bootstrap intervals."
        title = "Test accuracy against density"
        return [picture(name, title, draw, 4.0, 5.2, caption=caption, wide=True)]
    return [
        picture(
            name,
            f"Test accuracy at density {density:g}",
            partial(draw_dots, rows=dot_rows(comparison, density), looks=looks),
            0.6 + 0.32 * len(comparison.at(density)),
            caption="Large dots: means over initializations, with 95 % bootstrap intervals. Small dots: the "
            "initializations.",
        )
        for density in comparison.densities
    ]


def cost_picture(comparison: Comparison, prefix: str = "") -> Picture:
    """Return the figure of test accuracy against the cost of a mask, a panel a density."""
    looks = _looks(comparison.methods)
    draws = {
        f"density {density:g}": partial(
            draw_budget, points=budget_points(comparison, density), density=density, looks=looks
        )
        for density in comparison.densities
    }
    return picture(
        f"{prefix}budgets",
        "Test accuracy against the cost of one mask",
        draws,
        3.8,
        caption="Floating-point operations of live weights, without the final training. Methods of "
        "negligible cost are level lines. Means with 95 % bootstrap intervals.",
    )


def search_pictures(comparison: Comparison, prefix: str = "") -> list[Picture]:
    """Return the figure of the searches' best masks so far, if there are searches, a panel a density."""
    looks = _looks(comparison.methods)
    by_density = {
        density: [search for search in comparison.best_so_far if search.density == density]
        for density in comparison.densities
    }
    draws = {
        f"density {density:g}": partial(draw_searches, searches=searches, density=density, looks=looks)
        for density, searches in by_density.items()
        if searches
    }
    if not draws:
        return []
    return [
        picture(
            f"{prefix}searches",
            "Validation accuracy during the searches",
            draws,
            3.8,
            caption="Validation accuracy, not test accuracy, of the best mask so far, a line an "
            "initialization. imp_best evaluates masks by the final training, the other searches by short "
            "trainings, so that their lines lie lower than the accuracies of their masks. The line of the "
            "evolution begins where its best mask reaches the requested density.",
        )
    ]


def _looks(methods: Sequence[str]) -> Looks:
    """Return colour and line style of each method, no two alike as far as there are enough."""
    ordered = sorted(methods, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))
    all_pairs = [(colour, style) for style in MARKS for colour in COLOURS]
    pairs = {name: all_pairs[FIRST.index(name)] for name in ordered if name in FIRST}
    unused = iter([pair for pair in all_pairs if pair not in pairs.values()] * len(ordered))
    pairs |= {name: next(unused) for name in ordered if name not in pairs}
    return {name: {"color": colour, "linestyle": style} for name, (colour, style) in pairs.items()}


def draw_curves(figure: Figure, curves: Sequence[Curve], looks: Looks) -> None:
    """Draw a line a method over densities, with intervals."""
    axes = figure.subplots()
    for number, curve in enumerate(curves):
        # A little apart, so that intervals do not hide each other.
        x = curve.density * 1.015 ** (number - len(curves) / 2)
        look = looks[curve.method]
        axes.plot(x, curve.accuracy, marker="o", markersize=3, label=curve.method, **look)
        axes.vlines(x, curve.low, curve.high, color=look["color"], linewidth=1)
    axes.set_xscale("log")
    axes.set_xticks(np.unique(np.concatenate([curve.density for curve in curves])))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    _label(figure, axes, "density", "test accuracy")


def draw_dots(figure: Figure, rows: Sequence[DotRow], looks: Looks) -> None:
    """Draw a row a method: mean with interval, and below them a dot an initialization."""
    axes = figure.subplots()
    for place, row in enumerate(rows):
        colour = looks[row.method]["color"]
        axes.plot(
            row.accuracies,
            np.full(len(row.accuracies), place + 0.2),
            "o",
            color=colour,
            markersize=3,
            alpha=0.6,
        )
        axes.plot(row.accuracy.mean, place - 0.12, "o", color=colour, markersize=5.5)
        axes.hlines(place - 0.12, row.accuracy.low, row.accuracy.high, color=colour, linewidth=1.6)
    axes.set_yticks(range(len(rows)), [row.method for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("test accuracy")


def draw_budget(figure: Figure, points: Sequence[BudgetPoint], density: float, looks: Looks) -> None:
    """Draw a point a method over FLOPs, and a level line for one that takes none."""
    axes = figure.subplots()
    for point in points:
        look = looks[point.method]
        if point.flops:
            mark = MARKS[look["linestyle"]]
            axes.plot(point.flops, point.accuracy, mark, color=look["color"], label=point.method)
            axes.vlines(point.flops, point.low, point.high, color=look["color"])
        else:
            axes.axhline(point.accuracy, label=point.method, linewidth=1, **look)
    axes.set_title(f"density {density:g}")
    _decades(axes, np.array([point.flops for point in points if point.flops]))
    _label(figure, axes, "live FLOPs of one mask", "test accuracy")


def draw_searches(figure: Figure, searches: Sequence[BestSoFar], density: float, looks: Looks) -> None:
    """Draw the validation accuracy of searches over FLOPs, a line an initialization."""
    axes = figure.subplots()
    labelled = set()
    for search in searches:
        label = None if search.method in labelled else search.method
        labelled.add(search.method)
        line = {"marker": "o", "markersize": 2, "linewidth": 0.9, **looks[search.method]}
        axes.plot(search.flops, search.accuracy, label=label, **line)
    axes.set_title(f"density {density:g}")
    _decades(axes, np.concatenate([search.flops for search in searches]))
    _label(figure, axes, "live FLOPs", "validation accuracy")


def _decades(axes: Axes, flops: Floats) -> None:
    """Limit an axis to whole decades, so that it has few labels, but two at least."""
    if len(flops):
        axes.set_xscale("log")
        axes.set_xlim(10 ** np.floor(np.log10(0.9 * flops.min())), 10 ** np.ceil(np.log10(1.1 * flops.max())))
        axes.xaxis.set_minor_formatter(NullFormatter())


def _label(figure: Figure, axes: Axes, x: str, y: str) -> None:
    """Label the axes, with a legend below them."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    handles, labels = axes.get_legend_handles_labels()
    columns = 2 if max(map(len, labels)) > 15 else 3
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)
