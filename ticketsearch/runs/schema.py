"""The SQLite file of a run: its tables, how it is made and checked, and what becomes of older ones."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path

from ticketsearch.errors import BadInput
from ticketsearch.masks import pack
from ticketsearch.runs.tables import OLD_STATES, SEEDS, STATES, WORTH
from ticketsearch.storage import transaction
from ticketsearch.tickets import Ticket

__all__ = ["OLDEST", "SCHEMA_VERSION", "check", "create", "migrate"]

APPLICATION_ID = 0x7469636B  # "tick"
# 6: what rounds are worth is a table of its own, where 5 repeated all of it in each generation's state. Since
# 6 the keys of new runs leave out kernel positions that can read padding alone; a run that began under 5
# goes on with its own spec, which knows nothing of such positions, so that its keys stay what they were.
SCHEMA_VERSION = 6
# The oldest that is read as it is, and that becomes one of the present version when it is written.
OLDEST = 5
# Generations whose states are converted at a time, as those of a long search do not fit into memory.
CHUNK = 64
LEVELLING = """
CREATE TABLE worth (
    generation INTEGER NOT NULL REFERENCES generations (number),
    rung INTEGER NOT NULL,
    value REAL NOT NULL,
    PRIMARY KEY (generation, rung)
) WITHOUT ROWID;
CREATE INDEX assessments_of_generation ON assessments (generation);
"""
SCHEMA = (
    """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE generations (
    number INTEGER PRIMARY KEY,
    refused INTEGER NOT NULL,
    immigrants INTEGER NOT NULL,
    statistics TEXT NOT NULL,
    state TEXT NOT NULL,
    agreements TEXT NOT NULL,
    spent TEXT NOT NULL,
    phases TEXT NOT NULL,
    finished REAL NOT NULL
);
CREATE TABLE tickets (
    number INTEGER PRIMARY KEY,
    generation INTEGER NOT NULL REFERENCES generations (number),
    mask BLOB NOT NULL,
    digest TEXT NOT NULL,
    key TEXT NOT NULL UNIQUE,
    exact INTEGER NOT NULL,
    operator TEXT NOT NULL,
    parents TEXT NOT NULL,
    scheme TEXT,
    seed INTEGER,
    pruned_scheme TEXT,
    pruned_seed INTEGER,
    rung INTEGER NOT NULL,
    fitness REAL,
    measures TEXT NOT NULL
);
CREATE INDEX tickets_of_generation ON tickets (generation);
CREATE TABLE seeds (
    position INTEGER PRIMARY KEY,
    mask BLOB NOT NULL,
    digest TEXT NOT NULL,
    key TEXT NOT NULL,
    operator TEXT NOT NULL,
    scheme TEXT NOT NULL,
    seed INTEGER NOT NULL
);
CREATE TABLE members (
    generation INTEGER NOT NULL REFERENCES generations (number),
    position INTEGER NOT NULL,
    ticket INTEGER NOT NULL REFERENCES tickets (number),
    PRIMARY KEY (generation, position)
) WITHOUT ROWID;
CREATE TABLE assessments (
    ticket INTEGER NOT NULL REFERENCES tickets (number),
    generation INTEGER NOT NULL REFERENCES generations (number),
    rung INTEGER NOT NULL,
    fitness REAL,
    measures TEXT NOT NULL,
    PRIMARY KEY (ticket, generation)
) WITHOUT ROWID;
CREATE TABLE guidance (
    ticket INTEGER PRIMARY KEY REFERENCES tickets (number),
    saliency BLOB NOT NULL,
    candidates BLOB NOT NULL,
    growth BLOB NOT NULL
);
CREATE TABLE results (
    contender TEXT NOT NULL,
    data_order INTEGER NOT NULL,
    part TEXT NOT NULL,
    ticket INTEGER REFERENCES tickets (number),
    density REAL NOT NULL,
    effective_density REAL NOT NULL,
    loss REAL,
    accuracy REAL NOT NULL,
    PRIMARY KEY (contender, data_order, part)
) WITHOUT ROWID;
"""
    + LEVELLING
)


def create(file: Path, meta: Mapping[str, str], seeds: Iterable[Ticket]) -> None:
    """Make the file of a new run, which holds ``meta``, the pruned masks ``seeds``, and no generation."""
    connection = sqlite3.connect(file, isolation_level=None)
    with contextlib.closing(connection):
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("BEGIN")
        for statement in SCHEMA.split(";"):
            connection.execute(statement)
        connection.executemany("INSERT INTO meta (key, value) VALUES (?, ?)", list(meta.items()))
        for position, seed in enumerate(seeds):
            connection.execute(
                SEEDS.insert,
                (position, pack(seed.mask), seed.digest, seed.key, seed.operator, *(seed.pruned_from or ())),
            )
        connection.execute("COMMIT")


def check(connection: sqlite3.Connection, file: Path, write: bool) -> int:
    """Return the schema version; raise :class:`BadInput` for the file of another program or version.

    Looks for damage before writing. Raises :class:`sqlite3.DatabaseError` for a damaged file.
    """
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        raise BadInput(f"{str(file)!r} is no ticketsearch run: it belongs to another program")
    if not OLDEST <= version <= SCHEMA_VERSION:
        raise BadInput(
            f"{str(file)!r} has schema {version}, but this version of ticketsearch reads {OLDEST} to "
            f"{SCHEMA_VERSION}; use the version that wrote it"
        )
    if write:
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
    return int(version)


def old_worth(connection: sqlite3.Connection, until: int) -> list[tuple[int, int, float]]:
    """Return what rounds were worth, rung, generation and value, in a file of schema 5.

    There the state of a generation repeats those of all before it.
    """
    rows = OLD_STATES.read(connection, "WHERE number <= ? ORDER BY number DESC LIMIT 1", (until,))
    found = [each for row in rows for each in row.state.worth if each[1]]
    return sorted(found, key=lambda each: (each[1], each[0]))


def migrate(connection: sqlite3.Connection, last: int) -> None:
    """Bring a file of schema 5, whose last generation is given, to the present one: all or nothing.

    Raises :class:`ValueError` for content that is not of that schema.
    """
    with transaction(connection) as execute:
        for statement in LEVELLING.split(";"):
            execute(statement)
        for rung, generation, value in old_worth(connection, last):
            execute(WORTH.insert, (generation, rung, value))
        for first in range(0, last + 1, CHUNK):
            for row in STATES.read(connection, "WHERE number BETWEEN ? AND ?", (first, first + CHUNK - 1)):
                state = json.dumps(row.state.content())
                execute("UPDATE generations SET state = ? WHERE number = ?", (state, row.number))
        execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    with contextlib.suppress(sqlite3.Error):  # it only makes the file smaller; a reader may be in the way
        connection.execute("VACUUM")
