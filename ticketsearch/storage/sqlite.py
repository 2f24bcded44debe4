"""SQLite files: made as a whole, opened for reading or writing, changed in transactions."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ticketsearch.errors import BadInput
from ticketsearch.storage.folders import refuse_links

__all__ = ["Kind", "check_file", "connect", "create_file", "system_error", "transaction"]

# Suffixes of the files that SQLite writes beside a database.
SUFFIXES = ("-wal", "-shm", "-journal")
# Primary result codes of SQLite that are the system's faults, not the file's.
FAULTS = {
    5: (errno.EBUSY, "another program holds the file"),
    6: (errno.EBUSY, "another program holds the file"),
    10: (errno.EIO, "disk I/O error"),
    13: (errno.ENOSPC, "No space left on device"),
}


class Kind(NamedTuple):
    """One kind of folder around a SQLite file.

    Attributes
    ----------
    word : the noun for such a folder in messages.
    hint : how to get one, for the message where there is none.
    file : name of its SQLite file.
    application, version : application id and schema version in that file.
    schema : its tables, as SQL.
    oldest : the oldest version that is read; None for the present one alone.
    folders : folders inside.
    wal : whether the file is read while it is written, by SQLite's write-ahead log.
    way_out : the advice where the file is damaged.
    """

    word: str
    hint: str
    file: str
    application: int
    version: int
    schema: str
    oldest: int | None = None
    folders: tuple[str, ...] = ()
    wal: bool = False
    way_out: str = "remove it to start again"


def connect(file: Path, write: bool) -> sqlite3.Connection:
    """Open a file that exists, for reading or for writing.

    Raises :class:`BadInput` for a link, and where permission is denied.
    """
    refuse_links(file.parent, [file.name, *(file.name + suffix for suffix in SUFFIXES)])
    try:
        with file.open("r+b" if write else "rb"):
            pass
    except PermissionError as error:
        denied = "written" if write and os.access(file, os.R_OK) else "read"
        raise BadInput(
            f"{str(file)!r} cannot be {denied}: permission denied; ask its owner for permission"
        ) from error
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
    """Commit all statements of the block or none; yields the connection's ``execute``."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection.execute
        connection.execute("COMMIT")
    except BaseException:
        # The error that brought us here is the one to report, also where SQLite rolled back by itself.
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def create_file(file: Path, kind: Kind, fill: Callable[[sqlite3.Connection], object]) -> None:
    """Make a new file with the kind's tables, which ``fill`` writes the first rows of.

    It is made under a hidden name and renamed at the end, so that there is a whole file or none.
    """
    hidden = file.with_name(f".{file.name}.partial")
    hidden.unlink(missing_ok=True)
    try:
        with contextlib.closing(sqlite3.connect(hidden, isolation_level=None)) as connection:
            if kind.wal:
                connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA application_id = {kind.application}")
            connection.execute(f"PRAGMA user_version = {kind.version}")
            connection.execute("BEGIN")
            for statement in kind.schema.split(";"):
                connection.execute(statement)
            fill(connection)
            connection.execute("COMMIT")
    except sqlite3.Error as error:
        if (fault := system_error(error, file)) is error:
            raise
        raise fault from error
    hidden.replace(file)


def check_file(connection: sqlite3.Connection, file: Path, kind: Kind, write: bool) -> int:
    """Return the schema version of a file; raise :class:`BadInput` for another program's or version's.

    A file that is to be written is searched for damage. Raises :class:`sqlite3.DatabaseError` for a damaged
    one.
    """
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != kind.application:
        raise BadInput(
            f"{str(file)!r} is the file of another program, not of a {kind.word}; give another folder"
        )
    oldest = kind.version if kind.oldest is None else kind.oldest
    if not oldest <= version <= kind.version:
        readable = f"{oldest} to {kind.version}" if oldest < kind.version else f"{oldest}"
        raise BadInput(
            f"{str(file)!r} has schema {version}, but this version of ticketsearch reads {readable}; "
            "use the version that wrote it"
        )
    if write:
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
    return int(version)


def system_error(error: sqlite3.Error, file: Path) -> Exception:
    """Return an error of the disk as an :class:`OSError` with the file's name, any other one as it is."""
    code = getattr(error, "sqlite_errorcode", None)
    fault = None if code is None else FAULTS.get(code & 0xFF)
    return error if fault is None else OSError(*fault, str(file))
