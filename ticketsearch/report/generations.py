"""The course of a search by generation: fitness, accuracy, and the diversity of its population."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ticketsearch.overlap import diversity
from ticketsearch.report.pages import BLUE, DRAWN, GREY, ORANGE, Picture, picture
from ticketsearch.runs import Run
from ticketsearch.tickets import Tickets
from ticketsearch.typing import Floats, Integers

__all__ = [
    "FitnessCurve",
    "PopulationCurves",
    "course_pictures",
    "fitness_curve",
    "population_curves",
]

# The most generations whose populations are read: a second or two of work.
SAMPLED = 41


class FitnessCurve(NamedTuple):
    """Fitness of the population by generation, of the highest rung alone; each ``(generations,)``."""

    generation: Integers
    best: Floats
    mean: Floats
    worst: Floats


class PopulationCurves(NamedTuple):
    """Accuracy and diversity of the population by generation, each ``(generations,)``.

    Attributes
    ----------
    generation : those that were read: all, or of a long run evenly spaced ones.
    best : validation accuracy of the member of highest fitness; NaN where the fitness measures none.
    mean : mean validation accuracy of the members, of the highest rung alone.
    mean_iou : mean IoU over pairs of members.
    common : number of weights that all members keep.
    """

    generation: Integers
    best: Floats
    mean: Floats
    mean_iou: Floats
    common: Integers


def fitness_curve(run: Run) -> FitnessCurve:
    """Return the fitness of a run's populations, NaN where no member was finite."""
    statistics = run.statistics()
    columns = [
        np.array([statistic.get(name, np.nan) for statistic in statistics])
        for name in ("best", "mean", "worst")
    ]
    return FitnessCurve(np.arange(len(statistics)), *columns)


def population_curves(run: Run, most: int = SAMPLED) -> PopulationCurves:
    """Return accuracy and diversity of the populations of at most ``most`` generations, first and last too.

    Accuracies are as of that generation: means over the evaluations that a member had by then.
    """
    last = run.progress()
    numbers = np.unique(np.linspace(0, last, min(last + 1, most)).round().astype(np.int64))
    rows = [_measured(run.population(int(number))) for number in numbers]
    best, mean, iou, common = zip(*rows, strict=True) if rows else ((),) * 4
    return PopulationCurves(
        numbers, np.array(best), np.array(mean), np.array(iou), np.array(common, dtype=np.int64)
    )


def _measured(population: Tickets) -> tuple[float, float, float, int]:
    """Return best and mean accuracy, mean IoU, and the weights in common."""
    fittest = max(population, key=lambda ticket: ticket.fitness)
    ranked = [ticket for ticket in population if ticket.rung == fittest.rung]
    best, *accuracies = (ticket.measures.get("accuracy", np.nan) for ticket in [fittest, *ranked])
    return best, float(np.mean(accuracies)), *diversity(population.masks)


def course_pictures(run: Run) -> list[Picture]:
    """Return the figures of a run with generations: fitness, accuracy where it was measured, diversity."""
    curve, curves = fitness_curve(run), population_curves(run)
    members = "top rung" if run.agreements() else "population"
    pictures = [
        picture(
            "fitness",
            "Validation fitness by generation",
            partial(_draw_fitness, curve=curve),
            caption=f"Band: best to worst of the {members}. Fitness is the mean of a ticket's evaluations up "
            "to that generation, without the effects of their data orders.",
        ),
    ]
    if np.isfinite(curves.mean).any():
        pictures.append(
            picture(
                "validation",
                "Validation accuracy by generation",
                partial(_draw_accuracy, curves=curves),
                caption="Accuracy after the short training: mean of a ticket's evaluations up to that "
                "generation, with the effects of their data orders.",
            )
        )
    return [
        *pictures,
        picture(
            "diversity",
            "Diversity of the population by generation",
            partial(_draw_diversity, curves=curves),
            caption="Above: IoU, mean over pairs of members; 1 if all are equal. Below: weights that every "
            "member keeps.",
        ),
    ]


def _draw_fitness(figure: Figure, curve: FitnessCurve) -> None:
    axes = figure.subplots()
    generation = curve.generation
    best, mean, worst = (np.where(np.abs(values) < DRAWN, values, np.nan) for values in curve[1:])
    axes.fill_between(generation, worst, best, color=BLUE, alpha=0.15, linewidth=0)
    axes.plot(generation, best, color=BLUE, marker=".", label="best")
    axes.plot(generation, mean, color=ORANGE, marker=".", label="mean")
    axes.set_ylabel("fitness")
    _generations(axes)
    axes.legend(loc="lower right")


def _draw_accuracy(figure: Figure, curves: PopulationCurves) -> None:
    axes = figure.subplots()
    axes.plot(curves.generation, curves.best, color=BLUE, marker=".", label="ticket of best fitness")
    axes.plot(curves.generation, curves.mean, color=ORANGE, marker=".", label="mean")
    axes.set_ylabel("validation accuracy")
    _generations(axes)
    axes.legend(loc="lower right")


def _draw_diversity(figure: Figure, curves: PopulationCurves) -> None:
    """Draw mean IoU above, and weights in common below, each on its own scale from 0."""
    upper, lower = figure.subplots(2, 1, sharex=True)
    upper.plot(curves.generation, curves.mean_iou, color=BLUE, marker=".")
    upper.set_ylim(0, 1.02)
    upper.set_ylabel("mean IoU")
    lower.plot(curves.generation, curves.common, color=GREY, marker=".")
    lower.set_ylim(0, max(1.0, 1.06 * float(curves.common.max(initial=0))))
    lower.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    lower.set_ylabel("common weights")
    _generations(lower)


def _generations(axes: Axes) -> None:
    axes.set_xlabel("generation")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
