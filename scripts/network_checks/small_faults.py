"""Small networks that tracing and training take for what they are not, and networks that crash.

Pooling over neurons, tensors that do not learn, forwards that change from call to call, kernels that read
padding alone, modules that are built in other ways.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

from network_checks.small_parts import (
    IMAGE,
    SEQUENCE,
    VECTOR,
    Small,
    behind,
    conv,
    convnet,
    let,
    linear,
    mlp,
    relu,
    row,
    vector,
)


def _no_grad(self: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        hidden = relu(self.a(x))
    return self.b(hidden)


def _counting(self: Any, x: Tensor) -> Tensor:
    self.calls = getattr(self, "calls", 0) + 1
    return self.b(relu(self.a(x))) * (1.0 + self.calls)


def _random_depth(self: Any, x: Tensor) -> Tensor:
    hidden = relu(self.a(x))
    if random.random() < 0.5:
        hidden = hidden + self.m(hidden)
    return self.b(hidden)


def _random_numpy(self: Any, x: Tensor) -> Tensor:
    hidden = relu(self.a(x))
    return self.b(hidden + self.m(hidden) * (2.0 if np.random.rand() < 0.5 else 1.0))  # noqa: NPY002


def _random_head(self: Any, x: Tensor) -> Tensor:
    hidden = relu(self.a(x))
    return self.b(hidden * (2 if random.random() < 0.5 else 1))


def _in_place(self: Any, x: Tensor) -> Tensor:
    hidden = self.a(x)
    return self.b(F.relu(hidden, inplace=True) + self.m(hidden))


def _in_place_behind_zero(self: Any, x: Tensor) -> Tensor:
    hidden = self.a(x)
    branch = self.m(hidden)
    return self.b(hidden + self.n(F.relu(branch, inplace=True) + branch.sigmoid()))


def _zero(layer: nn.Module) -> nn.Module:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def _pruned(*names: str) -> Callable[[nn.Module], None]:
    def change(module: nn.Module) -> None:
        for name in names:
            prune.l1_unstructured(module.get_submodule(name), "weight", amount=0.4)

    return change


def _baked(module: nn.Sequential) -> nn.Module:
    for child in module:
        if prune.is_pruned(child):
            prune.remove(child, "weight")
    return module


class _Positive(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.softplus(x)


POOLING_OVER_NEURONS = {
    "MaxPool1d on vectors": Small(
        "refused", VECTOR, row(linear(12, 16), nn.ReLU, lambda: nn.MaxPool1d(3, 1, 1), linear(16, 5))
    ),
    "max_pool1d on vectors": Small(
        "refused", VECTOR, vector(lambda s, x: s.b(F.max_pool1d(relu(s.a(x)), 3, 1, 1)))
    ),
    "AvgPool1d on vectors": Small(
        "refused", VECTOR, row(linear(12, 16), nn.ReLU, lambda: nn.AvgPool1d(3, 1, 1), linear(16, 5))
    ),
    "AvgPool2d on (channels, length)": Small(
        "refused",
        SEQUENCE,
        row(lambda: nn.Conv1d(4, 8, 3, padding=1), lambda: nn.AvgPool2d(3, 1, 1), nn.Flatten, linear(128, 5)),
    ),
    "MaxPool2d of channels on (channels, length)": Small(
        "refused",
        SEQUENCE,
        row(
            *(lambda: nn.Conv1d(4, 8, 3, padding=1), lambda: nn.MaxPool2d((3, 1), 1, (1, 0)), nn.Flatten),
            linear(128, 5),
        ),
    ),
    "ZeroPad2d on (channels, length)": Small(
        "refused",
        SEQUENCE,
        row(
            *(lambda: nn.Conv1d(4, 8, 3, padding=1), lambda: nn.ZeroPad2d((0, 0, 1, -1)), nn.Flatten),
            linear(128, 5),
        ),
    ),
    "MaxPool1d on the raw input": Small(
        "either", VECTOR, row(lambda: nn.MaxPool1d(3, 1, 1), linear(12, 8), nn.ReLU, linear(8, 5))
    ),
    "MaxPool1d on (channels, length)": Small(
        "traced",
        SEQUENCE,
        row(lambda: nn.Conv1d(4, 8, 3), nn.ReLU, lambda: nn.MaxPool1d(2), nn.Flatten, linear(56, 5)),
    ),
}
WITHOUT_LEARNING = {
    "frozen first layer": Small("traced", VECTOR, behind(mlp, lambda m: m[0].requires_grad_(False))),
    "frozen convolution": Small("traced", IMAGE, behind(convnet, lambda m: m[0].requires_grad_(False))),
    "frozen biases": Small(
        "traced", VECTOR, behind(mlp, lambda m: [m[i].bias.requires_grad_(False) for i in (0, 2)])
    ),
    "frozen zero biases": Small(
        "traced",
        VECTOR,
        behind(mlp, lambda m: [nn.init.zeros_(m[i].bias).requires_grad_(False) for i in (0, 2)]),
    ),
    "frozen scale and shift": Small("traced", IMAGE, behind(convnet, lambda m: m[1].requires_grad_(False))),
    "all frozen but the head": Small(
        "traced", VECTOR, behind(mlp, lambda m: [m[i].requires_grad_(False) for i in (0, 2)])
    ),
    "no_grad in forward": Small("refused", VECTOR, vector(_no_grad)),
    "detach in forward": Small("refused", VECTOR, vector(lambda s, x: s.b(relu(s.a(x)).detach()))),
    ".data in forward": Small("refused", VECTOR, vector(lambda s, x: s.b(relu(s.a(x)).data))),
    "hook on a parameter": Small(
        "refused", VECTOR, behind(mlp, lambda m: m[0].weight.register_hook(lambda g: g * 2))
    ),
    "full backward hook": Small(
        "refused",
        VECTOR,
        behind(mlp, lambda m: m[2].register_full_backward_hook(lambda m, i, o: tuple(g * 2 for g in i))),
    ),
    "forward hook that doubles": Small(
        "either", VECTOR, behind(mlp, lambda m: m[0].register_forward_hook(lambda m, i, o: o * 2))
    ),
    "forward hook that only looks": Small(
        "either", VECTOR, behind(mlp, lambda m: m[0].register_forward_hook(lambda m, i, o: None))
    ),
}
OTHER_FROM_CALL_TO_CALL = {
    "random.random depth": Small("refused", VECTOR, vector(_random_depth)),
    "random.random depth behind zeros": Small(
        "refused", VECTOR, vector(_random_depth, m=lambda: _zero(nn.Linear(10, 10)))
    ),
    "numpy's generator": Small("refused", VECTOR, vector(_random_numpy)),
    "random before a zero head": Small(
        "refused", VECTOR, vector(_random_head, b=lambda: _zero(nn.Linear(10, 5)))
    ),
    "torch.rand noise": Small(
        "refused", VECTOR, vector(lambda s, x: s.b(relu(s.a(x)) * torch.rand(1, dtype=x.dtype)))
    ),
    "torch.randn_like noise": Small(
        "refused", VECTOR, vector(lambda s, x: let(s.a(x), lambda y: s.b(relu(y) + torch.randn_like(y))))
    ),
    "counts its calls": Small("refused", VECTOR, vector(_counting)),
    "in-place relu before a sum": Small("either", VECTOR, vector(_in_place)),
    "in-place relu behind a zero layer": Small(
        "either", VECTOR, vector(_in_place_behind_zero, n=lambda: _zero(nn.Linear(10, 10)))
    ),
    "zero head": Small(
        "traced", VECTOR, vector(lambda s, x: s.b(relu(s.a(x))), b=lambda: _zero(nn.Linear(10, 5)))
    ),
    "dropout that never drops": Small(
        "either", VECTOR, vector(lambda s, x: s.b(F.dropout(relu(s.a(x)), 0.5, False)))
    ),
    "dropout that always drops": Small(
        "refused", VECTOR, vector(lambda s, x: s.b(F.dropout(relu(s.a(x)), 0.5, True)))
    ),
    "dropout": Small("traced", VECTOR, row(linear(12, 10), nn.ReLU, nn.Dropout, linear(10, 5))),
    "dropout of channels": Small(
        "traced", IMAGE, row(conv(3, 8, 3), nn.ReLU, nn.Dropout2d, nn.Flatten, linear(288, 5))
    ),
    "dropout by training flag": Small(
        "either", VECTOR, vector(lambda s, x: s.b(F.dropout(relu(s.a(x)), 0.5, s.training)))
    ),
    "scaled in training alone": Small(
        "refused", VECTOR, vector(lambda s, x: s.b(relu(s.a(x))) * (2.0 if s.training else 1.0))
    ),
}
READS_PADDING = {
    "convolution on 1×1 maps": Small(
        "traced",
        IMAGE,
        row(
            *(conv(3, 8, 3, stride=4, padding=1), nn.ReLU, lambda: nn.AdaptiveAvgPool2d(1)),
            *(conv(8, 8, 3, padding=1), nn.ReLU, nn.Flatten, linear(8, 5)),
        ),
    ),
    "convolution of stride 2 on 2×2 maps": Small(
        "traced",
        IMAGE,
        row(
            *(conv(3, 8, 3, padding=1), nn.ReLU, lambda: nn.MaxPool2d(4)),
            *(conv(8, 8, 3, stride=2, padding=1), nn.ReLU, nn.Flatten, linear(8, 5)),
        ),
    ),
    "dilated convolution on 4×4 maps": Small(
        "traced",
        IMAGE,
        row(
            *(conv(3, 8, 3, padding=1), nn.ReLU, lambda: nn.MaxPool2d(2)),
            *(conv(8, 8, 3, padding=4, dilation=4), nn.ReLU, nn.Flatten, linear(128, 5)),
        ),
    ),
    "grouped convolution on 1×1 maps": Small(
        "traced",
        IMAGE,
        row(
            *(conv(3, 8, 3, padding=1), nn.ReLU, lambda: nn.AdaptiveAvgPool2d(1)),
            *(conv(8, 8, 3, padding=1, groups=2), nn.ReLU, nn.Flatten, linear(8, 5)),
        ),
    ),
    "depthwise convolution on 1×1 maps": Small(
        "traced",
        IMAGE,
        row(
            *(conv(3, 8, 3, padding=1), nn.ReLU, lambda: nn.AdaptiveAvgPool2d(1)),
            *(conv(8, 8, 3, padding=1, groups=8), nn.ReLU, nn.Flatten, linear(8, 5)),
        ),
    ),
    "reflected padding": Small(
        "traced",
        IMAGE,
        row(conv(3, 8, 3, padding=1, padding_mode="reflect"), nn.ReLU, nn.Flatten, linear(512, 5)),
    ),
}
BUILT_OTHERWISE = {
    "parametrized bias": Small(
        "either",
        VECTOR,
        behind(mlp, lambda m: parametrize.register_parametrization(m[0], "bias", _Positive())),
    ),
    "parametrized weight": Small(
        "either",
        VECTOR,
        behind(mlp, lambda m: parametrize.register_parametrization(m[0], "weight", _Positive())),
    ),
    "parametrized batch norm": Small(
        "either",
        IMAGE,
        behind(convnet, lambda m: parametrize.register_parametrization(m[1], "weight", _Positive())),
    ),
    "weight norm": Small("either", VECTOR, behind(mlp, lambda m: parametrizations.weight_norm(m[0]))),
    "old weight norm": Small("either", VECTOR, behind(mlp, lambda m: nn.utils.weight_norm(m[0]))),
    "spectral norm": Small("either", VECTOR, behind(mlp, lambda m: parametrizations.spectral_norm(m[0]))),
    "pruned by torch": Small("either", VECTOR, behind(mlp, _pruned("0", "2")), _baked),
    "lazy layers": Small("either", VECTOR, row(lambda: nn.LazyLinear(8), nn.ReLU, lambda: nn.LazyLinear(5))),
    "on meta": Small("refused", VECTOR, behind(mlp, lambda m: m.to("meta"))),
    "DataParallel": Small("either", VECTOR, lambda: nn.DataParallel(mlp()), lambda m: m.module),
}
