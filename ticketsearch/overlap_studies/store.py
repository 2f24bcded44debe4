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

from ticketsearch.errors import BadInput
from ticketsearch.masks import MaskSpec, digest
from ticketsearch.overlap_studies.plan import MaskSet, OverlapPlan, Sizes
from ticketsearch.overlap_studies.schema import (
    CASES,
    CONTENT,
    DRAWN,
    DRAWS,
    MASKS,
    META,
    OVERLAP_STUDY,
    PAIRS,
    DrawRow,
)
from ticketsearch.overlap_studies.settings import settings
from ticketsearch.storage import Database, validated
from ticketsearch.typing import Floats, Integers

__all__ = ["OverlapStore", "PairOverlaps", "StoredMask", "plan_digest"]

# Sizes of a plan that may grow when a study goes on.
GROWING = ("draws", "aligned_draws")


class StoredMask(NamedTuple):
    """A mask as bits, and the signs of its initial weights as bits (positive: 1), empty if unknown.

    ``drawn`` counts the kept weights that the pruner drew among equal scores.
    """

    bits: bytes
    signs: bytes
    drawn: int = 0


class PairOverlaps(NamedTuple):
    """The overlaps of all pairs of a set of masks.

    ``raw`` and ``aligned`` are counts ``(1 or 2, pairs, layers)``; ``exact`` is ``(pairs,)`` bool, ``keys``
    are the masks' canonical keys, ``iou`` and ``aligned_iou`` ``(pairs,)``, for readers of the file by SQL.
    """

    raw: Integers
    aligned: Integers
    exact: NDArray[np.bool_]
    keys: tuple[str, ...]
    iou: Floats
    aligned_iou: Floats


def content_of(plan: OverlapPlan) -> dict[str, Any]:
    """Return everything that determines the content of a study, as JSON has it; given masks as digests."""
    content = {
        "subject": dict(plan.subject),
        "sizes": plan.sizes._asdict(),
        "seed": plan.seed,
        "outlines": plan.mask_sets,
        "prunings": plan.prunings,
        "options": plan.options,
        "pruning": plan.pruning,
        "given": {name: digest(mask) for name, mask in plan.given.items()},
        "input_shape": plan.input_shape,
        "spec": plan.spec.to_json(),
    }
    as_json: dict[str, Any] = json.loads(json.dumps(content, default=str))
    return as_json


def plan_digest(plan: OverlapPlan) -> str:
    """Return a digest of eight hexadecimal digits of a plan without its draws, which may grow."""
    content = content_of(plan)
    content["sizes"] = {name: n for name, n in content["sizes"].items() if name not in GROWING}
    return hashlib.blake2b(json.dumps(content).encode(), digest_size=4).hexdigest()


