"""The folders of runs: their names, and their creation as a whole."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from ticketsearch.errors import BadInput
from ticketsearch.plugins import OBJECT
from ticketsearch.settings import Settings
from ticketsearch.storage import LOCK, lock_folder

__all__ = [
    "NameTaken",
    "check_free",
    "check_name",
    "counting_name",
    "discard",
    "list_runs",
    "made_whole",
]

# The files of an unfinished folder; the seconds after which one without a lock counts as abandoned.
UNFINISHED = {
    LOCK,
    "run.sqlite",
    "run.sqlite-wal",
    "run.sqlite-shm",
    "settings.toml",
    "environment.json",
    "tickets",
}
UNLOCKED_FOR = 86_400
# The file of a sweep, whose runs are in its folder.
SWEEP = "sweep.json"


class NameTaken(BadInput):
    """The name of a new run is taken by an existing run."""


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
        raise NameTaken(f"{str(root / name)!r} exists already and is not a run; choose another --name")
    if (root / name).exists():
        raise NameTaken(
            f"run {name!r} exists already in {str(root)!r}; continue it with --resume {name} (in Python "
            f"ticketsearch.Run.open({str(root / name)!r}).resume()), or choose another --name"
        )


def counting_name(root: Path, settings: Settings) -> str:
    """Return the next free readable name, e.g. ``digits-mlp-003``."""
    names = [name.removeprefix(OBJECT) for name in (settings.data.name, settings.model.name)]
    stems = [Path(n.rpartition(":")[0]).stem if ".py:" in n else n.partition(":")[0] for n in names]
    stem = "-".join(re.sub(r"[^A-Za-z0-9_]+", "_", s).strip("_")[:30] or "run" for s in stems)
    taken = [re.fullmatch(rf"{re.escape(stem)}-(\d+)", path.name) for path in root.glob(f"{stem}-*")]
    return f"{stem}-{1 + max((int(match[1]) for match in taken if match), default=0):03d}"


def list_runs(root: Path) -> list[Path]:
    """Return the run folders inside ``root`` and in its sweeps, by name.

    A folder that cannot be read may be a run.
    """
    if not root.is_dir():
        return []
    folders = [path for path in root.iterdir() if not path.name.startswith(".")]
    inside = [run for path in folders if _is_sweep(path) for run in list_runs(path)]
    return sorted([*filter(_may_be_run, folders), *inside])


def _is_sweep(path: Path) -> bool:
    try:
        return (path / SWEEP).is_file() and not path.is_symlink()
    except OSError:
        return False


def _may_be_run(path: Path) -> bool:
    try:
        return (path / "run.sqlite").exists()
    except PermissionError:
        return path.is_dir()
    except OSError:
        return False


def made_whole(root: Path, name: str, fill: Callable[[Path], None]) -> IO[bytes] | None:
    """Make the folder ``root/name``: fill it under a hidden name, then rename it; return its lock.

    Hidden folders of killed processes are removed first.
    Raises :class:`NameTaken` where another process was faster.
    """
    root.mkdir(parents=True, exist_ok=True)
    with _root_locked(root):
        _remove_abandoned(root)
        hidden = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=root))
        lock = lock_folder(hidden)
    try:
        hidden.chmod(0o755)
        fill(hidden)
        try:
            os.rename(hidden, root / name)  # noqa: PTH104 - Path.rename says no more
        except OSError as error:
            raise NameTaken(
                f"run {name!r} was made by another process just now; choose another --name"
            ) from error
    except BaseException:
        shutil.rmtree(hidden, ignore_errors=True)
        if lock is not None:
            lock.close()
        raise
    return lock


def discard(path: Path) -> None:
    """Remove the folder of a failed run; files that cannot be removed stay."""
    shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def _root_locked(root: Path) -> Iterator[bool]:
    """Lock ``root`` against other makers of folders; yields False where the system has no such locks."""
    try:
        import fcntl

        descriptor = os.open(root, os.O_RDONLY)
    except (ImportError, OSError):
        yield False
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def _remove_abandoned(root: Path) -> None:
    """Remove hidden folders of runs that were being made when their processes were killed.

    The process that makes a folder holds its lock from the first moment: a folder with a free lock is
    abandoned. Older versions had no lock there; their folders count as abandoned by age. A folder with any
    other file is kept.
    """
    for path in root.glob(".*.????????"):
        if not re.fullmatch(r"\.[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.[a-z0-9_]{8}", path.name):
            continue
        with contextlib.suppress(OSError, BadInput):
            if path.is_symlink() or not path.is_dir():
                continue
            names = {entry.name for entry in path.iterdir()}
            if not all(name.startswith(".") or name in UNFINISHED for name in names):
                continue
            if LOCK not in names and time.time() - path.stat().st_mtime < UNLOCKED_FOR:
                continue
            lock = lock_folder(path)
            if lock is not None:
                shutil.rmtree(path, ignore_errors=True)
                lock.close()
