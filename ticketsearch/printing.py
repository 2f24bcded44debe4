"""Printing of texts that others may have written: control characters are shown, not obeyed."""

from __future__ import annotations

__all__ = ["printable"]


def printable(text: str) -> str:
    """Return a text with its control characters escaped, as ``\\x1b``, so that it changes no terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
