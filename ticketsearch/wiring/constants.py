"""Constants: whether a unit without any input can be non-zero, the rule of dead units."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

import torch
from torch import Tensor

from ticketsearch.wiring.functions import Shift
from ticketsearch.wiring.steps import Step

__all__ = ["is_constant", "shifts"]


def is_constant(
    steps: Sequence[Step], index: int, tensors: Mapping[str, Tensor], frozen: Container[str] = ()
) -> bool:
    """Return whether the value of a step can be non-zero for a unit without any input.

    It can if a map has f(0) ≠ 0, if a bias, shift or running mean is not zero, or if a zero one is trained,
    i.e. is not ``frozen`` and receives a gradient: it receives none if all later maps of the value map 0 to 0
    with zero slope.
    """
    step = steps[index]
    if step.operation == "mix":
        return True
    if isinstance(step.function, Shift):
        moves = step.function.learned and not _blocked(steps, index, tensors, frozen)
        return moves or any(bool(tensors[name].ne(0).any()) for name in shifts(step))
    if step.operation in ("elementwise", "spatial"):
        return _at_zero(step, tensors)[0] != 0
    if step.operation not in ("linear", "normalize"):
        return False
    if any(bool(tensors[name].ne(0).any()) for name in shifts(step)):
        return True
    shift = step.names[1]
    return shift is not None and shift not in frozen and not _blocked(steps, index, tensors, frozen)


def shifts(step: Step) -> list[str]:
    """Return the names of the tensors that a layer, batch normalisation or map adds; else none."""
    places: tuple[int, ...] = {"linear": (1,), "normalize": (1, 2)}.get(step.operation, ())
    if isinstance(step.function, Shift):
        places = (0,)
    return [name for place in places if (name := step.names[place]) is not None]


def _blocked(
    steps: Sequence[Step], index: int, tensors: Mapping[str, Tensor], frozen: Container[str]
) -> bool:
    """Return whether a unit that is zero here stays zero: all consumers map 0 to 0 and pass no gradient."""
    consumers = [i for i, step in enumerate(steps) if index in step.inputs]
    if not consumers:
        return False
    for consumer in consumers:
        step = steps[consumer]
        if step.operation in ("elementwise", "spatial"):
            value, slope = _at_zero(step, tensors)
            if any(name is not None and name not in frozen for name in step.names):
                slope = 1.0  # the tensor is trained, so the slope may change
        elif step.operation == "normalize":
            value, slope = float(any(bool(tensors[n].ne(0).any()) for n in shifts(step))), 1.0
        elif step.operation in ("dropout", "concatenate", "select", "multiply"):
            value, slope = 0.0, 1.0  # in a product, for any other factor
        else:
            return False
        if value != 0 or (slope != 0 and not _blocked(steps, consumer, tensors, frozen)):
            return False
    return True


def _at_zero(step: Step, tensors: Mapping[str, Tensor]) -> tuple[float, float]:
    """Return the largest |f(0)|, and of the derivatives that autograd uses at 0."""
    if step.operation == "spatial":
        return 0.0, 1.0
    arguments = [tensors[name].detach().double() for name in step.names if name is not None]
    shape = (1, *step.shape) if arguments else (1,)
    zero = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
    value = step.function(zero, *arguments)
    slope = torch.autograd.grad(value.sum(), zero)[0] if value.requires_grad else torch.zeros(1)
    return float(value.detach().abs().max()), float(slope.abs().max())
