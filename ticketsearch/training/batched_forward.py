"""The forward pass of P networks of Linear layers at once, common to the engines that compute them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ticketsearch.training.dropout import Noise
from ticketsearch.training.flops import BLOCK
from ticketsearch.wiring import Compaction, Step, Wiring

__all__ = ["ALIGNMENT", "LINE", "Stacked", "filled"]

# Kernels round by alignment and at the tail, i.e. by position: axes are padded to multiples of this.
ALIGNMENT = 32
# Numbers in a cache line, the longest vector: rows of samples and of first-layer weights are padded to it.
LINE = 16


# (name of a layer, its biases, values or samples) -> outputs
Product = Callable[[str, Tensor | None, Tensor], Tensor]


class Stacked(ABC):
    """P networks of Linear layers whose values are ``(P, units, samples)``.

    Attributes
    ----------
    compactions : kept units of each network; all have the same widths.
    initial : initial parameters ``{name: tensor}``, one for each network.
    device, dtype : place and precision of the training.
    """

    # Samples of a block of an evaluation, which bounds memory. Fixed: a sum's last bits follow its blocks.
    block = BLOCK
    stacked = True

    def __init__(
        self,
        compactions: Sequence[Compaction],
        initial: Sequence[Mapping[str, Tensor]],
        *,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.size = len(compactions)
        self.moved: dict[str, Tensor] = {}
        self.device = device
        self.dtype = dtype
        self.compactions = compactions
        self.initial = initial if len(initial) == self.size else [*initial] * self.size
        self.wiring: Wiring = compactions[0].compacted
        steps = self.wiring.steps
        # Layers that read the samples themselves.
        self.first = frozenset(str(s.names[0]) for s in steps if s.layer >= 0 and s.inputs == (0,))

    @abstractmethod
    def bias(self, name: str) -> Tensor:
        """Return the biases ``(P, units)`` of a layer."""

    def run(self, x: Tensor, product: Product, noise: Noise | None) -> Tensor:
        """Return logits ``(P, classes, samples)`` of resident samples, one batch for all or one for each.

        ``product(layer, bias or None, x)`` gives a layer's outputs for values, or for the samples themselves.
        ``noise`` is given in training.
        """
        samples = x.shape[-2]
        missing = -samples % ALIGNMENT
        if missing:
            # With a sample, as slopes at zero may be infinite; the padding gets no gradient.
            x = torch.cat([x, x[..., :1, :].expand(*x.shape[:-2], missing, -1)], dim=-2)

        def evaluate(step: Step, values: list[Tensor]) -> Tensor:
            if step.operation == "input":
                return values[0]
            if step.operation == "linear":
                weight, bias = step.names[:2]
                return product(str(weight), None if bias is None else self.bias(bias), values[0])
            values = [
                self.units(value) if place == 0 else value
                for place, value in zip(step.inputs, values, strict=True)
            ]
            if step.operation == "concatenate":
                return torch.cat(values, dim=1)
            if step.operation == "dropout":
                return values[0] if noise is None else self._dropped(step, values[0], noise)
            return step.function(*values)

        return self.wiring.run(x, evaluate)[-1][:, :, :samples]

    def features(self, x: Tensor) -> Tensor:
        """Return a view of samples ``(…, features, samples)``, without padding."""
        return x[..., : self.wiring.steps[0].shape[0]].transpose(-1, -2)

    def units(self, x: Tensor) -> Tensor:
        """Return samples as values ``(P, units, samples)``."""
        value = self.features(x)
        # Contiguous: kernels go through a view in another order.
        return value.expand(self.size, *value.shape[-2:]).contiguous()

    def buffers(self) -> dict[str, Tensor]:
        """Return no buffers: training moves none of these networks'."""
        return {}

    def whole(self, name: str) -> Tensor:
        """Return the initial tensors of all networks, ``(P, *shape)``."""
        return torch.stack([tensors[name] for tensors in self.initial]).to(self.device, self.dtype)

    def _dropped(self, step: Step, value: Tensor, noise: Noise) -> Tensor:
        """Return values with features dropped; padding of the batch keeps all features."""
        factors = noise.kept_factors(step, self.compactions, noise.batches.shape[1], value)
        factors = F.pad(factors.transpose(1, 2), (0, value.shape[2] - factors.shape[1]), value=1.0)
        return value * factors


def filled(tensor: Tensor) -> Tensor:
    """Pad the last axis with zeros to a multiple of LINE."""
    missing = -tensor.shape[-1] % LINE
    return F.pad(tensor, (0, missing)) if missing else tensor
