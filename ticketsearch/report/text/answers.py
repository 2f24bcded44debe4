"""The first sentences of a run: how good is the winner, and are pruned masks one network or several?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ticketsearch.masks import live
from ticketsearch.overlap import raw_overlap
from ticketsearch.pruners import TRAINING
from ticketsearch.report.text.run import early_end_lines, pair_mean
from ticketsearch.runs import (
    BEST,
    DENSE,
    ContenderRow,
    Run,
    contender_rows,
    first_seeds,
    pruned_name,
    pruned_names,
)
from ticketsearch.statistics import LEVEL, Interval, bootstrap

__all__ = ["Advantage", "advantages", "answer_lines", "networks_sentence", "points_cell", "winner_sentence"]

# Masks of pruners in sentences; those of others are named by the function.
MASKS = {
    "synflow": "SynFlow's mask",
    "imp": "iterative magnitude pruning's mask",
    "snip": "SNIP's mask",
    "grasp": "GraSP's mask",
    "magnitude": "magnitude pruning's mask",
    "random": "a random mask",
}


class Advantage(NamedTuple):
    """The winner's test accuracy − a contender's: mean over data orders, paired, and its 95 % interval.

    ``level`` says whether the interval holds 0; of one data order, which has no interval, whether both are
    equal.
    """

    contender: str
    difference: Interval
    level: bool


def advantages(run: Run) -> list[Advantage]:
    """Return the winner's advantage over each contender of the final table; none for an unfinished run."""
    rows = contender_rows(run)
    return [_advantage(rows[0], row) for row in rows[1:]]


def _advantage(best: ContenderRow, row: ContenderRow) -> Advantage:
    difference = bootstrap(np.array(best.accuracies) - np.array(row.accuracies))
    mean, low, high = difference
    level = low <= 0 <= high if len(row.accuracies) > 1 else mean == 0
    return Advantage(row.contender, difference, level)


def answer_lines(run: Run) -> list[str]:
    """Return the answers to a run's two questions, then notes; of an unfinished run the second alone."""
    winner, networks = winner_sentence(run), networks_sentence(run)
    note = f"A point is a hundredth of test accuracy; {_rule(run)}" if winner else ""
    return [line for line in (winner, networks, note, *early_end_lines(run)) if line]


def winner_sentence(run: Run) -> str:
    """Return how far the winner is above the masks of pruners and the dense network.

    The empty string for an unfinished run.
    """
    names = _pruners(run)
    densities = {row.contender: row.density for row in contender_rows(run)}
    subjects = {pruned_name(name): MASKS.get(name, f"{name}'s mask") for name in names}
    for name in subjects.keys() & densities.keys():
        if not np.isclose(densities[name], densities[BEST], rtol=0.01, atol=0):  # of a Pareto front
            subjects[name] += f" of density {densities[name]:.2g}"
    subjects[DENSE] = "the dense network"
    parts = [_compared(a, subjects[a.contender]) for a in advantages(run) if a.contender in subjects]
    if not parts:
        return ""
    listed = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
    missing = "; iterative magnitude pruning at this budget was not run: `ticketsearch compare`"
    if {*names} & {*TRAINING} or not run.settings.final.steps:  # or masks are compared without training
        missing = ""
    return f"The winner is {listed}{missing}."


def _rule(run: Run) -> str:
    """Return the meaning of "level", and the limits of differences of one data order."""
    orders = run.settings.final.orders
    if orders == 1:
        return "of one data order there is no interval, and small differences may be chance."
    return (
        f"networks are level where the {100 * LEVEL:g} % bootstrap interval of the difference, paired over "
        f"{orders} data orders, includes 0."
    )


def _pruners(run: Run) -> list[str]:
    """Return the names of the pruners that the final comparison names."""
    return [*pruned_names(run.settings), *(name.rpartition(":")[2] for name in run.contenders)]


def _compared(advantage: Advantage, subject: str) -> str:
    if advantage.level:
        return f"level with {subject}"
    mean = advantage.difference.mean
    return f"{_points(mean)} points {'above' if mean > 0 else 'below'} {subject}"


def _points(difference: float) -> str:
    points = 100 * abs(difference)
    return f"{points:.1f}" if points >= 0.05 else f"{points:.1g}"


def points_cell(advantage: Advantage) -> tuple[str, ...]:
    """Return an advantage in points as the parts of a cell: ``+3.1``, and if known ``(+2.6 to +3.7)``."""
    points = [round(100 * value, 1) + 0.0 for value in advantage.difference]  # no negative zero
    mean, low, high = (f"{value:+.1f}".replace("-", "−") for value in points)
    return (mean,) if np.isnan(advantage.difference.low) else (mean, f"({low} to {high})")


def networks_sentence(run: Run) -> str:
    """Return whether pruning different initializations gave one network, with raw overlap beside chance.

    The empty string for fewer than two initializations.
    """
    masks = first_seeds(run)
    if len(masks) < 2:
        return ""
    keys = [mask.key for mask in masks if live(mask.mask, run.spec).any()]
    if not keys:
        return f"All {len(masks)} masks are disconnected: no kept path leads from an input to an output."
    networks = len(set(keys))
    some = "" if len(keys) == len(masks) else f" {len(keys)} connected masks, which are"
    count = "one network" if networks == 1 else f"{networks} different networks"
    overlap = raw_overlap(masks.masks, run.spec)
    return (
        f"{len(masks)} initializations gave{some} {count} up to renumbering hidden neurons; IoU of their "
        f"masks {pair_mean(overlap.whole):.3f}, by chance {pair_mean(overlap.chance):.3f}."
    )
