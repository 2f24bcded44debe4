"""Settings: every choice of a run as one tree of checked values, and trust in the code that they name."""

from __future__ import annotations

from ticketsearch.settings.fields import (
    Data,
    Settings,
    apply,
    as_list,
    changes,
    identity,
    leaves,
    load,
    parse_assignment,
    parse_value,
    portable,
    stored,
    to_toml,
)
from ticketsearch.settings.trust import Origin, check_word, outside

__all__ = [
    "Data",
    "Origin",
    "Settings",
    "apply",
    "as_list",
    "changes",
    "check_word",
    "identity",
    "leaves",
    "load",
    "outside",
    "parse_assignment",
    "parse_value",
    "portable",
    "stored",
    "to_toml",
]
