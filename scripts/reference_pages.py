"""Write the documents that are made from the code: the settings, and the public names of the package.

``python scripts/reference_pages.py`` writes them anew; a test holds the files equal to what this makes.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

import ticketsearch as ts
from ticketsearch.settings import Settings

FOLDER = Path(__file__).resolve().parents[1] / "ticketsearch" / "docs"
INDENTS = {"initial_indent": " " * 4, "subsequent_indent": " " * 8, "break_on_hyphens": False}
SETTINGS = """# Settings

Every choice of a run is a setting: `--set section.name=value` at the shell, or a line in a TOML file.

    ticketsearch evolve --set evolution.population=16 --set training.steps=50,200
    ticketsearch evolve settings.toml --seed 1

```toml
# settings.toml
[data]
name = "mnist1d"

[seeding]
density = 0.02

[training]
steps = [50, 200]
```

Flags override `--set`, which overrides the file, which overrides the defaults below. The file
`runs/NAME/settings.toml` lists every setting of a run with its value; given to `ticketsearch evolve`, it
makes the same run again. The seed decides everything random except the split of the data, which
`data.options.seed` decides. Paths are relative to the folder in which the command is started. Workers change
no result.
"""
PYTHON = """# Python

All public names of `import ticketsearch as ts`, with their signatures; `help(ts.evolve)` tells the rest.

Docstrings give shapes, units, errors and the source in the literature.
"""


def settings_page() -> str:
    """Return the page of all settings: name, default, meaning and range."""
    sections = {name: field for name, field in Settings.model_fields.items() if not field.description}
    single = {name: field for name, field in Settings.model_fields.items() if field.description}
    parts = [SETTINGS.rstrip(), *_table("Run", "", "", single)]
    for name, field in sections.items():
        section: Any = field.annotation
        parts += _table(name, f"{name}.", _first_sentence(section), section.model_fields)
    return "\n".join(parts) + "\n"


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
    groups = {title: re.findall(r"\w+", names.partition(":")[0]) for title, names in index}
    public = {*ts.__all__} - {"__version__"}
    if differing := public ^ {name for names in groups.values() for name in names}:
        raise SystemExit(f"the index in ticketsearch/__init__.py and __all__ differ by {sorted(differing)}")
    return {title: [name for outer in names for name in _names(outer)] for title, names in groups.items()}


def _names(name: str) -> list[str]:
    value = getattr(ts, name)
    return [f"{name}.{inner}" for inner in value.__all__] if inspect.ismodule(value) else [name]


def _table(title: str, prefix: str, sentence: str, fields: dict[str, FieldInfo]) -> Iterator[str]:
    yield f"\n## {title}\n"
    if sentence:
        yield f"{sentence}\n"
    yield "| setting | default | meaning |"
    yield "|---|---|---|"
    for name, field in fields.items():
        range_ = _range(field)
        meaning = " ".join(filter(None, [field.description, range_])).replace("|", "\\|")
        yield f"| `{prefix}{name}` | {_value(field.default)} | {meaning} |"


def _value(value: Any) -> str:
    """Return a default as it stands in a TOML file."""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, list):
        return ", ".join(_value(item) for item in value) or "none"
    if value in ("", {}):
        return "none"
    return f"`{value}`"


def _range(field: FieldInfo) -> str:
    """Return the values that a setting takes as a sentence, or an empty text."""
    if get_origin(field.annotation) is Literal:
        *others, last = (f"`{choice}`" for choice in get_args(field.annotation))
        return f"One of {', '.join(others)} and {last}."
    bounds = {
        bound: getattr(rule, bound)
        for rule in field.metadata
        for bound in ("gt", "ge", "lt", "le")
        if getattr(rule, bound, None) is not None
    }
    match bounds:
        case {"ge": lowest, "le": highest}:
            return f"From {lowest:,} to {highest:,}."
        case {"gt": lowest, "le": highest}:
            return f"More than {lowest:,} and at most {highest:,}."
        case {"ge": lowest, "lt": limit}:
            return f"From {lowest:,}, less than {'2**64' if limit == 2**64 else limit}."
        case {"ge": lowest}:
            return f"At least {lowest:,}."
        case {"gt": lowest}:
            return f"More than {lowest:,}."
    return ""


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
        """Return a default that shows a function by its name, and others as they are."""
        return cls(default.__name__) if inspect.isfunction(default) else default


def _first_sentence(value: Any) -> str:
    """Return the first sentence of a docstring as Markdown."""
    paragraph = " ".join((inspect.getdoc(value) or "").split("\n\n")[0].split())
    sentence = re.split(r"(?<=\.)\s+(?=[A-Z`])", paragraph)[0]
    sentence = re.sub(r":\w+:`~?(?:[\w.]+\.)?(\w+)`", r"`\1`", sentence)
    return sentence.replace("``", "`")


def main() -> None:
    """Write the pages."""
    for name, page in (("settings", settings_page()), ("python", python_page())):
        (FOLDER / f"{name}.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
