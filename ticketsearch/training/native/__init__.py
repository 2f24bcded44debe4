"""Native engine: networks trained by their kept weights, by compiled loops.

What an engine needs of a network is its program (``program``), i.e. operations on rows of values, which
``steps`` runs forward and backward; ``layers``, ``maps``, ``normalization`` and ``operations`` are the loops
of each kind, made of the sums over samples in ``vectors``. A new map has a number in ``names``, its torch
functions in ``known_maps`` and its formulas in ``maps``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ticketsearch import lazy

__all__ = ["Native", "NativeTraining", "lacking_step"]

_HOMES = {"engine": "Native", "loop": "NativeTraining", "program": "lacking_step"}

if TYPE_CHECKING:
    from ticketsearch.training.native.engine import Native
    from ticketsearch.training.native.loop import NativeTraining
    from ticketsearch.training.native.program import lacking_step

__getattr__ = lazy.face(__name__, _HOMES)
