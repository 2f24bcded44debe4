"""Image shapes: checks that convolutional models get images with channels first."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from ticketsearch.errors import BadInput

__all__ = ["check_first_layer", "check_image"]

AXES = {1: "channels, length", 2: "channels, height, width", 3: "channels, depth, height, width"}
CONVOLUTIONS: dict[Any, int] = {torch.conv1d: 1, torch.conv2d: 2, torch.conv3d: 3}
# Other operations that read values through weights.
PRODUCTS: tuple[Callable[..., Any], ...] = (
    *(nn.functional.linear, torch.matmul, torch.mm, torch.bmm, torch.addmm, torch.einsum),
    *(torch.Tensor.matmul, torch.Tensor.__matmul__, torch.Tensor.mm, torch.Tensor.bmm),
)
# Channels of grey, colour, and colour images with transparency.
STORED_CHANNELS = (1, 3, 4)


def check_image(name: str, shape: tuple[int, ...], dimensions: int = 2, smallest: int = 0) -> None:
    """Raise :class:`BadInput` unless samples of this shape are images, channels first, of at least a size."""
    if _channels_last(shape, dimensions):
        order = ", ".join(str(axis) for axis in (0, len(shape), *range(1, len(shape))))
        raise BadInput(
            f"model {name!r} takes images ({AXES[dimensions]}), but got input shape {shape}, which has its "
            f"channels last; give it x.transpose({order})"
        )
    if len(shape) != dimensions + 1 or min(shape[1:]) < smallest:
        least = f" of at least {smallest}×{smallest}" if smallest else ""
        raise BadInput(
            f"model {name!r} takes images ({AXES[dimensions]}){least}, but got input shape {shape}; give the "
            "images a channel axis or enlarge them, or use mlp"
        )


def check_first_layer(name: str, module: nn.Module, input_shape: Sequence[int]) -> None:
    """Refuse images without a channel axis, or with channels last, if the first layer is a convolution.

    The module is run up to its first layer, so that a module that moves the axes itself passes.
    Raises :class:`BadInput` as :func:`check_image` does.
    """
    shape = tuple(input_shape)
    copied = copy.deepcopy(module).eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]), _UpToFirstLayer():
            copied(torch.zeros(2, *shape))
    except _FirstLayer as first:
        taken = first.shape[1:]
        missing = len(shape) == first.dimensions and taken == shape
        last = len(taken) == len(shape) and taken[:1] == shape[:1] and _channels_last(shape, first.dimensions)
        if missing or last:
            check_image(name, shape, first.dimensions)
    except Exception:  # the module's own code may raise anything; tracing it says so
        return


def _channels_last(shape: tuple[int, ...], dimensions: int) -> bool:
    """Whether images are (height, width, channels), judged by their sizes; never for one dimension."""
    images = len(shape) == dimensions + 1 > 2
    return images and shape[-1] in STORED_CHANNELS and min(shape[:-1]) > shape[-1]


class _FirstLayer(BaseException):
    """The first layer that reads a network's input; a BaseException, as modules may catch Exceptions."""

    def __init__(self, dimensions: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.dimensions, self.shape = dimensions, shape


class _UpToFirstLayer(TorchFunctionMode):
    """Raises :class:`_FirstLayer` at the first product, with a convolution's dimensions or 0."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if func in CONVOLUTIONS:
            value = args[0] if args else given["input"]
            raise _FirstLayer(CONVOLUTIONS[func], tuple(value.shape))
        if func in PRODUCTS:
            raise _FirstLayer(0, ())
        return func(*args, **given)
