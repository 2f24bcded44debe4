"""A contest in words: tables by density, paired differences, and what was tested."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ticketsearch.comparison import BUDGET, IMP_BEST, METHODS, TAKEN, Difference, differences, families
from ticketsearch.report.text.audit import aligned
from ticketsearch.statistics import Interval, smallest_p

if TYPE_CHECKING:
    from ticketsearch.comparison import Contest, Standing

__all__ = [
    "DIFFERENCES",
    "STANDINGS",
    "cells_csv",
    "difference_row",
    "differences_csv",
    "headline",
    "lines",
    "markdown",
    "protocol",
    "standing_row",
    "tested",
]

STANDINGS = ("method", "test accuracy (95 %)", "steps", "live FLOPs", "chosen of")
DIFFERENCES = ("minus", "difference (95 %)", "p (Holm)", "p", "Wilcoxon")
SIGNIFICANT = 0.05
# Initializations from which on a single paired test can be significant.
FEWEST = 6


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
    return [*filter(None, [headline(found)]), *text, *tested(found)]


def markdown(contests: Sequence[Contest], reference: str | None = None) -> str:
    """Return contests as Markdown: a table for each density, with the differences beside the methods."""
    found = differences(contests, reference)
    text = [*filter(None, [headline(found)])]
    for contest in contests:
        text += [f"## {contest.name}", *([protocol(contest)] if contest.standings else ["No results yet."])]
        for density in contest.densities:
            own = [one for one in found if (one.contest, one.density) == (contest.name, density)]
            beside = {one.other: difference_row(one)[1:4] for one in own}
            headings = [
                *STANDINGS,
                *([f"{own[0].reference} minus it (95 %)", "p (Holm)", "p"] if own else []),
            ]
            rows = [
                (*standing_row(standing), *(beside.get(standing.method, ("", "", "")) if own else ()))
                for standing in contest.at(density)
            ]
            table = [headings, ["---"] * len(headings), *rows]
            text += [f"### Density {density:g}", "\n".join(f"| {' | '.join(row)} |" for row in table)]
    return "\n\n".join([*text, *tested(found)]) + "\n"


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


def headline(found: Sequence[Difference]) -> str:
    """Return in a sentence what the first family of tests found; nothing without one."""
    own = [one for one in found if one.family == BUDGET]
    if not own:
        return ""
    better = sum(one.holm < SIGNIFICANT and one.test.difference.mean > 0 for one in own)
    worse = sum(one.holm < SIGNIFICANT and one.test.difference.mean < 0 for one in own)
    return (
        f"{own[0].reference} is significantly better than {IMP_BEST}, the best of iterative magnitude "
        f"prunings at an equal budget, in {better} of {len(own)} tests, and significantly worse in {worse}."
    )


def tested(found: Sequence[Difference]) -> list[str]:
    """Return in sentences what was tested, and where no test could have come out."""
    text = []
    against = {BUDGET: IMP_BEST, METHODS: "each other method", TAKEN: "masks with something taken from them"}
    several = len({one.contest for one in found}) > 1
    for own in families(found):
        where = f" ({own[0].contest})" if several and own[0].family != BUDGET else ""
        fewest = min(one.test.pairs for one in own)
        least = smallest_p(fewest)
        sentence = (
            f"{own[0].reference} against {against[own[0].family]}{where}: two-sided permutation tests of the "
            f"mean paired difference over {fewest} initializations, {len(own)} in all, corrected together by "
            "Holm's method."
        )
        if least >= SIGNIFICANT:
            sentence += (
                f" With {fewest} initializations p is at least {least:.2g} before correction, so no test can "
                f"be significant: that takes {FEWEST} or more."
            )
        elif least * len(own) >= SIGNIFICANT:
            sentence += (
                f" With {fewest} initializations p is at least {least:.2g} before correction, so the "
                f"smallest of {len(own)} cannot fall below {SIGNIFICANT}."
            )
        text.append(sentence)
    return text


def standing_row(standing: Standing) -> tuple[str, ...]:
    """Return the cells of a row of the table of methods."""
    spent = standing.spent
    return (
        standing.method,
        _interval(standing.accuracy, ".4f"),
        f"{spent.steps:,}" if spent.steps else "-",
        f"{spent.flops:.2e}" if spent.flops else "-",
        f"{standing.candidates:.3g}" if standing.candidates > 1 else "-",
    )


def difference_row(one: Difference) -> tuple[str, ...]:
    """Return the cells of a row of the table of differences."""
    test = one.test
    return (
        one.other,
        _interval(test.difference, "+.4f"),
        *(f"{p:.2g}" for p in (one.holm, test.permutation, test.wilcoxon)),
    )


def _interval(found: Interval, form: str) -> str:
    """Return a mean with its interval, if there is one, with true minus signs."""
    ends = "" if math.isnan(found.low) else f" ({found.low:{form}} to {found.high:{form}})"
    return f"{found.mean:{form}}{ends}".replace("-", "−")


def cells_csv(contests: Sequence[Contest]) -> str:
    """Return all standings as CSV, a line for each initialization."""
    rows = [
        (
            *(contest.name, standing.method, standing.density, number, accuracy, made.validation),
            *(made.spent.evaluations, made.spent.steps, made.spent.flops, made.candidates),
        )
        for contest in contests
        for standing in contest.standings
        for (number, accuracy), made in zip(standing.accuracies.items(), standing.made.values(), strict=True)
    ]
    return _csv(
        (
            *("comparison", "method", "density", "initialization", "test_accuracy", "validation_accuracy"),
            *("evaluations", "steps", "flops", "candidates"),
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
