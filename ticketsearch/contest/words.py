"""A contest in words: tables by density, paired differences, and what was tested."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence

from ticketsearch.contest.inference import Interval, smallest_p
from ticketsearch.contest.plan import IMP_BEST
from ticketsearch.contest.reading import Contest, Difference, Standing, differences
from ticketsearch.tables import aligned

__all__ = [
    "DIFFERENCES",
    "STANDINGS",
    "cells_csv",
    "difference_row",
    "differences_csv",
    "lines",
    "protocol",
    "standing_row",
    "tested",
]

STANDINGS = ("method", "test accuracy", "95 % interval", "steps", "live FLOPs", "chosen of")
DIFFERENCES = ("minus", "difference", "95 % interval", "p (Holm)", "p", "Wilcoxon p")
SIGNIFICANT = 0.05


def lines(contests: Sequence[Contest], reference: str | None = None) -> list[str]:
    """Return contests as text; tests are corrected over all of them."""
    found, text = differences(contests, reference), []
    for contest in contests:
        text += (
            [f"{contest.name}: {protocol(contest)}"]
            if contest.standings
            else [f"{contest.name}: no results yet."]
        )
        for density in contest.densities:
            text += [f"Density {density:g}", *aligned(STANDINGS, map(standing_row, contest.at(density)))]
            own = [one for one in found if (one.contest, one.density) == (contest.name, density)]
            if own:
                headings = (f"{own[0].reference} minus", *DIFFERENCES[1:])
                text += aligned(headings, map(difference_row, own))
    return [*text, *tested(found)]


def protocol(contest: Contest) -> str:
    """Return in a sentence or two what the figures are."""
    settings = contest.settings
    counts = sorted({len(standing.accuracies) for standing in contest.standings})
    initializations = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return (
        f"{settings.data.name}, {settings.model.name}. Test accuracy after {settings.final.steps:,} training "
        f"steps, the mean over {initializations} initializations of the mean over {contest.orders} data "
        "orders, with a bootstrap interval over initializations; what one mask took to make, in training "
        "steps and in floating-point operations of live weights, the final training apart."
    )


def tested(found: Sequence[Difference]) -> list[str]:
    """Return in sentences what was tested, and where no test could have come out."""
    text = []
    for family, against in (("first", IMP_BEST), ("second", "each other method")):
        own = [one for one in found if one.family == family]
        if not own:
            continue
        fewest = min(one.test.pairs for one in own)
        text.append(
            f"{own[0].reference} against {against}: {len(own)} two-sided permutation tests of the mean "
            f"paired difference over {fewest} initializations, corrected together by Holm's method."
        )
        if smallest_p(fewest) * len(own) >= SIGNIFICANT:
            text.append(
                f"With {fewest} initializations p is at least {smallest_p(fewest):.2g} before correction, so "
                + (
                    "no test can be significant: that takes 6 or more."
                    if smallest_p(fewest) >= SIGNIFICANT
                    else f"the smallest of {len(own)} cannot fall below 0.05."
                )
            )
    return text


def standing_row(standing: Standing) -> tuple[str, ...]:
    """Return the cells of a row of the table of methods."""
    spent = standing.spent
    return (
        standing.method,
        f"{standing.accuracy.mean:.4f}",
        _ends(standing.accuracy, ".4f"),
        f"{spent.steps:,}" if spent.steps else "-",
        f"{spent.flops:.2e}" if spent.flops else "-",
        f"{standing.candidates:.3g}" if standing.candidates > 1 else "-",
    )


def difference_row(one: Difference) -> tuple[str, ...]:
    """Return the cells of a row of the table of differences."""
    test = one.test
    return (
        one.other,
        _signed(test.difference.mean),
        _ends(test.difference, "+.4f"),
        *(f"{p:.2g}" for p in (one.holm, test.permutation, test.wilcoxon)),
    )


def _ends(found: Interval, form: str) -> str:
    return "-" if math.isnan(found.low) else f"{found.low:{form}} to {found.high:{form}}".replace("-", "−")


def _signed(value: float) -> str:
    return f"{value:+.4f}".replace("-", "−")


def cells_csv(contests: Sequence[Contest]) -> str:
    """Return all standings as CSV, a line for each initialization."""
    rows = [
        (
            *(contest.name, standing.method, standing.density, number, accuracy),
            *(standing.spent.steps, standing.spent.flops, standing.candidates),
        )
        for contest in contests
        for standing in contest.standings
        for number, accuracy in standing.accuracies.items()
    ]
    return _csv(
        (
            *("comparison", "method", "density", "initialization", "test_accuracy"),
            *("mean_steps", "mean_flops", "mean_candidates"),
        ),
        rows,
    )


def differences_csv(found: Sequence[Difference]) -> str:
    """Return differences as CSV, a line for each test."""
    rows = [
        (
            *(one.contest, one.density, one.reference, one.other, one.test.pairs, *one.test.difference),
            *(one.test.permutation, one.test.wilcoxon, one.family, one.holm),
        )
        for one in found
    ]
    return _csv(
        (
            *("comparison", "density", "reference", "other", "initializations", "difference", "low", "high"),
            *("permutation_p", "wilcoxon_p", "family", "holm_p"),
        ),
        rows,
    )


def _csv(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(headings)
    writer.writerows(rows)
    return text.getvalue()
