"""Experiments: settings to a ready run, its final training, and what is refused."""

from __future__ import annotations

from ticketsearch.experiment.search import Search, create_run, resume

__all__ = [
    "Search",
    "create_run",
    "resume",
]
