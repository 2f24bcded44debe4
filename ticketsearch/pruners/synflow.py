"""SynFlow (Tanaka et al. 2020), and SynFlow with layers of equal mean score."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ticketsearch.errors import BadInput
from ticketsearch.models import Network
from ticketsearch.pruners.batching import Batch, Copies, Parts
from ticketsearch.pruners.flow import FlowNetwork
from ticketsearch.typing import Floats, Indices

__all__ = ["FlowScorer", "balanced_synflow", "synflow"]

# Low bits of the 53 of a score that are rounded off: they depend on the order of summation, which differs
# between kernels, numbers of copies and machines. Without them equal scores are exactly equal.
NOISE_BITS = 17


class FlowScorer:
    """Scores by flow of several copies whose masks only lose weights: the work follows the kept weights.

    ``strength`` is that of :func:`balanced_synflow`, ``biases`` that of :func:`synflow`.
    """

    def __init__(
        self, copies: Copies, kept: list[Indices], *, biases: bool = False, strength: float = 0.0
    ) -> None:
        if not (isinstance(strength, int | float) and 0 <= strength <= 1):
            raise BadInput(f"strength lies between 0 (synflow) and 1, but got {strength!r}")
        self.network = FlowNetwork(copies, kept, biases=biases)
        self.strength = strength

    def cut(self, keep: list[NDArray[np.bool_]]) -> None:
        """Drop weights: one bool for each kept weight of each copy."""
        self.network.cut(keep)

    def scores(self) -> list[Floats]:
        """Return for each copy the scores of its kept weights, in the order of their numbers.

        They are rounded to 36 bits, so that they do not depend on the order of summation.
        """
        scores_by_copy = self.network.scores()
        if self.strength:
            for copy, scores in enumerate(scores_by_copy):
                start = 0
                for layer in self.network.layers:
                    end = start + int(layer.bounds[copy + 1] - layer.bounds[copy])
                    if mean := float(scores[start:end].sum()) / layer.size:
                        scores[start:end] /= mean**self.strength
                    start = end
        for scores in scores_by_copy:
            if not np.isfinite(scores).all():
                raise BadInput("scores must be finite, but the flow of this network is not")
        return [_rounded(scores) for scores in scores_by_copy]


def _rounded(scores: Floats) -> Floats:
    """Return non-negative scores, rounded in place."""
    bits = scores.view(np.int64)
    bits += 1 << (NOISE_BITS - 1)
    bits &= -1 << NOISE_BITS
    return scores


def _scores(network: Network | Copies, mask: Parts, **options: Any) -> Parts:
    """Return the scores of a flow for a whole mask, pruned weights 0."""
    copies = network if isinstance(network, Copies) else Copies([network])
    lead = () if isinstance(network, Network) else (len(copies),)
    spec = copies.spec
    flat = np.concatenate(
        [mask[layer.name].numpy().reshape(len(copies), -1) for layer in spec.layers], axis=1
    )
    kept = [np.flatnonzero(copy_mask) for copy_mask in flat]
    scores = np.zeros(flat.shape)
    for row, numbers, copy_scores in zip(
        scores, kept, FlowScorer(copies, kept, **options).scores(), strict=True
    ):
        row[numbers] = copy_scores
    return {
        name: torch.from_numpy(part.reshape(*lead, *part.shape[1:]))
        for name, part in spec.split(scores).items()
    }


def synflow(
    network: Network,
    mask: Parts,
    batch: Batch | None,
    *,
    rng: np.random.Generator,
    biases: bool = False,
) -> Parts:
    """Return the synaptic-flow scores of every weight (Tanaka et al. 2020, equation 6 of Ross's notes).

    R is the sum of the outputs of the network with weights |θ ⊙ mask|, identity activations and an
    all-ones input; a weight's score is ∂R/∂θ ⊙ θ. Max-pooling takes maxima of flows. All layers share one
    scale, so scores may be compared between layers. Data are not used. ``biases`` lets |bias| and |shift|
    feed the flow, as the authors' code does; that breaks the conservation law and can collapse layers. It
    matters where they start non-zero, as under ``as_built``; the other schemes put them to zero.
    """
    return _scores(network, mask, biases=biases)


def balanced_synflow(
    network: Network,
    mask: Parts,
    batch: Batch | None,
    *,
    rng: np.random.Generator,
    strength: float = 1.0,
) -> Parts:
    """Return synaptic-flow scores divided by (the mean score of their layer) to the power ``strength``.

    In a chain the scores of each layer sum to the same R (theorem 2 of Ross's notes), so their mean is
    R / n for n weights: large layers have small scores and are cut first. With ``strength`` 1 every layer's
    mean over all its weights is 1, and a layer that has lost more than others has larger scores among the
    kept ones, so that compression is nearly equal for all layers, as the note's commentary asks. With 0 this
    is SynFlow. Data are not used.
    """
    return _scores(network, mask, strength=strength)


synflow.scorer = FlowScorer  # type: ignore[attr-defined]
balanced_synflow.scorer = lambda copies, kept, strength=1.0: FlowScorer(  # type: ignore[attr-defined]
    copies, kept, strength=strength
)
