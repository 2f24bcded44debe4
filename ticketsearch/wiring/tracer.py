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
from ticketsearch.wiring.steps import Axis, Operation, Step, Wiring

__all__ = ["Shape", "Tracer"]

Shape = tuple[int, ...]
DECLARE = (
    "use a network without it, or declare the neuron groups by hand: let the factory set "
    "module.neuron_groups = {'conv.weight': ('hidden', 'input'), 'conv.bias': ('hidden',), "
    "'fc.weight': ('output', 'hidden:16')}"
)


class Tracer:
    """What has been read of a graph; ``place`` maps an fx node to the step that makes its value.

    ``features`` are the neuron axes of the steps' values, ``ends`` those of the maskable layers, and
    ``numbered`` those of biases, normalisations and other tensors; ``unnumbered`` are operands without such
    an axis. ``given`` maps nodes to the tensors that they are, ``parts`` to the slices that a value is
    divided into.
    """

    def __init__(self, module: nn.Module, input_shape: Shape) -> None:
        self.module = module
        self.input_shape = input_shape
        self.tensors = dict(module.named_parameters()) | dict(module.named_buffers())
        self.steps: list[Step] = []
        self.features: list[Features] = []
        self.place: dict[fx.Node, int] = {}
        self.ends: list[LayerEnds] = []
        self.numbering = Numbering()
        self.numbered: dict[str, Features] = {}
        self.unnumbered: set[str] = set()
        self.given: dict[fx.Node, Any] = {}
        self.parts: dict[fx.Node, list[tuple[int, Any]]] = {}

    def wiring(self, end: int) -> Wiring:
        """Return the wiring of all that was read, the output being value ``end``."""
        shape = self.steps[end].shape
        if len(shape) != 1:
            raise BadInput(f"a network returns (samples, classes), but this one returns (samples, *{shape})")
        kept = _reachable(self.steps, end)
        used = {self.steps[i].layer for i in kept}
        unused = {ends.layer.name for i, ends in enumerate(self.ends) if i not in used}
        if unused:
            raise BadInput(f"layer {', '.join(sorted(unused))} does not reach the output; leave it out")
        for ends in self.ends:
            if ends.layer.name in self.numbered or ends.layer.name in self.unnumbered:
                raise BadInput(f"{ends.layer.name} is the weight of a layer and cannot be an operand too")
        closed = self.numbering.close(self.features[end])
        number = {old: new for new, old in enumerate(kept)}
        steps = tuple(
            self.steps[i]._replace(inputs=tuple(number[s] for s in self.steps[i].inputs)) for i in kept
        )
        nodes = tuple(
            Node(
                _liveness(step.operation),
                step.inputs,
                tuple(segment.group for segment in closed.axis(self.features[old])),
                step.layer,
                is_constant(steps, index, self.tensors),
                closed.places(self.features[self.steps[old].inputs[0]], step.function.numbers)
                if isinstance(step.function, Select)
                else (),
            )
            for index, (old, step) in enumerate(zip(kept, steps, strict=True))
        )
        layers = tuple(ends.layer for ends in self.ends)
        pieces = closed.pieces(self.ends)
        bundles = closed.bundles(self.ends, pieces)
        axes: dict[str, Axis] = {name: closed.axis(own) for name, own in self.numbered.items()}
        return Wiring(MaskSpec(layers, closed.groups, pieces, nodes, bundles), steps, axes, self.module)

    def value(self, node: fx.Node, argument: Any) -> int:
        """Return the step that makes an argument; raises :class:`BadInput` for what is no value."""
        if not isinstance(argument, fx.Node) or argument not in self.place:
            raise self.refusal(node, f"{node.target} of something that is no value")
        return self.place[argument]

    def append(
        self,
        node: fx.Node,
        operation: Operation,
        inputs: tuple[int, ...],
        function: Callable[..., Tensor],
        shape: Shape,
        names: tuple[str | None, ...] = (),
    ) -> None:
        """Append a step whose value is numbered as its first input."""
        self.place[node] = len(self.steps)
        self.steps.append(Step(operation, inputs, shape, function, names))
        self.features.append(self.features[inputs[0]])

    def add(self, node: fx.Node, step: Step, features: Features) -> None:
        """Append a step whose shape is found by running it on nothing."""
        values = [torch.empty((3, *self.steps[i].shape), device="meta") for i in step.inputs]
        own = [None if n is None else torch.empty(self.tensors[n].shape, device="meta") for n in step.names]
        try:
            result = step.function(*values, *own)
        except (RuntimeError, ValueError, IndexError) as error:
            reason = " ".join(str(error).split())
            raise BadInput(
                f"{node.name!r} in {type(self.module).__name__} fails on values of shape "
                f"{', '.join(str(self.steps[i].shape) for i in step.inputs)} ({reason}); "
                f"make it take samples of shape {self.input_shape}"
            ) from error
        if not isinstance(result, Tensor):
            raise self.refusal(node, f"a {type(step.function).__name__} that returns more than one tensor")
        self.place[node] = len(self.steps)
        self.steps.append(step._replace(shape=tuple(result.shape)[1:]))
        self.features.append(features)

    def refusal(self, node: fx.Node, what: str) -> BadInput:
        """Return the error for something that the wiring does not know, with its place and the way out."""
        place = str(node.target) if node.op == "call_module" else node.name
        return BadInput(
            f"the wiring does not know {what}, at {place!r} in {type(self.module).__name__}; {DECLARE}"
        )


def _liveness(operation: Operation) -> Any:
    if operation in ("maximum", "minimum"):
        return "add"
    return "elementwise" if operation in ("spatial", "normalize", "dropout") else operation


def _reachable(steps: Sequence[Step], end: int) -> list[int]:
    """Return the steps whose value is used, and the input, in order."""
    needed = {0, end}
    for index in range(end, -1, -1):
        if index in needed:
            needed.update(steps[index].inputs)
    return sorted(needed)
