"""The operations of torch that the wiring supports, as plain callables of tensors."""

from __future__ import annotations

import copy
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

__all__ = [
    "ARITHMETIC",
    "CONCATENATIONS",
    "CONVOLUTIONS",
    "DROPOUTS",
    "DROPOUT_FUNCTIONS",
    "ELEMENTWISE_FUNCTIONS",
    "ELEMENTWISE_METHODS",
    "ELEMENTWISE_MODULES",
    "NORMALIZATIONS",
    "PADS",
    "POOLINGS",
    "POOLING_FUNCTIONS",
    "SHUFFLES",
    "BatchNormalization",
    "Convolution",
    "Dropout",
    "LayerNormalization",
    "Replay",
    "Reshape",
    "concatenate",
    "dimensions",
    "drop_path",
    "factor",
    "is_elementwise",
    "module_function",
]

# Deterministic maps of each feature by itself; only PReLU has parameters of its own.
ELEMENTWISE_MODULES = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Tanh),
    *(nn.Sigmoid, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.Softplus, nn.Softsign, nn.LogSigmoid),
    *(nn.Tanhshrink, nn.Hardshrink, nn.Softshrink, nn.Threshold, nn.Identity, nn.PReLU),
)
ELEMENTWISE_FUNCTIONS = {
    *(torch.relu, torch.tanh, torch.sigmoid, torch.abs, torch.sin, torch.cos, torch.square, torch.neg),
    *(torch.exp, torch.clamp, F.relu, F.relu6, F.leaky_relu, F.elu, F.selu, F.celu, F.gelu, F.silu, F.mish),
    *(F.tanh, F.sigmoid, F.hardtanh, F.hardswish, F.hardsigmoid, F.softplus, F.softsign, F.logsigmoid),
    *(F.tanhshrink, F.hardshrink, F.softshrink, F.threshold, operator.neg),
}
ELEMENTWISE_METHODS = {
    *("relu", "relu_", "tanh", "tanh_", "sigmoid", "sigmoid_", "abs", "sin", "cos", "square", "neg", "exp"),
    *("clamp", "contiguous"),
}
# With a number as one operand these are elementwise; a sum of two values ties their neurons, and a product of
# two functions of one value is a function of that value.
ARITHMETIC = {
    *(operator.add, operator.sub, operator.mul, operator.truediv, operator.pow),
    *(torch.add, torch.sub, torch.mul, torch.div, torch.pow, torch.rsub),
    *("add", "add_", "sub", "sub_", "mul", "mul_", "div", "div_", "pow"),
}
# Multiples of a value, where the other operand is a number.
QUOTIENTS = {operator.truediv, torch.div, "div", "div_"}
SCALINGS = {operator.mul, torch.mul, "mul", "mul_", operator.neg, torch.neg, "neg", *QUOTIENTS}
# Channel shuffles by one call of a value and a number of groups.
SHUFFLES = {torch.channel_shuffle, torch.native_channel_shuffle, F.channel_shuffle}
CONCATENATIONS = {torch.cat, torch.concat, torch.concatenate}

CONVOLUTIONS: dict[type[nn.Module], Callable[..., Tensor]] = {
    nn.Conv1d: F.conv1d,
    nn.Conv2d: F.conv2d,
    nn.Conv3d: F.conv3d,
}
NORMALIZATIONS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
DROPOUT_FUNCTIONS = {torch.dropout, F.dropout, F.dropout1d, F.dropout2d, F.dropout3d}
# Modes of paddings, in the words of torch.nn.functional.pad.
PADS: dict[type[nn.Module], str] = {
    **dict.fromkeys((nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d), "constant"),
    **dict.fromkeys((nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReflectionPad3d), "reflect"),
    **dict.fromkeys((nn.ReplicationPad1d, nn.ReplicationPad2d, nn.ReplicationPad3d), "replicate"),
    **dict.fromkeys((nn.CircularPad1d, nn.CircularPad2d, nn.CircularPad3d), "circular"),
}
POOLINGS = (
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
    *(nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d, nn.Upsample),
)
POOLING_FUNCTIONS = {
    *(F.max_pool1d, F.max_pool2d, F.max_pool3d, F.avg_pool1d, F.avg_pool2d, F.avg_pool3d),
    *(torch.max_pool1d, torch.max_pool2d, torch.avg_pool1d),
    *(F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d),
    *(F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.interpolate),
}


