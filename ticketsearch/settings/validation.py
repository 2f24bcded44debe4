"""Validation of a settings tree: errors on one line, bounded values, absolute paths."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ticketsearch.errors import BadInput, nearest, shown
from ticketsearch.plugins import OBJECT
from ticketsearch.settings.digest import leaves
from ticketsearch.settings.fields import NAMES, Section, Settings, as_list

__all__ = ["DEEPEST", "validated"]

# Most characters of a text, deepest nesting of a value, and the bound of integers.
LONGEST, DEEPEST, LARGEST = 4_096, 16, 2**64
# Options that the search itself passes to the function of a section.
SUPPLIED = {
    "model": ("model", "dataset", "scheme", "seed"),
    "fitness": ("name", "network", "dataset", "run_seed"),
}


def validated(tree: dict[str, Any], folder: Path | None = None) -> Settings:
    """Return the settings of a tree, with absolute paths; relative ones are relative to ``folder``.

    Raises :class:`BadInput` for an unknown setting, a value out of range, or an option that the search
    passes itself.
    """
    for name, value in tree.items():
        _check_extent(name, value)
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as error:
        raise BadInput(_one_line(error)) from error
    for section, names in SUPPLIED.items():
        for option in getattr(settings, section).options:
            if option in names:
                rule = "is given by the search: initial weights follow from seed and seeding.schemes"
                rule = rule if section == "model" else "is given by the search"
                raise BadInput(f"setting {section}.options.{option} {rule}; leave it out")
    return settings.model_copy(update=_absolute(settings, folder or Path()))


def _check_extent(name: str, value: Any, depth: int = 1) -> None:
    """Raise :class:`BadInput` for long texts, texts with NUL in them, deep nesting and huge integers."""
    rule = ""
    if isinstance(value, str) and (len(value) > LONGEST or "\0" in value):
        rule = f"is a text of at most {LONGEST:,} characters, none of them NUL"
    elif isinstance(value, int) and abs(value) >= LARGEST:
        rule = "is less than 2**64"
    elif depth > DEEPEST:
        rule = f"is nested at most {DEEPEST} deep"
    if rule:
        raise BadInput(f"setting {shown(name)[1:-1]} {rule}, but got {shown(value)}")
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _check_extent(f"{name}.{key}", inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _check_extent(name, inner, depth + 1)


def _one_line(error: ValidationError) -> str:
    """Return the first error as one line: setting, rule, value."""
    first = error.errors(include_url=False)[0]
    name = shown(".".join(str(part) for part in first["loc"]))[1:-1]
    if first["type"] == "extra_forbidden":
        known = list(dict.fromkeys([*dict(leaves(Settings().model_dump())), *Settings.model_fields]))
        siblings = [k for k in known if k.rpartition(".")[0] == name.rpartition(".")[0]] or known
        hint = nearest(name, [*siblings, *known])
        return f"unknown setting {name!r}{hint}: known here are {', '.join(sorted(siblings))}"
    if first["type"] == "value_error":  # raised by a validator in fields.py, with rule and value
        section, _, key = name.rpartition(".")
        rule = str(first["ctx"]["error"])
        return f"setting {section}.{rule}" if rule.startswith(key) else f"setting {name}: {rule}"
    rule = first["msg"].removeprefix("Input ").replace("should be", "must be")
    return f"setting {name} {rule}, but got {shown(first['input'])}"


def _absolute(settings: Settings, folder: Path) -> dict[str, Section]:
    """Return the sections that hold paths, with absolute ones: a run is then resumed from any folder."""
    updates: dict[str, Section] = {}
    for section, key in NAMES:
        part: Section = updates.get(section, getattr(settings, section))
        value: str | list[str] = getattr(part, key)
        names = [_absolute_name(name, section, folder) for name in as_list(value)]
        updates[section] = part.model_copy(update={key: names[0] if isinstance(value, str) else names})
    paths = [str(Path(path).expanduser().resolve()) for path in settings.seeding.tickets]
    seeding = updates.get("seeding", settings.seeding)
    return updates | {"seeding": seeding.model_copy(update={"tickets": paths})}


def _absolute_name(name: str, section: str, folder: Path) -> str:
    """Return a name with the path in it, if there is one, absolute."""
    left, colon, right = name.rpartition(":")
    if not colon or name.startswith(OBJECT):
        return name
    if left.endswith(".py"):
        return f"{(folder / left).resolve()}:{right}"
    if section == "data" and "." not in left and ("/" in right or Path(right).exists()):
        first, _, rest = name.partition(":")
        return f"{first}:{Path(rest).expanduser().resolve()}"
    return name
