"""Verification of a wiring on random values: every step must treat units as the wiring says.

A renumbering of hidden units must renumber the value of each step, and a step that works on each unit by
itself must not mix units. Checking step by step is stricter than comparing outputs, locates the error, and
does not depend on the values that earlier steps compute.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ticketsearch.errors import BadInput
from ticketsearch.masks import random_order, segment_order, unit_orders
from ticketsearch.typing import Indices
from ticketsearch.wiring.steps import Axis, Step, Wiring

__all__ = ["check_numbering", "orders_of"]

SAMPLES = 3
# In single precision, relative to the largest value: wrong values differ by as much as values do.
TOLERANCE = 1e-3
# Largest number of parts of groups that share no step; beyond, random halves of the groups are renumbered.
SINGLY = 6
# Steps whose value at one unit depends on the same unit of their inputs alone.
APART = ("elementwise", "spatial", "normalize", "add")

Order = dict[str, Indices]


def check_numbering(wiring: Wiring) -> None:
    """Refuse a traced wiring whose hidden units cannot be renumbered as it says.

    Groups and bundles are renumbered separately and all together, in evaluation mode and, for steps that
    have one, in training mode. Raises :class:`BadInput` naming the step.
    """
    generator = torch.Generator().manual_seed(0)

    def values(shape: Sequence[int]) -> Tensor:
        return torch.rand(tuple(shape), generator=generator).mul_(4).sub_(2)

    parameters = {**dict(wiring.module.named_parameters()), **dict(wiring.module.named_buffers())}
    names = {name for step in wiring.steps for name in step.names if name is not None}
    tensors = {name: values(parameters[name].shape) for name in sorted(names)}
    tensors |= {
        name: tensors[name].abs() + 0.1
        for step in wiring.steps
        if step.operation == "normalize"
        for name in step.names[3:]
        if name is not None
    }
    made = [values((SAMPLES, *step.shape)) for step in wiring.steps]
    for step, axis in zip(wiring.steps, wiring.values, strict=True):
        if step.operation in APART:
            _check_apart(wiring, step, axis, made, tensors)
    for order in orders_of(wiring):
        numbering = _Numbering(wiring, order)
        moved = [numbering.moved(value, axis) for value, axis in zip(made, wiring.values, strict=True)]
        renumbered = wiring.renumbered(tensors, order)
        for step, axis in zip(wiring.steps, wiring.values, strict=True):
            touched = {*axis, *(segment for i in step.inputs for segment in wiring.values[i])}
            if step.inputs and any(numbering.touches(segment) for segment in touched):
                for training in _modes(step):
                    expected = _made(wiring, step, made, tensors, training)
                    actual = _made(wiring, step, moved, renumbered, training)
                    if not _alike(numbering.moved(expected, axis), actual):
                        raise _refusal(wiring, step, "tells units apart that the wiring would renumber")


def orders_of(wiring: Wiring) -> Iterator[Order]:
    """Yield renumberings: of groups that share no step, of each bundle, and of all of them together."""
    spec = wiring.spec
    rng = np.random.default_rng(0)
    whole = {name: order for name, order in random_order(spec, rng).items() if len(order) > 1}
    whole = {name: _no_identity(order, rng) for name, order in whole.items()}
    if not whole:
        return
    bundled = {bundle.name for bundle in spec.bundles}
    singles = [name for name in whole if name not in bundled]
    for names in [*_apart(wiring, singles, rng), *([name] for name in whole if name in bundled)]:
        yield {name: whole[name] for name in names}
    if len(whole) > 1:
        yield whole


def _apart(wiring: Wiring, names: Sequence[str], rng: np.random.Generator) -> list[list[str]]:
    """Divide groups into parts that share no step; into random halves if those would be too many."""
    if not wiring.steps:
        return [[name] for name in names]
    spec = wiring.spec
    index_of = {group.name: index for index, group in enumerate(spec.groups)}
    meeting: dict[int, set[int]] = {index_of[name]: set() for name in names}
    for step, axis in zip(wiring.steps, wiring.values, strict=True):
        groups = {segment.group for i in step.inputs for segment in wiring.values[i]} | {
            s.group for s in axis
        }
        for group in groups & meeting.keys():
            meeting[group] |= groups
    colours: dict[int, int] = {}
    for group, others in meeting.items():
        taken = {colours[other] for other in others if other in colours}
        colours[group] = next(colour for colour in range(len(names)) if colour not in taken)
    if max(colours.values(), default=0) < SINGLY:
        parts: list[list[str]] = [[] for _ in range(max(colours.values(), default=-1) + 1)]
        for name in names:
            parts[colours[index_of[name]]].append(name)
        return parts
    halves = rng.random((SINGLY, len(names))) < 0.5
    return [[name for name, taken in zip(names, half, strict=True) if taken] for half in halves]


def _no_identity(order: Indices, rng: np.random.Generator) -> Indices:
    while np.array_equal(order, np.arange(len(order))):
        order = rng.permutation(len(order))
    return order


class _Numbering:
    """A renumbering of hidden units, applied to values."""

    def __init__(self, wiring: Wiring, order: Order) -> None:
        self.spec = wiring.spec
        self.orders, self.origins = unit_orders(wiring.spec, order)

    def touches(self, segment: tuple[int, int]) -> bool:
        group = segment[0]
        return group in self.orders or self.origins[group] != group

    def moved(self, value: Tensor, axis: Axis) -> Tensor:
        """Return a value ``(samples, *shape)`` with its units renumbered."""
        if not any(self.touches(segment) for segment in axis):
            return value
        return value[:, torch.from_numpy(segment_order(axis, self.spec, self.orders, self.origins))]


def _check_apart(
    wiring: Wiring, step: Step, axis: Axis, made: Sequence[Tensor], tensors: Mapping[str, Tensor]
) -> None:
    """Refuse a step whose value at one unit depends on another unit."""
    kept = _unit_mask(axis, wiring, 0)
    others = [_unit_mask(wiring.values[i], wiring, 0) for i in step.inputs]
    changed = list(made)
    for source, kept_units in zip(step.inputs, others, strict=True):
        changed[source] = made[source] + (~kept_units).view(1, -1, *[1] * (made[source].ndim - 2)).float()
    for training in _modes(step):
        before = _made(wiring, step, made, tensors, training)
        after = _made(wiring, step, changed, tensors, training)
        if not _alike(before[:, kept], after[:, kept]):
            raise _refusal(wiring, step, "joins units that the wiring would keep apart")


def _unit_mask(axis: Axis, wiring: Wiring, remainder: int) -> Tensor:
    """Return which entries of an axis belong to every other unit of its group."""
    parts = [
        np.repeat(np.arange(wiring.spec.groups[segment.group].size) % 2 == remainder, segment.block)
        for segment in axis
    ]
    return torch.from_numpy(np.concatenate(parts))


def _modes(step: Step) -> tuple[bool, ...]:
    return (False, True) if step.operation == "normalize" else (False,)


def _made(
    wiring: Wiring, step: Step, values: Sequence[Tensor], tensors: Mapping[str, Tensor], training: bool
) -> Tensor:
    tensors_of_step = dict(tensors)
    if training:  # running statistics move in place
        tensors_of_step |= {name: tensors[name].clone() for name in step.names if name is not None}
    with torch.no_grad():
        return wiring.evaluate(step, [values[i] for i in step.inputs], tensors_of_step, training=training)


def _refusal(wiring: Wiring, step: Step, what: str) -> BadInput:
    function = getattr(step.function, "__name__", None) or type(step.function).__name__
    target = getattr(step.function, "target", None)
    name = getattr(target, "__name__", None) or (str(target) if target is not None else function)
    return BadInput(
        f"{name} in {type(wiring.module).__name__}, on values of shape "
        f"{', '.join(str(wiring.steps[i].shape) for i in step.inputs)}, {what}; use a network without it"
    )


def _alike(expected: Tensor, actual: Tensor) -> bool:
    if expected.shape != actual.shape:
        return False
    expected, actual = expected.nan_to_num(0, 0, 0), actual.nan_to_num(0, 0, 0)
    return bool((expected - actual).abs().max() <= TOLERANCE * max(1e-3, float(expected.abs().max())))
