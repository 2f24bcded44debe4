"""The header of a run: its settings, progress, statistics and results, which are read without its tickets."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Json, TypeAdapter

from ticketsearch import settings as config
from ticketsearch.masks import MaskSpec, check_spec
from ticketsearch.runs import tables
from ticketsearch.runs.results import Result, added_pruners
from ticketsearch.runs.schema import RUN
from ticketsearch.runs.tables import Seconds
from ticketsearch.settings import Origin, Settings
from ticketsearch.storage import Count, Database, Word, validated

__all__ = ["RunHeader", "Stopped"]

SETTINGS: TypeAdapter[dict[str, Any]] = TypeAdapter(Json[dict[str, Any]])
SPEC: TypeAdapter[MaskSpec] = TypeAdapter(Json[MaskSpec])
ENVIRONMENT: TypeAdapter[dict[str, str]] = TypeAdapter(Json[dict[Word, Word]])


class Stopped(NamedTuple):
    """Early end of a search.

    Attributes
    ----------
    planned : number of the last generation that was planned.
    minutes : limit of time that ended the search; 0 where its user did.
    """

    planned: Count
    minutes: Seconds


STOPPED: TypeAdapter[Stopped] = TypeAdapter(Json[Stopped])


class RunHeader(Database):
    """A run without its tickets: its settings, how far it has come, and its results.

    Attributes
    ----------
    settings : of the search.
    spec : of its masks.
    data_fingerprint : of the dataset.
    environment : versions, device and command, ``{name: text}``.
    origin : the place and the content of own code that the settings name.
    stopped : where the search ended before the generations that were planned; None where it did not.
    contenders : the pruners that ``final.contenders`` adds to the final comparison.
    """

    kind = RUN
    settings: Settings
    spec: MaskSpec
    data_fingerprint: str
    environment: dict[str, str]
    origin: Origin
    stopped: Stopped | None
    contenders: list[str]

    def _load(self) -> None:
        meta = {row.key: row.value for row in self._read(tables.META)}
        for key in ("settings", "spec", "data_fingerprint", "environment"):
            if key not in meta:
                raise ValueError(f"table meta has no {key!r}")
        self.origin = Origin.read(meta.get("origin"))
        tree: dict[str, Any] = validated(SETTINGS, meta["settings"], "settings")
        self.settings = config.stored(tree, self.folder)
        self.spec = check_spec(validated(SPEC, meta["spec"], "spec"))
        self.contenders = added_pruners(self.settings, meta.get("contenders", ""))
        self.data_fingerprint = meta["data_fingerprint"]
        self.environment = validated(ENVIRONMENT, meta["environment"], "environment")
        stopped = meta.get("stopped")
        self.stopped = None if stopped is None else validated(STOPPED, stopped, "stopped")

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    @property
    def folder(self) -> Path:
        """The folder that paths of own code in stored settings are relative to."""
        return self.origin.base(self.path)

    @property
    def finished(self) -> bool:
        """Whether all generations and the final comparison are there."""
        return self.progress() == self.settings.evolution.generations and bool(self.results())

    def progress(self) -> int:
        """Return the number of the last committed generation, −1 before the first."""
        numbers = self._read(tables.NUMBERS, "ORDER BY number DESC LIMIT 1")
        return numbers[0].number if numbers else -1

    def results(self) -> list[Result]:
        """Return the final comparison; empty until the run is finished."""
        stored = self._read(tables.RESULTS, "ORDER BY contender, part, data_order")
        return [
            Result._make(row._replace(loss=float("inf") if row.loss is None else row.loss)) for row in stored
        ]

    def statistics(self) -> list[dict[str, float]]:
        """Return the statistics of each generation, in order; see :class:`Generation`."""
        return [row.statistics for row in self._read(tables.STATISTICS, "ORDER BY number")]

    def seconds(self) -> list[float]:
        """Return the wall-clock time of each generation, in order."""
        return [sum(row.phases.values()) for row in self._read(tables.PHASES, "ORDER BY number")]

    def phases(self) -> dict[str, float]:
        """Return the seconds of each phase, summed over all generations."""
        total: dict[str, float] = {}
        for row in self._read(tables.PHASES, "ORDER BY number"):
            for name, seconds in row.phases.items():
                total[name] = total.get(name, 0.0) + seconds
        return total
