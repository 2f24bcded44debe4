"""A folder around one SQLite file: read through models, and written by one process at a time."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, ClassVar, Self, TypeVar

from ticketsearch.checks import checked
from ticketsearch.errors import BadInput
from ticketsearch.storage.folders import LOCK, lock_folder, refuse_links
from ticketsearch.storage.sqlite import Kind, check_file, connect, create_file, system_error, transaction
from ticketsearch.storage.tables import Table, unreadable

__all__ = ["Database"]

Row = TypeVar("Row", bound=tuple[Any, ...])


class Database:
    """A folder with one SQLite file, open for reading, or by one process for writing.

    Make one with :meth:`make` or :meth:`open`; use it as a context manager or :meth:`close` it. All that is
    read is validated: :class:`BadInput` names the file where its content is not as it was written.
    """

    kind: ClassVar[Kind]

    def __init__(
        self, path: Path, connection: sqlite3.Connection, lock: IO[bytes] | None = None, version: int = 0
    ) -> None:
        self.path, self._connection, self._lock = path, connection, lock
        self._version = version or self.kind.version
        self._file_id = _file_id(self.file)
        with self._validation():
            self._load()

    def _load(self) -> None:
        """Read the attributes of a subclass from its file."""

    @classmethod
    def make(cls, path: Path, fill: Callable[[sqlite3.Connection], object]) -> Self:
        """Open the folder for writing; where there is none it is made, and ``fill`` writes its first rows.

        Raises :class:`BadInput` for a folder with other things in it, or one that another process writes.
        """
        kind, file = cls.kind, path / cls.kind.file
        if path.exists() and not path.is_dir():
            raise BadInput(
                f"a {kind.word} goes into a folder, but {str(path)!r} is a file; give another --out"
            )
        if path.is_dir() and not file.exists() and any(p.name != LOCK for p in path.glob("[!.]*")):
            raise BadInput(f"{str(path)!r} exists already and is not a {kind.word}; give another --out")
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:  # below a file, or where this user may not write
            reason = error.strerror or str(error)
            raise BadInput(f"{str(path)!r} cannot be made ({reason}); give another --out") from error
        refuse_links(path, [kind.file, *kind.folders])
        lock = lock_folder(path)
        try:
            if not file.exists():
                create_file(file, kind, fill)
        except BaseException:
            if lock is not None:
                lock.close()
            raise
        return cls._opened(path, lock, write=True)

    @classmethod
    @checked
    def open(cls, path: str | Path, *, write: bool = False) -> Self:
        """Open the folder ``path``, e.g. ``Run.open("runs/digits-mlp-001")``.

        Raises :class:`BadInput` if it is no folder of this kind, its file is damaged or foreign, or another
        process writes.
        """
        path, kind = Path(path), cls.kind
        try:
            there = (path / kind.file).is_file()
        except PermissionError as error:
            raise BadInput(
                f"{str(path)!r} cannot be read: permission denied; ask its owner for permission"
            ) from error
        if not there:
            raise BadInput(f"no {kind.word} in {str(path)!r}: it holds no {kind.file}; {kind.hint}")
        if write:
            refuse_links(path, kind.folders)
        return cls._opened(path, lock_folder(path) if write else None, write=write)

    @classmethod
    def _opened(cls, path: Path, lock: IO[bytes] | None, *, write: bool) -> Self:
        file, connection = path / cls.kind.file, None
        try:
            with cls.reading(file):
                connection = connect(file, write)
                database = cls(path, connection, lock, check_file(connection, file, cls.kind, write))
                if write and database._version < cls.kind.version:
                    database._migrate()
                    database._version = cls.kind.version
                return database
        except BaseException:
            if connection is not None:
                connection.close()
            if lock is not None:
                lock.close()
            raise

    def _migrate(self) -> None:
        """Bring the file of an older schema to the present one."""
        raise NotImplementedError

    @property
    def file(self) -> Path:
        """The SQLite file."""
        return self.path / self.kind.file

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

        A file that was deleted can still be written: all work from then on would be lost.
        """
        if _file_id(self.file) != self._file_id:
            raise BadInput(
                f"{str(self.path)!r} was deleted or moved while it was written; all that was committed "
                f"before is in the moved {self.kind.word}: go on with that, by its new path"
            )

    @contextlib.contextmanager
    def _commit(self) -> Iterator[Callable[..., Any]]:
        """Commit all statements of the block, or none."""
        self.check_place()
        try:
            with transaction(self._connection) as execute:
                yield execute
        except sqlite3.Error as error:
            if (fault := system_error(error, self.file)) is not error:
                raise fault from error
            if isinstance(error, sqlite3.IntegrityError):  # in the rows to be written
                raise
            raise unreadable(self.file, error, self.kind.word, self.kind.way_out) from error

    def _read(
        self, table: Table[Row], rest: str = "", parameters: Iterable[Any] = (), context: Any = None
    ) -> list[Row]:
        """Return the rows of a table that the ``rest`` of a query selects, validated."""
        with self._validation():
            return table.read(self._connection, rest, parameters, context)

    @contextlib.contextmanager
    def _validation(self) -> Iterator[None]:
        """Turn an error in the file's content into the one line that names the file."""
        with self.reading(self.file):
            yield

    @classmethod
    @contextlib.contextmanager
    def reading(cls, file: Path) -> Iterator[None]:
        """Turn an error in the content of a file into the one line that names it."""
        word, way_out = cls.kind.word, cls.kind.way_out
        try:
            yield
        except sqlite3.Error as error:
            if (fault := system_error(error, file)) is not error:
                raise fault from error
            raise unreadable(file, error, word, way_out) from error
        except ValueError as error:
            names = repr(str(file)), repr(str(file.parent)), repr(file.parent.name)
            if isinstance(error, BadInput) and any(name in str(error) for name in names):
                raise  # which says so already
            raise unreadable(file, error, word, way_out) from error


def _file_id(file: Path) -> tuple[int, int] | None:
    """Return device and inode of a file, which it keeps wherever it is moved; None where there is none."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
