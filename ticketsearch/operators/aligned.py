"""A crossover of parents whose hidden neurons are numbered differently."""

from __future__ import annotations

import numpy as np

from ticketsearch.alignment import align_order
from ticketsearch.masks import Guidance, Mask, MaskSpec, permute
from ticketsearch.operators.crossovers import union_crossover

__all__ = ["aligned_crossover"]


def aligned_crossover(
    a: Mask,
    b: Mask,
    *,
    spec: MaskSpec,
    rng: np.random.Generator,
    guidance: tuple[Guidance | None, Guidance | None] = (None, None),
    temperature: float = 0.0,
) -> Mask:
    """Renumber the second parent's hidden neurons to overlap the first most, then :func:`union_crossover`.

    For tickets that are trained from initializations of their own: neuron 3 of one parent then has nothing
    in common with neuron 3 of the other, and the child is trained from the first parent's initialization. The
    saliencies of the second parent are renumbered too. See :func:`ticketsearch.alignment.align_order`.

    Parameters
    ----------
    a, b : parents, ``(weights,)`` bool; the child has the weight count of ``a``.
    guidance, temperature : as in :func:`union_crossover`.
    """
    order = align_order(b, a, spec, restarts=1)
    aligned = permute(b, spec, order)
    first, second = guidance
    if second is not None:
        saliencies = np.zeros(len(b), dtype=np.float32)
        saliencies[b] = second.saliency
        # Only saliencies are renumbered, as the union reads no candidates.
        second = second._replace(saliency=permute(saliencies, spec, order)[aligned])
    return union_crossover(a, aligned, spec=spec, rng=rng, guidance=(first, second), temperature=temperature)
