"""The phases of a generation: a stopwatch that tells the evolution's own work from the fitness's."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

__all__ = ["FITNESS", "KEYS", "OPERATORS", "OWN", "REST", "SELECTION", "STORE", "Phases"]

FITNESS = "fitness"
KEYS = "keys"
OPERATORS = "operators"
SELECTION = "selection"
STORE = "store"
REST = "rest"
# The evolution's own work; every other phase is the fitness, or a part that the fitness told apart.
OWN = (KEYS, OPERATORS, SELECTION, STORE, REST)


class Phases:
    """Wall-clock seconds by phase, from one :meth:`start` to :meth:`stop`."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Forget what was measured and begin now."""
        self._seconds: dict[str, float] = {}
        self._began = time.perf_counter()

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Add the time inside to a phase; do not measure one phase inside another."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[name] = self._seconds.get(name, 0.0) + time.perf_counter() - began

    def divide(self, name: str, parts: Mapping[str, float]) -> None:
        """Tell parts of a phase apart; what they leave keeps its name.

        Parts that are longer than the phase, as the times of threads side by side are, shrink to it in
        proportion.
        """
        whole, longest = self._seconds.get(name, 0.0), sum(parts.values())
        scale = min(1.0, whole / longest) if longest else 0.0
        self._seconds[name] = whole - scale * longest
        for part, seconds in parts.items():
            self._seconds[part] = self._seconds.get(part, 0.0) + scale * seconds

    def stop(self) -> dict[str, float]:
        """Return the seconds of each phase since the start; what no phase took is ``rest``."""
        total = time.perf_counter() - self._began
        return {**self._seconds, REST: max(0.0, total - sum(self._seconds.values()))}
