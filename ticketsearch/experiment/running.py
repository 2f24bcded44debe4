"""The rest of a search, from where its run stands to the end of the final comparison."""

from __future__ import annotations

import time

from ticketsearch.experiment.callbacks import Callback
from ticketsearch.experiment.final_training import finish
from ticketsearch.experiment.search import Search
from ticketsearch.runs import Run

__all__ = ["complete"]


def _late(search: Search) -> bool:
    """Return whether the limit of minutes, if there is one, has passed."""
    limit = search.settings.evolution.minutes
    return limit > 0 and time.monotonic() - search.began >= 60 * limit


def complete(search: Search, run: Run, callback: Callback) -> None:
    """Do all generations that the run lacks, and the final comparison; the callback takes each step."""
    settings = search.settings
    callback.on_start(run)
    callback.on_note(
        run, f"Run {run.name}: {settings.data.name}, {settings.model.name}, {run.spec.size} weights"
    )
    for line in search.remarks:
        callback.on_note(run, line)
    if 0 <= run.progress() < settings.evolution.generations:
        callback.on_note(run, f"Going on after generation {run.progress()}")
    for generation in search.generations(run, callback):
        callback.on_generation(run, generation)
        if _late(search) and generation.number < settings.evolution.generations:
            minutes = settings.evolution.minutes
            callback.on_note(run, f"{minutes:g} minutes are over: no generation begins any more")
            run.plan(generation.number, minutes)
            break
    for contender in finish(search, run):
        callback.on_note(run, f"Final training, {settings.final.steps} steps: {contender} …")
    callback.on_finish(run)
