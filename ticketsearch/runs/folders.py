"""The folders of runs: their names, the lock that keeps other writers out, and what is replaced in them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ticketsearch.config import Settings
from ticketsearch.errors import BadInput

__all__ = [
    "NameTaken",
    "check_free",
    "check_name",
    "counting_name",
    "list_runs",
    "lock_folder",
    "write_atomically",
]


class NameTaken(BadInput):
    """The name of a new run is that of a run that exists."""


def check_name(name: str) -> str:
    """Return a run's name if it is one folder inside ``runs/``; raises :class:`BadInput` otherwise."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise BadInput(
            "a run's name is up to 100 letters, digits, '.', '_' and '-', beginning with a letter or digit, "
            f"but got {name!r}"
        )
    return name


def check_free(root: Path, name: str) -> None:
    """Raise :class:`BadInput` for a name that cannot be given to a new run in ``root``."""
    check_name(name)
    if (root / name).exists() and not (root / name / "run.sqlite").exists():
        raise NameTaken(f"{str(root / name)!r} exists already and is no run; choose another --name")
    if (root / name).exists():
        raise NameTaken(
            f"run {name!r} exists already in {str(root)!r}; continue it with --resume {name}, "
            "or choose another --name"
        )


def counting_name(root: Path, settings: Settings) -> str:
    """Return the next free readable name, e.g. ``digits-mlp-003``."""
    words = [settings.data.name, settings.model.name]
    stems = [Path(w.rpartition(":")[0]).stem if ".py:" in w else w.partition(":")[0] for w in words]
    stem = "-".join(re.sub(r"[^A-Za-z0-9_]+", "_", s).strip("_")[:30] or "run" for s in stems)
    taken = [re.fullmatch(rf"{re.escape(stem)}-(\d+)", path.name) for path in root.glob(f"{stem}-*")]
    return f"{stem}-{1 + max((int(match[1]) for match in taken if match), default=0):03d}"


def list_runs(root: Path) -> list[Path]:
    """Return the run folders inside ``root``, by name."""
    if not root.is_dir():
        return []
    return sorted(file.parent for file in root.glob("*/run.sqlite") if not file.parent.name.startswith("."))


def lock_folder(path: Path) -> Any:
    """Lock the run for one writer; the lock goes with the process, also when it is killed."""
    try:
        import fcntl
    except ImportError:  # no such locks on this system: SQLite still lets only one transaction in
        return None
    file = (path / "run.lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise BadInput(
            f"run {path.name!r} is being written by another process; wait for it or stop it"
        ) from error
    return file


def write_atomically(path: Path, text: str) -> None:
    """Replace a file by one that holds the text: a reader sees the old or the new, never a part."""
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
