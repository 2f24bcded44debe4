"""Wiring: what a trace finds, that renumbering changes no output, and what is refused by name and place."""

import copy
import itertools
import json
import math
from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from blocks import BLOCKS
from conftest import every, examples, refusal
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ticketsearch.datasets import from_arrays
from ticketsearch.masks import MaskSpec, Segment, layer_counts, live_units, permute, random_order
from ticketsearch.models import initialize, mlp
from ticketsearch.pruners import prune
from ticketsearch.wiring import operations, trace


class Net(nn.Module):
    """Two layers a (5 → 5), b (5 → 3) and whatever the forward function makes of them and other parts."""

    def __init__(self, forward, **parts):
        super().__init__()
        for name, part in ({"a": nn.Linear(5, 5), "b": nn.Linear(5, 3)} | parts).items():
            if part is not None:
                setattr(self, name, part)
        self.compute = forward

    def forward(self, x):
        return self.compute(self, x)


def plane(forward, positions=4, **parts):
    """A network on images: a convolution a (3 → 4), whatever the function makes of it, and a layer b."""
    return Net(forward, **({"a": nn.Conv2d(3, 4, 3), "b": nn.Linear(4 * positions, 3)} | parts))


def column(*layers, features=64):
    """A convolution (3 → 4), layers, flattening and a Linear layer to 3 classes."""
    return nn.Sequential(nn.Conv2d(3, 4, 3), *layers, nn.Flatten(), nn.Linear(features, 3))


class Residual(nn.Module):
    """Blocks h = h + up(relu(down(h))) between an entry and an exit layer: one tied group."""

    def __init__(self, width=6, inner=(3, 4)):
        super().__init__()
        self.entry = nn.Linear(5, width)
        self.down = nn.ModuleList(nn.Linear(width, size) for size in inner)
        self.up = nn.ModuleList(nn.Linear(size, width, bias=False) for size in inner)
        self.exit = nn.Linear(width, 3)

    def forward(self, x):
        h = torch.relu(self.entry(x))
        for down, up in zip(self.down, self.up, strict=True):
            h = h + up(F.silu(down(h)))
        return self.exit(h)


def let(value, then):
    """Return ``then(value)``: names an intermediate value inside a lambda."""
    return then(value)


