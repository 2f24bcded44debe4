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

    It is for tickets that are trained from initializations of their own: there neuron 3 of one parent has
    nothing to do with neuron 3 of the other, and the child is trained from the first one's. The saliencies of
    the second parent's ``guidance`` are renumbered with it. See :func:`ticketsearch.overlap.align_order`.
    """
    order = align_order(b, a, spec, restarts=1)
    aligned = permute(b, spec, order)
    first, second = guidance
    if second is not None:
        saliencies = np.zeros(len(b), dtype=np.float32)
        saliencies[b] = second.saliency
        # The union reads nothing else of it: the candidates keep their old numbers.
        second = second._replace(saliency=permute(saliencies, spec, order)[aligned])
    return union_crossover(a, aligned, spec=spec, rng=rng, guidance=(first, second), temperature=temperature)
