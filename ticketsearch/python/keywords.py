"""Settings as keywords of Python: ``generations=20`` for ``evolution.generations``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ticketsearch.errors import BadInput, nearest, shown
from ticketsearch.runs import read_settings
from ticketsearch.settings import Settings, leaves

__all__ = ["given_settings", "setting_name"]

# Keywords that several settings end in, of which a flag of the shell stands for one.
FLAGS = {"steps": "training.steps"}
NAMES = list(dict(leaves(Settings().model_dump())))


def setting_name(keyword: str) -> str:
    """Return the dotted name of the setting that a keyword stands for.

    A keyword is a dotted name or the last part of one; ``steps`` is ``training.steps``, as the flag is.
    Raises :class:`BadInput` for an unknown keyword, and for one that several settings end in.
    """
    if "." in keyword:
        return keyword
    if keyword in FLAGS:
        return FLAGS[keyword]
    names = [name for name in NAMES if name.rpartition(".")[2] == keyword]
    if len(names) > 1:
        raise BadInput(
            f"several settings end in {keyword!r}: {', '.join(names)}; give one by its whole name, "
            f"**{{{names[0]!r}: …}}"
        )
    if not names:
        known = {name.rpartition(".")[2] for name in NAMES} | {"callbacks", "objective", "progress", "trust"}
        raise BadInput(
            f"unknown keyword {shown(keyword)}{nearest(keyword, sorted(known))}: a setting is given by the "
            "last part of its name, generations=20, or by its whole name, **{'final.steps': 500}; "
            "`ticketsearch settings` lists them"
        )
    return names[0]


def given_settings(settings: object, keywords: Mapping[str, Any], *, trust: bool) -> dict[str, Any]:
    """Return settings by dotted name: those of a file, a tree or an object, then those of keywords.

    Raises :class:`BadInput` for an unknown keyword, for the folder of a run, and as
    :func:`ticketsearch.runs.read_settings` does.
    """
    given = _tree(settings, trust)
    given |= {setting_name(keyword): value for keyword, value in keywords.items()}
    return {name: _plain(value) for name, value in given.items()}


def _tree(settings: object, trust: bool) -> dict[str, Any]:
    """Return the settings of the first argument of a search, by dotted name."""
    if settings is None:
        return {}
    if isinstance(settings, Settings):
        return dict(leaves(settings.model_dump(exclude_defaults=True)))
    if isinstance(settings, Mapping) and all(isinstance(key, str) for key in settings):
        return dict(leaves(settings))
    if not isinstance(settings, str | Path):
        raise BadInput(
            "settings are a path of a TOML file, a mapping such as {'evolution': {'generations': 20}}, or "
            f"ticketsearch.settings.Settings, but got {shown(settings)}"
        )
    path = Path(settings)
    if (path / "run.sqlite").is_file():
        raise BadInput(
            f"{str(path)!r} is a run; ticketsearch.Run.open({str(path)!r}).resume() goes on with it, and its "
            "settings.toml makes a new one of the same settings"
        )
    return read_settings(path, trust=trust)


def _plain(value: Any) -> Any:
    """Return a value as a settings file would give it: numbers of NumPy, tuples and paths by Python's own."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    return str(value) if isinstance(value, Path) else value
