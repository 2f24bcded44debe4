"""The engine of all other networks (convolutions, normalisation, …): each is trained by itself.

On a CPU, stacks of 16 by ``torch.func.vmap`` took two to three times as long on images of 28 x 28, as long
for 8 channels on 8 x 8, and half as long for narrow networks with batch normalisation alone. Convolutions of
a stack also sum in an order that depends on its size. Channels last in memory save time.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ticketsearch.errors import BadInput
from ticketsearch.masks import Mask
from ticketsearch.training.autograd import AutogradTraining
from ticketsearch.training.dropout import Noise
from ticketsearch.training.mask_modes import Masking
from ticketsearch.training.recipe import Recipe
from ticketsearch.training.saliency import Slopes, gradients
from ticketsearch.wiring import Compaction, Reshape, Step, Wiring

__all__ = ["Single"]

# Samples whose squared gradients are computed one by one.
CURVED = 256
MAX_POOLINGS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)


class Single:
    """One network with its mask, and copies of its kept parameters and buffers.

    Parameters
    ----------
    compaction : kept units of the network.
    mask : ``(weights,)`` bool.
    initial : initial parameters and buffers ``{name: tensor}``.
    masking : effect of the mask.
    device, dtype : place and precision of the training.
    """

    size = 1
    # Samples of a block of an evaluation; feature maps are large. Fixed, as in the stacked engine.
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
        wiring = replace(compaction.compacted, steps=_in_place(_pooled_first(compaction.steps)))
        # Tensors of a module that computes by itself are replaced in each pass: threads must not share it.
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
        kept = {name: _laid_out(compaction.shrunk(name, tensor)) for name, tensor in self.whole.items()}
        self.masks = {
            name: _laid_out(compaction.shrunk(name, part)).clone() for name, part in whole_masks.items()
        }
        if masking.only_kept:
            self.whole |= {name: self.whole[name] * part for name, part in whole_masks.items()}
        self.start = {name: kept[name] for name in self.masks}
        parameters = [name for name, _ in wiring.module.named_parameters()]
        frozen = compaction.wiring.frozen
        self.weights = {
            name: masking.begin(start, self.masks[name], start).clone().requires_grad_(name not in frozen)
            for name, start in self.start.items()
        }
        self.others = {
            name: kept[name].clone().requires_grad_(name not in frozen)
            for name in parameters
            if name not in self.start
        }
        # Without frozen parameters, which weight decay would move.
        self._learning = {
            name: tensor for name, tensor in {**self.weights, **self.others}.items() if name not in frozen
        }
        self.moved = {name: tensor.clone() for name, tensor in kept.items() if name not in parameters}

    @property
    def classes(self) -> int:
        """Number of output units."""
        return self.wiring.spec.outputs

    def training(self, recipe: Recipe, x: Tensor, y: Tensor, order: NDArray[np.int64]) -> AutogradTraining:
        """Return the training of the network, not begun: see :class:`AutogradTraining`."""
        return AutogradTraining(self, recipe, x, y, order)

    @property
    def trainable(self) -> list[Tensor]:
        """Tensors that an optimizer moves; :meth:`backward` sets their gradients."""
        return [*self._learning.values()]

    @property
    def keeps(self) -> list[Tensor | None]:
        """Mask of each of :attr:`trainable`; None where all of it learns."""
        return [self.masks.get(name) if self.masking.only_kept else None for name in self._learning]

    def forward(self, x: Tensor, noise: Noise | None = None, *, masked: bool | None = None) -> Tensor:
        """Return logits ``(1, classes, samples)`` of resident samples ``(samples, *input_shape)``.

        ``noise`` is given in training, where normalisation uses the batch and running statistics move.
        ``masked`` puts the trained weights through the mask (True) or leaves it out (False); the default is
        the forward pass of training.
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
        """Set the gradients of :attr:`trainable`, from those of the logits ``(1, classes, samples)``."""
        leaves = self.trainable
        values: list[Tensor | None] = [*torch.autograd.grad(logits, leaves, gradient, allow_unused=True)]
        for (name, tensor), value in zip(self._learning.items(), values, strict=True):
            # Fused optimizers require the memory layout of the tensor for its gradient.
            into = torch.empty_like(tensor) if tensor.grad is None else tensor.grad
            if value is None:
                into.zero_()
            elif self.masking.only_kept and name in self.masks:
                torch.mul(value, self.masks[name], out=into)
            else:
                into.copy_(value)
            tensor.grad = into

    def slopes(self, x: Tensor, gradient: Callable[[Tensor, slice], Tensor], *, curved: bool) -> Slopes:
        """Return gradients by all weights in memory, kept or not, ``{layer: (1, *kept shape)}``.

        ``x`` are resident samples; ``gradient(logits, samples)`` is the gradient of the mean loss by the
        logits of a range of samples. ``curved`` adds the mean of squared gradients of the first ``CURVED``
        samples, each of which takes a pass.
        """
        weights = {name: weight.detach().requires_grad_() for name, weight in self._effective(None).items()}

        def of(samples: slice) -> list[Tensor]:
            logits = self._logits(x[samples], weights, None)
            return gradients(logits, list(weights.values()), gradient(logits.detach(), samples))

        slopes = {name: slope[None] for name, slope in zip(weights, of(slice(0, len(x))), strict=True)}
        if not curved:
            return Slopes(slopes, None)
        squares = {name: torch.zeros_like(slope) for name, slope in slopes.items()}
        count = min(CURVED, len(x))
        for index in range(count):
            for square, slope in zip(squares.values(), of(slice(index, index + 1)), strict=True):
                square[0].addcmul_(slope, slope, value=1 / count)
        return Slopes(slopes, squares)

    def parameters(self) -> dict[str, Tensor]:
        """Return ``{name: (1, *shape) tensor}``: copies of trained parameters, pruned weights included."""
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
    """Return the steps with each ReLU that only a max-pooling reads moved behind it, where values are fewer.

    Values and gradients stay the same: ReLU keeps the order of positive values, and passes no gradient to the
    others.
    """
    moved = list(steps)
    for index, step in enumerate(steps):
        readers = [i for i, other in enumerate(steps) if index in other.inputs]
        if len(readers) == 1 and isinstance(step.function, nn.ReLU):
            pooling = steps[readers[0]]
            if isinstance(pooling.function, MAX_POOLINGS):
                moved[index] = step._replace(
                    operation="spatial", function=pooling.function, shape=pooling.shape
                )
                moved[readers[0]] = pooling._replace(operation="elementwise", function=step.function)
    return tuple(moved)


