"""The SQLite file of a study: what it is called, and its tables."""

from __future__ import annotations

from ticketsearch.storage import Kind

__all__ = ["STUDY"]

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
STUDY = Kind(
    word="study",
    command="ticketsearch overlap",
    file="overlap.sqlite",
    application=0x6F766C70,  # "ovlp"
    version=1,
    schema=SCHEMA,
)
