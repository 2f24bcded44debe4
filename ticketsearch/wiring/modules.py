"""Modules: layers, normalisations, activations and pooling as torch.nn writes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import fx, nn

from ticketsearch.errors import BadInput
from ticketsearch.masks import Layer
from ticketsearch.wiring import operations as known
from ticketsearch.wiring.numbering import LayerEnds
from ticketsearch.wiring.slicing import pad, read_glu
from ticketsearch.wiring.steps import Step
from ticketsearch.wiring.tracer import Tracer
from ticketsearch.wiring.views import flatten, is_view_of_input, spatial

__all__ = ["read_module"]


def read_module(tracer: Tracer, node: fx.Node) -> None:
    """Read a call of a module; raises :class:`BadInput` for one that is not known."""
    child = tracer.module.get_submodule(str(node.target))
    arguments = (*node.args, *node.kwargs.values())
    if len(arguments) != 1:
        raise tracer.refusal(node, f"{type(child).__name__} of {len(arguments)} values")
    if is_view_of_input(tracer, node, arguments[0]):
        return
    source = tracer.value(node, arguments[0])
    shape = tracer.steps[source].shape
    if isinstance(child, nn.Linear) or type(child) in known.CONVOLUTIONS:
        _layer(tracer, node, child, source)
    elif isinstance(child, known.NORMALIZATIONS):
        _batch_norm(tracer, node, child, source)
    elif isinstance(child, nn.LayerNorm):
        _layer_norm(tracer, node, child, source)
    elif isinstance(child, nn.Flatten):
        flat = child.start_dim == 1 and child.end_dim in (-1, len(shape))
        flatten(tracer, node, source, flat, str(child))
    elif isinstance(child, known.DROPOUTS):
        function = getattr(F, type(child).__name__.lower())
        tracer.append(node, "dropout", (source,), known.Dropout(function, child.p), shape)
    elif isinstance(child, nn.PReLU):
        name = f"{node.target}.weight"
        names = (name,)
        if child.num_parameters > 1:
            _number(tracer, node, names, source)
        tracer.append(node, "elementwise", (source,), F.prelu, shape, names)
    elif isinstance(child, known.ELEMENTWISE_MODULES):
        tracer.append(node, "elementwise", (source,), known.module_function(child), shape)
    elif isinstance(child, nn.GLU):
        read_glu(tracer, node, source, child.dim)
    elif type(child) in known.PADS:
        mode = known.PADS[type(child)]
        pad(tracer, node, source, child.padding, mode, getattr(child, "value", 0))
    elif isinstance(child, known.POOLINGS):
        spatial(tracer, node, source, known.module_function(child))
    else:
        raise tracer.refusal(node, type(child).__name__)


def _layer(tracer: Tracer, node: fx.Node, child: Any, source: int) -> None:
    name, shape, features = f"{node.target}.weight", tracer.steps[source].shape, tracer.features[source]
    if name not in tracer.tensors:
        what = f"a {type(child).__name__} whose weight is computed from other parameters"
        raise tracer.refusal(node, what)
    if any(ends.layer.name == name for ends in tracer.ends):
        raise tracer.refusal(node, f"a second use of layer {node.target!r}")
    linear = isinstance(child, nn.Linear)
    wanted = child.in_features if linear else child.in_channels
    dimensions = 1 if linear else child.weight.ndim - 1
    if len(shape) != dimensions or shape[0] != wanted:
        kind = f"{type(child).__name__}({wanted}, {len(child.weight)})"
        if len(shape) == dimensions:
            raise BadInput(
                f"{node.target!r} in {type(tracer.module).__name__} is {kind}, which does not fit a value of "
                f"shape {shape}; make it take {shape[0]}"
            )
        raise tracer.refusal(node, f"{kind} on a value of shape {shape}")
    function = F.linear if linear else known.Convolution.of(child)
    divisions = 1 if linear else child.groups
    targets = tracer.numbering.new(str(node.target), len(child.weight))
    offset = sum(ends.layer.size for ends in tracer.ends)
    layer = Layer(name, tuple(child.weight.shape), offset)
    if divisions > 1 and divisions == wanted == len(child.weight):
        tracer.numbering.tie(features, targets)
    elif divisions > 1:
        tracer.numbering.part(features, divisions)
        tracer.numbering.part(targets, divisions)
    tracer.ends.append(LayerEnds(layer, features, targets, divisions))
    bias = None if child.bias is None else f"{node.target}.bias"
    if bias is not None:
        tracer.numbered[bias] = targets
    step = Step("linear", (source,), (), function, (name, bias), len(tracer.ends) - 1)
    tracer.add(node, step, targets)


def _batch_norm(tracer: Tracer, node: fx.Node, child: Any, source: int) -> None:
    if child.momentum is None:
        raise tracer.refusal(node, f"{type(child).__name__} with momentum=None")
    if child.num_features != tracer.steps[source].shape[0]:
        shape = tracer.steps[source].shape
        raise tracer.refusal(
            node, f"{type(child).__name__}({child.num_features}) on a value of shape {shape}"
        )
    names = _own(node, child, ("weight", "bias", "running_mean", "running_var"))
    _number(tracer, node, names, source)
    function = known.BatchNormalization(child.momentum, child.eps)
    tracer.append(node, "normalize", (source,), function, tracer.steps[source].shape, names)


def _layer_norm(tracer: Tracer, node: fx.Node, child: nn.LayerNorm, source: int) -> None:
    shape = tracer.steps[source].shape
    if tuple(child.normalized_shape) != shape:
        what = f"LayerNorm{tuple(child.normalized_shape)} on a value of shape {shape}"
        raise tracer.refusal(node, what)
    names = _own(node, child, ("weight", "bias"))
    _number(tracer, node, names, source)
    tracer.append(node, "mix", (source,), known.LayerNormalization(shape, child.eps), shape, names)


def _number(tracer: Tracer, node: fx.Node, names: Sequence[str | None], source: int) -> None:
    """Number tensors as the value that they belong to; one tensor cannot be numbered by two values."""
    for name in names:
        if name in tracer.numbered:
            raise tracer.refusal(node, f"a second use of layer {node.target!r}")
        if name is not None:
            tracer.numbered[name] = tracer.features[source]


def _own(node: fx.Node, child: nn.Module, names: Sequence[str]) -> tuple[str | None, ...]:
    return tuple(None if getattr(child, name, None) is None else f"{node.target}.{name}" for name in names)
