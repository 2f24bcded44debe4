"""The fx graph of a module for the tracer: with its hooks, and in single-assignment form."""

from __future__ import annotations

import inspect
import operator
import types
from collections.abc import Callable, Hashable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from ticketsearch.errors import BadInput
from ticketsearch.wiring.refusals import location
from ticketsearch.wiring.shapes import Shape, ShapedProxy, ShapeTracer, traced_graph

__all__ = ["architecture", "graph_of", "needed_nodes"]

AUGMENTED = {
    f"i{name}": getattr(operator, other)
    for name, other in (
        *((n, n) for n in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul")),
        *(("and", "and_"), ("or", "or_"), ("xor", "xor")),
    )
}
# Calls that return numbers, not values of the network.
ASKING = {"size", "dim", "numel", "nelement", "ndimension", "stride", "__len__", "item", len}
MODULE_ATTRIBUTES = frozenset(vars(nn.Module()))
PLAIN = (
    *(int, float, complex, str, bytes, type(None), type, torch.dtype, torch.device),
    *(types.FunctionType, types.BuiltinFunctionType),
)
CUTTING = {"detach": "detach()", "detach_": "detach_()", torch.detach: "detach()"}


def graph_of(module: nn.Module, input_shape: Shape) -> fx.Graph:
    """Return the graph of a module in training mode, in which every value is written once.

    In-place operations become operations that return a new value, which later readers of the overwritten
    value read. Forward hooks are part of the graph.

    Raises :class:`BadInput` where part of the computation is detached from gradients, or runs in another
    precision. Errors of the module's own forward pass through.
    """
    if module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module):
        raise BadInput(
            f"a forward hook of the whole {type(module).__name__}, or a forward put into it, is not read, as "
            "those of its parts are; let the factory return torch.nn.Sequential(module)"
        )
    module.train()
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast("cpu", enabled=False):
        graph = traced_graph(module, input_shape, _GraphTracer)
    _write_once(graph, module)
    needed = needed_nodes(graph)
    for node in reversed(list(graph.nodes)):
        if node in needed:
            _check_gradients(node, node.meta.get("context"), module)
        elif node.op not in ("placeholder", "call_module"):
            graph.erase_node(node)  # its value is not used
    return graph


def architecture(module: nn.Module, graph: fx.Graph) -> Hashable | None:
    """Return a description that is equal for modules of one architecture, with any values of their tensors.

    It has the graph, and for each submodule its class, attributes and shapes. None if an attribute is not a
    number, a text, a plain function or a collection of these, or if there are hooks.
    """
    try:
        nodes = tuple((node.format_node(), node.target) for node in graph.nodes)
        parts = tuple((path, *_plain_parts(child)) for path, child in module.named_modules())
        hash(description := (nodes, parts))
    except (TypeError, _NotPlain):
        return None
    return description


class _NotPlain(Exception):  # noqa: N818 - an outcome, not an error
    """An attribute is of another type than those that can be compared."""


def _plain_parts(child: nn.Module) -> tuple[Any, ...]:
    if child._forward_hooks or child._forward_pre_hooks:
        raise _NotPlain
    tensors = [*child.named_parameters(recurse=False), *child.named_buffers(recurse=False)]
    attributes = {name: value for name, value in vars(child).items() if name not in MODULE_ATTRIBUTES}
    return (
        type(child),
        child.training,
        _plain(attributes),
        tuple((name, tuple(tensor.shape), tensor.dtype, tensor.requires_grad) for name, tensor in tensors),
    )


def _plain(value: Any) -> Hashable:
    """Return a hashable form of a value, equal for equal values; raises :class:`_NotPlain`."""
    if isinstance(value, dict):
        return dict, tuple((_plain(key), _plain(item)) for key, item in value.items())
    if isinstance(value, tuple | list):
        return type(value), tuple(map(_plain, value))
    if isinstance(value, types.FunctionType) and (value.__closure__ or value.__defaults__):
        raise _NotPlain
    if isinstance(value, PLAIN):
        return type(value), value
    raise _NotPlain


class _Value(ShapedProxy):
    """A value whose in-place operators such as ``+=`` are part of the graph."""

    def __getattr__(self, k: str) -> Any:
        attribute = super().__getattr__(k)
        if k == "data":
            _ = attribute.node  # create the node at the access, not at the first use
        return attribute


def _augmented(name: str) -> Callable[[fx.Proxy, Any], fx.Proxy]:
    def method(self: fx.Proxy, other: Any) -> fx.Proxy:
        proxy: fx.Proxy = self.tracer.create_proxy(
            "call_function", getattr(operator, name), (self, other), {}
        )
        return proxy

    return method


for _name in AUGMENTED:
    setattr(_Value, f"__{_name}__", _augmented(_name))