IMAGE = (3, 6, 6)  # behind a 3×3 convolution 4×4, behind that and 2×2 pooling 2×2
VECTORS = {
    "mlp": lambda: mlp((5,), 3, "7,4"),
    "mlp without biases": lambda: mlp((5,), 3, "4,4", bias=False),
    "sequential": lambda: nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)),
    "nested": lambda: nn.Sequential(nn.Sequential(nn.Linear(5, 4), nn.GELU()), nn.Linear(4, 3)),
    "in-place relu": lambda: nn.Sequential(nn.Linear(5, 4), nn.ReLU(inplace=True), nn.Linear(4, 3)),
    "linear after linear": lambda: nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3)),
    "one layer": lambda: nn.Sequential(nn.Linear(5, 3)),
    "map on the output": lambda: nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3), nn.Tanh()),
    "residual": Residual,
    "residual to the input": lambda: Net(lambda m, x: m.b(x + F.relu(m.a(x)))),
    "residual to the output": lambda: Net(
        lambda m, x: let(m.b(m.a(x)), lambda o: o + m.c(F.relu(m.d(o)))), c=nn.Linear(4, 3), d=nn.Linear(3, 4)
    ),
    "two branches": lambda: Net(
        lambda m, x: m.b(torch.tanh(m.a(x)) + torch.sigmoid(m.c(x))), c=nn.Linear(5, 5)
    ),
    "two readers": lambda: Net(lambda m, x: let(m.a(x), lambda h: m.b(h) + m.c(h.abs())), c=nn.Linear(5, 3)),
    "doubled": lambda: Net(lambda m, x: let(m.a(x).relu(), lambda h: m.b(h + h))),
    "functional": lambda: Net(lambda m, x: m.b(F.leaky_relu(m.a(x), negative_slope=0.3))),
    "functional in place": lambda: Net(lambda m, x: m.b(F.relu(m.a(x), inplace=True))),
    "functional in place by position": lambda: Net(lambda m, x: m.b(F.relu(m.a(x), True))),
    "arithmetic": lambda: Net(lambda m, x: 1 - m.b((m.a(x) * 0.5 + 1) / 3) ** 2),
    "reversed arithmetic": lambda: Net(lambda m, x: -m.b(torch.mul(torch.add(m.a(x), 2), 3) - 0.1)),
    "by keyword": lambda: Net(lambda m, x: m.b(input=m.a(x).sin())),
    "layers named as groups": lambda: Net(
        lambda m, x: m.output(m.input(x).relu()),
        a=None,
        b=None,
        input=nn.Linear(5, 4),
        output=nn.Linear(4, 3),
    ),
    "swish by hand": lambda: Net(lambda m, x: let(m.a(x), lambda h: m.b(h * torch.sigmoid(h)))),
    "softsign by hand": lambda: Net(lambda m, x: let(m.a(x), lambda h: m.b(h / (1 + h.abs())))),
    "square by hand": lambda: Net(lambda m, x: let(m.a(x), lambda h: m.b(h * h))),
    "product of maps": lambda: Net(
        lambda m, x: let(m.a(x).tanh(), lambda h: m.b(torch.mul(h.exp() * 2, h.sigmoid().square())))
    ),
    "dropout": lambda: nn.Sequential(nn.Linear(5, 40), nn.Dropout(0.4), nn.Linear(40, 3)),
    "dropout in place": lambda: nn.Sequential(nn.Linear(5, 40), nn.Dropout(0.4, True), nn.Linear(40, 3)),
    "dropout function": lambda: Net(
        lambda m, x: m.b(F.dropout(m.a(x), 0.3, m.training)), a=nn.Linear(5, 40), b=nn.Linear(40, 3)
    ),
    "dropout by keyword": lambda: Net(
        lambda m, x: m.b(F.dropout(m.a(x), training=m.training)), a=nn.Linear(5, 40), b=nn.Linear(40, 3)
    ),
    "two dropouts": lambda: nn.Sequential(
        nn.Dropout(0.2), nn.Linear(5, 40), nn.ReLU(), nn.Dropout(0.4), nn.Linear(40, 3)
    ),
    "batch norm": lambda: nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3)),
    "batch norm of the input": lambda: nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, 4), nn.Linear(4, 3)),
    "batch norm of the output": lambda: nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3), nn.BatchNorm1d(3)),
    "batch norm without scales": lambda: nn.Sequential(
        nn.Linear(5, 4), nn.BatchNorm1d(4, affine=False), nn.Linear(4, 3)
    ),
    "batch norm without statistics": lambda: nn.Sequential(
        nn.Linear(5, 4), nn.BatchNorm1d(4, track_running_stats=False), nn.Linear(4, 3)
    ),
    "layer norm": lambda: nn.Sequential(nn.Linear(5, 4), nn.LayerNorm(4), nn.Linear(4, 3)),
    "layer norm without shift": lambda: nn.Sequential(
        nn.Linear(5, 4), nn.LayerNorm(4, bias=False), nn.Linear(4, 3)
    ),
    "layer norm without scales": lambda: nn.Sequential(
        nn.Linear(5, 4), nn.LayerNorm(4, elementwise_affine=False), nn.Linear(4, 3)
    ),
    "prelu": lambda: nn.Sequential(nn.Linear(5, 4), nn.PReLU(4), nn.Linear(4, 3)),
    "one prelu used twice": lambda: Net(
        lambda m, x: m.b(m.act(m.c(m.act(m.a(x))))), c=nn.Linear(5, 5), act=nn.PReLU()
    ),
    "concatenation": lambda: Net(lambda m, x: m.c(torch.cat((m.a(x).relu(), m.b(x)), 1)), c=nn.Linear(8, 3)),
    "concatenation along the last axis": lambda: Net(
        lambda m, x: m.c(torch.cat([m.a(x).relu(), m.b(x)], dim=-1)), c=nn.Linear(8, 3)
    ),
    "concatenation of one value twice": lambda: Net(
        lambda m, x: let(m.a(x), lambda h: m.c(torch.cat((h, h), 1))), b=None, c=nn.Linear(10, 3)
    ),
    "concatenation of two functions of a value": lambda: Net(
        lambda m, x: let(m.a(x), lambda h: m.c(torch.cat((h, -h), 1).relu())), b=None, c=nn.Linear(10, 3)
    ),
    "concatenation with the input": lambda: Net(
        lambda m, x: m.c(torch.concat((m.b(x).relu(), x), 1)), a=None, c=nn.Linear(8, 3)
    ),
    "concatenation at the output": lambda: Net(
        lambda m, x: let(m.a(x), lambda h: torch.cat((m.b(h), m.c(h)), 1)), c=nn.Linear(5, 2)
    ),
    "concatenations that are added": lambda: Net(
        lambda m, x: m.f(torch.cat((m.a(x), m.b(x)), 1) + torch.cat((m.c(x), m.d(x)), 1)),
        c=nn.Linear(5, 3),
        d=nn.Linear(5, 5),
        f=nn.Linear(8, 3),
    ),
    "a concatenation added to itself the other way round": lambda: Net(
        lambda m, x: let((m.a(x), m.b(x)), lambda h: m.f(torch.cat(h, 1) + torch.cat((h[1], h[0]), 1))),
        f=nn.Linear(8, 3),
    ),
    "halves added to each other": lambda: Net(
        lambda m, x: let((m.a(x), m.c(x)), lambda h: m.f(torch.cat(h, 1) + torch.cat((h[1], h[0]), 1))),
        b=None,
        c=nn.Linear(5, 5),
        f=nn.Linear(10, 3),
    ),
}
IMAGES = {
    "convolution": lambda: column(nn.ReLU()),
    "convolutions": lambda: column(nn.ReLU(), nn.Conv2d(4, 5, 3, bias=False), nn.Tanh(), features=20),
    "strided, dilated, padded": lambda: column(
        nn.Conv2d(4, 5, (3, 2), stride=(1, 2), padding=(2, 1), dilation=(2, 1)), features=60
    ),
    "padding same": lambda: column(nn.Conv2d(4, 5, (1, 3), padding="same", dilation=2), features=80),
    **{
        f"padding by {mode}": lambda mode=mode: column(
            nn.Conv2d(4, 5, 3, padding=(1, 2), padding_mode=mode), features=120
        )
        for mode in ("reflect", "replicate", "circular")
    },
    "padding same by reflection": lambda: column(
        nn.Conv2d(4, 5, (3, 1), padding="same", padding_mode="reflect"), features=80
    ),
    "grouped": lambda: column(nn.ReLU(), nn.Conv2d(4, 6, 3, groups=2), nn.ReLU(), features=24),
    "grouped twice": lambda: column(
        nn.Conv2d(4, 6, 3, groups=2), nn.BatchNorm2d(6), nn.Conv2d(6, 8, 1, groups=2), features=32
    ),
    "grouped in two, then in four": lambda: column(
        nn.Conv2d(4, 8, 3, groups=2), nn.Conv2d(8, 8, 1, groups=4), features=32
    ),
    "grouped in two, then in three": lambda: column(
        nn.Conv2d(4, 6, 3, groups=2), nn.Conv2d(6, 3, 1, groups=3), features=12
    ),
    "grouped with a shortcut": lambda: plane(
        lambda m, x: let(m.a(x), lambda h: m.b((h + m.g(h)).flatten(1))),
        16,
        g=nn.Conv2d(4, 4, 1, groups=2),
    ),
    "grouped among dense": lambda: plane(
        lambda m, x: let(m.a(x), lambda h: m.b((h + m.g(h) + m.d(h)).flatten(1)) + m.e(h.flatten(1))),
        16,
        g=nn.Conv2d(4, 4, 1, groups=2),
        d=nn.Conv2d(4, 4, 1),
        e=nn.Linear(64, 3),
    ),
    "grouped at the output": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1, groups=2), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ),
    "grouped behind a concatenation": lambda: plane(
        lambda m, x: m.b(m.g(torch.cat((m.norm(m.c(x)), m.d(x)), 1)).flatten(1)),
        16,
        a=None,
        c=nn.Conv2d(3, 2, 3),
        d=nn.Conv2d(3, 2, 3),
        norm=nn.BatchNorm2d(2),
        g=nn.Conv2d(4, 4, 1, groups=2),
    ),
    "grouped beside a concatenation": lambda: plane(
        lambda m, x: m.b((m.g(m.a(x)) + torch.cat((m.c(x), m.d(x)), 1)).flatten(1)),
        16,
        c=nn.Conv2d(3, 2, 3),
        d=nn.Conv2d(3, 2, 3),
        g=nn.Conv2d(4, 4, 1, groups=2),
    ),
    "grouped between concatenations": lambda: plane(
        lambda m, x: let(
            (m.c(x), m.d(x), m.e(x)),
            lambda h: m.b((m.g(torch.cat(h[:2], 1)) + torch.cat((h[0], h[2]), 1)).flatten(1)),
        ),
        16,
        a=None,
        **{name: nn.Conv2d(3, 2, 3) for name in "cde"},
        g=nn.Conv2d(4, 4, 1, groups=2),
    ),
    "grouped behind one value twice": lambda: plane(
        lambda m, x: let(m.a(x), lambda h: m.b(m.g(torch.cat((h, h), 1)).flatten(1))),
        16,
        g=nn.Conv2d(8, 4, 1, groups=2),
    ),
    "depthwise": lambda: column(nn.ReLU(), nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 5, 1), features=20),
    "depthwise, two a channel": lambda: column(
        nn.Conv2d(4, 8, 3, groups=4), nn.BatchNorm2d(8), nn.Conv2d(8, 5, 1), features=20
    ),
    "depthwise on the input": lambda: nn.Sequential(
        nn.Conv2d(3, 3, 3, groups=3), nn.ReLU(), nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 3)
    ),
    "depthwise on the input, two a channel": lambda: nn.Sequential(
        nn.Conv2d(3, 6, 3, groups=3), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.Flatten(), nn.Linear(16, 3)
    ),
    "depthwise behind a concatenation": lambda: plane(
        lambda m, x: m.b(m.g(torch.cat((m.a(x), m.c(x)), 1)).flatten(1)),
        b=nn.Linear(96, 3),
        c=nn.Conv2d(3, 2, 3),
        g=nn.Conv2d(6, 6, 1, groups=6),
    ),
    "separable block": lambda: plane(
        lambda m, x: let(m.a(x), lambda h: m.b((h + m.point(m.norm(m.depth(h)).relu())).flatten(1))),
        16,
        depth=nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False),
        norm=nn.BatchNorm2d(4),
        point=nn.Conv2d(4, 4, 1),
    ),
    "batch norm of images": lambda: column(nn.BatchNorm2d(4), nn.ReLU()),
    "batch norm behind a flatten": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 3)
    ),
    "layer norm behind a flatten": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LayerNorm(64), nn.Linear(64, 3)
    ),
    "layer norm of images": lambda: column(nn.LayerNorm((4, 4, 4)), nn.ReLU()),
    "prelu of channels and of features": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.PReLU(4), nn.Flatten(), nn.PReLU(64), nn.Linear(64, 3), nn.PReLU()
    ),
    "dropout of channels": lambda: column(nn.Dropout2d(0.4)),
    "dropout of channels by function": lambda: plane(
        lambda m, x: m.b(F.dropout2d(m.a(x), 0.4, m.training).flatten(1)), 16
    ),
    "feature maps and the input side by side": lambda: plane(
        lambda m, x: m.b(torch.cat((m.a(x), m.c(x)), 1).flatten(1)),
        c=nn.AvgPool2d(3, 1),
        b=nn.Linear(112, 3),
    ),
    "flattened maps and features side by side": lambda: plane(
        lambda m, x: let(m.a(x), lambda h: m.b(torch.cat((h.flatten(1), h.mean((2, 3))), 1))),
        b=nn.Linear(68, 3),
    ),
    "flattened maps added": lambda: plane(
        lambda m, x: m.b(m.a(x).flatten(1) + m.c(x).view(x.size(0), -1)), 16, c=nn.Conv2d(3, 4, 3)
    ),
    "mean over positions": lambda: plane(lambda m, x: m.b(m.a(x).mean([2, 3])), 1),
    "mean by negative axes": lambda: plane(lambda m, x: m.b(m.a(x).mean((-1, -2))), 1),
    "mean axis by axis": lambda: plane(lambda m, x: m.b(torch.mean(m.a(x).mean(3), 2)), 1),
    "mean, axes kept": lambda: plane(
        lambda m, x: m.b(m.a(x).mean(dim=(2, 3), keepdim=True).squeeze(-1).squeeze(-1)), 1
    ),
    "mean, axes kept by position": lambda: plane(lambda m, x: m.b(m.a(x).mean((2, 3), True).flatten(1)), 1),
    "maximum over positions": lambda: plane(lambda m, x: m.b(torch.amax(m.a(x), (2, 3))), 1),
    "squeeze": lambda: plane(
        lambda m, x: m.b(torch.squeeze(m.p(m.a(x)).squeeze(3), 2)), 1, p=nn.AvgPool2d(4)
    ),
    "pooling functions": lambda: plane(
        lambda m, x: m.b((F.max_pool2d(m.a(x), 2) + F.avg_pool2d(m.a2(x), kernel_size=2)).flatten(1)),
        a2=nn.Conv2d(3, 4, 3),
    ),
    "adaptive pooling functions": lambda: plane(
        lambda m, x: let(
            m.a(x), lambda h: m.b((F.adaptive_avg_pool2d(h, 2) + F.adaptive_max_pool2d(h, 2)).flatten(1))
        )
    ),
    "overlapping pools that round up": lambda: plane(
        lambda m, x: m.b(F.max_pool2d(m.a(x), kernel_size=3, stride=2, padding=1, ceil_mode=True).flatten(1)),
        9,
    ),
    "pooling of torch": lambda: plane(lambda m, x: m.b(torch.max_pool2d(m.a(x), 2).flatten(1))),
    "interpolation": lambda: plane(lambda m, x: m.b(F.interpolate(m.a(x), scale_factor=0.5).flatten(1))),
    "view by size": lambda: plane(lambda m, x: m.b(m.a(x).view(x.size(0), -1)), 16),
    "reshape by shape": lambda: plane(lambda m, x: m.b(torch.reshape(m.a(x), (x.shape[0], 64))), 16),
    "maps flattened twice": lambda: plane(lambda m, x: m.b(m.a(x).flatten(1).view(-1, 64)), 16),
    "mlp on images": lambda: mlp(IMAGE, 3, "7"),
}
# The input's own shape, and how samples are made into signals of one channel and twelve values.
SIGNALS = {
    "unflatten": (nn.Unflatten(1, (1, 12)), (12,)),
    "unsqueeze": (lambda x: x.unsqueeze(1), (12,)),
    "torch.unsqueeze": (lambda x: torch.unsqueeze(x, dim=1), (12,)),
    "view": (lambda x: x.view(-1, 1, 12), (12,)),
    "reshape": (lambda x: torch.reshape(x, (-1, 1, 12)), (3, 4)),
    "flatten of two axes": (lambda x: x.flatten(2), (1, 3, 4)),
    "squeeze": (lambda x: x.squeeze(1), (1, 1, 12)),
    "nothing": (lambda x: x, (1, 12)),
}


def signal(view):
    """A one-dimensional convolution on inputs that a view gives an axis of channels."""
    parts = {"view": view} if isinstance(view, nn.Module) else {}
    return Net(
        lambda m, x: m.b(m.pool(m.a((m.view if parts else view)(x)).relu()).flatten(1)),
        a=nn.Conv1d(1, 4, 3),
        pool=nn.MaxPool1d(2),
        b=nn.Linear(20, 3),
        **parts,
    )


