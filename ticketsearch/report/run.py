"""The report of a run: its arrays, its figures, and its page."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from ticketsearch import config
from ticketsearch.masks import layer_counts
from ticketsearch.overlap import RawOverlap
from ticketsearch.report.pages import BLUE, GREY, ORANGE, picture, write_page
from ticketsearch.runs import Run
from ticketsearch.summary import (
    comparison,
    ladder_lines,
    masking_lines,
    overlap_lines,
    own_work,
    phases,
    seed_overlap,
    winner,
)

__all__ = [
    "FitnessCurve",
    "LayerDensities",
    "fitness_curve",
    "layer_densities",
    "overlap_matrix",
    "write_report",
]


class FitnessCurve(NamedTuple):
    """Fitness of the population by generation, on a ladder of its highest rung; each ``(generations,)``."""

    number: NDArray[np.int64]
    best: NDArray[np.float64]
    mean: NDArray[np.float64]
    worst: NDArray[np.float64]


class LayerDensities(NamedTuple):
    """Density of each layer: seeds ``(seeds, layers)``, winner ``(layers,)`` or None while unfinished."""

    names: list[str]
    seeds: NDArray[np.float64]
    winner: NDArray[np.float64] | None


def fitness_curve(run: Run) -> FitnessCurve:
    """Return the fitness of a run's populations, NaN where no member was finite."""
    generations = list(run.generations())
    columns = [
        np.array([generation.statistics.get(name, np.nan) for generation in generations])
        for name in ("best", "mean", "worst")
    ]
    return FitnessCurve(np.array([generation.number for generation in generations]), *columns)


def layer_densities(run: Run) -> LayerDensities:
    """Return the layer densities of the seeds and of the winner."""
    sizes = np.array([layer.size for layer in run.spec.layers])
    found, best = run.seeds(), winner(run)
    return LayerDensities(
        [layer.name for layer in run.spec.layers],
        np.array([layer_counts(t.mask, run.spec) / sizes for t in found]).reshape(len(found), len(sizes)),
        None if best is None else layer_counts(best.mask, run.spec) / sizes,
    )


def overlap_matrix(overlap: RawOverlap) -> NDArray[np.float64]:
    """Return raw IoU below the diagonal and its level of chance above, ``(seeds, seeds)``; NaN on it."""
    shown = np.where(np.tri(len(overlap.whole), dtype=bool), overlap.whole, overlap.chance)
    np.fill_diagonal(shown, np.nan)
    return shown


def write_report(run: Run) -> Path:
    """Write ``report.html`` into the run's folder and return its path.

    One file: figures are SVG inside it, and it asks the network for nothing. A run that is not finished gets
    a report of what is there.
    """
    overlap = seed_overlap(run)
    rows = comparison(run)
    figures = []
    if run.progress() >= 0:
        curve = fitness_curve(run)
        whose = "top rung" if run.agreements() else "population"
        figures.append(
            picture("fitness", "Validation fitness by generation", lambda a: _draw_fitness(a, curve, whose))
        )
        densities = layer_densities(run)
        figures.append(
            picture("layers", "Density of each layer, seeds and winner", lambda a: _draw_layers(a, densities))
        )
    if overlap is not None:
        figures.append(
            picture("overlap", "Overlap (IoU) of the seeds' masks", lambda a: _draw_matrix(a, overlap), 3.9)
        )
    if rows:
        points = [(row.contender, row.accuracies) for row in rows]
        figures.append(
            picture("accuracy", "Test accuracy, a point a data order", lambda a: _draw_accuracy(a, points))
        )
    return write_page(
        "report.html",
        run.path / "report.html",
        run=run,
        rows=rows,
        masking_lines=masking_lines(run),
        final=run.settings.final,
        rungs=_words(run.settings.training.steps),
        ladder_lines=ladder_lines(run),
        phases=phases(run),
        own_work=own_work(run),
        figures=figures,
        overlap_lines=overlap_lines(run),
        seeds=run.seeds(),
        progress=run.progress(),
        winner=winner(run),
        settings=config.to_toml(run.settings),
        environment=run.environment,
    )


def _words(steps: int | list[int]) -> str:
    """Return the training steps of an evaluation in words."""
    if isinstance(steps, int):
        return f"{steps} training steps an evaluation"
    return f"{', '.join(map(str, steps[:-1]))} or {steps[-1]} training steps an evaluation (a ladder)"


def _draw_fitness(axes: Axes, curve: FitnessCurve, whose: str) -> None:
    axes.fill_between(curve.number, curve.worst, curve.best, color=BLUE, alpha=0.15, linewidth=0)
    axes.plot(curve.number, curve.best, color=BLUE, marker=".", label="best")
    axes.plot(curve.number, curve.mean, color=ORANGE, marker=".", label="mean")
    axes.set_xlabel(f"generation (band: best to worst of the {whose})")
    axes.set_ylabel("fitness")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, loc="lower right")


def _draw_layers(axes: Axes, densities: LayerDensities) -> None:
    places = np.arange(len(densities.names))
    for row in densities.seeds:
        axes.plot(places, row, color=GREY, marker="o", markersize=4, linewidth=0.8, alpha=0.6)
    axes.plot([], [], color=GREY, marker="o", markersize=4, label=f"seeds ({len(densities.seeds)})")
    if densities.winner is not None:
        axes.plot(places, densities.winner, color=ORANGE, marker="D", markersize=5, label="winner")
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    if len(places) > 8:
        axes.set_xticks(places, densities.names, rotation=90, fontsize=6.5)
    else:
        axes.set_xticks(places, densities.names, rotation=30 if len(places) > 4 else 0)
    axes.set_ylabel("kept / total")
    axes.legend(frameon=False)


def _draw_matrix(axes: Axes, overlap: RawOverlap) -> None:
    shown = overlap_matrix(overlap)
    count = len(shown)
    top = max(float(np.nanmax(shown)), 1e-9)
    axes.imshow(shown, cmap="Blues", vmin=0, vmax=top)
    if count <= 12:
        for i, j in np.argwhere(~np.isnan(shown)):
            dark = shown[i, j] > 0.6 * top
            text = f"{shown[i, j]:.3f}".lstrip("0")
            axes.text(j, i, text, ha="center", va="center", fontsize=7, color="white" if dark else "black")
    axes.grid(visible=False)
    names = [str(number) for number in range(1, count + 1)]
    axes.set_xticks(range(count), names)
    axes.set_yticks(range(count), names)
    axes.set_xlabel("initialization (above the diagonal: by chance)")
    axes.set_ylabel("initialization (below: measured)")


def _draw_accuracy(axes: Axes, points: list[tuple[str, tuple[float, ...]]]) -> None:
    for place, (_, values) in enumerate(points):
        colour = ORANGE if place == 0 else GREY
        axes.plot(values, np.full(len(values), place), "o", color=colour, markersize=4, alpha=0.7)
        axes.plot(np.mean(values), place, "|", color=colour, markersize=18, markeredgewidth=2)
    axes.set_yticks(range(len(points)), [name.replace(", ", ",\n") for name, _ in points])
    axes.set_ylim(len(points) - 0.5, -0.5)
    axes.set_xlabel("test accuracy")
