"""Windows of convolutions and poolings: which positions read which, as integers for the compiled loops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray

from ticketsearch.wiring import Step

__all__ = ["Geometry", "Plan", "geometry_of", "plans"]

# First position, number, and for each index along the kernel the position that is read by the first.
Run = tuple[int, int, Mapping[int, int]]


class Geometry(NamedTuple):
    """Sizes of a convolution; all pairs are (y, x), and 1-d is 2-d of height 1.

    Attributes
    ----------
    inputs, outputs : (channels, height, width) of its values.
    kernel, stride, dilation : of the window.
    padding : zeros before the first position.
    groups : parts of the channels that are convolved by themselves.
    """

    inputs: tuple[int, int, int]
    outputs: tuple[int, int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[int, int]
    groups: int


class Plan(NamedTuple):
    """Lists of weights for rectangles of positions.

    Attributes
    ----------
    rectangles : ``(rectangles, 7)``: first position, height, width; steps down and across of positions that
        are written, then of those that are read.
    begins : ``(rectangles * units + 1,)``: where the list of each rectangle and unit begins.
    rows : for each entry the row that the first position reads, counted from the first row of all channels.
    order : for each entry the number of its kept weight.
    """

    rectangles: NDArray[np.int64]
    begins: NDArray[np.int64]
    rows: NDArray[np.int32]
    order: NDArray[np.int32]


def geometry_of(step: Step, shape: Sequence[int], kernel: Sequence[int]) -> Geometry | None:
    """Return the geometry of a convolution of a value of ``shape``; None where the kernels lack it.

    They have 1-d and 2-d convolutions that pad by zeros. ``kernel`` is the shape of the weight.
    """
    function: Any = step.function
    known = getattr(function, "function", None) in (F.conv1d, F.conv2d)
    if not known or len(shape) not in (2, 3) or function.padding_mode != "zeros":
        return None
    sizes, dilation = tuple(kernel[2:]), tuple(function.dilation)
    padding = function.padding
    if padding == "same":
        padding = [d * (size - 1) // 2 for d, size in zip(dilation, sizes, strict=True)]
    elif isinstance(padding, str):
        padding = [0] * len(sizes)
    return Geometry(
        _image(shape),
        _image(step.shape),
        _pair(sizes, 1),
        _pair(function.stride, 1),
        _pair(dilation, 1),
        _pair(padding, 0),
        function.groups,
    )


def _image(shape: Sequence[int]) -> tuple[int, int, int]:
    return int(shape[0]), int(shape[1]) if len(shape) == 3 else 1, int(shape[-1])


def _pair(sizes: Sequence[int], missing: int) -> tuple[int, int]:
    return int(sizes[0]) if len(sizes) == 2 else missing, int(sizes[-1])


def plans(geometry: Geometry, kept: Sequence[NDArray[np.intp]]) -> tuple[Plan, Plan]:
    """Return the plans by outputs and by inputs of kept weights ``(filter, channel, [ky,] kx)``.

    ``kept`` is what ``np.nonzero`` gives for a mask of the weight.
    """
    unit, channel, *place = kept
    ky, kx = (place[0], place[1]) if len(place) == 2 else (np.zeros_like(unit), place[0])
    channels, filters, groups = geometry.inputs[0], geometry.outputs[0], geometry.groups
    channel = channel + unit // (filters // groups) * (channels // groups)
    forward = _plan(geometry, unit, channel, ky, kx, turned=False)
    order = np.lexsort((kx, ky, unit, channel))
    back = _plan(geometry, channel[order], unit[order], ky[order], kx[order], turned=True)
    return forward, back._replace(order=order.astype(np.int32)[back.order])


def _plan(
    geometry: Geometry,
    unit: NDArray[np.intp],
    channel: NDArray[np.intp],
    ky: NDArray[np.intp],
    kx: NDArray[np.intp],
    *,
    turned: bool,
) -> Plan:
    """Return the plan of weights in the order of the units that are written."""
    written, read = geometry.outputs, geometry.inputs
    if turned:
        written, read = read, written
    down, across = _runs(geometry, 0, turned), _runs(geometry, 1, turned)
    step = geometry.stride if turned else (1, 1)
    read_step = (1, 1) if turned else geometry.stride
    rectangles: list[list[int]] = []
    begins, rows, order, length = [np.zeros(1, np.int64)], [], [], 0
    for top, high, lines in down:
        for left, wide, columns in across:
            inside = np.isin(ky, [*lines]) & np.isin(kx, [*columns])
            (entries,) = np.nonzero(inside)
            y = np.array([lines[k] for k in ky[entries].tolist()], dtype=np.int64)
            x = np.array([columns[k] for k in kx[entries].tolist()], dtype=np.int64)
            steps = step[0] * written[2], step[1], read_step[0] * read[2], read_step[1]
            rectangles.append([top * written[2] + left, high, wide, *steps])
            begins.append(length + np.searchsorted(unit[entries], np.arange(1, written[0] + 1)))
            rows.append((channel[entries] * read[1] + y) * read[2] + x)
            order.append(entries)
            length += len(entries)
    return Plan(
        np.array(rectangles, dtype=np.int64).reshape(-1, 7),
        np.concatenate(begins).astype(np.int64),
        np.concatenate(rows).astype(np.int32),
        np.concatenate(order).astype(np.int32),
    )


def _runs(geometry: Geometry, axis: int, turned: bool) -> list[Run]:
    """Return the runs of positions along an axis that read by the same indices of the kernel."""
    high, low = geometry.outputs[1 + axis], geometry.inputs[1 + axis]
    size, stride = geometry.kernel[axis], geometry.stride[axis]
    shifts = [(k, k * geometry.dilation[axis] - geometry.padding[axis]) for k in range(size)]
    if turned:
        reads = [
            {k: (i - s) // stride for k, s in shifts if (i - s) % stride == 0 and 0 <= i - s < high * stride}
            for i in range(low)
        ]
    else:
        reads = [{k: o * stride + s for k, s in shifts if 0 <= o * stride + s < low} for o in range(high)]
    step = stride if turned else 1
    runs: list[Run] = []
    for phase in range(min(step, len(reads))):
        first = phase
        for place in range(phase, len(reads) + step, step):
            if place >= len(reads) or reads[place].keys() != reads[first].keys():
                runs.append((first, (place - first) // step, reads[first]))
                first = place
                if place >= len(reads):
                    break
    return runs
