"""Values of settings that may be one or several: names, paths, and numbers of steps."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator

from ticketsearch.errors import BadInput, shown
from ticketsearch.halving import parse_steps

__all__ = ["Names", "as_list", "parse_paths", "parse_rungs"]


def as_list(names: str | list[str]) -> list[str]:
    """Return the names of a setting that takes one or several."""
    return [names] if isinstance(names, str) else names


def _names(value: Any) -> str | list[str]:
    """Return one name as text, and several, of a list or separated by commas, as a list."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list) or not all(isinstance(name, str) and name.strip() for name in parts):
        raise BadInput(f"must be a name, or several in a list or separated by commas, but got {shown(value)}")
    names = [name.strip() for name in parts]
    if len(set(names)) < len(names) or not names:
        raise BadInput(f"must be names that differ, at least one, but got {shown(value)}")
    return names if len(names) > 1 or "," in names[0] else names[0]


def parse_paths(value: Any) -> list[str]:
    """Return no path, one, or several, of a list or separated by commas, as a list."""
    return as_list(_names(value)) if value not in ("", []) else []


def parse_rungs(value: Any) -> int | list[int]:
    """Return one number of steps as it is, and the rungs of successive halving as a list."""
    rungs = parse_steps(value)
    return rungs[0] if len(rungs) == 1 else list(rungs)


Names = Annotated[str | list[str], BeforeValidator(_names)]
