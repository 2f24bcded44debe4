"""The SQLite file of a comparison: its tables, and the types and ranges of their columns."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, Field, Json, TypeAdapter

from ticketsearch.masks import MaskSpec, unpack
from ticketsearch.storage import Count, Finite, Kind, Share, Table, Word

__all__ = ["CELLS", "COMPARISON", "CONTENT", "META", "RESULTS", "TIMES", "TIMES_SCHEMA"]

# Files of schema 1 have no times. Times have a table of their own, as they alone differ between two machines.
TIMES_SCHEMA = """
CREATE TABLE times (
    method TEXT NOT NULL,
    density REAL NOT NULL,
    initialization INTEGER NOT NULL,
    seconds REAL NOT NULL,
    PRIMARY KEY (method, density, initialization),
    FOREIGN KEY (method, density, initialization) REFERENCES cells (method, density, initialization)
) WITHOUT ROWID
"""
SCHEMA = (
    """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE cells (
    method TEXT NOT NULL,
    density REAL NOT NULL,
    initialization INTEGER NOT NULL,
    mask BLOB NOT NULL,
    evaluations INTEGER NOT NULL,
    steps INTEGER NOT NULL,
    flops INTEGER NOT NULL,
    trail TEXT NOT NULL,
    validation REAL,
    candidates INTEGER NOT NULL,
    PRIMARY KEY (method, density, initialization)
) WITHOUT ROWID;
CREATE TABLE results (
    method TEXT NOT NULL,
    density REAL NOT NULL,
    initialization INTEGER NOT NULL,
    control TEXT NOT NULL,
    data_order INTEGER NOT NULL,
    loss REAL,
    accuracy REAL NOT NULL,
    PRIMARY KEY (method, density, initialization, control, data_order),
    FOREIGN KEY (method, density, initialization) REFERENCES cells (method, density, initialization)
) WITHOUT ROWID;
"""
    + TIMES_SCHEMA
)
COMPARISON = Kind(
    word="comparison",
    hint="`ticketsearch compare` makes one",
    file="compare.sqlite",
    application=0x636D7072,  # "cmpr"
    version=2,
    schema=SCHEMA,
    oldest=1,
    folders=("searches",),
)


class Content(BaseModel):
    """Everything that determines the content of a cell."""

    settings: dict[str, Any]
    budget: int | None
    fingerprint: str
    spec: MaskSpec


class MetaRow(NamedTuple):
    """A part of the content."""

    key: str
    value: Json[Any]


class CellRow(NamedTuple):
    """A mask and its cost."""

    method: Word
    density: Share
    initialization: Count
    mask: bytes
    evaluations: Count
    steps: Count
    flops: Count
    trail: Json[list[tuple[Annotated[int, Field(ge=0)], float]]]
    validation: float | None
    candidates: Annotated[int, Field(ge=1, lt=2**63)]


class TimeRow(NamedTuple):
    """The processor seconds that the making of a mask took."""

    method: Word
    density: Share
    initialization: Count
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class ResultRow(NamedTuple):
    """The result of a final training."""

    method: Word
    density: Share
    initialization: Count
    control: Literal["", "shuffled", "reinitialized"]
    data_order: Count
    loss: Finite | None
    accuracy: Share


def _check_cell(row: CellRow, spec: MaskSpec) -> None:
    unpack(row.mask, spec)


META = Table("meta", MetaRow)
CELLS = Table("cells", CellRow, _check_cell)
TIMES = Table("times", TimeRow)
RESULTS = Table("results", ResultRow)
CONTENT = TypeAdapter(Content)
