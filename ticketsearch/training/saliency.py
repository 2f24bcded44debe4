"""Revealing: the guidance that a trained cohort gives, see :mod:`ticketsearch.masks.guidance`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ticketsearch.masks import Guidance, Mask, MaskSpec, between_live
from ticketsearch.wiring import Compaction

__all__ = ["SALIENCIES", "Slopes", "gradients", "outer", "revealed"]

# What guidance goes by: magnitudes of weights and gradients, the loss that curvature lets expect, or
# magnitudes of weights, and what growing others lets expect.
SALIENCIES = ("magnitude", "curvature", "mixed")
# Curvatures below this share of the largest one, of weights that are kept or may be, count as so much: where
# nothing is read, any step would seem safe.
DAMPING = 1e-4
# Of float32; a network whose curvatures are all 0 has no pulls either.
TINY = float(np.finfo(np.float32).tiny)


class Slopes(NamedTuple):
    """Gradients of the loss by weights, ``{layer: (P, *kept shape)}``.

    ``squares`` are means of samples' squared gradients, the diagonal of the empirical Fisher matrix, or None.
    """

    gradients: Mapping[str, Tensor]
    squares: Mapping[str, Tensor] | None


def revealed(
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
    ½ w² h (LeCun, Denker & Solla 1990, eq. 5; their term of first order, too, is left out), and growing one
    gains at most ½ g² / h by a step of Newton's. For h stands the empirical Fisher matrix's diagonal. Mixed
    guidance prunes by magnitude and grows by curvature.

    Parameters
    ----------
    compactions : what is kept in memory of each network.
    masks : ``(P, weights)`` bool.
    trained : ``{layer: (P, *shape)}`` trained weights of the whole networks.
    slopes : of all weights that are in memory; with squares unless guidance is by magnitude alone.
    specs : whose rule of dead units holds for each network: candidates then join live units, inputs and
        outputs. None where networks are trained whole, and any pruned weight may be a candidate.
    share : candidates, as a share of the kept weights; more where equals share the last place.
    saliency : one of ``SALIENCIES``.
    """
    spec = compactions[0].wiring.spec
    # On a device, one transfer a layer.
    weights = {name: tensor.detach().abs().cpu().numpy() for name, tensor in trained.items()}
    pulls = {name: tensor.abs().cpu().numpy() for name, tensor in slopes.gradients.items()}
    squares = {name: tensor.cpu().numpy() for name, tensor in (slopes.squares or {}).items()}
    found: list[Guidance | None] = []
    for number, (compaction, mask) in enumerate(zip(compactions, masks, strict=True)):
        parts = spec.split(mask)
        open_to = ~mask if specs is None else ~mask & between_live(mask, specs[number])
        weight = np.concatenate([weights[name][number][kept] for name, kept in parts.items()])
        # A layer lies in memory as in the mask, so that numbers ascend.
        inside = np.concatenate(
            [layer.offset + _numbers(compaction, layer.name, layer.shape) for layer in spec.layers]
        )
        pull = np.concatenate([own[number].ravel() for own in pulls.values()])
        salient, growth = weight, pull
        if squares:
            curve = np.concatenate([own[number].ravel() for own in squares.values()])
            with np.errstate(over="ignore", invalid="ignore"):  # of what has diverged
                if saliency == "curvature":
                    salient = weight**2 * _placed(curve, inside, spec.size)[mask] / 2
                # Not of what is in memory beside these, which layouts decide.
                most = curve[(mask | open_to)[inside]].max(initial=TINY)
                growth = pull**2 / (2 * np.maximum(curve, DAMPING * most))
        if not all(np.isfinite(values).all() for values in (salient, pull, growth)):
            found.append(None)
            continue
        worth = np.flatnonzero(open_to[inside] & (growth > 0))
        strong = worth[_at_least(growth[worth], round(share * len(salient)))]
        each = salient.astype(np.float32), inside[strong], growth[strong].astype(np.float32)
        found.append(Guidance(*each))
    return found


def _at_least(values: NDArray[np.floating], count: int) -> NDArray[np.bool_]:
    """Return which of ``(n,)`` values are among the ``count`` largest; equals are, or are not, together."""
    if not 0 < count < len(values):
        return np.full(len(values), count > 0)
    found: NDArray[np.bool_] = values >= np.partition(values, len(values) - count)[len(values) - count]
    return found


def gradients(logits: Tensor, leaves: Sequence[Tensor], gradient: Tensor) -> list[Tensor]:
    """Return gradients of the loss by what logits were computed with, from that by the logits."""
    found = torch.autograd.grad(logits, leaves, gradient, allow_unused=True)
    return [torch.zeros_like(leaf) if own is None else own for leaf, own in zip(leaves, found, strict=True)]


def outer(changes: Tensor, read: Tensor) -> Tensor:
    """Return sums over samples of products ``(P, units, inputs)``, each network's by itself.

    ``changes`` are ``(P, units, samples)``; ``read`` is ``(inputs, samples)``, shared, or one for each.
    """
    each = zip(changes, read.expand(len(changes), *read.shape[-2:]), strict=True)
    return torch.stack([change @ own.t() for change, own in each])


def _numbers(compaction: Compaction, name: str, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Return the numbers within its layer of the weights that are in memory, as they lie there."""
    places = compaction.places.get(name, ())
    axes = [*places, *(np.arange(size) for size in shape[len(places) :])]
    return np.ravel_multi_index(np.ix_(*axes), shape).ravel()


def _placed(values: NDArray[np.floating], numbers: NDArray[np.int64], size: int) -> NDArray[np.floating]:
    """Return values of the weights in memory as those of all, 0 elsewhere: ``(weights,)``."""
    whole = np.zeros(size, dtype=values.dtype)
    whole[numbers] = values
    return whole
