"""Settings: every choice of a run as one tree of checked values, and trust in the code that they name.

Sections and their fields are in ``fields``, reading and writing in ``files``, checks in ``validation``, the
digest that identifies a run's content in ``digest``, the documentation of all fields in ``reference``, and
signatures of the code that settings name in ``trust``.
"""

from __future__ import annotations

from ticketsearch.settings.digest import WITHOUT_EFFECT_ON_CONTENT, changes, leaves, settings_digest
from ticketsearch.settings.fields import Data, Settings, as_list
from ticketsearch.settings.files import (
    apply,
    load,
    parse_assignment,
    parse_value,
    portable,
    stored,
    to_toml,
)
from ticketsearch.settings.objectives import OBJECTIVES, objective_settings
from ticketsearch.settings.reference import (
    SettingRow,
    default_text,
    description,
    setting_rows,
    settings_reference,
    value_text,
)
from ticketsearch.settings.trust import Origin, check_word, outside

__all__ = [
    "OBJECTIVES",
    "WITHOUT_EFFECT_ON_CONTENT",
    "Data",
    "Origin",
    "SettingRow",
    "Settings",
    "apply",
    "as_list",
    "changes",
    "check_word",
    "default_text",
    "description",
    "leaves",
    "load",
    "objective_settings",
    "outside",
    "parse_assignment",
    "parse_value",
    "portable",
    "setting_rows",
    "settings_digest",
    "settings_reference",
    "stored",
    "to_toml",
    "value_text",
]
