"""The store of a study: one SQLite file of masks, pairs and draws, each committed as it comes."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import IO, Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, Json, TypeAdapter, model_validator

from ticketsearch.errors import BadInput
from ticketsearch.masks import MaskSpec, check_spec, digest, unpack
from ticketsearch.overlap_studies.plan import Outline, Plan, Sizes
from ticketsearch.overlap_studies.schema import STUDY
from ticketsearch.overlap_studies.settings import settings
from ticketsearch.storage import Count, Database, Share, Table, Word, validated

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


class Content(BaseModel):
    """The plan of a study as its file holds it."""

    subject: dict[Word, Word]
    sizes: dict[Literal["draws", "aligned_draws", "restarts", "orders"], Count]
    seed: Annotated[int, Field(ge=0)]
    outlines: list[Outline]
    prunings: list[tuple[Word, Share, tuple[Word, Annotated[int, Field(ge=0)]], Annotated[int, Field(ge=0)]]]
    options: dict[Word, dict[Word, Any]]
    pruning: dict[Word, Any]
    given: dict[Word, str]
    input_shape: tuple[Count, ...]
    spec: MaskSpec

    @model_validator(mode="after")
    def _agrees(self) -> Content:
        check_spec(self.spec)
        if set(self.sizes) != set(Sizes._fields) or self.sizes["restarts"] < 1:
            raise ValueError(f"sizes are {', '.join(Sizes._fields)}, restarts at least 1")
        for outline in self.outlines:
            if len(outline.names) != len(outline.masks) or len(outline.names) < 2:
                raise ValueError(f"set {outline.title!r} has not two masks or more, each with a name")
            if not 0 <= outline.leaders <= len(outline.names):
                raise ValueError(f"set {outline.title!r} has {outline.leaders} leaders")
        return self


class MetaRow(NamedTuple):
    """The plan."""

    key: str
    value: Json[Any]


class MaskRow(NamedTuple):
    """A mask, and the signs of its initial weights."""

    name: str
    bits: bytes
    signs: bytes


class CaseRow(NamedTuple):
    """The canonical keys of a set's masks, None before they are known."""

    number: Count
    keys: Json[tuple[str, ...]] | None


class PairRow(NamedTuple):
    """What was found of a pair."""

    case_number: Count
    number: Count
    exact: Literal[0, 1]
    iou: Share
    aligned: Share
    raw_counts: bytes
    aligned_counts: bytes


class DrawRow(NamedTuple):
    """What was counted in one draw of a null model."""

    number: Count
    counts: bytes


def _check_mask(row: MaskRow, spec: MaskSpec) -> None:
    unpack(row.bits, spec)
    if row.signs:
        unpack(row.signs, spec)


