"""Programs: the computation of one masked network as operations on rows of values.

A value is rows, one for each unit, of numbers, one for each sample. The first rows hold the samples.
An operation has ``FIELDS`` integers: its code; the first row of its output; the first row of its (first)
input; its number of rows; what the gradient by that input is, not needed (0), set (1) or added (2); and what
its code needs. The last one says whether anything learns from it. ``steps.py`` runs them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ticketsearch.masks import Mask
from ticketsearch.training.native.images import convolution_integers, spatial_integers
from ticketsearch.training.native.known_maps import known_map
from ticketsearch.training.native.memory import LINE
from ticketsearch.training.native.names import CODES, FIELDS, IN_PLACE
from ticketsearch.wiring import BatchNormalization, Compaction, Reshape, Select, Step, Sum, Wiring

__all__ = ["Program", "lacking_step", "program_of"]

SET, ADDED = 1, 2
TWO_CODES = tuple(CODES[name] for name in ("add", "multiply", "maximum", "minimum"))


def lacking_step(wiring: Wiring) -> str | None:
    """Return the step that the native engine lacks, as text; None where it has all of the network's."""
    for step in wiring.steps:
        lacking = _lacking(step)
        if lacking is not None:
            return lacking
    return None


def _lacking(step: Step) -> str | None:
    function: Any = step.function
    name = getattr(function, "__name__", None) or getattr(function, "target", None) or type(function).__name__
    if len(step.shape) != 1:
        return "convolutions and feature maps"
    if step.operation == "elementwise":
        return None if not step.names and known_map(function) is not None else f"the map {name}"
    if step.operation == "spatial":
        return f"{name}"
    if step.operation == "mix":
        return None
    return None


@dataclass
class Program:
    """Operations and parameters of one network; rows and places are counted from its own first ones.

    Attributes
    ----------
    operations : each ``FIELDS`` integers.
    numbers : two numbers of each operation.
    rows : rows of all values; the samples come first.
    noise_rows : rows of dropout factors.
    scratch, saved : numbers of scratch for each sample, and numbers saved from forward to backward.
    params : parameters, those that learn first.
    learning : number of parameters that learn.
    named : for each tensor its first place in ``params`` and, for weights, unit and input of each.
    moved, moved_names : running statistics, and each tensor's first place and length in them.
    sources, begins, turned_sources, turned_begins, turned_order, indices : see
        :class:`~ticketsearch.training.native.steps.Tables`.
    output : first row and number of the outputs.
    layers : for each layer the first rows and numbers of its inputs and outputs.
    drops : index of each dropout step, and its first row of factors.
    """

    operations: list[list[int]] = field(default_factory=list)
    numbers: list[tuple[float, float]] = field(default_factory=list)
    rows: int = 0
    noise_rows: int = 0
    scratch: int = 2  # what the loss takes
    saved: int = 0
    params: NDArray[Any] = field(default_factory=lambda: np.zeros(0))
    learning: int = 0
    named: dict[str, tuple[int, tuple[NDArray[np.intp], ...] | int]] = field(default_factory=dict)
    moved: NDArray[Any] = field(default_factory=lambda: np.zeros(0))
    moved_names: dict[str, tuple[int, int]] = field(default_factory=dict)
    sources: list[NDArray[np.int32]] = field(default_factory=list)
    begins: list[NDArray[np.int64]] = field(default_factory=list)
    turned_sources: list[NDArray[np.int32]] = field(default_factory=list)
    turned_begins: list[NDArray[np.int64]] = field(default_factory=list)
    turned_order: list[NDArray[np.int64]] = field(default_factory=list)
    indices: list[NDArray[np.int32]] = field(default_factory=list)
    output: tuple[int, int] = (0, 0)
    layers: dict[str, tuple[int, int, int, int]] = field(default_factory=dict)
    drops: dict[int, int] = field(default_factory=dict)
    features: int = 0

    def shifted(
        self, operation: Sequence[int], params: int, moved: int, offsets: Mapping[str, int]
    ) -> list[int]:
        """Return an operation whose places are counted from the first of all programs."""
        shifted, code = list(operation), operation[0]
        if code == CODES["linear"]:
            shifted[5] += offsets["begins"]
            shifted[7] += offsets["turned_begins"]
        elif code == CODES["take"] or code > CODES["mix"]:
            shifted[5] += offsets["indices"]
        places = {"linear": (6,), "normalize": (5, 6), "mix": (5, 6), "convolve": (6, 7)}
        for place in {CODES[name]: each for name, each in places.items()}.get(code, ()):
            shifted[place] += params if shifted[place] >= 0 else 0
        if code == CODES["normalize"] and shifted[7] >= 0:
            shifted[7] += moved
        return shifted

    def used(self) -> NDArray[np.int64]:
        """Return the features of the samples that anything reads: by layers, those of kept weights."""
        parts = [
            source for (read, *_), source in zip(self.layers.values(), self.sources, strict=True) if read == 0
        ]
        linear = CODES["linear"]
        if any(o[0] != linear and 0 in (o[2], o[5] if o[0] in TWO_CODES else -1) for o in self.operations):
            return np.arange(self.features)
        return np.unique(np.concatenate([*parts, np.zeros(0, np.int32)])).astype(np.int64)