def _in_place(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Return the steps with each ReLU written over its input, if no other step reads that.

    This needs an input that is no view, as reshaping gives, and whose own gradient does not need it.
    """
    readers = Counter(index for step in steps for index in step.inputs)

    def is_free(index: int) -> bool:
        step = steps[index]
        no_view = step.operation in ("linear", "normalize", "add") or isinstance(step.function, MAX_POOLINGS)
        return no_view and readers[index] == 1

    return tuple(
        step._replace(function=torch.relu_)
        if isinstance(step.function, nn.ReLU) and is_free(step.inputs[0])
        else step
        for step in steps
    )


class _Flattened(torch.autograd.Function):
    """Images as vectors. Their gradient has the memory layout of images; pooling is slow with another."""

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
    """Return images and kernels with channels last in memory, other tensors contiguous."""
    if tensor.ndim != 4:
        return tensor.contiguous()
    tensor = tensor.contiguous(memory_format=torch.channels_last)
    _, channels, high, wide = tensor.shape
    if channels == 1 and not tensor.requires_grad:
        # With one channel the strides fit either layout, and convolutions would take the other.
        return tensor.as_strided(tensor.shape, (high * wide, 1, wide, 1))
    return tensor


def _copies(
    wiring: Wiring, initial: Mapping[str, Tensor], device: torch.device, dtype: torch.dtype
) -> dict[str, Tensor]:
    """Return copies of the module's tensors, floating-point ones in the precision of the training."""
    module = wiring.module
    names = [name for name, _ in (*module.named_parameters(), *module.named_buffers())]
    missing = [name for name in names if name not in initial]
    if missing:
        raise BadInput(
            f"initial values must hold all parameters and buffers, but {missing[0]!r} is missing; give "
            "{**network.parameters(), **network.buffers()}"
        )
    return {
        name: initial[name]
        .detach()
        .to(device, dtype if initial[name].is_floating_point() else None, copy=True)
        for name in names
    }