class _GraphTracer(ShapeTracer):
    """Traces hooks of torch's own modules too; ``meta["context"]`` is the context of a call.

    Buffers are distinguished from constants, like parameters.
    """

    proxy_buffer_attributes = True

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Value(node, self)

    def create_node(self, kind: str, *arguments: Any, **options: Any) -> fx.Node:
        node = super().create_node(kind, *arguments, **options)
        context = _context()
        if kind.startswith("call_") and context is not None:
            node.meta["context"] = context
        return node

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        # A forward that was set on the module itself is not that of its class.
        return "forward" not in vars(m) and super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if self.running:
            return super().call_module(m, forward, args, kwargs)
        path = self.path_of_module(m)
        if not (m._forward_hooks or m._forward_pre_hooks) or not self.is_leaf_module(m, path):
            return super().call_module(m, forward, args, kwargs)
        # Torch's own call runs the hooks, with the module's step in between.
        vars(m)["forward"] = lambda *a, **k: self.create_proxy("call_module", path, a, k)
        try:
            return forward(*args, **kwargs)
        finally:
            del vars(m)["forward"]


def _context() -> str | None:
    if torch.is_inference_mode_enabled():
        return "torch.inference_mode()"
    if not torch.is_grad_enabled():
        return "torch.no_grad()"
    if torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"):
        return "torch.autocast()"
    return None


def _check_gradients(node: fx.Node, context: str | None, module: nn.Module) -> None:
    where = location(module, node)
    if context == "torch.autocast()":
        raise BadInput(
            f"the forward pass computes in another precision under torch.autocast(), {where}; leave it out, "
            "and give the recipe precision='bfloat16'"
        )
    reason = context
    if node.op in ("call_method", "call_function"):
        reason = reason or CUTTING.get(node.target)
        if node.target is getattr and node.args[1:] == ("data",):
            reason = reason or ".data"
    if reason is not None:
        raise BadInput(
            f"the forward pass stops gradients by {reason}, {where}, which training by the wiring would not "
            "do; set requires_grad=False on the parameters that are not to learn instead"
        )


def needed_nodes(graph: fx.Graph) -> set[fx.Node]:
    """Return the nodes on which the output depends."""
    needed: set[fx.Node] = set()
    waiting = [node for node in graph.nodes if node.op == "output"]
    while waiting:
        node = waiting.pop()
        if node not in needed:
            needed.add(node)
            waiting += node.all_input_nodes
    return needed


def _write_once(graph: fx.Graph, module: nn.Module) -> None:
    """Redirect readers of a value that was overwritten in place to the call that overwrote it."""
    for node in graph.nodes:
        value = node.args[0] if node.args else node.kwargs.get("input")
        if not isinstance(value, fx.Node) or not _settle(node, module) or _is_number(value):
            continue
        later = False
        for other in graph.nodes:
            if later:
                other.replace_input_with(value, node)
            later = later or other is node


def _settle(node: fx.Node, module: nn.Module) -> bool:
    """Replace a node's in-place operation by one that is not in place; False if it has none."""
    target: Any = node.target
    if node.op == "call_module":
        return bool(getattr(module.get_submodule(str(target)), "inplace", False))
    if node.op == "call_method":
        name = str(target).rstrip("_")
        if not str(target).endswith("_") or str(target).startswith("__"):
            return False
        if not callable(getattr(Tensor, name, None)):
            return False
        node.target = name
        return True
    if node.op != "call_function":
        return False
    name = getattr(target, "__name__", "")
    if getattr(operator, name, None) is target and name in AUGMENTED:
        node.target = AUGMENTED[name]
        return True
    if name.endswith("_") and not name.startswith("__"):
        other = getattr(F, name[:-1], None) or getattr(torch, name[:-1], None)
        node.target = target if other is None else other
        return other is not None
    return _without_inplace(node)


def _without_inplace(node: fx.Node) -> bool:
    """Set a true argument ``inplace`` of a call to False; return whether there was one."""
    try:
        given = inspect.signature(node.target).bind(*node.args, **node.kwargs)  # type: ignore[arg-type]
    except (TypeError, ValueError):  # torch's own functions in C have no signature
        return False
    if not given.arguments.get("inplace", False):
        return False
    given.arguments["inplace"] = False
    node.args, node.kwargs = given.args, given.kwargs
    return True


def _is_number(node: fx.Node) -> bool:
    """Whether a node is a shape or a number, which cannot be overwritten in place."""
    if node.op not in ("call_method", "call_function"):
        return False
    if node.target in ASKING or (node.target is getattr and node.args[1] in ("shape", "ndim")):
        return True
    return bool(node.all_input_nodes) and all(map(_is_number, node.all_input_nodes))