META = Table("meta", MetaRow)
MASKS = Table("masks", MaskRow, _check_mask)
CASES = Table("cases", CaseRow)
PAIRS = Table("pairs", PairRow)
DRAWS = Table("draws", DrawRow)
CONTENT = TypeAdapter(Content)
DRAWN: TypeAdapter[dict[str, int]] = TypeAdapter(dict[str, Count])


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

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: IO[bytes] | None = None) -> None:
        super().__init__(path, connection, lock)
        with self._validation():
            rows = self._read(META, "WHERE key = 'plan'")
            if not rows:
                raise ValueError("table meta has no 'plan'")
            found = validated(CONTENT, rows[0].value, "plan")
        self.content: dict[str, Any] = rows[0].value
        self.spec = found.spec
        self.input_shape = found.input_shape
        self.sizes = Sizes(**{str(name): size for name, size in found.sizes.items()})
        self.seed = found.seed
        self.outlines = tuple(found.outlines)

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
        with self._commit() as execute:
            execute("UPDATE meta SET value = ? WHERE key = 'plan'", (json.dumps(wanted),))
        self.content, self.sizes = wanted, plan.sizes

    def masks(self) -> dict[str, StoredMask]:
        """Return the masks that are there, by name."""
        rows = self._read(MASKS, context=self.spec)
        drawn = self._drawn_weights()
        return {row.name: StoredMask(row.bits, row.signs, drawn.get(row.name, 0)) for row in rows}

    def masks_of(self, case: int) -> list[StoredMask]:
        """Return the masks of a set, all of which have been made."""
        there = self.masks()
        with self._validation():
            for name in self.outlines[case].masks:
                if name not in there:
                    raise ValueError(f"table masks has no {name!r}")
        return [there[name] for name in self.outlines[case].masks]

    def add_mask(self, name: str, mask: StoredMask) -> None:
        """Commit a mask."""
        with self._commit() as execute:
            execute(MASKS.insert, (name, mask.bits, mask.signs))
            if mask.drawn:
                drawn = json.dumps({**self._drawn_weights(), name: mask.drawn})
                execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('drawn', ?)", (drawn,))

    def _drawn_weights(self) -> dict[str, int]:
        """Return how many kept weights were drawn among equal scores, by mask; only of masks with some."""
        rows = self._read(META, "WHERE key = 'drawn'")
        with self._validation():
            return validated(DRAWN, rows[0].value, "drawn") if rows else {}

    def observed(self, case: int) -> Observed | None:
        """Return what was found of the pairs of a set, None before that."""
        rows = self._read(PAIRS, "WHERE case_number = ? ORDER BY number", (case,))
        if not rows:
            return None
        masks = len(self.outlines[case].names)
        with self._validation():
            keys = [row.keys for row in self._read(CASES, "WHERE number = ?", (case,))]
            if [row.number for row in rows] != list(range(masks * (masks - 1) // 2)):
                raise ValueError(f"pairs of set {case} are not all there")
            if len(keys) != 1 or keys[0] is None or len(keys[0]) != masks:
                raise ValueError(f"keys of set {case} are not one a mask")
            raw, aligned = (
                np.stack([self._counts(counts, 1)[:, 0] for counts in column], axis=1)
                for column in zip(*((row.raw_counts, row.aligned_counts) for row in rows), strict=True)
            )
        exact, iou, aligned_iou = (
            np.array(column) for column in zip(*((r.exact, r.iou, r.aligned) for r in rows), strict=True)
        )
        return Observed(raw, aligned, exact == 1, keys[0], iou, aligned_iou)

    def add_observed(self, case: int, found: Observed) -> None:
        """Commit what was found of the pairs of a set."""
        names = self.outlines[case].names
        with self._commit() as execute:
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
        return {row.number for row in self._draws(case, null)}

    def draws(self, case: int, null: str) -> Integers | None:
        """Return the counts of the draws in order, ``(draws, 1 or 2, pairs, layers)``; None without any."""
        rows, masks = self._draws(case, null), len(self.outlines[case].names)
        if not rows:
            return None
        with self._validation():
            return np.stack([self._counts(row.counts, masks * (masks - 1) // 2) for row in rows])

    def _draws(self, case: int, null: str) -> list[DrawRow]:
        return self._read(DRAWS, "WHERE case_number = ? AND null_model = ? ORDER BY number", (case, null))

    def add_draws(self, case: int, null: str, found: Mapping[int, Integers]) -> None:
        """Commit draws by number."""
        with self._commit() as execute:
            for number, counts in found.items():
                execute("INSERT INTO draws VALUES (?, ?, ?, ?)", (case, null, number, _bytes(counts)))

    def _counts(self, blob: bytes, pairs: int) -> Integers:
        """Return stored counts ``(1 or 2, pairs, layers)``; raises :class:`ValueError` for another size."""
        return np.frombuffer(blob, "<u4").reshape(-1, pairs, len(self.spec.layers)).astype(np.int64)


def _fill(connection: sqlite3.Connection, plan: Plan) -> None:
    connection.execute(META.insert, ("plan", json.dumps(content_of(plan))))
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
            return (
                f"the study in {str(path)!r} is of another network, or was begun by a version that told "
                "otherwise which of its weights can be live: it can be read but not go on; give another --out"
            )
    return (
        f"a study goes on with its own settings, but that in {str(path)!r} has {what}; "
        "give the same, or another --out"
    )
