"""Small versions of public networks: gates, squeeze-excite, slices, zero padding and learned scales.

``BLOCKS`` is ``{name: (build, input shape)}``; each returns a module of 3 classes. Every shape and slice is
written with numbers, so that nothing but these operations is asked for.
"""

import torch
import torch.nn.functional as F
from torch import nn

IMAGE = (3, 6, 6)


class Block(nn.Module):
    """Named parts, tensors among them, and what the forward function makes of them."""

    def __init__(self, compute, buffers=None, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        for name, tensor in (buffers or {}).items():
            self.register_buffer(name, tensor)
        self.compute = compute

    def forward(self, x):
        return self.compute(self, x)


def learned(*shape):
    return nn.Parameter(torch.rand(shape) + 0.5)


def conv(sources, targets, kernel=1, **options):
    return nn.Conv2d(sources, targets, kernel, bias=False, padding=kernel // 2, **options)


def squeeze_excite_resnet():
    """Hu et al. 2018, basic block: the gate by Linear layers, viewed as (C, 1, 1)."""

    def compute(m, x):
        x = torch.relu(m.norm(m.stem(x)))
        h = m.norm2(m.conv2(torch.relu(m.norm1(m.conv1(x)))))
        gate = torch.sigmoid(m.up(torch.relu(m.down(F.adaptive_avg_pool2d(h, 1).flatten(1)))))
        return m.head(torch.relu(h * gate.view(-1, 6, 1, 1) + x).mean((2, 3)))

    return Block(
        compute,
        stem=conv(3, 6, 3),
        norm=nn.BatchNorm2d(6),
        conv1=conv(6, 6, 3),
        norm1=nn.BatchNorm2d(6),
        conv2=conv(6, 6, 3),
        norm2=nn.BatchNorm2d(6),
        down=nn.Linear(6, 3),
        up=nn.Linear(3, 6),
        head=nn.Linear(6, 3),
    )


def mobilenet_v3():
    """Howard et al. 2019: hard swish, depthwise convolution, a hard sigmoid gate by convolutions."""

    def compute(m, x):
        x = F.hardswish(m.norm0(m.stem(x)))
        h = F.hardswish(m.norm1(m.expand(x)))
        h = m.norm2(m.depth(h))
        h = h * F.hardsigmoid(m.up(F.relu(m.down(m.pool(h)))))
        h = x + m.norm3(m.project(F.hardswish(h)))
        return m.head(m.pool(h).flatten(1))

    return Block(
        compute,
        stem=conv(3, 4, 3, stride=2),
        norm0=nn.BatchNorm2d(4),
        expand=conv(4, 8),
        norm1=nn.BatchNorm2d(8),
        depth=conv(8, 8, 3, groups=8),
        norm2=nn.BatchNorm2d(8),
        pool=nn.AdaptiveAvgPool2d(1),
        down=nn.Conv2d(8, 3, 1),
        up=nn.Conv2d(3, 8, 1),
        project=conv(8, 4),
        norm3=nn.BatchNorm2d(4),
        head=nn.Linear(4, 3),
    )


def mbconv():
    """Tan & Le 2019: SiLU, a gate that is repeated over positions, and multiplied in from the left."""

    def compute(m, x):
        x = F.silu(m.norm0(m.stem(x)))
        h = F.silu(m.norm1(m.depth(m.expand(x))))
        gate = m.up(F.silu(m.down(h.mean((2, 3), keepdim=True)))).sigmoid()
        h = m.norm2(m.project(gate.expand_as(h) * h))
        return m.head((h + x).mean((2, 3)))

    return Block(
        compute,
        stem=conv(3, 4, 3, stride=2),
        norm0=nn.BatchNorm2d(4),
        expand=conv(4, 8),
        depth=conv(8, 8, 3, groups=8),
        norm1=nn.BatchNorm2d(8),
        down=nn.Conv2d(8, 2, 1),
        up=nn.Conv2d(2, 8, 1),
        project=conv(8, 4),
        norm2=nn.BatchNorm2d(4),
        head=nn.Linear(4, 3),
    )


def regnet_y():
    """Radosavovic et al. 2020: a grouped convolution, whose units a gate multiplies."""

    def compute(m, x):
        x = torch.relu(m.stem(x))
        h = torch.relu(m.norm(m.b(torch.relu(m.a(x)))))
        h = h * torch.sigmoid(m.up(torch.relu(m.down(F.adaptive_avg_pool2d(h, (1, 1))))))
        return m.head(torch.relu(x + m.c(h)).mean((2, 3)))

    return Block(
        compute,
        stem=conv(3, 4, 3, stride=2),
        a=conv(4, 6),
        b=conv(6, 6, 3, groups=3),
        norm=nn.BatchNorm2d(6),
        down=nn.Conv2d(6, 2, 1),
        up=nn.Conv2d(2, 6, 1),
        c=conv(6, 4),
        head=nn.Linear(4, 3),
    )


def option_a():
    """He et al. 2015: a shortcut of every second position, with channels of zeros on both sides."""

    def compute(m, x):
        x = torch.relu(m.norm(m.stem(x)))
        h = m.norm2(m.conv2(torch.relu(m.norm1(m.conv1(x)))))
        x = torch.relu(h + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 1, 2), "constant", 0))
        return m.head(x.mean((2, 3)))

    return Block(
        compute,
        stem=conv(3, 4, 3),
        norm=nn.BatchNorm2d(4),
        conv1=conv(4, 7, 3, stride=2),
        norm1=nn.BatchNorm2d(7),
        conv2=conv(7, 7, 3),
        norm2=nn.BatchNorm2d(7),
        head=nn.Linear(7, 3),
    )


