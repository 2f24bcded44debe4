"""Alignment: the renumbering of hidden units under which two masks overlap most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from ticketsearch.alignment.activations import activation_order
from ticketsearch.alignment.coordinate_ascent import Pair, Placement
from ticketsearch.alignment.counts import Counts, pair_indices
from ticketsearch.alignment.exact import Subject, same_live, same_whole
from ticketsearch.alignment.overlap_matrices import Occupied, whole_parts
from ticketsearch.checks import check_count, check_pair, checked, finite
from ticketsearch.errors import BadInput
from ticketsearch.masks import Mask, MaskSpec, check_mask, layer_counts, permute, random_order, unit_orders
from ticketsearch.random_streams import Stream, seed_sequence
from ticketsearch.typing import Floats, Indices

__all__ = ["RESTARTS", "align", "align_order", "aligned_counts"]

RESTARTS = 2
# Smallest gain in a sum of products of weights that counts, as a share of its upper bound.
LEAST = 1e-6


@checked
def align(
    mask: ArrayLike,
    reference: ArrayLike,
    spec: MaskSpec,
    *,
    weights: tuple[ArrayLike, ArrayLike] | None = None,
    activations: tuple[Mapping[str, ArrayLike], Mapping[str, ArrayLike]] | None = None,
    restarts: int = RESTARTS,
    seed: int = 0,
) -> Mask:
    """Return ``mask`` renumbered to overlap ``reference`` most, ``(weights,)`` bool.

    Exact for masks that are renumberings of each other, otherwise a lower bound: see :func:`align_order`,
    which explains the arguments and the errors.
    """
    order = align_order(
        mask, reference, spec, weights=weights, activations=activations, restarts=restarts, seed=seed
    )
    aligned: Mask = permute(check_mask(mask, spec), spec, order)
    return aligned


def align_order(
    mask: ArrayLike,
    reference: ArrayLike,
    spec: MaskSpec,
    *,
    weights: tuple[ArrayLike, ArrayLike] | None = None,
    activations: tuple[Mapping[str, ArrayLike], Mapping[str, ArrayLike]] | None = None,
    restarts: int = RESTARTS,
    seed: int = 0,
) -> dict[str, Indices]:
    """Return ``{hidden group: (units,) old numbers}`` under which ``mask`` overlaps ``reference`` most.

    Bundles have their orders of columns beside those of the groups, for :func:`ticketsearch.masks.permute`.

    For masks that are renumberings of each other the canonical orders give the renumbering, and the overlap
    is complete. Otherwise the overlap is a lower bound of the optimum: from each of several starting points
    the groups are assigned one at a time, the others fixed, until no group gains (Ainsworth et al. 2023, "Git
    Re-Basin", section 3.2, with kept weights for weights), and then the columns of each bundle, each with the
    best units for its position. The result with the largest overlap is returned; it never overlaps less than
    the given numbering. If the live parts are renumberings of each other, the numbering that makes them equal
    is a further starting point: then at least the live weights are shared.

    Parameters
    ----------
    weights : of the mask and of the reference, ``(weights,)`` each: the sum of products of kept weights is
        maximised instead, as in that paper.
    activations : of the mask's and of the reference's network on the same samples, ``{hidden group: (samples,
        units)}`` each: units are matched by their correlation instead, group by group (Li et al. 2016,
        "Convergent learning"); columns of bundles are not exchanged.
    restarts : number of starting points. The first three assign group after group, each by its overlap with
        the groups before it: from first to last, with and without its expected overlap with the groups behind
        it, and from last to first; the best of these are taken first. From the fourth on they are random
        numberings, drawn by ``seed``. The given numbering is a further one if it is better than the result.

    Raises :class:`BadInput` for another shape, values that are not finite, fewer than one start, an invalid
    seed, or both weights and activations.
    """
    check_count("restarts", restarts, 1)
    seed_sequence(seed, Stream.PRUNING)  # refuses an invalid seed
    both = [check_mask(array, spec) for array in (mask, reference)]
    if weights is not None and activations is not None:
        raise BadInput("an alignment goes by weights or by activations, but got both: leave one out")
    if activations is not None:
        check_pair("activations", activations)
        return activation_order(*activations, spec)
    rng = np.random.default_rng(seed)
    if weights is None:
        placement, _ = _Aligner(both, spec, restarts).placed(0, 1, rng)
        return placement.named(spec)
    check_pair("weights", weights)
    values = [_weights(given, spec) * kept for given, kept in zip(weights, both, strict=True)]
    least = LEAST * float(np.prod([np.linalg.norm(value) for value in values]))
    occupied = Occupied(both, spec)
    pair = Pair(occupied.parts(0, values[0]), occupied.parts(1, values[1]), occupied.spec, least=least)
    best = _climbed(pair, occupied.given(0, 1), restarts, rng)
    return occupied.expanded(best, 0, 1).named(spec)


def aligned_counts(
    masks: Mask, spec: MaskSpec, restarts: int, rng: np.random.Generator, signs: Mask | None = None
) -> tuple[Counts, Mask]:
    """Return the counts of ``(population, weights)`` masks, the second of each pair aligned to the first.

    ``signs``, of the same shape, says which initial weights are positive; they are renumbered with the masks.
    The second value, ``(pairs,)`` bool, says for which pairs the overlap is the optimum, not a lower bound.
    """
    aligner = _Aligner(list(masks), spec, restarts)
    shared, agreeing, exact = [], [], []
    for first, second in zip(*pair_indices(len(masks)), strict=True):
        placement, known = aligner.placed(second, first, rng)
        order = placement.named(spec)
        both = permute(masks[second], spec, order) & masks[first]
        shared.append(layer_counts(both, spec))
        exact.append(known)
        if signs is not None:
            same = permute(signs[second], spec, order) == signs[first]
            agreeing.append(layer_counts(both & same, spec))
    sizes = layer_counts(masks, spec)
    return Counts(sizes, np.stack(shared), np.stack(agreeing) if agreeing else None), np.array(exact)


class _Aligner:
    """Masks of one spec, ready to be aligned with each other."""

    def __init__(self, masks: Sequence[Mask], spec: MaskSpec, restarts: int) -> None:
        self.masks, self.spec, self.restarts = masks, spec, restarts
        self.subjects = [Subject(mask, spec) for mask in masks]
        self.occupied = Occupied(masks, spec)
        self.parts = [self.occupied.parts(index, mask) for index, mask in enumerate(masks)]
        # A single hidden group needs a single assignment, which is solved exactly.
        self.exact = (
            len(spec.hidden) == 1
            and not spec.bundles
            and all(piece.diagonal or piece.target != piece.source for piece in spec.pieces)
        )

    def placed(self, mask: int, reference: int, rng: np.random.Generator) -> tuple[Placement, bool]:
        """Return the placement of a mask on another, and whether it is optimal."""
        subjects = self.subjects[mask], self.subjects[reference]
        whole = same_whole(*subjects)
        if whole is not None:
            return whole, True
        pair = Pair(self.parts[mask], self.parts[reference], self.occupied.spec)
        best = _climbed(pair, self.occupied.given(mask, reference), self.restarts, rng)
        climbed = self.occupied.expanded(best, mask, reference)
        living = same_live(*subjects)
        if living is None:
            return climbed, self.exact
        mask_parts, reference_parts = (
            whole_parts(self.masks[index], self.spec) for index in (mask, reference)
        )
        whole_pair = Pair(mask_parts, reference_parts, self.spec)
        whole_pair.climb(living)
        return max(living, climbed, key=whole_pair.intersection), self.exact


def _climbed(pair: Pair, given: Placement, restarts: int, rng: np.random.Generator) -> Placement:
    """Return the best placement of the ascents from all starting points."""
    starts = _starts(pair, restarts, rng)
    for start in starts:
        pair.climb(start)
    best = max(starts, key=pair.intersection)
    if pair.intersection(given) > pair.intersection(best):
        pair.climb(given)
        best = given
    return best


def _starts(pair: Pair, restarts: int, rng: np.random.Generator) -> list[Placement]:
    """Return the starting points that :func:`align_order` describes."""
    hidden = pair.spec.hidden
    ways = ((hidden, True), (hidden, False), (hidden[::-1], True))
    built = [pair.built(groups, expecting=expecting) for groups, expecting in ways]
    starts = sorted(built, key=pair.intersection, reverse=True)[:restarts]
    for _ in range(restarts - len(built)):
        drawn, origins = unit_orders(pair.spec, random_order(pair.spec, rng))
        starts.append(Placement({group: drawn[origins[group]] for group in hidden}, origins))
    return starts


def _weights(values: ArrayLike, spec: MaskSpec) -> Floats:
    array = finite("weights", values)
    if array.shape != (spec.size,):
        raise BadInput(f"weights of this network have shape ({spec.size},), but got {array.shape}")
    return array