MODULES = {
    **{name: (build, (5,)) for name, build in VECTORS.items()},
    **{name: (build, IMAGE) for name, build in IMAGES.items()},
    **BLOCKS,
    **{f"signal by {name}": (lambda v=view: signal(v), shape) for name, (view, shape) in SIGNALS.items()},
    "volume": (
        lambda: nn.Sequential(
            *(nn.Conv3d(1, 4, 2), nn.BatchNorm3d(4), nn.ReLU(True), nn.AvgPool3d(2)),
            *(nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 3)),
        ),
        (1, 4, 4, 4),
    ),
}
FLATTENINGS = {
    "flatten method": lambda x: x.flatten(1),
    "flatten method by name": lambda x: x.flatten(start_dim=1),
    "torch.flatten": lambda x: torch.flatten(x, 1),
    "torch.flatten by name": lambda x: torch.flatten(x, start_dim=1, end_dim=-1),
    "torch.flatten to the last": lambda x: torch.flatten(x, 1, 3),
    "view with size(0)": lambda x: x.view(x.size(0), -1),
    "view with shape[0]": lambda x: x.view(x.shape[0], 6),
    "view with -1 first": lambda x: x.view(-1, 6),
    "view with a tuple": lambda x: x.view((x.size()[0], -1)),
    "reshape": lambda x: x.reshape(x.shape[0], -1),
    "torch.reshape": lambda x: torch.reshape(x, (-1, 6)),
    "nn.Flatten": nn.Flatten(),
    "a map before it": lambda x: (x * 2).flatten(1),
}


def randomized(module, seed=0):
    """Return the module in double precision with random parameters, scales of both signs and statistics."""
    generator = torch.Generator().manual_seed(seed)
    module = module.double()
    with torch.no_grad():
        for name, tensor in itertools.chain(module.named_parameters(), module.named_buffers()):
            if name.endswith("running_var"):
                tensor.uniform_(0.3, 2, generator=generator)
            elif tensor.is_floating_point():
                tensor.normal_(generator=generator)
    return module


def built(name):
    build, shape = MODULES[name]
    torch.manual_seed(0)
    return randomized(build()), shape


@cache
def traced(name):
    """Return the trace of a module, which every rule about it reads and none changes."""
    return trace(*built(name))


