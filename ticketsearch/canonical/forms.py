"""Canonical forms and keys of masks, and the canonical orders of their units."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ticketsearch.canonical.bundles import merger
from ticketsearch.canonical.graph import MaskGraph, mask_graph
from ticketsearch.canonical.labels import Labels, Weights
from ticketsearch.canonical.refinement import Colours, unit_colours
from ticketsearch.canonical.residual_graph import is_discrete
from ticketsearch.canonical.search_tree import Budget, Exhausted
from ticketsearch.canonical.twins import Ties, canonical_orders, ties
from ticketsearch.checks import checked
from ticketsearch.masks import Mask, MaskSpec, check_mask, live, permute
from ticketsearch.typing import Indices

__all__ = ["BUDGET", "Canonical", "canonical_form", "canonical_identity", "canonical_key", "canonical_order"]

# Nodes of a search tree, each a refinement; the symmetric masks of the tests need fewer than 300.
BUDGET = 10_000


class Canonical(NamedTuple):
    """Canonical key of a mask and whether it is exact.

    Attributes
    ----------
    key : equal exactly for the same network if ``exact``. If refinement alone does not order the units and
        the canonical form is searched for, it has two parts with a dash between: a digest of the refinement,
        and one of the form, which is missing if the search was not completed.
    exact : whether the key is complete.
    """

    key: str
    exact: bool = True

    @property
    def bucket(self) -> str:
        """The part of the key that isomorphic masks share, exact or not."""
        return self.key.partition("-")[0]

    @property
    def searched(self) -> bool:
        """Whether the canonical form was searched for, so that the key has two parts."""
        return "-" in self.key


@checked
def canonical_key(mask: ArrayLike, spec: MaskSpec, weights: Weights | ArrayLike | None = None) -> str:
    """Return a key that is equal exactly for isomorphic masks of one spec.

    It is a 128-bit digest of the canonical form itself, preceded by a digest of the refinement where that
    alone does not order the units. ``mask`` is ``(weights,)`` bool. With ``weights``, ``(weights,)`` float or
    :class:`Weights`, the live weights must be equal too, up to the same renumbering and as exact numbers.
    Raises :class:`BadInput` for another shape or other values.
    """
    return canonical_identity(mask, spec, weights, budget=None).key


@checked
def canonical_identity(
    mask: ArrayLike,
    spec: MaskSpec,
    weights: Weights | ArrayLike | None = None,
    *,
    budget: int | None = BUDGET,
) -> Canonical:
    """Return :func:`canonical_key`, exact if the search for it needs at most ``budget`` nodes.

    Masks whose keys are not both exact may be the same only if their buckets are equal; then
    :func:`ticketsearch.canonical.isomorphic` decides. The budget None is unlimited.
    Raises :class:`BadInput` as :func:`canonical_key` does, and for a negative budget.
    """
    labels = None if weights is None else Labels.of(weights, spec)
    graph = mask_graph(check_mask(mask, spec), spec, labels)
    colours = unit_colours(graph)
    tied = ties(graph, colours)

    def digest(content: bytes) -> str:
        person = spec.signature.encode()[:16]
        salt = b"" if labels is None else b"weights"
        rest = b"" if labels is None else labels.rest
        return hashlib.blake2b(content + rest, digest_size=16, person=person, salt=salt).hexdigest()

    searched = tied is not None and not is_discrete(tied.ranks)
    bucket = f"{digest(_invariant(graph, colours, tied))}-" if tied is not None and searched else ""
    try:
        orders = canonical_orders(graph, colours, tied, Budget(budget))
    except Exhausted:
        return Canonical(bucket, exact=False)
    return Canonical(bucket + digest(graph.block(orders)))


@checked
def canonical_form(mask: ArrayLike, spec: MaskSpec) -> Mask:
    """Return the read-only ``(weights,)`` bool mask that represents all masks isomorphic to ``mask``.

    Dead weights are removed, and the live hidden units of each group are numbered first.
    Raises :class:`BadInput` for another shape or other values.
    """
    form = permute(live(check_mask(mask, spec), spec), spec, canonical_order(mask, spec))
    form.flags.writeable = False
    return form


def canonical_order(mask: ArrayLike, spec: MaskSpec, *, live_only: bool = True) -> dict[str, Indices]:
    """Return ``{hidden group: (units,) old numbers in canonical order}``, live units first; bundles likewise.

    It is an order for :func:`ticketsearch.masks.permute`: ``permute(live(mask, spec), spec, order)`` is the
    canonical form. Without ``live_only`` dead weights count too: ``permute(mask, spec, order)`` is then equal
    for masks that are renumberings of each other as a whole.
    Raises :class:`BadInput` for another shape or other values.
    """
    graph = mask_graph(check_mask(mask, spec), spec, live_only=live_only)
    colours = unit_colours(graph)
    canonical = canonical_orders(graph, colours, ties(graph, colours), Budget(None))
    orders = {}
    for group in graph.spec.hidden:
        members = graph.members[group][canonical[group]]
        dead = np.delete(np.arange(graph.spec.groups[group].size), members)
        orders[group] = np.concatenate([members, dead])
    columns: list[Indices] = []
    if spec.bundles:
        orders, columns = merger(spec).parted(orders, spec)
    named = {spec.groups[group].name: order for group, order in orders.items()}
    return named | {bundle.name: order for bundle, order in zip(spec.bundles, columns, strict=True)}


def _invariant(graph: MaskGraph, colours: list[Colours], tied: Ties) -> bytes:
    """Return an invariant from the refinement of a graph: equal for isomorphic graphs, and for few others."""
    ranked = b"".join(np.sort(part).tobytes() for part in colours)
    return repr((graph.sizes, tied.cells, tied.patterns)).encode() + ranked + tied.trace
