"""Wiring: which axis of which tensor is numbered by which neurons, traced from any module with torch.fx.

The trace is a short list of steps over whole feature vectors (linear, elementwise, add), which the flow
of the pruners and the batched training both run. It knows networks of Linear and elementwise layers and
their sums; anything else is refused by name and place.
"""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from ticketsearch.errors import BadInput
from ticketsearch.masks import Group, Layer, MaskSpec, Node

__all__ = ["Step", "Wiring", "trace"]

Value = TypeVar("Value")

# Deterministic maps of each feature by itself, without parameters of their own.
ELEMENTWISE_MODULES = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Tanh),
    *(nn.Sigmoid, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.Softplus, nn.Softsign, nn.LogSigmoid),
    *(nn.Tanhshrink, nn.Hardshrink, nn.Softshrink, nn.Threshold, nn.Identity),
)
ELEMENTWISE_FUNCTIONS = {
    *(torch.relu, torch.tanh, torch.sigmoid, torch.abs, torch.sin, torch.cos, torch.square, torch.neg),
    *(F.relu, F.relu6, F.leaky_relu, F.elu, F.selu, F.celu, F.gelu, F.silu, F.mish, F.tanh, F.sigmoid),
    *(F.hardtanh, F.hardswish, F.hardsigmoid, F.softplus, F.softsign, F.logsigmoid, F.tanhshrink),
    *(F.hardshrink, F.softshrink, F.threshold, operator.neg),
}
ELEMENTWISE_METHODS = {"relu", "tanh", "sigmoid", "abs", "sin", "cos", "square", "neg"}
# With a number on one side these are elementwise; add of two values joins their neurons.
ARITHMETIC = {operator.add, operator.sub, operator.mul, operator.truediv, operator.pow, torch.add, torch.mul}
ADDITIONS = {operator.add, operator.iadd, torch.add}
FLATTENERS = {"flatten", "view", "reshape"}


class Step(NamedTuple):
    """One step of the computation: step ``i`` computes value ``i`` from the values named in ``inputs``."""

    operation: Literal["input", "linear", "elementwise", "add"]
    inputs: tuple[int, ...] = ()
    layer: int = -1
    function: Callable[[Tensor], Tensor] | None = None


@dataclass(frozen=True, eq=False)
class Wiring:
    """A network's spec and the steps that compute it.

    Attributes
    ----------
    spec : the mask spec.
    steps : the computation in topological order; the last step is the output.
    biases : for each layer the name of its bias in ``named_parameters()``, or None.
    """

    spec: MaskSpec
    steps: tuple[Step, ...]
    biases: tuple[str | None, ...]

    def run(
        self,
        x: Value,
        *,
        linear: Callable[[int, Value], Value],
        elementwise: Callable[[Callable[[Tensor], Tensor], Value], Value],
        add: Callable[[Value, Value], Value],
    ) -> list[Value]:
        """Return the value of every step for the input ``x``; the caller says what each kind of step does.

        ``linear(layer, value)``, ``elementwise(function, value)`` and ``add(value, value)`` decide what a
        value is: a batch, a stack of batches, a flow with its exponent.
        """
        values: list[Value] = []
        for step in self.steps:
            if step.operation == "input":
                values.append(x)
            elif step.operation == "linear":
                values.append(linear(step.layer, values[step.inputs[0]]))
            elif step.operation == "add":
                values.append(add(values[step.inputs[0]], values[step.inputs[1]]))
            else:
                assert step.function is not None
                values.append(elementwise(step.function, values[step.inputs[0]]))
        return values


def trace(module: nn.Module, input_shape: Sequence[int]) -> Wiring:
    """Return the wiring of a module from ``(samples, *input_shape)`` to ``(samples, classes)``.

    The trace is checked against the module itself on a few random samples.

    Raises :class:`BadInput` for a module that cannot be traced, naming the operation and its place.
    """
    shared = _shared_parameters(module)
    if shared:
        raise BadInput(
            f"parameters may not be shared between layers, but {' and '.join(shared)} are one tensor"
        )
    try:
        graph = fx.symbolic_trace(module).graph
    except Exception as error:  # fx raises whatever the module's own code raises on a proxy
        line = str(error).splitlines()[0] if str(error) else ""
        raise BadInput(
            f"torch.fx cannot trace {type(module).__name__} ({type(error).__name__}: {line}); "
            "write its forward without branches on values"
        ) from error
    tracer = _Tracer(module, tuple(input_shape))
    wiring = tracer.read(graph)
    _check(wiring, module, tuple(input_shape))
    return wiring


