"""Bundles: columns of groups that may be exchanged become units of an additional group.

The groups at one position of all columns of a bundle become one group, and the columns themselves become
units, each joined to the live units of its groups. A renumbering that keeps these joints renumbers within
groups and exchanges whole columns, so the rest of the package needs no special case for bundles.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ticketsearch.masks import Group, Mask, MaskSpec, Piece
from ticketsearch.typing import Indices

__all__ = ["Marks", "Merger", "merger"]

Part = NDArray[Any]
# A group and the labels of its units.
Marks = tuple[int, NDArray[np.uint64]]


class Merger(NamedTuple):
    """The spec in which columns are units, and the maps to it and back.

    Attributes
    ----------
    spec : the merged spec, without layers: its last groups are the columns of each bundle, its last pieces
        join columns to the units of each place.
    groups : for each group its merged group, and its first unit there.
    pieces : for each piece its merged piece, and its first target and first source there.
    joints : for each piece of the columns the groups at its position, column by column.
    """

    spec: MaskSpec
    groups: tuple[tuple[int, int], ...]
    pieces: tuple[tuple[int, int, int], ...]
    joints: tuple[tuple[int, ...], ...]

    def merged(
        self, parts: list[Part], units: list[Mask], marks: list[Marks]
    ) -> tuple[list[Part], list[Mask], list[Marks]]:
        """Return parts, live units and labels of units of the merged spec.

        A column is live if one of its units is.
        """
        kind = parts[0].dtype
        whole = [np.zeros(shape, dtype=kind) for shape in self.spec.piece_shapes]
        for (piece, target, source), part in zip(self.pieces, parts, strict=True):
            rows, columns, _ = part.shape
            start = 0 if self.spec.pieces[piece].diagonal else source
            whole[piece][target : target + rows, start : start + columns] = part
        alive = [np.zeros(group.size, dtype=np.bool_) for group in self.spec.groups]
        for (group, start), living in zip(self.groups, units, strict=True):
            alive[group][start : start + len(living)] = living
        first = len(whole) - len(self.joints)
        for joint, (index, groups) in zip(
            self.spec.pieces[first:], enumerate(self.joints, first), strict=True
        ):
            columns, numbers = np.nonzero([units[group] for group in groups])
            alive[joint.target][columns] = True
            whole[index][columns, columns * len(units[groups[0]]) + numbers] = 1
        return whole, alive, [*self._marked(marks)]

    def _marked(self, marks: list[Marks]) -> Iterator[Marks]:
        """Yield the labels of the merged groups' units."""
        merged: dict[int, NDArray[np.uint64]] = {}
        for part_of, labels in marks:
            group, start = self.groups[part_of]
            if group not in merged:
                merged[group] = np.zeros((self.spec.groups[group].size, labels.shape[1]), dtype=np.uint64)
            merged[group][start : start + len(labels)] = labels
        yield from merged.items()

    def parted(self, orders: dict[int, Indices], spec: MaskSpec) -> tuple[dict[int, Indices], list[Indices]]:
        """Return the orders of the hidden groups, and those of the columns of each bundle."""
        parted = {}
        for group in spec.hidden:
            whole, start = self.groups[group]
            numbers = orders[whole] - start
            parted[group] = numbers[(numbers >= 0) & (numbers < spec.groups[group].size)]
        first = len(self.spec.groups) - len(spec.bundles)
        return parted, [orders[first + bundle] for bundle in range(len(spec.bundles))]

    def names(self, units: list[list[str]]) -> list[list[str]]:
        """Return the names of the merged spec's units, given those of the groups' units."""
        names = [[f"{group.name}[{unit}]" for unit in range(group.size)] for group in self.spec.groups]
        for (group, start), part in zip(self.groups, units, strict=True):
            names[group][start : start + len(part)] = part
        return names


@lru_cache(maxsize=16)
def merger(spec: MaskSpec) -> Merger:
    """Return the merger of a spec's bundles."""
    first, starts = list(range(len(spec.groups))), [0] * len(spec.groups)
    for bundle in spec.bundles:
        for position, column in enumerate(bundle.columns):
            for group, alike in zip(column, bundle.columns[0], strict=True):
                first[group], starts[group] = alike, position * spec.groups[group].size
    kept = sorted(set(first))
    place = {group: index for index, group in enumerate(kept)}
    sizes = np.bincount(first, [group.size for group in spec.groups]).astype(int).tolist()
    groups = [spec.groups[group]._replace(size=sizes[group]) for group in kept]
    pieces: dict[tuple[int, ...], Piece] = {}
    parts = []
    for index, piece in enumerate(spec.pieces):
        turn = spec.twins[piece.layer, piece.target, piece.source].index(index)
        target, source = place[first[piece.target]], place[first[piece.source]]
        key = piece.layer, target, source, turn
        pieces.setdefault(key, piece._replace(target=target, source=source))
        parts.append((list(pieces).index(key), starts[piece.target], starts[piece.source]))
    joins, joints = list(pieces.values()), []
    for bundle in spec.bundles:
        groups.append(Group(bundle.name, len(bundle.columns), "hidden"))
        for row in zip(*bundle.columns, strict=True):
            joins.append(Piece(-1, len(groups) - 1, place[row[0]]))
            joints.append(row)
    merged = MaskSpec(spec.layers, tuple(groups), tuple(joins), ())
    places = tuple((place[group], start) for group, start in zip(first, starts, strict=True))
    return Merger(merged, places, tuple(parts), tuple(joints))
