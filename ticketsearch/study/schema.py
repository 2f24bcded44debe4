"""The SQLite file of a study: its tables, and how it is made, opened and checked."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ticketsearch.errors import BadInput
from ticketsearch.runs.schema import connect
from ticketsearch.study.plan import Outline

__all__ = ["create", "opened"]

APPLICATION_ID = 0x6F766C70  # "ovlp"
SCHEMA_VERSION = 1
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


def create(file: Path, content: Mapping[str, Any], outlines: Sequence[Outline]) -> None:
    """Make the file of a new study under a hidden name, and rename it when it is whole."""
    hidden = file.with_name(f".{file.name}.partial")
    hidden.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(hidden, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("BEGIN")
        for statement in SCHEMA.split(";"):
            connection.execute(statement)
        connection.execute("INSERT INTO meta VALUES ('plan', ?)", (json.dumps(content),))
        rows = [(number, outline.kind, outline.title) for number, outline in enumerate(outlines)]
        connection.executemany("INSERT INTO cases (number, kind, title) VALUES (?, ?, ?)", rows)
        connection.execute("COMMIT")
    os.replace(hidden, file)  # noqa: PTH105 - the same, but it says what happens


def opened(file: Path, write: bool) -> sqlite3.Connection:
    """Open the file of a study that exists.

    Raises :class:`BadInput` for the file of another program or version, :class:`sqlite3.DatabaseError` for
    what is no such file.
    """
    connection = connect(file, write)
    try:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if (application, version) != (APPLICATION_ID, SCHEMA_VERSION):
            raise BadInput(
                f"{str(file)!r} is no study that this version of ticketsearch reads; give another --out"
            )
    except BaseException:
        connection.close()
        raise
    return connection
