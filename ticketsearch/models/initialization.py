"""The origin of a network's initial weights; it needs no torch, so that runs are read without it."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Initialization"]


class Initialization(NamedTuple):
    """The origin of initial weights: a scheme's name and a seed."""

    scheme: str
    seed: int
