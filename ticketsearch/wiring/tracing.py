"""Tracing: reads the fx graph of a module into steps, and its units into numbered groups."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import fx, nn

from ticketsearch.errors import BadInput
from ticketsearch.wiring.calls import read_call
from ticketsearch.wiring.checking import check_declared, check_trace
from ticketsearch.wiring.declared import declared_wiring
from ticketsearch.wiring.graphs import architecture, graph_of
from ticketsearch.wiring.modules import read_module
from ticketsearch.wiring.preconditions import check_learning, check_module
from ticketsearch.wiring.steps import Wiring
from ticketsearch.wiring.tracer import Tracer
from ticketsearch.wiring.verification import check_numbering
from ticketsearch.wiring.views import read_input

__all__ = ["trace"]


def trace(module: nn.Module, input_shape: Sequence[int], *, like: Wiring | None = None) -> Wiring:
    """Return the wiring of a module from ``(samples, *input_shape)`` to ``(samples, classes)``.

    Known are Linear and Conv1d/2d/3d layers (also grouped and depthwise), batch normalisation, layer
    normalisation of whole samples, pooling, flattening, means over positions, dropout, elementwise maps,
    sums and concatenations along the neuron axis. The trace is checked against the module itself on random
    samples and tensors, in evaluation and in training mode, its outputs and their gradients; and units are
    renumbered at random. ``like``, the wiring of another copy of one architecture, says that all this was
    done where this module has the same graph, parts and attributes.

    A module with an attribute ``neuron_groups`` is not traced: it declares what numbers its tensors, as
    ``{tensor name: (axis 0, axis 1)}``. An axis is the name of a group, ``"input"`` or ``"output"``, with
    ``":n"`` behind it where each unit has n consecutive entries. Every tensor that hidden units number must
    be named; this is checked by renumbering them at random. Such networks cannot be pruned by flow.

    Raises :class:`BadInput` for a module that cannot be traced, naming the operation and its place.
    """
    check_module(module)
    shared = _shared_parameters(module)
    if shared:
        raise BadInput(
            f"parameters may not be shared between layers, but {' and '.join(shared)} are one tensor"
        )
    own = copy.deepcopy(module)
    shape = tuple(input_shape)
    declared = getattr(module, "neuron_groups", None)
    if declared is not None:
        wiring = declared_wiring(own, declared)
        check_learning(own, [name for name, _ in own.named_parameters()])
        check_declared(wiring, shape)
        return wiring
    try:
        graph = graph_of(own)
    except BadInput:
        raise
    except Exception as error:  # fx raises whatever the module's own code raises on a proxy
        line = str(error).splitlines()[0] if str(error) else ""
        raise BadInput(
            f"torch.fx cannot trace {type(module).__name__} ({type(error).__name__}: {line}); "
            "write its forward without branches on values, or let the factory set module.neuron_groups"
        ) from error
    wiring = replace(_read(Tracer(own, shape), graph), architecture=architecture(own, graph))
    check_learning(own, {str(name) for step in wiring.steps for name in step.names})
    if like is None or wiring.architecture is None or wiring.architecture != like.architecture:
        check_trace(wiring, shape)
        check_numbering(wiring)
    return wiring


def _read(tracer: Tracer, graph: fx.Graph) -> Wiring:
    """Return the wiring of the graph."""
    output: Any = None
    for node in graph.nodes:
        if node.op == "placeholder":
            read_input(tracer, node)
        elif node.op == "call_module":
            read_module(tracer, node)
        elif node.op in ("call_function", "call_method"):
            read_call(tracer, node)
        elif node.op == "output":
            output = node.args[0]
        elif len(node.users):
            raise tracer.refusal(node, f"the tensor {node.target!r} used directly")
    if not isinstance(output, fx.Node) or output not in tracer.place:
        raise BadInput("a network returns one tensor (samples, classes), but this one returns something else")
    if not tracer.ends:
        raise BadInput(f"{type(tracer.module).__name__} has no Linear or convolution layer: nothing to prune")
    return tracer.wiring(tracer.place[output])


def _shared_parameters(module: nn.Module) -> list[str]:
    seen: dict[int, str] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        if id(parameter) in seen:
            return [seen[id(parameter)], name]
        seen[id(parameter)] = name
    return []
