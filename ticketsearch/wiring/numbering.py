"""Numbering: neuron groups, pieces and bundles from units that are tied one by one."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from ticketsearch.masks import Bundle, Group, Layer, Piece, Segment
from ticketsearch.typing import Indices
from ticketsearch.wiring.steps import Axis

__all__ = ["Features", "LayerEnds", "Numbering"]

Kind = Literal["input", "hidden", "output"]


class Features(NamedTuple):
    """The neuron axis of a value: its units, and the number of consecutive features of each unit."""

    units: Indices
    blocks: Indices

    @classmethod
    def joined(cls, parts: Iterable[Features]) -> Features:
        """Return the concatenation of several."""
        units, blocks = zip(*parts, strict=True)
        return cls(np.concatenate(units), np.concatenate(blocks))


class LayerEnds(NamedTuple):
    """The neuron axes of a layer's input and output; ``divisions`` are a grouped convolution's groups."""

    layer: Layer
    sources: Features
    targets: Features
    divisions: int


@dataclass
class Numbering:
    """Units in the order of the trace, and the constraints on their renumbering.

    ``new`` adds the units of an axis that a layer (or the input) produces, ``zeros`` those of an axis without
    input; ``tie`` numbers the units of two axes together, ``part`` allows renumbering only within stretches
    of an axis, ``select`` makes some units of an axis an axis of their own.
    """

    axes: list[tuple[str, Indices]] = field(default_factory=list)
    fillings: list[tuple[str, Indices]] = field(default_factory=list)
    selections: list[Indices] = field(default_factory=list)
    count: int = 0
    ties: list[tuple[Indices, Indices]] = field(default_factory=list)
    cuts: list[tuple[int, int]] = field(default_factory=list)

    def new(self, name: str, size: int) -> Features:
        """Return the units of a new axis."""
        return self._added(self.axes, name, size)

    def zeros(self, name: str, size: int) -> Features:
        """Return the units of an axis of zeros; if they are tied to others, they take those' names."""
        return self._added(self.fillings, name, size)

    def _added(self, axes: list[tuple[str, Indices]], name: str, size: int) -> Features:
        units = np.arange(self.count, self.count + size)
        self.count += size
        axes.append((name, units))
        return Features(units, np.ones(size, dtype=np.intp))

    def select(self, features: Features, entries: Indices) -> Features | None:
        """Return the axis of some entries of another; None if they are not whole units."""
        owners = np.repeat(np.arange(len(features.units)), features.blocks)
        within = np.arange(len(owners)) - np.repeat(
            np.cumsum(features.blocks) - features.blocks, features.blocks
        )
        numbers = owners[entries][within[entries] == 0]
        chosen = Features(features.units[numbers], features.blocks[numbers])
        starts = np.cumsum(features.blocks) - features.blocks
        whole = [np.arange(starts[n], starts[n] + features.blocks[n]) for n in numbers]
        if not whole or not np.array_equal(np.concatenate(whole), entries):
            return None
        self.selections.append(chosen.units)
        return chosen

    def tie(self, a: Features, b: Features) -> bool:
        """Number two axes together; False if their units have different numbers of features."""
        if not np.array_equal(a.blocks, b.blocks):
            return False
        self.ties.append((a.units, b.units))
        return True

    def part(self, features: Features, divisions: int) -> None:
        """Allow renumbering only within ``divisions`` equal stretches of an axis."""
        size = len(features.units) // divisions
        for end in range(size, len(features.units), size):
            self.cuts.append((int(features.units[end - 1]), int(features.units[end])))

    def close(self, outputs: Features) -> Closed:
        """Return the groups of all units; ``outputs`` is the neuron axis of the network's output."""
        pairs = [np.concatenate(ends) for ends in zip(*self.ties, strict=True)] or [np.arange(0)] * 2
        classes = _components(pairs[0], pairs[1], self.count)
        chains = self._chains(classes)
        group_of, place = np.empty(classes.max() + 1, np.intp), np.empty(classes.max() + 1, np.intp)
        for group, chain in enumerate(chains):
            group_of[chain], place[chain] = group, np.arange(len(chain))
        kinds: list[Kind] = ["hidden"] * len(chains)
        for group in set(group_of[classes[outputs.units]].tolist()):
            kinds[group] = "output"
        for group in set(group_of[classes[self.axes[0][1]]].tolist()):
            kinds[group] = "input"
        sizes = [len(chain) for chain in chains]
        return Closed(self._named(classes, group_of, sizes, kinds), classes, group_of, place)

    def _chains(self, classes: Indices) -> list[list[int]]:
        """Return the groups as chains of tied units, in the order of the trace.

        One unit follows another in a group if it does so in every axis that contains either of them: then
        every axis consists of whole groups, and renumbering one group renumbers all axes alike.
        """
        following, leading = np.full(classes.max() + 1, -1), np.full(classes.max() + 1, -1)
        meetings = [pair for a, b in self.cuts for pair in ((int(classes[a]), -2), (-2, int(classes[b])))]
        for units in (*(units for _, units in (*self.axes, *self.fillings)), *self.selections):
            axis = classes[units].tolist()
            meetings += [*itertools.pairwise(axis), (-2, axis[0]), (axis[-1], -2)]
        for a, b in meetings:  # -1: no neighbour so far; -2: none, or several
            if a >= 0:
                following[a] = b if following[a] in (-1, b) else -2
            if b >= 0:
                leading[b] = a if leading[b] in (-1, a) else -2
        chains: list[list[int]] = []
        taken = np.zeros(len(following), dtype=np.bool_)
        for start in np.argsort(np.unique(classes, return_index=True)[1]).tolist():
            chain: list[int] = []
            unit = start
            while unit >= 0 and not taken[unit] and (not chain or leading[unit] == chain[-1]):
                taken[unit] = True
                chain.append(unit)
                unit = int(following[unit])
            if chain:
                chains.append(chain)
        return chains

    def _named(
        self,
        classes: Indices,
        group_of: Indices,
        sizes: Sequence[int],
        kinds: Sequence[Kind],
    ) -> tuple[Group, ...]:
        """Name each group after its first axis, with a number where that axis has several groups."""
        names: dict[int, str] = {}
        for kind in ("input", "output"):
            fixed = [group for group, group_kind in enumerate(kinds) if group_kind == kind]
            for position, group in enumerate(fixed):
                names[group] = kind if len(fixed) == 1 else f"{kind}[{position}]"
        for name, units in (*self.axes, *self.fillings):
            groups = list(dict.fromkeys(group_of[classes[units]].tolist()))
            # A layer may have the name of a fixed group.
            base = f"hidden {name}" if name in ("input", "output") else name
            for position, group in enumerate(groups):
                names.setdefault(group, base if len(groups) == 1 else f"{base}[{position}]")
        return tuple(
            Group(names[i], size, kind) for i, (size, kind) in enumerate(zip(sizes, kinds, strict=True))
        )


