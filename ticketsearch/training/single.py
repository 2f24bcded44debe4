"""The engine of all other networks (convolutions, normalisation, …): each is trained by itself.

On a CPU, stacks of 16 by ``torch.func.vmap`` took twice to three times as long on images of 28 x 28, as long
for 8 channels on 8 x 8, and half as long for narrow networks with batch normalisation alone; and convolutions
of a stack sum in an order that goes by its size. What pays is that channels lie last in memory.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ticketsearch.errors import BadInput
from ticketsearch.masks import Mask
from ticketsearch.training.dropout import Noise
from ticketsearch.training.mask_modes import Masking
from ticketsearch.training.saliency import Slopes, gradients
from ticketsearch.wiring import Compaction, Step, Wiring
from ticketsearch.wiring.operations import Reshape

__all__ = ["Single"]

# Samples whose own gradients are asked for.
CURVED = 256
MAX_POOLINGS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)


class Single:
    """One network with its mask, and its own copies of all parameters and buffers that are kept.

    Parameters
    ----------
    compaction : what is kept of it.
    mask : ``(weights,)`` bool.
    initial : initial parameters and buffers ``{name: tensor}``.
    masking : how the mask acts.
    device, dtype : where and in what precision the network is trained.
    """

    size = 1
    # Samples an evaluation takes at once; feature maps are large. Fixed, as in the dense engine.
    block = 256
    stacked = False

    def __init__(
        self,
        compaction: Compaction,
        mask: Mask,
        initial: Mapping[str, Tensor],
        masking: Masking,
        *,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        wiring = replace(compaction.narrow, steps=_in_place(_pooled_first(compaction.steps)))
        # A module that computes by itself has its tensors replaced meanwhile, so threads must not share it.
        self.wiring = wiring if wiring.steps else replace(wiring, module=copy.deepcopy(wiring.module))
        self.device = device
        self.dtype = dtype
        self.masking = masking
        self.compactions: Sequence[Compaction] = [compaction]
        self.whole_mask = mask[None]
        self.whole = _copies(wiring, initial, device, dtype)
        whole_masks = {
            name: torch.from_numpy(part.copy()).to(device, dtype)
            for name, part in wiring.spec.split(mask).items()
        }
        own = {name: _laid_out(compaction.shrunk(name, tensor)) for name, tensor in self.whole.items()}
        self.masks = {
            name: _laid_out(compaction.shrunk(name, part)).clone() for name, part in whole_masks.items()
        }
        if masking.only_kept:
            self.whole |= {name: self.whole[name] * part for name, part in whole_masks.items()}
        self.start = {name: own[name] for name in self.masks}
        parameters = [name for name, _ in wiring.module.named_parameters()]
        frozen = compaction.wiring.frozen
        self.weights = {
            name: masking.begin(start, self.masks[name], start).clone().requires_grad_(name not in frozen)
            for name, start in self.start.items()
        }
        self.others = {
            name: own[name].clone().requires_grad_(name not in frozen)
            for name in parameters
            if name not in self.start
        }
        # Frozen ones are no business of the optimizer, whose decay would move them.
        self._learning = {
            name: own for name, own in {**self.weights, **self.others}.items() if name not in frozen
        }
        self.moved = {name: tensor.clone() for name, tensor in own.items() if name not in parameters}

    @property
    def trainable(self) -> list[Tensor]:
        """The tensors that an optimizer moves; :meth:`backward` gives them their gradients."""
        return [*self._learning.values()]

    @property
    def keeps(self) -> list[Tensor | None]:
        """For each of :attr:`trainable` its mask; None where all of it learns."""
        return [self.masks.get(name) if self.masking.only_kept else None for name in self._learning]

    def forward(self, x: Tensor, noise: Noise | None = None, *, masked: bool | None = None) -> Tensor:
        """Return logits ``(1, classes, samples)`` of resident samples ``(samples, *input_shape)``.

        ``noise`` says that this is training: normalisation goes by the batch and running statistics move.
        ``masked`` puts the trained weights through the mask (True) or leaves it out (False); by default the
        weights are what the forward pass of training uses.
        """
        return self._logits(x, self._effective(masked), noise)

    def _logits(self, x: Tensor, weights: Mapping[str, Tensor], noise: Noise | None) -> Tensor:
        wiring, training = self.wiring, noise is not None
        tensors = {**self.moved, **self.others, **weights}

        def evaluate(step: Step, values: list[Tensor]) -> Tensor:
            if step.operation == "dropout":
                (value,) = values
                if noise is None:
                    return value
                return value * noise.kept_factors(step, self.compactions, len(value), value)[0]
            if step.operation == "linear":
                values = [_laid_out(values[0])]
            elif step.operation == "spatial" and isinstance(step.function, Reshape) and values[0].ndim == 4:
                flat: Tensor = _Flattened.apply(values[0])  # type: ignore[no-untyped-call]
                return flat.reshape(len(flat), *step.shape)
            return wiring.evaluate(step, values, tensors, training=training)

        outputs = (
            wiring.run(x, evaluate)[-1] if wiring.steps else wiring.forward(tensors, x, training=training)
        )
        return outputs.t()[None]

    def backward(self, logits: Tensor, gradient: Tensor) -> None:
        """Give :attr:`trainable` their gradients, from those of the logits ``(1, classes, samples)``."""
        leaves = self.trainable
        found: list[Tensor | None] = [*torch.autograd.grad(logits, leaves, gradient, allow_unused=True)]
        for (name, tensor), own in zip(self._learning.items(), found, strict=True):
            # Fused optimizers take a gradient to lie in memory as its tensor does.
            into = torch.empty_like(tensor) if tensor.grad is None else tensor.grad
            if own is None:
                into.zero_()
            elif self.masking.only_kept and name in self.masks:
                torch.mul(own, self.masks[name], out=into)
            else:
                into.copy_(own)
            tensor.grad = into

    def slopes(self, x: Tensor, gradient: Callable[[Tensor, slice], Tensor], *, curved: bool) -> Slopes:
        """Return gradients by all weights in memory, kept or not, ``{layer: (1, *kept shape)}``.

        Of resident samples ``x``; ``gradient`` gives that of the mean loss by the logits it is given, those
        of a range of samples. ``curved`` asks for the mean of the samples' squared gradients as well: of the
        first ``CURVED``, since each of them takes a pass of its own.
        """
        weights = {name: own.detach().requires_grad_() for name, own in self._effective(None).items()}

        def of(samples: slice) -> list[Tensor]:
            logits = self._logits(x[samples], weights, None)
            return gradients(logits, list(weights.values()), gradient(logits.detach(), samples))

        slopes = {name: own[None] for name, own in zip(weights, of(slice(0, len(x))), strict=True)}
        if not curved:
            return Slopes(slopes, None)
        squares = {name: torch.zeros_like(own) for name, own in slopes.items()}
        count = min(CURVED, len(x))
        for number in range(count):
            for into, own in zip(squares.values(), of(slice(number, number + 1)), strict=True):
                into[0].addcmul_(own, own, value=1 / count)
        return Slopes(slopes, squares)

    def parameters(self) -> dict[str, Tensor]:
        """Return ``{name: (1, *shape) tensor}``: copies of what was trained, kept weights and others."""
        tensors = {**self.others, **self._effective(masked=False)}
        order = [name for name, _ in self.wiring.module.named_parameters()]
        return {name: self._scattered(name, tensors[name]) for name in order}

    def buffers(self) -> dict[str, Tensor]:
        """Return ``{name: (1, *shape) tensor}``: copies of the buffers, e.g. running statistics."""
        return {name: self._scattered(name, buffer) for name, buffer in self.moved.items()}

    def _scattered(self, name: str, inside: Tensor) -> Tensor:
        return self.compactions[0].scattered(name, inside.detach(), self.whole[name]).contiguous()[None]

    def _effective(self, masked: bool | None) -> Mapping[str, Tensor]:
        rule = self.masking.rule(masked)
        return {
            name: rule(weight, self.masks[name], self.start[name]) for name, weight in self.weights.items()
        }


def _pooled_first(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Return the steps with each relu that only a max-pooling reads behind it, where there is less to do.

    Values and gradients stay as they are: relu keeps the order of what it does not make zero, and passes no
    gradient to what it does.
    """
    found = list(steps)
    for index, step in enumerate(steps):
        readers = [i for i, other in enumerate(steps) if index in other.inputs]
        if len(readers) == 1 and isinstance(step.function, nn.ReLU):
            pooling = steps[readers[0]]
            if isinstance(pooling.function, MAX_POOLINGS):
                found[index] = step._replace(
                    operation="spatial", function=pooling.function, shape=pooling.shape
                )
                found[readers[0]] = pooling._replace(operation="elementwise", function=step.function)
    return tuple(found)


