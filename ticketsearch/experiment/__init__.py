"""Experiments: settings become a search that is ready to run, resumed or finished by its final training."""

from __future__ import annotations

from ticketsearch.experiment.callbacks import Callback, Callbacks
from ticketsearch.experiment.final_training import (
    TRAINED,
    candidates_of,
    choose,
    finish,
    save_tickets,
    trained_network,
)
from ticketsearch.experiment.forecast import Forecast, forecast
from ticketsearch.experiment.objects import Objects
from ticketsearch.experiment.provenance import environment
from ticketsearch.experiment.resuming import create_run, prepared, resume
from ticketsearch.experiment.running import complete
from ticketsearch.experiment.search import Search
from ticketsearch.experiment.trackers import TRACKERS, Tracker, generation_figures, trackers_of

__all__ = [
    "TRACKERS",
    "TRAINED",
    "Callback",
    "Callbacks",
    "Forecast",
    "Objects",
    "Search",
    "Tracker",
    "candidates_of",
    "choose",
    "complete",
    "create_run",
    "environment",
    "finish",
    "forecast",
    "generation_figures",
    "prepared",
    "resume",
    "save_tickets",
    "trackers_of",
    "trained_network",
]
