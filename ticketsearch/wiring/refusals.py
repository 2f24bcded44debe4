"""Refusals: the name of an unknown call in the field's words, its location, and the ways out."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn
from torch.nn.utils import parametrize

from ticketsearch.wiring import operations as known
from ticketsearch.wiring.shapes import sample_shape

__all__ = ["WITHOUT", "location", "way_out", "words"]

COMPARISON, TYPE, REPETITION = (
    "a comparison of values",
    "a conversion to another type",
    "a repetition of a value",
)
PRODUCT, SPLIT, STACK = "a matrix product of values", "a split of a value into parts", "a stack of values"
AXES, RANDOM, CHOICE = "another order of the axes", "random numbers", "a choice between values"
WORDS = {
    **dict.fromkeys(("eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_not", "not_"), COMPARISON),
    **dict.fromkeys(("long", "int", "float", "double", "half", "bfloat16", "bool", "to", "type"), TYPE),
    **dict.fromkeys(("expand", "expand_as", "repeat", "repeat_interleave", "tile"), REPETITION),
    **dict.fromkeys(("matmul", "mm", "bmm", "einsum", "baddbmm", "addmm", "dot", "tensordot"), PRODUCT),
    **dict.fromkeys(("chunk", "split", "tensor_split", "unbind", "split_with_sizes"), SPLIT),
    **dict.fromkeys(("stack", "hstack", "vstack", "dstack"), STACK),
    **dict.fromkeys(("permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "t"), AXES),
    **dict.fromkeys(("rand", "randn", "rand_like", "randn_like", "bernoulli", "normal", "uniform"), RANDOM),
    **dict.fromkeys(("where", "masked_fill", "index_select", "gather", "take"), CHOICE),
    **dict.fromkeys(("getitem", "narrow", "select"), "a slice of a value"),
    **dict.fromkeys(("floordiv", "floor_divide", "mod", "remainder", "fmod"), "a division with remainder"),
    **dict.fromkeys(("truediv", "div"), "a quotient of values"),
    **dict.fromkeys(("sub", "isub", "rsub"), "a difference of values"),
    **dict.fromkeys(("mul", "imul"), "a product of values"),
    **dict.fromkeys(("add", "iadd"), "a sum other than of two values of one shape"),
    **dict.fromkeys(("max", "amax", "maximum"), "a maximum of values"),
    **dict.fromkeys(("min", "amin", "minimum"), "a minimum of values"),
    **dict.fromkeys(
        ("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze"), "a view of this shape"
    ),
    **dict.fromkeys(("roll", "flip"), "a shift or reversal of positions"),
    "pow": "a power of values",
    "sum": "a sum over an axis",
    "mean": "a mean over other axes than positions",
    "std": "a standard deviation over an axis",
    "var": "a variance over an axis",
    "norm": "a norm over an axis",
    "softmax": "a softmax",
    "log_softmax": "a log-softmax that is not the last step",
    "pad": "padding of a value",
    "embedding": "an embedding",
    "scaled_dot_product_attention": "attention",
    "normalize": "a normalisation to unit length",
    "group_norm": "group normalisation",
    "instance_norm": "instance normalisation",
    "rms_norm": "root mean square normalisation",
    "detach": "a detached value",
    "getattr": "a tensor's attribute",
}

WITHOUT = "use a network without it"
DECLARE = (
    "declare the neuron groups by hand: let the factory set "
    "module.neuron_groups = {'conv.weight': ('hidden', 'input'), 'conv.bias': ('hidden',), "
    "'fc.weight': ('output', 'hidden:16')} (everything but flows, as SynFlow's, is then available)"
)
# Modules in which each axis of each tensor is numbered by one whole group, in any forward pass.
PLAIN_MODULES = (
    *(nn.Linear, nn.Flatten, nn.LayerNorm, nn.RMSNorm, nn.Softmax, nn.LogSoftmax, nn.CosineSimilarity),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d, nn.LPPool1d, nn.LPPool2d),
    *known.NORMALIZATIONS,
    *known.ELEMENTWISE_MODULES,
    *known.POOLINGS,
)
PLAIN_CALLS = {
    *("mul", "imul", "add", "iadd", "add_", "mul_", "sub", "isub", "truediv", "div", "pow", "neg", "maximum"),
    *("minimum", "softmax", "log_softmax", "sum", "mean", "amax", "amin", "std", "var", "norm", "normalize"),
    *("sqrt", "rsqrt", "log", "log1p", "erf", "sign", "floor", "ceil", "round", "abs", "exp", "where"),
    *("instance_norm", "rms_norm", "layer_norm", "batch_norm"),
}
REORDERINGS = {"permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis"}
RESHAPES = {"view", "reshape", "flatten", "squeeze", "unsqueeze"}


def location(module: nn.Module, node: fx.Node) -> str:
    """Return the location of a call as text: the path of its submodule, or the module's own forward."""
    path = str(node.target) if node.op == "call_module" else ""
    for entry in reversed(node.meta.get("nn_module_stack", {}).values()):
        path = path or str(entry[0])
    name = type(module).__name__
    return f"at {path!r} in {name}" if path else f"in the forward of {name}"