def _in_place(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Return the steps with each relu written over the value it reads, where nothing else reads that.

    Only over results of their own (reshaping gives a view) that the gradients of their makers do not need.
    """
    readers = Counter(index for step in steps for index in step.inputs)

    def is_free(index: int) -> bool:
        made = steps[index]
        own = made.operation in ("linear", "normalize", "add") or isinstance(made.function, MAX_POOLINGS)
        return own and readers[index] == 1

    return tuple(
        step._replace(function=torch.relu_)
        if isinstance(step.function, nn.ReLU) and is_free(step.inputs[0])
        else step
        for step in steps
    )


class _Flattened(torch.autograd.Function):
    """Images as vectors. Their gradient is laid out as images are: pooling, above all, is slow otherwise."""

    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:
        """Return ``(samples, channels * high * wide)``."""
        ctx.shape = images.shape
        return images.flatten(1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """Return the gradient as images, channels last in memory."""
        return _laid_out(gradients[0].view(ctx.shape))


def _laid_out(tensor: Tensor) -> Tensor:
    """Return images and kernels with their channels last in memory; anything else contiguous."""
    if tensor.ndim != 4:
        return tensor.contiguous()
    tensor = tensor.contiguous(memory_format=torch.channels_last)
    _, channels, high, wide = tensor.shape
    if channels == 1 and not tensor.requires_grad:
        # The strides are those of either layout, and convolutions would take the other.
        return tensor.as_strided(tensor.shape, (high * wide, 1, wide, 1))
    return tensor


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
