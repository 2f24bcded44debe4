"""The run folder: one SQLite file, the settings, the environment, and the best tickets.

A generation is one transaction that holds tickets, scores, lineage and the random generator's state: what
is committed is the checkpoint. ``runs/README.md`` of the repository explains the tables.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ticketsearch import config
from ticketsearch.config import Settings
from ticketsearch.errors import BadInput
from ticketsearch.evolution import Generation
from ticketsearch.masks import MaskSpec, pack, unpack
from ticketsearch.models import Initialization
from ticketsearch.tickets import Ticket, Tickets

__all__ = [
    "BEST",
    "DENSE",
    "RANDOM",
    "Result",
    "Run",
    "contenders",
    "counting_name",
    "list_runs",
    "pruned_name",
]

# Contenders of the final comparison; the pruner's own mask is named after the pruner.
BEST, DENSE, RANDOM = "best ticket", "dense", "random, same layer densities"

APPLICATION_ID = 0x7469636B  # "tick"
SCHEMA_VERSION = 1
SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE generations (
    number INTEGER PRIMARY KEY,
    refused INTEGER NOT NULL,
    immigrants INTEGER NOT NULL,
    statistics TEXT NOT NULL,
    state TEXT NOT NULL,
    seconds REAL NOT NULL,
    fitness_seconds REAL NOT NULL,
    finished REAL NOT NULL
);
CREATE TABLE tickets (
    number INTEGER PRIMARY KEY,
    generation INTEGER NOT NULL REFERENCES generations (number),
    mask BLOB NOT NULL,
    digest TEXT NOT NULL,
    key TEXT NOT NULL UNIQUE,
    operator TEXT NOT NULL,
    parents TEXT NOT NULL,
    scheme TEXT,
    seed INTEGER,
    pruned_scheme TEXT,
    pruned_seed INTEGER,
    fitness REAL,
    measures TEXT NOT NULL
);
CREATE TABLE members (
    generation INTEGER NOT NULL REFERENCES generations (number),
    position INTEGER NOT NULL,
    ticket INTEGER NOT NULL REFERENCES tickets (number),
    PRIMARY KEY (generation, position)
) WITHOUT ROWID;
CREATE TABLE results (
    contender TEXT NOT NULL,
    data_order INTEGER NOT NULL,
    part TEXT NOT NULL,
    ticket INTEGER REFERENCES tickets (number),
    density REAL NOT NULL,
    effective_density REAL NOT NULL,
    loss REAL,
    accuracy REAL NOT NULL,
    PRIMARY KEY (contender, data_order, part)
) WITHOUT ROWID;
"""


class Result(NamedTuple):
    """One final training: who, with which data order, judged on which part (``validation`` or ``test``)."""

    contender: str
    data_order: int
    part: str
    ticket: int | None
    density: float
    effective_density: float
    loss: float
    accuracy: float


