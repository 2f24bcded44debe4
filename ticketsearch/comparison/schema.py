"""The SQLite file of a contest: what it is called, and its tables."""

from __future__ import annotations

from ticketsearch.storage import Kind

__all__ = ["CONTEST"]

SCHEMA = """
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
CONTEST = Kind(
    word="comparison",
    command="ticketsearch compare",
    file="compare.sqlite",
    application=0x636D7072,  # "cmpr"
    version=1,
    schema=SCHEMA,
    folders=("searches",),
)
