"""Calls: sums, concatenations, products and elementwise maps as functions and methods."""

from __future__ import annotations

import operator
from typing import Any

from torch import fx

from ticketsearch.wiring import operations as known
from ticketsearch.wiring.combining import read_combination, read_tensor_call
from ticketsearch.wiring.numbering import Features
from ticketsearch.wiring.slicing import read_part, read_slice
from ticketsearch.wiring.steps import Step
from ticketsearch.wiring.tracer import Tracer
from ticketsearch.wiring.views import (
    asks_for_shape,
    flatten,
    is_flattening,
    is_view_of_input,
    spatial,
    view_of_units,
)

__all__ = ["read_call"]

# Calls of some axes, and how many axes more than the value those are counted in.
AXES = {"mean": 0, "amax": 0, "squeeze": 0, "unsqueeze": 1}


def read_call(tracer: Tracer, node: fx.Node) -> None:
    """Read a call of a function or method; raises :class:`BadInput` for one that is not known."""
    target = node.target
    name = target if isinstance(target, str) else getattr(target, "__name__", str(target))
    values = [a for a in (*node.args, *node.kwargs.values()) if isinstance(a, fx.Node) and a in tracer.place]
    if read_tensor_call(tracer, node):
        return
    if asks_for_shape(node) and not (target is operator.getitem and (values or _divided(tracer, node))):
        return
    if values and is_view_of_input(tracer, node, values[0]):
        return
    if read_slice(tracer, node):
        return
    if target in known.CONCATENATIONS:
        _concatenate(tracer, node)
    elif name in ("flatten", "view", "reshape") and len(values) == 1:
        source = tracer.value(node, node.args[0])
        flat = is_flattening(node, tracer.steps[source].shape)
        kept = None if flat else view_of_units(node, tracer.steps[source].shape)
        if kept is not None:
            spatial(tracer, node, source, known.Reshape(kept))
        else:
            flatten(tracer, node, source, flat, f"{name}{node.args[1:]}")
    elif read_combination(tracer, node):
        return
    elif used := [a for a in node.all_input_nodes if a in tracer.given]:
        raise tracer.refusal(used[0], f"the tensor {tracer.given[used[0]].name!r} used directly")
    elif len(values) == 1:
        _map(tracer, node, values[0], name)
    else:
        raise tracer.refusal(node, f"{name}()")


def _map(tracer: Tracer, node: fx.Node, value: fx.Node, name: str) -> None:
    """Read a call of one value: elementwise, pooling, dropout or a mean over positions."""
    source = tracer.place[value]
    shape = tracer.steps[source].shape
    function = known.Replay(node, value)
    if known.is_elementwise(node):
        tracer.append(node, "elementwise", (source,), function, shape)
    elif node.target in known.POOLING_FUNCTIONS:
        spatial(tracer, node, source, function)
    elif node.target in known.DROPOUT_FUNCTIONS:
        p = node.kwargs.get("p", node.args[1] if len(node.args) > 1 else 0.5)
        tracer.append(node, "dropout", (source,), known.Dropout(node.target, p), shape)  # type: ignore[arg-type]
    elif name == "stochastic_depth" and (p := _of_rows(node)) is not None:
        tracer.append(node, "dropout", (source,), known.Dropout(known.drop_path, p), shape)
    elif name in AXES and _keeps_neurons(node, len(shape) + AXES[name]):
        spatial(tracer, node, source, function)
    else:
        raise tracer.refusal(node, f"{name}()")


def _of_rows(node: fx.Node) -> float | None:
    """Return the chance with which torchvision's stochastic depth drops each sample; None if not each."""
    given = {**dict(zip(("input", "p", "mode", "training"), node.args, strict=False)), **node.kwargs}
    p = given.get("p")
    row = given.get("mode") == "row" and given.get("training", True) is True
    return float(p) if row and isinstance(p, int | float) else None


def _divided(tracer: Tracer, node: fx.Node) -> bool:
    """Whether a call takes something out of the parts of a value."""
    return any(source in tracer.parts for source in node.all_input_nodes)


def _keeps_neurons(node: fx.Node, dimensions: int) -> bool:
    """Whether a reduction names its axes, and samples and neurons are not among them."""
    given = node.args[1:2] or tuple(node.kwargs[k] for k in ("dim", "axis") if k in node.kwargs)
    axes = [a for entry in given for a in (entry if isinstance(entry, tuple | list) else [entry])]
    return bool(axes) and all(type(axis) is int and axis % (dimensions + 1) >= 2 for axis in axes)


def _concatenate(tracer: Tracer, node: fx.Node) -> None:
    given = {**dict(zip(("tensors", "dim"), node.args, strict=False)), **node.kwargs}
    parts = given.get("tensors", ())
    if isinstance(parts, fx.Node) and parts in tracer.parts:
        places = [read_part(tracer, node, part) for part in tracer.parts[parts]]
        _join_places(tracer, node, places, given)
        return
    if not isinstance(parts, tuple | list) or not all(
        p in tracer.place for p in parts if isinstance(p, fx.Node)
    ):
        raise tracer.refusal(node, "a concatenation of something that is no value")
    _join_places(tracer, node, [tracer.value(node, part) for part in parts], given)


def _join_places(tracer: Tracer, node: fx.Node, places: list[int], given: dict[str, Any]) -> None:
    axis = given.get("dim", given.get("axis", 0))
    if not isinstance(axis, int) or axis % (1 + len(tracer.steps[places[0]].shape)) != 1:
        raise tracer.refusal(node, f"a concatenation along axis {axis}")
    features = Features.joined(tracer.features[i] for i in places)
    tracer.add(node, Step("concatenate", tuple(places), (), known.concatenate), features)
