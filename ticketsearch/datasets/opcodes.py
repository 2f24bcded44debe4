"""Pickled files as plain values: opcodes are read one by one, and no code that a file names is run.

The usual way to load such a file runs all calls in it. Here a call becomes a :class:`Call`, and opcodes and
names that arrays of numbers do not need are refused.
"""

from __future__ import annotations

import codecs
import io
import pickletools
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import IO, Any

__all__ = ["Call", "Name", "as_text", "plain_values"]

OPCODES = {opcode.code: opcode for opcode in pickletools.opcodes}
ESCAPED = re.compile(rb"""(?:[^\\]|\\[\\'"nrt]|\\x[0-9a-f]{2})*+""")  # possessive: a string may be 100 MB
ENCODE = "_codecs encode"  # the call by which Python 3 writes bytes in protocols without them


@dataclass(frozen=True)
class Name:
    """A function or class that a file mentions, ``"module name"``; it is never looked up."""

    text: str


@dataclass(eq=False)
class Call:
    """A call that a file asks for, with the state it gives to the result; it is never made."""

    function: str
    arguments: tuple[Any, ...]
    state: Any = None


def plain_values(data: bytes, names: Collection[str]) -> Any:
    """Return the value in a pickled file of protocol 0 to 2.

    The value is a dictionary with text keys, a list, tuple, bytes, text, integer, truth value, None, a
    :class:`Name` or a :class:`Call`; a string of Python 2 is bytes. ``names`` are the names that may occur.

    Raises :class:`ValueError`, with the reason on one line, for other names and opcodes and for a torn file.
    """
    stream, machine = io.BytesIO(data), _Machine(names)
    try:
        while (opcode := _next_opcode(stream)).name != "STOP":
            ACTIONS[opcode.name](machine, _argument(opcode, stream))
        return machine.pop()
    except LookupError as error:
        raise ValueError("it uses a value that it does not hold") from error


def as_text(value: object) -> str:
    """Return a string of Python 2 or 3 as text, and an empty one for anything else."""
    return value.decode("latin-1") if isinstance(value, bytes) else value if isinstance(value, str) else ""


def _next_opcode(stream: IO[bytes]) -> pickletools.OpcodeInfo:
    byte = stream.read(1)
    opcode = OPCODES.get(byte.decode("latin-1"))
    if opcode is None:
        raise ValueError(f"it has the byte {byte.hex()} for an opcode" if byte else "it ends too soon")
    if opcode.name not in ACTIONS and opcode.name != "STOP":
        raise ValueError(f"it uses the opcode {opcode.name}, which arrays do not need")
    return opcode


def _argument(opcode: pickletools.OpcodeInfo, stream: IO[bytes]) -> Any:
    # pickletools decodes escapes of both: a name has none, and it reads strings of ASCII alone.
    if opcode.name == "GLOBAL":
        return f"{_line(stream).decode('latin-1')} {_line(stream).decode('latin-1')}"
    if opcode.name == "STRING":
        return _quoted(_line(stream))
    argument: Any = opcode.arg.reader(stream) if opcode.arg else None
    return argument.encode("latin-1") if opcode.name in ("BINSTRING", "SHORT_BINSTRING") else argument


def _line(stream: IO[bytes]) -> bytes:
    line = stream.readline()
    if not line.endswith(b"\n"):
        raise ValueError("it ends too soon")
    return line[:-1]


def _quoted(text: bytes) -> bytes:
    """Return the bytes of a string literal of Python 2, with its quotes and escapes."""
    if len(text) < 2 or text[0] != text[-1] or text[:1] not in (b"'", b'"'):
        raise ValueError("it holds a string without quotes")
    if not ESCAPED.fullmatch(text, 1, len(text) - 1):
        raise ValueError("it holds a string with an escape that Python 2 does not write")
    return codecs.escape_decode(text[1:-1])[0]


