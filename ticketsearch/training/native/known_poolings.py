"""Poolings and zero margins that the native engine knows, from modules and calls to their windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from ticketsearch.wiring import Step

__all__ = ["Margin", "Pooling", "known_spatial"]

MAXIMA = (nn.MaxPool1d, nn.MaxPool2d)
AVERAGES = (nn.AvgPool1d, nn.AvgPool2d)
ADAPTIVE = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d)
MARGINS = (nn.ZeroPad1d, nn.ZeroPad2d)
# Arguments of the calls of the same names, in their order after the value.
MAX_ARGUMENTS = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
AVERAGE_ARGUMENTS = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
CALLS: dict[Any, tuple[str, tuple[str, ...]]] = {
    **dict.fromkeys((torch.max_pool1d, torch.max_pool2d), ("largest", MAX_ARGUMENTS[:5])),
    **dict.fromkeys((F.max_pool1d, F.max_pool2d), ("largest", MAX_ARGUMENTS)),
    **dict.fromkeys((F.avg_pool1d, F.avg_pool2d, torch.avg_pool1d), ("average", AVERAGE_ARGUMENTS)),
    **dict.fromkeys((F.adaptive_avg_pool1d, F.adaptive_avg_pool2d), ("adaptive", ("output_size",))),
}


class Pooling(NamedTuple):
    """A pooling of images; see :mod:`ticketsearch.training.native.pooling`.

    Attributes
    ----------
    sizes : height and width of the value that is read.
    high, wide : ``(outputs, 2)``: first position and end of each window.
    step : distance of a window's positions.
    shares : of each window, by which sums become means; None for maxima.
    """

    sizes: tuple[int, int]
    high: NDArray[np.int64]
    wide: NDArray[np.int64]
    step: tuple[int, int]
    shares: NDArray[np.float64] | None


class Margin(NamedTuple):
    """Zero margins: sizes of the value that is read and of that written, and rows before, (y, x)."""

    sizes: tuple[int, int]
    outputs: tuple[int, int]
    before: tuple[int, int]


def known_spatial(step: Step, shape: Sequence[int]) -> Pooling | Margin | None:
    """Return the pooling or the margins of a step that reads a value of ``shape``; None for any other."""
    if len(shape) not in (2, 3) or step.names:
        return None
    sizes, function = _image(shape), step.function
    outputs = _image(step.shape)
    if isinstance(function, MARGINS):
        margins = tuple(function.padding)
        return Margin(sizes, outputs, (margins[2] if len(margins) == 4 else 0, margins[0]))
    kind, options = _options(function)
    if kind == "means" and step.shape == (shape[0],):
        return _adaptive(sizes, (1, 1))
    if len(step.shape) != len(shape) or kind == "means":
        return None
    if kind == "adaptive":
        return _adaptive(sizes, outputs)
    if kind is None or options.get("return_indices"):
        return None
    return _pooling(kind, options, sizes, outputs, len(shape) == 2)


def _image(shape: Sequence[int]) -> tuple[int, int]:
    return (int(shape[1]) if len(shape) == 3 else 1), int(shape[-1])


def _options(function: Any) -> tuple[str | None, Mapping[str, Any]]:
    """Return the kind of a pooling and its arguments by name; None where it is no known one."""
    for kind, modules in (("largest", MAXIMA), ("average", AVERAGES), ("adaptive", ADAPTIVE)):
        if isinstance(function, modules):
            return kind, vars(function)
    target = getattr(function, "target", None)
    if target in ("mean", torch.mean):
        given = [a for a in function.arguments if a is not None] + [*function.keywords.values()]
        axes = given[0] if given else ()
        spatial = isinstance(axes, tuple | list) and {*axes} <= {2, 3, -1, -2} and len(axes) > 0
        keeps = any(isinstance(a, bool) and a for a in given)
        return ("means" if (spatial or axes in (2, -1)) and not keeps else None), {}
    for call, (kind, names) in CALLS.items():
        if target is call and function.open in ([0], []):
            positional = function.arguments[1:] if function.open else function.arguments
            return kind, {**dict(zip(names, positional, strict=False)), **function.keywords}
    return None, {}


def _pair(size: Any, missing: int, flat: bool) -> tuple[int, int]:
    """Return a size along y and x; ``missing`` is that along y of what has one axis of positions."""
    sizes = tuple(size) if isinstance(size, tuple | list) else (size,) if flat else (size, size)
    return (int(sizes[0]) if len(sizes) == 2 else missing), int(sizes[-1])


def _pooling(
    kind: str, options: Mapping[str, Any], sizes: tuple[int, int], outputs: tuple[int, int], flat: bool
) -> Pooling:
    kernel = _pair(options["kernel_size"], 1, flat)
    stride = _pair(options.get("stride") or options["kernel_size"], 1, flat)
    padding = _pair(options.get("padding", 0), 0, flat)
    dilation = _pair(options.get("dilation", 1), 1, flat)
    spans, counts = [], []
    for axis in range(2):
        begins = np.arange(outputs[axis]) * stride[axis] - padding[axis]
        ends = begins + (kernel[axis] - 1) * dilation[axis] + 1
        # A window that begins before the image has its first position inside by whole steps.
        missing = -(-np.maximum(-begins, 0) // dilation[axis]) * dilation[axis]
        spans.append(np.stack([begins + missing, np.minimum(ends, sizes[axis])], 1).astype(np.int64))
        counts.append(np.minimum(ends, sizes[axis] + padding[axis]) - begins)
    shares = None
    if kind == "average":
        inside = [span[:, 1] - span[:, 0] for span in spans]
        high, wide = counts if options.get("count_include_pad", True) else inside
        whole = options.get("divisor_override")
        shares = 1.0 / (np.multiply.outer(high, wide) if not whole else np.full(outputs, float(whole)))
    return Pooling(sizes, spans[0], spans[1], dilation, shares)


def _adaptive(sizes: tuple[int, int], outputs: tuple[int, int]) -> Pooling:
    spans = []
    for size, count in zip(sizes, outputs, strict=True):
        places = np.arange(count)
        spans.append(np.stack([places * size // count, -(-(places + 1) * size // count)], 1).astype(np.int64))
    lengths = [span[:, 1] - span[:, 0] for span in spans]
    return Pooling(sizes, spans[0], spans[1], (1, 1), 1.0 / np.multiply.outer(*lengths))
