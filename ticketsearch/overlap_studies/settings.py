"""The settings of a study as text, from its plan as it is stored in JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["settings"]


def settings(content: Mapping[str, Any]) -> dict[str, str]:
    """Return ``{name: text}``: the subject, the prunings and their options, the seed, and the sizes."""
    texts = {**content["subject"], **_pruned(content)}
    texts |= {name: str(value) for name, value in content["pruning"].items() if value is not None}
    texts["seed"] = str(content["seed"])
    return texts | {name.replace("_", " "): str(value) for name, value in content["sizes"].items()}


def _pruned(content: Mapping[str, Any]) -> dict[str, str]:
    if not content["prunings"]:
        return {}
    methods, densities, initializations, _ = (
        list(dict.fromkeys(map(_hashable, column))) for column in zip(*content["prunings"], strict=True)
    )
    schemes = dict.fromkeys(scheme for scheme, _ in initializations)
    options = {
        f"{name} of {method}": value
        for method, options_of_method in content["options"].items()
        for name, value in options_of_method.items()
    }
    return {
        "methods": ", ".join(methods),
        "densities": ", ".join(map(repr, densities)),
        "initializations": f"{len(initializations)} ({', '.join(schemes)})",
        "pruner options": ", ".join(f"{name} = {value!r}" for name, value in options.items()) or "none",
    }


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
