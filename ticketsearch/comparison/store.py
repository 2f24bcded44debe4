"""The store of a comparison: one SQLite file of masks and final results, each committed as it comes."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ticketsearch import settings as config
from ticketsearch.comparison.methods import FoundMask
from ticketsearch.comparison.plan import Cell, ComparisonPlan
from ticketsearch.comparison.schema import CELLS, COMPARISON, CONTENT, META, RESULTS, TIMES, TIMES_SCHEMA
from ticketsearch.cost import Spent
from ticketsearch.errors import BadInput
from ticketsearch.masks import MaskSpec, check_spec, pack, unpack
from ticketsearch.settings import Settings
from ticketsearch.storage import Database, transaction, validated

__all__ = ["ComparisonStore", "FinalResult", "FinalTraining"]


class FinalTraining(NamedTuple):
    """One mask to be trained and tested: a cell's mask as it is (control ``""``), or a control."""

    cell: Cell
    control: str


class FinalResult(NamedTuple):
    """Loss and accuracy of one final training on the test split; the loss is infinite if it diverged."""

    loss: float
    accuracy: float


class ComparisonStore(Database):
    """The folder of a comparison, open for reading, or by one process for writing."""

    kind = COMPARISON
    content: dict[str, Any]
    settings: Settings
    spec: MaskSpec

    def _load(self) -> None:
        self.content = {row.key: row.value for row in self._read(META)}
        content = validated(CONTENT, self.content, "meta")
        self.settings = config.stored(content.settings)
        self.spec = check_spec(content.spec)

    def _migrate(self) -> None:
        with transaction(self._connection) as execute:
            execute(TIMES_SCHEMA)
            execute(f"PRAGMA user_version = {COMPARISON.version}")

    @classmethod
    def create(cls, path: Path, plan: ComparisonPlan) -> ComparisonStore:
        """Open the comparison of a plan in a folder for writing; make both if they do not exist.

        More methods, densities, initializations and data orders may be added to an existing comparison.
        Raises :class:`BadInput` for a folder with another comparison or other files in it, or one that
        another process writes.
        """
        store = cls.make(path, partial(_fill, content=_content(plan)))
        try:
            store._refuse_changes(plan)
        except BaseException:
            store.close()
            raise
        return store

    def _refuse_changes(self, plan: ComparisonPlan) -> None:
        wanted = _content(plan)
        for name, (old, new) in config.changes(self.settings, plan.settings).items():
            raise self._changed(name, old, new)
        if self.content["budget"] != wanted["budget"]:
            raise self._changed("the budget", self.content["budget"], plan.budget)
        other_network = self.spec.signature != plan.spec.signature
        other_data = self.content["fingerprint"] != wanted["fingerprint"]
        for differs, subject in ((other_data, "of other data"), (other_network, "of another network")):
            if differs:
                raise BadInput(
                    f"the comparison in {str(self.path)!r} is {subject}; put them back, or give another --out"
                )
        if self.content["spec"] != wanted["spec"]:
            raise BadInput(
                f"the comparison in {str(self.path)!r} was begun by a version with other rules for the "
                "weights of this network that can be live, so that new masks would not compare with its "
                "masks: it can be read, but not go on; give another --out"
            )

    def _changed(self, name: str, old: Any, new: Any) -> BadInput:
        return BadInput(
            f"a comparison goes on with its own settings, but {name} is {old!r} in {str(self.path)!r} and "
            f"{new!r} here; give the same, or another --out"
        )

    def cells(self) -> dict[Cell, FoundMask]:
        """Return the masks that are stored."""
        seconds = self._seconds()
        return {
            Cell(row.method, row.density, row.initialization): FoundMask(
                unpack(row.mask, self.spec),
                Spent(row.evaluations, row.steps, row.flops),
                tuple(row.trail),
                row.validation,
                row.candidates,
                seconds.get(Cell(row.method, row.density, row.initialization)),
            )
            for row in self._read(CELLS, context=self.spec)
        }

    def _seconds(self) -> dict[Cell, float]:
        """Return the processor seconds of masks; of files of schema 1, which have none, an empty one."""
        rows = self._read(TIMES) if self._version == COMPARISON.version else []
        return {Cell(row.method, row.density, row.initialization): row.seconds for row in rows}

    def add_cells(self, masks: Iterable[tuple[Cell, FoundMask]]) -> None:
        """Commit masks."""
        with self._commit() as execute:
            for cell, (mask, spent, best_so_far, validation, candidates, seconds) in masks:
                cost = spent.evaluations, spent.steps, spent.flops
                row = (*cell, pack(mask), *cost, json.dumps(best_so_far), validation, candidates)
                execute(CELLS.insert, row)
                if seconds is not None:
                    execute(TIMES.insert, (*cell, seconds))

    def results(self) -> dict[FinalTraining, dict[int, FinalResult]]:
        """Return the final results that are stored, by data order."""
        cells, trained = self.cells(), dict[FinalTraining, dict[int, FinalResult]]()
        for row in self._read(RESULTS):
            training = FinalTraining(Cell(row.method, row.density, row.initialization), row.control)
            with self._validation():
                if training.cell not in cells:
                    raise ValueError(f"there are results of {training.cell}, but no mask")
            result = FinalResult(math.inf if row.loss is None else row.loss, row.accuracy)
            trained.setdefault(training, {})[row.data_order] = result
        for training, results in trained.items():
            with self._validation():
                if set(results) != set(range(len(results))):
                    raise ValueError(f"results of {training.cell} are not of the first data orders")
        return trained

    def add_results(self, training: FinalTraining, results: Mapping[int, FinalResult]) -> None:
        """Commit the final results of some data orders."""
        with self._commit() as execute:
            for order, (loss, accuracy) in results.items():
                stored_loss = loss if math.isfinite(loss) else None
                execute(RESULTS.insert, (*training.cell, training.control, order, stored_loss, accuracy))


def _content(plan: ComparisonPlan) -> dict[str, Any]:
    """Return everything that determines the content of a cell, as JSON has it."""
    content = {
        "settings": plan.settings.model_dump(),
        "budget": plan.budget,
        "fingerprint": plan.fingerprint,
        "spec": plan.spec.to_json(),
    }
    as_json: dict[str, Any] = json.loads(json.dumps(content, default=str))
    return as_json


def _fill(connection: sqlite3.Connection, content: Mapping[str, Any]) -> None:
    connection.executemany(META.insert, [(key, json.dumps(value)) for key, value in content.items()])
