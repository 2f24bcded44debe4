"""Approximate isomorphism: equality of weights to a tolerance, up to renumbering and rescaling of ReLU units.

Closeness is not an equivalence, so it has no keys. Values that are close, or joined by a chain of close
values, get one label; units that colours of these labels do not distinguish are matched by backtracking.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ticketsearch.canonical.graph import MaskGraph, Part
from ticketsearch.canonical.labels import decoded, encoded
from ticketsearch.canonical.refinement import unit_colours
from ticketsearch.errors import BadInput
from ticketsearch.masks import MaskSpec
from ticketsearch.typing import Indices

__all__ = ["are_close", "check_chain", "rescaled"]


def check_chain(spec: MaskSpec) -> None:
    """Raise :class:`BadInput` unless the network is a chain, in which no unit is non-zero by itself."""
    read = [i for node in spec.nodes for i in node.inputs]
    plain = all(node.operation in ("input", "linear", "elementwise") for node in spec.nodes)
    if not plain or read != list(range(len(spec.nodes) - 1)) or spec.bundles:
        raise BadInput("rescaling is of chains of layers and ReLU, but this network is none; leave it out")
    if any(node.constant for node in spec.nodes):
        raise BadInput("rescaling is of chains without biases, but units here are non-zero by themselves")


def rescaled(graph: MaskGraph) -> MaskGraph:
    """Return the graph of a chain with each hidden unit's incoming weights scaled to norm 1.

    ``graph`` has labels of weights. Raises :class:`BadInput` for units with non-zero values of their own, or
    whose incoming weights are all 0.
    """
    parts: list[Part] = []
    scale = np.ones(1)
    for piece, part in zip(graph.spec.pieces, graph.parts, strict=True):
        values = decoded(part)
        if piece.layer < 0:
            if values.any():
                raise BadInput("rescaling is of chains without biases, but some of units here are not 0")
        else:
            # A piece is (targets, sources, positions), a diagonal one (units, 1, positions).
            values *= scale[:, None, None] if piece.diagonal else scale[:, None]
            if graph.spec.groups[piece.target].kind == "hidden":
                scale = np.sqrt((values**2).sum(axis=(1, 2)))[:, None]
                if not scale.all():
                    raise BadInput(
                        "units can be rescaled that have an incoming weight other than 0, but one has none"
                    )
                values /= scale[:, :, None]
                scale = scale[:, 0]
        parts.append(np.where(part > 0, encoded(values), np.uint64(0)))
    return graph._replace(parts=parts)


def are_close(a: MaskGraph, b: MaskGraph, tolerance: float) -> bool:
    """Return whether a renumbering takes one graph to another within ``tolerance``.

    Both have labels of weights. The answer is exact; with many similar units it may take long.
    """
    if a.sizes != b.sizes:
        return False
    clusters = [_clusters(one, other, tolerance) for one, other in zip(a.parts, b.parts, strict=True)]
    first = unit_colours(a._replace(parts=[labels for labels, _ in clusters]))
    second = unit_colours(b._replace(parts=[labels for _, labels in clusters]))
    candidates: list[tuple[int, int, list[int]]] = []
    for group in a.spec.hidden:
        if not np.array_equal(np.sort(first[group]), np.sort(second[group])):
            return False
        for unit, colour in enumerate(first[group]):
            candidates.append((group, unit, np.flatnonzero(second[group] == colour).tolist()))
    candidates.sort(key=lambda candidate: len(candidate[2]))
    return _Matching(a, b, tolerance).extends(candidates)


def _clusters(a: Part, b: Part, tolerance: float) -> tuple[Part, Part]:
    """Return labels of two parts that are equal wherever values are close."""
    values, positions = np.unique(
        np.concatenate([decoded(a).ravel(), decoded(b).ravel()]), return_inverse=True
    )
    larger = np.maximum(np.abs(values[1:]), np.abs(values[:-1]))
    # Twice the tolerance: values between two close ones may be a little smaller than these.
    numbers = np.cumsum([1, *(np.diff(values) > 2 * tolerance * larger)]).astype(np.uint64)[positions.ravel()]
    first, second = np.split(numbers, [a.size])
    return first.reshape(a.shape) * (a > 0), second.reshape(b.shape) * (b > 0)


class _Matching:
    """A renumbering that is built unit by unit; ``images`` is −1 for units without an image."""

    def __init__(self, a: MaskGraph, b: MaskGraph, tolerance: float) -> None:
        self.pieces = a.spec.pieces
        self.parts = [
            (one > 0, decoded(one), other > 0, decoded(other))
            for one, other in zip(a.parts, b.parts, strict=True)
        ]
        self.tolerance = tolerance
        self.hidden = set(a.spec.hidden)
        self.images = [np.full(n, -1) if g in self.hidden else np.arange(n) for g, n in enumerate(a.sizes)]

    def extends(self, candidates: list[tuple[int, int, list[int]]]) -> bool:
        """Return whether every candidate, (group, unit, possible images), can have a different image."""
        if not self._fits_at_fixed_ends():
            return False
        trials: list[Iterator[int]] = []
        while len(trials) < len(candidates):
            trials.append(iter(candidates[len(trials)][2]))
            while not self._advanced(*candidates[len(trials) - 1][:2], trials[-1]):
                trials.pop()
                if not trials:
                    return False
        return True

    def _advanced(self, group: int, unit: int, images: Iterator[int]) -> bool:
        """Give a unit its next fitting image; return whether there is one."""
        self.images[group][unit] = -1
        for image in images:
            if image not in self.images[group]:
                self.images[group][unit] = image
                if self._fits(group, unit, image):
                    return True
                self.images[group][unit] = -1
        return False

    def _fits(self, group: int, unit: int, image: int) -> bool:
        """Return whether weights between a unit and the matched units are close to those of their images."""
        for index, piece in enumerate(self.pieces):
            if piece.diagonal:
                if piece.target == group and not self._close(index, np.s_[unit], np.s_[image]):
                    return False
                continue
            if piece.target == group:
                units, images = self._placed(piece.source)
                if not self._close(index, np.s_[unit, units], np.s_[image, images]):
                    return False
            if piece.source == group:
                units, images = self._placed(piece.target)
                if not self._close(index, np.s_[units, unit], np.s_[images, image]):
                    return False
        return True

    def _fits_at_fixed_ends(self) -> bool:
        """Return whether weights between inputs and outputs, and values of their own, are close."""
        return all(
            self._close(index, np.s_[:], np.s_[:])
            for index, piece in enumerate(self.pieces)
            if not self.hidden & {piece.target, piece.source}
        )

    def _placed(self, group: int) -> tuple[Indices, Indices]:
        units = np.flatnonzero(self.images[group] >= 0)
        return units, self.images[group][units]

    def _close(self, index: int, here: Any, there: Any) -> bool:
        kept, values, others_kept, others = self.parts[index]
        x, y = values[here], others[there]
        near = np.abs(x - y) <= self.tolerance * np.maximum(np.abs(x), np.abs(y))
        return bool(near.all() and np.array_equal(kept[here], others_kept[there]))