def zeros_behind():
    """The same shortcut with zeros as a multiple by 0, and zeros by name that are added to nothing."""

    def compute(m, x):
        x = torch.relu(m.stem(x))
        h = m.conv1(x)
        short = F.avg_pool2d(x, 1, 2)
        h = torch.relu(h + torch.cat((short, short.mul(0)), 1))
        h = torch.cat((h, torch.zeros_like(h)), dim=1)
        return m.head(h.mean((2, 3)))

    return Block(compute, stem=conv(3, 3, 3), conv1=conv(3, 6, 3, stride=2), head=nn.Linear(12, 3))


def gated_linear_unit():
    """Dauphin et al. 2017, by hand, by halves that are slices, and by torch's own."""

    def compute(m, x):
        a, b = m.first(x).chunk(2, 1)
        h = a * torch.sigmoid(b)
        h = m.second(h)
        h = h[:, :4] * h[:, 4:].sigmoid()
        return m.head(m.glu(m.third(h)))

    return Block(
        compute,
        first=nn.Linear(5, 8),
        second=nn.Linear(4, 8),
        third=nn.Linear(4, 6),
        glu=nn.GLU(1),
        head=nn.Linear(3, 3),
    )


def highway():
    """Srivastava et al. 2015, and a bilinear product of two layers without biases (Shazeer 2020)."""

    def compute(m, x):
        x = torch.tanh(m.first(x))
        gate = torch.sigmoid(m.gate(x))
        x = torch.relu(m.layer(x)) * gate + x * (1 - gate)
        return m.head(m.left(x) * m.right(x))

    return Block(
        compute,
        first=nn.Linear(5, 6),
        gate=nn.Linear(6, 6),
        layer=nn.Linear(6, 6),
        left=nn.Linear(6, 4, bias=False),
        right=nn.Linear(6, 4, bias=False),
        head=nn.Linear(4, 3),
    )


