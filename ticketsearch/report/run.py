"""The page of a run: its arrays, figures and tables."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from ticketsearch import settings as config
from ticketsearch.masks import layer_counts
from ticketsearch.overlap import OverlapStudy, degrees
from ticketsearch.plugins import relative_name
from ticketsearch.report.best import Stored, lineage_picture, network_picture, stored
from ticketsearch.report.front import front_picture
from ticketsearch.report.generations import course_pictures
from ticketsearch.report.lineage import lineage, lineage_sentence
from ticketsearch.report.null_strip import strip_picture
from ticketsearch.report.overlap_figures import layer_picture, pixel_pictures, profile_pictures, raw_picture
from ticketsearch.report.pages import GREY, ORANGE, Picture, picture, with_code, write_page
from ticketsearch.report.profiles import profiles
from ticketsearch.report.text import (
    advantages,
    answer_lines,
    masking_lines,
    own_work,
    points_cell,
    rung_lines,
    seed_study,
    spread,
    study_lines,
)
from ticketsearch.runs import (
    ContenderRow,
    Run,
    contender_rows,
    first_seeds,
    front_rows,
    operator_rows,
    phase_rows,
    winner,
)
from ticketsearch.tickets import Ticket
from ticketsearch.typing import Floats

__all__ = [
    "LayerDensities",
    "accuracy_pictures",
    "layer_densities",
    "search_pictures",
    "write_report",
]


class LayerDensities(NamedTuple):
    """Density of each layer.

    Attributes
    ----------
    names : of the layers.
    seeds : of the pruned masks of the first population, ``(masks, layers)``.
    winner : ``(layers,)``, or None while the run is unfinished.
    """

    names: list[str]
    seeds: Floats
    winner: Floats | None


def layer_densities(run: Run) -> LayerDensities:
    """Return the layer densities of the first population's pruned masks, and of the winner."""
    sizes = np.array([layer.size for layer in run.spec.layers])
    seeds, best = first_seeds(run), winner(run)
    return LayerDensities(
        [layer.name for layer in run.spec.layers],
        np.array([layer_counts(t.mask, run.spec) / sizes for t in seeds]).reshape(len(seeds), len(sizes)),
        None if best is None else layer_counts(best.mask, run.spec) / sizes,
    )


def write_report(run: Run) -> Path:
    """Write ``report.html`` into the run's folder and return its path.

    It is one file: figures are inline SVG, and it loads nothing from the network. An unfinished run gets a
    report of its generations so far.
    """
    rows, best, study, seeds = contender_rows(run), winner(run), seed_study(run), first_seeds(run)
    file = None if best is None else stored(run, best)
    ancestry = None if best is None or not best.parents else lineage(run, best.number)
    return write_page(
        "report.html",
        run.path / "report.html",
        run=run,
        data=relative_name(run.settings.data.name, run.folder),
        model=relative_name(run.settings.model.name, run.folder),
        rows=rows,
        front=front_rows(run),
        front_figure=front_picture(run),
        masking_lines=masking_lines(run),
        final=run.settings.final,
        spread=spread,
        methods=" and ".join(config.as_list(run.settings.seeding.method)),
        steps=_steps_text(run.settings.training.steps),
        rung_lines=rung_lines(run),
        operators=operator_rows(run),
        phases=phase_rows(run),
        own_work=own_work(run),
        answers=[with_code(line) for line in answer_lines(run)],
        points_cell=points_cell,
        advantages={advantage.contender: advantage for advantage in advantages(run)},
        accuracy=accuracy_pictures(rows),
        figures=search_pictures(run),
        overlap_lines=study_lines(run, study),
        overlap_figures=_overlap_pictures(run, study, best, file),
        network=None if best is None else network_picture(run, best, file),
        lineage=None if ancestry is None else lineage_picture(ancestry),
        lineage_sentence="" if ancestry is None else lineage_sentence(ancestry),
        first_masks=seeds,
        progress=run.progress(),
        winner=best,
        settings=config.to_toml(run.settings, run.folder, comments=False),
        environment=run.environment,
    )


