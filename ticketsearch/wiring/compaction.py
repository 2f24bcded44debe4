"""Compaction: the live part of a masked network as a smaller network that computes the same.

A unit is removed if no kept path leads from it to an output, or if its value is exactly zero during the whole
training: it has no input, and no bias, shift or map makes it non-zero (the rule of dead units, applied to the
given initial tensors). The smaller network computes the same outputs, and gets the same gradients, as the
whole masked network.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ticketsearch.masks import Mask, MaskSpec, live_edges
from ticketsearch.typing import Indices
from ticketsearch.wiring.constants import is_constant, shifts
from ticketsearch.wiring.functions import Select, Zeros
from ticketsearch.wiring.operations import Convolution, Reshape
from ticketsearch.wiring.steps import Step, Wiring

__all__ = ["Compaction", "Widths", "compact", "fixed_groups", "live_groups", "spec_for", "whole"]

# (size of each group, number of its live units) -> number of its units to keep.
Widths = Callable[[tuple[int, ...], tuple[int, ...]], Sequence[int]]


@dataclass(frozen=True, eq=False)
class Compaction:
    """A smaller network: the kept entries of values and tensors, and the steps that compute on them.

    Attributes
    ----------
    wiring : of the whole network.
    steps : the steps of the wiring, on values of kept features alone.
    features : for each value the indices of its kept features (along the axis after the samples).
    places : for each tensor that has become smaller the indices of its kept entries along the first axes.
    """

    wiring: Wiring
    steps: tuple[Step, ...]
    features: tuple[Indices, ...]
    places: Mapping[str, tuple[Indices, ...]]

    @property
    def compacted(self) -> Wiring:
        """The wiring that runs the smaller network; its spec is that of the whole network."""
        return replace(self.wiring, steps=self.steps)

    def shrunk(self, name: str, tensor: Tensor) -> Tensor:
        """Return the kept entries of a tensor of the whole network; the tensor itself if all are kept."""
        for axis, numbers in enumerate(self.places.get(name, ())):
            if len(numbers) < tensor.shape[axis]:
                tensor = tensor.index_select(axis, torch.from_numpy(numbers).to(tensor.device))
        return tensor

    def scattered(self, name: str, small: Tensor, into: Tensor) -> Tensor:
        """Return a copy of ``into``, a tensor of the whole network, with ``small`` at its kept entries."""
        places = [torch.from_numpy(numbers).to(into.device) for numbers in self.places.get(name, ())]
        if not places:
            return small.clone()
        whole = into.clone()
        whole[torch.meshgrid(*places, indexing="ij")] = small
        return whole


def compact(wiring: Wiring, kept: Sequence[Indices]) -> Compaction:
    """Return the network of the kept units.

    ``kept`` has for each neuron group the numbers of its kept units, ascending: all live units, all units of
    the groups in :func:`fixed_groups`, and at least one of every group.
    """
    features: list[Indices] = []
    steps: list[Step] = []
    places: dict[str, tuple[Indices, ...]] = {}
    sizes = {name: tuple(tensor.shape) for name, tensor in _tensors(wiring)}
    for node, step in zip(wiring.spec.nodes, wiring.steps, strict=True):
        inputs = [features[i] for i in step.inputs]
        before = [wiring.steps[i].shape for i in step.inputs]
        shape = step.shape
        function: Any = step.function
        if step.operation in ("input", "linear", "zeros"):
            kept_features = _joined(
                [kept[g] for g in node.groups], [wiring.spec.groups[g].size for g in node.groups]
            )
        elif step.operation == "concatenate":
            kept_features = _joined(inputs, [source_shape[0] for source_shape in before])
        elif isinstance(function, Select):
            kept_features, function = function.among(inputs[0])
        elif step.operation == "spatial":
            block = max(1, shape[0] // before[0][0])  # more than 1 where feature maps are flattened
            parts = max(1, before[0][0] // shape[0])  # and where features become feature maps again
            kept_features = (inputs[0][::parts, None] // parts * block + np.arange(block)).ravel()
        else:
            kept_features = inputs[0]
        smaller_shape = (len(kept_features), *shape[1:])
        if step.operation == "linear":
            # All rows and columns of a convolution of other groups are kept.
            places[str(step.names[0])] = (
                (kept_features, inputs[0]) if _divisions(step) == 1 else (kept_features,)
            )
            if _divisions(step) > 1 and _depthwise(wiring.spec, step):
                function = replace(function, groups=len(kept_features))
        elif isinstance(function, Reshape | Zeros) and step.operation in ("spatial", "zeros"):
            function = type(function)(smaller_shape)
        names = step.names[1:] if step.operation == "linear" else step.names
        if step.operation != "mix":
            places |= {
                name: (*map(np.arange, sizes[name][: wiring.numbered_axis(name, sizes[name])]), kept_features)
                for name in names
                if name is not None and name in wiring.axes
            }
        features.append(kept_features)
        steps.append(step._replace(shape=smaller_shape, function=function))
    smaller = {
        name: numbers
        for name, numbers in places.items()
        if any(len(entries) < size for entries, size in zip(numbers, sizes[name], strict=False))
    }
    return Compaction(wiring, tuple(steps), tuple(features), smaller)


def whole(wiring: Wiring) -> Compaction:
    """Return the compaction that keeps all units, also for a network without steps."""
    if not wiring.steps:
        return Compaction(wiring, (), (), {})
    return compact(wiring, [np.arange(group.size) for group in wiring.spec.groups])


def live_groups(mask: Mask, spec: MaskSpec, fixed: Container[int], widths: Widths) -> list[Indices]:
    """Return the numbers of the units to keep of each group, for :func:`compact`.

    These are the live units and the first dead ones, as many in all as ``widths`` asks for. ``spec`` comes
    from :func:`spec_for`, ``fixed`` from :func:`fixed_groups`.
    """
    _, units = live_edges(mask, spec)
    alive = tuple(
        group.size if index in fixed else max(1, int(np.count_nonzero(live)))
        for index, (group, live) in enumerate(zip(spec.groups, units, strict=True))
    )
    wanted = widths(tuple(group.size for group in spec.groups), alive)
    # Stable: live units first, then dead ones, each in ascending order.
    return [
        np.sort(np.argsort(~live, kind="stable")[:count]) for live, count in zip(units, wanted, strict=True)
    ]


def fixed_groups(wiring: Wiring) -> frozenset[int]:
    """Return the groups that keep all units.

    They are the inputs, the outputs, groups that are normalised over their units, and groups that grouped
    (but not depthwise) convolutions divide into equal parts.
    """
    spec = wiring.spec
    fixed = {i for i, group in enumerate(spec.groups) if group.kind != "hidden"}
    for node, step in zip(spec.nodes, wiring.steps, strict=True):
        if step.operation == "mix" or (_divisions(step) > 1 and not _depthwise(spec, step)):
            fixed |= {*node.groups, *(g for i in node.inputs for g in spec.nodes[i].groups)}
    return frozenset(fixed)


def _divisions(step: Step) -> int:
    return step.function.groups if isinstance(step.function, Convolution) else 1


def _depthwise(spec: MaskSpec, step: Step) -> bool:
    return spec.pieces[spec.layer_pieces[step.layer][0]].diagonal


def spec_for(wiring: Wiring, tensors: Mapping[str, Tensor]) -> MaskSpec:
    """Return the spec whose rule of dead units holds for these initial parameters and buffers.

    The wiring's own spec follows the tensors of its module; another initialization may have other biases.
    """
    names = {name for step in wiring.steps for name in shifts(step)}
    names |= {
        name for step in wiring.steps for name in step.names if name in wiring.frozen and step.layer < 0
    }
    initial = {name: tensor for name, tensor in _tensors(wiring) if name in names}
    tensors = {**initial, **tensors}  # ``tensors`` of dense networks have no buffers
    if all(_is_zero(tensors[name]) == _is_zero(tensor) for name, tensor in initial.items()):
        return wiring.spec
    nodes = tuple(
        node._replace(constant=is_constant(wiring.steps, index, tensors, wiring.frozen))
        for index, node in enumerate(wiring.spec.nodes)
    )
    return replace(wiring.spec, nodes=nodes)


def _tensors(wiring: Wiring) -> list[tuple[str, Tensor]]:
    return [*wiring.module.named_parameters(), *wiring.module.named_buffers()]


def _is_zero(tensor: Tensor) -> bool:
    return not bool(tensor.ne(0).any())


def _joined(parts: Sequence[Indices], sizes: Sequence[int]) -> Indices:
    """Return indices along an axis that concatenates parts of these sizes."""
    starts = np.cumsum([0, *sizes]).tolist()
    return np.concatenate([part + start for part, start in zip(parts, starts, strict=False)])