class OverlapStore(Database):
    """The folder of a study, open for reading, or by one process for writing."""

    kind = OVERLAP_STUDY
    content: dict[str, Any]
    spec: MaskSpec
    input_shape: tuple[int, ...]
    sizes: Sizes
    seed: int
    mask_sets: tuple[MaskSet, ...]

    def _load(self) -> None:
        rows = self._read(META, "WHERE key = 'plan'")
        if not rows:
            raise ValueError("table meta has no 'plan'")
        plan = validated(CONTENT, rows[0].value, "plan")
        self.content = rows[0].value
        self.spec, self.input_shape, self.seed = plan.spec, plan.input_shape, plan.seed
        self.sizes = Sizes(**{str(name): size for name, size in plan.sizes.items()})
        self.mask_sets = tuple(plan.outlines)

    @classmethod
    def create(cls, path: Path, plan: OverlapPlan) -> OverlapStore:
        """Open the study of a plan in a folder for writing; make both if they do not exist.

        An existing study may get more draws. Raises :class:`BadInput` for a folder with another study or
        other files in it, or one that another process writes.
        """
        store = cls.make(path, partial(_fill, plan=plan))
        try:
            store._extend(plan)
        except BaseException:
            store.close()
            raise
        return store

    def _extend(self, plan: OverlapPlan) -> None:
        """Store a plan that equals the stored one, or has more draws."""
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
        """Return the masks that are stored, by name."""
        rows = self._read(MASKS, context=self.spec)
        drawn = self._drawn_weights()
        return {row.name: StoredMask(row.bits, row.signs, drawn.get(row.name, 0)) for row in rows}

    def masks_of(self, case: int) -> list[StoredMask]:
        """Return the masks of a set, all of which have been made."""
        stored, names = self.masks(), self.mask_sets[case].masks
        with self._validation():
            for name in names:
                if name not in stored:
                    raise ValueError(f"table masks has no {name!r}")
        return [stored[name] for name in names]

    def add_mask(self, name: str, mask: StoredMask) -> None:
        """Commit a mask."""
        with self._commit() as execute:
            execute(MASKS.insert, (name, mask.bits, mask.signs))
            if mask.drawn:
                drawn = json.dumps({**self._drawn_weights(), name: mask.drawn})
                execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('drawn', ?)", (drawn,))

    def _drawn_weights(self) -> dict[str, int]:
        """Return the number of kept weights drawn among equal scores, by mask; only of masks with some."""
        rows = self._read(META, "WHERE key = 'drawn'")
        with self._validation():
            return validated(DRAWN, rows[0].value, "drawn") if rows else {}

    def pair_overlaps(self, case: int) -> PairOverlaps | None:
        """Return the overlaps of the pairs of a set, None before they are stored."""
        rows = self._read(PAIRS, "WHERE case_number = ? ORDER BY number", (case,))
        if not rows:
            return None
        masks = len(self.mask_sets[case].names)
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
        return PairOverlaps(raw, aligned, exact == 1, keys[0], iou, aligned_iou)

    def add_pair_overlaps(self, case: int, overlaps: PairOverlaps) -> None:
        """Commit the overlaps of the pairs of a set."""
        names = self.mask_sets[case].names
        with self._commit() as execute:
            execute("UPDATE cases SET keys = ? WHERE number = ?", (json.dumps(overlaps.keys), case))
            for pair, (first, second) in enumerate(zip(*np.triu_indices(len(names), 1), strict=True)):
                row = (
                    *(case, pair, names[first], names[second], int(overlaps.exact[pair])),
                    *(float(overlaps.iou[pair]), float(overlaps.aligned_iou[pair])),
                    *(_bytes(counts[:, pair : pair + 1]) for counts in (overlaps.raw, overlaps.aligned)),
                )
                execute("INSERT INTO pairs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    def drawn(self, case: int, null: str) -> set[int]:
        """Return the numbers of the draws that are stored."""
        return {row.number for row in self._draws(case, null)}

    def draws(self, case: int, null: str) -> Integers | None:
        """Return the counts of the draws in order, ``(draws, 1 or 2, pairs, layers)``; None without any."""
        rows, masks = self._draws(case, null), len(self.mask_sets[case].names)
        if not rows:
            return None
        with self._validation():
            return np.stack([self._counts(row.counts, masks * (masks - 1) // 2) for row in rows])

    def _draws(self, case: int, null: str) -> list[DrawRow]:
        return self._read(DRAWS, "WHERE case_number = ? AND null_model = ? ORDER BY number", (case, null))

    def add_draws(self, case: int, null: str, draws: Mapping[int, Integers]) -> None:
        """Commit draws by number."""
        with self._commit() as execute:
            for number, counts in draws.items():
                execute("INSERT INTO draws VALUES (?, ?, ?, ?)", (case, null, number, _bytes(counts)))

    def _counts(self, blob: bytes, pairs: int) -> Integers:
        """Return stored counts ``(1 or 2, pairs, layers)``; raises :class:`ValueError` for another size."""
        return np.frombuffer(blob, "<u4").reshape(-1, pairs, len(self.spec.layers)).astype(np.int64)


def _fill(connection: sqlite3.Connection, plan: OverlapPlan) -> None:
    connection.execute(META.insert, ("plan", json.dumps(content_of(plan))))
    rows = [(number, mask_set.kind, mask_set.title) for number, mask_set in enumerate(plan.mask_sets)]
    connection.executemany("INSERT INTO cases (number, kind, title) VALUES (?, ?, ?)", rows)


def _bytes(counts: Integers) -> bytes:
    return counts.astype("<u4").tobytes()


def _difference(stored: Mapping[str, Any], given: Mapping[str, Any], path: Path) -> str:
    """Return the one line for a study of another plan: the first thing in which they differ."""
    old, new = settings(stored), settings(given)
    different = "other masks there"
    for name in {**old, **new}:
        if old.get(name) != new.get(name):
            different = f"{name} {old.get(name, 'not given')} there and {new.get(name, 'not given')} here"
            break
    else:
        if stored["spec"] != given["spec"]:
            return (
                f"the study in {str(path)!r} is of another network, or was begun by a version with other "
                "rules for the weights that can be live: it can be read but not go on; give another --out"
            )
    return (
        f"a study goes on with its own settings, but that in {str(path)!r} has {different}; "
        "give the same, or another --out"
    )