def program_of(
    compaction: Compaction, mask: Mask, tensors: Mapping[str, Tensor], dtype: np.dtype[Any]
) -> Program:
    """Return the program of the kept units of a network whose mask is ``(weights,)`` bool.

    ``tensors`` are initial parameters and, where it normalises, buffers.
    """
    return _Builder(compaction, mask, tensors, dtype).built()


class _Builder:
    """Builds a program step by step."""

    def __init__(
        self, compaction: Compaction, mask: Mask, tensors: Mapping[str, Tensor], dtype: np.dtype[Any]
    ) -> None:
        self.compaction, self.tensors, self.dtype = compaction, tensors, dtype
        self.masks = compaction.wiring.spec.split(mask)
        self.steps = compaction.steps
        self.program = Program()
        self.first: list[int] = []  # row of each value
        self.needed: list[bool] = []  # whether anything before a value learns
        self.of_step: list[int] = []  # step of each operation
        self.readers = np.bincount([i for step in self.steps for i in step.inputs], minlength=len(self.steps))
        self._lay_out()

    def _lay_out(self) -> None:
        """Place the parameters: learning ones first, weights of kept connections alone."""
        program, frozen = self.program, self.compaction.wiring.frozen
        weights = {str(step.names[0]): step for step in self.steps if step.layer >= 0}
        buffers = {name for step in self.steps if step.operation == "normalize" for name in step.names[2:]}
        names = [
            name for step in self.steps for name in step.names if name is not None and name not in buffers
        ]
        parts: list[NDArray[Any]] = []
        length = 0
        for name in [*(n for n in names if n not in frozen), *(n for n in names if n in frozen)]:
            whole = self._shrunk(name)
            place: tuple[NDArray[np.intp], ...] | int = whole.size
            if name in weights:
                place = np.nonzero(self._kept_mask(name))
                whole = whole[place]
            program.named[name] = length, place
            parts.append(whole.ravel())
            length += whole.size
            if name not in frozen:
                program.learning = length
        program.params = np.concatenate(parts).astype(self.dtype) if parts else np.zeros(0, self.dtype)
        moved = [name for step in self.steps if step.operation == "normalize" for name in step.names[2:]]
        values = [(name, self._shrunk(name)) for name in moved if name is not None]
        for name, value in values:
            begin = sum(count for _, count in program.moved_names.values())
            program.moved_names[name] = begin, value.size
        program.moved = np.concatenate([v for _, v in values] or [np.zeros(0)]).astype(self.dtype)

    def _shrunk(self, name: str) -> NDArray[Any]:
        shrunk: NDArray[Any] = self.compaction.shrunk(name, self.tensors[name].detach().cpu()).numpy()
        return shrunk

    def _kept_mask(self, name: str) -> Mask:
        kept: Mask = self.compaction.shrunk(name, torch.from_numpy(self.masks[name].copy())).numpy()
        return kept

    def built(self) -> Program:
        """Return the program."""
        for index, step in enumerate(self.steps):
            rows = int(np.prod(step.shape))
            inputs = [self.first[i] for i in step.inputs]
            # Guidance takes gradients by the outputs of all layers, also of those without a weight.
            learns = step.operation == "linear" or any(self._learns(name) for name in step.names)
            self.needed.append(learns or any(self.needed[i] for i in step.inputs))
            getattr(self, f"_{step.operation}")(index, step, rows, inputs)
        self._order_gradients()
        program = self.program
        program.output = self.first[-1], int(self.steps[-1].shape[0])
        return program

    def _learns(self, name: str | None) -> bool:
        return name in self.program.named and self.program.named[name][0] < self.program.learning

    def _place(self, name: str | None) -> int:
        return -1 if name is None else self.program.named[name][0]

    def _new(self, rows: int) -> int:
        """Return the first of new rows, those of the next value."""
        self.first.append(self.program.rows)
        self.program.rows += rows
        return self.first[-1]

    def _emit(
        self,
        code: str,
        out: int,
        read: int,
        rows: int,
        *fields: int,
        numbers: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        operation = [CODES[code], out, read, rows, 0, *fields]
        self.program.operations.append(operation + [0] * (FIELDS - len(operation)))
        self.program.numbers.append(numbers)
        self.of_step.append(len(self.first) - 1)

    def _input(self, index: int, step: Step, rows: int, inputs: list[int]) -> None:
        # Samples are padded to whole vectors, as they are in memory.
        self._new(-(-rows // LINE) * LINE)
        self.program.features = rows

    def _linear(self, index: int, step: Step, rows: int, inputs: list[int]) -> None:
        program, (name, bias) = self.program, step.names[:2]
        before = self.steps[step.inputs[0]].shape[0]
        out = self._new(rows)
        begin, place = program.named[str(name)]
        assert not isinstance(place, int)
        if len(step.shape) > 1:
            shape, kernel = self.steps[step.inputs[0]].shape, self._kept_mask(str(name)).shape
            at = self._indexed(convolution_integers(step, shape, kernel, place))
            learns = self._learns(name), self._learns(bias)
            places = at, self._place(bias), begin, *learns, len(place[0])
            self._emit("convolve", out, inputs[0], rows, *map(int, places))
            return
        unit, source = place
        program.layers[str(name)] = inputs[0], before, out, rows
        begins_at = sum(map(len, program.begins))
        program.begins.append(begin + np.searchsorted(unit, np.arange(rows + 1)))
        program.sources.append(source.astype(np.int32))
        turned_at = 0
        if self.needed[step.inputs[0]]:
            turned_at, turned = sum(map(len, program.turned_begins)), sum(map(len, program.turned_order))
            order = np.argsort(source, kind="stable")
            program.turned_begins.append(turned + np.searchsorted(source[order], np.arange(before + 1)))
            program.turned_sources.append(unit[order].astype(np.int32))
            program.turned_order.append(begin + order)
        fields = begins_at, self._place(bias), turned_at, before, self._learns(name), self._learns(bias)
        self._emit("linear", out, inputs[0], rows, *map(int, fields))

    def _indexed(self, integers: NDArray[np.int32]) -> int:
        """Return where integers of an operation begin among all of them."""
        at = sum(map(len, self.program.indices))
        self.program.indices.append(integers)
        return at

    def _spatial(self, index: int, step: Step, rows: int, inputs: list[int]) -> None:
        if isinstance(step.function, Reshape | nn.Flatten):
            self._emit("copy", self._new(rows), inputs[0], rows)
            return
        code, integers = spatial_integers(step, self.steps[step.inputs[0]].shape)
        self._emit(code, self._new(rows), inputs[0], rows, self._indexed(integers))

    def _elementwise(self, index: int, step: Step, rows: int, inputs: list[int]) -> None:
        kind, first, second = known_map(step.function) or (0, 0.0, 0.0)
        source = step.inputs[0]
        plain = self.steps[source].operation in ("linear", "add", "normalize", "mix", "concatenate")
        if kind in IN_PLACE and plain and self.readers[source] == 1:
            out = inputs[0]
            self.first.append(out)
        else:
            out = self._new(rows)
        self._emit("map", out, inputs[0], rows, kind, numbers=(first, second))

    def _two(self, index: int, step: Step, rows: int, inputs: list[int]) -> None:
        scale = step.function.scale if isinstance(step.function, Sum) else 1.0
        self._emit(step.operation, self._new(rows), inputs[0], rows, inputs[1], numbers=(scale, 0.0))

    _add = _multiply = _maximum = _minimum = _two

    def _concatenate(self, index: int, step: Step, rows: int, inputs: list[int]) -> None:
        out = self._new(rows)
        for value, read in zip(step.inputs, inputs, strict=True):
            count = int(np.prod(self.steps[value].shape))
            self._emit("copy", out, read, count)
            out += count

    def _select(self, index: int, step: Step, rows: int, inputs: list[int]) -> None:
        assert isinstance(step.function, Select)
        at = self._indexed(np.array(step.function.numbers, dtype=np.int32))
        self._emit("take", self._new(rows), inputs[0], rows, at, self.steps[step.inputs[0]].shape[0])

    def _zeros(self, index: int, step: Step, rows: int, inputs: list[int]) -> None:
        self._emit("zeros", self._new(rows), 0, rows)

    def _dropout(self, index: int, step: Step, rows: int, inputs: list[int]) -> None:
        self.program.drops[index] = at = self.program.noise_rows
        self.program.noise_rows += rows
        self._emit("dropout", self._new(rows), inputs[0], rows, at)

    def _normalize(self, index: int, step: Step, rows: int, inputs: list[int]) -> None:
        assert isinstance(step.function, BatchNormalization)
        names = step.names
        moved = -1 if names[2] is None else self.program.moved_names[names[2]][0]
        fields = (
            self._place(names[0]),
            self._place(names[1]),
            moved,
            int(step.function.fixed),
            rows // step.shape[0],
            self.program.saved,
        )
        numbers = step.function.eps, float(step.function.momentum or 0.0)
        self._emit("normalize", self._new(rows), inputs[0], rows, *fields, numbers=numbers)
        self.program.saved += 2 * step.shape[0]

    def _mix(self, index: int, step: Step, rows: int, inputs: list[int]) -> None:
        function: Any = step.function
        fields = self._place(step.names[0]), self._place(step.names[1]), self.program.scratch
        self._emit("mix", self._new(rows), inputs[0], rows, *fields, numbers=(function.eps, 0.0))
        self.program.scratch += 4

    def _order_gradients(self) -> None:
        """Say of each operation, from the last to the first, whether its gradients are set or added."""
        written = {len(self.steps) - 1}
        for operation, index in zip(reversed(self.program.operations), reversed(self.of_step), strict=True):
            step = self.steps[index]
            if index not in written or not self.needed[index]:
                continue
            operation[FIELDS - 1] = 1
            sources = list(step.inputs)
            if operation[0] == CODES["copy"]:
                sources = [value for value in step.inputs if self.first[value] == operation[2]][:1]
            for position, value in enumerate(sources):
                if self.needed[value]:
                    operation[4 if position == 0 else 6] = ADDED if value in written else SET
                    written.add(value)
