"""Standalone modules: a compacted network as a torch.fx GraphModule of what torch itself has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from ticketsearch.wiring.compaction import Compaction
from ticketsearch.wiring.functions import Expansion, Select, Zeros
from ticketsearch.wiring.operations import BatchNormalization, Convolution, Reshape
from ticketsearch.wiring.steps import Step

__all__ = ["standalone"]

CONVOLUTIONS: dict[Any, type[nn.Module]] = {F.conv1d: nn.Conv1d, F.conv2d: nn.Conv2d, F.conv3d: nn.Conv3d}
NORMALIZATIONS: tuple[type[nn.Module], ...] = (nn.BatchNorm1d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def standalone(
    compaction: Compaction, tensors: Mapping[str, Tensor], input_shape: tuple[int, ...]
) -> fx.GraphModule:
    """Return the module of a compacted network, in evaluation mode; it needs nothing but torch to run.

    Parameters
    ----------
    compaction : kept units of the network, which has steps.
    tensors : parameters and buffers of the whole network.
    input_shape : shape of one sample.

    Names of parameters and buffers are those of the whole network. Dropout is left out.
    """
    builder = _Builder(compaction, tensors, input_shape)
    values = compaction.compacted.run(builder.input, builder.value)
    builder.graph.output(values[-1].node)
    module = fx.GraphModule(builder.root, builder.graph, class_name="CompactNetwork")
    module.graph.lint()
    return module.eval()


class _Builder:
    """The graph, and the tensors and modules that it uses.

    Attributes
    ----------
    root : holds the kept tensors by their names.
    graph : calls of modules and functions of torch.
    input : the samples.
    """

    def __init__(
        self, compaction: Compaction, tensors: Mapping[str, Tensor], input_shape: tuple[int, ...]
    ) -> None:
        self.compaction = compaction
        self.tensors = tensors
        self.input_shape = input_shape
        self.trained = {name for name, _ in compaction.wiring.module.named_parameters()}
        self.root = nn.Module()
        self.graph = fx.Graph()
        self.tracer = fx.proxy.GraphAppendingTracer(self.graph)
        self.input = fx.Proxy(self.graph.placeholder("x"), self.tracer)

    def value(self, step: Step, values: list[fx.Proxy]) -> fx.Proxy:
        """Return the value of a step."""
        function: Any = step.function
        if step.operation == "dropout":
            return values[0]
        if step.operation in ("linear", "normalize"):
            made = self._module(step)
            if made is not None:
                return self._call(made, values[0])
        if isinstance(function, Reshape):
            if step.operation == "input" and function.shape == self.input_shape:
                return values[0]
            flat = len(function.shape) == 1
            return values[0].flatten(1) if flat else values[0].reshape(-1, *function.shape)
        if isinstance(function, Zeros):
            return values[0].new_zeros((values[0].size(0), *function.shape))
        if isinstance(function, Expansion):
            return values[0].expand(-1, -1, *function.positions)
        if isinstance(function, Select):
            return self._selected(function, values[0])
        arguments = [None if name is None else self._tensor(name) for name in step.names]
        result: fx.Proxy = function(*values, *arguments)
        return result

    def _module(self, step: Step) -> str | None:
        """Make the module of a layer or batch normalisation whose tensors have a module's names.

        Returns its path, or None where a function computes the step.
        """
        given = [name for name in step.names if name is not None]
        path = given[0].rpartition(".")[0] if given else ""
        usual = [f"{path}.{key}" for key in ("weight", "bias", "running_mean", "running_var")]
        as_usual = all(name in (None, other) for name, other in zip(step.names, usual, strict=False))
        if not path or not as_usual or _has(self.root, path):
            return None
        kept = {name.rpartition(".")[2]: self._kept(name) for name in given}
        made = _layer(step, kept) if step.operation == "linear" else _normalization(step, kept)
        if made is None:
            return None
        made.load_state_dict(kept, strict=False)
        for name, parameter in made.named_parameters():
            parameter.requires_grad_(f"{path}.{name}" not in self.compaction.wiring.frozen)
        _place(self.root, path, made)
        return path

    def _call(self, path: str, value: fx.Proxy) -> fx.Proxy:
        return fx.Proxy(self.graph.call_module(path, (value.node,)), self.tracer)

    def _tensor(self, name: str) -> fx.Proxy:
        """Return a parameter or buffer by its name."""
        if not _has(self.root, name):
            tensor = self._kept(name)
            if name in self.trained:
                learns = name not in self.compaction.wiring.frozen
                tensor = nn.Parameter(tensor, requires_grad=learns)
            _place(self.root, name, tensor)
        return fx.Proxy(self.graph.get_attr(name), self.tracer)

    def _selected(self, function: Select, value: fx.Proxy) -> fx.Proxy:
        """Return the features that a selection takes: a view where they are consecutive."""
        first, count = function.numbers[0], len(function.numbers)
        if function.numbers == tuple(range(first, first + count)):
            return value.narrow(1, first, count)
        name = f"selected_{len(self.graph.nodes)}"
        self.root.register_buffer(name, torch.tensor(function.numbers))
        return value.index_select(1, fx.Proxy(self.graph.get_attr(name), self.tracer))

    def _kept(self, name: str) -> Tensor:
        return self.compaction.shrunk(name, self.tensors[name].detach()).clone()


def _layer(step: Step, kept: Mapping[str, Tensor]) -> nn.Module | None:
    """Return the Linear or ConvNd module of a layer, or None for another function."""
    weight, function = kept["weight"], step.function
    options: dict[str, Any] = {"bias": "bias" in kept, "dtype": weight.dtype}
    if function is F.linear:
        return nn.Linear(weight.shape[1], weight.shape[0], **options)
    if not isinstance(function, Convolution) or function.margins or function.function not in CONVOLUTIONS:
        return None
    kind: Callable[..., nn.Module] = CONVOLUTIONS[function.function]
    return kind(
        weight.shape[1] * function.groups,
        weight.shape[0],
        tuple(weight.shape[2:]),
        stride=function.stride,
        padding=function.padding,
        dilation=function.dilation,
        groups=function.groups,
        **options,
    )


def _normalization(step: Step, kept: Mapping[str, Tensor]) -> nn.Module | None:
    """Return the BatchNormNd module of a normalisation, or None for another function."""
    function, affine = step.function, "weight" in kept and "bias" in kept
    if not isinstance(function, BatchNormalization) or function.fixed or "running_mean" not in kept:
        return None
    if affine != ("weight" in kept or "bias" in kept):
        return None
    mean = kept["running_mean"]
    kind: Callable[..., nn.Module] = NORMALIZATIONS[len(step.shape) - 1]
    return kind(len(mean), eps=function.eps, momentum=function.momentum, affine=affine, dtype=mean.dtype)


def _has(root: nn.Module, path: str) -> bool:
    """Return whether a module or tensor has this path."""
    place: Any = root
    for part in path.split("."):
        if not hasattr(place, part):
            return False
        place = getattr(place, part)
    return True


def _place(root: nn.Module, path: str, value: nn.Module | Tensor) -> None:
    """Put a module, parameter or buffer at a path; modules on the way are made."""
    *way, last = path.split(".")
    place = root
    for part in way:
        if not hasattr(place, part):
            place.add_module(part, nn.Module())
        place = getattr(place, part)
    if isinstance(value, nn.Module):
        place.add_module(last, value)
    elif isinstance(value, nn.Parameter):
        place.register_parameter(last, value)
    else:
        place.register_buffer(last, value)
