"""The SQLite file of a run: its tables, and the migration of older ones."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable

from ticketsearch.runs.tables import OLD_STATES, STATES, WORTH
from ticketsearch.storage import Kind, transaction

__all__ = ["ORDER_EFFECTS_SINCE", "RUN", "SCHEMA_VERSION", "migrate", "old_order_effects"]

# 7: evaluations of a generation that is being made have a table.
# 6: effects of data orders have a table, where 5 repeated all of them in each generation's state. Since
# 6 the keys of new runs leave out kernel positions that can read padding alone; a run that began under 5
# goes on with its own spec, which does not know such positions, so that its keys stay the same.
SCHEMA_VERSION = 7
# The oldest version that is read. A run of an older version than the present is migrated when it is opened
# for writing.
OLDEST = 5
ORDER_EFFECTS_SINCE = 6
# Generations whose states are converted at a time, as those of a long search do not fit into memory.
CHUNK = 64
EVALUATIONS = """
CREATE TABLE evaluations (
    round INTEGER NOT NULL,
    steps INTEGER NOT NULL,
    digest TEXT NOT NULL,
    scheme TEXT NOT NULL,
    seed INTEGER NOT NULL,
    passes BLOB NOT NULL,
    saliency BLOB,
    candidates BLOB,
    growth BLOB,
    PRIMARY KEY (round, steps, digest, scheme, seed)
) WITHOUT ROWID;
"""
ORDER_EFFECTS = """
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
    + ORDER_EFFECTS
    + EVALUATIONS
)


RUN = Kind(
    word="run",
    hint="`ticketsearch list` shows the runs",
    file="run.sqlite",
    application=0x7469636B,  # "tick"
    version=SCHEMA_VERSION,
    schema=SCHEMA,
    oldest=OLDEST,
    folders=("tickets",),
    wal=True,
    way_out="start again with the settings.toml beside it",
)


def old_order_effects(connection: sqlite3.Connection, until: int) -> list[tuple[int, int, float]]:
    """Return the effects of data orders, (rung, generation, effect), in a file of schema 5.

    There the state of a generation repeats those of all before it.
    """
    rows = OLD_STATES.read(connection, "WHERE number <= ? ORDER BY number DESC LIMIT 1", (until,))
    effects = [effect for row in rows for effect in row.state.worth if effect[1]]
    return sorted(effects, key=lambda effect: (effect[1], effect[0]))


def migrate(connection: sqlite3.Connection, last: int) -> None:
    """Bring a file of schema 5 or 6, whose last generation is given, to the present schema: all or nothing.

    Raises :class:`ValueError` for content of another schema.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    with transaction(connection) as execute:
        execute(EVALUATIONS)
        if version < ORDER_EFFECTS_SINCE:
            _separate_order_effects(connection, last, execute)
        execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    with contextlib.suppress(sqlite3.Error):  # it only makes the file smaller; a reader may be in the way
        connection.execute("VACUUM")


def _separate_order_effects(
    connection: sqlite3.Connection, last: int, execute: Callable[..., object]
) -> None:
    """Put the effects of data orders of a file of schema 5 into a table of their own."""
    for statement in ORDER_EFFECTS.split(";"):
        execute(statement)
    for rung, generation, value in old_order_effects(connection, last):
        execute(WORTH.insert, (generation, rung, value))
    for first in range(0, last + 1, CHUNK):
        for row in STATES.read(connection, "WHERE number BETWEEN ? AND ?", (first, first + CHUNK - 1)):
            state = json.dumps(row.state.content())
            execute("UPDATE generations SET state = ? WHERE number = ?", (state, row.number))
