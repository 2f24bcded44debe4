"""Settings as keywords of Python: ``generations=20`` for ``evolution.generations``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ticketsearch.errors import BadInput, unknown
from ticketsearch.runs import read_settings
from ticketsearch.settings import Settings, leaves

__all__ = ["given_settings", "setting_name"]

# Keywords whose last part several settings have, or that the shell calls otherwise.
SHORT = {"steps": "training.steps", "method": "seeding.method", "initialization": "training.initialization"}
NAMES = list(dict(leaves(Settings().model_dump())))


def setting_name(keyword: str) -> str:
    """Return the dotted name of the setting that a keyword stands for.

    A keyword is a dotted name or the last part of one; ``steps``, ``method`` and ``initialization`` stand for
    what the flags of the shell do. Raises :class:`BadInput` for an unknown keyword, and for one that several
    settings share.
    """
    if "." in keyword:
        return keyword
    if keyword in SHORT:
        return SHORT[keyword]
    ends = [name for name in NAMES if name.rpartition(".")[2] == keyword]
    if len(ends) > 1:
        raise BadInput(
            f"{keyword!r} may be {' or '.join(ends)}; give the whole name, **{{{ends[0]!r}: …}}"
        )
    if not ends:
        known = sorted({name.rpartition(".")[2] for name in NAMES})
        raise unknown("setting", keyword, known, "or the whole name of a setting, such as training.lr")
    return ends[0]


def given_settings(
    settings: Settings | Mapping[str, Any] | str | Path | None, keywords: Mapping[str, Any], *, trust: bool
) -> dict[str, Any]:
    """Return settings by dotted name: those of a file, tree or object, then those of keywords.

    Raises :class:`BadInput` for an unknown keyword, and as :func:`ticketsearch.runs.read_settings` does.
    """
    if settings is None:
        given: dict[str, Any] = {}
    elif isinstance(settings, Settings):
        given = dict(leaves(settings.model_dump()))
    elif isinstance(settings, Mapping):
        given = dict(leaves(dict(settings)))
    else:
        given = read_settings(Path(settings), trust=trust)
    return given | {setting_name(keyword): value for keyword, value in keywords.items()}
