"""The store of a contest: one SQLite file of masks and final results, each committed as it comes."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import IO, Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, Field, Json, TypeAdapter

from ticketsearch import settings as config
from ticketsearch.comparison.methods import Made
from ticketsearch.comparison.plan import Cell, Plan
from ticketsearch.comparison.schema import CONTEST
from ticketsearch.cost import Spent
from ticketsearch.errors import BadInput
from ticketsearch.masks import MaskSpec, check_spec, pack, unpack
from ticketsearch.storage import Count, Database, Finite, Share, Table, Word, validated

__all__ = ["Outcome", "Row", "Store"]


class Row(NamedTuple):
    """What is trained in the end: a cell's mask as it is (control ``""``), or as a control."""

    cell: Cell
    control: str


class Outcome(NamedTuple):
    """What one final training came to on the test split; an infinite loss if it diverged."""

    loss: float
    accuracy: float


class Content(BaseModel):
    """All that determines the content of a cell."""

    settings: dict[str, Any]
    budget: int | None
    fingerprint: str
    spec: MaskSpec


class MetaRow(NamedTuple):
    """A part of the content."""

    key: str
    value: Json[Any]


class CellRow(NamedTuple):
    """A mask, and what it took."""

    method: Word
    density: Share
    initialization: Count
    mask: bytes
    evaluations: Count
    steps: Count
    flops: Count
    trail: Json[list[tuple[Annotated[int, Field(ge=0)], float]]]
    validation: float | None
    candidates: Annotated[int, Field(ge=1, lt=2**63)]


class ResultRow(NamedTuple):
    """What a final training came to."""

    method: Word
    density: Share
    initialization: Count
    control: Literal["", "shuffled", "reinitialized"]
    data_order: Count
    loss: Finite | None
    accuracy: Share


def _check_cell(row: CellRow, spec: MaskSpec) -> None:
    unpack(row.mask, spec)


META = Table("meta", MetaRow)
CELLS = Table("cells", CellRow, _check_cell)
RESULTS = Table("results", ResultRow)
CONTENT = TypeAdapter(Content)


class Store(Database):
    """The folder of a contest, open for reading, or by one process for writing."""

    kind = CONTEST

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: IO[bytes] | None = None) -> None:
        super().__init__(path, connection, lock)
        with self._validation():
            self.content: dict[str, Any] = {row.key: row.value for row in self._read(META)}
            found = validated(CONTENT, self.content, "meta")
            self.settings = config.stored(found.settings)
            self.spec = check_spec(found.spec)

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
        other_network = self.spec.signature != plan.spec.signature
        other_data = self.content["fingerprint"] != wanted["fingerprint"]
        for differs, what in ((other_data, "of other data"), (other_network, "of another network")):
            if differs:
                raise BadInput(
                    f"the comparison in {str(self.path)!r} is {what}; put them back, or give another --out"
                )
        if self.content["spec"] != wanted["spec"]:
            raise BadInput(
                f"the comparison in {str(self.path)!r} was begun by a version that told otherwise which "
                "weights of this network can be live, so that new masks would not compare with its own: it "
                "can be read, but not go on; give another --out"
            )

    def _changed(self, name: str, old: Any, new: Any) -> BadInput:
        return BadInput(
            f"a comparison goes on with its own settings, but {name} is {old!r} in {str(self.path)!r} and "
            f"{new!r} here; give the same, or another --out"
        )

    def cells(self) -> dict[Cell, Made]:
        """Return the masks that are there."""
        return {
            Cell(row.method, row.density, row.initialization): Made(
                unpack(row.mask, self.spec),
                Spent(row.evaluations, row.steps, row.flops),
                tuple(row.trail),
                row.validation,
                row.candidates,
            )
            for row in self._read(CELLS, context=self.spec)
        }

    def add_cells(self, made: Iterable[tuple[Cell, Made]]) -> None:
        """Commit masks."""
        with self._commit() as execute:
            for cell, (mask, spent, trail, validation, candidates) in made:
                taken = spent.evaluations, spent.steps, spent.flops
                row = (*cell, pack(mask), *taken, json.dumps(trail), validation, candidates)
                execute(CELLS.insert, row)

    def results(self) -> dict[Row, dict[int, Outcome]]:
        """Return the final results that are there, by data order."""
        cells, found = self.cells(), dict[Row, dict[int, Outcome]]()
        for each in self._read(RESULTS):
            row = Row(Cell(each.method, each.density, each.initialization), each.control)
            with self._validation():
                if row.cell not in cells:
                    raise ValueError(f"there are results of {row.cell}, but no mask")
            outcome = Outcome(math.inf if each.loss is None else each.loss, each.accuracy)
            found.setdefault(row, {})[each.data_order] = outcome
        for row, outcomes in found.items():
            with self._validation():
                if set(outcomes) != set(range(len(outcomes))):
                    raise ValueError(f"results of {row.cell} are not of the first data orders")
        return found

    def add_results(self, row: Row, outcomes: Mapping[int, Outcome]) -> None:
        """Commit the final results of some data orders."""
        with self._commit() as execute:
            for order, (loss, accuracy) in outcomes.items():
                known = loss if math.isfinite(loss) else None
                values = (*row.cell, row.control, order, known, accuracy)
                execute(RESULTS.insert, values)


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
    connection.executemany(META.insert, rows)
