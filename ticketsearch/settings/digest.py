"""Digest of the settings that determine a run's content, and differences between settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ticketsearch.settings.fields import Settings

__all__ = ["WITHOUT_EFFECT_ON_CONTENT", "changes", "leaves", "settings_digest"]

# A resumed run may change these settings.
WITHOUT_EFFECT_ON_CONTENT = (
    *("training.workers", "training.backend", "training.address"),
    "evolution.minutes",  # as with fewer generations: the content is that of a search so long
)


def settings_digest(settings: Settings) -> str:
    """Return a digest, 16 hexadecimal digits, of the settings that determine a run's content.

    Only values other than the defaults count, so that a setting added later leaves old digests as they are.
    """
    tree = settings.model_dump(exclude_defaults=True)
    tree.get("evolution", {}).pop("generations", None)
    for name in WITHOUT_EFFECT_ON_CONTENT:
        section, _, key = name.partition(".")
        tree.get(section, {}).pop(key, None)
    content = {key: value for key, value in tree.items() if value != {}}
    return hashlib.blake2b(
        json.dumps(content, sort_keys=True, default=str).encode(), digest_size=8
    ).hexdigest()


def changes(old: Settings, new: Settings) -> dict[str, tuple[Any, Any]]:
    """Return ``{dotted name: (old value, new value)}`` of the settings that change a run's content."""
    before, after = _flat(old.model_dump()), _flat(new.model_dump())
    return {
        name: (before.get(name), after.get(name))
        for name in {**before, **after}
        if before.get(name) != after.get(name) and name not in WITHOUT_EFFECT_ON_CONTENT
    }


def leaves(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return dotted assignments that rebuild a settings tree; a table of options is one value."""
    pairs: list[tuple[str, Any]] = []
    for key, value in tree.items():
        if isinstance(value, Mapping) and key != "options":
            pairs += leaves(value, f"{prefix}{key}.")
        else:
            pairs.append((prefix + key, value))
    return pairs


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return all values of a tree by dotted name, those of options too."""
    values: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            values |= _flat(value, f"{prefix}{key}.")
        else:
            values[prefix + key] = value
    return values