def learned_scales():
    """ReZero, LayerScale in two shapes, a gate of the two, and inputs normalised by fixed numbers."""

    def compute(m, x):
        x = torch.relu(m.stem((x - m.mean) / m.deviation[:, None, None]))
        x = x + m.rezero * torch.relu(m.conv1(x))
        x = x + m.gamma * torch.relu(m.conv2(x))
        gate = torch.sigmoid(m.alpha)
        x = gate * x + (1 - gate) * (torch.relu(m.conv3(x)) * m.layer_scale.view(1, -1, 1, 1) + m.shift)
        return m.head(x.mean((2, 3)))

    return Block(
        compute,
        buffers={"mean": torch.tensor([0.1, -0.2, 0.3]).view(1, 3, 1, 1), "deviation": torch.rand(3) + 1},
        stem=conv(3, 5, 3),
        conv1=nn.Conv2d(5, 5, 1),
        conv2=nn.Conv2d(5, 5, 1),
        conv3=nn.Conv2d(5, 5, 1),
        rezero=learned(1),
        gamma=learned(1, 5, 1, 1),
        layer_scale=learned(5),
        shift=learned(5, 1, 1),
        alpha=learned(),
        head=nn.Linear(5, 3),
    )


def channel_split():
    """ShuffleNet V2's unit without the shuffle (Ma et al. 2018), and Res2Net's (Gao et al. 2019)."""

    def compute(m, x):
        x = torch.relu(m.stem(x))
        a, b = x.chunk(2, dim=1)
        x = torch.cat((a, torch.relu(m.inner(b))), 1)
        p, q, r = torch.split(torch.relu(m.wide(x)), [2, 2, 3], 1)
        q = torch.relu(m.second(q - p))
        x = torch.cat((p, q, r.narrow(1, 1, 2)), 1)
        return m.head(x[:, 1:].mean((2, 3)))

    return Block(
        compute,
        stem=conv(3, 6, 3),
        inner=conv(3, 3, 3, stride=1),
        wide=conv(6, 7),
        second=conv(2, 2, 3),
        head=nn.Linear(5, 3),
    )


def channel_shuffle():
    """ShuffleNet's unit (Zhang et al. 2018), by hand with a view, and by torch's module."""

    def compute(m, x):
        x = torch.relu(m.stem(x))
        samples, channels, height, width = x.shape
        x = x.view(samples, 2, channels // 2, height, width)
        x = torch.transpose(x, 1, 2).contiguous().view(samples, channels, height, width)
        return m.head(m.shuffle(torch.relu(m.grouped(x))).mean((2, 3)))

    return Block(
        compute,
        stem=conv(3, 6, 3),
        grouped=conv(6, 6, 3, groups=2),
        shuffle=nn.ChannelShuffle(3),
        head=nn.Linear(6, 3),
    )


def maxima():
    """Maxout (Goodfellow et al. 2013), a minimum, differences, and sums with a number before the second."""

    def compute(m, x):
        a, b = torch.chunk(m.first(x), 2, 1)
        h = torch.maximum(a, b)
        h = torch.minimum(m.second(h), m.third(h)) - torch.relu(h)
        h = torch.add(h, m.fourth(h), alpha=0.5).sub(m.fifth(h), alpha=2)
        return m.head(h)

    return Block(
        compute,
        first=nn.Linear(5, 8),
        second=nn.Linear(4, 4),
        third=nn.Linear(4, 4),
        fourth=nn.Linear(4, 4),
        fifth=nn.Linear(4, 4),
        head=nn.Linear(4, 3),
    )


BLOCKS = {
    "squeeze-excite resnet": (squeeze_excite_resnet, IMAGE),
    "mobilenet v3": (mobilenet_v3, IMAGE),
    "mbconv": (mbconv, IMAGE),
    "regnet y": (regnet_y, IMAGE),
    "option a": (option_a, IMAGE),
    "zeros behind": (zeros_behind, IMAGE),
    "gated linear unit": (gated_linear_unit, (5,)),
    "highway": (highway, (5,)),
    "learned scales": (learned_scales, IMAGE),
    "channel split": (channel_split, IMAGE),
    "channel shuffle": (channel_shuffle, IMAGE),
    "maxima": (maxima, (5,)),
}