class _Machine:
    """The stack, the marks on it and the memo, as the opcodes change them."""

    def __init__(self, names: Collection[str]) -> None:
        self.names = {*names, ENCODE}
        self.values: list[Any] = []
        self.below_marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def push(self, value: Any) -> None:
        self.values.append(value)

    def pop(self, count: int = 1) -> Any:
        """Return the last value, or for more than one a tuple of them."""
        popped = [self.values.pop() for _ in range(count)][::-1]
        return popped[0] if count == 1 else tuple(popped)

    def pop_to_mark(self) -> list[Any]:
        marked, self.values = self.values, self.below_marks.pop()
        return marked

    def mark(self, _: Any) -> None:
        self.below_marks.append(self.values)
        self.values = []

    def remember(self, number: int) -> None:
        self.memo[number] = self.values[-1]

    def extend(self, items: list[Any]) -> None:
        """Append to the list, or set in the dictionary, that is the last value."""
        target = self.values[-1]
        if isinstance(target, list):
            target.extend(items)
        elif isinstance(target, dict):
            target.update(_pairs(items))
        else:
            raise ValueError(f"it adds items to a {type(target).__name__}")

    def name(self, text: str) -> None:
        if text not in self.names:
            raise ValueError(f"it asks for {text[:80]!r}, which arrays do not need and which may do harm")
        self.push(Name(text))

    def call(self, _: Any) -> None:
        """Push a :class:`Call`, or the bytes of a call that encodes them."""
        function, arguments = self.pop(2)
        if not isinstance(function, Name) or not isinstance(arguments, tuple):
            raise ValueError("it calls a value that is not a function")
        self.push(_spelled(arguments) if function.text == ENCODE else Call(function.text, arguments))

    def build(self, _: Any) -> None:
        called, state = self.pop(2)
        if not isinstance(called, Call):
            raise ValueError(f"it gives a state to a {type(called).__name__}")
        called.state = state
        self.push(called)


def _spelled(arguments: tuple[Any, ...]) -> bytes:
    """Return the bytes that a call of :data:`ENCODE` returns."""
    match arguments:
        case (str(text), "latin1"):
            return text.encode("latin-1")
    raise ValueError("it spells bytes in another way than latin1")


def _pairs(items: list[Any]) -> dict[str, Any]:
    """Return alternating keys and values as a dictionary; the keys must be text."""
    keys = [as_text(key) for key in items[::2]]
    if len(items) % 2 or not all(keys):
        raise ValueError("it holds a dictionary whose keys are not names")
    return dict(zip(keys, items[1::2], strict=True))


# Actions of the known opcodes, on the machine and the opcode's argument.
ACTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": lambda machine, version: None,
    "MARK": _Machine.mark,
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    **dict.fromkeys(("INT", "BININT", "BININT1", "BININT2"), _Machine.push),
    **dict.fromkeys(("STRING", "BINSTRING", "SHORT_BINSTRING", "BINUNICODE"), _Machine.push),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _Machine.remember),
    **dict.fromkeys(
        ("GET", "BINGET", "LONG_BINGET"), lambda machine, number: machine.push(machine.memo[number])
    ),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "LIST": lambda machine, _: machine.push(machine.pop_to_mark()),
    "DICT": lambda machine, _: machine.push(_pairs(machine.pop_to_mark())),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.pop_to_mark())),
    "TUPLE1": lambda machine, _: machine.push((machine.pop(),)),
    "TUPLE2": lambda machine, _: machine.push(machine.pop(2)),
    "TUPLE3": lambda machine, _: machine.push(machine.pop(3)),
    "APPEND": lambda machine, _: machine.extend([machine.pop()]),
    "SETITEM": lambda machine, _: machine.extend([*machine.pop(2)]),
    "APPENDS": lambda machine, _: machine.extend(machine.pop_to_mark()),
    "SETITEMS": lambda machine, _: machine.extend(machine.pop_to_mark()),
    "GLOBAL": _Machine.name,
    "REDUCE": _Machine.call,
    "BUILD": _Machine.build,
}
