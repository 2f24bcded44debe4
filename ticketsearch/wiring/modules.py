"""Readers of torch.nn modules: layers, normalisations, activations and pooling."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import fx, nn

from ticketsearch.wiring import operations as known
from ticketsearch.wiring.layers import read_batch_norm, read_layer, read_layer_norm, read_prelu
from ticketsearch.wiring.shuffling import shuffle
from ticketsearch.wiring.slicing import pad, read_glu
from ticketsearch.wiring.tracer import Tracer
from ticketsearch.wiring.views import check_axes, is_reshape, is_view_of_input, reshape, spatial

__all__ = ["read_module"]


def read_module(tracer: Tracer, node: fx.Node) -> None:
    """Read a call of a module; raises :class:`BadInput` for an unknown one."""
    child = tracer.module.get_submodule(str(node.target))
    arguments = (*node.args, *node.kwargs.values())
    if len(arguments) != 1:
        raise tracer.refusal(node, type(child).__name__)
    if is_view_of_input(tracer, node, arguments[0]):
        return
    source = tracer.value(node, arguments[0])
    if not any(read(tracer, node, source, child) for read in (_layer, _units, _positions)):
        raise tracer.refusal(node, type(child).__name__)


def _layer(tracer: Tracer, node: fx.Node, source: int, child: nn.Module) -> bool:
    """Read a module with tensors of its own: a layer or a normalisation; False for another."""
    if isinstance(child, nn.Linear):
        weight, bias = _names(node, child, ("weight", "bias"))
        read_layer(tracer, node, source, (str(weight), bias), F.linear)
    elif type(child) in known.CONVOLUTIONS:
        weight, bias = _names(node, child, ("weight", "bias"))
        read_layer(tracer, node, source, (str(weight), bias), known.Convolution.of(child))
    elif isinstance(child, known.NORMALIZATIONS):
        names = _names(node, child, ("weight", "bias", "running_mean", "running_var"))
        # A module whose train() leaves some in evaluation mode normalises by its running statistics.
        function = known.BatchNormalization(child.momentum, child.eps, fixed=not child.training)
        read_batch_norm(tracer, node, source, names, function, child.num_features)
    elif isinstance(child, nn.LayerNorm):
        names = _names(node, child, ("weight", "bias"))
        read_layer_norm(tracer, node, source, names, tuple(child.normalized_shape), child.eps)
    elif isinstance(child, nn.PReLU):
        read_prelu(tracer, node, source, f"{node.target}.weight")
    else:
        return False
    return True


def _units(tracer: Tracer, node: fx.Node, source: int, child: nn.Module) -> bool:
    """Read a map of single entries, dropout, or a module that reorders or gates units; False for another."""
    shape = tracer.steps[source].shape
    if isinstance(child, known.DROPOUTS) and not child.training:
        tracer.step_of[node] = source
    elif isinstance(child, known.DROPOUTS):
        function = getattr(F, type(child).__name__.lower())
        tracer.append(node, "dropout", (source,), known.Dropout(function, child.p), shape)
    elif isinstance(child, known.ELEMENTWISE_MODULES):
        tracer.append(node, "elementwise", (source,), known.module_function(child), shape)
    elif isinstance(child, nn.ChannelShuffle):
        shuffle(tracer, node, source, child.groups)
    elif isinstance(child, nn.GLU):
        read_glu(tracer, node, source, child.dim)
    else:
        return False
    return True


def _positions(tracer: Tracer, node: fx.Node, source: int, child: nn.Module) -> bool:
    """Read a view, a padding or a pooling of positions; False for another module."""
    dimensions = known.dimensions(type(child).__name__)
    if is_reshape(tracer, node):
        reshape(tracer, node, source)
    elif type(child) in known.PADS:
        check_axes(tracer, node, source, dimensions)
        pad(tracer, node, source, child.padding, known.PADS[type(child)], getattr(child, "value", 0))
    elif isinstance(child, known.POOLINGS):
        spatial(tracer, node, source, known.module_function(child), dimensions)
    else:
        return False
    return True


def _names(node: fx.Node, child: nn.Module, names: Sequence[str]) -> tuple[str | None, ...]:
    """Return the full names of a module's tensors, None for one that it does not have."""
    return tuple(None if getattr(child, name, None) is None else f"{node.target}.{name}" for name in names)
