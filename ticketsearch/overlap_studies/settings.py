"""The settings of a study in words, as far as its plan, stored as JSON, has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["settings"]


def settings(content: Mapping[str, Any]) -> dict[str, str]:
    """Return ``{name: text}``: what is studied, what was pruned how, and how thoroughly it is compared."""
    found = {**content["subject"], **_pruned(content)}
    found |= {name: str(value) for name, value in content["pruning"].items() if value is not None}
    found["seed"] = str(content["seed"])
    return found | {name.replace("_", " "): str(value) for name, value in content["sizes"].items()}


def _pruned(content: Mapping[str, Any]) -> dict[str, str]:
    if not content["prunings"]:
        return {}
    methods, densities, initializations, _ = (
        list(dict.fromkeys(map(_hashable, column))) for column in zip(*content["prunings"], strict=True)
    )
    schemes = dict.fromkeys(scheme for scheme, _ in initializations)
    options = {
        f"{name} of {method}": value
        for method, own in content["options"].items()
        for name, value in own.items()
    }
    return {
        "methods": ", ".join(methods),
        "densities": ", ".join(map(repr, densities)),
        "initializations": f"{len(initializations)} ({', '.join(schemes)})",
        "pruner options": ", ".join(f"{name} = {value!r}" for name, value in options.items()) or "none",
    }


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
