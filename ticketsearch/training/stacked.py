"""The engine of dense networks: P networks of equal widths stacked, with values ``(P, units, samples)``.

The first layer is one product of all networks' weights, side by side, with their common batch; later layers
are batched products. Each network begins on a cache line, and batches are padded to whole vectors, so that no
network's rounding depends on its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ticketsearch.masks import Mask
from ticketsearch.training.autograd import AutogradTraining
from ticketsearch.training.batched_forward import ALIGNMENT, Stacked, filled
from ticketsearch.training.dropout import Noise
from ticketsearch.training.mask_modes import Masking
from ticketsearch.training.matmul import products
from ticketsearch.training.recipe import Recipe
from ticketsearch.training.saliency import Slopes, gradients, outer
from ticketsearch.wiring import Compaction

__all__ = ["Stack"]


class Stack(Stacked):
    """P networks of one architecture of Linear layers, each with its own mask, trained as one tensor program.

    Parameters
    ----------
    compactions : kept units of each network; all have the same widths.
    masks : ``(P, weights)`` bool.
    initial : initial parameters ``{name: tensor}``; one for all or one for each mask.
    masking : effect of masks.
    device, dtype : place and precision of the training.
    """

    def __init__(
        self,
        compactions: Sequence[Compaction],
        masks: Mask,
        initial: Sequence[Mapping[str, Tensor]],
        masking: Masking,
        *,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        super().__init__(compactions, initial, device=device, dtype=dtype)
        self.masking = masking
        # Whole networks of one initialization are copies: one tensor stands for all.
        self._shared = len(initial) == 1 and all(c is compactions[0] for c in compactions)
        spec = self.wiring.spec
        self.whole_mask, self.whole_masks = masks, spec.split(masks)
        weights = {layer.name: self._kept(layer.name) for layer in spec.layers}
        kept = {layer.name: self._kept_mask(layer.name) for layer in spec.layers}
        biases = {name: self._kept(name) for name in self.wiring.biases if name is not None}
        # Padded as samples are.
        first = [name for name in weights if name in self.first]
        for name in first:
            weights[name], kept[name] = filled(weights[name]), filled(kept[name])
        begun = {name: masking.begin(weight, kept[name], weight) for name, weight in weights.items()}
        kept |= {name: torch.ones_like(bias) for name, bias in biases.items()}
        rest = {**{name: weight for name, weight in begun.items() if name not in first}, **biases}
        frozen = self.wiring.frozen
        learning = [
            *({name: begun[name]} for name in first if name not in frozen),
            {name: tensor for name, tensor in rest.items() if name not in frozen},
        ]
        self.blocks = [_Block(tensors, kept) for tensors in learning if tensors]
        self.leaves = {name: leaf for block in self.blocks for name, leaf in block.leaves.items()}
        self.masks = {name: mask for block in self.blocks for name, mask in block.masks.items()}
        self._learning = dict(self.leaves)
        # Frozen parameters have blocks apart, which no optimizer moves.
        for name in [name for name in (*begun, *biases) if name in frozen]:
            fixed = _Block({name: {**begun, **biases}[name]}, kept)
            self.leaves[name] = fixed.leaves[name].requires_grad_(False)
            self.masks[name] = fixed.masks[name]
        # Initial values, which masking ``parameter`` does not need.
        self.start = {} if masking.only_kept else {name: weight.clone() for name, weight in weights.items()}

    @property
    def classes(self) -> int:
        """Number of output units of each network."""
        return self.wiring.spec.outputs

    def training(self, recipe: Recipe, x: Tensor, y: Tensor, order: NDArray[np.int64]) -> AutogradTraining:
        """Return the training of the networks, not begun: see :class:`AutogradTraining`."""
        return AutogradTraining(self, recipe, x, y, order)

    def bias(self, name: str) -> Tensor:
        """Return the biases ``(P, units)`` of a layer."""
        return self.leaves[name]

    @property
    def trainable(self) -> list[Tensor]:
        """Tensors that an optimizer moves; :meth:`backward` sets their gradients."""
        return [block.values for block in self.blocks]

    @property
    def keeps(self) -> list[Tensor | None]:
        """Mask of each of :attr:`trainable`; None where all of it learns."""
        return [block.kept if self.masking.only_kept else None for block in self.blocks]

    def forward(self, x: Tensor, noise: Noise | None = None, *, masked: bool | None = None) -> Tensor:
        """Return logits ``(P, classes, samples)`` of resident samples, one batch for all or one for each.

        ``noise`` is given in training. ``masked`` puts the trained weights through the mask (True) or leaves
        it out (False); the default is the forward pass of training.
        """
        weights = {layer.name: self._weight(layer.name, masked) for layer in self.wiring.spec.layers}
        return self._logits(x, weights, noise)

    def _logits(
        self,
        x: Tensor,
        weights: Mapping[str, Tensor],
        noise: Noise | None,
        made: dict[str, tuple[Tensor, Tensor]] | None = None,
    ) -> Tensor:
        """Return logits; ``made`` gets each layer's inputs ``(…, inputs, samples)`` and its outputs."""

        def product(name: str, bias: Tensor | None, value: Tensor) -> Tensor:
            outputs = products(weights[name], bias, value, samples=name in self.first)
            if made is not None:
                inputs = value.transpose(-1, -2) if name in self.first else value
                made[name] = inputs.detach(), outputs
            return outputs

        return self.run(x, product, noise)

    def backward(self, logits: Tensor, gradient: Tensor) -> None:
        """Set the gradients of :attr:`trainable`, from those of the logits ``(P, classes, samples)``."""
        leaves = list(self._learning.values())
        values: Sequence[Tensor | None] = torch.autograd.grad(logits, leaves, gradient, allow_unused=True)
        gradients = dict(zip(self._learning, values, strict=True))
        for block in self.blocks:
            block.take(gradients, masked=self.masking.only_kept)

    def slopes(self, x: Tensor, gradient: Callable[[Tensor, slice], Tensor], *, curved: bool) -> Slopes:
        """Return gradients by all weights in memory, kept or not, ``{layer: (P, *kept shape)}``.

        ``x`` are resident samples; ``gradient(logits, samples)`` is the gradient of the mean loss by the
        logits of a range of samples. ``curved`` adds the mean of the samples' squared gradients.
        """
        names = [layer.name for layer in self.wiring.spec.layers]
        weights = {name: self._weight(name, None).detach().requires_grad_() for name in names}
        products: dict[str, tuple[Tensor, Tensor]] = {}
        logits = self._logits(x, weights, None, products)
        samples = logits.shape[2]
        outputs = [output for _, output in products.values()] if curved else []
        leaves = [*weights.values(), *outputs]
        values = gradients(logits, leaves, gradient(logits.detach(), slice(0, samples)))
        slopes = {name: self._inside(name, value) for name, value in zip(names, values, strict=False)}
        if not curved:
            return Slopes(slopes, None)
        # A weight's gradient by a sample is its input times the gradient by its output.
        squares = {}
        for (name, (read, _)), change in zip(products.items(), values[len(names) :], strict=True):
            squares[name] = self._inside(name, outer(change.square(), read.square()).mul_(samples))
        return Slopes(slopes, {name: squares.get(name, torch.zeros_like(slopes[name])) for name in names})

    def parameters(self) -> dict[str, Tensor]:
        """Return ``{name: (P, *shape) tensor}``: copies of trained parameters, pruned weights included."""
        named: dict[str, Tensor] = {}
        for layer, bias in zip(self.wiring.spec.layers, self.wiring.biases, strict=True):
            whole = self.whole(layer.name)
            if self.masking.only_kept:
                whole = whole * torch.from_numpy(self.whole_masks[layer.name].copy()).to(whole)
            named[layer.name] = self._scattered(layer.name, self._weight(layer.name, masked=False), whole)
            if bias is not None:
                named[bias] = self._scattered(bias, self.leaves[bias], self.whole(bias))
        return named

    def _kept(self, name: str) -> Tensor:
        """Return the initial tensor of all networks, ``(P, *kept shape)``."""
        first = self.initial[0][name]
        if self._shared and name not in self.compactions[0].places:
            return first.to(self.device, self.dtype).expand(self.size, *first.shape).contiguous()
        networks = zip(self.compactions, self.initial, strict=True)
        kept = [compaction.shrunk(name, tensors[name]) for compaction, tensors in networks]
        return torch.stack(kept).to(self.device, self.dtype)

    def _kept_mask(self, name: str) -> Tensor:
        """Return the masks of a layer, ``(P, *kept shape)``, as zeros and ones."""
        masks = torch.from_numpy(self.whole_masks[name].copy())
        if self._shared and name not in self.compactions[0].places:
            return masks.to(self.device, self.dtype)
        kept = [c.shrunk(name, mask) for c, mask in zip(self.compactions, masks, strict=True)]
        return torch.stack(kept).to(self.device).to(self.dtype)

    def _scattered(self, name: str, inside: Tensor, whole: Tensor) -> Tensor:
        networks = zip(self.compactions, self._inside(name, inside), whole, strict=True)
        return torch.stack([c.scattered(name, kept, into) for c, kept, into in networks])

    def _inside(self, name: str, filled: Tensor) -> Tensor:
        """Return a tensor of all networks without padding, ``(P, *kept shape)``."""
        places = self.compactions[0].places.get(name)
        sizes = self.initial[0][name].shape if places is None else [len(axis) for axis in places]
        return filled.detach()[tuple(slice(size) for size in (self.size, *sizes))]

    def _weight(self, name: str, masked: bool | None) -> Tensor:
        weight = self.leaves[name]
        return self.masking.rule(masked)(weight, self.masks[name], self.start.get(name, weight))


