"""Folders around one SQLite file: made whole, opened and checked, written by one process at a time."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import IO, ClassVar, NamedTuple, Self

from ticketsearch.errors import BadInput
from ticketsearch.storage.folders import lock_folder, refuse_links
from ticketsearch.storage.stores import SqliteStore, connect, system_error

__all__ = ["Database", "Kind"]


class Kind(NamedTuple):
    """What tells one kind of folder from others.

    Attributes
    ----------
    word, command : what it is called, and what makes one.
    file : its SQLite file.
    application, version : what that file says it is.
    schema : its tables, as SQL.
    folders : those that it has inside.
    """

    word: str
    command: str
    file: str
    application: int
    version: int
    schema: str
    folders: tuple[str, ...] = ()


class Database(SqliteStore):
    """A folder of a kind, open for reading, or by one process for writing.

    Use it as a context manager or :meth:`close` it. All that is read is validated: :class:`BadInput` names
    the file where something in it is not as it was written.
    """

    kind: ClassVar[Kind]
    way_out = "remove it to start again"

    def __init_subclass__(cls) -> None:
        """Take the names of the folder and its file from the kind."""
        cls.word, cls.file_name = cls.kind.word, cls.kind.file

    @classmethod
    def make(cls, path: Path, fill: Callable[[sqlite3.Connection], object]) -> Self:
        """Open the folder for writing; where there is none it is made, and ``fill`` writes what is in it.

        Raises :class:`BadInput` for a folder with other things in it, or one that another process writes.
        """
        kind, file = cls.kind, path / cls.kind.file
        if path.exists() and not path.is_dir():
            raise BadInput(
                f"a {kind.word} goes into a folder, but {str(path)!r} is a file; give another --out"
            )
        if path.is_dir() and not file.exists() and any(p.name != "run.lock" for p in path.glob("[!.]*")):
            raise BadInput(f"{str(path)!r} exists already and is no {kind.word}; give another --out")
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:  # below a file, or where this user may not write
            reason = error.strerror or str(error)
            raise BadInput(f"{str(path)!r} cannot be made ({reason}); give another --out") from error
        refuse_links(path, [kind.file, *kind.folders])
        lock = lock_folder(path)
        try:
            if not file.exists():
                _create(file, kind, fill)
            return cls._opened(path, lock)
        except BaseException:
            if lock is not None:
                lock.close()
            raise

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the folder for reading; raises :class:`BadInput` if it is none of this kind."""
        kind = cls.kind
        try:
            found = (path / kind.file).is_file()
        except PermissionError as error:
            raise BadInput(
                f"{str(path)!r} cannot be read: permission denied; ask its owner for permission"
            ) from error
        if not found:
            raise BadInput(
                f"no {kind.word} in {str(path)!r}: it holds no {kind.file}; `{kind.command}` makes one"
            )
        return cls._opened(path)

    @classmethod
    def _opened(cls, path: Path, lock: IO[bytes] | None = None) -> Self:
        kind, file = cls.kind, path / cls.kind.file
        with cls.reading(file):
            connection = connect(file, lock is not None)
            try:
                _check(connection, file, kind)
                return cls(path, connection, lock)
            except BaseException:
                connection.close()
                raise


def _create(file: Path, kind: Kind, fill: Callable[[sqlite3.Connection], object]) -> None:
    """Make a new file under a hidden name, and rename it when it is whole."""
    hidden = file.with_name(f".{file.name}.partial")
    hidden.unlink(missing_ok=True)
    try:
        with contextlib.closing(sqlite3.connect(hidden, isolation_level=None)) as connection:
            connection.execute(f"PRAGMA application_id = {kind.application}")
            connection.execute(f"PRAGMA user_version = {kind.version}")
            connection.execute("BEGIN")
            for statement in kind.schema.split(";"):
                connection.execute(statement)
            fill(connection)
            connection.execute("COMMIT")
    except sqlite3.Error as error:
        if (found := system_error(error, file)) is error:
            raise
        raise found from error
    os.replace(hidden, file)  # noqa: PTH105 - the same, but it says what happens


def _check(connection: sqlite3.Connection, file: Path, kind: Kind) -> None:
    """Raise :class:`BadInput` for the file of another program or version."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if (application, version) != (kind.application, kind.version):
        raise BadInput(
            f"{str(file)!r} is no {kind.word} that this version of ticketsearch reads; give another --out"
        )
