"""Bad input: one exception whose message is one line of rule, value and way out."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import TypeGuard

__all__ = ["BadInput", "nearest", "printable", "shown", "unknown"]

# Characters of a value that a message repeats.
SHOWN = 80
# Values that are cut wherever they stand, as paths seldom are so long: words, quoted texts, lists.
LONG = re.compile(r"""\S{161,}|(?<![^\s(\[{=])(['"])(?:(?!\1).){161,}?\1(?!\w)|\[[^\[\]]{161,}\]""")


class BadInput(ValueError):  # noqa: N818 - it names the fault, and reads well at `raise`
    """Something the user gave cannot be used; the message is one line: rule, value, way out.

    Whatever the message repeats, it stays one line, and values much longer than 80 characters are cut.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(LONG.sub(lambda value: f"{value[0][: SHOWN - 1]}…", " ".join(str(message).split())))


def shown(value: object) -> str:
    """Return how a value is written in a message, on one line: its ``repr``, cut at 80 characters.

    A value whose ``repr`` fails is named by its type.
    """
    try:
        # Python refuses to write out numbers of thousands of digits.
        text = f"an integer of {value.bit_length()} bits" if _is_huge(value) else repr(value)
    except Exception:  # an object's own code may raise anything
        text = f"a {type(value).__name__}"
    text = " ".join(text.split())
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the known name nearest to ``name``, or an empty string."""
    names = list(known)
    if len(name) > SHOWN:  # nothing known is so long, and comparing takes the square of it
        return ""
    matches = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    matches = matches or [other for other in names if name and other.startswith(name)]
    return f" (did you mean {matches[0]!r}?)" if matches else ""


def unknown(kind: str, name: str, known: Iterable[str], way_out: str = "") -> BadInput:
    """Return the error for a ``name`` that is none of the ``known`` ones of its ``kind``."""
    names, name = sorted(known), str(name)
    hint = f"; {way_out}" if way_out else ""
    return BadInput(f"unknown {kind} {shown(name)}{nearest(name, names)}: known are {', '.join(names)}{hint}")


def printable(text: str) -> str:
    """Return a text with its control characters escaped, as ``\\x1b``, so that it changes no terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _is_huge(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and value.bit_length() > 4 * SHOWN
