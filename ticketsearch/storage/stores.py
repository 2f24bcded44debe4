"""A folder around one SQLite file: opened and checked, read through models, written by one process."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, ClassVar, Self, TypeVar

from ticketsearch.errors import BadInput
from ticketsearch.storage.folders import refuse_links
from ticketsearch.storage.tables import Table, unreadable

__all__ = ["SqliteStore", "connect", "system_error", "transaction"]

Row = TypeVar("Row", bound=tuple[Any, ...])
# What SQLite writes beside a file.
BESIDE = ("-wal", "-shm", "-journal")
# Primary result codes of SQLite that are the system's faults, not the file's.
FAULTS = {
    5: (errno.EBUSY, "another program holds the file"),
    6: (errno.EBUSY, "another program holds the file"),
    10: (errno.EIO, "disk I/O error"),
    13: (errno.ENOSPC, "No space left on device"),
}


def connect(file: Path, write: bool) -> sqlite3.Connection:
    """Open a file that exists, for reading or for writing.

    Raises :class:`BadInput` for a link, and where permission is denied.
    """
    refuse_links(file.parent, [file.name, *(file.name + end for end in BESIDE)])
    try:
        with file.open("r+b" if write else "rb"):
            pass
    except PermissionError as error:
        what = "written" if write and os.access(file, os.R_OK) else "read"
        raise BadInput(
            f"{str(file)!r} cannot be {what}: permission denied; ask its owner for permission"
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


def system_error(error: sqlite3.Error, file: Path) -> Exception:
    """Return an error of the disk as an :class:`OSError` with the file's name, any other one as it is."""
    code = getattr(error, "sqlite_errorcode", None)
    fault = None if code is None else FAULTS.get(code & 0xFF)
    return error if fault is None else OSError(*fault, str(file))


class SqliteStore:
    """A folder with one SQLite file, open for reading, or by one process for writing.

    Use it as a context manager or :meth:`close` it.
    """

    # Of the file, what the folder is called, and what to do about one that is damaged.
    file_name: ClassVar[str]
    word: ClassVar[str]
    way_out: ClassVar[str]

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: IO[bytes] | None = None) -> None:
        self.path, self._connection, self._lock = path, connection, lock
        self._identity = _identity(self.file)

    @property
    def file(self) -> Path:
        """The SQLite file."""
        return self.path / self.file_name

    def close(self) -> None:
        """Close the file and let others write."""
        self._connection.close()
        if self._lock is not None:
            self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None = None, *_: object) -> None:
        self.close()

    def check_place(self) -> None:
        """Raise :class:`BadInput` if the file is no longer where it was opened.

        A file that was deleted can still be written: all work from then on would be for nothing.
        """
        if _identity(self.file) != self._identity:
            raise BadInput(
                f"{str(self.path)!r} was deleted or moved while it was written; what was committed before is "
                f"in the {self.word} as it was moved: go on with that, by its new path"
            )

    @contextlib.contextmanager
    def _commit(self) -> Iterator[Callable[..., Any]]:
        """Commit all that is executed inside, or nothing."""
        self.check_place()
        try:
            with transaction(self._connection) as execute:
                yield execute
        except sqlite3.Error as error:
            if (found := system_error(error, self.file)) is not error:
                raise found from error
            if isinstance(error, sqlite3.IntegrityError):  # of what was to be written
                raise
            raise unreadable(self.file, error, self.word, self.way_out) from error

    def _read(
        self, table: Table[Row], rest: str = "", parameters: Iterable[Any] = (), context: Any = None
    ) -> list[Row]:
        """Return the rows of a table that the ``rest`` of a query selects, validated."""
        with self._validation():
            return table.read(self._connection, rest, parameters, context)

    @contextlib.contextmanager
    def _validation(self) -> Iterator[None]:
        """Turn what is wrong with the content into the one line that names the file."""
        with self.reading(self.file):
            yield

    @classmethod
    @contextlib.contextmanager
    def reading(cls, file: Path) -> Iterator[None]:
        """Turn what is wrong with the content of a file into the one line that names it."""
        try:
            yield
        except sqlite3.Error as error:
            if (found := system_error(error, file)) is not error:
                raise found from error
            raise unreadable(file, error, cls.word, cls.way_out) from error
        except ValueError as error:
            names = repr(str(file)), repr(str(file.parent)), repr(file.parent.name)
            if isinstance(error, BadInput) and any(name in str(error) for name in names):
                raise  # which says so already
            raise unreadable(file, error, cls.word, cls.way_out) from error


def _identity(file: Path) -> tuple[int, int] | None:
    """Return what tells a file from others, wherever it is; None where there is none."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
