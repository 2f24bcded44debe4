"""A scorer that calls a score function on each copy as masked so far, and checks its scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ticketsearch.errors import BadInput
from ticketsearch.masks import Mask, MaskSpec
from ticketsearch.models import Network
from ticketsearch.plugins import call, parameters_of
from ticketsearch.pruners.batching import Batch, Copies, Parts, ScoreFunction
from ticketsearch.typing import Floats

__all__ = ["FunctionScorer"]


class FunctionScorer:
    """Calls a score function on the networks as masked so far."""

    def __init__(
        self,
        networks: Sequence[Network],
        function: ScoreFunction,
        name: str,
        batches: list[Batch] | None,
        rngs: list[np.random.Generator],
        options: dict[str, Any],
    ) -> None:
        self.networks, self.function, self.name = networks, function, name
        self.batches, self.rngs, self.options = batches, rngs, options
        self.spec = networks[0].spec
        self.masks = np.ones((len(networks), self.spec.size), dtype=np.bool_)

    def scores(self) -> list[Floats]:
        """Return the scores of each copy's kept weights."""
        if getattr(self.function, "batched", False):
            batch = None
            if self.batches is not None:
                x, y = zip(*self.batches, strict=True)
                batch = (torch.stack(x), torch.stack(y))
            scores = self._called(Copies(self.networks), self.masks, batch, self.rngs)
        else:
            by_copy = [
                self._called(
                    network,
                    self.masks[i],
                    None if self.batches is None else self.batches[i],
                    self.rngs[i],
                )
                for i, network in enumerate(self.networks)
            ]
            scores = np.stack(by_copy)
        return [copy_scores[mask] for copy_scores, mask in zip(scores, self.masks, strict=True)]

    def _called(self, network: Network | Copies, masks: Mask, batch: Batch | None, rng: Any) -> Floats:
        # The masks are copied: a score function may store its mask or write to it.
        masked = {key: torch.from_numpy(part) for key, part in self.spec.split(masks.copy()).items()}
        keywords = {"rng": rng, **self.options}
        parts = call(self.function, "pruner", self.name, network, masked, batch, **keywords)
        trains = "lr" in parameters_of(self.function)
        return _flat_scores(parts, self.spec, self.name, masks.shape[:-1], trains)

    def cut(self, keep: list[NDArray[np.bool_]]) -> None:
        """Drop weights."""
        for mask, kept in zip(self.masks, keep, strict=True):
            mask[np.flatnonzero(mask)[~kept]] = False


def _flat_scores(parts: Parts, spec: MaskSpec, name: str, lead: tuple[int, ...], trains: bool) -> Floats:
    if not isinstance(parts, dict):
        raise BadInput(f"pruner {name!r} must return {{layer name: scores}}, but gave {type(parts).__name__}")
    flat = np.empty((*lead, spec.size), dtype=np.float64)
    for layer in spec.layers:
        part = parts.get(layer.name)
        shape = (*lead, *layer.shape)
        if not isinstance(part, Tensor) or tuple(part.shape) != shape:
            kind = "nothing" if part is None else type(part).__name__
            got = f"shape {tuple(part.shape)}" if isinstance(part, Tensor) else kind
            raise BadInput(
                f"pruner {name!r} must score {layer.name} by a tensor of shape {shape}, but gave {got}"
            )
        scores = part.detach().cpu().double().numpy()
        if not np.isfinite(scores).all():
            bad = int(np.count_nonzero(~np.isfinite(scores)))
            cause = "; its training diverged, lower lr" if trains else ""
            raise BadInput(
                f"scores must be finite, but {name!r} gave {bad} that are not in {layer.name}{cause}"
            )
        flat[..., layer.slice] = scores.reshape(*lead, layer.size)
    return flat
