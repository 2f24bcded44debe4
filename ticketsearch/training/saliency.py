"""Saliency: prune and grow scores of a trained cohort's weights, see :mod:`ticketsearch.masks.guidance`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ticketsearch.masks import Guidance, Mask, MaskSpec, between_live
from ticketsearch.wiring import Compaction

__all__ = ["SALIENCIES", "Slopes", "gradients", "guidance_of", "outer"]

# Scores of guidance: magnitudes of weights and gradients, changes of the loss by curvature, or magnitudes for
# pruning and curvature for growing.
SALIENCIES = ("magnitude", "curvature", "mixed")
# Smallest curvature, as a share of the largest one of kept and growable weights: at inputs that are zero, any
# step would seem safe.
DAMPING = 1e-4
# Of float32; a network whose curvatures are all 0 has zero gradients too.
TINY = float(np.finfo(np.float32).tiny)


class Slopes(NamedTuple):
    """Gradients of the loss by weights, ``{layer: (P, *kept shape)}``.

    ``squares`` are means of the samples' squared gradients, i.e. the diagonal of the empirical Fisher matrix,
    or None.
    """

    gradients: Mapping[str, Tensor]
    squares: Mapping[str, Tensor] | None


def guidance_of(
    compactions: Sequence[Compaction],
    masks: Mask,
    trained: Mapping[str, Tensor],
    slopes: Slopes,
    specs: Sequence[MaskSpec] | None,
    share: float,
    saliency: str,
) -> list[Guidance | None]:
    """Return the guidance of each of P networks; None for one that is not finite.

    By magnitude, saliency is that of a trained weight, and growth that of the gradient. By curvature both are
    changes of the loss, in nats, to second order with a diagonal Hessian matrix: pruning a weight w costs
    ½ w² h (LeCun, Denker & Solla 1990, eq. 5, which leaves out the first-order term), and growing one gains
    at most ½ g² / h by a Newton step. The diagonal of the empirical Fisher matrix stands for h. Mixed
    guidance prunes by magnitude and grows by curvature.

    Parameters
    ----------
    compactions : kept units of each network in memory.
    masks : ``(P, weights)`` bool.
    trained : ``{layer: (P, *shape)}`` trained weights of the whole networks.
    slopes : of all weights in memory; with squares unless guidance is by magnitude alone.
    specs : specs of the rule of dead units for each network: candidates then join live units, inputs and
        outputs. None where networks are trained whole, and any pruned weight may be a candidate.
    share : number of candidates, as a share of the kept weights; more where scores tie at the last place.
    saliency : one of ``SALIENCIES``.
    """
    spec = compactions[0].wiring.spec
    # On a device, one transfer for each layer.
    weights = {name: tensor.detach().abs().cpu().numpy() for name, tensor in trained.items()}
    slopes_of = [tensor.abs().cpu().numpy() for tensor in slopes.gradients.values()]
    squares = [tensor.cpu().numpy() for tensor in (slopes.squares or {}).values()]
    guidance: list[Guidance | None] = []
    for index, (compaction, mask) in enumerate(zip(compactions, masks, strict=True)):
        growable = ~mask if specs is None else ~mask & between_live(mask, specs[index])
        weight = np.concatenate([weights[name][index][kept] for name, kept in spec.split(mask).items()])
        # A layer lies in memory as in the mask, so that indices ascend.
        inside = np.concatenate(
            [layer.offset + _indices(compaction, layer.name, layer.shape) for layer in spec.layers]
        )
        slope = np.concatenate([layer[index].ravel() for layer in slopes_of])
        salient, growth = weight, slope
        if squares:
            curvature = np.concatenate([layer[index].ravel() for layer in squares])
            with np.errstate(over="ignore", invalid="ignore"):  # of diverged networks
                if saliency == "curvature":
                    salient = weight**2 * _placed(curvature, inside, spec.size)[mask] / 2
                # Other weights in memory do not count: layouts decide which there are.
                largest = curvature[(mask | growable)[inside]].max(initial=TINY)
                growth = slope**2 / (2 * np.maximum(curvature, DAMPING * largest))
        if not all(np.isfinite(values).all() for values in (salient, slope, growth)):
            guidance.append(None)
            continue
        gaining = np.flatnonzero(growable[inside] & (growth > 0))
        best = gaining[_at_least(growth[gaining], round(share * len(salient)))]
        scores = salient.astype(np.float32), inside[best], growth[best].astype(np.float32)
        guidance.append(Guidance(*scores))
    return guidance


def _at_least(values: NDArray[np.floating], count: int) -> NDArray[np.bool_]:
    """Return ``(n,)`` bool: whether a value is among the ``count`` largest; equal values are alike."""
    if not 0 < count < len(values):
        return np.full(len(values), count > 0)
    largest: NDArray[np.bool_] = values >= np.partition(values, len(values) - count)[len(values) - count]
    return largest


def gradients(logits: Tensor, leaves: Sequence[Tensor], gradient: Tensor) -> list[Tensor]:
    """Return gradients of the loss by leaves of the logits' graph, from the gradient by the logits."""
    values = torch.autograd.grad(logits, leaves, gradient, allow_unused=True)
    return [torch.zeros_like(x) if value is None else value for x, value in zip(leaves, values, strict=True)]


def outer(changes: Tensor, read: Tensor) -> Tensor:
    """Return sums over samples of outer products, ``(P, units, inputs)``, network by network.

    ``changes`` are ``(P, units, samples)``; ``read`` is ``(inputs, samples)``, shared, or one for each.
    """
    networks = zip(changes, read.expand(len(changes), *read.shape[-2:]), strict=True)
    return torch.stack([change @ inputs.t() for change, inputs in networks])


def _indices(compaction: Compaction, name: str, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Return the indices within a layer of its weights in memory, in the order of memory."""
    places = compaction.places.get(name, ())
    axes = [*places, *(np.arange(size) for size in shape[len(places) :])]
    return np.ravel_multi_index(np.ix_(*axes), shape).ravel()


def _placed(values: NDArray[np.floating], indices: NDArray[np.int64], size: int) -> NDArray[np.floating]:
    """Return values of the weights in memory as ``(weights,)`` values of all, 0 elsewhere."""
    whole = np.zeros(size, dtype=values.dtype)
    whole[indices] = values
    return whole