def tensors_of(module):
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def samples(shape, number=4):
    return torch.randn(number, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def group_names(spec):
    return [group.name for group in spec.groups]


def groups_of(module, shape):
    return [tuple(group) for group in trace(module, shape).spec.groups]


def joined(spec):
    """Return {layer name: [(target group, source group)]} of all pieces."""
    names, found = group_names(spec), {}
    for piece in spec.pieces:
        name = spec.layers[piece.layer].name.removesuffix(".weight")
        found.setdefault(name, []).append((names[piece.target], names[piece.source]))
    return found


# What is found


def test_an_mlp_is_a_chain_of_groups():
    wiring = trace(mlp((1, 2, 3), 3, "7,4"), (1, 2, 3))
    spec = wiring.spec
    assert [tuple(layer) for layer in spec.layers] == [
        ("1.weight", (7, 6), 0),
        ("3.weight", (4, 7), 42),
        ("5.weight", (3, 4), 70),
    ]
    assert [tuple(group) for group in spec.groups] == [
        ("input", 6, "input"),
        ("1", 7, "hidden"),
        ("3", 4, "hidden"),
        ("output", 3, "output"),
    ]
    assert joined(spec) == {"1": [("1", "input")], "3": [("3", "1")], "5": [("output", "3")]}
    assert wiring.biases == ("1.bias", "3.bias", "5.bias")
    assert wiring.axes == {"1.bias": (Segment(1),), "3.bias": (Segment(2),), "5.bias": (Segment(3),)}
    assert [step.operation for step in wiring.steps] == ["input", *["linear", "elementwise"] * 2, "linear"]
    assert [step.inputs for step in wiring.steps] == [(), (0,), (1,), (2,), (3,), (4,)]
    assert [step.shape for step in wiring.steps] == [(6,), (7,), (7,), (4,), (4,), (3,)]
    assert [step.layer for step in wiring.steps] == [-1, 0, -1, 1, -1, 2]
    assert wiring.steps[1].names == ("1.weight", "1.bias")
    assert wiring.steps[2].names == ()
    assert wiring.dense


def test_a_convolution_numbers_channels_and_a_flattening_gives_each_a_block():
    wiring = trace(column(nn.ReLU(), nn.MaxPool2d(2), features=16), IMAGE)
    spec = wiring.spec
    assert [tuple(g) for g in spec.groups] == [
        ("input", 3, "input"),
        ("0", 4, "hidden"),
        ("output", 3, "output"),
    ]
    assert [layer.shape for layer in spec.layers] == [(4, 3, 3, 3), (3, 16)]
    assert [(p.target, p.source, p.block, p.positions) for p in spec.pieces] == [(1, 0, 1, 9), (2, 1, 4, 4)]
    operations_found = [step.operation for step in wiring.steps]
    assert operations_found == ["input", "linear", "elementwise", "spatial", "spatial", "linear"]
    assert [step.shape for step in wiring.steps] == [IMAGE, (4, 4, 4), (4, 4, 4), (4, 2, 2), (16,), (3,)]
    assert not wiring.dense


def test_values_that_are_added_share_a_group():
    wiring = trace(Residual(6, (3, 4)), (5,))
    assert [tuple(group) for group in wiring.spec.groups] == [
        ("input", 5, "input"),
        ("entry", 6, "hidden"),
        ("down.0", 3, "hidden"),
        ("down.1", 4, "hidden"),
        ("output", 3, "output"),
    ]
    assert joined(wiring.spec) == {
        "entry": [("entry", "input")],
        "down.0": [("down.0", "entry")],
        "up.0": [("entry", "down.0")],
        "down.1": [("down.1", "entry")],
        "up.1": [("entry", "down.1")],
        "exit": [("output", "entry")],
    }
    assert wiring.biases == ("entry.bias", "down.0.bias", None, "down.1.bias", None, "exit.bias")


def test_neurons_added_to_the_input_or_the_output_are_fixed():
    for name, left in (("residual to the input", []), ("residual to the output", ["a", "d"])):
        spec = traced(name).spec
        assert [spec.groups[i].name for i in spec.hidden] == left


def test_a_grouped_convolution_parts_its_channels_and_bundles_the_parts():
    spec = traced("grouped").spec
    assert group_names(spec) == ["input", "0[0]", "0[1]", "2[0]", "2[1]", "output"]
    assert joined(spec) == {
        "0": [("0[0]", "input"), ("0[1]", "input")],
        "2": [("2[0]", "0[0]"), ("2[1]", "0[1]")],
        "5": [("output", "2[0]"), ("output", "2[1]")],
    }
    assert [(bundle.name, bundle.columns) for bundle in spec.bundles] == [("columns of 0", ((1, 3), (2, 4)))]


def test_a_depthwise_convolution_ties_each_channel_to_itself():
    spec = traced("depthwise").spec
    assert group_names(spec) == ["input", "0", "3", "output"]
    piece = next(piece for piece in spec.pieces if spec.layers[piece.layer].name == "2.weight")
    assert (piece.target, piece.source, piece.positions, piece.diagonal) == (1, 1, 9, True)
    assert spec.bundles == ()


def test_two_outputs_of_each_channel_make_a_column_of_each_channel():
    spec = traced("depthwise, two a channel").spec
    assert [group.size for group in spec.groups] == [3, 1, 1, 1, 1, 2, 2, 2, 2, 5, 3]
    assert [bundle.columns for bundle in spec.bundles] == [((1, 5), (2, 6), (3, 7), (4, 8))]


def test_a_second_grouping_joins_the_columns_of_the_first():
    spec = traced("grouped in two, then in four").spec
    names = group_names(spec)
    (bundle,) = spec.bundles
    columns = [{names[group] for group in column} for column in bundle.columns]
    assert columns == [
        {"0[0]", "1[0]", "1[1]", "2[0]", "2[1]"},
        {"0[1]", "1[2]", "1[3]", "2[2]", "2[3]"},
    ]


@pytest.mark.parametrize(
    "name",
    [
        *("grouped behind a concatenation", "grouped beside a concatenation", "grouped at the output"),
        *("grouped between concatenations", "depthwise on the input, two a channel"),
    ],
)
def test_columns_that_other_layers_tell_apart_are_not_bundled(name):
    assert traced(name).spec.bundles == ()


def test_a_concatenation_has_the_groups_of_its_parts():
    spec = traced("concatenation").spec
    assert joined(spec)["c"] == [("output", "a"), ("output", "b")]
    assert [(piece.column, piece.of) for piece in spec.pieces[-2:]] == [(0, 0), (5, 1)]
    twice = traced("concatenation of one value twice").spec
    assert joined(twice)["c"] == [("output", "a")] * 2
    assert [(piece.column, piece.of) for piece in twice.pieces[-2:]] == [(0, 0), (5, 1)]


def test_concatenations_that_are_added_part_their_groups_where_either_has_a_seam():
    assert groups_of(*built("concatenations that are added"))[1:-1] == [
        ("a[0]", 3, "hidden"),
        ("a[1]", 2, "hidden"),
        ("b", 3, "hidden"),
    ]


def test_concatenated_outputs_are_fixed_and_each_has_its_name():
    assert groups_of(*built("concatenation at the output"))[1:] == [
        ("a", 5, "hidden"),
        ("output[0]", 3, "output"),
        ("output[1]", 2, "output"),
    ]


def test_normalisations_are_numbered_as_what_they_normalise():
    wiring = traced("batch norm behind a flatten")
    names = ["2.weight", "2.bias", "2.running_mean", "2.running_var"]
    assert {name: wiring.axes[name] for name in names} == dict.fromkeys(names, (Segment(1, 16),))
    wiring = traced("layer norm of images")
    assert wiring.axes["1.weight"] == (Segment(1),)
    wiring = traced("prelu of channels and of features")
    assert wiring.axes["1.weight"] == (Segment(1),)
    assert wiring.axes["3.weight"] == (Segment(1, 16),)
    assert "5.weight" not in wiring.axes  # one slope for all units


def test_steps_name_what_they_are():
    wiring = traced("separable block")
    assert [step.operation for step in wiring.steps] == [
        *("input", "linear", "linear", "normalize", "elementwise", "linear", "add", "spatial", "linear"),
    ]
    assert wiring.steps[3].names == ("norm.weight", "norm.bias", "norm.running_mean", "norm.running_var")
    assert wiring.steps[6].inputs == (1, 5)
    assert traced("layer norm").steps[2].operation == "mix"
    assert traced("dropout").steps[2].operation == "dropout"


@pytest.mark.parametrize(
    "name",
    [
        *("mlp", "residual", "concatenation", "dropout", "swish by hand", "mlp on images"),
        *("prelu", "batch norm", "layer norm", "convolution", "mean over positions", "signal by nothing"),
    ],
)
def test_only_networks_of_plain_vectors_are_dense(name):
    plain = ("mlp", "residual", "concatenation", "dropout", "swish by hand", "mlp on images")
    assert traced(name).dense is (name in plain)


def no_two_groups_or_bundles_have_one_name(name):
    spec = traced(name).spec
    names = [*group_names(spec), *(bundle.name for bundle in spec.bundles)]
    assert len(set(names)) == len(names)


def layers_are_named_as_the_module_names_its_parameters(name):
    module, wiring = built(name)[0], traced(name)
    parameters = dict(module.named_parameters())
    for layer, bias in zip(wiring.spec.layers, wiring.biases, strict=True):
        assert parameters[layer.name].shape == layer.shape
        assert bias is None or parameters[bias].shape == layer.shape[:1]


def every_weight_belongs_to_exactly_one_piece(name):
    spec = traced(name).spec
    counts = np.zeros(spec.size, dtype=int)
    for piece in spec.pieces:
        window = spec.window(piece, counts)
        window += 1
    assert (counts == 1).all()


def every_group_is_numbered_somewhere_and_axes_are_made_of_whole_groups(name):
    wiring, tensors = traced(name), tensors_of(built(name)[0])
    spec = wiring.spec
    assert set(range(len(spec.groups))) == {g for node in spec.nodes for g in node.groups}
    for key, axis in wiring.axes.items():
        assert sum(spec.groups[s.group].size * s.block for s in axis) in tensors[key].shape
    assert len(spec.nodes) == len(wiring.steps)
    for node, step in zip(spec.nodes, wiring.steps, strict=True):
        assert node.inputs == step.inputs
        features = step.shape[0]
        units = sum(spec.groups[group].size for group in node.groups)
        assert features >= units  # more where a flattening has given units blocks
    assert spec.outputs == wiring.steps[-1].shape[0]


def forward_computes_what_the_module_computes(name):
    module, shape = built(name)
    wiring = traced(name)
    x = samples(shape)
    with torch.no_grad():
        outputs = wiring.forward(tensors_of(module), x)
        torch.testing.assert_close(outputs, module.eval()(x), rtol=0, atol=1e-10)


def forward_trains_as_the_module_does(name):
    """Batch statistics, the dropout of torch's generator, and the statistics that move."""
    module, shape = built(name)
    wiring = traced(name)
    x, tensors = samples(shape), tensors_of(module)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        outputs = wiring.forward(tensors, x, training=True)
        torch.manual_seed(3)
        torch.testing.assert_close(outputs, module.train()(x), rtol=0, atol=1e-10)
    moved = {key: value for key, value in tensors_of(module).items() if value.is_floating_point()}
    for key, value in moved.items():
        torch.testing.assert_close(tensors[key], value, rtol=0, atol=1e-10)


def steps_may_be_run_one_by_one(name):
    module, shape = built(name)
    wiring = traced(name)
    x, tensors, seen = samples(shape), tensors_of(module), []

    def evaluate(step, values):
        assert [tuple(value.shape[1:]) for value in values] == (
            [wiring.steps[i].shape for i in step.inputs] or [shape]
        )
        seen.append(step)
        return step.function(*values, *(None if n is None else tensors[n] for n in step.names))

    with torch.no_grad():
        values = wiring.run(x, evaluate)
        torch.testing.assert_close(values[-1], module.eval()(x), rtol=0, atol=1e-10)
    assert seen == list(wiring.steps)
    assert [tuple(value.shape) for value in values] == [(4, *step.shape) for step in wiring.steps]


def forward_can_be_mapped_over_several_networks(name):
    module, shape = built(name)
    wiring = traced(name)
    x = samples(shape)
    each = [tensors_of(randomized(module, seed)) for seed in range(3)]
    stacked = {key: torch.stack([tensors[key] for tensors in each]) for key in each[0]}
    with torch.no_grad():
        outputs = torch.func.vmap(lambda tensors: wiring.forward(tensors, x))(stacked)
        for own, tensors in zip(outputs, each, strict=True):
            torch.testing.assert_close(own, wiring.forward(tensors, x), rtol=0, atol=1e-10)


def the_spec_survives_json(name):
    spec = traced(name).spec
    again = MaskSpec.from_json(json.loads(json.dumps(spec.to_json())))
    assert again == spec
    assert again.signature == spec.signature


RULES = (
    no_two_groups_or_bundles_have_one_name,
    layers_are_named_as_the_module_names_its_parameters,
    every_weight_belongs_to_exactly_one_piece,
    every_group_is_numbered_somewhere_and_axes_are_made_of_whole_groups,
    forward_computes_what_the_module_computes,
    forward_trains_as_the_module_does,
    steps_may_be_run_one_by_one,
    forward_can_be_mapped_over_several_networks,
    the_spec_survives_json,
)


SOME = [
    *("mlp", "residual", "batch norm", "layer norm", "prelu", "two dropouts", "concatenation", "convolution"),
    *("batch norm behind a flatten", "grouped", "depthwise", "squeeze-excite resnet"),
]


@pytest.mark.parametrize("name", every(MODULES, quick=SOME))
def test_every_rule_holds_for_every_module(name):
    for rule in RULES:
        rule(name)


# Every map and pooling by itself

MAP_ARGUMENTS = {nn.Threshold: (0.1, 2.0), nn.PReLU: (4,)}
FUNCTION_ARGUMENTS = {"clamp": {"min": -0.3, "max": 0.4}, "_threshold": {"threshold": 0.1, "value": 2.0}}


def keeps_renumbering(module, shape, seed=0):
    """Check that the trace of a module computes what it does, and that renumbering changes no output."""
    module = randomized(module)
    wiring, x, tensors = trace(module, shape), samples(shape), tensors_of(module)
    with torch.no_grad():
        expected = module.eval()(x)
        torch.testing.assert_close(wiring.forward(tensors, x), expected, rtol=1e-10, atol=1e-10)
        order = random_order(wiring.spec, np.random.default_rng(seed))
        assert order
        found = wiring.forward(wiring.renumbered(tensors, order), x)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    return wiring


def cube(kind):
    """Return a convolution of the dimensions that a name ends in (else 2), and an input shape."""
    dimensions = {"1d": 1, "3d": 3}.get(kind.__name__[-2:], 2)
    return (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dimensions - 1](1, 4, 3), (1, *[6] * dimensions)


@pytest.mark.parametrize("kind", operations.ELEMENTWISE_MODULES)
def test_every_elementwise_module_is_known(kind):
    module = column(kind(*MAP_ARGUMENTS.get(kind, ())))
    assert keeps_renumbering(module, IMAGE).steps[2].operation == "elementwise"


@pytest.mark.parametrize(
    "function", sorted(operations.ELEMENTWISE_FUNCTIONS, key=lambda f: (f.__name__, f.__module__ or ""))
)
def test_every_elementwise_function_is_known(function):
    arguments = FUNCTION_ARGUMENTS.get(function.__name__, {})
    module = plane(lambda m, x: m.b(function(m.a(x), **arguments).flatten(1)), 16)
    assert keeps_renumbering(module, IMAGE).steps[2].operation == "elementwise"


@pytest.mark.parametrize("method", sorted(operations.ELEMENTWISE_METHODS))
def test_every_elementwise_method_is_known(method):
    arguments = FUNCTION_ARGUMENTS.get(method, {})
    module = plane(lambda m, x: m.b(getattr(m.a(x), method)(**arguments).flatten(1)), 16)
    assert keeps_renumbering(module, IMAGE).steps[2].operation == "elementwise"


@pytest.mark.parametrize("kind", operations.POOLINGS)
def test_every_pooling_module_is_known(kind):
    convolution, shape = cube(kind)
    pool = nn.Upsample(scale_factor=2) if kind is nn.Upsample else kind(2)
    maps = pool(convolution(torch.zeros(1, *shape)))
    module = nn.Sequential(convolution, pool, nn.Flatten(), nn.Linear(maps.numel(), 3))
    assert keeps_renumbering(module, shape).steps[2].operation == "spatial"


@pytest.mark.parametrize("function", sorted(operations.POOLING_FUNCTIONS, key=lambda f: f.__name__))
def test_every_pooling_function_is_known(function):
    convolution, shape = cube(function)
    features = function(convolution(torch.zeros(1, *shape)), 2).numel()
    module = Net(lambda m, x: m.b(function(m.a(x), 2).flatten(1)), a=convolution, b=nn.Linear(features, 3))
    assert keeps_renumbering(module, shape).steps[2].operation == "spatial"


@pytest.mark.parametrize("kind", operations.DROPOUTS)
def test_every_dropout_is_known_and_does_nothing_outside_training(kind):
    convolution, shape = cube(kind)
    features = convolution(torch.zeros(1, *shape)).numel()
    module = nn.Sequential(convolution, kind(0.5), nn.Flatten(), nn.Linear(features, 3))
    assert keeps_renumbering(module, shape).steps[2].operation == "dropout"


@pytest.mark.parametrize("flattening", FLATTENINGS)
def test_every_way_to_flatten_samples_is_known(flattening):
    flatten = FLATTENINGS[flattening]
    parts = {"a": nn.Linear(6, 5)} | ({"flat": flatten} if isinstance(flatten, nn.Module) else {})
    module = Net(lambda m, x: m.b(torch.relu(m.a((m.flat if "flat" in parts else flatten)(x)))), **parts)
    spec = trace(module, (1, 2, 3)).spec
    assert [layer.shape for layer in spec.layers] == [(5, 6), (3, 5)]
    mapped = flattening == "a map before it"  # the image is read as one, and its channel flattened then
    assert spec.groups[0] == ("input", 1 if mapped else 6, "input")
    assert (spec.pieces[0].block, spec.pieces[0].positions) == ((6, 6) if mapped else (1, 1))


@pytest.mark.parametrize("flattening", FLATTENINGS)
def test_every_way_to_flatten_feature_maps_is_known(flattening):
    flatten = FLATTENINGS[flattening]
    parts = {"a": nn.Conv2d(1, 2, (2, 1)), "b": nn.Linear(6, 3)}
    parts |= {"flat": flatten} if isinstance(flatten, nn.Module) else {}
    module = Net(lambda m, x: m.b(torch.relu((m.flat if "flat" in parts else flatten)(m.a(x)))), **parts)
    wiring = keeps_renumbering(module, (1, 2, 3))
    assert (wiring.spec.pieces[1].block, wiring.spec.pieces[1].positions) == (3, 3)


@pytest.mark.parametrize("name", SIGNALS)
def test_the_input_is_numbered_in_the_shape_that_a_view_gives_it(name):
    wiring = traced(f"signal by {name}")
    assert wiring.steps[0].shape == (1, 12)
    assert wiring.spec.groups[0] == ("input", 1, "input")


def test_tracing_changes_neither_the_module_nor_the_random_state():
    for name in ("in-place relu", "two dropouts", "batch norm of images", "dropout function"):
        for training in (True, False):
            module, shape = built(name)
            module.train(training)
            before, state = tensors_of(module), torch.get_rng_state()
            trace(module, shape)
            assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())
            assert torch.equal(torch.get_rng_state(), state)
            assert all(child.training is training for child in module.modules())
            assert all(p.grad is None and p.requires_grad for p in module.parameters())
    module, shape = built("in-place relu")
    trace(module, shape)
    assert module[1].inplace


