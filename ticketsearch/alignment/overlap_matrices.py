"""Masks as matrices among the occupied units, i.e. the hidden units that have weights.

The time of an assignment grows with the cube of the number of units. Units without weights share nothing in
any position, so they are left out: all compared masks keep as many units of a group as the fullest one has.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ticketsearch.alignment.coordinate_ascent import Placement
from ticketsearch.masks import Mask, MaskSpec
from ticketsearch.typing import Floats32

__all__ = ["Occupied", "whole_parts"]


def whole_parts(values: NDArray[np.generic], spec: MaskSpec) -> list[Floats32]:
    """Return each piece of a flat array as ``(targets, positions, sources)``."""
    parts = (spec.part(piece, values).swapaxes(1, 2) for piece in spec.pieces)
    return [np.ascontiguousarray(part, dtype=np.float32) for part in parts]


class Occupied:
    """The occupied units of several masks of one spec.

    Attributes
    ----------
    spec : the groups and pieces among those units, without layers.
    orders : for each mask and each group all units of the full spec, the occupied ones first.
    """

    def __init__(self, masks: Sequence[Mask], spec: MaskSpec) -> None:
        self.full = spec
        occupied = [_occupied(mask, spec) for mask in masks]
        sizes = [
            max(1, *(int(np.count_nonzero(units[group])) for units in occupied))
            if group in spec.hidden
            else full_group.size
            for group, full_group in enumerate(spec.groups)
        ]
        for bundle in spec.bundles:  # groups that may be exchanged have one size
            for alike in zip(*bundle.columns, strict=True):
                most = max(sizes[group] for group in alike)
                for group in alike:
                    sizes[group] = most
        groups = tuple(group._replace(size=size) for group, size in zip(spec.groups, sizes, strict=True))
        self.spec = MaskSpec((), groups, spec.pieces, (), spec.bundles)
        self.orders = [[np.argsort(~units, kind="stable") for units in by_group] for by_group in occupied]

    def parts(self, index: int, values: NDArray[np.generic]) -> list[Floats32]:
        """Return each piece of an array over the weights of a mask, ``(targets, positions, sources)``."""
        orders, matrices = self.orders[index], []
        for piece in self.full.pieces:
            part = self.full.part(piece, values)
            if piece.target in self.full.hidden:
                part = part[orders[piece.target][: self.spec.groups[piece.target].size]]
            if piece.source in self.full.hidden and not piece.diagonal:
                part = part[:, orders[piece.source][: self.spec.groups[piece.source].size]]
            matrices.append(np.ascontiguousarray(part.swapaxes(1, 2), dtype=np.float32))
        return matrices

    def given(self, mask: int, reference: int) -> Placement:
        """Return the placement of the given numbering, as far as both masks have occupied units there."""
        orders = {}
        for group in self.full.hidden:
            size = self.spec.groups[group].size
            place = np.full(self.full.groups[group].size, -1)
            place[self.orders[mask][group][:size]] = np.arange(size)
            order = place[self.orders[reference][group][:size]]
            order[order < 0] = np.setdiff1d(np.arange(size), order)
            orders[group] = order
        return Placement(orders, list(range(len(self.full.groups))))

    def expanded(self, placement: Placement, mask: int, reference: int) -> Placement:
        """Return the placement of all units that follows from one of the occupied units."""
        orders = {}
        for group, order in placement.orders.items():
            mask_units, reference_units = (
                self.orders[mask][placement.origins[group]],
                self.orders[reference][group],
            )
            whole = np.empty_like(mask_units)
            whole[reference_units] = np.concatenate([mask_units[order], mask_units[len(order) :]])
            orders[group] = whole
        return Placement(orders, list(placement.origins))


def _occupied(mask: Mask, spec: MaskSpec) -> list[Mask]:
    """Return for each group which units have a weight."""
    units = [np.zeros(group.size, dtype=np.bool_) for group in spec.groups]
    for piece in spec.pieces:
        part: Mask = np.any(spec.part(piece, mask), axis=2)
        units[piece.target] |= part.any(axis=1)
        if not piece.diagonal:
            units[piece.source] |= part.any(axis=0)
    return units
