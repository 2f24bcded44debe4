"""Reads this package's docstrings for the site: ``name : meaning`` in a section is a name and its meaning.

numpydoc has the type after the colon; here the annotation has it. Roles of Sphinx become plain code.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

SECTION = re.compile(r"^(Parameters|Attributes)\n-+\n((?:.+\n?|\n(?=\S+ ?: ))+)", re.MULTILINE)
ENTRY = re.compile(r"^(\S[^:\n]*?) : ", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Rewrites docstrings before they are parsed."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrite the docstring of one object."""
        if obj.docstring:
            obj.docstring.value = rewritten(obj.docstring.value)


def rewritten(text: str) -> str:
    """Return a docstring as numpydoc with Markdown in it; sections come last, so that no text joins them."""
    sections = []
    for section in SECTION.finditer(text):
        entries = ENTRY.sub(r"\1\n    ", section[2])
        sections.append(f"{section[1]}\n{'-' * len(section[1])}\n{entries}".rstrip())
    text = "\n\n".join([SECTION.sub("", text).strip(), *sections])
    return re.sub(r":\w+:`~?(?:[\w.]+\.)?(\w+)`", r"`\1`", text).replace("``", "`")
