"""Lazy faces: packages whose names are imported when they are first used, so that a command starts quickly.

torch, scipy and networkx take seconds to import, which most commands that only read do not need. A face with
few dependencies imports its names at once; the others list each name's module here, and again under
``TYPE_CHECKING`` for readers and type checkers.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["face"]


def face(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a package that imports each name from its module when it is asked for.

    Parameters
    ----------
    package : the package's ``__name__``.
    homes : ``{module below the package: names, separated by spaces}``.
    """
    home = {name: module for module, names in homes.items() for name in names.split()}

    def attribute(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{home[name]}"), name)

    return attribute
