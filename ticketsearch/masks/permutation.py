"""Renumberings of hidden neurons, applied to masks and to any other array over the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ticketsearch.checks import checked
from ticketsearch.errors import BadInput
from ticketsearch.masks.spec import MaskSpec, Segment
from ticketsearch.typing import Indices

__all__ = ["permute", "random_order", "segment_order", "unit_orders"]


@checked
def permute(mask: NDArray[Any], spec: MaskSpec, order: Mapping[str, ArrayLike]) -> NDArray[Any]:
    """Return the ``(weights,)`` array with hidden units renumbered.

    ``order[group][new]`` is the old number of the unit that gets the number ``new``; groups that are not
    named stay. Likewise ``order[bundle][new]`` is the old position of the column of groups that gets the
    position ``new``; units are renumbered first, then columns move. ``mask`` may be any flat array over the
    weights.

    Raises :class:`BadInput` for a group that is unknown or fixed, or an order that is no permutation.
    """
    orders, origins = unit_orders(spec, order)
    renumbered = np.array(mask)
    for index, piece in enumerate(spec.pieces):
        target, source = origins[piece.target], origins[piece.source]
        if target not in orders and source not in orders and (target, source) == (piece.target, piece.source):
            continue
        part = spec.part(spec.pieces[spec.counterpart(index, origins)], mask)
        if target in orders:
            part = part[orders[target]]
        if source in orders and not piece.diagonal:
            part = part[:, orders[source]]
        window = spec.window(piece, renumbered)
        window[...] = part.reshape(window.shape)
    return renumbered


def unit_orders(spec: MaskSpec, order: Mapping[str, ArrayLike]) -> tuple[dict[int, Indices], list[int]]:
    """Return the ``(units,)`` order of each group that has one, and for each group the group it comes from.

    Raises :class:`BadInput` as :func:`permute` does.
    """
    hidden = {spec.groups[i].name: i for i in spec.hidden}
    bundles = {bundle.name: bundle for bundle in spec.bundles}
    orders: dict[int, Indices] = {}
    origins = list(range(len(spec.groups)))
    for name, given in order.items():
        if name in bundles:
            columns = bundles[name].columns
            for new, old in enumerate(_permutation(given, len(columns), name, "columns").tolist()):
                for here, there in zip(columns[new], columns[old], strict=True):
                    origins[here] = there
        elif name in hidden:
            orders[hidden[name]] = _permutation(given, spec.groups[hidden[name]].size, name, "units")
        else:
            known = ", ".join([*hidden, *bundles])
            raise BadInput(f"only the hidden groups {known} may be renumbered, but got {name!r}")
    return orders, origins


def _permutation(given: ArrayLike, size: int, name: str, what: str) -> Indices:
    array = np.asarray(given)
    if array.shape != (size,) or not np.array_equal(np.sort(array), np.arange(size)):
        raise BadInput(f"the order of group {name!r} is no permutation of its {size} {what}")
    return array.astype(np.intp)


def segment_order(
    axis: Sequence[Segment], spec: MaskSpec, orders: Mapping[int, Indices], origins: Sequence[int]
) -> Indices:
    """Return the old numbers of the entries of an axis, in their new order, under :func:`unit_orders`."""
    sizes = [spec.groups[segment.group].size for segment in axis]
    starts = np.cumsum([0, *(n * s.block for n, s in zip(sizes, axis, strict=True))]).tolist()
    places: dict[int, list[int]] = {}
    for start, segment in zip(starts, axis, strict=False):
        places.setdefault(segment.group, []).append(start)
    seen: dict[int, int] = {}
    parts = []
    for size, segment in zip(sizes, axis, strict=True):
        turn = seen.get(segment.group, 0)
        seen[segment.group] = turn + 1
        origin = origins[segment.group]
        units = orders.get(origin, np.arange(size))
        parts.append(
            places[origin][turn] + (units[:, None] * segment.block + np.arange(segment.block)).ravel()
        )
    return np.concatenate(parts)


def random_order(spec: MaskSpec, rng: np.random.Generator) -> dict[str, Indices]:
    """Return a random renumbering of all hidden groups and bundles, for :func:`permute`."""
    sizes = {spec.groups[i].name: spec.groups[i].size for i in spec.hidden}
    sizes |= {bundle.name: len(bundle.columns) for bundle in spec.bundles}
    return {name: rng.permutation(size) for name, size in sizes.items()}
