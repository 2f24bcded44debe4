"""Forward passes of P networks at once, whatever computes the products of their layers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ticketsearch.training.dropout import Noise
from ticketsearch.training.layout import BLOCK
from ticketsearch.wiring import Compaction, Step, Wiring

__all__ = ["ALIGNMENT", "LINE", "Stacked", "filled"]

# Kernels round by alignment and at the tail, i.e. by position: what they work on comes in multiples of this.
ALIGNMENT = 32
# Numbers in a cache line, which no vector is longer than: rows of samples and of the weights that read them.
LINE = 16


# (name of a layer, its biases, values or samples) -> values
Product = Callable[[str, Tensor | None, Tensor], Tensor]


class Stacked(ABC):
    """P networks of Linear layers whose values are ``(P, units, samples)``.

    Attributes
    ----------
    compactions : what is kept of each network; all of the same widths.
    initial : initial parameters ``{name: tensor}``, one for each network.
    device, dtype : where and in what precision the networks are trained.
    """

    # Samples an evaluation takes at once: bounds its memory. Fixed, as a sum's last bits follow its blocks.
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
        self.wiring: Wiring = compactions[0].narrow
        steps = self.wiring.steps
        # Layers that read the samples themselves.
        self.first = frozenset(str(own.names[0]) for own in steps if own.layer >= 0 and own.inputs == (0,))

    @abstractmethod
    def bias(self, name: str) -> Tensor:
        """Return the biases ``(P, units)`` of a layer."""

    def run(self, x: Tensor, product: Product, noise: Noise | None) -> Tensor:
        """Return logits ``(P, classes, samples)`` of resident samples, one batch for all or one for each.

        ``product(layer, bias or None, x)`` gives what a layer makes of values, or of the samples themselves.
        ``noise`` says that this is training.
        """
        samples = x.shape[-2]
        missing = -samples % ALIGNMENT
        if missing:
            # By a sample, as zeros may have infinite slopes; it gets no gradient.
            x = torch.cat([x, x[..., :1, :].expand(*x.shape[:-2], missing, -1)], dim=-2)

        def evaluate(step: Step, values: list[Tensor]) -> Tensor:
            if step.operation == "input":
                return values[0]
            if step.operation == "linear":
                other = step.names[1]
                return product(str(step.names[0]), None if other is None else self.bias(other), values[0])
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
        """Return a view of samples ``(…, features, samples)``, without what fills them up."""
        return x[..., : self.wiring.steps[0].shape[0]].transpose(-1, -2)

    def units(self, x: Tensor) -> Tensor:
        """Return samples as a value ``(P, units, samples)``."""
        value = self.features(x)
        # As a tensor of its own: kernels go through a view in another order.
        return value.expand(self.size, *value.shape[-2:]).contiguous()

    def buffers(self) -> dict[str, Tensor]:
        """Return no buffers: these networks have none that training moves."""
        return {}

    def whole(self, name: str) -> Tensor:
        """Return the initial tensors of all networks, ``(P, *shape)``."""
        return torch.stack([tensors[name] for tensors in self.initial]).to(self.device, self.dtype)

    def _dropped(self, step: Step, value: Tensor, noise: Noise) -> Tensor:
        """Return the value with features dropped; samples that fill the batch up have all theirs."""
        factors = noise.kept_factors(step, self.compactions, noise.batches.shape[1], value)
        factors = F.pad(factors.transpose(1, 2), (0, value.shape[2] - factors.shape[1]), value=1.0)
        return value * factors


def filled(tensor: Tensor) -> Tensor:
    """Fill the last axis with zeros to a multiple of LINE."""
    missing = -tensor.shape[-1] % LINE
    return F.pad(tensor, (0, missing)) if missing else tensor
