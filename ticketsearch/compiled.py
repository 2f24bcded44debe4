"""Compiled loops: functions over arrays that numba compiles once for a machine, and keeps on disk.

Importing numba takes half a second, so modules of such functions are imported where they are called. Where
numba is not installed the same functions run as plain Python: right, and a hundred times slower.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

numba: Any
event: Any
try:
    numba, event = (importlib.import_module(name) for name in ("numba", "numba.core.event"))
except ImportError:  # no build for this platform
    numba = event = None

__all__ = ["AVAILABLE", "compiler"]

P = ParamSpec("P")
R = TypeVar("R")

AVAILABLE = numba is not None
# Compilation may fuse and regroup sums of products, and so fixes them for every call; NaN and infinity stay.
OPTIONS = {"nogil": True, "error_model": "numpy", "fastmath": {"reassoc", "contract", "nsz"}}
# What the functions of a module are called when they are compiled; those that have been announced.
_titles: dict[str, str] = {}
_announced: set[str] = set()


def compiler(module: str, title: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return the decorator of a module's functions, which compiles each when it is first called.

    Compiled functions release the interpreter's lock, so that threads run them side by side. Code is kept
    beside the module, or in the user's cache folder where that is not writable; where neither is, it is
    compiled anew in each process.

    Parameters
    ----------
    module : its ``__name__``.
    title : what is compiled, for the line that says so on standard error, e.g. "the training engine".
    """
    _titles[module] = title

    def compile_later(function: Callable[P, R]) -> Callable[P, R]:
        if not AVAILABLE:
            return function
        try:
            dispatcher = numba.njit(cache=True, **OPTIONS)(function)
        except RuntimeError:  # no folder is writable
            dispatcher = numba.njit(**OPTIONS)(function)
        else:
            # Code holds that of the functions it calls, which may lie in other files of the folder.
            dispatcher._cache._cache_file._source_stamp = _stamp(Path(function.__code__.co_filename).parent)
        lazily: Callable[P, R] = dispatcher
        return lazily

    return compile_later


@cache
def _stamp(folder: Path) -> str:
    """Return a digest of the modules of a folder: compiled code of others is not theirs."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(folder.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _announce(title: str) -> None:
    if title not in _announced:
        _announced.add(title)
        print(f"Compiling {title}, once …", file=sys.stderr, flush=True)


if AVAILABLE:

    class _Announcer(event.Listener):  # type: ignore[misc]
        """Says what is compiled, before the first function of its title is."""

        def on_start(self, event: Any) -> None:
            """Take a compilation that begins; code that is read from disk makes none."""
            module = event.data["dispatcher"].py_func.__module__
            if module in _titles:
                _announce(_titles[module])

        def on_end(self, event: Any) -> None:
            """Take a compilation that has ended."""

    event.register("numba:compile", _Announcer())
