"""Matrix products of stacked layers, in which each network gets the bits that it would get alone."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["products"]


def products(weight: Tensor, bias: Tensor | None, x: Tensor, *, samples: bool) -> Tensor:
    """Return the outputs ``(P, units, samples)`` of layers ``(P, units, inputs)``.

    ``x`` are values ``(P, inputs, samples)`` or, with ``samples``, the samples themselves: ``(samples,
    inputs)`` shared by all networks or ``(P, samples, inputs)``. ``bias`` is ``(P, units)``.
    """
    if not samples or x.ndim == 2:
        count = x.shape[-2] if samples else x.shape[-1]
        learns = torch.is_grad_enabled()
        size, units, inputs = weight.shape
        shape = Shape(size, units, inputs, count, samples, bias is not None, learns, _dtype_of(x), x.device)
        if _same_alone(shape):
            return _together(weight, bias, x)
    size = len(weight)
    biases = [None] * size if bias is None else torch.split(bias, 1)
    inputs_of = x if samples and x.ndim == 3 else [x] * size if samples else torch.split(x, 1)
    layers = zip(torch.split(weight, 1), biases, inputs_of, strict=True)
    return torch.cat([_together(*layer) for layer in layers])


def _dtype_of(x: Tensor) -> torch.dtype:
    """Return the type in which a product with ``x`` is computed, autocast included."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def _together(weight: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    """Return ``(P, units, samples)`` of samples ``(samples, inputs)``, or of values, by one product."""
    if x.ndim == 3:
        return torch.bmm(weight, x) if bias is None else torch.baddbmm(bias[:, :, None], weight, x)
    size, units, inputs = weight.shape
    flat = weight.reshape(-1, inputs)
    outputs = flat @ x.t() if bias is None else torch.addmm(bias.reshape(-1, 1), flat, x.t())
    return outputs.view(size, units, -1)


class Shape(NamedTuple):
    """All that decides how a library computes a product of stacked layers, and its gradients.

    Attributes
    ----------
    size, units, inputs, samples : of the layers ``(size, units, inputs)`` and the values.
    shared : whether all networks read the same samples, or each its own values.
    biased : whether biases are added.
    learns : whether gradients are computed too.
    dtype, device : of the computation.
    """

    size: int
    units: int
    inputs: int
    samples: int
    shared: bool
    biased: bool
    learns: bool
    dtype: torch.dtype
    device: torch.device


@lru_cache(maxsize=4096)
def _same_alone(shape: Shape) -> bool:
    """Return whether one product of several networks gives each the bits of a product of its own.

    This holds for the result and, if it ``learns``, for all gradients. Libraries choose the order of a sum by
    the shape of a product; on the CPU this compares the first networks, one in the middle and the last, in
    company and alone. First all sums cancel out, so that rounding alone remains: with other sums, a type of
    few digits would show a different order once in a hundred. Then sums and biases are random, since biases
    may be added with a rounding of their own or without. On other devices no bits are promised.
    """
    size, units, inputs, samples, shared, biased, learns, dtype, device = shape
    if size == 1 or device.type != "cpu":
        return True
    generator = torch.Generator().manual_seed(0)
    shapes = [(size, units, inputs), (size, units), (samples, inputs) if shared else (size, inputs, samples)]
    over_inputs, over_samples = (1, 0) if shared else (1, 2)
    with torch.autocast("cpu", enabled=False), torch.enable_grad():
        for cancels in (True, False):
            weight, bias, x = (torch.randn(shape, generator=generator).to(dtype) for shape in shapes)
            gradient = torch.randn(size, units, samples, generator=generator).to(dtype)
            if cancels:
                bias.zero_()
                for tensor, axis, sign in (
                    *((weight, 2, 1), (weight, 1, 1), (x, over_inputs, -1), (x, over_samples, 1)),
                    *((gradient, 1, -1), (gradient, 2, -1)),
                ):
                    _mirror(tensor, axis, sign)
            arguments = weight, bias if biased else None, x
            if not _same(arguments, gradient, shared=shared, learns=learns):
                return False
    return True


def _same(
    arguments: tuple[Tensor, Tensor | None, Tensor], gradient: Tensor, *, shared: bool, learns: bool
) -> bool:
    """Return whether some networks get the same bits of these values together and alone."""
    weight, bias, x = arguments
    for tensor in arguments:
        if tensor is not None:
            tensor.requires_grad_()

    def results(cut: slice) -> list[Tensor]:
        factors = weight[cut], None if bias is None else bias[cut], x if shared else x[cut]
        product = _together(*factors)
        if not learns:
            return [product]
        learning = factors[:2] if shared else factors
        leaves = [tensor for tensor in learning if tensor is not None]
        return [product, *torch.autograd.grad(product, leaves, gradient[cut])]

    size, together = len(weight), results(slice(None))
    return all(
        torch.equal(whole[index : index + 1], alone)
        for index in sorted({0, 1, size // 2, size - 1})
        for whole, alone in zip(together, results(slice(index, index + 1)), strict=True)
    )


def _mirror(tensor: Tensor, axis: int, sign: int) -> None:
    """Make the second half along an axis the first one times a sign, in place; a middle row becomes 0."""
    size = tensor.shape[axis]
    half = size // 2
    tensor.narrow(axis, size - half, half).copy_(sign * tensor.narrow(axis, 0, half))
    if half and size % 2:
        tensor.narrow(axis, half, 1).zero_()
