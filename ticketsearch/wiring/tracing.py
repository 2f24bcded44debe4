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
from ticketsearch.wiring.combining import read_tensor
from ticketsearch.wiring.declared import declared_wiring
from ticketsearch.wiring.modules import read_module
from ticketsearch.wiring.receptive import positions_read
from ticketsearch.wiring.steps import Wiring
from ticketsearch.wiring.tracer import Tracer
from ticketsearch.wiring.views import read_input

__all__ = ["trace"]


def trace(module: nn.Module, input_shape: Sequence[int]) -> Wiring:
    """Return the wiring of a module from ``(samples, *input_shape)`` to ``(samples, classes)``.

    Known are Linear and Conv1d/2d/3d layers (also grouped and depthwise), batch normalisation, layer
    normalisation of whole samples, pooling, flattening, means over positions, dropout, elementwise maps,
    concatenations along the neuron axis, sums, differences, products, maxima and minima of values whose
    neurons then are numbered together (single positions, as of a gate, are repeated), parameters and buffers
    that values are multiplied by or shifted by, slices of neurons and positions, and zeros beside them. The
    trace is checked against the module itself on a few
    random samples, in evaluation mode and, without dropout, in training mode.

    A module with an attribute ``neuron_groups`` is not traced: it declares what numbers its tensors, as
    ``{tensor name: (axis 0, axis 1)}``. An axis is the name of a group, ``"input"`` or ``"output"``, with
    ``":n"`` behind it where each unit has n consecutive entries. Every tensor that hidden units number must
    be named; this is checked by renumbering them at random. Such networks cannot be pruned by flow.

    Raises :class:`BadInput` for a module that cannot be traced, naming the operation and its place.
    """
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
        check_declared(wiring, shape)
        return wiring
    try:
        graph = _Reader().trace(own.train())
    except Exception as error:  # fx raises whatever the module's own code raises on a proxy
        line = str(error).splitlines()[0] if str(error) else ""
        raise BadInput(
            f"torch.fx cannot trace {type(module).__name__} ({type(error).__name__}: {line}); "
            "write its forward without branches on values, or let the factory set module.neuron_groups"
        ) from error
    wiring = _read(Tracer(own, shape), graph)
    check_trace(wiring, shape)
    return replace(wiring, spec=replace(wiring.spec, reads=positions_read(wiring)))


class _Reader(fx.Tracer):
    """Keeps buffers apart from constants, as parameters are."""

    proxy_buffer_attributes = True


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
        else:
            read_tensor(tracer, node)
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
