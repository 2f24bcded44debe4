"""The tracer: steps, features and numbered units as a module's graph is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from ticketsearch.errors import BadInput
from ticketsearch.masks import MaskSpec, Node
from ticketsearch.wiring.constants import is_constant
from ticketsearch.wiring.functions import Select
from ticketsearch.wiring.numbering import Features, LayerEnds, Numbering
from ticketsearch.wiring.refusals import location, way_out, words
from ticketsearch.wiring.shapes import sample_shape
from ticketsearch.wiring.steps import Axis, Operation, Step, Wiring

__all__ = ["Shape", "Tracer"]

Shape = tuple[int, ...]


class Tracer:
    """The state of reading a graph: the steps and neuron axes so far.

    Attributes
    ----------
    step_of : for each fx node the step that computes its value.
    features : the neuron axes of the steps' values.
    ends : the neuron axes of the maskable layers.
    numbered : the neuron axes of biases, normalisations and other tensors.
    unnumbered : tensors without a neuron axis.
    given : for nodes that are tensors of the module, those tensors.
    parts : for calls that divide a value, the slices.
    arranged : for views that put channels on two axes, those channels.
    """

    def __init__(self, module: nn.Module, input_shape: Shape) -> None:
        self.module = module
        self.input_shape = input_shape
        self.tensors = dict(module.named_parameters()) | dict(module.named_buffers())
        self.steps: list[Step] = []
        self.features: list[Features] = []
        self.step_of: dict[fx.Node, int] = {}
        self.ends: list[LayerEnds] = []
        self.numbering = Numbering()
        self.numbered: dict[str, Features] = {}
        self.unnumbered: set[str] = set()
        self.given: dict[fx.Node, Any] = {}
        self.arranged: dict[fx.Node, Any] = {}
        self.parts: dict[fx.Node, list[tuple[int, Any]]] = {}

    def wiring(self, end: int) -> Wiring:
        """Return the wiring of the steps read, with value ``end`` as the output."""
        shape = self.steps[end].shape
        if len(shape) != 1:
            raise BadInput(f"a network returns (samples, classes), but this one returns (samples, *{shape})")
        kept = _reachable(self.steps, end)
        for ends in self.ends:
            if ends.layer.name in self.numbered or ends.layer.name in self.unnumbered:
                raise BadInput(f"{ends.layer.name} is the weight of a layer and cannot be an operand too")
        closed = self.numbering.close(self.features[end])
        position = {old: new for new, old in enumerate(kept)}
        steps = tuple(
            self.steps[i]._replace(inputs=tuple(position[s] for s in self.steps[i].inputs)) for i in kept
        )
        values = tuple(closed.axis(self.features[old]) for old in kept)
        frozen = {name for name, parameter in self.module.named_parameters() if not parameter.requires_grad}
        nodes = tuple(
            Node(
                _liveness(step.operation),
                step.inputs,
                tuple(segment.group for segment in axis),
                step.layer,
                is_constant(steps, index, self.tensors, frozen),
                closed.places(self.features[self.steps[kept[index]].inputs[0]], step.function.numbers)
                if isinstance(step.function, Select)
                else (),
            )
            for index, (axis, step) in enumerate(zip(values, steps, strict=True))
        )
        layers = tuple(ends.layer for ends in self.ends)
        pieces = closed.pieces(self.ends)
        bundles = closed.bundles(self.ends, pieces)
        axes: dict[str, Axis] = {name: closed.axis(features) for name, features in self.numbered.items()}
        spec = MaskSpec(layers, closed.groups, pieces, nodes, bundles)
        return Wiring(spec, steps, axes, self.module, values)

    def value(self, node: fx.Node, argument: Any) -> int:
        """Return the step that computes an argument; raises :class:`BadInput` if it is not a value."""
        if isinstance(argument, fx.Node) and argument in self.arranged:
            raise self.parted(self.arranged[argument].view)
        if not isinstance(argument, fx.Node) or argument not in self.step_of:
            raise self.refusal(node, f"{words(self.module, node)} of something that is not a value")
        return self.step_of[argument]

    def append(
        self,
        node: fx.Node,
        operation: Operation,
        inputs: tuple[int, ...],
        function: Callable[..., Tensor],
        shape: Shape,
        names: tuple[str | None, ...] = (),
    ) -> None:
        """Append a step whose value is numbered like its first input."""
        self.step_of[node] = len(self.steps)
        self.steps.append(Step(operation, inputs, shape, function, names))
        self.features.append(self.features[inputs[0]])

    def add(self, node: fx.Node, step: Step, features: Features) -> None:
        """Append a step whose shape is computed on the meta device."""
        values = [torch.empty((3, *self.steps[i].shape), device="meta") for i in step.inputs]
        arguments = [
            None if n is None else torch.empty(self.tensors[n].shape, device="meta") for n in step.names
        ]
        try:
            result = step.function(*values, *arguments)
        except (RuntimeError, ValueError, IndexError) as error:
            raise self.failure(node, step.inputs, error) from error
        if not isinstance(result, Tensor):
            raise self.refusal(node, f"{words(self.module, node)} that returns more than one tensor")
        if not result.numel():  # torch 2.6 computes an empty shape where later versions fail
            raise self.failure(node, step.inputs, ValueError("it returns an empty tensor"))
        self.step_of[node] = len(self.steps)
        self.steps.append(step._replace(shape=tuple(result.shape)[1:]))
        self.features.append(features)

    def failure(self, node: fx.Node, inputs: Sequence[int], error: Exception) -> BadInput:
        """Return the error for a call that fails on its values."""
        return BadInput(
            f"{words(self.module, node)} fails on values of shape "
            f"{', '.join(str(self.steps[i].shape) for i in inputs)}, {location(self.module, node)} "
            f"({' '.join(str(error).split())}); make it take samples of shape {self.input_shape}"
        )

    def parted(self, view: fx.Node) -> BadInput:
        """Return the error for a view that splits or joins channels outside a shuffle."""
        shape, after = self.steps[self.step_of[view.all_input_nodes[0]]].shape, sample_shape(view)
        return self.refusal(
            view, f"a view of values of shape {shape} as {after}, which joins or parts channels"
        )

    def refusal(self, node: fx.Node, what: str, way: str | None = None) -> BadInput:
        """Return the error for an unsupported operation, with its location and the way out."""
        if way is None:
            way = way_out(self.module, node.graph)
        return BadInput(f"the wiring does not know {what}, {location(self.module, node)}; {way}")


def _liveness(operation: Operation) -> Any:
    if operation in ("maximum", "minimum"):
        return "add"
    return "elementwise" if operation in ("spatial", "normalize", "dropout") else operation


def _reachable(steps: Sequence[Step], end: int) -> list[int]:
    """Return the steps that the output depends on, and the input, in order."""
    needed = {0, end}
    for index in range(end, -1, -1):
        if index in needed:
            needed.update(steps[index].inputs)
    return sorted(needed)