def test_a_wiring_keeps_no_hold_on_the_module():
    module, shape = built("mlp")
    wiring, x = trace(module, shape), samples(shape)
    tensors = tensors_of(module)
    with torch.no_grad():
        before = wiring.forward(tensors, x)
        for parameter in module.parameters():
            parameter.zero_()
        assert torch.equal(wiring.forward(tensors, x), before)


def test_a_value_that_reaches_no_output_leaves_no_step():
    assert "layer a.weight does not reach the output" in refused_module(
        Net(lambda m, x: (m.a(x), m.b(torch.tanh(x)))[1])
    )
    spec = trace(Net(lambda m, x: (torch.relu(x), m.b(torch.tanh(x)))[1]), (5,)).spec
    assert [node.operation for node in spec.nodes] == ["input", "elementwise", "linear"]


# Renumbering


@pytest.mark.parametrize("name", every(MODULES, quick=SOME))
def test_renumbering_hidden_neurons_changes_no_output(name):
    """Nor do the outputs in training, where samples are normalised by the batch."""
    module, shape = built(name)
    wiring, tensors, x = traced(name), tensors_of(module), samples(shape)

    def outputs(given, training):
        def evaluate(step, values):
            return wiring.evaluate(step, values, given, training=training and step.operation == "normalize")

        return wiring.run(x, evaluate)[-1]

    with torch.no_grad():
        for seed in range(4):
            order = random_order(wiring.spec, np.random.default_rng(seed))
            again = wiring.renumbered(tensors, order)
            for training in (False, True):
                expected = outputs({k: v.clone() for k, v in tensors.items()}, training)
                found = outputs({k: v.clone() for k, v in again.items()}, training)
                torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
            loaded = copy.deepcopy(module)
            loaded.load_state_dict(again)
            torch.testing.assert_close(loaded.eval()(x), module.eval()(x), rtol=1e-10, atol=1e-10)


@pytest.mark.slow
@settings(max_examples=examples(20), deadline=None, derandomize=True)
@given(st.integers(1, 6), st.lists(st.integers(1, 5), max_size=3), st.integers(0, 2**32 - 1))
def test_renumbering_a_residual_network_changes_no_output(width, inner, seed):
    torch.manual_seed(seed)
    module = Residual(width, inner).double()
    wiring, x = trace(module, (5,)), samples((5,))
    order = random_order(wiring.spec, np.random.default_rng(seed))
    with torch.no_grad():
        outputs = torch.func.functional_call(module, wiring.renumbered(tensors_of(module), order), (x,))
        torch.testing.assert_close(outputs, module(x), rtol=0, atol=1e-10)


