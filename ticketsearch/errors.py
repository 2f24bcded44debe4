"""Bad input: one exception whose message is one line of rule, value and way out."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["BadInput", "nearest", "unknown"]


class BadInput(ValueError):  # noqa: N818 - it names the fault, and reads well at `raise`
    """Something the user gave cannot be used; the message is one line: rule, value, way out."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the known name nearest to ``name``, or an empty string."""
    names = list(known)
    matches = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    matches = matches or [other for other in names if name and other.startswith(name)]
    return f" (did you mean {matches[0]!r}?)" if matches else ""


def unknown(kind: str, name: str, known: Iterable[str], way_out: str = "") -> BadInput:
    """Return the error for a ``name`` that is none of the ``known`` ones of its ``kind``."""
    names, name = sorted(known), str(name)
    hint = f"; {way_out}" if way_out else ""
    return BadInput(f"unknown {kind} {name!r}{nearest(name, names)}: known are {', '.join(names)}{hint}")