class Run:
    """A run on disk, open for reading, or by one process for writing.

    Make one with :meth:`create` or :meth:`open`; use it as a context manager or :meth:`close` it.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: Any = None) -> None:
        self.path = path
        self._connection = connection
        self._lock = lock
        meta = dict(self._rows("SELECT key, value FROM meta"))
        self.settings = config.load(None, config.leaves(json.loads(meta["settings"])))
        self.spec = MaskSpec.from_json(json.loads(meta["spec"]))
        self.data_fingerprint = meta["data_fingerprint"]
        self.environment: dict[str, str] = json.loads(meta["environment"])

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @classmethod
    def create(
        cls,
        root: Path,
        name: str,
        settings: Settings,
        spec: MaskSpec,
        data_fingerprint: str,
        environment: Mapping[str, str],
    ) -> Run:
        """Make a run folder ``root/name`` and open it for writing.

        The folder is filled under a hidden name and renamed at the end: from the moment it exists it can be
        resumed. Raises :class:`BadInput` if the name is taken or would leave ``root``.
        """
        check_free(root, name)
        root.mkdir(parents=True, exist_ok=True)
        hidden = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=root))
        try:
            hidden.chmod(0o755)
            (hidden / "tickets").mkdir()
            (hidden / "settings.toml").write_text(config.to_toml(settings), encoding="utf-8")
            (hidden / "environment.json").write_text(json.dumps(dict(environment), indent=2) + "\n")
            connection = sqlite3.connect(hidden / "run.sqlite", isolation_level=None)
            with contextlib.closing(connection):
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
                connection.execute("BEGIN")
                for statement in SCHEMA.split(";"):
                    connection.execute(statement)
                connection.executemany(
                    "INSERT INTO meta VALUES (?, ?)",
                    [
                        ("settings", json.dumps(settings.model_dump())),
                        ("spec", json.dumps(spec.to_json())),
                        ("data_fingerprint", data_fingerprint),
                        ("environment", json.dumps(dict(environment))),
                    ],
                )
                connection.execute("COMMIT")
            try:
                os.rename(hidden, root / name)  # noqa: PTH104 - Path.rename says no more
            except OSError as error:
                raise BadInput(
                    f"run {name!r} was made by another process just now; choose another --name"
                ) from error
        except BaseException:
            shutil.rmtree(hidden, ignore_errors=True)
            raise
        return cls.open(root / name, write=True)

    @classmethod
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
        lock = _lock(path) if write else None
        try:
            connection = _connect(file, write)
            try:
                (application,) = connection.execute("PRAGMA application_id").fetchone()
                (version,) = connection.execute("PRAGMA user_version").fetchone()
                if application != APPLICATION_ID:
                    raise BadInput(f"{str(file)!r} is no ticketsearch run: it belongs to another program")
                if version != SCHEMA_VERSION:
                    raise BadInput(
                        f"{str(file)!r} has schema {version}, but this version of ticketsearch reads "
                        f"{SCHEMA_VERSION}; use the version that wrote it"
                    )
                if write:
                    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
                    if verdict != "ok":
                        raise sqlite3.DatabaseError(verdict)
                return cls(path, connection, lock)
            except BaseException:
                connection.close()
                raise
        except (sqlite3.DatabaseError, KeyError, json.JSONDecodeError) as error:
            if lock is not None:
                lock.close()
            raise BadInput(
                f"{str(file)!r} cannot be read ({error}): it is damaged or not a run; "
                "start again with the settings.toml beside it"
            ) from error
        except BadInput:
            if lock is not None:
                lock.close()
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
        """Commit a generation: one transaction, all of it or nothing."""
        with self._transaction() as execute:
            execute(
                "INSERT INTO generations VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    generation.number,
                    generation.refused,
                    generation.immigrants,
                    json.dumps(generation.statistics),
                    json.dumps(generation.state),
                    generation.seconds,
                    generation.fitness_seconds,
                    time.time(),
                ),
            )
            for ticket in generation.offspring:
                execute(
                    "INSERT INTO tickets VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", _ticket_row(ticket)
                )
            for position, ticket in enumerate(generation.population):
                execute("INSERT INTO members VALUES (?, ?, ?)", (generation.number, position, ticket.number))

    def extend(self, generations: int) -> None:
        """Set a larger number of generations; the final results no longer hold and are dropped."""
        settings = config.apply(self.settings, [("evolution.generations", generations)])
        with self._transaction() as execute:
            execute("UPDATE meta SET value = ? WHERE key = 'settings'", (json.dumps(settings.model_dump()),))
            execute("DELETE FROM results")
        _write_atomically(self.path / "settings.toml", config.to_toml(settings))
        self.settings = settings

    def save_results(self, results: Sequence[Result]) -> None:
        """Commit the final comparison, in place of an earlier one."""
        with self._transaction() as execute:
            execute("DELETE FROM results")
            for result in results:
                execute("INSERT INTO results VALUES (?, ?, ?, ?, ?, ?, ?, ?)", tuple(result))

    def results(self) -> list[Result]:
        """Return the final comparison; empty until the run is finished."""
        rows = self._rows("SELECT * FROM results ORDER BY contender, part, data_order")
        results = [Result._make(row) for row in rows]
        return [r._replace(loss=float("inf")) if r.loss is None else r for r in results]

    def tickets(self, generation: int | None = None) -> Tickets:
        """Return all tickets by number, or the members of a generation in their places."""
        if generation is None:
            rows = self._rows("SELECT * FROM tickets ORDER BY number")
        else:
            rows = self._rows(
                "SELECT tickets.* FROM members JOIN tickets ON tickets.number = members.ticket "
                "WHERE members.generation = ? ORDER BY members.position",
                (generation,),
            )
        return Tickets(_ticket(row, self.spec) for row in rows)

    def keys(self) -> list[str]:
        """Return the duplicate keys of all tickets of the run."""
        return [key for (key,) in self._rows("SELECT key FROM tickets ORDER BY number")]

    def generations(self) -> Iterator[Generation]:
        """Yield the generations in order, each with its population and offspring."""
        everyone = {ticket.number: ticket for ticket in self.tickets()}
        rows = self._rows("SELECT * FROM generations ORDER BY number")
        for number, refused, immigrants, statistics, state, seconds, fitness_seconds, _ in rows:
            members = self._rows(
                "SELECT ticket FROM members WHERE generation = ? ORDER BY position", (number,)
            )
            yield Generation(
                number,
                Tickets(everyone[ticket] for (ticket,) in members),
                Tickets(ticket for ticket in everyone.values() if ticket.generation == number),
                refused,
                immigrants,
                json.loads(statistics),
                json.loads(state),
                seconds,
                fitness_seconds,
            )

    def last(self) -> Generation | None:
        """Return the last committed generation, or None before the first."""
        found = None
        for found in self.generations():  # noqa: B007 - the last one is meant
            pass
        return found

    @property
    def finished(self) -> bool:
        """Whether all generations and the final comparison are there."""
        return self.progress() == self.settings.evolution.generations and bool(self.results())

    def progress(self) -> int:
        """Return the number of the last committed generation, −1 before the first."""
        ((number,),) = self._rows("SELECT coalesce(max(number), -1) FROM generations")
        return int(number)

    def _rows(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._connection.execute(query, parameters).fetchall()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[Any]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self._connection.execute
            self._connection.execute("COMMIT")
        except BaseException:
            # The error that brought us here is the one to report, also where SQLite rolled back by itself.
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            raise


def check_name(name: str) -> str:
    """Return a run's name if it is one folder inside ``runs/``; raises :class:`BadInput` otherwise."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise BadInput(
            "a run's name is up to 100 letters, digits, '.', '_' and '-', beginning with a letter or digit, "
            f"but got {name!r}"
        )
    return name


