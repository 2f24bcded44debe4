"""Write the documents that are made from the code: the settings, and the public names of the package.

``python scripts/reference_pages.py`` writes them anew; a test holds the files equal to what this makes.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import ticketsearch as ts
from ticketsearch.settings import settings_reference

FOLDER = Path(__file__).resolve().parents[1] / "ticketsearch" / "docs"
INDENTS = {"initial_indent": " " * 4, "subsequent_indent": " " * 8, "break_on_hyphens": False}
PYTHON = """# Python

All public names of `import ticketsearch as ts`, with their signatures; `help(ts.evolve)` tells the rest.

Docstrings give shapes, units, errors and the source in the literature.
"""


def python_page() -> str:
    """Return the page of all public names: signature and first sentence, in the order of the index."""
    parts = [PYTHON]
    for title, names in name_groups().items():
        parts += [f"## {title}\n", *(part for name in names for part in _entry(name))]
    return "\n".join(parts)


def name_groups() -> dict[str, list[str]]:
    """Return the public names under the titles of the package's index, those of a module as ``module.name``.

    Raises SystemExit where the index differs from ``__all__``.
    """
    index = re.findall(r"^(\w[\w ]*)\n((?:    .*\n)+)", inspect.getdoc(ts) or "", re.MULTILINE)
    public = {*ts.__all__} - {"__version__"}
    groups = {
        title: list(dict.fromkeys(word for word in re.findall(r"\w+", text) if word in public))
        for title, text in index
    }
    if differing := public ^ {name for names in groups.values() for name in names}:
        raise SystemExit(f"the index in ticketsearch/__init__.py and __all__ differ by {sorted(differing)}")
    return {title: [name for outer in names for name in _names(outer)] for title, names in groups.items()}


def _names(name: str) -> list[str]:
    value = getattr(ts, name)
    return [f"{name}.{inner}" for inner in value.__all__] if inspect.ismodule(value) else [name]


def _entry(name: str) -> Iterator[str]:
    value: Any = ts
    for part in name.split("."):
        value = getattr(value, part)
    yield f"### {name}\n"
    if callable(value) and not (inspect.isclass(value) and issubclass(value, Exception)):
        yield textwrap.fill(f"ts.{name}{_signature(value)}", 96, **INDENTS) + "\n"
    yield f"{_first_sentence(value)}\n"


def _signature(function: Callable[..., Any]) -> str:
    """Return the parameters with their defaults; annotations are left to ``help``."""
    signature = inspect.signature(function)
    parameters = [
        parameter.replace(annotation=parameter.empty, default=_Text.of(parameter.default))
        for parameter in signature.parameters.values()
    ]
    return str(inspect.Signature(parameters))


class _Text(str):
    """A default that is shown as this text."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)

    @classmethod
    def of(cls, default: Any) -> Any:
        """Return a default that shows functions and dataclasses by their names, and others as they are."""
        if inspect.isfunction(default):
            return cls(default.__name__)
        if is_dataclass(default) and not isinstance(default, type) and default == type(default)():
            return cls(f"{type(default).__name__}()")
        return default


def _first_sentence(value: Any) -> str:
    """Return the first sentence of a docstring as Markdown."""
    paragraph = " ".join((inspect.getdoc(value) or "").split("\n\n")[0].split())
    sentence = re.split(r"(?<=\.)\s+(?=[A-Z`])", paragraph)[0]
    sentence = re.sub(r":\w+:`~?(?:[\w.]+\.)?(\w+)`", r"`\1`", sentence)
    return sentence.replace("``", "`")


def main() -> None:
    """Write the pages."""
    for name, page in (("settings", settings_reference()), ("python", python_page())):
        (FOLDER / f"{name}.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
