"""Canonical forms and keys of masks, the orders that make them, and the exact test of isomorphism."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ticketsearch.canonical.columns import merger
from ticketsearch.canonical.graph import MaskGraph, mask_graph
from ticketsearch.canonical.ties import places
from ticketsearch.masks import Edges, Mask, MaskSpec, check_mask, mask_of, unit_orders

__all__ = ["canonical_form", "canonical_key", "canonical_order", "isomorphic"]

Integers = NDArray[np.intp]


def canonical_key(mask: ArrayLike, spec: MaskSpec) -> str:
    """Return a key that is equal exactly for isomorphic masks of one spec.

    It is a 128-bit digest of the canonical form itself. ``mask`` is ``(weights,)`` bool.
    Raises :class:`BadInput` for another shape or other values.
    """
    form = np.packbits(canonical_form(mask, spec))
    return hashlib.blake2b(form.tobytes(), digest_size=16, person=spec.signature.encode()[:16]).hexdigest()


def canonical_form(mask: ArrayLike, spec: MaskSpec) -> Mask:
    """Return the read-only ``(weights,)`` bool mask that represents all masks isomorphic to ``mask``.

    Dead weights are removed, and the live hidden units of each group have its first numbers.
    Raises :class:`BadInput` for another shape or other values.
    """
    return _renumbered(mask_graph(check_mask(mask, spec), spec), spec)


def canonical_order(mask: ArrayLike, spec: MaskSpec, *, live_only: bool = True) -> dict[str, Integers]:
    """Return ``{hidden group: (units,) old numbers in canonical order}``, live units first; bundles likewise.

    In the sense of :func:`ticketsearch.masks.permute`: ``permute(live(mask, spec), spec, order)`` is the
    canonical form. Without ``live_only`` all kept weights count, the dead ones too: ``permute(mask, spec,
    order)`` is then equal for masks that are renumberings of each other as a whole.
    Raises :class:`BadInput` for another shape or other values.
    """
    graph = mask_graph(check_mask(mask, spec), spec, live_only=live_only)
    orders, columns = _orders(graph, spec)
    found = {spec.groups[group].name: order for group, order in orders.items()}
    return found | {bundle.name: order for bundle, order in zip(spec.bundles, columns, strict=True)}


def isomorphic(a: ArrayLike, b: ArrayLike, spec: MaskSpec) -> bool:
    """Return whether a renumbering of hidden units turns the live part of ``a`` into that of ``b``.

    The columns of bundles may change places too. Exact: the canonical forms are compared, after the cheaper
    counts and colours. ``a`` and ``b`` are ``(weights,)`` bool.
    Raises :class:`BadInput` for another shape or other values.
    """
    first, second = (mask_graph(check_mask(mask, spec), spec) for mask in (a, b))
    if [len(e.rows) for e in first.edges] != [len(e.rows) for e in second.edges]:
        return False
    for one, other in zip(first.colours, second.colours, strict=True):
        if not np.array_equal(np.sort(one), np.sort(other)):
            return False
    form, other_form = (_renumbered(graph, spec) for graph in (first, second))
    return np.array_equal(form, other_form)


def _orders(graph: MaskGraph, spec: MaskSpec) -> tuple[dict[int, Integers], list[Integers]]:
    """Return the old numbers in canonical order, live ones first: of each hidden group's units ``(units,)``,
    and of each bundle's columns."""
    positions = places(graph)
    orders = {}
    for group in graph.spec.hidden:
        dead = ~graph.units[group]
        # Dead units are alike; their colours hold nothing, so they end in the order of their numbers.
        orders[group] = np.lexsort((positions[group], np.where(dead, 0, graph.colours[group]), dead))
    return merger(spec).parted(orders, spec) if spec.bundles else (orders, [])


def _renumbered(graph: MaskGraph, spec: MaskSpec) -> Mask:
    """Return the ``(weights,)`` mask of the graph's weights under the canonical numbers."""
    orders, columns = _orders(graph, spec)
    numbers = {group: np.argsort(order) for group, order in orders.items()}
    moved = []
    for piece, (rows, sources, positions) in zip(spec.pieces, graph.kept, strict=True):
        new_rows = numbers[piece.target][rows] if piece.target in numbers else rows
        new_sources = numbers[piece.source][sources] if piece.source in numbers else sources
        moved.append(Edges(new_rows, new_sources, positions))
    if columns:
        names = [bundle.name for bundle in spec.bundles]
        _, origins = unit_orders(spec, dict(zip(names, columns, strict=True)))
        moved = [moved[spec.counterpart(index, origins)] for index in range(len(moved))]
    return mask_of(moved, spec)