@pytest.mark.slow
@settings(max_examples=examples(40), deadline=None, derandomize=True)
@given(
    st.integers(1, 3),
    st.lists(st.tuples(st.integers(1, 3), st.sampled_from([1, 2, 3, 6])), min_size=1, max_size=3),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_renumbering_stacks_of_grouped_convolutions_changes_no_output(factor, stack, shortcut, seed):
    """Any number of divisions follows any other, with dense shortcuts around them or without."""
    torch.manual_seed(seed)
    channels = 6 * factor
    first = nn.Conv2d(2, channels, 1)
    layers, here = [], channels
    for multiple, divisions in stack:
        layers.append(nn.Conv2d(here, 6 * multiple, 1, groups=divisions * math.gcd(here, 6 * multiple) // 6))
        here = 6 * multiple

    def forward(m, x):
        h = m.a(x)
        for layer in m.layers:
            made = layer(h)
            h = made + h if shortcut and layer.in_channels == layer.out_channels else made
        return m.b(h.mean((2, 3)))

    module = Net(forward, a=first, b=nn.Linear(here, 3), layers=nn.ModuleList(layers)).double()
    wiring, x = trace(module, (2, 3, 3)), samples((2, 3, 3))
    order = random_order(wiring.spec, np.random.default_rng(seed))
    with torch.no_grad():
        outputs = wiring.forward(wiring.renumbered(tensors_of(module), order), x)
        torch.testing.assert_close(outputs, module(x), rtol=1e-10, atol=1e-10)


def test_renumbering_moves_what_the_axes_say():
    module, shape = built("batch norm behind a flatten")
    wiring, tensors = trace(module, shape), tensors_of(module)
    moved = wiring.renumbered(tensors, {"0": [2, 0, 3, 1]})
    assert torch.equal(moved["0.bias"], tensors["0.bias"][[2, 0, 3, 1]])
    assert torch.equal(moved["0.weight"], tensors["0.weight"][[2, 0, 3, 1]])
    for key in ("2.weight", "2.bias", "2.running_mean", "2.running_var"):
        assert torch.equal(moved[key], tensors[key].view(4, 16)[[2, 0, 3, 1]].flatten())
    assert torch.equal(moved["3.weight"], tensors["3.weight"].view(3, 4, 16)[:, [2, 0, 3, 1]].flatten(1))
    assert torch.equal(moved["3.bias"], tensors["3.bias"])
    assert torch.equal(moved["2.num_batches_tracked"], tensors["2.num_batches_tracked"])


def test_renumbering_columns_moves_the_groups_of_a_grouped_convolution():
    module, shape = built("grouped")
    wiring, tensors = trace(module, shape), tensors_of(module)
    moved = wiring.renumbered(tensors, {"columns of 0": [1, 0]})
    assert torch.equal(moved["0.weight"], tensors["0.weight"][[2, 3, 0, 1]])
    assert torch.equal(moved["2.weight"], tensors["2.weight"][[3, 4, 5, 0, 1, 2]])
    assert torch.equal(moved["2.bias"], tensors["2.bias"][[3, 4, 5, 0, 1, 2]])


def test_renumbering_leaves_the_given_tensors_and_masks_as_they_are():
    module, shape = built("grouped among dense")
    wiring, tensors = trace(module, shape), tensors_of(module)
    before = {key: value.clone() for key, value in tensors.items()}
    order = random_order(wiring.spec, np.random.default_rng(1))
    wiring.renumbered(tensors, order)
    assert all(torch.equal(before[key], value) for key, value in tensors.items())


def test_renumbering_fixed_or_unknown_groups_is_refused():
    wiring = traced("mlp")
    tensors = tensors_of(built("mlp")[0])
    for order in ({"output": [1, 0, 2]}, {"hidden": [0]}, {"1": [0, 0]}):
        refusal(wiring.renumbered, tensors, order)


def test_renumbering_the_fixed_outputs_does_change_them():
    module, shape = built("mlp")
    x, tensors = samples(shape), tensors_of(module)
    wiring = trace(module, shape)
    tensors["5.weight"], tensors["5.bias"] = tensors["5.weight"].flip(0), tensors["5.bias"].flip(0)
    with torch.no_grad():
        outputs = wiring.forward(tensors, x)
        assert not torch.allclose(outputs, module(x))
        torch.testing.assert_close(outputs.flip(1), module(x))


# Refusals: by name and place


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(5, 3)

    def forward(self, x, y):
        return self.a(x + y)


class Branch(Two):
    def forward(self, x):
        return self.a(x) if x.sum() > 0 else self.a(-x)


class Random(Two):
    def forward(self, x):
        return self.a(x * float(torch.rand(())))


class Noise(Two):
    def forward(self, x):
        return self.a(x + torch.rand(5))


def hooked():
    """Return a layer that fails on tensors alone."""

    def fail(layer, given, made):
        if isinstance(made, torch.Tensor):
            raise RuntimeError("two\nlines")

    layer = nn.Linear(5, 5)
    layer.register_forward_hook(fail)
    return layer


def tied():
    module = Net(lambda m, x: m.b(m.c(m.a(x))), c=nn.Linear(5, 5))
    module.c.weight = module.a.weight
    return module


def scales():
    """Return two parameters, t for values of 5 units and t2 for those of 3."""
    return {"t": nn.Parameter(torch.ones(5)), "t2": nn.Parameter(torch.ones(3))}


def refused_module(module, shape=(5,)):
    return refusal(trace, module, shape)


VECTOR_REFUSALS = {
    "quotient of values": (
        lambda: Net(lambda m, x: m.b(m.a(x) / x)),
        ["a quotient of two values, in the forward of Net"],
    ),
    "tensor over a value": (
        lambda: Net(lambda m, x: m.b(m.t / m.a(x)), t=nn.Parameter(torch.ones(5))),
        ["a quotient of the tensor 't' and a value, in the forward of Net"],
    ),
    "maximum of a value and a tensor": (
        lambda: Net(lambda m, x: m.b(torch.maximum(m.a(x), m.t)), t=nn.Parameter(torch.ones(5))),
        ["a maximum of the tensor 't' and a value, in the forward of Net"],
    ),
    "one scale for two values": (
        lambda: Net(lambda m, x: m.t2 * m.b(m.t * m.c(m.t * m.a(x))), c=nn.Linear(5, 5), **scales()),
        ["a second use of the tensor 't', in the forward of Net"],
    ),
    "tensor of samples": (
        lambda: Net(lambda m, x: m.b(m.a(x) * m.t), t=nn.Parameter(torch.ones(5, 5))),
        ["the tensor 't' of shape (5, 5) beside a value of shape (5,), in the forward of Net"],
    ),
    "mean of a tensor": (
        lambda: Net(lambda m, x: m.b(m.a(x) * m.t.mean()), t=nn.Parameter(torch.ones(5))),
        ["with 't' itself"],
    ),
    "weight as an operand": (
        lambda: Net(lambda m, x: m.c(m.b(m.a(x)) * m.c.weight), c=nn.Linear(3, 1)),
        ["c.weight is the weight of a layer and cannot be an operand too"],
    ),
    "product of shapes": (
        lambda: Net(lambda m, x: m.b(m.a(x) * m.c(x)), c=nn.Linear(5, 1)),
        ["a product of shapes (5,) and (1,), in the forward of Net"],
    ),
    "slice of samples": (
        lambda: Net(lambda m, x: m.b(m.a(x)[::2])),
        ["a slice of samples, in the forward of Net"],
    ),
    "slice of nothing": (
        lambda: Net(lambda m, x: m.b(m.a(x)[:, 5:])),
        ["a slice of nothing, in the forward of Net"],
    ),
    "one unit without its axis": (
        lambda: Net(lambda m, x: m.b(m.a(x)[:, 0])),
        ["the index 0 along the axis of units, in the forward of Net"],
    ),
    "parts along samples": (
        lambda: Net(lambda m, x: m.b(m.a(x).chunk(2)[0])),
        ["a slice of samples, in the forward of Net"],
    ),
    "random relu": (lambda: Net(lambda m, x: m.b(m.act(m.a(x))), act=nn.RReLU()), ["RReLU, at 'act' in Net"]),
    "softmax": (
        lambda: Net(lambda m, x: torch.softmax(m.b(m.a(x)), 1)),
        ["the network ends in a softmax, in the forward of Net", "remove it"],
    ),
    "softmax module": (
        lambda: nn.Sequential(nn.Linear(5, 3), nn.Softmax(1)),
        ["the network ends in a softmax, at '1' in Sequential", "remove it"],
    ),
    "softmax inside": (
        lambda: Net(lambda m, x: m.b(torch.softmax(m.a(x), 1))),
        ["does not know a softmax, in the forward of Net"],
    ),
    "log softmax inside": (
        lambda: Net(lambda m, x: m.b(F.log_softmax(m.a(x), 1))),
        ["a log-softmax that is not the last step, in the forward of Net"],
    ),
    "matrix product of values": (
        lambda: Net(lambda m, x: m.b(torch.matmul(m.a(x), m.a(x).t()))),
        ["a second use of layer 'a', at 'a' in Net"],
    ),
    "matmul of two values": (
        lambda: Net(lambda m, x: m.b(torch.matmul(m.a(x), m.c(x))), c=nn.Linear(5, 5)),
        ["a matrix product of values, in the forward of Net"],
    ),
    "stack": (
        lambda: Net(lambda m, x: m.b(torch.stack((m.a(x), x), 1).sum(1))),
        ["a stack of values, in the forward of Net"],
    ),
    "concatenation of samples": (
        lambda: Net(lambda m, x: m.b(torch.cat((m.a(x), x)))),
        ["a concatenation along axis 0, in the forward of Net"],
    ),
    "concatenation with a constant": (
        lambda: Net(lambda m, x: m.c(torch.cat((m.a(x), torch.zeros(4, 3)), 1)), c=nn.Linear(8, 3)),
        ["the tensor '_tensor_constant0' used directly"],
    ),
    "sum of shapes": (
        lambda: Net(lambda m, x: m.b(m.a(x)) + m.c(x), c=nn.Linear(5, 5)),
        ["a sum of shapes (3,) and (5,), in the forward of Net"],
    ),
    "broadcast": (
        lambda: Net(lambda m, x: m.b(m.a(x) + m.c(x)), c=nn.Linear(5, 1)),
        ["a sum of shapes (5,) and (1,), in the forward of Net"],
    ),
    "sum over features": (
        lambda: Net(lambda m, x: m.b(m.a(x)).sum(1)),
        ["a sum over an axis, in the forward of Net"],
    ),
    "mean over features": (
        lambda: Net(lambda m, x: m.b(m.a(x)).mean(1)),
        ["a mean over other axes than positions, in the forward of Net"],
    ),
    "shared weight": (tied, ["shared between layers", "a.weight and c.weight are one tensor"]),
    "one layer twice": (
        lambda: Net(lambda m, x: m.b(m.a(m.a(x).relu()))),
        ["a second use of layer 'a', at 'a' in Net"],
    ),
    "one batch norm twice": (
        lambda: Net(lambda m, x: m.b(m.n(m.c(m.n(m.a(x)).relu()))), c=nn.Linear(5, 5), n=nn.BatchNorm1d(5)),
        ["a second use of layer 'n', at 'n' in Net"],
    ),
    "one layer norm twice": (
        lambda: Net(lambda m, x: m.b(m.n(m.c(m.n(m.a(x)).relu()))), c=nn.Linear(5, 5), n=nn.LayerNorm(5)),
        ["a second use of layer 'n', at 'n' in Net"],
    ),
    "slopes of units twice": (
        lambda: Net(lambda m, x: m.b(m.n(m.c(m.n(m.a(x)).relu()))), c=nn.Linear(5, 5), n=nn.PReLU(5)),
        ["a second use of layer 'n', at 'n' in Net"],
    ),
    "computed weight": (
        lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(5, 3))),
        ["'weight' of module '0'", "computed from other parameters"],
    ),
    "weight used directly": (
        lambda: Net(lambda m, x: m.b(m.a(x) * m.b.weight[0])),
        ["a slice of a value", "in the forward of Net"],
    ),
    "branch on a value": (Branch, ["torch.fx cannot trace Branch", "without branches"]),
    "random factor": (Random, ["Random draws from torch's random generator in evaluation mode"]),
    "random tensor": (Noise, ["the tensor '_tensor_constant0' used directly, in the forward of Noise"]),
    "dropout that never stops": (
        lambda: Net(lambda m, x: m.b(F.dropout(m.a(x)))),
        ["Net draws from torch's random generator in evaluation mode", "training=self.training"],
    ),
    "two inputs": (Two, ["forward of Two takes a second input, 'y'", "give 'y' a default"]),
    "bilinear": (
        lambda: Net(lambda m, x: m.b(m.c(m.a(x), x)), c=nn.Bilinear(5, 5, 5)),
        ["Bilinear, at 'c' in Net"],
    ),
    "recurrent": (
        lambda: Net(lambda m, x: m.b(m.c(m.a(x))[0]), c=nn.RNN(5, 5)),
        ["RNN, at 'c' in Net"],
    ),
    "embedding": (
        lambda: nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(20, 3)),
        ["Embedding, at '0'"],
    ),
    "layer without effect": (
        lambda: Net(lambda m, x: (m.a(x), m.b(x))[1]),
        ["layer a.weight does not reach the output"],
    ),
    "no layer": (
        lambda: nn.Sequential(nn.Flatten(), nn.ReLU()),
        ["Sequential has no Linear or convolution layer: nothing to prune"],
    ),
    "no layer but a norm": (
        lambda: nn.Sequential(nn.BatchNorm1d(5), nn.PReLU()),
        ["Sequential has no Linear or convolution layer: nothing to prune"],
    ),
    "tuple": (lambda: Net(lambda m, x: (m.b(m.a(x)), x)), ["returns one tensor (samples, classes)"]),
    "nothing": (lambda: Net(lambda m, x: None), ["returns one tensor (samples, classes)"]),
    "features": (
        lambda: mlp((4,), 3, "2"),
        ["'1' in Sequential is Linear(4, 2), which does not fit a value of shape (5,)", "make it take 5"],
    ),
    "view across samples": (
        lambda: Net(lambda m, x: m.b(m.a(x)).view(3, -1)),
        ["a view of values of shape (3,) that does not keep the samples apart, in the forward of Net"],
    ),
    "view by features": (
        lambda: Net(lambda m, x: m.b(m.a(x.view(x.size(1), -1)))),
        ["a view of values of shape (5,) that does not keep the samples apart"],
    ),
    "flatten of samples": (
        lambda: Net(lambda m, x: m.b(m.a(x.flatten()))),
        ["a view of values of shape (5,) that does not keep the samples apart"],
    ),
    "failing only when run": (
        lambda: Net(lambda m, x: m.b(m.a(x)), a=hooked()),
        ["Net fails on 5 samples of shape (5,) (RuntimeError: two lines)"],
    ),
    "raising": (
        lambda: Net(lambda m, x: {}["two\nlines"]),
        ["Net fails on 5 samples of shape (5,) (KeyError"],
    ),
    "layer norm of other features": (
        lambda: nn.Sequential(nn.Linear(5, 4), nn.LayerNorm(2), nn.Linear(4, 3)),
        ["LayerNorm(2,) on a value of shape (4,), at '1' in Sequential"],
    ),
    "batch norm of other features": (
        lambda: nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(2), nn.Linear(4, 3)),
        ["BatchNorm1d(2) on a value of shape (4,), at '1' in Sequential"],
    ),
    "batch norm without momentum": (
        lambda: nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4, momentum=None), nn.Linear(4, 3)),
        ["BatchNorm1d with momentum=None, at '1' in Sequential"],
    ),
    "norm over features": (
        lambda: nn.Sequential(nn.Linear(5, 4), nn.RMSNorm(4), nn.Linear(4, 3)),
        ["RMSNorm, at '1' in Sequential"],
    ),
}
IMAGE_REFUSALS = {
    "half of a unit's features": (
        lambda: plane(lambda m, x: m.b(m.a(x).flatten(1)[:, :40]), 10),
        ["a slice that splits the features of a unit, in the forward of Net"],
    ),
    "padding by a number": (
        lambda: plane(lambda m, x: m.b(F.pad(m.a(x), (1, 0), value=1.0).flatten(1)), 20),
        ["a padding by 1.0, in the forward of Net"],
    ),
    "units padded by others": (
        lambda: plane(lambda m, x: m.b(F.pad(m.a(x), (0, 0, 0, 0, 1, 1), mode="reflect").flatten(1)), 24),
        ["in the forward of Net"],
    ),
    "gate of each position": (
        lambda: plane(
            lambda m, x: let(m.a(x), lambda h: m.b((h * m.g(h)).flatten(1))), 16, g=nn.Conv2d(4, 1, 1)
        ),
        ["a product of shapes (4, 4, 4) and (1, 4, 4), in the forward of Net"],
    ),
    "unflattened": (lambda: nn.Sequential(nn.Linear(6, 3)), ["Linear(6, 3) on a value of shape (3, 6, 6)"]),
    "channels": (
        lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(64, 3)),
        [
            "'0' in Sequential is Conv2d(2, 4), which does not fit a value of shape (3, 6, 6)",
            "make it take 3",
        ],
    ),
    "dimensions": (
        lambda: nn.Sequential(nn.Conv1d(3, 4, 3), nn.Flatten(), nn.Linear(64, 3)),
        ["Conv1d(3, 4) on a value of shape (3, 6, 6), at '0' in Sequential"],
    ),
    "too small an image": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 7), nn.Flatten(), nn.Linear(64, 3)),
        [
            "Conv2d fails on values of shape (3, 6, 6), at '0' in Sequential",
            "make it take samples of shape (3, 6, 6)",
        ],
    ),
    "no classes": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3)), ["this one returns (samples, *(4, 4, 4))"]),
    "group norm": (lambda: column(nn.GroupNorm(2, 4)), ["GroupNorm, at '1' in Sequential"]),
    "instance norm": (lambda: column(nn.InstanceNorm2d(4)), ["InstanceNorm2d, at '1' in Sequential"]),
    "layer norm of positions": (
        lambda: column(nn.LayerNorm(4)),
        ["LayerNorm(4,) on a value of shape (4, 4, 4), at '1' in Sequential"],
    ),
    "transposed convolution": (
        lambda: column(nn.ConvTranspose2d(4, 4, 1)),
        ["ConvTranspose2d, at '1' in Sequential"],
    ),
    "mean over parted channels": (
        lambda: plane(lambda m, x: m.b(m.a(x).view(-1, 2, 2, 4, 4).mean(2).flatten(1)), 8),
        ["a view of values of shape (4, 4, 4) as (2, 2, 4, 4), which joins or parts channels"],
    ),
    "view that is no flattening": (
        lambda: plane(lambda m, x: m.b(m.a(x).view(-1, 2, 32).mean(2)), b=nn.Linear(2, 3)),
        ["a view of values of shape (4, 4, 4) as (2, 32), which joins or parts channels"],
    ),
    "transposed channels": (
        lambda: plane(lambda m, x: m.b(m.a(x).transpose(1, 2).flatten(1)), 16),
        ["another order of the axes, in the forward of Net"],
    ),
    "channels in two axes": (
        lambda: plane(lambda m, x: m.b(m.u(m.a(x)).flatten(1)), 16, u=nn.Unflatten(1, (2, 2))),
        ["a view of values of shape (4, 4, 4) as (2, 2, 4, 4), which joins or parts channels, at 'u' in Net"],
    ),
    "mean over channels": (
        lambda: plane(lambda m, x: m.b(m.a(x).mean([1, 2])), 1),
        ["a mean over other axes than positions, in the forward of Net"],
    ),
    "mean over everything": (
        lambda: plane(lambda m, x: m.b(m.a(x).flatten(1)) + m.a(x).mean(), 16),
        ["at 'a' in Net"],
    ),
    "maps added to features": (
        lambda: plane(lambda m, x: m.b(m.a(x).flatten(1) + m.c(x.flatten(1))), 16, c=nn.Linear(108, 64)),
        ["a sum of values whose neurons do not stand side by side, in the forward of Net"],
    ),
    "concatenation of positions": (
        lambda: plane(lambda m, x: let(m.a(x), lambda h: m.b(torch.cat((h, h), 2).flatten(1))), 32),
        ["a concatenation along axis 2, in the forward of Net"],
    ),
    "pooling that returns places": (
        lambda: plane(lambda m, x: m.b(m.p(m.a(x))[0].flatten(1)), p=nn.MaxPool2d(2, return_indices=True)),
        ["MaxPool2d that returns more than one tensor, at 'p' in Net"],
    ),
    "attention": (
        lambda: plane(lambda m, x: m.b(m.t(m.a(x)).flatten(1)), 16, t=nn.TransformerEncoderLayer(4, 2)),
        ["in Net"],
    ),
}
REFUSALS = {
    **{name: (build, (5,), words) for name, (build, words) in VECTOR_REFUSALS.items()},
    **{name: (build, IMAGE, words) for name, (build, words) in IMAGE_REFUSALS.items()},
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_module_that_cannot_be_traced_is_refused_by_name_and_place(name):
    build, shape, words = REFUSALS[name]
    torch.manual_seed(0)
    message = refused_module(build(), shape)
    for word in words:
        assert word in message, message


def test_what_the_wiring_does_not_know_may_be_left_out_or_declared():
    message = refused_module(nn.Sequential(nn.Linear(5, 4), nn.Softmax(1), nn.Linear(4, 3)))
    assert message.startswith("the wiring does not know Softmax, at '1' in Sequential; use a network without")
    assert "declare the neuron groups by hand" in message
    assert "module.neuron_groups = {'conv.weight': ('hidden', 'input')" in message


def test_a_number_drawn_while_tracing_is_never_taken_for_a_constant():
    """Even if the drawing comes right after the seed that the check itself uses."""
    from ticketsearch.wiring import checking

    for seed in (*checking.SEEDS, 0):
        torch.manual_seed(seed)
        assert "draws from torch's random generator" in refused_module(Random())


# Groups declared by hand


class Untraceable(nn.Module):
    """A convolution, normalisation and a Linear layer, with a branch on a value that fx cannot read."""

    GROUPS = {  # noqa: RUF012 - copied by each instance
        "conv.weight": ("hidden", "input"),
        "conv.bias": ("hidden",),
        "norm.weight": ("hidden",),
        "norm.bias": ("hidden",),
        "norm.running_mean": ("hidden",),
        "norm.running_var": ("hidden",),
        "mid.weight": ("second", "hidden:4"),
        "mid.bias": ("second",),
        "fc.weight": ("output", "second"),
        "fc.bias": ("output",),
    }

    def __init__(self, changes=()):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.mid = nn.Linear(16, 6)
        self.fc = nn.Linear(6, 3)
        self.neuron_groups = dict(self.GROUPS)
        for name, axes in dict(changes).items():
            self.neuron_groups.pop(name, None)
            if axes is not None:
                self.neuron_groups[name] = axes

    def forward(self, x):
        h = F.max_pool2d(self.norm(self.conv(x)), 2)
        if h.abs().sum() > 0:
            h = h.relu()
        return self.fc(torch.relu(self.mid(h.flatten(1))))


def pictures():
    rng = np.random.default_rng(0)
    return from_arrays("pictures", rng.normal(size=(60, *IMAGE)), np.arange(60) % 3)


def untraceable(input_shape, classes):
    return Untraceable()


def test_declared_groups_make_a_spec():
    wiring = trace(Untraceable(), IMAGE)
    spec = wiring.spec
    assert [tuple(group) for group in spec.groups] == [
        ("hidden", 4, "hidden"),
        ("input", 3, "input"),
        ("second", 6, "hidden"),
        ("output", 3, "output"),
    ]
    assert [tuple(layer) for layer in spec.layers] == [
        ("conv.weight", (4, 3, 3, 3), 0),
        ("mid.weight", (6, 16), 108),
        ("fc.weight", (3, 6), 204),
    ]
    assert joined(spec) == {
        "conv": [("hidden", "input")],
        "mid": [("second", "hidden")],
        "fc": [("output", "second")],
    }
    assert [(piece.block, piece.positions) for piece in spec.pieces] == [(1, 9), (4, 4), (1, 1)]
    assert wiring.steps == ()
    assert spec.nodes == ()
    assert wiring.biases == (None, None, None)
    assert not wiring.dense
    assert set(wiring.axes) == {name for name in Untraceable.GROUPS if "norm" in name or "bias" in name}
    assert MaskSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_a_module_with_declared_groups_can_be_renumbered():
    module = randomized(Untraceable())
    wiring, tensors, x = trace(module, IMAGE), tensors_of(module), samples(IMAGE)
    with torch.no_grad():
        for seed in range(5):
            order = random_order(wiring.spec, np.random.default_rng(seed))
            assert set(order) == {"hidden", "second"}
            again = wiring.renumbered(tensors, order)
            for training in (False, True):
                outputs = [
                    wiring.forward({k: v.clone() for k, v in given.items()}, x, training=training)
                    for given in (tensors, again)
                ]
                torch.testing.assert_close(*outputs, rtol=0, atol=1e-10)
            flat = np.concatenate([tensors[layer.name].numpy().ravel() for layer in wiring.spec.layers])
            moved = np.concatenate([again[layer.name].numpy().ravel() for layer in wiring.spec.layers])
            assert np.array_equal(permute(flat, wiring.spec, order), moved)


def test_a_module_with_declared_groups_computes_itself():
    module = randomized(Untraceable())
    wiring, tensors, x = trace(module, IMAGE), tensors_of(module), samples(IMAGE)
    modes = [child.training for child in wiring.module.modules()]
    with torch.no_grad():
        assert torch.equal(wiring.forward(tensors, x), module.eval()(x))
        before = tensors["norm.running_mean"].clone()
        outputs = wiring.forward(tensors, x, training=True)
        assert torch.equal(outputs, module.train()(x))
    assert not torch.equal(tensors["norm.running_mean"], before)
    assert torch.equal(tensors["norm.running_mean"], module.norm.running_mean)
    assert [child.training for child in wiring.module.modules()] == modes


def test_a_network_with_declared_groups_is_pruned_and_its_live_units_are_found():
    network = initialize(untraceable, pictures())
    spec = network.spec
    mask = prune(network, "magnitude", density=0.5)
    assert mask.sum() == round(0.5 * spec.size)
    layered = prune(network, "magnitude", density=0.5, scope="layer")
    assert layer_counts(layered, spec).tolist() == [54, 48, 9]
    cut = np.ones(spec.size, dtype=bool)
    parts = spec.split(cut)
    parts["conv.weight"][1] = False  # nothing feeds it
    parts["mid.weight"][:, 8:12] = False  # nobody reads unit 2
    parts["fc.weight"][:, 5] = False
    found = live_units(cut, spec, constants=False)
    assert found["hidden"].tolist() == [True, False, False, True]
    assert found["second"].tolist() == [True] * 5 + [False]
    assert live_units(cut, spec)["hidden"].tolist() == [True, True, False, True]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"mid.weight": ("second",)},
            ["a weight has two numbered axes", "'mid.weight'", "(6, 16)", "given 1"],
        ),
        ({"mid.weight": ("second", "hidden:4", "x")}, ["'mid.weight'"]),
        ({"mid.weight": ("second", "hidden:3")}, ["axis 1 of 'mid.weight' has 16 entries", "'hidden:3'"]),
        ({"mid.weight": ("second", "hidden:8")}, ["group 'hidden' has 4 units", "'mid.weight' has 2"]),
        ({"mid.weight": ("second", "hidden")}, ["group 'hidden' has 4 units", "'mid.weight' has 16"]),
        ({"mid.weight": ("second", "hidden:0")}, ["'group' or 'group:block'", "'hidden:0'"]),
        ({"mid.weight": ("second", "hidden:four")}, ["'group' or 'group:block'", "'hidden:four'"]),
        ({"fc.weight": ("output", "hidden")}, ["group 'hidden' has 4 units elsewhere", "'fc.weight' has 6"]),
        ({"mid.weight": ("third:2", "hidden:4")}, ["rows of a weight are one a unit", "'mid.weight'"]),
        ({"mid.bias": ("second", "second")}, ["axis 1 of 'mid.bias' has 0 entries"]),
        ({"mid.bias": ()}, ["'mid.bias'", "given 0"]),
        ({"nose.weight": ("second", "hidden:4")}, ["'nose.weight'", "its tensors are conv.weight"]),
        ({"conv.weight": ("hidden", "colours")}, ["names no axis 'input'"]),
        ({"fc.weight": ("classes", "second"), "fc.bias": ("classes",)}, ["names no axis 'output'"]),
        ({"mid.bias": None}, ["renumbering the units of 'second' changes the outputs"]),
        ({"conv.bias": None}, ["renumbering the units of 'hidden' changes the outputs"]),
        ({"norm.running_var": None}, ["renumbering the units of 'hidden' changes the outputs"]),
        ({"fc.weight": None, "fc.bias": None, "mid.weight": ("output", "hidden:4")}, ["'output'", "6"]),
        ({"conv.weight": "hidden"}, ["must be {tensor name: (axis 0, axis 1)}"]),
    ],
)
def test_a_wrong_declaration_is_refused_naming_the_group(changes, words):
    torch.manual_seed(0)
    module = Untraceable(changes)
    with torch.no_grad():  # as the schemes start them: equal entries may not hide a wrong declaration
        for name, parameter in module.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
    message = refused_module(module, IMAGE)
    for word in ("neuron_groups of Untraceable" if "'output'" not in words else "", *words):
        assert word in message, message


