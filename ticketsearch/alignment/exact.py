"""Exact alignment of masks, or of live parts, that are renumberings of each other."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from ticketsearch.alignment.coordinate_ascent import Placement
from ticketsearch.masks import Mask, MaskSpec, digest, live, permute, unit_orders
from ticketsearch.typing import Indices

__all__ = ["Subject", "same_live", "same_whole"]


class Subject:
    """A mask with its invariants and canonical orders, computed when they are needed.

    Canonical forms take longer than most alignments, so fan-ins, which seldom agree, are compared first.
    """

    def __init__(self, mask: Mask, spec: MaskSpec) -> None:
        self.mask, self.spec = mask, spec

    @cached_property
    def live(self) -> Mask:
        """The mask without its dead weights."""
        return live(self.mask, self.spec)

    @cached_property
    def fans(self) -> bytes:
        """An invariant under renumbering: the sorted fan-ins of each layer's rows."""
        return _fans(self.mask, self.spec)

    @cached_property
    def live_fans(self) -> bytes:
        """The invariant of the live part."""
        return _fans(self.live, self.spec)

    @cached_property
    def orders(self) -> dict[str, Indices]:
        """The canonical order of all weights."""
        return _canonical_order(self.mask, self.spec, live_only=False)

    @cached_property
    def live_orders(self) -> dict[str, Indices]:
        """The canonical order of the live part."""
        return _canonical_order(self.mask, self.spec, live_only=True)

    @cached_property
    def form(self) -> str:
        """The digest of the mask in its canonical order."""
        return digest(permute(self.mask, self.spec, self.orders))

    @cached_property
    def live_form(self) -> str:
        """The digest of the live part in its canonical order."""
        return digest(permute(self.live, self.spec, self.live_orders))


def same_whole(mask: Subject, reference: Subject) -> Placement | None:
    """Return the placement that makes the mask the reference, or None if no renumbering does."""
    if mask.fans != reference.fans or mask.form != reference.form:
        return None
    return _composed(mask.orders, reference.orders, mask.spec)


def same_live(mask: Subject, reference: Subject) -> Placement | None:
    """Return a placement that makes the live part of the mask that of the reference, or None.

    None also for empty live parts, in which units do not correspond.
    """
    if not mask.live.any() or mask.live_fans != reference.live_fans or mask.live_form != reference.live_form:
        return None
    return _composed(mask.live_orders, reference.live_orders, mask.spec)


def _fans(mask: Mask, spec: MaskSpec) -> bytes:
    rows = (mask[layer.slice].reshape(layer.shape[0], -1) for layer in spec.layers)
    return b"".join(np.sort(np.count_nonzero(row, axis=1)).tobytes() for row in rows)


def _composed(mask: dict[str, Indices], reference: dict[str, Indices], spec: MaskSpec) -> Placement:
    """Return the placement that goes from the mask to the canonical form and from there to the reference."""
    columns = {bundle.name: mask[bundle.name][np.argsort(reference[bundle.name])] for bundle in spec.bundles}
    _, origins = unit_orders(spec, columns)
    orders = {}
    for group in spec.hidden:
        mask_group, reference_group = spec.groups[origins[group]].name, spec.groups[group].name
        orders[group] = mask[mask_group][np.argsort(reference[reference_group])]
    return Placement(orders, origins)


def _canonical_order(mask: Mask, spec: MaskSpec, *, live_only: bool) -> dict[str, Indices]:
    from ticketsearch.canonical import (
        canonical_order,
    )  # imports networkx, which counting overlap does without

    return canonical_order(mask, spec, live_only=live_only)
