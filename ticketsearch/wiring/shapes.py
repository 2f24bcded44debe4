"""Tracing of a module with torch.fx while the shapes of its values are known.

Code on shapes (``x.size(0)``, ``c * h * w``, ``len(x)``, ``int(x.numel() / n)``, ``range(x.shape[1])``, an
``assert`` or ``if`` on any of them) then runs unchanged, on integers. One integer is not the network's own:
the number of samples. The module is therefore traced with two numbers of samples. Where the two graphs differ
by exactly these numbers, the returned graph has a :class:`SampleCount`; if they differ in any other way, the
module computes something else for other batches, and is refused.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import math
import random
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from ticketsearch.errors import BadInput

__all__ = ["SampleCount", "ShapeTracer", "ShapedProxy", "counts_samples", "sample_shape", "traced_graph"]

Shape = tuple[int, ...]
# The two numbers of samples with which a network is traced.
COUNTS = (5, 7)
# Attributes of tensors that are known while tracing. The device is not: values are on the meta device.
ATTRIBUTES = ("shape", "ndim", "dtype")
# Types of results that are not values of the network, and are known while tracing.
PLAIN = (bool, int, float, torch.Size, torch.dtype)


@dataclass(frozen=True)
class SampleCount:
    """Stands for ``factor`` times the number of samples, among the arguments of a call."""

    factor: int = 1


def sample_shape(node: fx.Node) -> Shape | None:
    """Return the shape of a node's value without the axis of samples; None if it has no such first axis."""
    shape: Shape | None = node.meta.get("sample_shape")
    return shape


def counts_samples(node: fx.Node) -> bool:
    """Return whether the number of samples is among a call's arguments."""
    counts: list[SampleCount] = []

    def look(argument: Any) -> None:
        if isinstance(argument, SampleCount):
            counts.append(argument)
        elif isinstance(argument, tuple | list):
            for part in argument:
                look(part)
        elif isinstance(argument, slice):
            look((argument.start, argument.stop, argument.step))

    look((*node.args, *node.kwargs.values()))
    return bool(counts)


def traced_graph(
    module: nn.Module, input_shape: Shape, build: Callable[..., ShapeTracer] | None = None
) -> fx.Graph:
    """Return the graph of a module in training mode, from ``(samples, *input_shape)``.

    The module's forward is given its first argument alone, the others have their defaults. Tensors that
    forward makes are set as attributes of ``module``, as torch.fx names them; the module does not change
    otherwise. See :func:`sample_shape` for the shapes of the graph's values. ``build(module, samples,
    input_shape)`` makes the tracer.

    Raises :class:`BadInput` for a second argument without a default, and for a forward that depends on the
    number of samples. Errors of the module's own code pass through.
    """

    def graph(count: int) -> tuple[fx.Graph, dict[str, Any]]:
        with _random_states_kept():
            tracer = (build or ShapeTracer)(copy.deepcopy(module).train(), count, input_shape)
            return tracer.trace(tracer.root), vars(tracer.root)

    kind = type(module).__name__
    (first, made), (second, _) = (graph(count) for count in COUNTS)
    if not _merge(first, second):
        again, same = (graph(COUNTS[0])[0] for _ in range(2))
        if not _merge(again, same):
            raise BadInput(
                f"forward of {kind} computes other outputs from call to call (a generator, a clock or a "
                "counter of its own); make it deterministic"
            )
        raise BadInput(
            f"forward of {kind} does something else with {COUNTS[0]} samples than with {COUNTS[1]}; write it "
            "so that each sample is computed alike, whatever their number"
        )
    for name in [str(node.target) for node in first.nodes if node.op == "get_attr"]:
        if name in made:
            setattr(module, name, made[name])
    return first


class ShapedProxy(fx.Proxy):
    """A proxy that knows its value's shape."""

    tracer: ShapeTracer

    def __getattr__(self, name: str) -> Any:
        value = self.node.meta.get("value") if name not in ATTRIBUTES else self.tracer.value_of(self.node)
        if isinstance(value, Tensor):
            if name in ATTRIBUTES:
                return getattr(value, name)
            if isinstance(getattr(value, name, None), Tensor):  # x.T, x.mT, x.data
                return self.tracer.create_proxy("call_function", getattr, (self, name), {})
        return super().__getattr__(name)

    def __len__(self) -> int:
        return len(self.tracer.value_of(self.node))


