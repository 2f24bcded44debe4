"""Calls: sums, concatenations, products and elementwise maps as functions and methods."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import fx

from ticketsearch.wiring import operations as known
from ticketsearch.wiring.combining import read_combination, read_tensor_call
from ticketsearch.wiring.functional import is_functional, is_transposition, read_functional
from ticketsearch.wiring.numbering import Features
from ticketsearch.wiring.refusals import words
from ticketsearch.wiring.shapes import counts_samples
from ticketsearch.wiring.shuffling import read_arranged, shuffle
from ticketsearch.wiring.slicing import read_part, read_slice
from ticketsearch.wiring.steps import Step
from ticketsearch.wiring.tracer import Tracer
from ticketsearch.wiring.views import is_reshape, is_view_of_input, reshape, spatial

__all__ = ["read_call"]

REDUCTIONS = {"mean", "amax", torch.mean, torch.amax}


def read_call(tracer: Tracer, node: fx.Node) -> None:
    """Read a call of a function or method; raises :class:`BadInput` for an unknown one."""
    target = node.target
    what = words(tracer.module, node)
    values = [
        a for a in (*node.args, *node.kwargs.values()) if isinstance(a, fx.Node) and a in tracer.step_of
    ]
    if read_arranged(tracer, node) or is_transposition(node) or read_tensor_call(tracer, node):
        return
    if values and is_view_of_input(tracer, node, values[0]):
        return
    if read_slice(tracer, node):
        return
    if target in known.CONCATENATIONS:
        _concatenate(tracer, node)
    elif target in known.SHUFFLES and len(values) == 1 and len(node.args) == 2:
        shuffle(tracer, node, tracer.value(node, node.args[0]), int(node.args[1]))  # type: ignore[arg-type]
    elif is_reshape(tracer, node) and len(values) == 1:
        reshape(tracer, node, tracer.value(node, node.args[0]))
    elif is_functional(node):
        read_functional(tracer, node)
    elif read_combination(tracer, node):
        return
    elif counts_samples(node):
        raise tracer.refusal(node, f"{what} that depends on the number of samples")
    elif used := [tracer.given[a].name for a in node.all_input_nodes if a in tracer.given]:
        raise tracer.refusal(node, f"{what} with {used[0]!r} itself")
    elif len(values) == 1:
        _map(tracer, node, values[0], what)
    else:
        raise tracer.refusal(node, what)


def _map(tracer: Tracer, node: fx.Node, value: fx.Node, what: str) -> None:
    """Read a call of one value: elementwise, pooling, dropout or a mean over positions."""
    source = tracer.step_of[value]
    shape = tracer.steps[source].shape
    function = known.Replay(node, value)
    if known.is_elementwise(node):
        tracer.append(node, "elementwise", (source,), function, shape)
    elif node.target in known.POOLING_FUNCTIONS:
        spatial(tracer, node, source, function, known.dimensions(node.target.__name__))
    elif node.target in known.DROPOUT_FUNCTIONS:
        _dropout(tracer, node, source)
    elif getattr(node.target, "__name__", "") == "stochastic_depth" and (p := _of_rows(node)) is not None:
        tracer.append(node, "dropout", (source,), known.Dropout(known.drop_path, p), shape)
    elif node.target in REDUCTIONS and _keeps_neurons(node, len(shape)):
        spatial(tracer, node, source, function)
    else:
        raise tracer.refusal(node, what)


def _dropout(tracer: Tracer, node: fx.Node, source: int) -> None:
    """Read dropout; its module is traced in training, where ``training=self.training`` is True."""
    given: dict[str, Any] = {**dict(zip(("input", "p", "training"), node.args, strict=False)), **node.kwargs}
    if given.get("training", given.get("train", True)):
        kind: Any = F.dropout if node.target is torch.dropout else node.target
        function = known.Dropout(kind, given.get("p", 0.5))
        tracer.append(node, "dropout", (source,), function, tracer.steps[source].shape)
    else:
        tracer.step_of[node] = source


def _of_rows(node: fx.Node) -> float | None:
    """Return the probability of torchvision's stochastic depth; None unless it drops single samples."""
    given = {**dict(zip(("input", "p", "mode", "training"), node.args, strict=False)), **node.kwargs}
    p = given.get("p")
    row = given.get("mode") == "row" and given.get("training", True) is True
    return float(p) if row and isinstance(p, int | float) else None


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
        p in tracer.step_of for p in parts if isinstance(p, fx.Node)
    ):
        raise tracer.refusal(node, "a concatenation of something that is not a value")
    _join_places(tracer, node, [tracer.value(node, part) for part in parts], given)


def _join_places(tracer: Tracer, node: fx.Node, places: list[int], given: dict[str, Any]) -> None:
    axis = given.get("dim", given.get("axis", 0))
    if not isinstance(axis, int) or axis % (1 + len(tracer.steps[places[0]].shape)) != 1:
        raise tracer.refusal(node, f"a concatenation along axis {axis}")
    features = Features.joined(tracer.features[i] for i in places)
    tracer.add(node, Step("concatenate", tuple(places), (), known.concatenate), features)
