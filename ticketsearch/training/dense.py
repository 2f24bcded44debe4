"""The engine of dense networks: the weights of P networks stacked, each layer one batched product.

Widths are filled up to a multiple of ALIGNMENT with units that are masked out, so that a network's result
is the same to the bit alone and at any place of any cohort.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ticketsearch.masks import Mask
from ticketsearch.training.maskings import Masking, through_mask
from ticketsearch.training.noise import Noise
from ticketsearch.wiring import Step, Wiring

__all__ = ["ALIGNMENT", "Stack"]

# Every network of a cohort so begins on a cache line and ends on a whole vector: kernels round by alignment
# and at the tail, i.e. by position.
ALIGNMENT = 32


class Stack:
    """P networks of one architecture of Linear layers, each with its own mask, trained as one tensor program.

    Parameters
    ----------
    wiring : of the architecture; it is dense.
    masks : ``(P, weights)`` bool.
    initial : initial parameters ``{name: tensor}``; one for all or one for each mask.
    masking : how masks act.
    device, dtype : where and in what precision the networks are trained.
    """

    # Samples an evaluation takes at once: bounds its memory. Fixed, as a sum's last bits follow its blocks.
    block = 1024

    def __init__(
        self,
        wiring: Wiring,
        masks: Mask,
        initial: Sequence[dict[str, Tensor]],
        masking: Masking,
        *,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.wiring = wiring
        self.size = len(masks)
        self.device = device
        self.dtype = dtype
        self.masking = masking

        def stack(name: str) -> Tensor:
            return torch.stack([_filled(parameters[name]) for parameters in initial]).to(device, dtype)

        def each(tensor: Tensor) -> Tensor:
            own = len(tensor) == self.size
            return tensor if own else tensor.repeat(self.size, *[1] * (tensor.ndim - 1))

        bits = torch.from_numpy(np.packbits(masks, axis=1))  # one transfer, an eighth of the bytes
        shifts = torch.arange(7, -1, -1, dtype=torch.uint8)
        flat = (
            ((bits.to(device)[:, :, None] >> shifts.to(device)) & 1).flatten(1)[:, : masks.shape[1]].to(dtype)
        )
        layers = wiring.spec.layers
        self.masks = [
            _filled(flat[:, layer.slice].reshape(self.size, *layer.shape), axes=2) for layer in layers
        ]
        self.start = [stack(layer.name) for layer in layers]
        self.weights = [
            masking.begin(each(start), mask, start).detach().clone().requires_grad_()
            for start, mask in zip(self.start, self.masks, strict=True)
        ]
        self.biases = [
            None if name is None else each(stack(name)).clone().requires_grad_() for name in wiring.biases
        ]

    @property
    def trainable(self) -> list[Tensor]:
        """The stacked tensors that an optimizer moves."""
        return [*self.weights, *(bias for bias in self.biases if bias is not None)]

    def resident(self, x: Tensor) -> Tensor:
        """Return samples ``(samples, *input_shape)`` as :meth:`forward` takes them: flat and filled up."""
        return _filled(x.flatten(1).to(self.device, self.dtype), axes=1)

    def forward(self, x: Tensor, noise: Noise | None = None, *, masked: bool | None = None) -> Tensor:
        """Return logits ``(P, samples, classes)`` of resident samples, one batch for all or one for each.

        ``noise`` says that this is training. ``masked`` puts the trained weights through the mask (True) or
        leaves it out (False); by default the weights are what the forward pass of training uses.
        """
        if x.ndim == 2:
            x = x.expand(self.size, *x.shape)
        weights = [self._weight(layer, masked) for layer in range(len(self.weights))]

        def evaluate(step: Step, values: list[Tensor]) -> Tensor:
            if step.operation == "linear":
                weight, bias = weights[step.layer].transpose(1, 2), self.biases[step.layer]
                if bias is None:
                    return torch.bmm(values[0], weight)
                return torch.baddbmm(bias[:, None], values[0], weight)
            if step.operation == "concatenate":
                sizes = [self.wiring.steps[i].shape[0] for i in step.inputs]
                parts = [value[:, :, :size] for value, size in zip(values, sizes, strict=True)]
                return _filled(torch.cat(parts, dim=2), axes=1)
            if step.operation == "dropout":
                return values[0] if noise is None else self._dropped(step, values[0], noise)
            return values[0] if step.operation == "input" else step.function(*values)

        return self.wiring.run(x, evaluate)[-1][:, :, : self.wiring.spec.outputs]

    def parameters(self) -> dict[str, Tensor]:
        """Return ``{name: (P, *shape) tensor}``: copies of what was trained, kept weights and others."""
        named: dict[str, Tensor] = {}
        layers = zip(self.wiring.spec.layers, self.wiring.biases, self.biases, strict=True)
        for index, (layer, name, bias) in enumerate(layers):
            rows, columns = layer.shape
            named[layer.name] = self._weight(index, masked=False).detach()[:, :rows, :columns].clone()
            if name is not None and bias is not None:
                named[name] = bias.detach()[:, :rows].clone()
        return named

    def buffers(self) -> dict[str, Tensor]:
        """Return no buffers: these networks have none that training moves."""
        return {}

    def _weight(self, layer: int, masked: bool | None) -> Tensor:
        tensors = self.weights[layer], self.masks[layer], self.start[layer]
        if masked is None:
            return self.masking.forward(*tensors)
        if masked:
            return through_mask(*tensors)
        # Without the mask, what was filled up may have learned: it is no part of the network.
        rows, columns = self.wiring.spec.layers[layer].shape
        return _filled(self.masking.trained(*tensors)[:, :rows, :columns], axes=2)

    def _dropped(self, step: Step, value: Tensor, noise: Noise) -> Tensor:
        """Return the value with features dropped; noise is drawn for its own width, then filled up."""
        factors = noise.factors(step, (value.shape[1], *step.shape), value)
        return value * (_filled(factors, axes=1) if factors.shape[2] > 1 else factors)


def _filled(tensor: Tensor, axes: int | None = None) -> Tensor:
    """Fill the last ``axes`` axes (by default all) with zeros to multiples of ALIGNMENT."""
    sizes = tensor.shape if axes is None else tensor.shape[-axes:]
    missing = [-size % ALIGNMENT for size in reversed(sizes)]
    return F.pad(tensor, [amount for size in missing for amount in (0, size)]) if any(missing) else tensor
