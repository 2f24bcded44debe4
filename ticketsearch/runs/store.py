"""The store of one run: its folder is created, generations are appended, final results replaced."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ticketsearch import settings as config
from ticketsearch.evolution import STORE, Generation
from ticketsearch.masks import MaskSpec
from ticketsearch.runs import rows, tables
from ticketsearch.runs.folders import check_free, discard, made_whole
from ticketsearch.runs.header import Stopped
from ticketsearch.runs.reading import RunReader
from ticketsearch.runs.results import Result
from ticketsearch.runs.schema import migrate
from ticketsearch.runs.tables import EvaluationRow
from ticketsearch.settings import Origin, Settings
from ticketsearch.storage import create_file, write_atomically
from ticketsearch.tickets import Ticket

__all__ = ["Run"]


class Run(RunReader):
    """A run on disk, open for reading, or by one process for writing.

    Make one with :meth:`create` or :meth:`open`; use it as a context manager or :meth:`close` it. All that is
    read is validated: :class:`BadInput` names the file where its content is not as it was written.
    """

    # Whether this process made the folder, which has nothing of value before its first generation.
    _new = False
    # Phases (JSON) and number of the generation that was appended last, with the time of its own commit.
    _stored: tuple[str, int] | None = None

    @classmethod
    def create(
        cls,
        root: Path,
        name: str,
        settings: Settings,
        spec: MaskSpec,
        data_fingerprint: str,
        environment: Mapping[str, str],
        seeds: Iterable[Ticket] = (),
        cheap: str = "",
    ) -> Run:
        """Make a run folder ``root/name`` and open it for writing.

        The folder is filled under a hidden name and renamed at the end: from the moment it exists it can be
        resumed. ``seeds`` are the pruned masks, one an initialization, equal ones too. ``cheap`` is the
        pruner that ``final.contenders = "auto"`` adds, "" for none. Where the first generation fails,
        leaving the run as a context manager removes the folder.
        Raises :class:`BadInput` if the name is taken or would leave ``root``.
        """
        check_free(root, name)
        here = Path.cwd()
        meta = {
            "settings": json.dumps(config.portable(settings, here)),
            "origin": Origin.of(settings, root / name, here).model_dump_json(),
            "spec": json.dumps(spec.to_json()),
            "data_fingerprint": data_fingerprint,
            "environment": json.dumps(dict(environment)),
            "contenders": cheap,
        }

        def fill_file(connection: sqlite3.Connection) -> None:
            connection.executemany(tables.META.insert, list(meta.items()))
            connection.executemany(
                tables.SEEDS.insert, [rows.seed_row(position, seed) for position, seed in enumerate(seeds)]
            )

        def fill(folder: Path) -> None:
            (folder / "tickets").mkdir()
            write_atomically(folder / "settings.toml", config.to_toml(settings, here))
            write_atomically(folder / "environment.json", json.dumps(dict(environment), indent=2) + "\n")
            create_file(folder / cls.kind.file, cls.kind, fill_file)

        run = cls._opened(root / name, made_whole(root, name, fill), write=True)
        run._new = True
        return run

    def _migrate(self) -> None:
        migrate(self._connection, self.progress())

    def __exit__(self, kind: type[BaseException] | None = None, *_: object) -> None:
        """Close the run; remove it if this process made it and its first generation failed.

        The cause lies in its settings or in the code that they name, so that it could not go on. The folder
        stays after an interruption or an error of the system.
        """
        failed = kind is not None and issubclass(kind, Exception)
        failed = failed and not issubclass(kind or OSError, OSError | sqlite3.Error)
        if failed and self.unbegun:
            self.check_place()
            discard(self.path)
        self.close()

    @property
    def unbegun(self) -> bool:
        """Whether this process made the run and has committed no generation."""
        return self._new and self.progress() < 0

    def append(self, generation: Generation) -> None:
        """Commit a generation: one transaction, all of it or nothing.

        The duration of this commit is written with the next one; it is lost if the run is killed before.
        Raises :class:`BadInput` if the run's folder was deleted or moved since it was opened.
        """
        start = time.perf_counter()
        with self._commit() as execute:
            self._complete_phases(execute)
            execute(tables.GENERATIONS.insert, rows.generation_row(generation, time.time()))
            for ticket in generation.offspring:
                execute(tables.TICKETS.insert, rows.ticket_row(ticket))
            for position, ticket in enumerate(generation.population):
                execute(tables.MEMBERS.insert, (generation.number, position, ticket.number))
                last = ticket.assessments[-1]
                if ticket.generation < last.generation == generation.number:
                    execute(tables.ASSESSMENTS.insert, (ticket.number, *rows.assessment_row(last)))
            for rung, value in generation.order_effects.of(generation.number):
                execute(tables.WORTH.insert, (generation.number, rung, value))
            execute("DELETE FROM evaluations")
            # The guidance of living members is enough to go on from; diverged ones have none.
            execute("DELETE FROM guidance")
            for ticket in generation.population:
                if ticket.guidance is not None:
                    execute(tables.GUIDANCE.insert, rows.guidance_row(ticket, ticket.guidance))
        seconds = time.perf_counter() - start
        self._stored = json.dumps({**generation.phases, STORE: seconds}), generation.number

    def plan(self, generations: int, minutes: float = 0) -> None:
        """Set another number of generations, at least those there are; the final results are dropped.

        Fewer generations than planned end the search early, by a limit of ``minutes`` or 0 by its user, until
        a plan of as many takes it up again.
        """
        before = self.stopped.planned if self.stopped else self.settings.evolution.generations
        stopped = Stopped(before, minutes) if generations < before else None
        settings = config.apply(self.settings, [("evolution.generations", generations)])
        with self._commit() as execute:
            self._store_settings(execute, settings)
            execute("DELETE FROM results")
            execute("DELETE FROM meta WHERE key = 'stopped'")
            if stopped is not None:
                execute(tables.META.insert, ("stopped", json.dumps(stopped)))
        self.stopped = stopped
        self._settings_stored(settings)

    def save_evaluations(self, evaluations: Iterable[EvaluationRow]) -> None:
        """Commit evaluations of the generation that is being made, which go with its commit."""
        with self._commit() as execute:
            for row in evaluations:
                execute(tables.EVALUATIONS.insert.replace("INSERT", "INSERT OR REPLACE", 1), tuple(row))

    def evaluations(self) -> list[EvaluationRow]:
        """Return the evaluations of the generation that was being made when the search stopped."""
        return self._read(tables.EVALUATIONS)

    def adopt(self, settings: Settings) -> None:
        """Store settings whose own code its user vouches for, with its present place and content."""
        origin = Origin.of(settings, self.path, self.folder)
        if (origin, settings) == (self.origin, self.settings):
            return
        self.origin = origin
        with self._commit() as execute:
            execute(
                "INSERT OR REPLACE INTO meta (key, value) VALUES ('origin', ?)",
                (self.origin.model_dump_json(),),
            )
            self._store_settings(execute, settings)
        self._settings_stored(settings)

    def save_results(self, results: Sequence[Result]) -> None:
        """Commit the final comparison, in place of an earlier one."""
        with self._commit() as execute:
            self._complete_phases(execute)
            execute("DELETE FROM results")
            for result in results:
                execute(tables.RESULTS.insert, tuple(result))

    def _store_settings(self, execute: Callable[..., Any], settings: Settings) -> None:
        tree = config.portable(settings, self.folder)
        execute("UPDATE meta SET value = ? WHERE key = 'settings'", (json.dumps(tree),))

    def _settings_stored(self, settings: Settings) -> None:
        write_atomically(self.path / "settings.toml", config.to_toml(settings, self.folder))
        self.settings = settings

    def _complete_phases(self, execute: Callable[..., Any]) -> None:
        """Write the duration of the last generation's commit, which was not known within it."""
        if self._stored is not None:
            execute("UPDATE generations SET phases = ? WHERE number = ?", self._stored)