@dataclass(frozen=True)
class Closed:
    """The groups, and for each unit its group and position in it."""

    groups: tuple[Group, ...]
    classes: Indices
    group_of: Indices
    place: Indices

    def axis(self, features: Features) -> Axis:
        """Return the segments of an axis: whole groups in order."""
        segments, position = [], 0
        while position < len(features.units):
            group = int(self.group_of[self.classes[features.units[position]]])
            segments.append(Segment(group, int(features.blocks[position])))
            position += self.groups[group].size
        return tuple(segments)

    def places(self, source: Features, entries: Sequence[int]) -> tuple[int, ...]:
        """Return the segments of an axis that some of its entries form: whole segments in any order."""
        axis = self.axis(source)
        starts = np.array([start for start, _ in self._starts(axis)])
        sizes = [self.groups[segment.group].size * segment.block for segment in axis]
        segments, position = [], 0
        while position < len(entries):
            segments.append(int(np.searchsorted(starts, entries[position], side="right")) - 1)
            position += sizes[segments[-1]]
        return tuple(segments)

    def pieces(self, ends: Sequence[LayerEnds]) -> tuple[Piece, ...]:
        """Return the pieces of all layers."""
        return tuple(piece for index, layer in enumerate(ends) for piece in self._pieces(index, layer))

    def _pieces(self, index: int, ends: LayerEnds) -> Iterable[Piece]:
        targets, sources = self.axis(ends.targets), self.axis(ends.sources)
        layer, divisions = ends.layer, ends.divisions
        if divisions > 1 and targets == sources and layer.shape[:2] == (divisions, 1):
            for place, (row, segment) in enumerate(self._starts(targets)):
                yield Piece(
                    *(index, segment.group, segment.group, row, 0, 1, layer.kernel, place, place),
                    diagonal=True,
                )
            return
        height, width = layer.shape[0] // divisions, layer.shape[1]
        for to, (row, target) in enumerate(self._starts(targets)):
            for of, (column, source) in enumerate(self._starts(sources)):
                if divisions == 1 or row // height == column // width:
                    within = column % width if divisions > 1 else column
                    positions = source.block * layer.kernel
                    yield Piece(
                        index, target.group, source.group, row, within, source.block, positions, to, of
                    )

    def _starts(self, axis: Axis) -> Iterable[tuple[int, Segment]]:
        start = 0
        for segment in axis:
            yield start, segment
            start += self.groups[segment.group].size * segment.block

    def bundles(self, ends: Sequence[LayerEnds], pieces: Sequence[Piece]) -> tuple[Bundle, ...]:
        """Return the columns of groups that may be exchanged as wholes, because of grouped convolutions.

        The groups in one division of a layer belong to one column, over all such layers. Columns may be
        exchanged if their groups have the same sizes at the same positions of all axes, and all layers join
        them in the same way.
        """
        columns: dict[int, list[int]] = {}
        shapes: dict[int, list[tuple[int, ...]]] = {}
        for label, layer, sides in self._meetings(ends):
            column = columns.setdefault(label, [])
            for side, groups in enumerate(sides):
                for place, group in enumerate(groups):
                    if group not in column:
                        column.append(group)
                    shape = (layer, side, place, self.groups[group].size, column.index(group))
                    shapes.setdefault(label, []).append(shape)
        alike: dict[tuple[tuple[int, ...], ...], list[list[tuple[int, ...]]]] = {}
        exchange = _Exchange(pieces)
        for label, column in columns.items():
            if all(self.groups[group].kind == "hidden" for group in column):
                classes = alike.setdefault(tuple(shapes[label]), [])
                home = next((members for members in classes if exchange.allows(members[0], column)), None)
                if home is None:
                    classes.append([tuple(column)])
                else:
                    home.append(tuple(column))
        exchangeable = [members for classes in alike.values() for members in classes if len(members) > 1]
        names = [
            f"columns of {self.groups[members[0][0]].name.partition('[')[0]}" for members in exchangeable
        ]
        return tuple(
            Bundle(name if names.count(name) == 1 else f"{name}[{index}]", tuple(members))
            for index, (name, members) in enumerate(zip(names, exchangeable, strict=True))
        )

    def _meetings(self, ends: Sequence[LayerEnds]) -> list[tuple[int, int, tuple[list[int], list[int]]]]:
        """Return for each division of each grouped layer its column, the layer, and (sources, targets)."""
        divided = []
        for index, layer in enumerate(ends):
            targets, sources = self.axis(layer.targets), self.axis(layer.sources)
            if layer.divisions == 1 or (targets == sources and layer.layer.shape[1] == 1):
                continue
            height, width = layer.layer.shape[0] // layer.divisions, layer.layer.shape[1]
            for division in range(layer.divisions):
                outs = [s.group for row, s in self._starts(targets) if row // height == division]
                ins = [s.group for column, s in self._starts(sources) if column // width == division]
                divided.append((index, (ins, outs)))
        links = [(outs[0], other) for _, (ins, outs) in divided for other in (*ins, *outs)]
        ours, theirs = np.array(links, dtype=np.intp).reshape(-1, 2).T
        labels = _components(ours, theirs, len(self.groups))
        return [(int(labels[sides[1][0]]), index, sides) for index, sides in divided]


class _Exchange:
    """Decides which columns of groups may be exchanged: those that all layers join in the same way."""

    def __init__(self, pieces: Iterable[Piece]) -> None:
        self.count = Counter((p.layer, p.target, p.source, p.block, p.positions, p.diagonal) for p in pieces)
        self.of: dict[int, set[tuple[int, int, int, int, int, bool]]] = {}
        for key in self.count:
            for group in key[1:3]:
                self.of.setdefault(group, set()).add(key)

    def allows(self, first: Sequence[int], second: Sequence[int]) -> bool:
        """Return whether every piece has a counterpart when two columns are exchanged."""
        swap = dict(zip((*first, *second), (*second, *first), strict=True))
        return all(
            self.count[layer, swap.get(target, target), swap.get(source, source), block, positions, diagonal]
            == self.count[layer, target, source, block, positions, diagonal]
            for group in swap
            for layer, target, source, block, positions, diagonal in self.of[group]
        )


def _components(a: Indices, b: Indices, size: int) -> Indices:
    """Return the connected component of each of ``size`` vertices; ``a[i]`` and ``b[i]`` are joined."""
    from scipy.sparse import coo_array  # its import takes longer than most commands
    from scipy.sparse.csgraph import connected_components

    joined = coo_array((np.ones(len(a)), (a, b)), shape=(size, size))
    labels: Indices = connected_components(joined, directed=False)[1].astype(np.intp)
    return labels
