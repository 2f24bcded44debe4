"""Folders: locked for one writer, files replaced as a whole, and links in them refused."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import time
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from ticketsearch.errors import BadInput

__all__ = ["LOCK", "is_locked", "lock_folder", "refuse_links", "write_atomically"]

LOCK = "run.lock"
# Not on every system; without it links are looked for beforehand.
NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
# Seconds until a lock is tried again: longer than another process takes to ask for it.
AGAIN = 0.05


def lock_folder(path: Path) -> IO[bytes] | None:
    """Lock a folder for one writer; the lock goes with the process, also when it is killed.

    Raises :class:`BadInput` if another process writes, or the lock is a link. The lock file is never written.
    """
    try:
        import fcntl
    except ImportError:  # no such locks on this system: SQLite still lets only one transaction in
        return None
    refuse_links(path, [LOCK])
    try:
        descriptor = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | NOFOLLOW, 0o666)
    except PermissionError as error:
        raise BadInput(
            f"{str(path / LOCK)!r} cannot be written: permission denied; ask its owner for write permission"
        ) from error
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR):
            raise BadInput(f"{str(path / LOCK)!r} is not a file; remove it") from error
        raise
    file = os.fdopen(descriptor, "r+b", buffering=0) if _is_file(descriptor) else None
    if file is None:
        os.close(descriptor)
        raise BadInput(f"{str(path / LOCK)!r} is not a file; remove it")
    for last in (False, True):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if last:
                file.close()
                raise BadInput(
                    f"run {path.name!r} is being written by another process; wait for it or stop it"
                ) from error
            time.sleep(AGAIN)  # that process may only be asking, see is_locked
        else:
            break
    return file


def is_locked(path: Path) -> bool:
    """Return whether a process holds the lock of a folder; False where the system has no such locks.

    The lock is asked for without waiting, and held no longer than the answer takes.
    """
    try:
        import fcntl

        descriptor = os.open(path / LOCK, os.O_RDONLY | os.O_NONBLOCK | NOFOLLOW)
    except (ImportError, OSError):  # no such locks, no lock file, a link, or permission denied
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    finally:
        os.close(descriptor)
    return False


def _is_file(descriptor: int) -> bool:
    return stat.S_ISREG(os.fstat(descriptor).st_mode)


def refuse_links(folder: Path, names: Iterable[str]) -> None:
    """Raise :class:`BadInput` if one of the names in a folder is a symbolic link.

    A folder may come from elsewhere: a link in it leads to files outside it.
    """
    for name in names:
        if (folder / name).is_symlink():
            raise BadInput(
                f"{str(folder / name)!r} is a link, and no file outside the folder is written or deleted "
                "through a link; remove it, or replace it by the file that it leads to"
            )


def write_atomically(path: Path, text: str) -> None:
    """Replace a file by one with this text: a reader sees the old or the new file, never a part.

    A link of that name is replaced, not followed. An :class:`OSError` names the file.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NOFOLLOW, 0o666)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        temporary.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename, error.filename2 = str(path), None
        raise
