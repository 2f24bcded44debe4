"""Blocks of the small networks: gates, shortcuts, recurrence, attention, token mixing."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "GLU",
    "AffineScale",
    "Attention",
    "Gated",
    "OptionA",
    "Recurrent",
    "SqueezeExcite",
    "TokenMixer",
]


class SqueezeExcite(nn.Module):
    """A residual block whose channels are gated by means over positions (Hu et al. 2018)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.down, self.up = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.head = nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs."""
        x = torch.relu(self.norm(self.stem(x)))
        y = self.conv(x)
        gate = torch.sigmoid(self.up(torch.relu(self.down(F.adaptive_avg_pool2d(y, 1)))))
        return self.head(torch.relu(x + y * gate).mean((2, 3)))


class Gated(nn.Module):
    """A gated linear unit of two layers (Dauphin et al. 2017)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.value, self.gate = nn.Linear(12, 10), nn.Linear(12, 10)
        self.head = nn.Linear(10, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs."""
        return self.head(self.value(x) * torch.sigmoid(self.gate(x)))


class GLU(nn.Module):
    """A gated linear unit of the halves of one layer."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.both, self.gate, self.head = nn.Linear(12, 20), nn.GLU(1), nn.Linear(10, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs."""
        return self.head(self.gate(self.both(x)))


class AffineScale(nn.Module):
    """A residual branch that is scaled channel by channel (LayerScale, Touvron et al. 2021)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.gamma = nn.Parameter(torch.full((8, 1, 1), 0.1))
        self.head = nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs."""
        x = torch.relu(self.stem(x))
        return self.head((x + self.gamma * F.gelu(self.conv(x))).mean((2, 3)))


class OptionA(nn.Module):
    """A shortcut of strided positions and zero channels (He et al. 2016, option A)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.conv1 = nn.Conv2d(4, 8, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs."""
        x = torch.relu(self.stem(x))
        y = self.norm(self.conv2(torch.relu(self.conv1(x))))
        shortcut = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2), "constant", 0)
        return self.head(torch.relu(y + shortcut).mean((2, 3)))


class Recurrent(nn.Module):
    """A recurrent layer that is read at its last step."""

    def __init__(self, kind: type[nn.Module], classes: int) -> None:
        super().__init__()
        self.layer, self.head = kind(8, 10, batch_first=True), nn.Linear(10, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs."""
        return self.head(self.layer(x)[0][:, -1])


class Attention(nn.Module):
    """Attention of two heads over six tokens of eight features."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.qkv, self.out, self.head = nn.Linear(8, 24), nn.Linear(8, 8), nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs."""
        q, k, v = self.qkv(x).reshape(x.shape[0], 6, 3, 2, 4).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape[0], 6, 8)
        return self.head((x + self.out(y)).mean(1))


class TokenMixer(nn.Module):
    """Layers over features and over tokens in turn (Tolstikhin et al. 2021)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.norm, self.tokens, self.features = nn.LayerNorm(8), nn.Linear(6, 6), nn.Linear(8, 8)
        self.head = nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs."""
        x = x + F.gelu(self.tokens(self.norm(x).transpose(1, 2))).transpose(1, 2)
        return self.head((x + F.gelu(self.features(x))).mean(1))
