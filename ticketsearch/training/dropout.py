"""Dropout: its noise, the same for every mask that is trained on the same data order."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ticketsearch.errors import BadInput
from ticketsearch.wiring import Compaction, Step, Wiring, drop_path

__all__ = ["Noise", "check_noise"]


class Noise:
    """Noise of one training step; it depends on the step's index and its samples alone.

    It is drawn on the CPU whatever the device, from one generator for each batch. Equal data orders give
    equal noise: to all masks of a generation, in any cohort, at any width that an engine pads to.

    Parameters
    ----------
    batches : ``(batches, samples)`` sample indices of this step, one batch for all networks or one for each.
    step : its index.
    """

    def __init__(self, batches: NDArray[np.int64], step: int) -> None:
        self.batches = batches
        self.step = step
        self._generators: list[np.random.Generator] = []

    def factors(self, step: Step, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Return the factors of a dropout step on values ``(samples, ...)``: 0 or 1 / (1 - p).

        They have shape ``(batches, *shape)``, 1 along axes that are dropped whole, and dtype and device of
        ``like``.
        """
        dropout: Any = step.function
        drawn = _drawn(dropout.function, shape)
        kept = np.stack([rng.random(drawn, dtype=np.float32) >= dropout.p for rng in self._rngs()])
        scale = 1 / (1 - dropout.p) if dropout.p < 1 else 0.0
        return torch.from_numpy(kept).to(like.device).to(like.dtype) * scale

    def kept_factors(
        self, step: Step, compactions: Sequence[Compaction], samples: int, like: Tensor
    ) -> Tensor:
        """Return the factors of kept features, ``(networks or 1, samples, kept features, ...)``.

        ``step`` is one of the compacted networks; the noise is drawn for the whole networks.
        """
        index = compactions[0].steps.index(step)
        whole = compactions[0].wiring.steps[index]
        factors = self.factors(step, (samples, *whole.shape), like)
        if factors.shape[2] != whole.shape[0]:  # all features of a sample are dropped as one
            return factors
        kept = torch.from_numpy(np.stack([c.features[index] for c in compactions])).to(like.device)
        shape = len(compactions), samples, kept.shape[1], *factors.shape[3:]
        kept = kept.view(len(compactions), 1, -1, *[1] * (factors.ndim - 3)).expand(shape)
        return factors.expand(len(compactions), *factors.shape[1:]).gather(2, kept)

    def forward(self, wiring: Wiring, tensors: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """Return the outputs ``(samples, classes)`` of one whole network in training, under this noise.

        ``tensors`` are its parameters and buffers; running statistics are updated in place.
        """

        def evaluate(step: Step, values: list[Tensor]) -> Tensor:
            if step.operation == "dropout":
                return values[0] * self.factors(step, tuple(values[0].shape), values[0])[0]
            return wiring.evaluate(step, values, tensors, training=True)

        return wiring.run(x, evaluate)[-1]

    def _rngs(self) -> list[np.random.Generator]:
        if not self._generators:
            for batch in self.batches:
                content = batch.astype("<i8").tobytes() + self.step.to_bytes(8, "little")
                digest = hashlib.blake2b(content, digest_size=16).digest()
                self._generators.append(np.random.default_rng(int.from_bytes(digest, "little")))
        return self._generators


def check_noise(wiring: Wiring) -> None:
    """Raise :class:`BadInput` for dropout in a module that is not traced: its noise is not reproducible."""
    if wiring.steps:
        return
    for name, child in wiring.module.named_modules():
        dropout: Any = getattr(child, "dropout", 0)  # a probability in attention and recurrent modules
        if isinstance(child, nn.modules.dropout._DropoutNd):
            dropout = child.p
        if isinstance(dropout, int | float) and dropout > 0:
            kind = type(wiring.module).__name__
            raise BadInput(
                f"dropout is trained only in networks that are traced, but {name or kind!r} drops units of "
                f"{kind}, whose neuron groups are declared by hand; set it to 0"
            )


def _drawn(function: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape that torch's dropout functions draw for values of a shape."""
    if function is F.dropout:
        return shape
    if function is drop_path:
        return shape[:1] + (1,) * (len(shape) - 1)
    # torch takes values that lack an axis for one sample, whose channels are then our samples.
    wholes = 1 if (function, len(shape)) in ((F.dropout1d, 2), (F.dropout3d, 4)) else 2
    return shape[:wholes] + (1,) * (len(shape) - wholes)
