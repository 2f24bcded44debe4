"""The engine of all other networks (convolutions, normalisation, …): each is trained by itself."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from ticketsearch.errors import BadInput
from ticketsearch.masks import Mask
from ticketsearch.training.maskings import Masking, through_mask
from ticketsearch.training.noise import Noise
from ticketsearch.wiring import Step, Wiring

__all__ = ["Single"]


class Single:
    """One network with its mask, and its own copies of all parameters and buffers.

    Parameters
    ----------
    wiring : of any architecture.
    mask : ``(weights,)`` bool.
    initial : initial parameters and buffers ``{name: tensor}``.
    masking : how the mask acts.
    device, dtype : where and in what precision the network is trained.
    """

    size = 1
    # Samples an evaluation takes at once; feature maps are large. Fixed, as in the dense engine.
    block = 256

    def __init__(
        self,
        wiring: Wiring,
        mask: Mask,
        initial: Mapping[str, Tensor],
        masking: Masking,
        *,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        # A module that computes by itself has its tensors replaced meanwhile, so threads must not share it.
        self.wiring = wiring if wiring.steps else replace(wiring, module=copy.deepcopy(wiring.module))
        self.device = device
        self.dtype = dtype
        self.masking = masking
        own = _copies(self.wiring, initial, device, dtype)
        names = [name for name, _ in self.wiring.module.named_parameters()]
        self.start = {layer.name: own[layer.name] for layer in wiring.spec.layers}
        self.masks = {
            name: torch.from_numpy(part.copy()).to(device, dtype)
            for name, part in wiring.spec.split(mask).items()
        }
        self.weights = {
            name: masking.begin(start, self.masks[name], start).clone().requires_grad_()
            for name, start in self.start.items()
        }
        self.others = {name: own[name].requires_grad_() for name in names if name not in self.start}
        self.moved = {name: tensor for name, tensor in own.items() if name not in names}

    @property
    def trainable(self) -> list[Tensor]:
        """The tensors that an optimizer moves."""
        return [*self.weights.values(), *self.others.values()]

    def resident(self, x: Tensor) -> Tensor:
        """Return samples ``(samples, *input_shape)`` as :meth:`forward` takes them."""
        return x.to(self.device, self.dtype)

    def forward(self, x: Tensor, noise: Noise | None = None, *, masked: bool | None = None) -> Tensor:
        """Return logits ``(1, samples, classes)`` of resident samples.

        ``noise`` says that this is training: normalisation goes by the batch and running statistics move.
        ``masked`` puts the trained weights through the mask (True) or leaves it out (False); by default the
        weights are what the forward pass of training uses.
        """
        wiring, training = self.wiring, noise is not None
        tensors = {**self.moved, **self.others, **self._effective(masked)}

        def evaluate(step: Step, values: list[Tensor]) -> Tensor:
            if step.operation == "dropout":
                if noise is None:
                    return values[0]
                return values[0] * noise.factors(step, tuple(values[0].shape), values[0])[0]
            return wiring.evaluate(step, values, tensors, training=training)

        if not wiring.steps:
            return wiring.forward(tensors, x, training=training)[None]
        return wiring.run(x, evaluate)[-1][None]

    def parameters(self) -> dict[str, Tensor]:
        """Return ``{name: (1, *shape) tensor}``: copies of what was trained, kept weights and others."""
        tensors = {**self.others, **self._effective(masked=False)}
        order = [name for name, _ in self.wiring.module.named_parameters()]
        return {name: tensors[name].detach().clone()[None] for name in order}

    def buffers(self) -> dict[str, Tensor]:
        """Return ``{name: (1, *shape) tensor}``: copies of the buffers, e.g. running statistics."""
        return {name: buffer.clone()[None] for name, buffer in self.moved.items()}

    def _effective(self, masked: bool | None) -> dict[str, Tensor]:
        rule = self.masking.forward if masked is None else through_mask if masked else self.masking.trained
        return {
            name: rule(weight, self.masks[name], self.start[name]) for name, weight in self.weights.items()
        }


def _copies(
    wiring: Wiring, initial: Mapping[str, Tensor], device: torch.device, dtype: torch.dtype
) -> dict[str, Tensor]:
    """Return copies of the module's tensors; floating-point ones in the precision of the training."""
    module = wiring.module
    names = [name for name, _ in (*module.named_parameters(), *module.named_buffers())]
    missing = [name for name in names if name not in initial]
    if missing:
        raise BadInput(
            f"a network begins from all its parameters and buffers, but {missing[0]!r} is missing; give "
            "{**network.parameters(), **network.buffers()}"
        )
    return {
        name: initial[name]
        .detach()
        .to(device, dtype if initial[name].is_floating_point() else None, copy=True)
        for name in names
    }