def words(module: nn.Module, node: fx.Node) -> str:
    """Return the name of a call in the field's words: a module's class, or the operation."""
    if node.op == "call_module":
        return type(module.get_submodule(str(node.target))).__name__
    name = _name(node)
    if name in WORDS:
        return WORDS[name]
    if node.op == "call_method":
        return f"the tensor method {name}"
    full = torch.overrides.resolve_name(node.target) or f"{getattr(node.target, '__module__', '')}.{name}"
    return f"the function {full}"


def way_out(module: nn.Module, graph: fx.Graph) -> str:
    """Return the ways out of a refusal that work for this module.

    Groups can be declared by hand if each axis of each weight is numbered by one group, one unit a row, and
    each unit is a block of consecutive columns. This excludes recurrent layers, heads of attention,
    concatenations, grouped convolutions and all operations that may reorder units.
    """
    declarable = all(_is_plain_module(child) for child in module.modules()) and all(
        _is_plain_call(node) for node in graph.nodes if node.op in ("call_function", "call_method")
    )
    names = {_name(node) for node in graph.nodes}
    tensor_names = {name for name, _ in (*module.named_parameters(), *module.named_buffers())}
    declarable &= not (names & REORDERINGS and names & RESHAPES)  # a unit's features may then not be adjacent
    declarable &= all(str(node.target) in tensor_names for node in graph.nodes if node.op == "get_attr")
    (output,) = [node.args[0] for node in graph.nodes if node.op == "output"]
    declarable &= isinstance(output, fx.Node) and len(sample_shape(output) or ()) == 1
    return f"{WITHOUT}, or {DECLARE}" if declarable else WITHOUT


def _name(node: fx.Node) -> str:
    target: Any = node.target
    name = str(target) if isinstance(target, str) else getattr(target, "__name__", str(target))
    return name.strip("_")


def _is_plain_module(child: nn.Module) -> bool:
    if parametrize.is_parametrized(child):
        return False
    if type(child).__module__.partition(".")[0] != "torch" or isinstance(
        child, nn.Sequential | nn.ModuleList
    ):
        return True  # its forward is traced
    if isinstance(child, known.DROPOUTS):
        return child.p == 0  # dropout of networks that are not traced is not trained
    if isinstance(child, nn.GroupNorm):
        return child.num_groups == 1
    if type(child) in known.CONVOLUTIONS:
        return bool(child.groups == 1)
    return isinstance(child, PLAIN_MODULES)


def _is_plain_call(node: fx.Node) -> bool:
    name = _name(node)
    if name in RESHAPES:
        source = node.args[0] if node.args else None
        before = sample_shape(source) if isinstance(source, fx.Node) else None
        after = sample_shape(node)
        return before is not None and after is not None and (before[:1] == after[:1] or len(after) == 1)
    return (
        name in PLAIN_CALLS | REORDERINGS
        or node.target in known.ELEMENTWISE_FUNCTIONS
        or (node.op == "call_method" and node.target in known.ELEMENTWISE_METHODS)
        or node.target in known.POOLING_FUNCTIONS
    )
