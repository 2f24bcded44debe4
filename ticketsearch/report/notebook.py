"""Results as HTML for a cell of a notebook: their first sentences and their figures.

Styles apply to the cell alone, and colours are its own, so that neither changes the notebook's page.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ticketsearch.comparison import Comparison, differences
from ticketsearch.overlap_studies import Overlaps
from ticketsearch.plugins import relative_name
from ticketsearch.report.comparison import comparison_pictures
from ticketsearch.report.overview import overview_picture
from ticketsearch.report.pages import Picture, filled, with_code
from ticketsearch.report.run import accuracy_pictures, search_pictures
from ticketsearch.report.sweep import sweep_picture
from ticketsearch.report.text import answer_lines, comparison_headline, overlap_headline, sweep_headline
from ticketsearch.runs import Run, contender_rows, state_of
from ticketsearch.sweeps import Sweep

__all__ = ["comparison_html", "figures_html", "overlaps_html", "run_html", "sweep_html"]


def figures_html(lines: Iterable[str], figures: Sequence[Picture]) -> str:
    """Return sentences and figures as HTML for a cell of a notebook."""
    return filled("notebook.html", lines=list(lines), figures=figures)


def comparison_html(comparison: Comparison) -> str:
    """Return a comparison as HTML for a notebook: its headline, and the figures of its page."""
    first, others = comparison_pictures(comparison)
    lines = comparison_headline(differences([comparison]))
    return figures_html(lines or ["No results yet."], [*first, *others])


def overlaps_html(overlaps: Overlaps) -> str:
    """Return an overlap study as HTML for a notebook: its headline, and the overview of its page."""
    figures = [overview_picture(overlaps.cases)] if overlaps.cases else []
    return figures_html([overlap_headline(overlaps.cases)], figures)


def sweep_html(sweep: Sweep) -> str:
    """Return a sweep as HTML for a notebook: its headline, and the figure of its page."""
    figures = [sweep_picture(sweep)] if sweep.rows else []
    return figures_html(sweep_headline(sweep) or ["No results yet."], figures)


def run_html(run: Run) -> str:
    """Return a run as HTML for a notebook: its state, its answers, and the first figures of its page."""
    settings = run.settings
    state: str = state_of(run)
    data, model = (relative_name(name, run.folder) for name in (settings.data.name, settings.model.name))
    if state != "finished":
        state = f"{state}, {max(run.progress(), 0)} of {settings.evolution.generations} generations"
    first = f"Run {run.name}: {data}, {model}, density {settings.seeding.density:g}; {state}."
    return figures_html(
        [first, *map(with_code, answer_lines(run))],
        [*accuracy_pictures(contender_rows(run)), *search_pictures(run)],
    )
