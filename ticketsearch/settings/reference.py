"""Reference of all settings, made from their fields: type, bounds, default and description."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from ticketsearch.settings.digest import leaves
from ticketsearch.settings.fields import Section, Settings

__all__ = ["default_text", "description", "settings_reference"]

INTRODUCTION = """\
# Settings

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

Flags take precedence over `--set`, which takes precedence over the file; a setting that is given nowhere
has its default. The file `runs/NAME/settings.toml` holds all settings of a run, each below its
description; given to `ticketsearch evolve`, it makes the same run again. Relative paths are relative to
the folder in which the command is started. In Python, `ticketsearch.settings.load(path, assignments)`
returns checked settings."""

TYPES = {
    bool: "true or false",
    int: "integer",
    float: "number",
    str: "text",
    str | list[str]: "name, or several",
    int | list[int]: "integer, or several",
    list[str]: "list of texts",
    dict[str, Any]: "table",
}


def settings_reference() -> str:
    """Return the reference of all settings as Markdown: a section each, with a line for each setting.

    A line gives the name, the type or the choices, the bounds, the default and the description.
    """
    return "\n".join(_reference()) + "\n"


def description(name: str) -> str:
    """Return the description of a dotted setting, such as ``"evolution.population"``: sentences."""
    return str(_field(name).description)


def default_text(name: str) -> str:
    """Return the default of a dotted setting as it is written at the shell; empty for an empty one."""
    value = dict(leaves(Settings().model_dump()))[name]
    if isinstance(value, list):
        return ",".join(value)
    return "" if value == {} else str(value).lower() if isinstance(value, bool) else str(value)


def _reference() -> Iterator[str]:
    yield INTRODUCTION
    yield "\n## Run\n"
    sections = []
    for name, field in Settings.model_fields.items():
        if isinstance(field.default, Section):
            sections.append(name)
        else:
            yield _line(name)
    for section in sections:
        part = getattr(Settings(), section)
        yield f"\n## {section}\n\n{part.__doc__}\n"
        for key in type(part).model_fields:
            yield _line(f"{section}.{key}")


def _line(name: str) -> str:
    field, default = _field(name), default_text(name)
    parts = [_values(field), _bounds(field), f"default `{default}`" if default else "empty by default"]
    return f"- **`{name}`** ({'; '.join(filter(None, parts))}): {field.description}"


def _field(name: str) -> FieldInfo:
    section, _, key = name.rpartition(".")
    kind = type(getattr(Settings(), section)) if section else Settings
    return kind.model_fields[key]


def _values(field: FieldInfo) -> str:
    """Return the choices or the type of a field."""
    if get_origin(field.annotation) is Literal:
        *others, last = [f"`{choice}`" for choice in get_args(field.annotation)]
        return f"{', '.join(others)} or {last}"
    return TYPES[field.annotation]  # type: ignore[index]


def _bounds(field: FieldInfo) -> str:
    """Return the bounds of a field, such as ``> 0, ≤ 1``; empty where there are none."""
    signs = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
    return ", ".join(
        f"{sign} {_limit(getattr(bound, key))}"
        for key, sign in signs.items()
        for bound in field.metadata
        if getattr(bound, key, None) is not None
    )


def _limit(value: float) -> str:
    return "2^64" if value == 2**64 else f"{value:,}"