class ShapeTracer(fx.Tracer):
    """Traces a module, and runs each call on the meta device as soon as it is traced."""

    root: nn.Module

    def __init__(self, module: nn.Module, samples: int, input_shape: Shape) -> None:
        super().__init__()
        self.root = module
        self.twin = _on_meta(module)
        self.input = _shell(torch.empty((samples, *input_shape), device="meta"))
        self.running = False

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Callable[..., Any], list[Any]]:
        """Return the forward function and its arguments: the module and one value."""
        name, parameters = type(self.root).__name__, list(inspect.signature(root_fn).parameters.values())
        if len(parameters) < 2:
            raise BadInput(f"forward of {name} must take the samples, but takes nothing")
        _, first, *others = parameters
        for other in others:
            variable = other.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
            if other.default is inspect.Parameter.empty and not variable:
                raise BadInput(
                    f"forward of {name} takes a second input, {other.name!r}; a network takes one value, the "
                    f"samples, so give {other.name!r} a default"
                )
        return root_fn, [self.root, self.create_proxy("placeholder", first.name, (), {})]

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """Return a proxy of the node."""
        return ShapedProxy(node, self)

    def create_arg(self, a: Any) -> Any:
        """Return an argument of a graph; NumPy scalars, e.g. of ``np.prod``, become Python numbers."""
        return super().create_arg(a.item() if isinstance(a, np.integer | np.floating) else a)

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **options: Any) -> Any:
        """Return a proxy of a call, or its result where that is a number or a shape."""
        proxy = super().create_proxy(kind, target, args, kwargs, *rest, **options)
        node = proxy.node
        try:
            value = self._value(node)
        except Exception as error:  # torch and the module's own code may raise anything
            node.meta["failure"] = error  # raised when the value is used
            return proxy
        if isinstance(value, PLAIN) and kind.startswith("call_") and target is not getattr:
            self.graph.erase_node(node)
            return value
        node.meta["value"] = value
        return proxy

    def value_of(self, node: fx.Node) -> Any:
        """Return the value of a node on the meta device; raises what the call raised."""
        if "failure" in node.meta:
            raise node.meta["failure"]
        if "value" not in node.meta:  # a buffer, which is not a proxy
            node.meta["value"] = self._value(node)
        return node.meta["value"]

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        """Return the parts of a tuple of values."""
        value = obj.node.meta.get("value")
        if isinstance(value, tuple | list):
            return iter([obj[index] for index in range(len(value))])  # type: ignore[index]
        return super().iter(obj)

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        """Trace a call of a module, except the calls that a known module makes of its own parts."""
        return forward(*args, **kwargs) if self.running else super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """Return a parameter as a proxy, or inside a known module the parameter itself."""
        return attr_val if self.running else super().getattr(attr, attr_val, parameter_proxy_cache)

    def _value(self, node: fx.Node) -> Any:
        if node.op == "placeholder":
            return self.input
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), self.value_of)
        target: Any = node.target
        before, self.running = self.running, True
        try:
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")  # the module warns again when it is run
                if node.op == "get_attr":
                    attribute = _attribute(self.twin, target)
                    attribute = _attribute(self.root, target) if attribute is None else attribute
                    return _shell(attribute) if isinstance(attribute, Tensor) else attribute
                if node.op == "call_module":
                    return self.twin.get_submodule(target).forward(*args, **kwargs)
                if node.op == "call_method":
                    return getattr(args[0], target)(*args[1:], **kwargs)
                return target(*args, **kwargs)
        finally:
            self.running = before


def _attribute(module: nn.Module, path: str) -> Any:
    value: Any = module
    for name in path.split("."):
        value = getattr(value, name, None)
    return value


def _on_meta(module: nn.Module) -> nn.Module:
    """Return a copy of a module in evaluation mode on the meta device."""
    memo: dict[int, Any] = {}
    for parameter in module.parameters():
        memo[id(parameter)] = nn.Parameter(_shell(parameter), requires_grad=False)
    for buffer in module.buffers():
        memo[id(buffer)] = _shell(buffer)
    return copy.deepcopy(module, memo).eval()


def _shell(tensor: Tensor) -> Tensor:
    """Return a tensor of this shape on the meta device; all floats become float32."""
    dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
    return torch.empty(tensor.shape, dtype=dtype, device="meta")


@contextlib.contextmanager
def _random_states_kept() -> Iterator[None]:
    """Restore the global generators of Python, NumPy and torch afterwards: all traces draw the same."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the module's own may use it
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


def _merge(first: fx.Graph, second: fx.Graph) -> bool:
    """Mark all arguments that follow the number of samples; return False if others differ too."""
    other: dict[fx.Node, fx.Node] = {}
    if len(first.nodes) != len(second.nodes):
        return False
    for node, twin in zip(first.nodes, second.nodes, strict=True):
        if (node.op, node.target) != (twin.op, twin.target):
            return False
        other[twin] = node
        shapes = [getattr(n.meta.get("value"), "shape", ()) for n in (node, twin)]
        if [shape[:1] for shape in shapes] == [(n,) for n in COUNTS] and shapes[0][1:] == shapes[1][1:]:
            node.meta["sample_shape"] = tuple(shapes[0][1:])
        try:
            arguments, keywords = _argument(
                (node.args, dict(node.kwargs)), (twin.args, dict(twin.kwargs)), other
            )
        except _UnlikeError:
            return False
        node.args, node.kwargs = arguments, keywords
    return True


class _UnlikeError(Exception):
    """Two arguments differ by more than the number of samples."""


def _argument(a: Any, b: Any, other: dict[fx.Node, fx.Node]) -> Any:
    """Return the argument that is ``a`` for the first number of samples and ``b`` for the second."""
    if isinstance(a, tuple | list) and isinstance(b, tuple | list) and len(a) == len(b):
        parts = [_argument(x, y, other) for x, y in zip(a, b, strict=True)]
        return parts if isinstance(a, list) else tuple(parts)
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return {key: _argument(a[key], b[key], other) for key in a}
    if isinstance(a, slice) and isinstance(b, slice):
        return slice(*_argument((a.start, a.stop, a.step), (b.start, b.stop, b.step), other))
    if isinstance(a, fx.Node):
        if other.get(b) is not a:
            raise _UnlikeError
        return a
    if type(a) is type(b) and (a == b or (isinstance(a, float) and math.isnan(a) and math.isnan(b))):
        return a
    if type(a) is int and type(b) is int and a and a * COUNTS[1] == b * COUNTS[0]:
        return SampleCount(a // COUNTS[0])
    raise _UnlikeError
