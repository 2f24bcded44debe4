"""Tracing: the steps and neuron groups of a module, from its fx graph."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, fx, nn

from ticketsearch.errors import BadInput
from ticketsearch.wiring.calls import read_call
from ticketsearch.wiring.checking import check_declared, check_runs, check_trace
from ticketsearch.wiring.combining import read_tensor
from ticketsearch.wiring.declared import declared_wiring
from ticketsearch.wiring.endings import LOGITS, log_softmaxes, read_log_softmax, refuse_softmax
from ticketsearch.wiring.functional import is_functional_layer
from ticketsearch.wiring.graphs import architecture, graph_of, needed_nodes
from ticketsearch.wiring.modules import read_module
from ticketsearch.wiring.operations import CONVOLUTIONS
from ticketsearch.wiring.preconditions import check_learning, check_module
from ticketsearch.wiring.receptive import positions_read
from ticketsearch.wiring.steps import Wiring
from ticketsearch.wiring.tracer import Tracer
from ticketsearch.wiring.verification import check_numbering
from ticketsearch.wiring.views import read_input

__all__ = ["trace"]


def trace(module: nn.Module, input_shape: Sequence[int], *, like: Wiring | None = None) -> Wiring:
    """Return the wiring of a module from ``(samples, *input_shape)`` to ``(samples, classes)``.

    Supported are Linear and Conv1d/2d/3d layers (also grouped and depthwise), batch normalisation, layer
    normalisation of whole samples, pooling, flattening, means over positions, dropout, elementwise maps,
    concatenations along the neuron axis, sums, differences, products, maxima and minima of values whose
    neurons then are numbered together (single positions, as of a gate, are repeated), parameters and buffers
    that multiply or shift values, slices of neurons and positions, and zeros beside them; layers and
    normalisations also as functions of the module's own parameters. The trace is checked against the module
    itself on random samples and tensors, in evaluation and training mode, by outputs and gradients; and units
    are renumbered at random. These checks are skipped if ``like``, the wiring of another copy of the
    architecture, has the same graph, submodules and attributes.

    Shapes are known while the module is traced, so forward may compute with them and branch on them, as long
    as samples are computed alike for any number of them. Its further arguments have their defaults. Code
    without effect on the output is ignored, except layers. A log-softmax at the end is left out: the outputs
    of the wiring are then logits, under which cross-entropy has the same value and gradient.

    A module with an attribute ``neuron_groups`` is not traced: the attribute declares the neuron groups of
    its tensors, as ``{tensor name: (axis 0, axis 1)}``. An axis is the name of a group, ``"input"`` or
    ``"output"``, followed by ``":n"`` if each unit has n consecutive entries. Every tensor that hidden units
    number must be named; this is checked by renumbering them at random. Such networks cannot be pruned by
    flow.

    Raises :class:`BadInput` for a module that cannot be traced, naming the operation and its location.
    """
    check_module(module)
    shared = _shared_parameters(module)
    if shared:
        raise BadInput(
            f"parameters may not be shared between layers, but {' and '.join(shared)} are one tensor"
        )
    copied = copy.deepcopy(module)
    shape = tuple(input_shape)
    declared = getattr(module, "neuron_groups", None)
    if declared is not None:
        wiring = declared_wiring(copied, declared)
        check_learning(copied, [name for name, _ in copied.named_parameters()])
        check_declared(wiring, shape)
        return wiring
    graph = _graph(copied, shape)
    endings = _read(tracer := Tracer(copied, shape), graph)
    output: Any = next(iter(graph.find_nodes(op="output"))).args[0]
    wiring = replace(tracer.wiring(tracer.step_of[output]), architecture=architecture(copied, graph))
    check_learning(copied, {str(name) for step in wiring.steps for name in step.names})
    if like is None or wiring.architecture is None or wiring.architecture != like.architecture:
        check_trace(wiring, shape)
        check_numbering(wiring)
    if endings:
        logits = tracer.wiring(tracer.step_of[endings[-1].all_input_nodes[0]])
        notes = (LOGITS.format(name=type(module).__name__),)
        wiring = replace(logits, architecture=wiring.architecture, notes=notes)
    return replace(wiring, spec=replace(wiring.spec, reads=positions_read(wiring)))


def _graph(module: nn.Module, shape: tuple[int, ...]) -> fx.Graph:
    """Return the fx graph of a module; raises :class:`BadInput` where torch.fx fails."""
    try:
        return graph_of(module, shape)
    except BadInput:
        raise
    except Exception as error:  # fx raises any error that the module's own code raises on a proxy
        check_runs(module, shape)
        line = str(error).splitlines()[0] if str(error) else ""
        raise BadInput(
            f"torch.fx cannot trace {type(module).__name__} ({type(error).__name__}: {line}); "
            "write its forward without branches on values, or, if each axis of its weights is numbered by "
            "one neuron group, let the factory set module.neuron_groups (flows are then not available)"
        ) from error


def _read(tracer: Tracer, graph: fx.Graph) -> list[fx.Node]:
    """Read the graph, and return the log-softmaxes at its end, the last one first."""
    output: Any = next(iter(graph.find_nodes(op="output"))).args[0]
    module = tracer.module
    if not isinstance(output, fx.Node) or not isinstance(output.meta.get("value", Tensor()), Tensor):
        raise BadInput("a network returns one tensor (samples, classes), but this one returns something else")
    refuse_softmax(module, output)
    reaching = needed_nodes(graph)
    needed = [node for node in graph.nodes if node in reaching]
    _refuse_unused(module, [node for node in graph.nodes if node not in needed], needed)
    endings = log_softmaxes(module, output)
    for node in needed:
        if node.op == "placeholder":
            read_input(tracer, node)
        elif node in endings:
            read_log_softmax(tracer, node)
        elif node.op == "call_module":
            read_module(tracer, node)
        elif node.op in ("call_function", "call_method"):
            read_call(tracer, node)
        elif node.op == "get_attr":
            read_tensor(tracer, node)
    if output not in tracer.step_of:
        raise BadInput("a network returns one tensor (samples, classes), but this one returns something else")
    if not tracer.ends:
        raise BadInput(f"{type(module).__name__} has no Linear or convolution layer: nothing to prune")
    return endings


def _refuse_unused(module: nn.Module, unused: Sequence[fx.Node], needed: Sequence[fx.Node]) -> None:
    """Refuse layers that do not reach the output; other dead code is ignored."""
    names = set(_layer_names(module, unused)) - set(_layer_names(module, needed))
    if names:
        raise BadInput(f"layer {', '.join(sorted(names))} does not reach the output; leave it out")


def _layer_names(module: nn.Module, nodes: Sequence[fx.Node]) -> Iterator[str]:
    for node in nodes:
        if node.op == "call_module":
            child = module.get_submodule(str(node.target))
            if isinstance(child, nn.Linear) or type(child) in CONVOLUTIONS:
                yield f"{node.target}.weight"
        elif is_functional_layer(node):
            yield from (str(used.target) for used in node.all_input_nodes if used.op == "get_attr")


def _shared_parameters(module: nn.Module) -> list[str]:
    seen: dict[int, str] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        if id(parameter) in seen:
            return [seen[id(parameter)], name]
        seen[id(parameter)] = name
    return []
