"""Settings from and to TOML, from stored trees, and from assignments such as ``evolution.population=8``."""

from __future__ import annotations

import re
import textwrap
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import tomli_w
from pydantic.fields import FieldInfo

from ticketsearch.errors import BadInput, shown
from ticketsearch.plugins import relative_name
from ticketsearch.settings.digest import leaves
from ticketsearch.settings.fields import NAMES, Settings, as_list
from ticketsearch.settings.validation import DEEPEST, validated

__all__ = ["apply", "load", "parse_assignment", "parse_value", "portable", "stored", "to_toml"]

# Removed settings, each with the value that had no effect.
REMOVED = {"seeding.repeats": 1}
# Columns of a comment in a settings file.
WIDTH = 100


def load(path: str | Path | None, assignments: Iterable[tuple[str, Any]] = ()) -> Settings:
    """Return the settings of a TOML file (None: the defaults), with assignments applied.

    A setting that the file leaves out has its default. Raises :class:`BadInput` for a missing or malformed
    file, an unknown setting, or a value out of range.
    """
    tree: dict[str, Any] = {}
    if path is not None:
        file = f"settings file {str(path)!r}"
        try:
            tree = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise BadInput(f"no {file}") from error
        except OSError as error:
            raise BadInput(f"{file} cannot be read: {error.strerror}") from error
        except (ValueError, RecursionError) as error:  # no text, no TOML, a number too long, nesting too deep
            reason = "it is nested too deep" if isinstance(error, RecursionError) else shown(str(error))[1:-1]
            raise BadInput(f"{file} is no TOML: {reason}") from error
    return validated(_assigned(tree, assignments))


def stored(tree: Mapping[str, Any], folder: Path | None = None) -> Settings:
    """Return the settings that a run or a comparison holds; removed ones are skipped where without effect.

    Relative paths of plugin files are relative to ``folder``, by default the working folder. Raises
    :class:`BadInput` as :func:`load` does.
    """
    known = [(name, value) for name, value in leaves(tree) if REMOVED.get(name, ...) != value]
    return validated(_assigned({}, known), folder)


def apply(settings: Settings, assignments: Iterable[tuple[str, Any]]) -> Settings:
    """Return settings with some changed by dotted name, e.g. ``("evolution.generations", 50)``.

    Raises :class:`BadInput` as :func:`load` does.
    """
    return validated(_assigned(settings.model_dump(), assignments))


def parse_assignment(text: str) -> tuple[str, Any]:
    """Return the name and the value of ``section.name=value``; the value is TOML, or else plain text.

    Raises :class:`BadInput` for a text without a name or an equals sign.
    """
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise BadInput(f"a setting is given as section.name=value, but got {shown(text)}")
    return name.strip(), parse_value(value)


def parse_value(text: str) -> Any:
    """Return the value of a text: TOML, or a number such as ``.05`` or ``007``, or else the text itself.

    Raises :class:`BadInput` for a value that is nested too deep.
    """
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except RecursionError as error:
        raise BadInput(f"a value is nested at most {DEEPEST} deep, but got {shown(text)}") from error
    except ValueError:  # also of an integer of thousands of digits
        plain = text.strip()
    for kind, pattern in ((int, r"[+-]?\d+"), (float, r"[+-]?(\d+\.?|\d*\.\d+)(e[+-]?\d+)?")):
        if len(plain) <= 40 and re.fullmatch(pattern, plain, re.IGNORECASE):
            return kind(plain)
    return plain


def portable(settings: Settings, folder: Path, *, exclude_defaults: bool = False) -> dict[str, Any]:
    """Return the settings as a tree in which paths of plugin files are relative to a folder."""
    tree = settings.model_dump(exclude_defaults=exclude_defaults)
    for section, key in NAMES:
        part = tree.get(section, {})
        if key in part:
            names = [relative_name(name, folder) for name in as_list(part[key])]
            part[key] = names[0] if isinstance(part[key], str) else names
    return tree


def to_toml(settings: Settings, folder: Path | None = None, *, comments: bool = True) -> str:
    """Return all settings, defaults included, as TOML that :func:`load` reads back to the same.

    With a ``folder``, paths of plugin files are relative to it. With ``comments``, each setting stands below
    its description.
    """
    tree = settings.model_dump() if folder is None else portable(settings, folder)
    if not comments:
        return tomli_w.dumps(tree)
    blocks = []
    for name, field in Settings.model_fields.items():
        value = tree[name]
        if not isinstance(value, dict):
            blocks.append(_comment(field) + tomli_w.dumps({name: value}))
            continue
        section = getattr(settings, name)
        blocks.append(f"# {section.__doc__}\n[{name}]\n")
        fields = type(section).model_fields
        for key in sorted(fields, key=lambda key: key == "options"):  # a table ends the section
            entry = {key: value[key]}
            blocks.append(_comment(fields[key]) + tomli_w.dumps({name: entry} if key == "options" else entry))
    return "\n".join(blocks)


def _comment(field: FieldInfo) -> str:
    """Return the description of a setting as comment lines of TOML."""
    lines = textwrap.wrap(str(field.description), WIDTH, break_on_hyphens=False, break_long_words=False)
    return "".join(f"# {line}\n" for line in lines)


def _assigned(tree: dict[str, Any], assignments: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Return the tree with values at dotted names."""
    for name, value in assignments:
        *sections, key = name.split(".")
        place = tree
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise BadInput(f"unknown setting {name!r}: {section!r} is a value, not a section")
        place[key] = value
    return tree
