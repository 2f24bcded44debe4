"""Readers of views, and of operations on each channel by itself."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

from ticketsearch.errors import BadInput
from ticketsearch.wiring import operations as known
from ticketsearch.wiring.numbering import Features
from ticketsearch.wiring.refusals import location, words
from ticketsearch.wiring.shapes import sample_shape
from ticketsearch.wiring.shuffling import arrange
from ticketsearch.wiring.steps import Step
from ticketsearch.wiring.tracer import Shape, Tracer

__all__ = ["check_axes", "is_reshape", "is_view_of_input", "read_input", "reshape", "spatial"]

RESHAPES = {
    *("flatten", "view", "reshape", "unsqueeze", "squeeze", "unflatten"),
    *(torch.flatten, torch.reshape, torch.unsqueeze, torch.squeeze, torch.unflatten),
}


def read_input(tracer: Tracer, node: fx.Node) -> None:
    """Read the network's input."""
    shape = _first_shape(tracer, node)
    tracer.step_of[node] = 0
    tracer.steps.append(Step("input", (), shape, known.Reshape(shape)))
    tracer.features.append(tracer.numbering.new("input", shape[0]))


def _first_shape(tracer: Tracer, node: fx.Node) -> Shape:
    """Return the shape of the input's first use.

    The input's units are fixed: a network that flattens its input first numbers the features, and a network
    that adds an axis of channels numbers those.
    """
    views = [shape for user in node.users if is_reshape(tracer, user) and (shape := sample_shape(user))]
    if views and len(set(views)) == 1 and len(views) == len(node.users):
        return views[0]
    return tracer.input_shape


def is_reshape(tracer: Tracer, node: fx.Node) -> bool:
    """Return whether a call only changes the shape of a value."""
    if node.op == "call_module":
        return isinstance(tracer.module.get_submodule(str(node.target)), nn.Flatten | nn.Unflatten)
    return node.target in RESHAPES or _adds_axes(node)


def _adds_axes(node: fx.Node) -> bool:
    """Whether an index takes all entries, and only adds axes."""
    if node.target is not operator.getitem or not isinstance(node.args[1], tuple):
        return False
    return all(entry is None or entry is Ellipsis or entry == slice(None) for entry in node.args[1])


def is_view_of_input(tracer: Tracer, node: fx.Node, argument: Any) -> bool:
    """Read a reshaping of the raw input, which the input step has done; False for another call."""
    if not isinstance(argument, fx.Node) or argument.op != "placeholder" or not is_reshape(tracer, node):
        return False
    if sample_shape(node) != tracer.steps[0].shape:
        return False
    tracer.step_of[node] = 0
    return True


def reshape(tracer: Tracer, node: fx.Node, source: int) -> None:
    """Read a change of a value's shape, which must keep each unit's features together.

    Positions may get any shape; a flattening makes each channel a block of consecutive features, and the
    inverse makes the block a channel again.
    """
    before, after = tracer.steps[source].shape, sample_shape(node)
    if "failure" in node.meta:
        raise tracer.failure(node, (source,), node.meta["failure"])
    if after is None:
        raise tracer.refusal(node, f"a view of values of shape {before} that does not keep the samples apart")
    units, blocks = tracer.features[source]
    positions = math.prod(after[1:])
    if after == before:
        tracer.step_of[node] = source
        return
    if len(after) == 1:
        blocks = blocks * math.prod(before[1:])
    elif len(before) == 1 and not (blocks % positions).any():
        blocks = blocks // positions
    elif after[:1] != before[:1] and arrange(tracer, node, source, after):
        return
    elif after[:1] != before[:1]:
        raise tracer.parted(node)
    tracer.add(node, Step("spatial", (source,), after, known.Reshape(after)), Features(units, blocks))


def spatial(
    tracer: Tracer,
    node: fx.Node,
    source: int,
    function: Callable[..., Tensor],
    dimensions: int | None = None,
) -> None:
    """Read an operation on each channel by itself, over ``dimensions`` axes of positions; None is any."""
    check_axes(tracer, node, source, dimensions)
    tracer.add(node, Step("spatial", (source,), (), function), tracer.features[source])
    if tracer.steps[-1].shape[:1] != tracer.steps[source].shape[:1]:
        raise tracer.refusal(node, f"{words(tracer.module, node)} over the neuron axis")


def check_axes(tracer: Tracer, node: fx.Node, source: int, dimensions: int | None) -> None:
    """Refuse an operation over ``dimensions`` axes of positions on a value of another number of axes."""
    shape = tracer.steps[source].shape
    axes = "axis" if dimensions == 1 else "axes"
    if dimensions is not None and len(shape) != dimensions + 1:
        # Torch would take a value with an axis less for one sample, and its units for positions.
        raise BadInput(
            f"{words(tracer.module, node)} works over {dimensions} {axes} of positions, behind samples and "
            f"channels, but reads values of shape {shape}, {location(tracer.module, node)}; "
            f"give it values of {dimensions + 1} axes"
        )
