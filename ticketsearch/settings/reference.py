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

A settings file is TOML, read by `ticketsearch evolve SETTINGS.toml`; a setting that it leaves out has its
default. At the shell, `--set section.name=value` assigns any setting and takes precedence over the file;
flags such as `--density` take precedence over both. In Python, `ticketsearch.settings.load(path,
assignments)` returns checked settings. A run writes all of its settings to `runs/NAME/settings.toml`,
each below its description."""

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
    yield "\n## Top level\n"
    sections = []
    for name, field in Settings.model_fields.items():
        if isinstance(field.default, Section):
            sections.append(name)
        else:
            yield _line(name, name)
    for section in sections:
        part = getattr(Settings(), section)
        yield f"\n## `[{section}]`\n\n{part.__doc__}\n"
        for key in type(part).model_fields:
            yield _line(f"{section}.{key}", key)


def _line(name: str, key: str) -> str:
    field, default = _field(name), default_text(name)
    parts = [_values(field), _bounds(field), f"default `{default}`" if default else "empty by default"]
    return f"- **`{key}`** ({'; '.join(filter(None, parts))}): {field.description}"


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
