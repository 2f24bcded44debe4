"""Mutation that moves the whole fan-in of hidden neurons."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ticketsearch.masks import Mask, MaskSpec, edges, live_edges
from ticketsearch.operators.refill import refill_empty_layers
from ticketsearch.operators.swaps import swap_mutation

__all__ = ["fan_in_mutation"]


def fan_in_mutation(mask: Mask, *, spec: MaskSpec, rng: np.random.Generator, rate: float = 0.05) -> Mask:
    """Move the fan-ins of hidden neurons: all kept weights that lead to a neuron move together.

    By a fair coin, a fan-in either gets other sources, live ones where there are enough, or changes places
    with the fan-in, possibly empty, of another neuron of its group that has outgoing weights. Kernels move as
    a whole, and each layer keeps its weight count.

    Parameters
    ----------
    rate : probability that a neuron's fan-in moves, in [0, 1]; at least one moves. Where none can, weights
        are swapped (:func:`~ticketsearch.operators.swap_mutation`).
    """
    kept = edges(mask, spec)
    fan_in, fan_out = ([np.zeros(group.size, dtype=np.bool_) for group in spec.groups] for _ in range(2))
    for piece, part in zip(spec.pieces, kept, strict=True):
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
    child = refill_empty_layers(child, spec, rng)
    if np.array_equal(child, mask):  # the draw gave the same sources
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
    """Give a unit's fan-in other sources, in place."""
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
