"""The page of comparisons: a headline, accuracy by method, tables by density, accuracy against budget."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ticketsearch.comparison import Comparison, Difference, differences
from ticketsearch.report.comparison_figures import accuracy_pictures, cost_picture, search_pictures
from ticketsearch.report.pages import Picture, write_page
from ticketsearch.report.text import (
    DIFFERENCE_HEADINGS,
    METHOD_HEADINGS,
    comparison_headline,
    difference_cells,
    differences_at,
    method_cells,
    notes_on_tests,
    protocol,
)
from ticketsearch.settings import leaves

__all__ = ["comparison_pictures", "write_comparisons"]


class Table(NamedTuple):
    """The tables of one density: cells as text; the second is empty without paired differences."""

    density: float
    methods: list[tuple[str, ...]]
    reference: str
    differences: list[tuple[str, ...]]


class Section(NamedTuple):
    """One comparison of the page."""

    comparison: Comparison
    protocol: str
    first: list[Picture]
    tables: list[Table]
    figures: list[Picture]
    settings: list[tuple[str, object]]


def write_comparisons(comparisons: Sequence[Comparison], path: Path, reference: str | None = None) -> Path:
    """Write the page of comparisons, tests corrected over all of them, and return its path."""
    tested = differences(comparisons, reference)
    return write_page(
        "compare.html",
        path,
        sections=[_section(comparison, tested, number) for number, comparison in enumerate(comparisons)],
        headline=comparison_headline(tested),
        notes=notes_on_tests(tested),
        method_headings=METHOD_HEADINGS,
        difference_headings=DIFFERENCE_HEADINGS,
    )


def _section(comparison: Comparison, tested: Sequence[Difference], number: int) -> Section:
    tables = []
    for density in comparison.densities:
        shown = differences_at(tested, comparison, density)
        methods = [method_cells(result) for result in comparison.at(density)]
        reference = shown[0].reference if shown else ""
        tables.append(Table(density, methods, reference, [difference_cells(d) for d in shown]))
    first, others = comparison_pictures(comparison, f"comparison{number}-")
    settings = leaves(comparison.settings.model_dump())
    return Section(comparison, protocol(comparison), first, tables, others, settings)


def comparison_pictures(comparison: Comparison, prefix: str = "") -> tuple[list[Picture], list[Picture]]:
    """Return the figures before the tables, and those after them; none without results."""
    if not comparison.results:
        return [], []
    first, others = accuracy_pictures(comparison, prefix), search_pictures(comparison, prefix)
    cost = cost_picture(comparison, prefix)
    # At one density it has one panel, which stands beside the first figure.
    return ([*first, cost], others) if len(comparison.densities) == 1 else (first, [cost, *others])
