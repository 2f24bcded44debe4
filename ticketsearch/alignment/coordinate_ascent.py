"""Coordinate ascent, group by group, of the intersection of two masks over numberings of one of them."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ticketsearch.alignment.assignment import assignment
from ticketsearch.masks import Bundle, MaskSpec
from ticketsearch.typing import Floats32, Indices

__all__ = ["Pair", "Placement"]

Orders = dict[int, Indices]


class Placement(NamedTuple):
    """A renumbering: for each group the group that takes its position, and that group's units in new order.

    ``origins`` differ from the groups themselves only where columns of a bundle are exchanged.
    """

    orders: Orders
    origins: list[int]

    def copy(self) -> Placement:
        """Return a placement that may be changed without this one."""
        return Placement(dict(self.orders), list(self.origins))

    def named(self, spec: MaskSpec) -> dict[str, Indices]:
        """Return the orders of groups and bundles by name, for :func:`ticketsearch.masks.permute`."""
        orders = {spec.groups[self.origins[group]].name: order for group, order in self.orders.items()}
        for bundle in spec.bundles:
            first = [column[0] for column in bundle.columns]
            orders[bundle.name] = np.array([first.index(self.origins[group]) for group in first])
        return orders


class Pair:
    """The intersection of a reference with a mask as a function of the mask's placement.

    Both are pieces ``(targets, positions, sources)`` of 0 and 1, or of weights, for a sum of products;
    ``least`` is the smallest gain that counts.
    """

    def __init__(
        self,
        mask: Sequence[Floats32],
        reference: Sequence[Floats32],
        spec: MaskSpec,
        *,
        least: float = 0.5,
    ) -> None:
        self.mask, self.reference, self.spec, self.least = mask, reference, spec, least
        groups = range(len(spec.groups))
        self.fixed = {group for group in groups if group not in spec.hidden}
        self.outer: list[list[int]] = [[] for _ in groups]
        self.inner: list[list[int]] = [[] for _ in groups]
        self.own: list[list[int]] = [[] for _ in groups]
        for index, piece in enumerate(spec.pieces):
            if piece.source != piece.target:
                self.outer[piece.target].append(index)
                self.outer[piece.source].append(index)
            else:
                (self.own if piece.diagonal else self.inner)[piece.target].append(index)
        self.constants: dict[tuple[int, int], Floats32] = {}

    def _moved(self, index: int, origins: Sequence[int]) -> Floats32:
        """Return the part of the mask at the position of a piece of the reference."""
        return self.mask[self.spec.counterpart(index, origins) if self.spec.bundles else index]

    def _profit(
        self, group: int, orders: Mapping[int, Indices], known: Collection[int], origins: Sequence[int]
    ) -> Floats32:
        """Return ``(units, units)``: weights from and to ``known`` that each position and unit share."""
        units = self.spec.groups[group].size
        profit = np.zeros((units, units), dtype=np.float32)
        for index in self.outer[group]:
            piece, reference = self.spec.pieces[index], self.reference[index]
            if piece.target == group and piece.source in known:
                mask = _at_sources(self._moved(index, origins), orders.get(piece.source))
                profit += reference.reshape(units, -1) @ mask.reshape(units, -1).T
            elif piece.source == group and piece.target in known:
                mask = _at_targets(self._moved(index, origins), orders.get(piece.target))
                profit += reference.reshape(-1, units).T @ mask.reshape(-1, units)
        return profit

    def _constant(self, group: int, origins: Sequence[int]) -> Floats32:
        """Return the constant part of the profit: from inputs, to outputs, and of each unit alone."""
        key = group, origins[group]
        if key not in self.constants:
            profit = self._profit(group, {}, self.fixed, origins)
            for index in self.own[group]:
                profit += self.reference[index][:, :, 0] @ self._moved(index, origins)[:, :, 0].T
            self.constants[key] = profit
        return self.constants[key]

    def _slope(self, group: int, placement: Placement) -> Floats32:
        """Return ``(units, units)``: the gradient of :meth:`_looped` at the placement."""
        units, order = self.spec.groups[group].size, placement.orders[group]
        slope = np.zeros((units, units), dtype=np.float32)
        for index in self.inner[group]:
            reference, mask = self.reference[index], self._moved(index, placement.origins)
            slope += reference.reshape(units, -1) @ _at_sources(mask, order).reshape(units, -1).T
            slope += reference.reshape(-1, units).T @ _at_targets(mask, order).reshape(-1, units)
        return slope

    def _shared(self, index: int, orders: Mapping[int, Indices], origins: Sequence[int]) -> float:
        """Return the number of weights that the reference and the placed mask share in one piece."""
        piece = self.spec.pieces[index]
        mask = _at_targets(self._moved(index, origins), orders.get(piece.target))
        if not piece.diagonal:
            mask = _at_sources(mask, orders.get(piece.source))
        return float((self.reference[index] * mask).sum(dtype=np.float64))

    def _looped(self, group: int, orders: Mapping[int, Indices], origins: Sequence[int]) -> float:
        """Return the weights shared in pieces that join a group to itself: quadratic in its order."""
        return sum(self._shared(index, orders, origins) for index in self.inner[group])

    def shared(self, placement: Placement) -> list[float]:
        """Return for each piece the number of weights that the reference and the placed mask share."""
        return [self._shared(index, *placement) for index in range(len(self.reference))]

    def intersection(self, placement: Placement) -> float:
        """Return the number of weights that the reference and the placed mask share."""
        return sum(self.shared(placement))

    def built(self, groups: Sequence[int], *, expecting: bool) -> Placement:
        """Return the placement built group by group, each from the fixed groups and those before it.

        ``expecting`` adds the mean overlap with the groups behind it over all numberings of those: then units
        of many weights are matched in the first group already.
        """
        placement = Placement({}, list(range(len(self.spec.groups))))
        for group in groups:
            self._assign(group, placement, expecting=expecting)
        return placement

    def _assign(self, group: int, placement: Placement, *, expecting: bool = False) -> None:
        """Assign the units of a group by the groups that have an order; changes ``placement``."""
        orders, origins = placement
        profit = self._constant(group, origins) + self._profit(group, orders, orders, origins)
        if expecting:
            profit += self._expected(group, orders)
        orders[group] = assignment(profit)

    def _expected(self, group: int, known: Collection[int]) -> Floats32:
        """Return ``(units, units)``: the mean profit from hidden groups that have no order yet."""
        units = self.spec.groups[group].size
        profit = np.zeros((units, units), dtype=np.float32)
        for index in self.outer[group]:
            piece, parts = self.spec.pieces[index], (self.reference[index], self.mask[index])
            other = piece.source if piece.target == group else piece.target
            if other in self.fixed or other in known:
                continue
            # The weights of each unit at each position, summed over the units of the other group.
            a, b = (part.sum(axis=2) if other == piece.source else part.sum(axis=0).T for part in parts)
            profit += a @ b.T / np.float32(self.spec.groups[other].size)
        return profit

    def climb(self, placement: Placement) -> None:
        """Assign the groups in turn until neither a group nor a bundle gains; changes ``placement``."""
        waiting = list(placement.orders)
        while waiting:
            group = waiting.pop(0)
            if self._improve(group, placement):
                others = (g for g in placement.orders if g not in waiting and (g != group or self.inner[g]))
                waiting += list(others)
            if not waiting:
                exchanged = [self._exchange(bundle, placement) for bundle in self.spec.bundles]
                waiting = list(placement.orders) if any(exchanged) else []

    def _improve(self, group: int, placement: Placement) -> bool:
        orders, origins = placement
        held = orders[group]
        linear = self._constant(group, origins) + self._profit(group, orders, orders, origins)
        order = assignment(linear + self._slope(group, placement))
        rows = np.arange(len(order))
        gain = float((linear[rows, order] - linear[rows, held]).sum())
        looped = self._looped(group, orders | {group: order}, origins) - self._looped(group, orders, origins)
        if gain + looped < self.least:
            return False
        orders[group] = order
        return True

    def _exchange(self, bundle: Bundle, placement: Placement) -> bool:
        """Assign the columns of a bundle, each with its best units, if that gains; changes ``placement``."""
        inside = set(itertools.chain(*bundle.columns))
        outside = {group: order for group, order in placement.orders.items() if group not in inside}
        columns = bundle.columns
        profit = np.zeros((len(columns), len(columns)))
        placed: dict[tuple[int, int], Placement] = {}
        for (new, column), (old, other) in itertools.product(enumerate(columns), repeat=2):
            trial = placed[new, old] = Placement(dict(outside), list(placement.origins))
            for here, there in zip(column, other, strict=True):
                trial.origins[here] = there
            profit[new, old] = self._placed(column, trial)
        best = placement.copy()
        for new, old in enumerate(assignment(profit).tolist()):
            for group in columns[new]:
                best.orders[group] = placed[new, old].orders[group]
                best.origins[group] = placed[new, old].origins[group]
        if self.intersection(best) - self.intersection(placement) < self.least:
            return False
        placement.orders.update(best.orders)
        placement.origins[:] = best.origins
        return True

    def _placed(self, column: Sequence[int], placement: Placement) -> float:
        """Assign a column's groups forward and back, changing ``placement``; return their overlap."""
        for group in (*column, *column[-2::-1]):
            self._assign(group, placement)
        known, touched = self.fixed.union(placement.orders), set[int]()
        for group in column:
            touched.update(self.outer[group], self.inner[group], self.own[group])
        pieces = [(index, self.spec.pieces[index]) for index in touched]
        chosen = [index for index, piece in pieces if piece.source in known and piece.target in known]
        return sum(self._shared(index, *placement) for index in chosen)


def _at_sources(part: Floats32, order: Indices | None) -> Floats32:
    return part if order is None else part.take(order, axis=2)


def _at_targets(part: Floats32, order: Indices | None) -> Floats32:
    return part if order is None else part[order]