@dataclass(frozen=True)
class Convolution:
    """A convolution of a value with a weight and a bias; ``padding`` pads by another mode than zeros."""

    function: Callable[..., Tensor]
    stride: tuple[int, ...]
    padding: tuple[int, ...] | str
    dilation: tuple[int, ...]
    groups: int
    padding_mode: str = "zeros"
    margins: tuple[int, ...] = ()

    @classmethod
    def of(cls, module: Any) -> Convolution:
        """Return the convolution of a ConvNd module."""
        margins, padding = (), module.padding
        if module.padding_mode != "zeros":
            margins, padding = tuple(module._reversed_padding_repeated_twice), tuple(0 for _ in module.stride)
        return cls(
            CONVOLUTIONS[type(module)],
            module.stride,
            padding,
            module.dilation,
            module.groups,
            module.padding_mode,
            margins,
        )

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the convolution of ``x``."""
        if self.margins:
            x = F.pad(x, self.margins, mode=self.padding_mode)
        return self.function(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)


@dataclass(frozen=True)
class BatchNormalization:
    """Batch normalisation: by the running statistics, or in training by those of the batch.

    ``fixed`` normalises by the running statistics, if there are any, in training too.
    """

    momentum: float | None
    eps: float
    fixed: bool = False

    def __call__(
        self,
        x: Tensor,
        scale: Tensor | None,
        shift: Tensor | None,
        mean: Tensor | None,
        variance: Tensor | None,
        *,
        training: bool = False,
    ) -> Tensor:
        """Return ``x`` normalised; in training the running statistics move in place."""
        by_batch = (training and not self.fixed) or mean is None
        return F.batch_norm(x, mean, variance, scale, shift, by_batch, self.momentum or 0.0, self.eps)


@dataclass(frozen=True)
class LayerNormalization:
    """Layer normalisation over the whole of each sample."""

    shape: tuple[int, ...]
    eps: float

    def __call__(self, x: Tensor, scale: Tensor | None, shift: Tensor | None) -> Tensor:
        """Return ``x`` normalised."""
        return F.layer_norm(x, self.shape, scale, shift, self.eps)


@dataclass(frozen=True)
class Dropout:
    """Dropout; draws from torch's global generator, and does nothing outside training."""

    function: Callable[..., Tensor]
    p: float

    def __call__(self, x: Tensor, *, training: bool = False) -> Tensor:
        """Return ``x`` with some features dropped in training."""
        return self.function(x, self.p, training) if training else x


def drop_path(x: Tensor, p: float, training: bool) -> Tensor:
    """Return ``x`` with whole samples dropped: stochastic depth (Huang et al. 2016) as in torchvision."""
    if not training or p == 0:
        return x
    kept = torch.empty(len(x), *[1] * (x.ndim - 1), dtype=x.dtype, device=x.device).bernoulli_(1 - p)
    return x * (kept / (1 - p) if p < 1 else kept)


@dataclass(frozen=True)
class Reshape:
    """Gives each sample a shape."""

    shape: tuple[int, ...]

    def __call__(self, x: Tensor) -> Tensor:
        """Return ``x`` as ``(samples, *shape)``."""
        return x.reshape(len(x), *self.shape)


def concatenate(*values: Tensor) -> Tensor:
    """Return values side by side along the neuron axis."""
    return torch.cat(values, dim=1)


def dimensions(name: str) -> int | None:
    """Return the number of axes of positions in the name of an operation of torch; None for any number."""
    match = re.search(r"([123])d(_with_indices)?$", name.lower())
    return int(match[1]) if match else None


class Replay:
    """An fx call as a function of one tensor; a class, so that it can be sent to worker processes."""

    def __init__(self, node: fx.Node, value: fx.Node) -> None:
        self.target = node.target
        self.method = node.op == "call_method"
        self.arguments: list[Any] = [None if a is value else a for a in node.args]
        self.open = [i for i, a in enumerate(node.args) if a is value]
        self.keywords = {k: v for k, v in node.kwargs.items() if k != "inplace" and v is not value}
        self.named = [k for k, v in node.kwargs.items() if v is value]

    def __call__(self, x: Tensor) -> Tensor:
        """Return the call's result with ``x`` in the open places."""
        arguments = list(self.arguments)
        for i in self.open:
            arguments[i] = x
        keywords = self.keywords | dict.fromkeys(self.named, x)
        result: Tensor  # or a proxy, where a graph is made of steps
        if self.method:
            result = getattr(x, str(self.target).rstrip("_"))(*arguments[1:], **keywords)
        else:
            result = self.target(*arguments, **keywords)  # type: ignore[operator]
        return result


def is_elementwise(node: fx.Node) -> bool:
    """Return whether a call of one tensor, beside numbers, maps each of its entries separately."""
    if sum(isinstance(a, fx.Node) for a in (*node.args, *node.kwargs.values())) != 1:
        return False
    if node.target in ARITHMETIC:
        return sum(isinstance(a, int | float) for a in node.args) == 1 and not node.kwargs
    return node.target in (ELEMENTWISE_METHODS if node.op == "call_method" else ELEMENTWISE_FUNCTIONS)


def factor(function: object) -> float:
    """Return the absolute factor of an elementwise call; 1 for any other map.

    Activations are the identity for a flow, but a branch that is scaled carries a scaled flow.
    """
    if not isinstance(function, Replay) or function.target not in SCALINGS:
        return 1.0
    if function.target in QUOTIENTS and function.open != [0]:
        return 1.0  # a number divided by the value is not a multiple of it
    result = function(torch.ones((), dtype=torch.float64))
    return abs(float(result))


def module_function(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return a copy of a module without parameters as a function without side effects."""
    function: Any = copy.deepcopy(module)
    for hooks in (function._forward_hooks, function._forward_pre_hooks):
        hooks.clear()  # hooks are steps of their own
    if hasattr(function, "inplace"):
        function.inplace = False
    copied: Callable[[Tensor], Tensor] = function
    return copied
