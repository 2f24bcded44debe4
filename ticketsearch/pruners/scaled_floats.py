"""Flows as floats with a separate power of two, so that no depth overflows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ticketsearch.typing import Floats, Indices

__all__ = ["Flow", "aligned", "gathered", "normalized", "product", "shifted", "summed", "times_power"]

# The largest flow of a value lies in [2 ** -REACH, 2 ** REACH]: products of three such do not overflow.
REACH = 64


class Flow(NamedTuple):
    """Non-negative flows ``mantissa * 2 ** exponent``: ``(copies, *shape)`` and one integer a copy."""

    mantissa: Tensor
    exponent: Indices


def normalized(mantissa: Tensor, exponent: Indices) -> Flow:
    """Scale by powers of two, which is exact, where flows become too large or small for products."""
    largest = mantissa.flatten(1).amax(1) if mantissa.ndim > 1 else mantissa
    shift = np.frexp(largest.numpy())[1].astype(np.intp)  # 0 where nothing flows
    if np.abs(shift).max() <= REACH:
        return Flow(mantissa, exponent)
    return Flow(shifted(mantissa, -shift), exponent + shift)


def shifted(mantissa: Tensor, shift: Indices) -> Tensor:
    """Return ``mantissa * 2 ** shift``, copy by copy; values below the smallest float become 0."""
    half = shift // 2  # 2 ** shift itself may overflow
    shape = (-1, *[1] * (mantissa.ndim - 1))
    factors = torch.from_numpy(np.ldexp(1.0, np.maximum(half, -1100))).view(shape)
    rest = torch.from_numpy(np.ldexp(1.0, np.maximum(shift - half, -1100))).view(shape)
    return mantissa * factors * rest


def aligned(flows: list[Flow]) -> tuple[list[Tensor], Indices]:
    """Return the mantissas of several flows at each copy's largest scale, and that scale."""
    empty = np.iinfo(np.intp).min // 4
    exponents = [np.where(flow.mantissa.flatten(1).any(1).numpy(), flow.exponent, empty) for flow in flows]
    top = np.maximum.reduce(exponents)
    top = np.where(top == empty, 0, top)
    return [
        shifted(flow.mantissa, np.clip(exponent - top, -4000, 0))
        for flow, exponent in zip(flows, exponents, strict=True)
    ], top


def summed(a: Flow, b: Flow) -> Flow:
    """Add two flows at the larger of their scales."""
    (first, second), top = aligned([a, b])
    return normalized(first + second, top)


def product(a: Flow, b: Flow) -> Flow:
    """Multiply two flows."""
    return normalized(a.mantissa * b.mantissa, a.exponent + b.exponent)


def gathered(flow: Flow, like: Flow) -> Flow:
    """Sum a flow over the axes along which a value of another shape was repeated."""
    if flow.mantissa.shape == like.mantissa.shape:
        return flow
    return normalized(flow.mantissa.sum_to_size(like.mantissa.shape), flow.exponent)


def times_power(values: Floats, exponent: int) -> Floats:
    """Return ``values * 2 ** exponent``; values below the smallest float become 0."""
    if abs(exponent) < 1000:
        return values * 2.0**exponent
    return np.ldexp(values, max(min(exponent, 4000), -4000))
