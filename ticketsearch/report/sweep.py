"""The page of a sweep: a headline, accuracy by value or contender, tables with paired differences."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from ticketsearch.report.pages import BLUE, GREY, INK, ORANGE, PURPLE, TEAL, Picture, picture, write_page
from ticketsearch.report.text import (
    VALUE_HEADINGS,
    contender_table,
    sweep_csv,
    sweep_differences_csv,
    sweep_headline,
    sweep_notes,
    sweep_protocol,
    value_table,
)
from ticketsearch.runs import BEST, DENSE, RANDOM
from ticketsearch.settings import leaves
from ticketsearch.statistics import Interval
from ticketsearch.storage import write_atomically
from ticketsearch.sweeps import Sweep, combination_text
from ticketsearch.typing import Floats

__all__ = ["Series", "series_of", "sweep_picture", "write_sweep_files"]

# Colours of the contenders; those of pruners follow.
COLOURS = {BEST: ORANGE, DENSE: INK, RANDOM: GREY}
OTHERS = (BLUE, TEAL, PURPLE)
# Characters of a label on a line, and inches of a row in the figure and of each further one.
LABEL, INCHES, FURTHER = 24, 0.34, 0.15


class Series(NamedTuple):
    """The accuracies of one contender.

    Attributes
    ----------
    contender : name of the contender.
    row : ``(combinations,)`` the combination that each interval and each set of points is of.
    accuracy : the mean of each combination, with its interval.
    points : of each combination ``(seeds,)`` accuracies.
    """

    contender: str
    row: list[int]
    accuracy: list[Interval]
    points: list[Floats]


def write_sweep_files(sweep: Sweep) -> list[Path]:
    """Write page and tables of a sweep into its folder; return their paths, that of the page first."""
    tables = {"runs.csv": sweep_csv(sweep), "differences.csv": sweep_differences_csv(sweep)}
    for name, table in tables.items():
        write_atomically(sweep.path / name, table)
    headings, cells = contender_table(sweep)
    page = write_page(
        "sweep.html",
        sweep.path / "sweep.html",
        name=sweep.name,
        question="Which values find the best tickets?" if sweep.over else "How much does the seed matter?",
        headline=sweep_headline(sweep),
        figures=[sweep_picture(sweep)] if sweep.rows else [],
        protocol=sweep_protocol(sweep),
        headings=headings,
        cells=cells,
        value_headings=VALUE_HEADINGS,
        value_cells=value_table(sweep),
        notes=sweep_notes(sweep),
        settings=[(name, value) for name, value in leaves(sweep.settings.model_dump()) if name != "seed"],
        over=sweep.over,
        runs=sweep.finished,
        seeds=sweep.seeds,
    )
    return [page, *(sweep.path / name for name in tables)]


def series_of(sweep: Sweep) -> list[Series]:
    """Return the series of all contenders, the best ticket's first."""
    series = {row.contender: Series(row.contender, [], [], []) for row in sweep.rows}
    for place, values in enumerate(sweep.combinations):
        for row in sweep.at(values):
            series[row.contender].row.append(place)
            series[row.contender].accuracy.append(row.accuracy)
            series[row.contender].points.append(np.array(list(row.accuracies.values())))
    return list(series.values())


def sweep_picture(sweep: Sweep) -> Picture:
    """Return the figure of test accuracies: a row for each value, or for each contender without values."""
    series = series_of(sweep)
    swept = len(sweep.combinations) > 1
    labels = [combination_text(v) for v in sweep.combinations] if swept else [s.contender for s in series]
    rows = len(labels) * (INCHES + FURTHER * (len(series) - 1)) if swept else len(labels) * 1.3 * INCHES
    return picture(
        "accuracies",
        "Test accuracy by value" if swept else "Test accuracy by contender",
        partial(draw_series, series=series, labels=labels, swept=swept),
        0.8 + rows + (0.3 if swept else 0),
        5.6,
        caption="Large dots: means over seeds, with 95 % bootstrap intervals. Small dots: the seeds.",
        wide=True,
    )


def draw_series(figure: Figure, series: list[Series], labels: list[str], swept: bool) -> None:
    """Draw means with intervals, and a dot a seed; contenders of one value lie below each other."""
    axes = figure.subplots()
    others = iter(OTHERS * len(series))
    step = 0.8 / len(series) if swept else 0.0
    for number, one in enumerate(series):
        colour = COLOURS.get(one.contender) or next(others)
        for row, accuracy, points in zip(one.row, one.accuracy, one.points, strict=True):
            place = row + step * (number - (len(series) - 1) / 2) if swept else float(number)
            below = np.full(len(points), place + (0.35 * step if swept else 0.2))
            axes.plot(points, below, "o", color=colour, markersize=2.2, alpha=0.5)
            axes.hlines(place, accuracy.low, accuracy.high, color=colour, linewidth=1.6)
            axes.plot(accuracy.mean, place, "o", color=colour, markersize=5, label=one.contender)
    axes.set_yticks(range(len(labels)), [_broken(label) for label in labels])
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("test accuracy")
    if swept:
        named = dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
        figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=2)


def _broken(label: str) -> str:
    """Return a label with line breaks between its words."""
    lines = [""]
    for word in label.split(" "):
        if len(lines[-1]) + len(word) >= LABEL and lines[-1]:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return "\n".join(lines)
