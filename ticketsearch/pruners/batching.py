"""Score functions of several networks of one architecture at once, and the marks of score functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ticketsearch.checks import checked
from ticketsearch.errors import BadInput
from ticketsearch.masks import MaskSpec
from ticketsearch.models import Network
from ticketsearch.wiring import Wiring

__all__ = ["Batch", "Copies", "Parts", "ScoreFunction", "batched", "check_copies", "one_cut"]

# Samples and labels.
Batch = tuple[Tensor, Tensor]
# {layer name: tensor}.
Parts = dict[str, Tensor]
ScoreFunction = Callable[..., Parts]


class Copies:
    """Networks of one architecture, their tensors stacked along a first axis.

    Attributes
    ----------
    networks : the copies.
    spec, wiring : shared by all of them.
    """

    def __init__(self, networks: Sequence[Network]) -> None:
        self.networks = tuple(networks)
        self.wiring: Wiring = self.networks[0].wiring
        self.spec: MaskSpec = self.wiring.spec
        check_copies(self.networks)

    def __len__(self) -> int:
        return len(self.networks)

    def parameters(self) -> Parts:
        """Return ``{name: (copies, *shape) tensor}`` of all parameters."""
        return _stacked([network.parameters() for network in self.networks])

    def buffers(self) -> Parts:
        """Return ``{name: (copies, *shape) tensor}`` of all buffers."""
        return _stacked([network.buffers() for network in self.networks])

    def weights(self) -> Parts:
        """Return ``{layer name: (copies, *layer shape) tensor}`` of the maskable weights, in float64."""
        weights = {}
        for layer in self.spec.layers:
            tensors = [network.module.get_parameter(layer.name).detach() for network in self.networks]
            weights[layer.name] = torch.stack(tensors).double()
        return weights


def check_copies(networks: Sequence[Network]) -> None:
    """Raise :class:`BadInput` for networks that are not of one architecture."""
    first, *others = networks
    for other in others:
        same = all(
            getattr(first.spec, part) == getattr(other.spec, part) for part in ("layers", "groups", "pieces")
        )
        if not same or _computation(first.wiring) != _computation(other.wiring):
            raise BadInput(
                "several networks are pruned at once if they are initializations of one architecture, but "
                f"{first.name!r} and {other.name!r} differ; prune them one by one"
            )


def _computation(wiring: Wiring) -> list[tuple[Any, ...]]:
    return [(step.operation, step.inputs, step.shape, step.names, step.layer) for step in wiring.steps]


def _stacked(copies: Sequence[Parts]) -> Parts:
    return {name: torch.stack([tensors[name] for tensors in copies]) for name in copies[0]}


class _Batched(Protocol):
    """A score function of copies: masks, samples, labels and scores have a first axis of copies."""

    def __call__(
        self,
        network: Copies,
        mask: Parts,
        batch: Batch | None,
        *,
        rng: Sequence[np.random.Generator],
        **options: Any,
    ) -> Parts: ...


@checked
def batched(function: Callable[..., Parts]) -> ScoreFunction:
    """Let a score function of :class:`Copies` score a single network too.

    ``function(network, mask, batch, *, rng, **options)`` is written for copies: the mask, the samples and
    labels of the batch, and the scores have a first axis of copies, and ``rng`` is one generator a copy.
    A Network is given to it as a stack of one; :func:`ticketsearch.pruners.prune_all` gives it many.
    """

    @wraps(function)
    def single(
        network: Network | Copies, mask: Parts, batch: Batch | None, *, rng: Any, **options: Any
    ) -> Parts:
        if isinstance(network, Copies):
            return function(network, mask, batch, rng=rng, **options)
        stacked = {name: part[None] for name, part in mask.items()}
        samples = None if batch is None else (batch[0][None], batch[1][None])
        scores = function(Copies([network]), stacked, samples, rng=[rng], **options)
        return {name: part[0] for name, part in scores.items()}

    single.batched = True  # type: ignore[attr-defined]
    return single


def one_cut(function: ScoreFunction) -> ScoreFunction:
    """Mark a score function that prunes in one cut, unless ``steps`` says otherwise."""
    function.one_cut = True  # type: ignore[attr-defined]
    return function
