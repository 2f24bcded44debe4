"""Small networks of the operations that public networks contain: shapes, products, slices, normalisations."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from network_checks.blocks import (
    GLU,
    AffineScale,
    Attention,
    Gated,
    OptionA,
    Recurrent,
    SqueezeExcite,
    TokenMixer,
)
from network_checks.small_parts import (
    CLASSES,
    IMAGE,
    TOKENS,
    VECTOR,
    Net,
    Small,
    behind,
    conv,
    convnet,
    image,
    let,
    linear,
    mlp,
    pooled,
    relu,
    row,
    vector,
)


def _minus(self: Any, x: Tensor) -> Tensor:
    hidden = relu(self.a(x))
    return self.b(hidden - self.m(hidden))


def _maximum(self: Any, x: Tensor) -> Tensor:
    hidden = self.a(x)
    return self.b(torch.maximum(hidden, self.m(relu(hidden))))


def _asserted(self: Any, x: Tensor) -> Tensor:
    torch._assert(x.ndim == 4, "an image")
    hidden = relu(self.a(x))
    assert hidden.shape[1] == 8
    return self.b(hidden.mean((2, 3)))


def _chunked(self: Any, x: Tensor) -> Tensor:
    first, second = self.a(x).chunk(2, dim=1)
    return self.b(torch.cat([relu(first), torch.tanh(second)], 1))


def _shuffled(self: Any, x: Tensor) -> Tensor:
    x = relu(self.a(x))
    n, c, h, w = x.shape
    x = x.view(n, 4, c // 4, h, w).transpose(1, 2).contiguous().view(n, c, h, w)
    return self.b(pooled(self.m(x)))


class _WithDefault(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(12, 10), nn.Linear(10, CLASSES)

    def forward(self, x: Tensor, scale: float = 0.5, mask: Tensor | None = None) -> Tensor:
        hidden = relu(self.a(x)) * scale
        return self.b(hidden if mask is None else hidden * mask)


SHAPES = {
    "view by size(0)": Small(
        "traced", IMAGE, image(lambda s, x: s.b(F.max_pool2d(relu(s.a(x)), 4).view(x.size(0), -1)), 32)
    ),
    "view by c * h * w": Small(
        "traced",
        IMAGE,
        image(
            lambda s, x: let(
                F.max_pool2d(relu(s.a(x)), 4),
                lambda y: s.b(y.view(y.shape[0], y.shape[1] * y.shape[2] * y.shape[3])),
            ),
            32,
        ),
    ),
    "view by nelement": Small(
        "traced",
        IMAGE,
        image(
            lambda s, x: let(
                F.max_pool2d(relu(s.a(x)), 4), lambda y: s.b(y.view(-1, int(y.nelement() / y.shape[0])))
            ),
            32,
        ),
    ),
    "pooling over size(3)": Small(
        "traced",
        IMAGE,
        image(lambda s, x: let(relu(s.a(x)), lambda y: s.b(F.avg_pool2d(y, y.size(3)).view(y.size(0), -1)))),
    ),
    "pooling over size()": Small(
        "traced",
        IMAGE,
        image(lambda s, x: let(relu(s.a(x)), lambda y: s.b(F.avg_pool2d(y, y.size()[3]).view(len(y), -1)))),
    ),
    "interpolate to another's size": Small(
        "traced",
        IMAGE,
        image(
            lambda s, x: let(
                relu(s.a(x)),
                lambda y: s.b(pooled(y + F.interpolate(s.m(F.max_pool2d(y, 2)), size=y.shape[2:]))),
            )
        ),
    ),
    "asserts on shapes": Small("traced", IMAGE, image(_asserted)),
    "floor division": Small(
        "traced",
        IMAGE,
        image(lambda s, x: s.b(F.adaptive_avg_pool2d(s.a(x), x.shape[-1] // 8).flatten(1))),
    ),
    "default argument": Small("traced", VECTOR, lambda: _WithDefault()),
}
OPERATIONS = {
    "log_softmax at the end": Small(
        "traced", VECTOR, vector(lambda s, x: F.log_softmax(s.b(relu(s.a(x))), 1))
    ),
    "LogSoftmax at the end": Small(
        "traced", VECTOR, row(linear(12, 8), nn.ReLU, linear(8, 5), lambda: nn.LogSoftmax(1))
    ),
    "softmax at the end": Small("refused", VECTOR, vector(lambda s, x: F.softmax(s.b(relu(s.a(x))), 1))),
    "difference": Small("traced", VECTOR, vector(_minus)),
    "maximum": Small("traced", VECTOR, vector(_maximum)),
    "product of two layers": Small(
        "traced", VECTOR, vector(lambda s, x: let(s.a(x), lambda y: s.b(y * torch.sigmoid(s.m(y)))))
    ),
    "product of different axes": Small(
        "refused", IMAGE, image(lambda s, x: let(s.a(x), lambda y: s.b(pooled(y * y.transpose(1, 2)))))
    ),
    "swish by hand": Small(
        "traced", VECTOR, vector(lambda s, x: let(s.a(x), lambda y: s.b(y * torch.sigmoid(y))))
    ),
    "functional linear": Small(
        "traced",
        VECTOR,
        vector(lambda s, x: s.b(relu(F.linear(x, s.w))), w=lambda: nn.Parameter(torch.randn(10, 12) / 3)),
    ),
    "functional convolution": Small(
        "traced",
        IMAGE,
        image(
            lambda s, x: s.b(pooled(relu(F.conv2d(x, s.w, padding=1)))),
            w=lambda: nn.Parameter(torch.randn(8, 3, 3, 3) / 5),
        ),
    ),
    "learned scalar gate": Small(
        "traced",
        VECTOR,
        vector(
            lambda s, x: s.b((lambda h: h + s.g * s.m(h))(relu(s.a(x)))),
            g=lambda: nn.Parameter(torch.zeros(1)),
        ),
    ),
    "LayerScale": Small("traced", IMAGE, lambda: AffineScale(CLASSES)),
    "ReZero": Small(
        "traced",
        IMAGE,
        image(
            lambda s, x: let(relu(s.a(x)), lambda y: s.b(pooled(y + s.g * s.m(y)))),
            g=lambda: nn.Parameter(torch.zeros(())),
        ),
    ),
    "squeeze and excitation": Small("traced", IMAGE, lambda: SqueezeExcite(CLASSES)),
    "GLU by hand": Small("traced", VECTOR, lambda: Gated(CLASSES)),
    "nn.GLU": Small("either", VECTOR, lambda: GLU(CLASSES)),
    "option A": Small("traced", IMAGE, lambda: OptionA(CLASSES)),
    "chunk": Small("traced", VECTOR, vector(_chunked)),
    "slice of channels": Small("traced", IMAGE, image(lambda s, x: s.b(pooled(relu(s.a(x))[:, :4])), 4)),
    "strided positions": Small(
        "traced", IMAGE, image(lambda s, x: s.b(pooled(relu(s.a(x))[:, :, ::2, ::2])))
    ),
    "padding of channels": Small(
        "traced",
        IMAGE,
        image(lambda s, x: s.b(pooled(F.pad(relu(s.a(x)), (0, 0, 0, 0, 2, 2)))), 12),
    ),
    "flip of channels": Small(
        "either", IMAGE, image(lambda s, x: let(s.a(x), lambda y: s.b(pooled(s.m(y) + y.flip(1)))))
    ),
    "sum with its own reverse": Small(
        "either", VECTOR, vector(lambda s, x: let(relu(s.a(x)), lambda y: s.b(y + y.flip(1))))
    ),
    "cumulative sum over neurons": Small(
        "refused", VECTOR, vector(lambda s, x: s.b(F.relu(s.a(x)).cumsum(1)))
    ),
    "softmax inside": Small("either", VECTOR, vector(lambda s, x: s.b(F.softmax(s.a(x), 1)))),
    "normalize inside": Small("either", VECTOR, vector(lambda s, x: s.b(F.normalize(s.a(x), dim=1)))),
    "channel shuffle by hand": Small("traced", IMAGE, image(_shuffled)),
    "ChannelShuffle": Small(
        "traced",
        IMAGE,
        row(
            *(conv(3, 8, 3), lambda: nn.ChannelShuffle(2), conv(8, 8, 3, groups=2), nn.ReLU, nn.Flatten),
            linear(128, 5),
        ),
    ),
    "GroupNorm": Small(
        "either",
        IMAGE,
        row(conv(3, 8, 3), lambda: nn.GroupNorm(2, 8), nn.ReLU, conv(8, 8, 3), nn.Flatten, linear(128, 5)),
    ),
    "InstanceNorm": Small(
        "either",
        IMAGE,
        row(
            *(conv(3, 8, 3), lambda: nn.InstanceNorm2d(8, affine=True), nn.ReLU, nn.Flatten, linear(288, 5)),
        ),
    ),
    "PixelShuffle": Small(
        "either", IMAGE, row(conv(3, 8, 3), lambda: nn.PixelShuffle(2), nn.Flatten, linear(288, 5))
    ),
    "ConvTranspose2d": Small(
        "either",
        IMAGE,
        row(conv(3, 8, 3), nn.ReLU, lambda: nn.ConvTranspose2d(8, 4, 3), nn.Flatten, linear(256, 5)),
    ),
    "Bilinear": Small(
        "either",
        VECTOR,
        vector(lambda s, x: let(s.a(x), lambda y: s.b(s.f(y, relu(y)))), f=lambda: nn.Bilinear(10, 10, 10)),
    ),
    "one layer used twice": Small("either", VECTOR, vector(lambda s, x: s.b(s.m(relu(s.m(s.a(x))))))),
    "shared weight": Small(
        "either",
        VECTOR,
        behind(
            vector(lambda s, x: s.b(relu(s.n(relu(s.m(s.a(x)))))), n=linear(10, 10)),
            lambda m: setattr(m.n, "weight", m.m.weight),
        ),
    ),
    "LSTM": Small("either", TOKENS, lambda: Recurrent(nn.LSTM, CLASSES)),
    "GRU": Small("either", TOKENS, lambda: Recurrent(nn.GRU, CLASSES)),
    "attention": Small("either", TOKENS, lambda: Attention(CLASSES)),
    "TransformerEncoderLayer": Small(
        "either",
        TOKENS,
        lambda: Net(
            lambda s, x: s.b(s.e(x).mean(1)),
            e=nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True),
            b=nn.Linear(8, CLASSES),
        ),
    ),
    "token mixer": Small("either", TOKENS, lambda: TokenMixer(CLASSES)),
    "branch on values": Small(
        "refused", VECTOR, vector(lambda s, x: s.b(relu(s.a(x)) if x.sum() > 0 else s.a(x)))
    ),
    "two outputs": Small("refused", VECTOR, vector(lambda s, x: let(s.a(x), lambda y: (s.b(relu(y)), y)))),
    "a dictionary": Small("refused", VECTOR, vector(lambda s, x: {"logits": s.b(relu(s.a(x)))})),
}
PLAIN = {
    "MLP": Small("traced", VECTOR, mlp),
    "convolutional": Small("traced", IMAGE, convnet),
    "residual": Small("traced", VECTOR, vector(lambda s, x: let(s.a(x), lambda y: s.b(y + relu(s.m(y)))))),
    "concatenation": Small(
        "traced",
        VECTOR,
        vector(
            lambda s, x: let(s.a(x), lambda y: s.b(torch.cat([y, relu(s.m(y))], 1))),
            b=lambda: nn.Linear(20, 5),
        ),
    ),
    "grouped": Small(
        "traced",
        IMAGE,
        row(
            conv(3, 8, 3),
            nn.ReLU,
            conv(8, 8, 3, groups=4),
            nn.ReLU,
            conv(8, 8, 1),
            nn.Flatten,
            linear(128, 5),
        ),
    ),
    "depthwise separable": Small(
        "traced",
        IMAGE,
        row(
            conv(3, 8, 3), nn.ReLU, conv(8, 8, 3, groups=8), conv(8, 6, 1), nn.ReLU, nn.Flatten, linear(96, 5)
        ),
    ),
    "layer norm of samples": Small(
        "traced", VECTOR, row(linear(12, 10), lambda: nn.LayerNorm(10), nn.Tanh, linear(10, 5))
    ),
    "batch norm without statistics": Small(
        "traced",
        VECTOR,
        row(linear(12, 10), lambda: nn.BatchNorm1d(10, track_running_stats=False), nn.ReLU, linear(10, 5)),
    ),
}
