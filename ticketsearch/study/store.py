"""The store of a study: one SQLite file of masks, pairs and draws, each committed as it comes."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ticketsearch.databases import Database
from ticketsearch.errors import BadInput
from ticketsearch.masks import MaskSpec, digest
from ticketsearch.runs.schema import transaction
from ticketsearch.study.plan import Outline, Plan, Sizes
from ticketsearch.study.schema import STUDY
from ticketsearch.study.settings import settings

__all__ = ["Observed", "Store", "StoredMask", "identity"]

# Sizes of a plan that a study may be extended in.
GROWING = ("draws", "aligned_draws")
Integers = NDArray[np.int64]


class StoredMask(NamedTuple):
    """A mask as bits, and where its initial weights are positive, empty if that is not known.

    ``drawn`` counts the kept weights that the pruner drew among equal scores.
    """

    bits: bytes
    signs: bytes
    drawn: int = 0


class Observed(NamedTuple):
    """What was found of the pairs of a set of masks.

    ``raw`` and ``aligned`` are counts ``(1 or 2, pairs, layers)``; ``exact`` is ``(pairs,)`` bool, ``keys``
    the masks' canonical keys, ``iou`` and ``aligned_iou`` ``(pairs,)`` for those who read the file by SQL.
    """

    raw: Integers
    aligned: Integers
    exact: NDArray[np.bool_]
    keys: tuple[str, ...]
    iou: NDArray[np.float64]
    aligned_iou: NDArray[np.float64]


def content_of(plan: Plan) -> dict[str, Any]:
    """Return all that determines the content of a study as JSON has it; masks that are given as digests."""
    content = {
        "subject": dict(plan.subject),
        "sizes": plan.sizes._asdict(),
        "seed": plan.seed,
        "outlines": plan.outlines,
        "prunings": plan.prunings,
        "options": plan.options,
        "pruning": plan.pruning,
        "given": {name: digest(mask) for name, mask in plan.given.items()},
        "input_shape": plan.input_shape,
        "spec": plan.spec.to_json(),
    }
    found: dict[str, Any] = json.loads(json.dumps(content, default=str))
    return found


def identity(plan: Plan) -> str:
    """Return eight letters and digits that tell a plan from others, but for its draws, which may grow."""
    content = content_of(plan)
    content["sizes"] = {name: n for name, n in content["sizes"].items() if name not in GROWING}
    return hashlib.blake2b(json.dumps(content).encode(), digest_size=4).hexdigest()


class Store(Database):
    """The folder of a study, open for reading, or by one process for writing."""

    kind = STUDY

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: Any = None) -> None:
        super().__init__(path, connection, lock)
        ((text,),) = self._rows("SELECT value FROM meta WHERE key = 'plan'")
        self.content = content = json.loads(text)
        self.spec = MaskSpec.from_json(content["spec"])
        self.input_shape = tuple(content["input_shape"])
        self.sizes = Sizes(**content["sizes"])
        self.seed: int = content["seed"]
        self.outlines = tuple(
            Outline(kind, title, method, density, tuple(names), tuple(masks), signed, leaders)
            for kind, title, method, density, names, masks, signed, leaders in content["outlines"]
        )

    @classmethod
    def create(cls, path: Path, plan: Plan) -> Store:
        """Open the study of a plan in a folder for writing, making both where they are not there.

        A study that is there may get more draws. Raises :class:`BadInput` for a folder with another study or
        other things in it, or one that another process writes.
        """
        store = cls.make(path, partial(_fill, plan=plan))
        try:
            store._extend(plan)
        except BaseException:
            store.close()
            raise
        return store

    def _extend(self, plan: Plan) -> None:
        """Go on with a plan that is the stored one, or has more draws."""
        wanted = content_of(plan)
        sizes = {name: n for name, n in wanted["sizes"].items() if name in GROWING}
        stored = {**self.content, "sizes": self.content["sizes"] | sizes}
        if stored != wanted:
            raise BadInput(_difference(stored, wanted, self.path))
        for name, draws in sizes.items():
            if draws < self.content["sizes"][name]:
                raise BadInput(
                    f"the study in {str(self.path)!r} has {self.content['sizes'][name]} "
                    f"{name.replace('_', ' ')} and can only be extended, but got {draws}; "
                    "give as many, or another --out"
                )
        with transaction(self._connection) as execute:
            execute("UPDATE meta SET value = ? WHERE key = 'plan'", (json.dumps(wanted),))
        self.content, self.sizes = wanted, plan.sizes

    def masks(self) -> dict[str, StoredMask]:
        """Return the masks that are there, by name."""
        drawn = self._drawn_weights()
        rows = self._rows("SELECT name, bits, signs FROM masks")
        return {name: StoredMask(bits, signs, drawn.get(name, 0)) for name, bits, signs in rows}

    def add_mask(self, name: str, mask: StoredMask) -> None:
        """Commit a mask."""
        with transaction(self._connection) as execute:
            execute("INSERT INTO masks VALUES (?, ?, ?)", (name, mask.bits, mask.signs))
            if mask.drawn:
                drawn = json.dumps({**self._drawn_weights(), name: mask.drawn})
                execute("INSERT OR REPLACE INTO meta VALUES ('drawn', ?)", (drawn,))

    def _drawn_weights(self) -> dict[str, int]:
        """Return how many kept weights were drawn among equal scores, by mask; only of masks with some."""
        rows = self._rows("SELECT value FROM meta WHERE key = 'drawn'")
        found: dict[str, int] = json.loads(rows[0][0]) if rows else {}
        return found

    def observed(self, case: int) -> Observed | None:
        """Return what was found of the pairs of a set, None before that."""
        rows = self._rows(
            "SELECT raw_counts, aligned_counts, exact, iou, aligned FROM pairs WHERE case_number = ? "
            "ORDER BY number",
            (case,),
        )
        if not rows:
            return None
        ((keys,),) = self._rows("SELECT keys FROM cases WHERE number = ?", (case,))
        raw, aligned = (np.stack([self._counts(row[i], 1)[:, 0] for row in rows], axis=1) for i in (0, 1))
        exact, iou, aligned_iou = (np.array([row[i] for row in rows]) for i in (2, 3, 4))
        return Observed(raw, aligned, exact == 1, tuple(json.loads(keys)), iou, aligned_iou)

    def add_observed(self, case: int, found: Observed) -> None:
        """Commit what was found of the pairs of a set."""
        names = self.outlines[case].names
        with transaction(self._connection) as execute:
            execute("UPDATE cases SET keys = ? WHERE number = ?", (json.dumps(found.keys), case))
            for pair, (first, second) in enumerate(zip(*np.triu_indices(len(names), 1), strict=True)):
                row = (
                    *(case, pair, names[first], names[second], int(found.exact[pair])),
                    *(float(found.iou[pair]), float(found.aligned_iou[pair])),
                    *(_bytes(counts[:, pair : pair + 1]) for counts in (found.raw, found.aligned)),
                )
                execute("INSERT INTO pairs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    def drawn(self, case: int, null: str) -> set[int]:
        """Return the numbers of the draws that are there."""
        rows = self._rows("SELECT number FROM draws WHERE case_number = ? AND null_model = ?", (case, null))
        return {number for (number,) in rows}

    def draws(self, case: int, null: str) -> Integers | None:
        """Return the counts of the draws in order, ``(draws, 1 or 2, pairs, layers)``; None without any."""
        rows = self._rows(
            "SELECT counts FROM draws WHERE case_number = ? AND null_model = ? ORDER BY number", (case, null)
        )
        pairs = len(self.outlines[case].names) * (len(self.outlines[case].names) - 1) // 2
        return np.stack([self._counts(counts, pairs) for (counts,) in rows]) if rows else None

    def add_draws(self, case: int, null: str, found: Mapping[int, Integers]) -> None:
        """Commit draws by number."""
        with transaction(self._connection) as execute:
            for number, counts in found.items():
                execute("INSERT INTO draws VALUES (?, ?, ?, ?)", (case, null, number, _bytes(counts)))

    def _counts(self, blob: bytes, pairs: int) -> Integers:
        return np.frombuffer(blob, "<u4").reshape(-1, pairs, len(self.spec.layers)).astype(np.int64)


def _fill(connection: sqlite3.Connection, plan: Plan) -> None:
    connection.execute("INSERT INTO meta VALUES ('plan', ?)", (json.dumps(content_of(plan)),))
    rows = [(number, outline.kind, outline.title) for number, outline in enumerate(plan.outlines)]
    connection.executemany("INSERT INTO cases (number, kind, title) VALUES (?, ?, ?)", rows)


def _bytes(counts: Integers) -> bytes:
    return counts.astype("<u4").tobytes()


def _difference(stored: Mapping[str, Any], given: Mapping[str, Any], path: Path) -> str:
    """Return the one line for a study of another plan: the first thing in which they differ."""
    old, new = settings(stored), settings(given)
    what = "other masks there"
    for name in {**old, **new}:
        if old.get(name) != new.get(name):
            what = f"{name} {old.get(name, 'not given')} there and {new.get(name, 'not given')} here"
            break
    else:
        if stored["spec"] != given["spec"]:
            return f"the study in {str(path)!r} is of another network; give another --out"
    return (
        f"a study goes on with its own settings, but that in {str(path)!r} has {what}; "
        "give the same, or another --out"
    )
