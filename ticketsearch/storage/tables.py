"""Tables: rows as NamedTuples whose fields are columns, all of them validated by pydantic as they are read.

Somebody else may have written the file: a reader gets rows of the declared types, JSON in columns included,
or one line that names the file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError, ValidationInfo

from ticketsearch.errors import BadInput, printable

__all__ = ["Count", "Finite", "Share", "Table", "Word", "one_line", "unreadable", "validated"]

Row = TypeVar("Row", bound=tuple[Any, ...])
T = TypeVar("T")
# The most characters of a stored value that a message repeats.
SHOWN = 80


# Types of columns: an integer >= 0 of SQLite's range, a finite number, a number in [0, 1], a printable text.
Count = Annotated[int, Field(ge=0, lt=2**63)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Word = Annotated[str, AfterValidator(printable)]


class Table(Generic[Row]):
    """A table of a database, or some columns of one, and the model of its rows.

    Parameters
    ----------
    name : of the table.
    row : a NamedTuple; its fields are the columns that are read.
    check : ``check(row, context)`` raises :class:`ValueError` for a row whose fields do not agree with each
        other, or with the ``context`` that is given to :meth:`read`.
    """

    def __init__(self, name: str, row: type[Row], check: Callable[[Row, Any], object] | None = None) -> None:
        self.name = name
        self.fields: tuple[str, ...] = row._fields  # type: ignore[attr-defined]
        self.columns = ", ".join(self.fields)
        self.insert = f"INSERT INTO {name} ({self.columns}) VALUES ({', '.join('?' * len(self.fields))})"

        def checked(values: Row, info: ValidationInfo) -> Row:
            if check is not None:
                check(values, info.context)
            return values

        self._rows: Any = list[Annotated[row, AfterValidator(checked)]]  # type: ignore[valid-type]

    @cached_property
    def _adapter(self) -> TypeAdapter[list[Row]]:
        """The model of the rows, made when they are first read: a command reads few of the tables."""
        return TypeAdapter(self._rows, config=ConfigDict(strict=True))

    def read(
        self,
        connection: sqlite3.Connection,
        rest: str = "",
        parameters: Iterable[Any] = (),
        context: Any = None,
    ) -> list[Row]:
        """Return the rows that the ``rest`` of a query selects.

        Raises :class:`ValueError` for a row that does not fit the model, and :class:`sqlite3.Error`.
        """
        cursor = connection.execute(f"SELECT {self.columns} FROM {self.name} {rest}", tuple(parameters))
        try:
            return self._adapter.validate_python(cursor.fetchall(), context=context)
        except ValidationError as error:
            name = self.name if self.name.isidentifier() else "of tickets"
            raise ValueError(f"table {name}, {one_line(error, self.fields)}") from None


def validated(adapter: TypeAdapter[T], value: Any, name: str) -> T:
    """Validate a value by an adapter; raises :class:`ValueError` of one line that begins with the name."""
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        raise ValueError(f"{name}, {one_line(error)}") from None


def one_line(error: ValidationError, fields: Sequence[str] = ()) -> str:
    """Return the first error as one line; ``fields`` name the columns of a row."""
    first = error.errors(include_url=False, include_context=False)[0]
    place = list(map(str, first["loc"]))
    if fields and len(first["loc"]) > 1 and isinstance(first["loc"][1], int):
        place[1] = fields[first["loc"][1]]
    if fields and place:
        place[0] = f"row {int(place[0]) + 1}"
    shown = printable(repr(first["input"]))
    shown = shown if len(shown) <= SHOWN else f"{shown[: SHOWN - 1]}…"
    rule = printable(first["msg"]).removeprefix("Value error, ").replace("Input should", "must")
    got = "" if first["type"] == "value_error" else f", but is {shown}"
    return f"{' '.join(place)}: {rule}{got}"


def unreadable(file: Path, error: Exception, word: str, way_out: str) -> BadInput:
    """Return the one-line error for a damaged file, with the reason that SQLite or the validation gives."""
    reason = printable(" ".join(str(error).split()))
    return BadInput(f"{str(file)!r} cannot be read ({reason}): it is damaged or not a {word}; {way_out}")
