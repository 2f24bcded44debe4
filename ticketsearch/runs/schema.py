"""The SQLite file of a run: its tables, how it is made, opened and checked, and a ticket as a row."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ticketsearch.errors import BadInput
from ticketsearch.guidance import Guidance
from ticketsearch.masks import MaskSpec, pack, unpack
from ticketsearch.models import Initialization
from ticketsearch.tickets import Assessment, Ticket

__all__ = [
    "assessment_of",
    "assessment_row",
    "check",
    "connect",
    "create",
    "guidance_of",
    "guidance_row",
    "ticket_of",
    "ticket_row",
    "transaction",
]

APPLICATION_ID = 0x7469636B  # "tick"
SCHEMA_VERSION = 5
# Of saliencies, numbers of candidates, and their growth, little-endian.
GUIDANCE = ("<f4", "<u4", "<f4")
SCHEMA = """
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
        connection.executemany("INSERT INTO meta VALUES (?, ?)", list(meta.items()))
        for position, seed in enumerate(seeds):
            connection.execute(
                "INSERT INTO seeds VALUES (?, ?, ?, ?, ?, ?, ?)",
                (position, pack(seed.mask), seed.digest, seed.key, seed.operator, *(seed.pruned_from or ())),
            )
        connection.execute("COMMIT")


def connect(file: Path, write: bool) -> sqlite3.Connection:
    """Open the file of a run that exists, for reading or for writing."""
    location = file.resolve().as_uri()
    if write:
        connection = sqlite3.connect(f"{location}?mode=rw", uri=True, isolation_level=None)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        return connection
    # A reader of a WAL file writes a little beside it; where it may not, nobody else writes either.
    mode = "mode=ro" if os.access(file.parent, os.W_OK) else "mode=ro&immutable=1"
    return sqlite3.connect(f"{location}?{mode}", uri=True, isolation_level=None)


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[Callable[..., Any]]:
    """Do all of a commit or nothing; yields the connection's ``execute``."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection.execute
        connection.execute("COMMIT")
    except BaseException:
        # The error that brought us here is the one to report, also where SQLite rolled back by itself.
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def check(connection: sqlite3.Connection, file: Path, write: bool) -> None:
    """Raise :class:`BadInput` for the file of another program or version; look for damage before writing.

    Raises :class:`sqlite3.DatabaseError` for a damaged file.
    """
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        raise BadInput(f"{str(file)!r} is no ticketsearch run: it belongs to another program")
    if version != SCHEMA_VERSION:
        raise BadInput(
            f"{str(file)!r} has schema {version}, but this version of ticketsearch reads "
            f"{SCHEMA_VERSION}; use the version that wrote it"
        )
    if write:
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)


def unreadable(file: Path, error: Exception) -> BadInput:
    """Return the one line for a file that SQLite, or what is in it, says is damaged."""
    return BadInput(
        f"{str(file)!r} cannot be read ({error}): it is damaged or not a run; "
        "start again with the settings.toml beside it"
    )


def ticket_row(ticket: Ticket) -> tuple[Any, ...]:
    """Return a ticket as a row of the table ``tickets``, with its first assessment."""
    trained, pruned = ticket.initialization, ticket.pruned_from
    return (
        ticket.number,
        ticket.generation,
        pack(ticket.mask),
        ticket.digest,
        ticket.key,
        int(ticket.exact),
        ticket.operator,
        json.dumps(ticket.parents),
        *(trained or (None, None)),
        *(pruned or (None, None)),
        *assessment_row(ticket.assessments[0])[1:],
    )


def guidance_row(ticket: Ticket, guidance: Guidance) -> tuple[Any, ...]:
    """Return a ticket's guidance as a row of the table ``guidance``."""
    arrays: tuple[NDArray[Any], ...] = guidance
    stored = (array.astype(dtype).tobytes() for array, dtype in zip(arrays, GUIDANCE, strict=True))
    return (ticket.number, *stored)


def guidance_of(row: Sequence[Any]) -> Guidance:
    """Return the guidance in a row of the table ``guidance``."""
    _, saliency, candidates, growth = row
    return Guidance(
        np.frombuffer(saliency, GUIDANCE[0]).astype(np.float32),
        np.frombuffer(candidates, GUIDANCE[1]).astype(np.int64),
        np.frombuffer(growth, GUIDANCE[2]).astype(np.float32),
    )


def seed_of(row: Sequence[Any], spec: MaskSpec) -> Ticket:
    """Return the pruned mask in a row of the table ``seeds``; it has no scores and no place in the run."""
    _, mask, _, key, operator, scheme, seed = row
    return Ticket(unpack(mask, spec), None, Initialization(scheme, seed), operator, key=key)


def ticket_of(row: Sequence[Any], spec: MaskSpec) -> Ticket:
    """Return the ticket in a row of the table ``tickets``."""
    number, generation, mask, _, key, exact, operator, parents = row[:8]
    scheme, seed, pruned_scheme, pruned_seed, rung, score, measures = row[8:]
    ticket = Ticket(
        unpack(mask, spec),
        None if scheme is None else Initialization(scheme, seed),
        None if pruned_scheme is None else Initialization(pruned_scheme, pruned_seed),
        operator,
        generation,
        tuple(json.loads(parents)),
        number,
        key,
        bool(exact),
    )
    ticket.add(assessment_of((generation, rung, score, measures)))
    return ticket


def assessment_of(row: Sequence[Any]) -> Assessment:
    """Return an assessment from generation, rung, fitness and measures as tables have them."""
    generation, rung, score, measures = row
    return Assessment(generation, rung, float("-inf") if score is None else score, json.loads(measures))


def assessment_row(assessment: Assessment) -> tuple[Any, ...]:
    """Return an assessment as tables have it; a diverged one has no fitness there."""
    generation, rung, score, measures = assessment
    return generation, rung, score if math.isfinite(score) else None, json.dumps(measures)
