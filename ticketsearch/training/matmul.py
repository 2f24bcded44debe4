"""Products of stacked layers, in which each network gets the bits that it would get alone."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

__all__ = ["products"]


def products(weight: Tensor, bias: Tensor | None, x: Tensor, *, samples: bool) -> Tensor:
    """Return what layers ``(P, units, inputs)`` make of values: ``(P, units, samples)``.

    ``x`` are values ``(P, inputs, samples)`` or, if it is ``samples``, these themselves: ``(samples,
    inputs)`` shared by all networks or ``(P, samples, inputs)``. ``bias`` is ``(P, units)``.
    """
    if not samples or x.ndim == 2:
        shape = (*weight.shape, x.shape[-2] if samples else x.shape[-1])
        learns = torch.is_grad_enabled()
        if _same_alone(*shape, samples, bias is not None, learns, _computed_in(x), x.device):
            return _together(weight, bias, x)
    size = len(weight)
    shifts = [None] * size if bias is None else torch.split(bias, 1)
    own = x if samples and x.ndim == 3 else [x] * size if samples else torch.split(x, 1)
    return torch.cat([_together(*each) for each in zip(torch.split(weight, 1), shifts, own, strict=True)])


def _computed_in(x: Tensor) -> torch.dtype:
    """Return the type in which a product with ``x`` is computed."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def _together(weight: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    """Return ``(P, units, samples)`` of samples ``(samples, inputs)``, or of values, by one product."""
    if x.ndim == 3:
        return torch.bmm(weight, x) if bias is None else torch.baddbmm(bias[:, :, None], weight, x)
    size, units, inputs = weight.shape
    flat = weight.reshape(-1, inputs)
    found = flat @ x.t() if bias is None else torch.addmm(bias.reshape(-1, 1), flat, x.t())
    return found.view(size, units, -1)


@lru_cache(maxsize=4096)
def _same_alone(
    size: int,
    units: int,
    inputs: int,
    samples: int,
    shared: bool,
    biased: bool,
    learns: bool,
    dtype: torch.dtype,
    device: torch.device,
) -> bool:
    """Return whether one product of several networks gives each the bits of a product of its own.

    So for the result and, if it ``learns``, all gradients; with samples ``shared`` or values for each.
    Libraries choose the order of a sum by the shape of a product; on the CPU they are asked, for the first
    networks, one in the middle and the last. First every sum they are given cancels out, so that what comes
    of it is rounding alone: of other sums a type with few digits would show one order in a hundred. Then they
    are given any sums, and biases, which may be added with a rounding of their own or without. On other
    devices no bits are promised.
    """
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
            given = weight, bias if biased else None, x
            if not _same(given, gradient, shared=shared, learns=learns):
                return False
    return True


def _same(
    given: tuple[Tensor, Tensor | None, Tensor], gradient: Tensor, *, shared: bool, learns: bool
) -> bool:
    """Return whether some networks get the same bits of these values together and alone."""
    weight, bias, x = given
    for tensor in given:
        if tensor is not None:
            tensor.requires_grad_()

    def results(cut: slice) -> list[Tensor]:
        own = weight[cut], None if bias is None else bias[cut], x if shared else x[cut]
        found = _together(*own)
        if not learns:
            return [found]
        wanted = [tensor for tensor in (own[0], own[1], None if shared else own[2]) if tensor is not None]
        return [found, *torch.autograd.grad(found, wanted, gradient[cut])]

    size, together = len(weight), results(slice(None))
    return all(
        torch.equal(whole[number : number + 1], alone)
        for number in sorted({0, 1, size // 2, size - 1})
        for whole, alone in zip(together, results(slice(number, number + 1)), strict=True)
    )


def _mirror(tensor: Tensor, axis: int, sign: int) -> None:
    """Make the second half along an axis the first one times a sign, in place, and what is between 0."""
    size = tensor.shape[axis]
    half = size // 2
    tensor.narrow(axis, size - half, half).copy_(sign * tensor.narrow(axis, 0, half))
    if half and size % 2:
        tensor.narrow(axis, half, 1).zero_()
