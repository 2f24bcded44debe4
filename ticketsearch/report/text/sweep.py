"""A sweep as text: its findings, a table of accuracies with paired differences, and a table of values."""

from __future__ import annotations

from ticketsearch.checks import checked
from ticketsearch.report.text.intervals import (
    SIGNIFICANT,
    interval_ends,
    interval_text,
    signed,
    too_few,
)
from ticketsearch.report.text.table import csv_text, table_lines
from ticketsearch.runs import BEST, DENSE
from ticketsearch.settings import value_text
from ticketsearch.statistics import Interval, smallest_p
from ticketsearch.sweeps import (
    Sweep,
    SweepDifference,
    SweepRow,
    Values,
    combination_text,
    contender_differences,
    value_differences,
)

__all__ = [
    "VALUE_HEADINGS",
    "contender_table",
    "sweep_csv",
    "sweep_differences_csv",
    "sweep_headline",
    "sweep_notes",
    "sweep_protocol",
    "sweep_text",
    "value_table",
]

CONTENDER_HEADINGS = (
    *("contender", "density", "test accuracy (95 %)", "best ticket minus it (95 %)"),
    *("p (Holm)", "p"),
)
VALUE_HEADINGS = ("best ticket of", "minus that of", "difference (95 %)", "p (Holm)", "p")
DIFFERENCE_COLUMNS = (
    *("values", "contender", "minus_values", "minus_contender", "seeds", "difference", "low", "high"),
    *("permutation_p", "wilcoxon_p", "holm_p"),
)
# The most names of unfinished runs in a sentence.
NAMED = 5


@checked
def sweep_text(sweep: Sweep) -> str:
    """Return a sweep as text: findings, the table of contenders, that of values, and notes on the tests."""
    lines = [*sweep_headline(sweep), sweep_protocol(sweep)]
    if sweep.rows:
        lines += table_lines(*contender_table(sweep), left=2 if sweep.over else 1)
    if rows := value_table(sweep):
        lines += table_lines(VALUE_HEADINGS, rows, left=2)
    return "\n".join([*lines, *sweep_notes(sweep)])


def sweep_headline(sweep: Sweep) -> list[str]:
    """Return the findings as sentences; before them stand unfinished runs and too few seeds."""
    sentences = []
    if sweep.unfinished:
        names = ", ".join([*sweep.unfinished[:NAMED], *["…"][: len(sweep.unfinished) - NAMED]])
        count = len(sweep.unfinished)
        sentences.append(f"{count} run{' is' if count == 1 else 's are'} not finished: {names}.")
    tested = contender_differences(sweep)
    if not tested:
        return sentences
    pairs = max(difference.test.pairs for difference in [*tested, *value_differences(sweep)])
    if smallest_p(pairs) >= SIGNIFICANT:
        sentences.append(too_few(pairs, "seed"))
    if len(sweep.combinations) > 1:
        return [*sentences, *_value_sentences(sweep)]
    chosen = [tested[0], *(d for d in tested[1:] if d.other.contender == DENSE)]
    return [*sentences, *map(_contender_sentence, chosen)]


def _contender_sentence(difference: SweepDifference) -> str:
    """Return the sentence on the best ticket and one contender."""
    return f"The best ticket minus {difference.other.contender} is {_points(difference)}."


def _value_sentences(sweep: Sweep) -> list[str]:
    """Return the sentences on the value of the most accurate best tickets, and on the tests of values."""
    rows = [row for row in sweep.rows if row.contender == BEST]
    best = max(rows, key=lambda row: row.accuracy.mean)
    sentences = [
        f"The best tickets are most accurate with {combination_text(best.values)}: "
        f"{interval_text(best.accuracy, '.4f')} on the test set."
    ]
    tested = value_differences(sweep)
    if tested and smallest_p(max(difference.test.pairs for difference in tested)) < SIGNIFICANT:
        significant = sum(difference.holm < SIGNIFICANT for difference in tested)
        sentences.append(
            f"Of {len(tested)} tests between values {significant or 'none'} "
            f"{'are' if significant > 1 else 'is'} significant: corrected p < {SIGNIFICANT}."
        )
    return sentences


def sweep_protocol(sweep: Sweep) -> str:
    """Return the sentence on data, model and training that explains the tables."""
    settings = sweep.settings
    final = settings.final
    data, model = (name.rpartition("/")[2] for name in (settings.data.name, settings.model.name))
    seeds = "one seed" if len(sweep.seeds) == 1 else f"{len(sweep.seeds)} seeds with a bootstrap interval"
    orders = "one data order" if final.orders == 1 else f"{final.orders} data orders"
    return (
        f"{data}, {'several models' if 'model.name' in sweep.over else model}. Test accuracy after "
        f"{_varied(sweep, 'final.steps', f'{final.steps:,} training steps')} on "
        f"{_varied(sweep, 'final.orders', orders)}, the mean over {seeds}. All runs have the same split of "
        "the data, whose variance the interval leaves out."
    )


