"""Steps: a network's computation as data, and its evaluation."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from ticketsearch.masks import MaskSpec, Segment, permute, segment_order, unit_orders

__all__ = ["Axis", "Operation", "Step", "Wiring"]

Value = TypeVar("Value")
# The neuron axis of a tensor or value, as segments in order.
Axis = tuple[Segment, ...]
Operation = Literal[
    "input",
    "linear",
    "elementwise",
    "spatial",
    "normalize",
    "mix",
    "dropout",
    "add",
    "multiply",
    "maximum",
    "minimum",
    "concatenate",
    "select",
    "zeros",
]


class Step(NamedTuple):
    """One step of the computation: step ``i`` computes value ``i`` from the values named in ``inputs``.

    Attributes
    ----------
    operation : ``input`` (its function gives samples the shape of their first use), ``linear`` (a Linear
        or convolution layer: the maskable ones), ``elementwise``, ``spatial`` (channel by channel: pooling,
        flattening, means over positions), ``normalize`` (batch normalisation), ``mix`` (normalisation over
        the units of a sample), ``dropout``, ``add`` (sums and differences), ``multiply`` (a product unit by
        unit), ``maximum``, ``minimum``, ``concatenate``, ``select`` (some of the units), ``zeros`` (takes no
        value, but the samples, for their number).
    inputs : indices of its input values.
    shape : of its value, without the axis of samples.
    function : ``function(*values, *tensors)``; ``normalize`` and ``dropout`` also take ``training``.
    names : its tensors, as in ``named_parameters()`` and ``named_buffers()``; None for a tensor that the
        layer does not have. The names of ``linear`` are its weight and bias, those of ``normalize`` its
        scale, shift, running mean and running variance. An ``elementwise`` map by a tensor has one.
    layer : index of the maskable layer.
    """

    operation: Operation
    inputs: tuple[int, ...]
    shape: tuple[int, ...]
    function: Callable[..., Tensor]
    names: tuple[str | None, ...] = ()
    layer: int = -1


@dataclass(frozen=True, eq=False)
class Wiring:
    """A network's mask spec and the steps of its computation.

    Attributes
    ----------
    spec : the mask spec.
    steps : the computation in topological order; the last step is the output. Empty if the groups were
        declared by hand: then the module itself is run.
    axes : for each numbered tensor that is not maskable (biases, normalisations) its neuron axis, see
        :meth:`numbered_axis`.
    module : the traced module, whose tensors :meth:`forward` replaces.
    values : for each step the neuron axis of its value.
    architecture : equal for modules of one computation, apart from their tensors; None if that is unknown.
    notes : differences between the steps and the module, as text for a warning.
    """

    spec: MaskSpec
    steps: tuple[Step, ...]
    axes: Mapping[str, Axis]
    module: nn.Module = field(repr=False)
    values: tuple[Axis, ...] = ()
    architecture: Hashable | None = field(default=None, repr=False)
    notes: tuple[str, ...] = ()

    @cached_property
    def frozen(self) -> frozenset[str]:
        """Names of the parameters that are not trained, i.e. have ``requires_grad=False``."""
        return frozenset(
            name for name, parameter in self.module.named_parameters() if not parameter.requires_grad
        )

    @property
    def biases(self) -> tuple[str | None, ...]:
        """For each layer the name of its bias, or None."""
        names = {step.layer: step.names[1] for step in self.steps if step.operation == "linear"}
        return tuple(names.get(index) for index in range(len(self.spec.layers)))

    @property
    def dense(self) -> bool:
        """Whether all values are feature vectors and samples are independent, as with Linear layers."""
        plain = {"input", "linear", "elementwise", "dropout", "concatenate", "select"}
        plain |= {"add", "multiply", "maximum", "minimum"}
        return bool(self.steps) and all(
            step.operation in plain
            and len(step.shape) == 1
            and (step.operation == "linear" or not step.names)
            for step in self.steps
        )

    @property
    def drops(self) -> bool:
        """Whether dropout is among the steps."""
        return any(step.operation == "dropout" for step in self.steps)

    def numbered_axis(self, name: str, shape: tuple[int, ...]) -> int:
        """Return the axis of a tensor of this shape that ``axes`` numbers: the first of that length."""
        return shape.index(sum(self.spec.groups[s.group].size * s.block for s in self.axes[name]))

    @cached_property
    def cut_layers(self) -> tuple[int, ...]:
        """The layers that every path from the inputs to the outputs passes: all of them in a chain."""
        layers = []
        for index, step in enumerate(self.steps):
            later = range(index, len(self.steps))
            crossing = {(i, s) for i in later for s in self.steps[i].inputs if s < index}
            if step.operation == "linear" and crossing == {(index, step.inputs[0])}:
                layers.append(step.layer)
        return tuple(layers)

    def run(self, x: Value, evaluate: Callable[[Step, list[Value]], Value]) -> list[Value]:
        """Return the value of every step for the input ``x``.

        ``evaluate(step, values)`` returns the value of a step, which may be of any type: a batch, a stack of
        batches, a flow with its exponent. A step without inputs is given ``[x]``.
        """
        values: list[Value] = []
        for step in self.steps:
            values.append(evaluate(step, [values[i] for i in step.inputs] or [x]))
        return values

    def forward(self, tensors: Mapping[str, Tensor], x: Tensor, *, training: bool = False) -> Tensor:
        """Return the outputs ``(samples, classes)`` of the network with these parameters and buffers.

        ``training`` normalises by the batch, updates the running statistics in ``tensors`` in place, and
        draws dropout from torch's global generator. Can be mapped by ``torch.func.vmap`` over ``tensors``.
        """
        if not self.steps:
            with _mode(self.module, training):
                outputs: Tensor = torch.func.functional_call(self.module, dict(tensors), (x,))
            return outputs

        def evaluate(step: Step, values: list[Tensor]) -> Tensor:
            return self.evaluate(step, values, tensors, training=training)

        return self.run(x, evaluate)[-1]

    def evaluate(
        self, step: Step, values: list[Tensor], tensors: Mapping[str, Tensor], *, training: bool = False
    ) -> Tensor:
        """Return the value of one step, ``(samples, *step.shape)``; see :meth:`forward`."""
        arguments = [None if name is None else tensors[name] for name in step.names]
        mode: dict[str, Any] = {"training": training} if step.operation in ("normalize", "dropout") else {}
        return step.function(*values, *arguments, **mode)

    def renumbered(self, tensors: Mapping[str, Tensor], order: Mapping[str, ArrayLike]) -> dict[str, Tensor]:
        """Return the tensors with hidden units renumbered by ``order``: see :func:`ticketsearch.permute`.

        The network with the renumbered parameters and buffers computes the same outputs.
        Raises :class:`BadInput` for an order that is no permutation of a hidden group.
        """
        orders, origins = unit_orders(self.spec, order)
        weights_by_layer = [tensors[layer.name] for layer in self.spec.layers]
        weights = np.concatenate([weight.detach().cpu().numpy().ravel() for weight in weights_by_layer])
        moved = torch.from_numpy(permute(weights, self.spec, order))
        renumbered = dict(tensors)
        for layer, weight in zip(self.spec.layers, weights_by_layer, strict=True):
            renumbered[layer.name] = moved[layer.slice].reshape(layer.shape).to(weight)
        for name, axis in self.axes.items():
            entries = segment_order(axis, self.spec, orders, origins)
            place = self.numbered_axis(name, tuple(tensors[name].shape))
            renumbered[name] = tensors[name].index_select(
                place, torch.from_numpy(entries).to(tensors[name].device)
            )
        return renumbered


@contextmanager
def _mode(module: nn.Module, training: bool) -> Iterator[None]:
    """Set a module's training flag inside; threads must not share the module."""
    before = module.training
    module.train(training)
    try:
        yield
    finally:
        module.train(before)
