"""The Pareto front of a run: fitness or accuracy against density, as arrays and as a figure."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from ticketsearch.masks import density
from ticketsearch.report.pages import BLUE, DRAWN, GREY, ORANGE, Picture, picture
from ticketsearch.runs import Run, front_rows
from ticketsearch.typing import Floats

__all__ = ["FrontPoints", "front_picture", "front_points"]


class FrontPoints(NamedTuple):
    """Points of a front's figure, each ``(tickets, 2)``: density, then score or test accuracy.

    ``members`` are all tickets of the last generation that did not diverge, ``front`` those on its Pareto
    front, ``tested`` the tickets that were evaluated on the test set, none while the run is unfinished. The
    last two are sorted by density.
    """

    members: Floats
    front: Floats
    tested: Floats


def front_points(run: Run) -> FrontPoints | None:
    """Return the points of the figure; None for a run without a front, or without a generation."""
    last = run.last()
    if run.settings.evolution.objective != "front" or last is None:
        return None
    columns = [
        [(density(ticket.mask), ticket.score) for ticket in tickets if abs(ticket.score) < DRAWN]
        for tickets in (last.population, last.front)
    ]
    columns.append([(row.density, row.accuracy) for row in front_rows(run)])
    return FrontPoints(*(np.array(column, dtype=np.float64).reshape(-1, 2) for column in columns))


def front_picture(run: Run) -> Picture | None:
    """Return the figure of a run's Pareto front, or None without one."""
    points = front_points(run)
    if points is None:
        return None
    draws = {"fitness in the search": partial(_draw, points=points, tested=False)}
    if len(points.tested):
        draws["test accuracy"] = partial(_draw, points=points, tested=True)
    return picture(
        "front",
        "The Pareto front",
        draws,
        caption="Grey: the other members of the last generation. Density is kept / total weights.",
    )


def _draw(figure: Figure, points: FrontPoints, tested: bool) -> None:
    axes = figure.subplots()
    if tested:
        axes.plot(*points.tested.T, color=ORANGE, marker="D", markersize=4)
    else:
        axes.plot(*points.members.T, "o", color=GREY, markersize=4, alpha=0.6)
        axes.plot(*points.front.T, color=BLUE, marker="o", markersize=4, drawstyle="steps-post")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("density")
    axes.set_ylabel("test accuracy" if tested else "fitness")
