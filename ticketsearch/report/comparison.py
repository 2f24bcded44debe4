"""The page of comparisons: tables by density, paired differences, accuracy against density and budget."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter
from numpy.typing import NDArray

from ticketsearch.comparison import Contest, Trail, differences
from ticketsearch.report.pages import BLUE, GREY, INK, ORANGE, PURPLE, TEAL, Picture, picture, write_page
from ticketsearch.report.text.comparison import (
    DIFFERENCES,
    STANDINGS,
    difference_row,
    headline,
    protocol,
    standing_row,
    tested,
)
from ticketsearch.settings import leaves

__all__ = ["BudgetPoint", "Curve", "budget_points", "curves", "write_contests"]

Floats = NDArray[np.float64]
# Colour and line style of each method.
Looks = dict[str, dict[str, Any]]
COLOURS = (ORANGE, BLUE, TEAL, PURPLE, INK, GREY)
# Line styles, and what stands for each where there are points.
MARKS = {"-": "o", "--": "s", ":": "^"}
# What keeps its colour whatever else is compared.
FIRST = ("evolution", "imp_best", "imp", "synflow", "dense", "random")


class Curve(NamedTuple):
    """The test accuracy of one method at its densities: mean and interval, each ``(densities,)``."""

    method: str
    density: Floats
    accuracy: Floats
    low: Floats
    high: Floats


class BudgetPoint(NamedTuple):
    """The test accuracy of one method at one density, and the FLOPs that one mask took; 0 for none."""

    method: str
    flops: float
    accuracy: float
    low: float
    high: float


class Table(NamedTuple):
    """The tables of one density: cells as text; the second is empty where nothing is compared."""

    density: float
    standings: list[tuple[str, ...]]
    reference: str
    differences: list[tuple[str, ...]]


class Section(NamedTuple):
    """One comparison of the page."""

    contest: Contest
    protocol: str
    tables: list[Table]
    figures: list[Picture]
    settings: list[tuple[str, object]]


def curves(contest: Contest) -> list[Curve]:
    """Return a curve a method; the dense network's is level over all densities."""
    found = []
    for method in contest.methods:
        own = [s for d in contest.densities for s in contest.at(d) if s.method == method]
        at = [d for d in contest.densities for s in contest.at(d) if s.method == method]
        values = np.array([s.accuracy for s in own])
        found.append(Curve(method, np.array(at), *values.T))
    return found


def budget_points(contest: Contest, density: float) -> list[BudgetPoint]:
    """Return the points of a density, without controls: these are made of masks that are points already."""
    return [
        BudgetPoint(s.method, float(s.spent.flops), *s.accuracy)
        for s in contest.at(density)
        if not s.is_control
    ]


def write_contests(contests: Sequence[Contest], path: Path, reference: str | None = None) -> Path:
    """Write the page of comparisons, tests corrected over all of them, and return its path."""
    found = differences(contests, reference)
    sections = []
    for number, contest in enumerate(contests):
        tables = []
        for density in contest.densities:
            own = [one for one in found if (one.contest, one.density) == (contest.name, density)]
            rows = [standing_row(standing) for standing in contest.at(density)]
            tables.append(
                Table(density, rows, own[0].reference if own else "", [difference_row(one) for one in own])
            )
        shown = leaves(contest.settings.model_dump())
        figures = _figures(contest, f"contest{number}-")
        sections.append(Section(contest, protocol(contest), tables, figures, shown))
    return write_page(
        "compare.html",
        path,
        sections=sections,
        headline=headline(found),
        tested=tested(found),
        standings=STANDINGS,
        differences=DIFFERENCES,
    )


def _figures(contest: Contest, prefix: str) -> list[Picture]:
    if not contest.standings:
        return []
    looks = _looks(contest.methods)
    budgets = {
        f"density {density:g}": partial(
            draw_budget, points=budget_points(contest, density), density=density, looks=looks
        )
        for density in contest.densities
    }
    trails = {density: [t for t in contest.trails if t.density == density] for density in contest.densities}
    ways = {
        f"density {density:g}": partial(draw_trails, trails=own, density=density, looks=looks)
        for density, own in trails.items()
        if own
    }
    figures = [
        picture(
            f"{prefix}densities",
            "Test accuracy against density",
            partial(draw_curves, curves=curves(contest), looks=looks),
            4.0,
            5.2,
            caption="Means over initializations with 95 % bootstrap intervals.",
            wide=True,
        ),
        picture(
            f"{prefix}budgets",
            "Test accuracy against what one mask took",
            budgets,
            3.8,
            caption="Floating-point operations of live weights, without the final training. Methods that "
            "take next to nothing are level lines. Means with 95 % bootstrap intervals.",
            wide=True,
        ),
    ]
    if ways:
        way = picture(
            f"{prefix}trails",
            "Validation accuracy on the way",
            ways,
            3.8,
            caption="Not test accuracy: that of the best mask so far, a line an initialization. imp_best "
            "judges by the final training, the other searches by their short ones, so that their lines lie "
            "lower than the masks they find. The evolution's begins where its best mask has the density that "
            "is asked for.",
            wide=True,
        )
        figures.append(way)
    return figures


def _looks(methods: Sequence[str]) -> Looks:
    """Return colour and line style of each method, no two alike as far as there are enough."""
    ordered = sorted(methods, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))
    plain = [name for name in ordered if name in FIRST]
    free = [(c, s) for s in MARKS for c in COLOURS]
    found = {name: free[FIRST.index(name)] for name in plain}
    left = iter([pair for pair in free if pair not in found.values()] * len(ordered))
    found |= {name: next(left) for name in ordered if name not in found}
    return {name: {"color": colour, "linestyle": style} for name, (colour, style) in found.items()}


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


def draw_trails(figure: Figure, trails: Sequence[Trail], density: float, looks: Looks) -> None:
    """Draw the validation accuracy of searches over FLOPs, a line an initialization."""
    axes = figure.subplots()
    named = set()
    for trail in trails:
        label = None if trail.method in named else trail.method
        named.add(trail.method)
        line = {"marker": "o", "markersize": 2, "linewidth": 0.9, **looks[trail.method]}
        axes.plot(trail.flops, trail.accuracy, label=label, **line)
    axes.set_title(f"density {density:g}")
    _decades(axes, np.concatenate([trail.flops for trail in trails]))
    _label(figure, axes, "live FLOPs", "validation accuracy")


def _decades(axes: Axes, flops: Floats) -> None:
    """Let an axis have whole decades, so that its labels are few and there are two at least."""
    if len(flops):
        axes.set_xscale("log")
        axes.set_xlim(10 ** np.floor(np.log10(0.9 * flops.min())), 10 ** np.ceil(np.log10(1.1 * flops.max())))
        axes.xaxis.set_minor_formatter(NullFormatter())


def _label(figure: Figure, axes: Axes, x: str, y: str) -> None:
    """Name the axes, and what is drawn below them."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    handles, labels = axes.get_legend_handles_labels()
    columns = 2 if max(map(len, labels)) > 15 else 3
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)
