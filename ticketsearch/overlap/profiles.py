"""Profiles: how a mask's weights spread over layers, and over the units of a group."""

from __future__ import annotations

import numpy as np

from ticketsearch.alignment import pair_indices
from ticketsearch.masks import Mask, MaskSpec, edges, layer_counts
from ticketsearch.typing import Floats, Integers

__all__ = ["degree_distance", "degrees", "density_distance"]


def density_distance(masks: Mask, spec: MaskSpec) -> Floats:
    """Return ``(pairs,)``: the share of weights that is in other layers, in [0, 1].

    The total variation distance between the shares of kept weights that each layer has (Levin & Peres 2017,
    "Markov Chains and Mixing Times", section 4.1). ``masks`` are ``(population, weights)``.
    """
    counts = layer_counts(masks, spec)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    first, second = pair_indices(len(masks))
    distance: Floats = np.abs(shares[first] - shares[second]).sum(axis=1) / 2
    return distance


def degrees(masks: Mask, spec: MaskSpec) -> dict[str, Integers]:
    """Return ``{"<hidden group> in", "<hidden group> out": (population, units)}``, each row from high to low.

    Fan-in and fan-out of the units: their weights from and to all others.
    """
    found = {}
    for group in spec.hidden:
        size = spec.groups[group].size
        for way in ("in", "out"):
            found[f"{spec.groups[group].name} {way}"] = np.zeros((len(masks), size), dtype=np.int64)
    for row, mask in enumerate(masks):
        for piece, (targets, sources, _) in zip(spec.pieces, edges(mask, spec), strict=True):
            for group, ends, way in ((piece.target, targets, "in"), (piece.source, sources, "out")):
                if group in spec.hidden:
                    each = spec.groups[group]
                    found[f"{each.name} {way}"][row] += np.bincount(ends, minlength=each.size)
    return {name: -np.sort(-profile, axis=1) for name, profile in found.items()}


def degree_distance(profiles: dict[str, Integers], masks: int) -> Floats:
    """Return ``(pairs,)``: how far fan-ins and fan-outs differ, whatever the units' numbers, in [0, 1].

    For each group and way the Wasserstein-1 distance between the two distributions of degrees, which is the
    mean difference of the sorted ones (Peyré & Cuturi 2019, "Computational Optimal Transport", remark 2.30),
    times the number of units: the degrees that must be moved to make them equal. Their sum over groups and
    ways is divided by all degrees of both masks.
    """
    first, second = pair_indices(masks)
    moved, total = np.zeros(len(first)), np.zeros(len(first))
    for profile in profiles.values():
        moved += np.abs(profile[first] - profile[second]).sum(axis=1)
        total += (profile[first] + profile[second]).sum(axis=1)
    return np.divide(moved, total, out=np.zeros_like(moved), where=total > 0)