class _Tracer:
    """Reads an fx graph into steps; ``place`` maps an fx node to its step and its shape without samples."""

    def __init__(self, module: nn.Module, input_shape: tuple[int, ...]) -> None:
        self.module = module
        self.input_shape = input_shape
        self.steps: list[Step] = []
        self.place: dict[fx.Node, tuple[int, tuple[int, ...]]] = {}
        self.layers: list[Layer] = []
        self.linears: list[tuple[str, nn.Linear]] = []

    def read(self, graph: fx.Graph) -> Wiring:
        output: fx.Node | None = None
        for node in graph.nodes:
            if node.op == "placeholder":
                self._input(node)
            elif node.op == "call_module":
                self._module(node)
            elif node.op in ("call_function", "call_method"):
                self._function(node)
            elif node.op == "output":
                output = node.args[0]
            else:
                raise self._refusal(node, f"the tensor {node.target!r} used directly")
        if not isinstance(output, fx.Node) or output not in self.place:
            raise BadInput(
                "a network returns one tensor (samples, classes), but this one returns something else"
            )
        if not self.layers:
            raise BadInput(f"{type(self.module).__name__} has no Linear layer: nothing to prune")
        end, shape = self.place[output]
        if len(shape) != 1:
            raise BadInput(f"a network returns (samples, classes), but this one returns (samples, *{shape})")
        self.steps = _reachable(self.steps[: end + 1], end)
        unused = {layer.name for i, layer in enumerate(self.layers) if i not in {s.layer for s in self.steps}}
        if unused:
            raise BadInput(f"layer {', '.join(sorted(unused))} does not reach the output; leave it out")
        biases = tuple(f"{name}.bias" if linear.bias is not None else None for name, linear in self.linears)
        return Wiring(self._spec(), tuple(self.steps), biases)

    def _input(self, node: fx.Node) -> None:
        if self.steps:
            raise self._refusal(node, "a second input")
        self._append(node, Step("input"), self.input_shape)

    def _module(self, node: fx.Node) -> None:
        child = self.module.get_submodule(str(node.target))
        arguments = (*node.args, *node.kwargs.values())
        if len(arguments) != 1:
            raise self._refusal(node, f"{type(child).__name__} of {len(arguments)} values")
        source, shape = self._value(node, arguments[0])
        if isinstance(child, nn.Linear):
            if "weight" not in dict(child.named_parameters(recurse=False)):
                raise self._refusal(node, "a Linear whose weight is computed from other parameters")
            if any(name == node.target for name, _ in self.linears):
                raise self._refusal(node, f"a second use of layer {node.target!r}")
            if shape != (child.in_features,):
                raise self._refusal(
                    node, f"Linear({child.in_features}, {child.out_features}) on a value of shape {shape}"
                )
            offset = sum(layer.size for layer in self.layers)
            self.layers.append(
                Layer(f"{node.target}.weight", (child.out_features, child.in_features), offset)
            )
            self.linears.append((str(node.target), child))
            self._append(node, Step("linear", (source,), len(self.layers) - 1), (child.out_features,))
        elif isinstance(child, nn.Flatten) and child.start_dim == 1 and child.end_dim in (-1, len(shape)):
            self.place[node] = (source, (math.prod(shape),))
        elif isinstance(child, ELEMENTWISE_MODULES):
            function = copy.deepcopy(child)
            if hasattr(function, "inplace"):
                function.inplace = False
            self._append(node, Step("elementwise", (source,), function=function), shape)
        else:
            raise self._refusal(node, type(child).__name__)

    def _function(self, node: fx.Node) -> None:
        name = (
            node.target
            if isinstance(node.target, str)
            else getattr(node.target, "__name__", str(node.target))
        )
        values = [a for a in node.args if isinstance(a, fx.Node) and a in self.place]
        if name in ("size", "getattr", "getitem"):
            return  # a shape asked for; only flattening makes use of one
        if name in FLATTENERS and len(values) == 1:
            source, shape = self._value(node, node.args[0])
            if not self._flattens(node, name, shape):
                raise self._refusal(node, f"{name}{node.args[1:]}")
            self.place[node] = (source, (math.prod(shape),))
        elif node.target in ADDITIONS and len(values) == 2 and not node.kwargs:
            (first, shape), (second, other) = self.place[values[0]], self.place[values[1]]
            if shape != other:
                raise self._refusal(node, f"a sum of shapes {shape} and {other}")
            self._append(node, Step("add", (first, second)), shape)
        elif len(values) == 1 and self._is_elementwise(node):
            source, shape = self._value(node, values[0])
            self._append(node, Step("elementwise", (source,), function=_Replay(node, values[0])), shape)
        else:
            raise self._refusal(node, f"{name}()")

    def _is_elementwise(self, node: fx.Node) -> bool:
        if any(isinstance(a, fx.Node) for a in node.kwargs.values()):
            return False
        if node.op == "call_method":
            return node.target in ELEMENTWISE_METHODS
        if node.target in ARITHMETIC:
            return sum(isinstance(a, int | float) for a in node.args) == 1 and not node.kwargs
        return node.target in ELEMENTWISE_FUNCTIONS

    def _flattens(self, node: fx.Node, name: str, shape: tuple[int, ...]) -> bool:
        arguments = node.args[1:]
        if name == "flatten":
            bounds = {**dict(zip(("start_dim", "end_dim"), arguments, strict=False)), **node.kwargs}
            return bool(bounds.get("start_dim", 0) == 1 and bounds.get("end_dim", -1) in (-1, len(shape)))
        sizes = arguments[0] if len(arguments) == 1 and isinstance(arguments[0], tuple | list) else arguments
        if len(sizes) != 2:
            return False
        first, second = sizes
        if first == -1:
            return bool(second == math.prod(shape))
        return _is_number_of_samples(first) and bool(second in (-1, math.prod(shape)))

    def _value(self, node: fx.Node, argument: Any) -> tuple[int, tuple[int, ...]]:
        if not isinstance(argument, fx.Node) or argument not in self.place:
            raise self._refusal(node, f"{node.target} of something that is no feature vector")
        return self.place[argument]

    def _append(self, node: fx.Node, step: Step, shape: tuple[int, ...]) -> None:
        self.place[node] = (len(self.steps), shape)
        self.steps.append(step)

    def _refusal(self, node: fx.Node, what: str) -> BadInput:
        place = str(node.target) if node.op == "call_module" else node.name
        return BadInput(
            f"the wiring knows Linear layers, elementwise maps, sums and flattening, but {place!r} in "
            f"{type(self.module).__name__} is {what}; use a network without it"
        )

    def _spec(self) -> MaskSpec:
        """Tie the neurons of values that are added, and name the groups after the layers that feed them."""
        owner = list(range(len(self.steps)))

        def find(i: int) -> int:
            while owner[i] != i:
                i = owner[i]
            return i

        for i, step in enumerate(self.steps):
            if step.operation in ("elementwise", "add"):
                for source in step.inputs:
                    # The smaller index owns: the first value of a tied set names it.
                    low, high = sorted((find(source), find(i)))
                    owner[high] = low
        roots = sorted({find(i) for i in range(len(self.steps))})
        group_of = {root: index for index, root in enumerate(roots)}
        groups = []
        for root in roots:
            step = self.steps[root]
            size = (
                math.prod(self.input_shape) if step.operation == "input" else self.layers[step.layer].shape[0]
            )
            if step.operation == "input":
                groups.append(Group("input", size, "input"))
            elif root == find(len(self.steps) - 1):
                groups.append(Group("output", size, "output"))
            else:
                name = self.linears[step.layer][0]
                taken = name in ("input", "output")  # a layer may be called what the fixed groups are
                groups.append(Group(f"hidden {name}" if taken else name, size, "hidden"))
        nodes = tuple(
            Node(step.operation, step.inputs, group_of[find(i)], step.layer, self._constant(i))
            for i, step in enumerate(self.steps)
        )
        return MaskSpec(tuple(self.layers), tuple(groups), nodes)

    def _constant(self, index: int) -> bool:
        """Whether this step's value can be non-zero for a unit that nothing feeds."""
        step = self.steps[index]
        if step.operation == "elementwise":
            assert step.function is not None
            return _at_zero(step.function)[0] != 0
        if step.operation != "linear":
            return False
        bias: Tensor | None = self.linears[step.layer][1].bias  # torch types it as never None
        if bias is None:
            return False
        return bool(bias.detach().ne(0).any()) or not self._blocked(index)

    def _blocked(self, index: int) -> bool:
        """Whether a unit that is zero here stays zero: every consumer maps 0 to 0 and passes no gradient."""
        consumers = [i for i, step in enumerate(self.steps) if index in step.inputs]
        if not consumers:
            return False
        for consumer in consumers:
            step = self.steps[consumer]
            if step.operation != "elementwise":
                return False
            assert step.function is not None
            value, slope = _at_zero(step.function)
            if value != 0 or (slope != 0 and not self._blocked(consumer)):
                return False
        return True


