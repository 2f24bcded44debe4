"""Wall-clock time of a generation by phase: the evolution's work, and the fitness with its parts."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

__all__ = ["EVOLUTION_PHASES", "FITNESS", "KEYS", "OPERATORS", "REST", "SELECTION", "STORE", "Phases"]

FITNESS = "fitness"
KEYS = "keys"
OPERATORS = "operators"
SELECTION = "selection"
STORE = "store"
REST = "rest"
# Phases of the evolution's work; every other phase is the fitness, or a part that the fitness names.
EVOLUTION_PHASES = (KEYS, OPERATORS, SELECTION, STORE, REST)


class Phases:
    """A stopwatch: wall-clock seconds by phase, from :meth:`start` to :meth:`stop`."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Reset all phases and start now."""
        self._seconds: dict[str, float] = {}
        self._began = time.perf_counter()

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Add the time of the block to a phase; phases must not be nested."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[name] = self._seconds.get(name, 0.0) + time.perf_counter() - began

    def divide(self, name: str, parts: Mapping[str, float]) -> None:
        """Split a phase into parts; the remainder keeps its name.

        Parts whose sum is longer than the phase, as with parallel threads, are scaled down to it.
        """
        whole, longest = self._seconds.get(name, 0.0), sum(parts.values())
        scale = min(1.0, whole / longest) if longest else 0.0
        self._seconds[name] = whole - scale * longest
        for part, seconds in parts.items():
            self._seconds[part] = self._seconds.get(part, 0.0) + scale * seconds

    def stop(self) -> dict[str, float]:
        """Return the seconds of each phase since the start; the remainder is ``rest``."""
        total = time.perf_counter() - self._began
        return {**self._seconds, REST: max(0.0, total - sum(self._seconds.values()))}
