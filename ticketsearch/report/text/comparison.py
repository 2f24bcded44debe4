"""A comparison as text: tables by density, paired differences, notes on the tests, Markdown and CSV."""

from __future__ import annotations

from collections.abc import Sequence

from ticketsearch.checks import checked
from ticketsearch.comparison import (
    ABLATED,
    BUDGET,
    DENSE,
    IMP_BEST,
    METHODS,
    Comparison,
    Difference,
    MethodResult,
    differences,
    families,
)
from ticketsearch.report.text.intervals import (
    FEWEST,
    SIGNIFICANT,
    interval_ends,
    interval_text,
    signed,
    too_few,
)
from ticketsearch.report.text.table import csv_text, table_lines
from ticketsearch.statistics import Interval, smallest_p

__all__ = [
    "DIFFERENCE_HEADINGS",
    "METHOD_HEADINGS",
    "cells_csv",
    "comparison_headline",
    "comparison_markdown",
    "comparison_text",
    "difference_cells",
    "differences_at",
    "differences_csv",
    "method_cells",
    "notes_on_tests",
    "protocol",
]

METHOD_HEADINGS = ("method", "test accuracy (95 %)", "steps", "live FLOPs", "seconds", "chosen of")
DIFFERENCE_HEADINGS = ("minus", "difference (95 %)", "p (Holm)", "p", "Wilcoxon")
CELL_COLUMNS = (
    *("comparison", "method", "density", "initialization", "test_accuracy", "validation_accuracy"),
    *("evaluations", "steps", "flops", "candidates", "seconds"),
)
DIFFERENCE_COLUMNS = (
    *("comparison", "density", "reference", "other", "initializations", "difference", "low", "high"),
    *("permutation_p", "wilcoxon_p", "family", "holm_p"),
)


@checked
def comparison_text(comparisons: Comparison | Sequence[Comparison], reference: str | None = None) -> str:
    """Return a comparison as text: a headline, tables by density with paired differences, and test notes.

    The headline gives at each density the difference of the reference to its closest rival, the interval of
    the difference, and the test. With fewer than six initializations its first line says that no test can be
    significant.

    Parameters
    ----------
    comparisons : one, or several that are read together: tests against ``imp_best`` are corrected over all.
    reference : the method that all others are subtracted from; by default the evolution if it was compared,
        else the last method.

    Raises :class:`BadInput` for an unknown reference, or for two comparisons of the same name.
    """
    comparisons = [comparisons] if isinstance(comparisons, Comparison) else comparisons
    tested = differences(comparisons, reference)
    lines = comparison_headline(tested)
    for comparison in comparisons:
        lines.append(f"{comparison.name}: {protocol(comparison)}")
        for density in comparison.densities:
            rows = map(method_cells, comparison.at(density))
            lines += [f"Density {density:g}", *table_lines(METHOD_HEADINGS, rows)]
            if shown := differences_at(tested, comparison, density):
                headings = (f"{shown[0].reference} minus", *DIFFERENCE_HEADINGS[1:])
                lines += table_lines(headings, map(difference_cells, shown))
    return "\n".join([*lines, *notes_on_tests(tested)])


def comparison_markdown(comparisons: Sequence[Comparison], reference: str | None = None) -> str:
    """Return comparisons as Markdown: a table for each density, with the differences beside the methods."""
    tested = differences(comparisons, reference)
    parts = comparison_headline(tested)
    for comparison in comparisons:
        parts += [f"## {comparison.name}", protocol(comparison)]
        for density in comparison.densities:
            shown = differences_at(tested, comparison, density)
            beside = {difference.other: difference_cells(difference)[1:4] for difference in shown}
            extra = (f"{shown[0].reference} minus it (95 %)", "p (Holm)", "p") if shown else ()
            headings = (*METHOD_HEADINGS, *extra)
            rows = [
                (*method_cells(result), *(beside.get(result.method, ("", "", "")) if shown else ()))
                for result in comparison.at(density)
            ]
            table = [headings, ["---"] * len(headings), *rows]
            parts += [f"### Density {density:g}", "\n".join(f"| {' | '.join(row)} |" for row in table)]
    return "\n\n".join([*parts, *notes_on_tests(tested)]) + "\n"


def differences_at(tested: Sequence[Difference], comparison: Comparison, density: float) -> list[Difference]:
    """Return the differences of one comparison at one density."""
    return [d for d in tested if (d.comparison, d.density) == (comparison.name, density)]


def protocol(comparison: Comparison) -> str:
    """Return the sentence on data, model and training that explains the columns of the tables."""
    if not comparison.results:
        return "No results yet."
    settings = comparison.settings
    counts = sorted({len(result.accuracies) for result in comparison.results})
    if counts[-1] == 1:
        interval = "of one initialization"
    else:
        span = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        interval = f"the mean over {span} initializations with a bootstrap interval"
    orders = "one data order" if comparison.orders == 1 else f"{comparison.orders} data orders"
    return (
        f"{settings.data.name}, {settings.model.name}. Test accuracy after {settings.final.steps:,} training "
        f"steps on {orders}, {interval}; the cost of making one mask, in training steps, in floating-point "
        "operations of live weights and in processor seconds, without the final training."
    )


