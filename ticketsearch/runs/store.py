"""The store of one run: create, append, resume, read."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ticketsearch import config
from ticketsearch.budget import Spent
from ticketsearch.checks import checked
from ticketsearch.config import Settings
from ticketsearch.errors import BadInput
from ticketsearch.evolution import Generation
from ticketsearch.ladder import Agreement
from ticketsearch.levelling import Levels
from ticketsearch.masks import MaskSpec
from ticketsearch.phases import STORE
from ticketsearch.runs import schema
from ticketsearch.runs.folders import NameTaken, check_free, lock_folder, write_atomically
from ticketsearch.runs.results import Result
from ticketsearch.tickets import Ticket, Tickets
from ticketsearch.trust import Origin

__all__ = ["Run"]


class Run:
    """A run on disk, open for reading, or by one process for writing.

    Make one with :meth:`create` or :meth:`open`; use it as a context manager or :meth:`close` it.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: Any = None) -> None:
        self.path = path
        self._connection = connection
        self._lock = lock
        # Phases (JSON) and number of the generation that was appended last, with the time of its own commit.
        self._stored: tuple[str, int] | None = None
        meta = dict(self._rows("SELECT key, value FROM meta"))
        self.origin = Origin.read(meta.get("origin"))
        self.settings = config.stored(json.loads(meta["settings"]), self.folder)
        self.spec = MaskSpec.from_json(json.loads(meta["spec"]))
        self.data_fingerprint = meta["data_fingerprint"]
        self.environment: dict[str, str] = json.loads(meta["environment"])

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
        resumed. ``seeds`` are the pruned masks, one an initialization, equal ones too.
        Raises :class:`BadInput` if the name is taken or would leave ``root``.
        """
        check_free(root, name)
        root.mkdir(parents=True, exist_ok=True)
        hidden = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=root))
        try:
            hidden.chmod(0o755)
            (hidden / "tickets").mkdir()
            here = Path.cwd()
            (hidden / "settings.toml").write_text(config.to_toml(settings, here), encoding="utf-8")
            (hidden / "environment.json").write_text(json.dumps(dict(environment), indent=2) + "\n")
            schema.create(
                hidden / "run.sqlite",
                {
                    "settings": json.dumps(config.portable(settings, here)),
                    "origin": Origin.of(settings, root / name, here).model_dump_json(),
                    "spec": json.dumps(spec.to_json()),
                    "data_fingerprint": data_fingerprint,
                    "environment": json.dumps(dict(environment)),
                },
                seeds,
            )
            try:
                os.rename(hidden, root / name)  # noqa: PTH104 - Path.rename says no more
            except OSError as error:
                raise NameTaken(
                    f"run {name!r} was made by another process just now; choose another --name"
                ) from error
        except BaseException:
            shutil.rmtree(hidden, ignore_errors=True)
            raise
        return cls.open(root / name, write=True)

    @classmethod
    @checked
    def open(cls, path: str | Path, *, write: bool = False) -> Run:
        """Open the run folder ``path``, e.g. ``"runs/digits-mlp-001"``.

        Raises :class:`BadInput` if it is no run, its file is damaged or foreign, or another process writes.
        """
        path = Path(path)
        file = path / "run.sqlite"
        if not file.is_file():
            raise BadInput(
                f"no run in {str(path)!r}: it holds no run.sqlite; `ticketsearch list` shows the runs"
            )
        lock = lock_folder(path) if write else None
        try:
            connection = schema.connect(file, write)
            try:
                schema.check(connection, file, write)
                return cls(path, connection, lock)
            except BaseException:
                connection.close()
                raise
        except BaseException as error:
            if lock is not None:
                lock.close()
            if isinstance(error, BadInput):
                raise
            if isinstance(error, sqlite3.DatabaseError | KeyError | ValueError):
                raise schema.unreadable(file, error) from error
            raise

    def close(self) -> None:
        """Close the file and let others write."""
        self._connection.close()
        if self._lock is not None:
            self._lock.close()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, generation: Generation) -> None:
        """Commit a generation: one transaction, all of it or nothing.

        The time that this takes is written with the next commit; of a run that is killed before, it is lost.
        """
        start = time.perf_counter()
        with schema.transaction(self._connection) as execute:
            self._complete_phases(execute)
            execute(
                "INSERT INTO generations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
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
                row = schema.ticket_row(ticket)
                execute(f"INSERT INTO tickets VALUES ({', '.join('?' * len(row))})", row)
            for position, ticket in enumerate(generation.population):
                execute("INSERT INTO members VALUES (?, ?, ?)", (generation.number, position, ticket.number))
                last = ticket.assessments[-1]
                if ticket.generation < last.generation == generation.number:
                    row = (ticket.number, *schema.assessment_row(last))
                    execute("INSERT INTO assessments VALUES (?, ?, ?, ?, ?)", row)
            # That of the living is enough to go on from; of what has diverged since there is none.
            execute("DELETE FROM guidance")
            for ticket in generation.population:
                if ticket.guidance is not None:
                    execute(
                        "INSERT INTO guidance VALUES (?, ?, ?, ?)",
                        schema.guidance_row(ticket, ticket.guidance),
                    )
        seconds = time.perf_counter() - start
        self._stored = json.dumps({**generation.phases, STORE: seconds}), generation.number

    def extend(self, generations: int) -> None:
        """Set a larger number of generations; the final results no longer hold and are dropped."""
        settings = config.apply(self.settings, [("evolution.generations", generations)])
        with schema.transaction(self._connection) as execute:
            self._store_settings(execute, settings)
            execute("DELETE FROM results")
        self._settings_stored(settings)

    def adopt(self, settings: Settings) -> None:
        """Store settings whose own code its user vouches for, where it is now and as it is now."""
        origin = Origin.of(settings, self.path, self.folder)
        if (origin, settings) == (self.origin, self.settings):
            return
        self.origin = origin
        with schema.transaction(self._connection) as execute:
            execute("INSERT OR REPLACE INTO meta VALUES ('origin', ?)", (self.origin.model_dump_json(),))
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
        with schema.transaction(self._connection) as execute:
            self._complete_phases(execute)
            execute("DELETE FROM results")
            for result in results:
                execute("INSERT INTO results VALUES (?, ?, ?, ?, ?, ?, ?, ?)", tuple(result))

    def results(self) -> list[Result]:
        """Return the final comparison; empty until the run is finished."""
        rows = self._rows("SELECT * FROM results ORDER BY contender, part, data_order")
        results = [Result._make(row) for row in rows]
        return [r._replace(loss=float("inf")) if r.loss is None else r for r in results]

    def tickets(self) -> Tickets:
        """Return all tickets of the run by number."""
        return self._tickets("SELECT * FROM tickets ORDER BY number")

    def ticket(self, number: int) -> Ticket:
        """Return one ticket. Raises :class:`BadInput` for a number that is not there."""
        found = self._tickets("SELECT * FROM tickets WHERE number = ?", (number,))
        if not found:
            raise BadInput(f"run {self.name!r} has no ticket {number}; `ticketsearch show` lists them")
        return found[0]

    def population(self, generation: int) -> Tickets:
        """Return the members of a generation in their places."""
        return self._tickets(
            "SELECT tickets.* FROM members JOIN tickets ON tickets.number = members.ticket "
            "WHERE members.generation = ? ORDER BY members.position",
            (generation,),
            until=generation,
        )

    def offspring(self, generation: int) -> Tickets:
        """Return the tickets that were evaluated in a generation, by number."""
        query = "SELECT * FROM tickets WHERE generation = ? ORDER BY number"
        return self._tickets(query, (generation,), until=generation)

    def seeds(self) -> Tickets:
        """Return what the pruner left of each initialization, in their order, equal masks too."""
        return Tickets(
            schema.seed_of(row, self.spec) for row in self._rows("SELECT * FROM seeds ORDER BY position")
        )

    def keys(self) -> list[str]:
        """Return the duplicate keys of all tickets of the run."""
        return [key for (key,) in self._rows("SELECT key FROM tickets ORDER BY number")]

    def searched(self) -> Tickets:
        """Return the tickets whose canonical form had to be searched for, by number: see ``Seen``."""
        return self._tickets("SELECT * FROM tickets WHERE instr(key, '-') ORDER BY number")

    def agreements(self) -> list[Agreement]:
        """Return how far the rungs of a ladder agree, generation by generation; empty without one."""
        rows = self._rows("SELECT agreements FROM generations ORDER BY number")
        return [Agreement(*counts) for (column,) in rows for counts in json.loads(column)]

    def operators(self) -> dict[str, tuple[int, int]]:
        """Return how many children each operator made, and how many of them survived their generation."""
        rows = self._rows(
            "SELECT operator, count(*), count(members.ticket) FROM tickets LEFT JOIN members "
            "ON members.ticket = tickets.number AND members.generation = tickets.generation "
            "WHERE tickets.generation > 0 GROUP BY operator ORDER BY operator"
        )
        return {operator: (children, survivors) for operator, children, survivors in rows}

    def credit(self) -> dict[str, dict[str, float]]:
        """Return the quality of each operator by kind after the last generation, of kinds with several."""
        rows = self._rows("SELECT state FROM generations ORDER BY number DESC LIMIT 1")
        return {
            kind: dict(own) for (state,) in rows for kind, own in json.loads(state).get("credit", {}).items()
        }

    def phases(self) -> dict[str, float]:
        """Return the seconds of each phase, summed over all generations."""
        total: dict[str, float] = {}
        for (column,) in self._rows("SELECT phases FROM generations ORDER BY number"):
            for name, seconds in json.loads(column).items():
                total[name] = total.get(name, 0.0) + seconds
        return total

    def generations(self) -> Iterator[Generation]:
        """Yield the generations in order, each with its population and offspring, one at a time."""
        for number in range(self.progress() + 1):
            yield self._generation(number)

    def last(self) -> Generation | None:
        """Return the last committed generation, its tickets with their guidance, or None before the first."""
        if self.progress() < 0:
            return None
        last = self._generation(self.progress())
        found = {row[0]: schema.guidance_of(row) for row in self._rows("SELECT * FROM guidance")}
        for ticket in last.population:
            ticket.guidance = found.get(ticket.number)
        return last

    @property
    def finished(self) -> bool:
        """Whether all generations and the final comparison are there."""
        return self.progress() == self.settings.evolution.generations and bool(self.results())

    def progress(self) -> int:
        """Return the number of the last committed generation, −1 before the first."""
        ((number,),) = self._rows("SELECT coalesce(max(number), -1) FROM generations")
        return int(number)

    def _generation(self, number: int) -> Generation:
        ((_, refused, immigrants, statistics, state, agreements, spent, phases, _),) = self._rows(
            "SELECT * FROM generations WHERE number = ?", (number,)
        )
        return Generation(
            number,
            self.population(number),
            self.offspring(number),
            refused,
            immigrants,
            json.loads(statistics),
            json.loads(state),
            [Agreement(*counts) for counts in json.loads(agreements)],
            json.loads(phases),
            Spent(**json.loads(spent)),
        )

    def _complete_phases(self, execute: Callable[..., Any]) -> None:
        """Write how long the commit of the last generation took, which was not known within it."""
        if self._stored is not None:
            execute("UPDATE generations SET phases = ? WHERE number = ?", self._stored)

    def _tickets(self, query: str, parameters: Sequence[Any] = (), *, until: int | None = None) -> Tickets:
        """Return tickets with what was found of them until a generation; by default the last."""
        tickets = Tickets(schema.ticket_of(row, self.spec) for row in self._rows(query, parameters))
        by_number = {ticket.number: ticket for ticket in tickets}
        last = self.progress() if until is None else until
        for number, *row in self._rows(
            "SELECT * FROM assessments WHERE generation <= ? ORDER BY generation", (last,)
        ):
            if number in by_number:
                by_number[number].add(schema.assessment_of(row))
        for (state,) in self._rows("SELECT state FROM generations WHERE number = ?", (last,)):
            Levels(json.loads(state)).apply(tickets)
        return tickets

    def _rows(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(query, parameters).fetchall()
        except sqlite3.DatabaseError as error:
            raise schema.unreadable(self.path / "run.sqlite", error) from error
