"""Profiles of masks: the distribution of weights over layers, and over the units of a group."""

from __future__ import annotations

import numpy as np

from ticketsearch.alignment import pair_indices
from ticketsearch.masks import Mask, MaskSpec, edges, layer_counts
from ticketsearch.typing import Floats, Integers

__all__ = ["degree_distance", "degrees", "density_distance"]


def density_distance(masks: Mask, spec: MaskSpec) -> Floats:
    """Return ``(pairs,)``: the share of weights that lie in different layers, in [0, 1].

    The total variation distance between the shares of kept weights that each layer has (Levin & Peres 2017,
    "Markov Chains and Mixing Times", section 4.1). ``masks`` are ``(population, weights)``.
    """
    counts = layer_counts(masks, spec)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    first, second = pair_indices(len(masks))
    distance: Floats = np.abs(shares[first] - shares[second]).sum(axis=1) / 2
    return distance


def degrees(masks: Mask, spec: MaskSpec) -> dict[str, Integers]:
    """Return the sorted fan-ins and fan-outs of the units, each row descending.

    The result is ``{"<hidden group> in", "<hidden group> out": (population, units)}``.
    """
    profiles = {}
    for group in spec.hidden:
        size = spec.groups[group].size
        for way in ("in", "out"):
            profiles[f"{spec.groups[group].name} {way}"] = np.zeros((len(masks), size), dtype=np.int64)
    for row, mask in enumerate(masks):
        for piece, (targets, sources, _) in zip(spec.pieces, edges(mask, spec), strict=True):
            for group, ends, way in ((piece.target, targets, "in"), (piece.source, sources, "out")):
                if group in spec.hidden:
                    hidden = spec.groups[group]
                    profiles[f"{hidden.name} {way}"][row] += np.bincount(ends, minlength=hidden.size)
    return {name: -np.sort(-profile, axis=1) for name, profile in profiles.items()}


def degree_distance(profiles: dict[str, Integers], masks: int) -> Floats:
    """Return ``(pairs,)``: the distance of fan-ins and fan-outs under any numbering of units, in [0, 1].

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
