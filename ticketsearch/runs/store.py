"""The store of one run: create, append, resume, read."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO, Any

from pydantic import Json, TypeAdapter

from ticketsearch import settings as config
from ticketsearch.checks import checked
from ticketsearch.errors import BadInput
from ticketsearch.evolution import STORE, Generation, OrderEffects
from ticketsearch.halving import Agreement
from ticketsearch.masks import MaskSpec, check_spec
from ticketsearch.runs import schema, tables
from ticketsearch.runs.folders import check_free, discard, made_whole
from ticketsearch.runs.replay import generation_of, replay
from ticketsearch.runs.results import Result
from ticketsearch.settings import Origin, Settings
from ticketsearch.storage import (
    SqliteStore,
    Word,
    connect,
    lock_folder,
    refuse_links,
    validated,
    write_atomically,
)
from ticketsearch.tickets import Seen, Ticket, Tickets

__all__ = ["Run"]

SETTINGS: TypeAdapter[dict[str, Any]] = TypeAdapter(Json[dict[str, Any]])
SPEC: TypeAdapter[MaskSpec] = TypeAdapter(Json[MaskSpec])
ENVIRONMENT: TypeAdapter[dict[str, str]] = TypeAdapter(Json[dict[Word, Word]])
# Numbers of tickets that one query asks for.
CHUNK = 500


class Run(SqliteStore):
    """A run on disk, open for reading, or by one process for writing.

    Make one with :meth:`create` or :meth:`open`; use it as a context manager or :meth:`close` it. All that is
    read is validated: :class:`BadInput` names the file where something in it is not as it was written.
    """

    file_name = "run.sqlite"
    word = "run"
    way_out = "start again with the settings.toml beside it"

    def __init__(
        self, path: Path, connection: sqlite3.Connection, lock: IO[bytes] | None = None, version: int = 0
    ) -> None:
        super().__init__(path, connection, lock)
        self._version = version or schema.SCHEMA_VERSION
        # Whether this process made the folder, which has nothing of value before its first generation.
        self._new = False
        # Phases (JSON) and number of the generation that was appended last, with the time of its own commit.
        self._stored: tuple[str, int] | None = None
        with self._validation():
            meta = {row.key: row.value for row in self._read(tables.META)}
            for key in ("settings", "spec", "data_fingerprint", "environment"):
                if key not in meta:
                    raise ValueError(f"table meta has no {key!r}")
            self.origin = Origin.read(meta.get("origin"))
            tree: dict[str, Any] = validated(SETTINGS, meta["settings"], "settings")
            self.settings = config.stored(tree, self.folder)
            self.spec = check_spec(validated(SPEC, meta["spec"], "spec"))
            self.data_fingerprint = meta["data_fingerprint"]
            self.environment = validated(ENVIRONMENT, meta["environment"], "environment")

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    @property
    def folder(self) -> Path:
        """The folder that paths of own code in stored settings are relative to."""
        return self.origin.base(self.path)

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
    ) -> Run:
        """Make a run folder ``root/name`` and open it for writing.

        The folder is filled under a hidden name and renamed at the end: from the moment it exists it can be
        resumed. ``seeds`` are the pruned masks, one an initialization, equal ones too. Where the first
        generation fails, leaving the run as a context manager removes the folder.
        Raises :class:`BadInput` if the name is taken or would leave ``root``.
        """
        check_free(root, name)
        here = Path.cwd()

        def fill(folder: Path) -> None:
            (folder / "tickets").mkdir()
            write_atomically(folder / "settings.toml", config.to_toml(settings, here))
            write_atomically(folder / "environment.json", json.dumps(dict(environment), indent=2) + "\n")
            schema.create(
                folder / cls.file_name,
                {
                    "settings": json.dumps(config.portable(settings, here)),
                    "origin": Origin.of(settings, root / name, here).model_dump_json(),
                    "spec": json.dumps(spec.to_json()),
                    "data_fingerprint": data_fingerprint,
                    "environment": json.dumps(dict(environment)),
                },
                seeds,
            )

        run = cls._opened(root / name, made_whole(root, name, fill), write=True)
        run._new = True
        return run

    @classmethod
    @checked
    def open(cls, path: str | Path, *, write: bool = False) -> Run:
        """Open the run folder ``path``, e.g. ``"runs/digits-mlp-001"``.

        Raises :class:`BadInput` if it is no run, its file is damaged or foreign, or another process writes.
        """
        path = Path(path)
        try:
            found = (path / cls.file_name).is_file()
        except PermissionError as error:
            raise BadInput(
                f"{str(path)!r} cannot be read: permission denied; ask its owner for permission"
            ) from error
        if not found:
            raise BadInput(
                f"no run in {str(path)!r}: it holds no run.sqlite; `ticketsearch list` shows the runs"
            )
        if write:
            refuse_links(path, ["tickets"])
        return cls._opened(path, lock_folder(path) if write else None, write=write)

    @classmethod
    def _opened(cls, path: Path, lock: IO[bytes] | None, *, write: bool) -> Run:
        file, connection = path / cls.file_name, None
        try:
            with cls.reading(file):
                connection = connect(file, write)
                version = schema.check(connection, file, write)
                run = cls(path, connection, lock, version)
                if write and version < schema.SCHEMA_VERSION:
                    schema.migrate(connection, run.progress())
                    run._version = schema.SCHEMA_VERSION
                return run
        except BaseException:
            if connection is not None:
                connection.close()
            if lock is not None:
                lock.close()
            raise

    def __exit__(self, kind: type[BaseException] | None = None, *_: object) -> None:
        """Close the run; one that this process made and whose first generation failed is removed.

        What is to blame lies in its settings or in the code that they name, so that it could not go on. It
        stays where it was interrupted, or where the system is to blame.
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

        The time that this takes is written with the next commit; of a run that is killed before, it is lost.
        Raises :class:`BadInput` if the run's folder was deleted or moved since it was opened.
        """
        start = time.perf_counter()
        with self._commit() as execute:
            self._complete_phases(execute)
            execute(
                tables.GENERATIONS.insert,
                (
                    generation.number,
                    generation.refused,
                    generation.immigrants,
                    json.dumps(generation.statistics),
                    json.dumps(generation.state),
                    json.dumps(generation.agreements),
                    json.dumps(asdict(generation.spent)),
                    json.dumps(generation.phases),
                    time.time(),
                ),
            )
            for ticket in generation.offspring:
                execute(tables.TICKETS.insert, tables.ticket_row(ticket))
            for position, ticket in enumerate(generation.population):
                execute(tables.MEMBERS.insert, (generation.number, position, ticket.number))
                last = ticket.assessments[-1]
                if ticket.generation < last.generation == generation.number:
                    execute(tables.ASSESSMENTS.insert, (ticket.number, *tables.assessment_row(last)))
            for rung, value in generation.order_effects.of(generation.number):
                execute(tables.WORTH.insert, (generation.number, rung, value))
            # That of the living is enough to go on from; of what has diverged since there is none.
            execute("DELETE FROM guidance")
            for ticket in generation.population:
                if ticket.guidance is not None:
                    execute(tables.GUIDANCE.insert, tables.guidance_row(ticket, ticket.guidance))
        seconds = time.perf_counter() - start
        self._stored = json.dumps({**generation.phases, STORE: seconds}), generation.number

    def extend(self, generations: int) -> None:
        """Set a larger number of generations; the final results no longer hold and are dropped."""
        settings = config.apply(self.settings, [("evolution.generations", generations)])
        with self._commit() as execute:
            self._store_settings(execute, settings)
            execute("DELETE FROM results")
        self._settings_stored(settings)

    def adopt(self, settings: Settings) -> None:
        """Store settings whose own code its user vouches for, where it is now and as it is now."""
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

    def _store_settings(self, execute: Callable[..., Any], settings: Settings) -> None:
        tree = config.portable(settings, self.folder)
        execute("UPDATE meta SET value = ? WHERE key = 'settings'", (json.dumps(tree),))

    def _settings_stored(self, settings: Settings) -> None:
        write_atomically(self.path / "settings.toml", config.to_toml(settings, self.folder))
        self.settings = settings

    def save_results(self, results: Sequence[Result]) -> None:
        """Commit the final comparison, in place of an earlier one."""
        with self._commit() as execute:
            self._complete_phases(execute)
            execute("DELETE FROM results")
            for result in results:
                execute(tables.RESULTS.insert, tuple(result))

    def results(self) -> list[Result]:
        """Return the final comparison; empty until the run is finished."""
        rows = self._read(tables.RESULTS, "ORDER BY contender, part, data_order")
        return [
            Result._make(row._replace(loss=float("inf") if row.loss is None else row.loss)) for row in rows
        ]

    def tickets(self) -> Tickets:
        """Return all tickets of the run by number."""
        return self._tickets("ORDER BY number")

    def ticket(self, number: int) -> Ticket:
        """Return one ticket. Raises :class:`BadInput` for a number that is not there."""
        found = self._tickets("WHERE number = ?", (number,))
        if not found:
            raise BadInput(f"run {self.name!r} has no ticket {number}; `ticketsearch show` lists them")
        return found[0]

    def ancestors(self, number: int) -> Tickets:
        """Return a ticket and its ancestors by number, without their masks, ``(0,)``.

        The masks of a long search do not fit into memory. Raises :class:`BadInput` for a number that is not
        there, or a parent that is not.
        """
        parents = {row.number: row.parents for row in self._read(tables.PARENTS, "ORDER BY number")}
        wanted, waiting = {number}, [number]
        while waiting:
            new = set(parents.get(waiting.pop(), ())) - wanted
            wanted |= new
            waiting += new
        numbers, found, order_effects = sorted(wanted), Tickets(), self._order_effects(self.progress())
        for start in range(0, len(numbers), CHUNK):
            some = numbers[start : start + CHUNK]
            query = f"WHERE number IN ({', '.join('?' * len(some))}) ORDER BY number"
            found += [
                replace(t, mask=t.mask[:0]) for t in self._tickets(query, some, order_effects=order_effects)
            ]
        missing = wanted - {ticket.number for ticket in found}
        if missing:
            raise BadInput(f"run {self.name!r} has no ticket {min(missing)}; `ticketsearch show` lists them")
        return found

    def population(self, generation: int) -> Tickets:
        """Return the members of a generation in their places."""
        places = self._read(tables.MEMBERS, "WHERE generation = ? ORDER BY position", (generation,))
        query = "WHERE number IN (SELECT ticket FROM members WHERE generation = ?)"
        found = {t.number: t for t in self._tickets(query, (generation,), until=generation)}
        with self._validation():
            if missing := [row.ticket for row in places if row.ticket not in found]:
                raise ValueError(f"ticket {missing[0]} of generation {generation} is not there")
        return Tickets(found[row.ticket] for row in places)

    def offspring(self, generation: int) -> Tickets:
        """Return the tickets that were evaluated in a generation, by number."""
        return self._tickets("WHERE generation = ? ORDER BY number", (generation,), until=generation)

    def seeds(self) -> Tickets:
        """Return what the pruner left of each initialization, in their order, equal masks too."""
        rows = self._read(tables.SEEDS, "ORDER BY position", context=self.spec)
        return Tickets(tables.seed_of(row, self.spec) for row in rows)

    def keys(self) -> list[str]:
        """Return the duplicate keys of all tickets of the run."""
        return [row.key for row in self._read(tables.KEYS, "ORDER BY number")]

    def searched(self) -> Tickets:
        """Return the tickets whose canonical form had to be searched for, by number: see ``Seen``."""
        return self._tickets("WHERE instr(key, '-') ORDER BY number")

    def agreements(self) -> list[Agreement]:
        """Return how far the rungs of a ladder agree, generation by generation; empty without one."""
        rows = self._read(tables.AGREEMENTS, "ORDER BY number")
        return [Agreement(*counts) for row in rows for counts in row.agreements]

    def statistics(self) -> list[dict[str, float]]:
        """Return the statistics of each generation, in order; see :class:`Generation`."""
        return [row.statistics for row in self._read(tables.STATISTICS, "ORDER BY number")]

    def operators(self) -> dict[str, tuple[int, int]]:
        """Return how many children each operator made, and how many of them survived their generation."""
        rows = self._read(tables.MADE)
        return {row.operator: (row.children, row.survivors) for row in rows}

    def credit(self) -> dict[str, dict[str, float]]:
        """Return the quality of each operator by kind after the last generation, of kinds with several."""
        rows = self._read(tables.STATES, "ORDER BY number DESC LIMIT 1")
        return {str(kind): own for row in rows for kind, own in (row.state.credit or {}).items()}

    def phases(self) -> dict[str, float]:
        """Return the seconds of each phase, summed over all generations."""
        total: dict[str, float] = {}
        for row in self._read(tables.PHASES, "ORDER BY number"):
            for name, seconds in row.phases.items():
                total[name] = total.get(name, 0.0) + seconds
        return total

    def generations(self) -> Iterator[Generation]:
        """Yield the generations in order, each with its population and offspring, in one pass."""
        last = self.progress()
        found = replay(self._read, self.spec, self._order_effects(last), last)
        while True:
            with self._validation():
                generation = next(found, None)
            if generation is None:
                return
            yield generation

    def last(self) -> Generation | None:
        """Return the last committed generation, from which a search continues; None before the first."""
        number = self.progress()
        with self._validation():
            newest = self._read(tables.PARENTS, "ORDER BY number DESC LIMIT 1")
            if number < 0 and newest:
                raise ValueError("there are tickets, but no generation")
        if number < 0:
            return None
        population, offspring = self.population(number), self.offspring(number)
        with self._validation():
            (row,) = self._read(tables.GENERATIONS, "WHERE number = ?", (number,))
            if not population:
                raise ValueError(f"generation {number} has no members")
            if row.state.count <= max(each.number for each in newest):
                raise ValueError(f"generation {number} counts {row.state.count} tickets, but there are more")
            by_number = {ticket.number: ticket for ticket in population}
            for each in self._read(tables.GUIDANCE):
                if each.ticket in by_number:
                    by_number[each.ticket].guidance = tables.guidance_of(each, by_number[each.ticket])
        generation = generation_of(row, population, offspring, self._order_effects(number))
        return replace(generation, seen=Seen(self.spec, keys=self.keys(), searched=self.searched()))

    @property
    def finished(self) -> bool:
        """Whether all generations and the final comparison are there."""
        return self.progress() == self.settings.evolution.generations and bool(self.results())

    def progress(self) -> int:
        """Return the number of the last committed generation, −1 before the first."""
        rows = self._read(tables.NUMBERS, "ORDER BY number DESC LIMIT 1")
        return rows[0].number if rows else -1

    def _complete_phases(self, execute: Callable[..., Any]) -> None:
        """Write how long the commit of the last generation took, which was not known within it."""
        if self._stored is not None:
            execute("UPDATE generations SET phases = ? WHERE number = ?", self._stored)

    def _order_effects(self, until: int) -> OrderEffects:
        """Return the effects of data orders that a generation knew."""
        if self._version < schema.SCHEMA_VERSION:
            with self._validation():
                return OrderEffects(schema.old_worth(self._connection, until))
        rows = self._read(tables.WORTH, "WHERE generation <= ? ORDER BY generation, rung", (until,))
        return OrderEffects((row.rung, row.generation, row.value) for row in rows)

    def _tickets(
        self,
        rest: str,
        parameters: Sequence[Any] = (),
        *,
        until: int | None = None,
        order_effects: OrderEffects | None = None,
    ) -> Tickets:
        """Return tickets with what was found of them until a generation; by default the last."""
        rows = self._read(tables.TICKETS, rest, parameters, self.spec)
        last = self.progress() if until is None else until
        tickets = Tickets(tables.ticket_of(row, self.spec) for row in rows)
        if not tickets:
            return tickets
        by_number = {ticket.number: ticket for ticket in tickets}
        with self._validation():
            if (newest := max(ticket.generation for ticket in tickets)) > last:
                raise ValueError(f"there are tickets of generation {newest}, but the last one is {last}")
        query = "WHERE ticket BETWEEN ? AND ? AND generation <= ? ORDER BY generation"
        for row in self._read(tables.ASSESSMENTS, query, (min(by_number), max(by_number), last)):
            if row.ticket in by_number:
                by_number[row.ticket].add_evaluation(tables.assessment_of(row))
        (self._order_effects(last) if order_effects is None else order_effects).subtract(tickets)
        return tickets
