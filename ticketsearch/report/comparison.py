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
    cells_csv,
    comparison_headline,
    comparison_markdown,
    difference_cells,
    differences_at,
    differences_csv,
    method_cells,
    notes_on_tests,
    protocol,
)
from ticketsearch.settings import leaves
from ticketsearch.storage import write_atomically

__all__ = ["comparison_pictures", "write_comparison_files", "write_comparisons"]


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


def write_comparison_files(
    comparisons: Sequence[Comparison], folder: Path, reference: str | None = None
) -> list[Path]:
    """Write page and tables of comparisons into a folder; return their paths, that of the page first."""
    tested = differences(comparisons, reference)
    tables = {
        "compare.md": comparison_markdown(comparisons, reference),
        "cells.csv": cells_csv(comparisons),
        "differences.csv": differences_csv(tested),
    }
    for name, table in tables.items():
        write_atomically(folder / name, table)
    page = write_comparisons(comparisons, folder / "compare.html", reference)
    return [page, *(folder / name for name in tables)]


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