def check_free(root: Path, name: str) -> None:
    """Raise :class:`BadInput` for a name that cannot be given to a new run in ``root``."""
    check_name(name)
    if (root / name).exists():
        raise BadInput(
            f"run {name!r} exists already in {str(root)!r}; continue it with --resume {name}, "
            "or choose another --name"
        )


def counting_name(root: Path, settings: Settings) -> str:
    """Return the next free readable name, e.g. ``digits-mlp-003``."""
    words = [settings.data.name, settings.model.name]
    stems = [Path(w.rpartition(":")[0]).stem if ".py:" in w else w.partition(":")[0] for w in words]
    stem = "-".join(re.sub(r"[^A-Za-z0-9_]+", "_", s).strip("_")[:30] or "run" for s in stems)
    taken = [re.fullmatch(rf"{re.escape(stem)}-(\d+)", path.name) for path in root.glob(f"{stem}-*")]
    return f"{stem}-{1 + max((int(match[1]) for match in taken if match), default=0):03d}"


def pruned_name(settings: Settings) -> str:
    """Return what the final comparison calls the pruner's own mask."""
    return f"{settings.seeding.method.rpartition(':')[2]}, same initialization"


def contenders(settings: Settings) -> list[str]:
    """Return the names of the final comparison in the order of its table."""
    return [BEST, pruned_name(settings), RANDOM, DENSE]


def list_runs(root: Path) -> list[Path]:
    """Return the run folders inside ``root``, by name."""
    if not root.is_dir():
        return []
    return sorted(file.parent for file in root.glob("*/run.sqlite") if not file.parent.name.startswith("."))


def _connect(file: Path, write: bool) -> sqlite3.Connection:
    location = file.resolve().as_uri()
    if write:
        connection = sqlite3.connect(f"{location}?mode=rw", uri=True, isolation_level=None)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        return connection
    # A reader of a WAL file writes a little beside it; where it may not, nobody else writes either.
    mode = "mode=ro" if os.access(file.parent, os.W_OK) else "mode=ro&immutable=1"
    return sqlite3.connect(f"{location}?{mode}", uri=True, isolation_level=None)


def _lock(path: Path) -> Any:
    """Lock the run for one writer; the lock goes with the process, also when it is killed."""
    try:
        import fcntl
    except ImportError:  # no such locks on this system: SQLite still lets only one transaction in
        return None
    file = (path / "run.lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise BadInput(
            f"run {path.name!r} is being written by another process; wait for it or stop it"
        ) from error
    return file


def _write_atomically(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _ticket_row(ticket: Ticket) -> tuple[Any, ...]:
    trained, pruned = ticket.initialization, ticket.pruned_from
    return (
        ticket.number,
        ticket.generation,
        pack(ticket.mask),
        ticket.digest,
        ticket.key,
        ticket.operator,
        json.dumps(ticket.parents),
        *(trained or (None, None)),
        *(pruned or (None, None)),
        None if ticket.diverged else ticket.score,
        json.dumps(ticket.measures),
    )


def _ticket(row: Sequence[Any], spec: MaskSpec) -> Ticket:
    number, generation, mask, _, key, operator, parents, scheme, seed, pruned_scheme, pruned_seed = row[:11]
    ticket = Ticket(
        unpack(mask, spec),
        None if scheme is None else Initialization(scheme, seed),
        None if pruned_scheme is None else Initialization(pruned_scheme, pruned_seed),
        operator,
        generation,
        tuple(json.loads(parents)),
        number,
        key,
        measures=json.loads(row[12]),
    )
    ticket.fitness.values = (float("-inf") if row[11] is None else row[11],)
    return ticket
