"""Readers of layers and normalisations, modules or functional, by the names of their tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, fx

from ticketsearch.errors import BadInput
from ticketsearch.masks import Layer
from ticketsearch.wiring import operations as known
from ticketsearch.wiring.numbering import LayerEnds
from ticketsearch.wiring.refusals import words
from ticketsearch.wiring.steps import Step
from ticketsearch.wiring.tracer import Shape, Tracer

__all__ = ["read_batch_norm", "read_layer", "read_layer_norm", "read_prelu"]


def read_layer(
    tracer: Tracer,
    node: fx.Node,
    source: int,
    names: tuple[str, str | None],
    function: Callable[..., Tensor],
) -> None:
    """Read a linear layer or convolution whose weight and bias have these names; raises BadInput."""
    name, bias = names
    kind, shape, features = words(tracer.module, node), tracer.steps[source].shape, tracer.features[source]
    if name not in tracer.tensors:
        raise tracer.refusal(node, f"{kind} whose weight is computed from other parameters")
    path, weight = name.removesuffix(".weight"), tracer.tensors[name]
    if any(ends.layer.name == name for ends in tracer.ends):
        raise tracer.refusal(node, f"a second use of layer {path!r}")
    divisions = function.groups if isinstance(function, known.Convolution) else 1
    wanted = weight.shape[1] * divisions
    if len(shape) != max(1, weight.ndim - 1) or shape[0] != wanted:
        size = f"{kind}({wanted}, {len(weight)})"
        if len(shape) == weight.ndim - 1:
            raise BadInput(
                f"{path!r} in {type(tracer.module).__name__} is {size}, which does not fit a value of "
                f"shape {shape}; make it take {shape[0]}"
            )
        raise tracer.refusal(node, f"{size} on a value of shape {shape}")
    if divisions > 1 and (features.blocks != 1).any():
        raise tracer.refusal(node, f"a grouped {kind} of units that have several channels each")
    targets = tracer.numbering.new(path, len(weight))
    offset = sum(ends.layer.size for ends in tracer.ends)
    layer = Layer(name, tuple(weight.shape), offset)
    if divisions > 1 and divisions == wanted == len(weight):
        tracer.numbering.tie(features, targets)
    elif divisions > 1:
        tracer.numbering.part(features, divisions)
        tracer.numbering.part(targets, divisions)
    tracer.ends.append(LayerEnds(layer, features, targets, divisions))
    if bias is not None:
        if bias in tracer.numbered:
            raise tracer.refusal(node, f"a second use of {bias!r}")
        tracer.numbered[bias] = targets
    tracer.add(node, Step("linear", (source,), (), function, (name, bias), len(tracer.ends) - 1), targets)


def read_batch_norm(
    tracer: Tracer,
    node: fx.Node,
    source: int,
    names: tuple[str | None, ...],
    function: known.BatchNormalization,
    features: int,
) -> None:
    """Read a batch normalisation; ``names`` are those of scale, shift, running mean and running variance."""
    kind, shape = words(tracer.module, node), tracer.steps[source].shape
    if function.momentum is None:
        raise tracer.refusal(node, f"{kind} with momentum=None")
    if features != shape[0]:
        raise tracer.refusal(node, f"{kind}({features}) on a value of shape {shape}")
    _number(tracer, node, names, source)
    tracer.append(node, "normalize", (source,), function, shape, names)


def read_layer_norm(
    tracer: Tracer,
    node: fx.Node,
    source: int,
    names: tuple[str | None, ...],
    normalized: Shape,
    eps: float,
) -> None:
    """Read a layer normalisation of whole samples; ``names`` are those of scale and shift."""
    shape = tracer.steps[source].shape
    if normalized != shape:
        kind = words(tracer.module, node)
        raise tracer.refusal(node, f"{kind}{normalized} on a value of shape {shape}")
    _number(tracer, node, names, source)
    tracer.append(node, "mix", (source,), known.LayerNormalization(shape, eps), shape, names)


def read_prelu(tracer: Tracer, node: fx.Node, source: int, name: str) -> None:
    """Read a leaky rectifier whose slopes, one or one a unit, are a parameter of this name."""
    if tracer.tensors[name].numel() > 1:
        _number(tracer, node, (name,), source)
    tracer.append(node, "elementwise", (source,), F.prelu, tracer.steps[source].shape, (name,))


def _number(tracer: Tracer, node: fx.Node, names: Sequence[str | None], source: int) -> None:
    """Number tensors like the value that they apply to; a tensor cannot be numbered by two values."""
    for name in names:
        if name in tracer.numbered:
            raise tracer.refusal(node, f"a second use of layer {name.rpartition('.')[0] or name!r}")
        if name is not None:
            tracer.numbered[name] = tracer.features[source]
