"""The SQLite file of a study: its tables, and the types and ranges of their columns."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, Field, Json, TypeAdapter, model_validator

from ticketsearch.masks import MaskSpec, check_spec, unpack
from ticketsearch.overlap_studies.plan import MaskSet, Sizes
from ticketsearch.storage import Count, Kind, Share, Table, Word

__all__ = ["CASES", "CONTENT", "DRAWN", "DRAWS", "MASKS", "META", "OVERLAP_STUDY", "PAIRS", "DrawRow"]

SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE masks (
    name TEXT PRIMARY KEY,
    bits BLOB NOT NULL,
    signs BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE cases (
    number INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    title TEXT NOT NULL UNIQUE,
    keys TEXT
);
CREATE TABLE pairs (
    case_number INTEGER NOT NULL REFERENCES cases (number),
    number INTEGER NOT NULL,
    first TEXT NOT NULL,
    second TEXT NOT NULL,
    exact INTEGER NOT NULL,
    iou REAL NOT NULL,
    aligned REAL NOT NULL,
    raw_counts BLOB NOT NULL,
    aligned_counts BLOB NOT NULL,
    PRIMARY KEY (case_number, number)
) WITHOUT ROWID;
CREATE TABLE draws (
    case_number INTEGER NOT NULL REFERENCES cases (number),
    null_model TEXT NOT NULL,
    number INTEGER NOT NULL,
    counts BLOB NOT NULL,
    PRIMARY KEY (case_number, null_model, number)
) WITHOUT ROWID;
"""
OVERLAP_STUDY = Kind(
    word="study",
    hint="`ticketsearch overlap` makes one",
    file="overlap.sqlite",
    application=0x6F766C70,  # "ovlp"
    version=1,
    schema=SCHEMA,
)


class Content(BaseModel):
    """The plan of a study as its file holds it."""

    subject: dict[Word, Word]
    sizes: dict[Literal["draws", "aligned_draws", "restarts", "orders"], Count]
    seed: Annotated[int, Field(ge=0)]
    outlines: list[MaskSet]
    prunings: list[tuple[Word, Share, tuple[Word, Annotated[int, Field(ge=0)]], Annotated[int, Field(ge=0)]]]
    options: dict[Word, dict[Word, Any]]
    pruning: dict[Word, Any]
    given: dict[Word, str]
    input_shape: tuple[Count, ...]
    spec: MaskSpec

    @model_validator(mode="after")
    def _check_parts(self) -> Content:
        check_spec(self.spec)
        if set(self.sizes) != set(Sizes._fields) or self.sizes["restarts"] < 1:
            raise ValueError(f"sizes are {', '.join(Sizes._fields)}, restarts at least 1")
        for mask_set in self.outlines:
            if len(mask_set.names) != len(mask_set.masks) or len(mask_set.names) < 2:
                raise ValueError(f"set {mask_set.title!r} must have at least two masks, each with a name")
            if not 0 <= mask_set.leaders <= len(mask_set.names):
                raise ValueError(f"set {mask_set.title!r} has {mask_set.leaders} leaders")
        return self


class MetaRow(NamedTuple):
    """The plan, or the number of drawn weights by mask."""

    key: str
    value: Json[Any]


class MaskRow(NamedTuple):
    """A mask, and the signs of its initial weights."""

    name: str
    bits: bytes
    signs: bytes


class CaseRow(NamedTuple):
    """The canonical keys of a set's masks, None before they are known."""

    number: Count
    keys: Json[tuple[str, ...]] | None


class PairRow(NamedTuple):
    """The overlap of a pair of masks."""

    case_number: Count
    number: Count
    exact: Literal[0, 1]
    iou: Share
    aligned: Share
    raw_counts: bytes
    aligned_counts: bytes


class DrawRow(NamedTuple):
    """Counts of shared weights in one draw of a null model."""

    number: Count
    counts: bytes


def _check_mask(row: MaskRow, spec: MaskSpec) -> None:
    unpack(row.bits, spec)
    if row.signs:
        unpack(row.signs, spec)


META = Table("meta", MetaRow)
MASKS = Table("masks", MaskRow, _check_mask)
CASES = Table("cases", CaseRow)
PAIRS = Table("pairs", PairRow)
DRAWS = Table("draws", DrawRow)
CONTENT = TypeAdapter(Content)
DRAWN: TypeAdapter[dict[str, int]] = TypeAdapter(dict[str, Count])
