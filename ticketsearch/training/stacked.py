"""The engine of dense networks: P networks of equal widths stacked, values being ``(P, units, samples)``.

The first layer is one product of all networks' weights, side by side, with the batch that they share; later
layers are batched products. Each network begins on a cache line, and numbers of samples are filled up to
whole vectors, so that no network's rounding depends on its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ticketsearch.masks import Mask
from ticketsearch.training.batched_forward import ALIGNMENT, Stacked, filled
from ticketsearch.training.dropout import Noise
from ticketsearch.training.mask_modes import Masking
from ticketsearch.training.matmul import products
from ticketsearch.training.saliency import Slopes, gradients, outer
from ticketsearch.wiring import Compaction

__all__ = ["Stack"]


class Stack(Stacked):
    """P networks of one architecture of Linear layers, each with its own mask, trained as one tensor program.

    Parameters
    ----------
    compactions : what is kept of each network; all of the same widths.
    masks : ``(P, weights)`` bool.
    initial : initial parameters ``{name: tensor}``; one for all or one for each mask.
    masking : how masks act.
    device, dtype : where and in what precision the networks are trained.
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
        # Whole networks that begin alike need no look at each of them.
        self._shared = len(initial) == 1 and all(own is compactions[0] for own in compactions)
        spec = self.wiring.spec
        self.whole_mask, self.whole_masks = masks, spec.split(masks)
        weights = {layer.name: self._kept(layer.name) for layer in spec.layers}
        kept = {layer.name: self._kept_mask(layer.name) for layer in spec.layers}
        biases = {name: self._kept(name) for name in self.wiring.biases if name is not None}
        # Filled up as samples are.
        first = [name for name in weights if name in self.first]
        for name in first:
            weights[name], kept[name] = filled(weights[name]), filled(kept[name])
        begun = {name: masking.begin(own, kept[name], own) for name, own in weights.items()}
        kept |= {name: torch.ones_like(bias) for name, bias in biases.items()}
        rest = {**{name: own for name, own in begun.items() if name not in first}, **biases}
        frozen = self.wiring.frozen
        learning = [
            *({name: begun[name]} for name in first if name not in frozen),
            {name: own for name, own in rest.items() if name not in frozen},
        ]
        self.blocks = [_Block(own, kept) for own in learning if own]
        self.leaves = {name: leaf for block in self.blocks for name, leaf in block.leaves.items()}
        self.masks = {name: own for block in self.blocks for name, own in block.masks.items()}
        self._learning = dict(self.leaves)
        # In blocks of their own, which no optimizer moves.
        for name in [name for name in (*begun, *biases) if name in frozen]:
            fixed = _Block({name: {**begun, **biases}[name]}, kept)
            self.leaves[name] = fixed.leaves[name].requires_grad_(False)
            self.masks[name] = fixed.masks[name]
        # What only other maskings than the parameter's ask for.
        self.start = {} if masking.only_kept else {name: own.clone() for name, own in weights.items()}

    def bias(self, name: str) -> Tensor:
        """Return the biases ``(P, units)`` of a layer."""
        return self.leaves[name]

    @property
    def trainable(self) -> list[Tensor]:
        """The tensors that an optimizer moves; :meth:`backward` gives them their gradients."""
        return [block.values for block in self.blocks]

    @property
    def keeps(self) -> list[Tensor | None]:
        """For each of :attr:`trainable` its mask; None where all of it learns."""
        return [block.kept if self.masking.only_kept else None for block in self.blocks]

    def forward(self, x: Tensor, noise: Noise | None = None, *, masked: bool | None = None) -> Tensor:
        """Return logits ``(P, classes, samples)`` of resident samples, one batch for all or one for each.

        ``noise`` says that this is training. ``masked`` puts the trained weights through the mask (True) or
        leaves it out (False); by default the weights are what the forward pass of training uses.
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
        """Return logits; ``made`` gets what each layer reads ``(…, inputs, samples)`` and what it makes."""

        def product(name: str, bias: Tensor | None, value: Tensor) -> Tensor:
            found = products(weights[name], bias, value, samples=name in self.first)
            if made is not None:
                read = value.transpose(-1, -2) if name in self.first else value
                made[name] = read.detach(), found
            return found

        return self.run(x, product, noise)

    def backward(self, logits: Tensor, gradient: Tensor) -> None:
        """Give :attr:`trainable` their gradients, from those of the logits ``(P, classes, samples)``."""
        leaves = list(self._learning.values())
        found: Sequence[Tensor | None] = torch.autograd.grad(logits, leaves, gradient, allow_unused=True)
        gradients = dict(zip(self._learning, found, strict=True))
        for block in self.blocks:
            block.take(gradients, masked=self.masking.only_kept)

    def slopes(self, x: Tensor, gradient: Callable[[Tensor, slice], Tensor], *, curved: bool) -> Slopes:
        """Return gradients by all weights in memory, kept or not, ``{layer: (P, *kept shape)}``.

        Of resident samples ``x``; ``gradient`` gives that of the mean loss by the logits it is given, those
        of a range of samples. ``curved`` asks for the mean of the samples' squared gradients as well.
        """
        names = [layer.name for layer in self.wiring.spec.layers]
        weights = {name: self._weight(name, None).detach().requires_grad_() for name in names}
        products: dict[str, tuple[Tensor, Tensor]] = {}
        logits = self._logits(x, weights, None, products)
        samples = logits.shape[2]
        values = [made for _, made in products.values()] if curved else []
        leaves = [*weights.values(), *values]
        found = gradients(logits, leaves, gradient(logits.detach(), slice(0, samples)))
        slopes = {name: self._inside(name, own) for name, own in zip(names, found, strict=False)}
        if not curved:
            return Slopes(slopes, None)
        # A weight's gradient by a sample is a product of what it reads and of what its output changes.
        squares = {}
        for (name, (read, _)), change in zip(products.items(), found[len(names) :], strict=True):
            squares[name] = self._inside(name, outer(change.square(), read.square()).mul_(samples))
        return Slopes(slopes, {name: squares.get(name, torch.zeros_like(slopes[name])) for name in names})

    def parameters(self) -> dict[str, Tensor]:
        """Return ``{name: (P, *shape) tensor}``: copies of what was trained, kept weights and others."""
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
        """Return a tensor of all networks, ``(P, *kept shape)``, as training begins."""
        first = self.initial[0][name]
        if self._shared and name not in self.compactions[0].places:
            return first.to(self.device, self.dtype).expand(self.size, *first.shape).contiguous()
        each = zip(self.compactions, self.initial, strict=True)
        own = [compaction.shrunk(name, tensors[name]) for compaction, tensors in each]
        return torch.stack(own).to(self.device, self.dtype)

    def _kept_mask(self, name: str) -> Tensor:
        """Return the masks of a layer, ``(P, *kept shape)``, as zeros and ones."""
        own = torch.from_numpy(self.whole_masks[name].copy())
        if self._shared and name not in self.compactions[0].places:
            return own.to(self.device, self.dtype)
        kept = [c.shrunk(name, mask) for c, mask in zip(self.compactions, own, strict=True)]
        return torch.stack(kept).to(self.device).to(self.dtype)

    def _scattered(self, name: str, inside: Tensor, whole: Tensor) -> Tensor:
        each = zip(self.compactions, self._inside(name, inside), whole, strict=True)
        return torch.stack([c.scattered(name, own, into) for c, own, into in each])

    def _inside(self, name: str, filled: Tensor) -> Tensor:
        """Return a tensor of all networks without what it was filled up with, ``(P, *kept shape)``."""
        places = self.compactions[0].places.get(name)
        sizes = self.initial[0][name].shape if places is None else [len(own) for own in places]
        return filled.detach()[tuple(slice(size) for size in (self.size, *sizes))]

    def _weight(self, name: str, masked: bool | None) -> Tensor:
        weight = self.leaves[name]
        return self.masking.rule(masked)(weight, self.masks[name], self.start.get(name, weight))


class _Block:
    """Tensors of P networks, each network's in one stretch of memory: what an optimizer moves as one.

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
        self._all_kept = all(bool(own.all()) for own in self.masks.values())
        # One tensor that fills the block has its gradient as it comes.
        self._gradients: dict[str, Tensor] | None = None
        if like.numel() != self.values.numel():
            self.values.grad = torch.zeros_like(self.values)
            self._gradients = views(self.values.grad)

    def take(self, gradients: Mapping[str, Tensor | None], *, masked: bool) -> None:
        """Make gradients of the leaves that of ``values``; ``masked`` puts them through the masks."""
        masked = masked and not self._all_kept
        if self._gradients is None:
            (name,) = self.leaves
            own = gradients[name]
            whole = torch.zeros_like(self.leaves[name]) if own is None else own.contiguous()
            self.values.grad = (whole.mul_(self.masks[name]) if masked else whole).view_as(self.values)
            return
        for name, into in self._gradients.items():
            own = gradients[name]
            if own is None:
                into.zero_()
            elif masked:
                torch.mul(own, self.masks[name], out=into)
            else:
                into.copy_(own)
