"""FLOPs: multiplications of masked networks, and the cost of training and evaluating them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ticketsearch.cost import Spent, spending
from ticketsearch.masks import Mask, between_live, layer_counts, live
from ticketsearch.wiring import Compaction, Wiring, whole

__all__ = [
    "BLOCK",
    "compacted_operations",
    "growable_operations",
    "kept_operations",
    "layer_positions",
    "layer_sizes",
    "live_operations",
    "operations_a_sample",
    "training_cost",
]

# Samples of the largest batch that a network sees, in an evaluation.
BLOCK = 1024


def training_cost(
    wiring: Wiring,
    masks: Mask,
    *,
    steps: int,
    batch: int,
    samples: int,
    guiding: int = 0,
    grows: bool = False,
) -> Spent:
    """Return the cost of training masked networks and evaluating each, by live kept weights.

    Parameters
    ----------
    wiring : of the architecture.
    masks : ``(P, weights)`` bool.
    steps, batch : optimizer steps of each network, and samples of a step.
    samples : forward passes of each network's evaluation.
    guiding : samples whose gradients give guidance; 0 where there is none.
    grows : whether guidance scores pruned weights for growth too.
    """
    return spending(
        live_operations(wiring, masks),
        steps=steps,
        batch=batch,
        samples=samples,
        guiding=guiding,
        growable=growable_operations(wiring, masks) if grows else 0,
    )


def operations_a_sample(wiring: Wiring) -> float:
    """Return the multiplications of the whole network for one sample, forward.

    The number of weights for a network without steps, whose groups are declared by hand.
    """
    return compacted_operations(whole(wiring))


def live_operations(wiring: Wiring, masks: Mask) -> NDArray[np.int64]:
    """Return the multiplications ``(P,)`` of networks for one sample, forward, by live kept weights alone.

    ``masks`` are ``(P, weights)`` bool. Live weights lie on a path that can matter: see
    :func:`ticketsearch.masks.live`.
    """
    positions = layer_positions(wiring)
    uses = np.array([positions.get(layer, 1) for layer in range(len(wiring.spec.layers))])
    counts = [layer_counts(live(mask, wiring.spec), wiring.spec) for mask in masks]
    operations: NDArray[np.int64] = np.array(counts, dtype=np.int64).reshape(len(masks), len(uses)) @ uses
    return operations


def kept_operations(wiring: Wiring, masks: Mask) -> NDArray[np.int64]:
    """Return the multiplications ``(P,)`` of masked networks for one sample, forward, by all kept weights."""
    positions = layer_positions(wiring)
    operations = np.zeros(len(masks), dtype=np.int64)
    for index, layer in enumerate(wiring.spec.layers):
        operations += np.count_nonzero(masks[:, layer.slice], axis=1) * positions.get(index, 1)
    return operations


def growable_operations(wiring: Wiring, masks: Mask) -> NDArray[np.int64]:
    """Return the multiplications ``(P,)`` of the pruned weights between live units, which may be grown."""
    growable = [between_live(mask, wiring.spec) & ~mask for mask in masks]
    return kept_operations(wiring, np.stack(growable) if growable else masks)


def compacted_operations(compaction: Compaction) -> float:
    """Return the multiplications of a network for one sample, forward; weights if it has no steps."""
    positions = layer_positions(compaction.wiring)
    sizes = layer_sizes(compaction)
    return float(sum(size * positions.get(layer, 1) for layer, size in enumerate(sizes)))


def layer_sizes(compaction: Compaction) -> list[int]:
    """Return the number of weights of each layer that are kept in memory."""
    sizes = []
    for layer in compaction.wiring.spec.layers:
        places = compaction.places.get(layer.name, ())
        sizes.append(torch.Size([*map(len, places), *layer.shape[len(places) :]]).numel())
    return sizes


def layer_positions(wiring: Wiring) -> dict[int, int]:
    """Return the number of image positions at which each layer is applied, ``{layer: positions}``."""
    return {step.layer: torch.Size(step.shape[1:]).numel() for step in wiring.steps if step.layer >= 0}