def _overlap_pictures(
    run: Run, study: OverlapStudy | None, best: Ticket | None, file: Stored | None
) -> list[Picture]:
    """Return the figures of the pruned masks beside the winner: null models, pairs, layers, fans, pixels."""
    pictures = [] if study is None else [strip_picture(study), raw_picture(study), layer_picture(study)]
    seeds = first_seeds(run)
    if not seeds:
        return pictures
    masks = seeds.masks if best is None else np.concatenate([seeds.masks, best.mask[None]])
    pictures += profile_pictures(profiles(degrees(masks, run.spec)), winner=best is not None)
    if best is not None and file is not None:
        pictures += pixel_pictures(seeds.masks, run.spec, file.input_shape, best.mask)
    return pictures


def search_pictures(run: Run) -> list[Picture]:
    """Return the figures of the search: its course by generation, and layer densities."""
    if run.progress() < 0:
        return []
    pictures, densities = course_pictures(run), layer_densities(run)
    if not len(densities.seeds) and densities.winner is None:
        return pictures
    height = max(2.9, 1 + 0.28 * len(densities.names))
    draw = partial(_draw_layers, densities=densities)
    return [*pictures, picture("layers", "Density of each layer, pruned masks and winner", draw, height)]


def accuracy_pictures(rows: list[ContenderRow]) -> list[Picture]:
    """Return the figure of the test accuracies of the final table; none without rows."""
    if not rows:
        return []
    points = [(row.contender, row.accuracies) for row in rows]
    return [
        picture(
            "accuracy",
            "Test accuracy, a point a data order",
            partial(_draw_accuracy, points=points),
            max(2.6, 0.7 + 0.42 * len(points)),
        )
    ]


def _steps_text(steps: int | list[int]) -> str:
    """Return the training steps of an evaluation as text."""
    if isinstance(steps, int):
        return f"{steps} training steps an evaluation"
    rungs = f"{', '.join(map(str, steps[:-1]))} or {steps[-1]}"
    return f"{rungs} training steps an evaluation (successive halving)"


def _draw_layers(figure: Figure, densities: LayerDensities) -> None:
    """Draw a row a layer on a logarithmic scale, layers without a weight at its left end, labelled 0."""
    axes = figure.subplots()
    places = np.arange(len(densities.names))
    winner = [] if densities.winner is None else [densities.winner]
    rows = np.stack([*densities.seeds, *winner])
    least = rows[rows > 0].min(initial=1.0)
    floor = 10 ** np.floor(np.log10(least / 2))
    shown = np.where(rows > 0, rows, floor)
    for row in shown[: len(densities.seeds)]:
        axes.plot(row, places, color=GREY, marker="o", markersize=4, linewidth=0.8, alpha=0.6)
    axes.plot([], [], color=GREY, marker="o", markersize=4, label=f"pruned masks ({len(densities.seeds)})")
    if winner:
        axes.plot(shown[-1], places, color=ORANGE, marker="D", markersize=5, label="winner")
    axes.set_xscale("log")
    axes.set_xlim(floor if (rows == 0).any() else least / 1.5, 1.1)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if least > 0.01 else (1,)))
    zero = floor if (rows == 0).any() else -1.0
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: "0" if value <= zero else f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_yticks(places, densities.names)
    axes.set_ylim(len(places) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("density: kept / total")
    figure.legend(loc="outside upper left", ncols=2, fontsize=8.5)


def _draw_accuracy(figure: Figure, points: list[tuple[str, tuple[float, ...]]]) -> None:
    axes = figure.subplots()
    for place, (_, values) in enumerate(points):
        colour = ORANGE if place == 0 else GREY
        axes.plot(values, np.full(len(values), place), "o", color=colour, markersize=4, alpha=0.7)
        axes.plot(np.mean(values), place, "|", color=colour, markersize=18, markeredgewidth=2)
    axes.set_yticks(range(len(points)), [name.replace(", ", ",\n") for name, _ in points])
    axes.set_ylim(len(points) - 0.5, -0.5)
    axes.set_xlabel("test accuracy")
