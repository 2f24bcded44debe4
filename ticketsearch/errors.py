"""Errors on user input: one exception, whose message is one line of rule, value and way out."""

from __future__ import annotations

import difflib
import re
import warnings
from collections.abc import Iterable
from typing import Any, TypeGuard

__all__ = ["BadInput", "nearest", "printable", "renamed", "shown", "unknown"]

# Most characters of a value in a message.
SHOWN = 80
# Words, quoted texts and lists that a message cuts: longer than nearly all paths.
LONG = re.compile(r"""\S{161,}|(?<![^\s(\[{=])(['"])(?:(?!\1).){161,}?\1(?!\w)|\[[^\[\]]{161,}\]""")


class BadInput(ValueError):  # noqa: N818 - it names the fault, and reads well at `raise`
    """User input that cannot be used; the message is one line: rule, value, way out.

    Line breaks of the message become spaces, and values much longer than 80 characters are cut.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(LONG.sub(lambda value: f"{value[0][: SHOWN - 1]}…", " ".join(str(message).split())))


def shown(value: object, most: int = SHOWN) -> str:
    """Return the text of a value in a message, on one line: its ``repr``, cut at 80 characters or ``most``.

    The text of a value whose ``repr`` fails is its type.
    """
    try:
        # Python refuses to write out numbers of thousands of digits.
        text = f"an integer of {value.bit_length()} bits" if _is_huge(value) else repr(value)
    except Exception:  # an object's own code may raise anything
        text = f"a {type(value).__name__}"
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[: most - 1]}…"


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the known name nearest to ``name``, or an empty string."""
    names = list(known)
    if len(name) > SHOWN:  # no known name is as long, and the comparison takes quadratic time
        return ""
    matches = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    matches = matches or [other for other in names if name and other.startswith(name)]
    return f" (did you mean {matches[0]!r}?)" if matches else ""


def unknown(kind: str, name: str, known: Iterable[str], way_out: str = "") -> BadInput:
    """Return the error for a ``name`` that is not among the ``known`` names of its ``kind``."""
    names, name = sorted(known), str(name)
    hint = f"; {way_out}" if way_out else ""
    return BadInput(f"unknown {kind} {shown(name)}{nearest(name, names)}: known are {', '.join(names)}{hint}")


def printable(text: str) -> str:
    """Return a text with its control characters escaped, as ``\\x1b``, so that it changes no terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def renamed(old: str, new: str) -> property:
    """Return a property of the old name that gives the attribute ``new``, with a DeprecationWarning."""

    def value(self: object) -> Any:
        warnings.warn(
            f"{old} is deprecated and goes with version 0.3.0; write {new}", DeprecationWarning, stacklevel=2
        )
        return getattr(self, new)

    return property(value, doc=f"The attribute ``{new}`` by its old name; deprecated.")


def _is_huge(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and value.bit_length() > 4 * SHOWN