class _Block:
    """Tensors of P networks, those of each in one stretch of memory, which an optimizer moves as one.

    ``leaves`` and ``masks`` are views ``{name: (P, *shape)}`` of ``values`` and ``kept``, ``(P, length)``.
    """

    def __init__(self, tensors: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> None:
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        lengths = [-(-shape[1:].numel() // ALIGNMENT) * ALIGNMENT for shape in shapes.values()]
        like = next(iter(tensors.values()))
        starts = np.cumsum([0, *lengths]).tolist()

        def views(whole: Tensor) -> dict[str, Tensor]:
            return {
                name: whole[:, start : start + shape[1:].numel()].view(shape)
                for (name, shape), start in zip(shapes.items(), starts, strict=False)
            }

        self.values, self.kept = (like.new_zeros(len(like), sum(lengths)) for _ in range(2))
        self.leaves, self.masks = views(self.values), views(self.kept)
        for name, tensor in tensors.items():
            self.leaves[name].copy_(tensor)
            self.masks[name].copy_(masks[name])
        self.leaves = {name: leaf.detach().requires_grad_() for name, leaf in self.leaves.items()}
        self._all_kept = all(bool(mask.all()) for mask in self.masks.values())
        # A single tensor that fills the block takes its gradient without a copy.
        self._gradients: dict[str, Tensor] | None = None
        if like.numel() != self.values.numel():
            self.values.grad = torch.zeros_like(self.values)
            self._gradients = views(self.values.grad)

    def take(self, gradients: Mapping[str, Tensor | None], *, masked: bool) -> None:
        """Set the gradient of ``values`` from those of the leaves; ``masked`` puts them through the masks."""
        masked = masked and not self._all_kept
        if self._gradients is None:
            (name,) = self.leaves
            value = gradients[name]
            whole = torch.zeros_like(self.leaves[name]) if value is None else value.contiguous()
            self.values.grad = (whole.mul_(self.masks[name]) if masked else whole).view_as(self.values)
            return
        for name, into in self._gradients.items():
            value = gradients[name]
            if value is None:
                into.zero_()
            elif masked:
                torch.mul(value, self.masks[name], out=into)
            else:
                into.copy_(value)
