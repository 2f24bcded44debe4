"""Maskings: the effect of a mask on the weights in training, and so on their gradient.

With g the gradient of the loss by a layer's output, and h its input, one layer of Ross's notes is

=============  ==========================  ================  ==========================================
masking        forward                     gradient of W     weights that the mask does not keep
=============  ==========================  ================  ==========================================
``parameter``  (M ⊙ W)h + b (equation 1)   M ⊙ (g hᵀ)        are zero
``gradient``   Wh + b                      M ⊙ (g hᵀ)        stay exactly at their initial values
``forward``    (M ⊙ W)h + b                g hᵀ              keep learning, unseen (straight through)
=============  ==========================  ================  ==========================================

Under ``parameter``, equation 1 masks its own gradient (equations 2 and 3). ``gradient`` masks by equation 3
alone. ``forward`` is equation 1 with a gradient that is computed without the mask.

While the mask is fixed, kept weights learn the same under ``forward`` as under ``parameter``, to the bit: the
others take no part in the forward pass, and optimizers update each weight by itself. The two differ in the
values of the hidden weights alone, should a later mask, or none, use them again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["MASKINGS", "Masking"]

# (weight, mask, start) -> weight, of one shape or broadcast; mask holds 0 and 1, start the initial values.
Rule = Callable[[Tensor, Tensor, Tensor], Tensor]


class Masking(NamedTuple):
    """A masking, as rules ``(weight, mask, start) -> weight``.

    Attributes
    ----------
    begin : the tensor that the optimizer moves, before its first step.
    forward : the weights that the forward pass of training uses.
    trained : all weights as training leaves them, kept or not.
    dense : whether the forward pass of training leaves the mask out.
    only_kept : whether all other weights stay zero, so that masking the gradients is enough once the
        weights are masked.
    """

    begin: Rule
    forward: Rule
    trained: Rule
    dense: bool
    only_kept: bool

    def rule(self, masked: bool | None) -> Rule:
        """Return the rule of a forward pass: as in training (None), through the mask, or by all weights."""
        if self.only_kept:
            return _whole
        return self.forward if masked is None else _through_mask if masked else self.trained


def _through_mask(weight: Tensor, mask: Tensor, start: Tensor) -> Tensor:
    """Return M ⊙ W; by equation 3 its gradient is masked too."""
    return weight * mask


def _whole(weight: Tensor, mask: Tensor, start: Tensor) -> Tensor:
    return weight


def _only_kept_move(weight: Tensor, mask: Tensor, start: Tensor) -> Tensor:
    """Return kept weights, and the initial values of the others, which an optimizer may have moved."""
    return torch.where(mask != 0, weight, start)


def _straight_through(weight: Tensor, mask: Tensor, start: Tensor) -> Tensor:
    masked: Tensor = _StraightThrough.apply(weight, mask)  # type: ignore[no-untyped-call]
    return masked


class _StraightThrough(torch.autograd.Function):
    """M ⊙ W forward; backward the gradient passes unmasked (straight-through estimator)."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, mask: Tensor) -> Tensor:
        """Return M ⊙ W."""
        return weight * mask

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Return the gradient unchanged."""
        return gradients[0], None


MASKINGS: dict[str, Masking] = {
    "parameter": Masking(_through_mask, _through_mask, _through_mask, dense=False, only_kept=True),
    "gradient": Masking(_whole, _only_kept_move, _only_kept_move, dense=True, only_kept=False),
    "forward": Masking(_whole, _straight_through, _whole, dense=False, only_kept=False),
}
