"""Words that the shell completes: names of runs, settings, pruners, datasets, models and documents.

A shell asks at every press of Tab, so nothing here imports torch.
"""

from __future__ import annotations

import ast
from importlib.resources import files

from ticketsearch.cli.folders import RUNS

__all__ = ["datasets", "keys", "models", "pruners", "run_names", "setting_names", "topics"]


def run_names(incomplete: str) -> list[str]:
    """Return the names of the runs in runs/."""
    from ticketsearch.runs import list_runs

    names = [path.relative_to(RUNS).as_posix() for path in list_runs(RUNS)]
    return [name for name in names if name.startswith(incomplete)]


def setting_names(incomplete: str) -> list[tuple[str, str]]:
    """Return the dotted names of settings with an equals sign, and their descriptions."""
    from ticketsearch.settings import setting_rows

    rows = [row for row in setting_rows() if row.name.startswith(incomplete)]
    return [(f"{row.name}=", row.description) for row in rows]


def keys(incomplete: str) -> list[str]:
    """Return columns of ``list`` and names of settings, each behind the keys and the sign that are given."""
    from ticketsearch.runs import OVERVIEW_COLUMNS
    from ticketsearch.settings import setting_rows

    return _last(incomplete, [*OVERVIEW_COLUMNS, *(row.name for row in setting_rows())])


def pruners(incomplete: str) -> list[str]:
    """Return names of pruners, each behind the names that are given before a comma."""
    return _last(incomplete, _listed("pruners"))


def datasets(incomplete: str) -> list[str]:
    """Return names of datasets."""
    return [name for name in _listed("datasets") if name.startswith(incomplete)]


def models(incomplete: str) -> list[str]:
    """Return names of models."""
    return [name for name in _listed("models") if name.startswith(incomplete)]


def topics(incomplete: str) -> list[str]:
    """Return the topics of ``docs``."""
    documents = (document.name for document in (files("ticketsearch") / "docs").iterdir())
    names = sorted(name.removesuffix(".md") for name in documents if name.endswith(".md"))
    return [name for name in names if name.startswith(incomplete)]


def _last(incomplete: str, names: list[str]) -> list[str]:
    """Return names that complete the last one of several with commas between, after a minus sign or none."""
    before, comma, last = incomplete.rpartition(",")
    sign = "-" if last.startswith("-") else ""
    return [f"{before}{comma}{sign}{name}" for name in names if name.startswith(last.removeprefix("-"))]


def _listed(room: str) -> list[str]:
    """Return the ``__all__`` of a room, read from its source, as importing the room may import torch."""
    source = (files("ticketsearch") / room / "__init__.py").read_text("utf-8")
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return sorted(ast.literal_eval(node.value))
    return []
