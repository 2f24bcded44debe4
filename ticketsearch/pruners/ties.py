"""Equal scores: the lot that orders them, and the warning where it decided many of the kept weights."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ticketsearch.errors import BadInput
from ticketsearch.masks import Mask, largest
from ticketsearch.models import Initialization, Network
from ticketsearch.random_streams import Stream, seed_sequence
from ticketsearch.typing import Floats
from ticketsearch.wiring import Scale

__all__ = [
    "UNMENTIONED",
    "EqualScoresWarning",
    "PruningWarning",
    "mask_of_scores",
    "tie_generator",
    "warn_of_equal_scores",
]

# Child of a pruning's seed; beyond the numbers that spawn() gives, and apart from those of imp.
TIES = 2**32 - 3
# The share of the kept weights, and in tiny networks their number, that is drawn among equal scores without a
# word: weights in series have equal scores, of which the last cut may have to leave out one.
UNMENTIONED, FEW = 0.01, 10


class PruningWarning(UserWarning):
    """A mask has its exact number of weights, but its pruner had less to go by than one would think."""


class EqualScoresWarning(PruningWarning):
    """More than a hundredth of the kept weights, and more than ten, were drawn among equal scores."""


def tie_generator(rng: np.random.Generator, initialization: Initialization) -> np.random.Generator:
    """Return the generator that draws among equal scores: it follows from a pruner's seed and initialization.

    Two initializations of equal scores so get masks that overlap no more than by chance. The state of ``rng``
    does not matter, only its seed. Raises :class:`BadInput` for a generator without a seed.
    """
    seed = rng.bit_generator.seed_seq
    if not isinstance(seed, np.random.SeedSequence):
        raise BadInput(
            "equal scores are drawn by a seed, but this rng has none; make it by numpy.random.default_rng(0)"
        )
    scheme = int.from_bytes(hashlib.sha256(initialization.scheme.encode()).digest()[:4], "little")
    key = (*seed.spawn_key, TIES, scheme, initialization.seed)
    return np.random.default_rng(np.random.SeedSequence(seed.entropy, spawn_key=key))


def mask_of_scores(scores: Floats, count: int, *, seed: int, initialization: Initialization) -> Mask:
    """Return the ``(weights,)`` mask of the ``count`` largest scores: the result of pruning in one cut."""
    rng = np.random.default_rng(seed_sequence(seed, Stream.PRUNING))
    return largest(scores, count, tie_generator(rng, initialization))


def warn_of_equal_scores(
    name: str,
    density: float,
    networks: Sequence[Network],
    drawn: Sequence[NDArray[np.bool_]],
    scores: Sequence[Floats],
    *,
    stacklevel: int,
) -> None:
    """Warn if more than a hundredth of the kept weights of some network were drawn by lot.

    ``drawn`` and ``scores`` are one ``(kept,)`` array for each network, over the weights kept in the end:
    which of them were drawn among equal scores, and their scores at the last cut.
    """
    counts = [int(np.count_nonzero(lot)) for lot in drawn]
    most = int(np.argmax(counts))
    kept = len(drawn[most])
    if counts[most] <= max(UNMENTIONED * kept, FEW):
        return
    several = f", and as many or fewer of {len(counts) - 1} other initializations" if len(counts) > 1 else ""
    cause = ""
    if (scores[most][drawn[most]] == 0).any():
        zero = _zero_tensors(networks[most])
        cause = "; scores of 0 were among them"
        if zero:
            cause += f", since {', '.join(zero)} {'is' if len(zero) == 1 else 'are'} 0"
    warnings.warn(
        f"{name} at density {density:g}: {counts[most]:,} of {kept:,} kept weights were drawn among equal "
        f"scores{several}{cause}",
        EqualScoresWarning,
        stacklevel=stacklevel + 1,
    )


def _zero_tensors(network: Network) -> list[str]:
    """Return the names of weights and scales that are 0 everywhere: no flow passes through them."""
    tensors = network.parameters()
    scaling = ("linear", "normalize", "mix")  # other steps scale only where they multiply by a tensor
    names = [
        step.names[0]
        for step in network.wiring.steps
        if step.names and (step.operation in scaling or isinstance(step.function, Scale))
    ]
    names += [layer.name for layer in network.spec.layers]
    unique = dict.fromkeys(name for name in names if name in tensors)
    return [name for name in unique if not bool(torch.count_nonzero(tensors[name]))]
