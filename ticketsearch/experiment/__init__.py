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
from ticketsearch.experiment.provenance import environment
from ticketsearch.experiment.resuming import create_run, resume
from ticketsearch.experiment.running import complete
from ticketsearch.experiment.search import Search

__all__ = [
    "TRAINED",
    "Callback",
    "Callbacks",
    "Forecast",
    "Search",
    "candidates_of",
    "choose",
    "complete",
    "create_run",
    "environment",
    "finish",
    "forecast",
    "resume",
    "save_tickets",
    "trained_network",
]