def comparison_headline(tested: Sequence[Difference]) -> list[str]:
    """Return the findings as sentences; none without a difference.

    They give the difference to the closest rival at each density, with its interval and test; before them
    stands, with too few initializations, that no test can be significant, and after them the number of
    significant tests against ``imp_best``.
    """
    if not tested:
        return []
    most = max(difference.test.pairs for difference in tested)
    few = smallest_p(most) >= SIGNIFICANT
    sentences = [too_few(most, "initialization")] if few else []
    several = len({difference.comparison for difference in tested}) > 1
    for comparison, density in dict.fromkeys((d.comparison, d.density) for d in tested):
        rival = _closest([d for d in tested if (d.comparison, d.density) == (comparison, density)])
        if rival is not None:
            where = f"density {density:g}"
            sentences.append(_difference(rival, f"{comparison}, {where}" if several else where.capitalize()))
    family = [difference for difference in tested if difference.family == BUDGET]
    return sentences if few or not family else [*sentences, _significant(family)]


def _closest(tested: Sequence[Difference]) -> Difference | None:
    """Return the difference to the method that the reference is measured by; None beside controls alone.

    That is ``imp_best``, which has the same budget, or else the most accurate other method with masks.
    """
    methods = [d for d in tested if d.family != ABLATED]
    ranked = (
        [d for d in methods if d.other == IMP_BEST] or [d for d in methods if d.other != DENSE] or methods
    )
    return min(ranked, key=lambda d: d.test.difference.mean, default=None)


def _difference(difference: Difference, where: str) -> str:
    """Return the sentence on one difference: points of test accuracy, interval, and the corrected p."""
    points = Interval(*(100 * value for value in difference.test.difference))
    mean, ends = signed(points.mean, "+.2f"), interval_ends(points, "+.2f")
    return (
        f"{where}: {difference.reference} minus {difference.other} is {mean} points of test accuracy"
        f"{f' (95 % {ends})' if ends else ''}, corrected p = {difference.holm:.2g}."
    )


def _significant(family: Sequence[Difference]) -> str:
    """Return the sentence on the number of significant tests against ``imp_best``."""
    significant = [d.test.difference.mean for d in family if d.holm < SIGNIFICANT]
    better, worse = sum(mean > 0 for mean in significant), sum(mean < 0 for mean in significant)
    return (
        f"{family[0].reference} is significantly better than {IMP_BEST}, the best of several iterative "
        f"magnitude prunings at an equal budget, in {better} of {len(family)} tests, and significantly worse "
        f"in {worse}."
    )


def notes_on_tests(tested: Sequence[Difference]) -> list[str]:
    """Return a sentence on each family of tests, and on tests that cannot be significant."""
    notes = []
    against = {BUDGET: IMP_BEST, METHODS: "each other method", ABLATED: "ablated controls"}
    several = len({difference.comparison for difference in tested}) > 1
    most = max((difference.test.pairs for difference in tested), default=0)
    said = smallest_p(most) >= SIGNIFICANT  # by the headline
    for family in families(tested):
        first, count = family[0], len(family)
        where = f" ({first.comparison})" if several and first.family != BUDGET else ""
        fewest = min(difference.test.pairs for difference in family)
        least = smallest_p(fewest)
        note = (
            f"{first.reference} against {against[first.family]}{where}: two-sided permutation tests of the "
            f"mean paired difference over {fewest} initializations, {count} in all, corrected together by "
            "Holm's method."
        )
        if least >= SIGNIFICANT and not said:
            note += (
                f" With {fewest} initializations p is at least {least:.2g} before correction, so no test can "
                f"be significant: that takes {FEWEST} or more."
            )
        elif least * count >= SIGNIFICANT and not said:
            note += (
                f" With {fewest} initializations p is at least {least:.2g} before correction, so the "
                f"smallest of {count} cannot fall below {SIGNIFICANT}."
            )
        notes.append(note)
    return notes


def method_cells(result: MethodResult) -> tuple[str, ...]:
    """Return the cells of a row of the table of methods."""
    spent = result.spent
    return (
        result.method,
        interval_text(result.accuracy, ".4f"),
        f"{spent.steps:,}" if spent.steps else "-",
        f"{spent.flops:.2e}" if spent.flops else "-",
        _seconds(result.seconds),
        f"{result.candidates:.3g}" if result.candidates > 1 else "-",
    )


def difference_cells(difference: Difference) -> tuple[str, ...]:
    """Return the cells of a row of the table of differences."""
    test = difference.test
    return (
        difference.other,
        interval_text(test.difference, "+.4f"),
        *(f"{p:.2g}" for p in (difference.holm, test.permutation, test.wilcoxon)),
    )


def _seconds(seconds: float | None) -> str:
    """Return seconds as text, with about two digits; "-" where they were not measured, or are none."""
    if not seconds:
        return "-"
    return f"{seconds:,.0f}" if seconds >= 100 else f"{seconds:.2g}"


def cells_csv(comparisons: Sequence[Comparison]) -> str:
    """Return all results as CSV, a row for each initialization."""
    rows = [
        (
            *(comparison.name, result.method, result.density, initialization, accuracy, mask.validation),
            *(mask.spent.evaluations, mask.spent.steps, mask.spent.flops, mask.candidates, mask.seconds),
        )
        for comparison in comparisons
        for result in comparison.results
        for (initialization, accuracy), mask in zip(
            result.accuracies.items(), result.masks.values(), strict=True
        )
    ]
    return csv_text([dict(zip(CELL_COLUMNS, row, strict=True)) for row in rows], CELL_COLUMNS)


def differences_csv(tested: Sequence[Difference]) -> str:
    """Return differences as CSV, a row for each test."""
    rows = [
        (
            *(d.comparison, d.density, d.reference, d.other, d.test.pairs, *d.test.difference),
            *(d.test.permutation, d.test.wilcoxon, d.family, d.holm),
        )
        for d in tested
    ]
    return csv_text([dict(zip(DIFFERENCE_COLUMNS, row, strict=True)) for row in rows], DIFFERENCE_COLUMNS)
