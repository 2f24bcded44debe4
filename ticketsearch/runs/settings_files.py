"""Settings files: their values, and the consent to code that one in a run's folder names."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from ticketsearch.runs.store import Run
from ticketsearch.settings import Origin, changes, check_word, leaves, load, outside

__all__ = ["read_settings"]


def read_settings(path: Path, *, trust: bool = False) -> dict[str, Any]:
    """Return the settings that a TOML file gives, by dotted name.

    Code that a settings file names is trusted, as its user wrote it, except in the folder of a run, which
    may be anybody's. Raises :class:`BadInput` there, unless the user made that run, or with ``trust``; and as
    :func:`ticketsearch.settings.load` does.
    """
    settings = load(path)  # refuses the file by its own content, before other settings are added to it
    if not trust and (path.parent / "run.sqlite").is_file() and outside(settings):
        with Run.open(path.parent) as run:
            origin = Origin() if changes(settings, run.settings) else run.origin
            check_word(f"{str(path)!r} in the folder of a run", settings, origin, run.folder)
    return dict(leaves(tomllib.loads(path.read_text(encoding="utf-8"))))
