"""The page of an overlap study: a headline, an overview, all tests as a table, and figures case by case."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from ticketsearch.overlap import Null
from ticketsearch.overlap_studies import Case, Overlaps
from ticketsearch.report.nulls import NULL_LABELS, signed
from ticketsearch.report.overlap_figures import (
    layer_picture,
    mask_labels,
    null_pictures,
    pair_picture,
    pixel_pictures,
    profile_pictures,
)
from ticketsearch.report.overview import overview_picture
from ticketsearch.report.pages import Picture, write_page
from ticketsearch.report.profiles import profiles
from ticketsearch.report.text import nulls_csv, overlap_headline, pairs_csv, shown_effect
from ticketsearch.storage import write_atomically

__all__ = ["NullRow", "null_rows", "write_overlap", "write_overlap_files"]

# The most cases whose figures are all open from the start.
OPEN = 2


class NullRow(NamedTuple):
    """One row of the table: a case, how its masks are compared, the null model, and the test."""

    case: str
    compared: str
    kept: str
    null: Null


class Section(NamedTuple):
    """A case with its sentences, its figures, and its masks' names where the figures number them."""

    case: Case
    lines: list[str]
    figures: list[Picture]
    names: tuple[str, ...]


def null_rows(overlaps: Overlaps) -> list[list[NullRow]]:
    """Return the rows of the table by case: its null models that were drawn."""
    tests = [
        [
            NullRow(case.title, *labels, case.study.nulls[name]["iou"])
            for name, labels in NULL_LABELS.items()
            if name in case.study.nulls
        ]
        for case in overlaps.cases
    ]
    return [rows for rows in tests if rows]


def write_overlap_files(overlaps: Overlaps, folder: Path) -> list[Path]:
    """Write page and tables of a study into a folder; return their paths, that of the page first."""
    tables = {"pairs.csv": pairs_csv(overlaps.cases), "nulls.csv": nulls_csv(overlaps.cases)}
    for name, table in tables.items():
        write_atomically(folder / name, table)
    return [write_overlap(overlaps, folder / "overlap.html"), *(folder / name for name in tables)]


def write_overlap(overlaps: Overlaps, path: Path) -> Path:
    """Write the page of a study and return its path."""
    sections = [_section(case, overlaps.input_shape, number) for number, case in enumerate(overlaps.cases)]
    return write_page(
        "overlap.html",
        path,
        overlaps=overlaps,
        headline=overlap_headline(overlaps.cases),
        overview=[overview_picture(overlaps.cases)] if overlaps.cases else [],
        tests=null_rows(overlaps),
        sections=sections,
        signed=signed,
        shown_effect=shown_effect,
        open=len(sections) <= OPEN,
    )


def _section(case: Case, input_shape: tuple[int, ...], number: int) -> Section:
    study, prefix = case.study, f"case{number}-"
    figures = [
        pair_picture(study, prefix),
        *null_pictures(study, prefix),
        *profile_pictures(profiles(study.degrees), prefix=prefix),
        layer_picture(study, prefix),
        *pixel_pictures(study.masks, study.spec, input_shape, prefix=prefix),
    ]
    numbered = mask_labels(study) != list(study.names)
    return Section(case, study.summary().splitlines(), figures, study.names if numbered else ())
