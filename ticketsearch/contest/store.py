"""The store of a contest: one SQLite file of masks and final results, each committed as it comes."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ticketsearch import config
from ticketsearch.budget import Spent
from ticketsearch.contest.making import Made
from ticketsearch.contest.plan import Cell, Plan
from ticketsearch.contest.schema import CONTEST
from ticketsearch.databases import Database
from ticketsearch.errors import BadInput
from ticketsearch.masks import MaskSpec, pack, unpack
from ticketsearch.runs.schema import transaction

__all__ = ["Outcome", "Row", "Store"]


class Row(NamedTuple):
    """What is trained in the end: a cell's mask as it is (control ``""``), or as a control."""

    cell: Cell
    control: str


class Outcome(NamedTuple):
    """What one final training came to on the test split; an infinite loss if it diverged."""

    loss: float
    accuracy: float


class Store(Database):
    """The folder of a contest, open for reading, or by one process for writing."""

    kind = CONTEST

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: Any = None) -> None:
        super().__init__(path, connection, lock)
        self.content: dict[str, Any] = {
            k: json.loads(v) for k, v in self._rows("SELECT key, value FROM meta")
        }
        self.settings = config.stored(self.content["settings"])
        self.spec = MaskSpec.from_json(self.content["spec"])

    @classmethod
    def create(cls, path: Path, plan: Plan) -> Store:
        """Open the contest of a plan in a folder for writing, making both where they are not there.

        A contest that is there may get more methods, densities, initializations and data orders. Raises
        :class:`BadInput` for a folder with another contest or other things in it, or one that another process
        writes.
        """
        store = cls.make(path, partial(_fill, content=_content(plan)))
        try:
            store._refuse_changes(plan)
        except BaseException:
            store.close()
            raise
        return store

    def _refuse_changes(self, plan: Plan) -> None:
        wanted = _content(plan)
        for name, (old, new) in config.changes(self.settings, plan.settings).items():
            raise self._changed(name, old, new)
        if self.content["budget"] != wanted["budget"]:
            raise self._changed("the budget", self.content["budget"], plan.budget)
        for name, what in (("fingerprint", "of other data"), ("spec", "of another network")):
            if self.content[name] != wanted[name]:
                raise BadInput(
                    f"the comparison in {str(self.path)!r} is {what}; put them back, or give another --out"
                )

    def _changed(self, name: str, old: Any, new: Any) -> BadInput:
        return BadInput(
            f"a comparison goes on with its own settings, but {name} is {old!r} in {str(self.path)!r} and "
            f"{new!r} here; give the same, or another --out"
        )

    def cells(self) -> dict[Cell, Made]:
        """Return the masks that are there."""
        found = {}
        for method, density, number, mask, *spent, trail, validation, candidates in self._rows(
            "SELECT * FROM cells"
        ):
            points = tuple((int(flops), float(accuracy)) for flops, accuracy in json.loads(trail))
            found[Cell(method, density, number)] = Made(
                unpack(mask, self.spec), Spent(*spent), points, validation, candidates
            )
        return found

    def add_cells(self, made: Iterable[tuple[Cell, Made]]) -> None:
        """Commit masks."""
        with transaction(self._connection) as execute:
            for cell, (mask, spent, trail, validation, candidates) in made:
                taken = spent.evaluations, spent.steps, spent.flops
                row = (*cell, pack(mask), *taken, json.dumps(trail), validation, candidates)
                execute("INSERT INTO cells VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    def results(self) -> dict[Row, dict[int, Outcome]]:
        """Return the final results that are there, by data order."""
        found: dict[Row, dict[int, Outcome]] = {}
        for method, density, number, control, order, loss, accuracy in self._rows("SELECT * FROM results"):
            row = Row(Cell(method, density, number), control)
            outcome = Outcome(math.inf if loss is None else loss, accuracy)
            found.setdefault(row, {})[order] = outcome
        return found

    def add_results(self, row: Row, outcomes: Mapping[int, Outcome]) -> None:
        """Commit the final results of some data orders."""
        with transaction(self._connection) as execute:
            for order, (loss, accuracy) in outcomes.items():
                known = loss if math.isfinite(loss) else None
                values = (*row.cell, row.control, order, known, accuracy)
                execute("INSERT INTO results VALUES (?, ?, ?, ?, ?, ?, ?)", values)


def _content(plan: Plan) -> dict[str, Any]:
    """Return all that determines the content of a cell, as JSON has it."""
    content = {
        "settings": plan.settings.model_dump(),
        "budget": plan.budget,
        "fingerprint": plan.fingerprint,
        "spec": plan.spec.to_json(),
    }
    found: dict[str, Any] = json.loads(json.dumps(content, default=str))
    return found


def _fill(connection: sqlite3.Connection, content: Mapping[str, Any]) -> None:
    rows = [(key, json.dumps(value)) for key, value in content.items()]
    connection.executemany("INSERT INTO meta VALUES (?, ?)", rows)
