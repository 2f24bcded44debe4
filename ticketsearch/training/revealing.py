"""Revealing: the guidance that a trained cohort gives, see :mod:`ticketsearch.guidance`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ticketsearch.guidance import Guidance
from ticketsearch.masks import Mask, MaskSpec, largest, live_units
from ticketsearch.wiring import Compaction

__all__ = ["revealed", "slopes_of"]


def revealed(
    compactions: Sequence[Compaction],
    masks: Mask,
    trained: Mapping[str, Tensor],
    slopes: Mapping[str, Tensor],
    specs: Sequence[MaskSpec] | None,
    share: float,
) -> list[Guidance | None]:
    """Return the guidance of each of P networks; None for one that is not finite.

    Parameters
    ----------
    compactions : what is kept in memory of each network.
    masks : ``(P, weights)`` bool.
    trained : ``{layer: (P, *shape)}`` trained weights of the whole networks.
    slopes : ``{layer: (P, *kept shape)}`` gradients of the loss by all weights that are in memory.
    specs : whose rule of dead units holds for each network: candidates then join live units, inputs and
        outputs. None where networks are trained whole, and any pruned weight may be a candidate.
    share : candidates, as a share of the kept weights.
    """
    spec = compactions[0].wiring.spec
    # On a device, one transfer a layer.
    weights = {name: tensor.detach().abs().cpu().numpy() for name, tensor in trained.items()}
    gradients = {name: tensor.detach().abs().cpu().numpy() for name, tensor in slopes.items()}
    found: list[Guidance | None] = []
    for number, (compaction, mask) in enumerate(zip(compactions, masks, strict=True)):
        parts = spec.split(mask)
        open_to = ~mask if specs is None else ~mask & _between_live(mask, specs[number])
        magnitude = np.concatenate([weights[name][number][kept] for name, kept in parts.items()])
        places, growth = [], []
        for layer in spec.layers:
            own = gradients[layer.name][number].ravel()
            numbers = layer.offset + _numbers(compaction, layer.name, layer.shape)
            worth = open_to[numbers] & (own > 0)
            places.append(numbers[worth])
            growth.append(own[worth])
        chosen, strength = np.concatenate(places), np.concatenate(growth)
        # A layer lies in memory as in the mask, so that they ascend; of equals the first are taken.
        strong = largest(strength, round(share * len(magnitude)))
        finite = np.isfinite(magnitude).all() and all(
            np.isfinite(g[number]).all() for g in gradients.values()
        )
        found.append(_guidance(magnitude, chosen[strong], strength[strong]) if finite else None)
    return found


def slopes_of(
    logits: Tensor, weights: Mapping[str, Tensor], gradient: Callable[[Tensor], Tensor]
) -> dict[str, Tensor]:
    """Return gradients of the loss by the weights that logits were computed with, by name."""
    leaves = list(weights.values())
    found = torch.autograd.grad(logits, leaves, gradient(logits.detach()), allow_unused=True)
    each = zip(weights.items(), found, strict=True)
    return {name: torch.zeros_like(weight) if own is None else own for (name, weight), own in each}


def _between_live(mask: Mask, spec: MaskSpec) -> Mask:
    """Return which weights join units that are live, or inputs or outputs: ``(weights,)`` bool."""
    units = live_units(mask, spec)
    alive = [units[group.name] | (group.kind != "hidden") for group in spec.groups]
    found = np.zeros(spec.size, dtype=np.bool_)
    for piece in spec.pieces:
        window = spec.window(piece, found)
        joined = alive[piece.target][:, None]
        if not piece.diagonal:
            joined = joined & np.repeat(alive[piece.source], piece.block)
        window[...] = joined.reshape(joined.shape + (1,) * (window.ndim - 2))
    return found


def _numbers(compaction: Compaction, name: str, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Return the numbers within its layer of the weights that are in memory, as they lie there."""
    places = compaction.places.get(name, ())
    axes = [*places, *(np.arange(size) for size in shape[len(places) :])]
    return np.ravel_multi_index(np.ix_(*axes), shape).ravel()


def _guidance(
    magnitude: NDArray[np.floating], candidates: NDArray[np.int64], growth: NDArray[np.floating]
) -> Guidance:
    return Guidance(magnitude.astype(np.float32), candidates, growth.astype(np.float32))