def test_groups_declared_in_a_wrong_place_are_refused():
    """The interleaved channels of a shuffled value have no blocks: here they are declared as if they had."""

    class Shuffled(Untraceable):
        def forward(self, x):
            h = F.max_pool2d(self.norm(self.conv(x)), 2)
            if h.abs().sum() > 0:
                h = h.relu()
            return self.fc(torch.relu(self.mid(h.permute(0, 2, 3, 1).flatten(1))))

    assert "renumbering the units of 'hidden' changes the outputs" in refused_module(Shuffled(), IMAGE)


def test_declarations_of_nothing_or_of_another_kind_are_refused():
    module = Untraceable()
    module.neuron_groups = {}
    assert "no weight of two or more axes" in refused_module(module, IMAGE)
    module.neuron_groups = ["conv.weight"]
    assert "must be {tensor name" in refused_module(module, IMAGE)


def test_a_module_of_declared_groups_that_is_random_or_fails_is_refused():
    class Noisy(Untraceable):
        def forward(self, x):
            return super().forward(x) + torch.rand(3)

    class Wide(Untraceable):
        def forward(self, x):
            return torch.cat([super().forward(x)] * 2, 1)

    assert "draws from torch's random generator" in refused_module(Noisy(), IMAGE)
    assert "returns shape (5, 6)" in refused_module(Wide(), IMAGE)
    assert "fails on 5 samples" in refused_module(Untraceable(), (1, 6, 6))


