"""The forecast of a search as text: its changed settings, its trainings, time and memory."""

from __future__ import annotations

from datetime import timedelta

from ticketsearch.experiment import Forecast
from ticketsearch.report.text.table import table_lines
from ticketsearch.settings import Settings, changes, value_text

__all__ = ["forecast_lines"]


def forecast_lines(settings: Settings, expected: Forecast) -> list[str]:
    """Return the settings that are not the defaults, the number of trainings, and the estimates."""
    changed = changes(Settings(), settings)
    rows = [(name, value_text(new), value_text(old)) for name, (old, new) in changed.items()]
    given = table_lines(("setting", "value", "default"), rows) if rows else ["All settings are the defaults."]
    trainings = [(part, f"{count:,}", f"{steps:,}") for part, (count, steps) in expected.trainings.items()]
    time = timedelta(seconds=round(expected.seconds))
    side = f" on {expected.workers} workers side by side" if expected.workers > 1 else ""
    memory = f"Memory: {expected.bytes / 2**20:,.0f} MiB a process, by the same trainings."
    return [
        *given,
        *table_lines(("part", "trainings", "steps each"), trainings),
        f"Time: about {time}{side}, by trainings of a few steps here, without pruning, evaluation and pages.",
        *([memory] if expected.bytes else []),
        "No run was made.",
    ]
