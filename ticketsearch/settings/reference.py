"""Reference of all settings, made from their fields: type, bounds, default and description."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any, Literal, NamedTuple, get_args, get_origin

from pydantic.fields import FieldInfo

from ticketsearch.settings.digest import leaves
from ticketsearch.settings.fields import Section, Settings

__all__ = ["SettingRow", "default_text", "description", "setting_rows", "settings_reference", "value_text"]

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
returns checked settings. `ticketsearch settings WORD` shows the settings that have a word in their names or
descriptions."""

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


class SettingRow(NamedTuple):
    """A setting as texts, for its documentation.

    Attributes
    ----------
    name : dotted.
    values : its type or its choices, and its bounds where it has some.
    default : as it is written at the shell; empty for an empty one.
    description : one sentence or a few.
    """

    name: str
    values: str
    default: str
    description: str


def setting_rows() -> list[SettingRow]:
    """Return all settings in the order of the reference: those without a section first."""
    plain, sections = [], []
    for name, field in Settings.model_fields.items():
        if isinstance(field.default, Section):
            sections += [f"{name}.{key}" for key in type(field.default).model_fields]
        else:
            plain.append(name)
    return [_row(name) for name in plain + sections]


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
    return value_text(dict(leaves(Settings().model_dump()))[name])


def value_text(value: Any) -> str:
    """Return the value of a setting as it is written at the shell; empty for an empty one."""
    if isinstance(value, list):
        return ",".join(map(str, value))
    return "" if value == {} else str(value).lower() if isinstance(value, bool) else str(value)


def _reference() -> Iterator[str]:
    yield INTRODUCTION
    yield "\n## Run\n"
    for section, rows in groupby(setting_rows(), key=lambda row: row.name.rpartition(".")[0]):
        if section:
            yield f"\n## {section}\n\n{getattr(Settings(), section).__doc__}\n"
        yield from map(_line, rows)


def _line(row: SettingRow) -> str:
    default = f"default `{row.default}`" if row.default else "empty by default"
    return f"- **`{row.name}`** ({row.values}; {default}): {row.description}"


def _row(name: str) -> SettingRow:
    field = _field(name)
    values = "; ".join(filter(None, [_values(field), _bounds(field)]))
    return SettingRow(name, values, default_text(name), str(field.description))


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