# Which units are non-zero though nothing feeds them


ACTIVATIONS = {
    # f(0) = 0 and no gradient at 0: a zero bias never moves.
    "relu": (nn.ReLU(), True, False),
    "relu6": (nn.ReLU6(), True, False),
    "hardshrink": (nn.Hardshrink(), True, False),
    "tanhshrink": (nn.Tanhshrink(), True, False),
    "square": (lambda x: x.square(), True, False),
    "product of maps": (lambda x: torch.relu(x) * torch.sigmoid(x), True, False),
    # f(0) = 0 with a gradient: the bias moves, if there is one.
    "tanh": (nn.Tanh(), True, True),
    "tanh without bias": (nn.Tanh(), False, False),
    "leaky relu": (nn.LeakyReLU(), True, True),
    "prelu": (nn.PReLU(5), True, True),
    "gelu": (nn.GELU(), True, True),
    "silu": (nn.SiLU(), True, True),
    "swish by hand": (lambda x: x * torch.sigmoid(x), True, True),
    "elu": (nn.ELU(), True, True),
    "identity": (nn.Identity(), True, True),
    "nothing": (lambda x: x, True, True),
    "nothing without bias": (lambda x: x, False, False),
    "half, then relu": (lambda x: torch.relu(x * 0.5), True, False),
    "half, then tanh": (lambda x: torch.tanh(x * 0.5), True, True),
    # f(0) ≠ 0: non-zero from the start, with or without a bias.
    "sigmoid": (nn.Sigmoid(), True, True),
    "sigmoid without bias": (nn.Sigmoid(), False, True),
    "softplus": (nn.Softplus(), True, True),
    "cos without bias": (lambda x: x.cos(), False, True),
    "plus one": (lambda x: torch.relu(x) + 1, True, True),
    "plus one inside": (lambda x: torch.relu(x + 1), False, True),
    # Normalisations. Batch normalisation starts with shifts 0, which move unless a relu holds them.
    "batch norm, relu": (nn.Sequential(nn.BatchNorm1d(5), nn.ReLU()), True, False),
    "batch norm, tanh": (nn.Sequential(nn.BatchNorm1d(5), nn.Tanh()), False, True),
    "batch norm without shift": (nn.BatchNorm1d(5, affine=False), False, False),
    "layer norm": (nn.Sequential(nn.LayerNorm(5), nn.ReLU()), False, True),
    "layer norm without scales": (nn.LayerNorm(5, elementwise_affine=False), False, True),
}


def hidden_unit(name):
    """Return a network of one hidden layer with zero biases, its activation, and what the rule must say."""
    activation, bias, constant = ACTIVATIONS[name]
    torch.manual_seed(0)
    parts = {"act": copy.deepcopy(activation)} if isinstance(activation, nn.Module) else {}
    act = (lambda m, x: m.act(x)) if parts else (lambda m, x: activation(x))
    module = Net(lambda m, x: m.b(act(m, m.a(x))), a=nn.Linear(5, 5, bias=bias), **parts).double()
    with torch.no_grad():
        for layer in (module.a, module.b):
            if layer.bias is not None:
                layer.bias.zero_()
    return module, act, constant


def hidden_constants(module):
    spec = trace(module, (5,)).spec
    (hidden,) = spec.hidden
    return [node.constant for node in spec.nodes if node.groups == (hidden,)]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_rule_for_a_unit_that_nothing_feeds(name):
    module, _, constant = hidden_unit(name)
    assert any(hidden_constants(module)) is constant


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_training_bears_the_rule_out(name):
    module, act, constant = hidden_unit(name)
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(20, 5, dtype=torch.float64, generator=generator)
    y = torch.randint(0, 3, (20,), generator=generator)
    mask = torch.ones(5, 5, dtype=torch.float64)
    mask[0] = 0  # nothing feeds unit 0
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    moved = False
    for _ in range(30):
        hidden = act(module, F.linear(x, module.a.weight * mask, module.a.bias))
        moved |= bool((hidden[:, 0] != 0).any())
        optimizer.zero_grad()
        F.cross_entropy(module.b(hidden), y).backward()
        optimizer.step()
    assert moved is constant
    assert (hidden[:, 1:] != 0).any()


def test_the_constant_is_put_where_it_arises():
    kinds = {}
    for name in ("relu", "sigmoid", "tanh"):
        activation = mlp((5,), 3, "4", activation=name)
        with torch.no_grad():
            activation[1].bias.zero_()
            activation[3].bias.zero_()
        kinds[name] = hidden_constants(activation)
    # (linear, elementwise); a sigmoid's slope at 0 also lets the bias move.
    assert kinds == {"relu": [False, False], "sigmoid": [True, True], "tanh": [True, False]}


def test_biases_that_start_non_zero_make_relu_units_constant():
    torch.manual_seed(0)
    module = mlp((5,), 3, "4", activation="relu")  # torch's own biases
    assert hidden_constants(module) == [True, False]
    with torch.no_grad():
        module[1].bias.zero_()
    assert hidden_constants(module) == [False, False]


@pytest.mark.parametrize("tensor", ["bias", "running_mean"])
def test_shifts_and_means_that_start_non_zero_make_units_constant(tensor):
    module = nn.Sequential(nn.Linear(5, 4, bias=False), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3))
    assert hidden_constants(module) == [False, False, False]
    with torch.no_grad():
        getattr(module[1], tensor)[2] = 0.1
    assert hidden_constants(module) == [False, True, False]


def test_the_bias_of_the_output_can_always_move():
    spec = trace(mlp((5,), 3, "4"), (5,)).spec
    assert spec.nodes[-1].constant
    assert not trace(mlp((5,), 3, "4", bias=False), (5,)).spec.nodes[-1].constant


def test_one_reader_that_passes_a_gradient_is_enough():
    def module(second):
        net = Net(lambda m, x: let(m.a(x), lambda h: m.b(h.relu()) + m.c(second(h))), c=nn.Linear(5, 3))
        for parameter in net.parameters():
            if parameter.ndim == 1:
                nn.init.zeros_(parameter)
        return net

    assert not any(hidden_constants(module(torch.relu)))
    assert any(hidden_constants(module(torch.tanh)))