def _is_number_of_samples(value: Any) -> bool:
    """Whether a traced value is ``x.size(0)``, ``x.size()[0]`` or ``x.shape[0]``."""
    asked = isinstance(value, fx.Node) and (value.target == "size" or value.target is operator.getitem)
    return bool(asked and len(value.args) == 2 and value.args[1] == 0)


def _at_zero(function: Callable[[Tensor], Tensor]) -> tuple[float, float]:
    """Return f(0) and the derivative that autograd uses at 0."""
    zero = torch.zeros((), dtype=torch.float64, requires_grad=True)
    value = function(zero)
    slope = torch.autograd.grad(value, zero)[0] if value.requires_grad else torch.zeros(())
    return float(value.detach()), float(slope)


class _Replay:
    """An fx call with one tensor left open; a class, so that it can be sent to worker processes."""

    def __init__(self, node: fx.Node, value: fx.Node) -> None:
        self.target = node.target
        self.method = node.op == "call_method"
        self.arguments: list[Any] = [None if a is value else a for a in node.args]
        self.open = [i for i, a in enumerate(node.args) if a is value]
        self.keywords = {k: v for k, v in node.kwargs.items() if k != "inplace"}

    def __call__(self, x: Tensor) -> Tensor:
        arguments = list(self.arguments)
        for i in self.open:
            arguments[i] = x
        if self.method:
            result = getattr(x, str(self.target))(*arguments[1:], **self.keywords)
        else:
            result = self.target(*arguments, **self.keywords)  # type: ignore[operator]
        assert isinstance(result, Tensor)
        return result


