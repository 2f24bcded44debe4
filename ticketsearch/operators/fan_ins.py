"""Moves of hidden neurons' whole fan-ins."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ticketsearch.masks import Mask, MaskSpec, edges, live_edges
from ticketsearch.operators.finishing import finished
from ticketsearch.operators.swaps import swap_mutation

__all__ = ["fan_in_mutation"]


def fan_in_mutation(mask: Mask, *, spec: MaskSpec, rng: np.random.Generator, rate: float = 0.05) -> Mask:
    """Move the kept weights that lead to a hidden neuron, all of them together.

    Each fan-in that moves either leads from other sources, live ones where there are enough of them, or, by a
    fair coin, changes places with the fan-in (or with none) of another neuron of its group that leads
    anywhere. Kernels move as wholes, and each layer keeps its number of weights.

    Parameters
    ----------
    rate : chance that a neuron's fan-in moves, in [0, 1]; at least one does. Where nothing can, a swap is
        made (:func:`~ticketsearch.operators.swap_mutation`).
    """
    found = edges(mask, spec)
    fan_in, fan_out = ([np.zeros(group.size, dtype=np.bool_) for group in spec.groups] for _ in range(2))
    for piece, part in zip(spec.pieces, found, strict=True):
        fan_in[piece.target][part.rows] = True
        fan_out[piece.source][part.columns] = True
    neurons = [(group, unit) for group in spec.hidden for unit in np.flatnonzero(fan_in[group]).tolist()]
    if not neurons:
        return swap_mutation(mask, spec=spec, rng=rng, rate=rate)
    _, living = live_edges(mask, spec, constants=False)
    child = mask.copy()
    moved = min(max(1, int(rng.binomial(len(neurons), rate))), len(neurons))
    for index in rng.choice(len(neurons), moved, replace=False).tolist():
        group, unit = neurons[index]
        others = np.flatnonzero(fan_out[group])
        others = others[others != unit]
        if len(others) and rng.random() < 0.5:
            _exchange(child, spec, group, unit, int(rng.choice(others)))
        else:
            _redirect(child, spec, group, unit, living, rng)
    child = finished(child, spec, rng)
    if np.array_equal(child, mask):  # all sources, or those of a like neuron
        return swap_mutation(mask, spec=spec, rng=rng, rate=rate)
    return child


def _exchange(child: NDArray[np.bool_], spec: MaskSpec, group: int, unit: int, other: int) -> None:
    """Exchange the fan-ins of two units of a group, in place."""
    for piece in spec.pieces:
        if piece.target == group:
            window = spec.window(piece, child)
            window[[unit, other]] = window[[other, unit]]


def _redirect(
    child: NDArray[np.bool_],
    spec: MaskSpec,
    group: int,
    unit: int,
    living: list[NDArray[np.bool_]],
    rng: np.random.Generator,
) -> None:
    """Let a unit's fan-in lead from other sources, in place."""
    for piece in spec.pieces:
        if piece.target != group or piece.diagonal:
            continue
        row = spec.window(piece, child)[unit]
        kernels = row.reshape(spec.groups[piece.source].size, piece.positions).copy()
        sources = np.flatnonzero(kernels.any(axis=1))
        pool = np.flatnonzero(living[piece.source])
        if len(pool) < len(sources):
            pool = np.arange(len(kernels))
        kept = kernels[sources]
        kernels[:] = False
        kernels[rng.choice(pool, len(sources), replace=False)] = kept
        row[...] = kernels.reshape(row.shape)