def _varied(sweep: Sweep, name: str, text: str) -> str:
    """Return a text on a setting, or that it varies."""
    return f"a varied number ({name})" if name in sweep.over else text


def contender_table(sweep: Sweep) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return headings and cells of the table: a row for each contender of each combination of values."""
    beside = {(repr(d.other.values), d.other.contender): d for d in contender_differences(sweep)}
    rows = [
        _contender_cells(row, beside.get((repr(row.values), row.contender)), bool(sweep.over))
        for row in sweep.rows
    ]
    return ((*(("values",) if sweep.over else ()), *CONTENDER_HEADINGS), rows)


def _contender_cells(row: SweepRow, difference: SweepDifference | None, swept: bool) -> tuple[str, ...]:
    test = difference and difference.test
    return (
        *((combination_text(row.values),) if swept else ()),
        row.contender,
        f"{row.density:.4f}",
        interval_text(row.accuracy, ".4f"),
        interval_text(test.difference, "+.4f") if test else "",
        f"{difference.holm:.2g}" if difference else "",
        f"{test.permutation:.2g}" if test else "",
    )


def value_table(sweep: Sweep) -> list[tuple[str, ...]]:
    """Return the cells of the table of values: a row for each two combinations; none without any."""
    return [
        (
            combination_text(difference.first.values),
            combination_text(difference.other.values),
            interval_text(difference.test.difference, "+.4f"),
            f"{difference.holm:.2g}",
            f"{difference.test.permutation:.2g}",
        )
        for difference in value_differences(sweep)
    ]


def sweep_notes(sweep: Sweep) -> list[str]:
    """Return a sentence on each family of tests."""
    notes = []
    families = {
        "the best ticket against the other contenders of its run": contender_differences(sweep),
        "best tickets of each two values": value_differences(sweep),
    }
    for subject, tested in families.items():
        if not tested:
            continue
        fewest, count = min(difference.test.pairs for difference in tested), len(tested)
        seeds = "one seed" if fewest == 1 else f"{fewest} seeds"
        tests = "one test" if count == 1 else f"{count} tests, corrected together by Holm's method"
        note = (
            f"{subject[0].upper()}{subject[1:]}: two-sided permutation test of the mean difference, paired "
            f"over {seeds}; {tests}."
        )
        least = smallest_p(fewest)
        if least < SIGNIFICANT <= least * count:
            note += (
                f" With {seeds} p is at least {least:.2g} before correction, so the smallest of {count} "
                f"cannot fall below {SIGNIFICANT}."
            )
        notes.append(note)
    return notes


def _points(difference: SweepDifference) -> str:
    """Return a difference in points of test accuracy, with its interval and the corrected p."""
    points = Interval(*(100 * value for value in difference.test.difference))
    ends = interval_ends(points, "+.2f")
    return (
        f"{signed(points.mean, '+.2f')} points of test accuracy{f' (95 % {ends})' if ends else ''}, "
        f"corrected p = {difference.holm:.2g}"
    )


def sweep_csv(sweep: Sweep) -> str:
    """Return all accuracies as CSV, a row for each contender of each run."""
    rows = [
        {
            **{name: value_text(value) for name, value in row.values},
            "seed": seed,
            "contender": row.contender,
            "density": row.density,
            "test_accuracy": accuracy,
        }
        for row in sweep.rows
        for seed, accuracy in row.accuracies.items()
    ]
    return csv_text(rows, (*sweep.over, "seed", "contender", "density", "test_accuracy"))


def sweep_differences_csv(sweep: Sweep) -> str:
    """Return differences as CSV, a row for each test."""
    rows = [
        (
            *(_values_text(d.first.values), d.first.contender, _values_text(d.other.values)),
            *(d.other.contender, d.test.pairs, *d.test.difference),
            *(d.test.permutation, d.test.wilcoxon, d.holm),
        )
        for d in [*contender_differences(sweep), *value_differences(sweep)]
    ]
    return csv_text([dict(zip(DIFFERENCE_COLUMNS, row, strict=True)) for row in rows], DIFFERENCE_COLUMNS)


def _values_text(values: Values) -> str:
    return " ".join(f"{name}={value_text(value)}" for name, value in values)