def _shared_parameters(module: nn.Module) -> list[str]:
    seen: dict[int, str] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        if id(parameter) in seen:
            return [seen[id(parameter)], name]
        seen[id(parameter)] = name
    return []


def _reachable(steps: list[Step], end: int) -> list[Step]:
    """Drop steps whose value is never used, renumbering the rest."""
    needed = {end}
    for index in range(end, -1, -1):
        if index in needed:
            needed.update(steps[index].inputs)
    order = sorted(needed | {0})
    number = {old: new for new, old in enumerate(order)}
    return [steps[i]._replace(inputs=tuple(number[s] for s in steps[i].inputs)) for i in order]


def _check(wiring: Wiring, module: nn.Module, input_shape: tuple[int, ...]) -> None:
    """Refuse a module whose own output differs from that of the traced steps, or from call to call."""
    double = copy.deepcopy(module).double()
    parameters = dict(double.named_parameters())
    x = torch.randn((5, *input_shape), dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def linear(layer: int, value: Tensor) -> Tensor:
        bias = wiring.biases[layer]
        return F.linear(
            value, parameters[wiring.spec.layers[layer].name], None if bias is None else parameters[bias]
        )

    with torch.no_grad():
        values = wiring.run(x.flatten(1), linear=linear, elementwise=lambda f, v: f(v), add=torch.add)
        try:
            outputs = double(x)
        except Exception as error:  # the module's own code may raise anything
            reason = " ".join(str(error).split())
            raise BadInput(
                f"{type(module).__name__} fails on {len(x)} samples of shape {input_shape} "
                f"({type(error).__name__}: {reason}); make it take (samples, *{input_shape})"
            ) from error
    if outputs.shape != values[-1].shape or not torch.allclose(outputs, values[-1], rtol=1e-9, atol=1e-9):
        raise BadInput(
            f"{type(module).__name__} computes something other than its trace (a forward that is random, or "
            "depends on values, cannot be traced); make it deterministic"
        )
