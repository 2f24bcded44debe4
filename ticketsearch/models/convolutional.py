"""Convolutional architectures of the pruning literature, of plain torch modules that torch.fx can trace.

All map ``(samples, channels, height, width)`` to ``(samples, classes)``; the last layer's number of inputs
follows from the input shape. The option ``width`` multiplies the channels and features of all hidden layers.
Weight counts in the docstrings are of convolutions and linear layers for 3×32×32 and 10 classes.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable

from torch import Tensor, nn

from ticketsearch.checks import check_flag
from ticketsearch.errors import BadInput
from ticketsearch.models.images import check_image
from ticketsearch.models.options import scaled

__all__ = ["ResidualBlock", "conv2", "conv4", "conv6", "lenet5", "resnet20", "vgg16_bn"]

# The deepest residual network of He et al. 2016.
MAX_DEPTH = 1202


def lenet5(input_shape: tuple[int, ...], classes: int, *, width: float = 1.0, bias: bool = True) -> nn.Module:
    """Return LeNet-5 in its present form, with relu and max-pooling (LeCun et al. 1998, fig. 2).

    Convolutions to 6 and 16 channels (5×5, the first padded by 2), each followed by 2×2 pooling; then 120,
    84 and ``classes`` units. 61,470 weights for 1×28×28 and 10 classes. Images are at least 12×12.

    Raises :class:`BadInput` for another input shape or option.
    """
    channels, high, wide = _image("lenet5", input_shape, 12)
    check_flag("bias", bias)
    first, second = scaled(width, 6, 16)
    layers = [
        *(nn.Conv2d(channels, first, 5, padding=2, bias=bias), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(first, second, 5, bias=bias), nn.ReLU(), nn.MaxPool2d(2)),
    ]
    positions = ((high // 2 - 4) // 2) * ((wide // 2 - 4) // 2)
    return _numbered([*layers, *_head(second * positions, scaled(width, 120, 84), classes, bias)])


def conv2(input_shape: tuple[int, ...], classes: int, *, width: float = 1.0, bias: bool = True) -> nn.Module:
    """Return Conv-2 (Frankle & Carbin 2019, fig. 2): 64, 64, pool; then 256, 256 and ``classes`` units.

    Convolutions are 3×3 padded by 1, pooling takes the maximum of 2×2. 4,300,992 weights. Images are at
    least 2×2.

    Raises :class:`BadInput` for another input shape or option.
    """
    return _scaled_down_vgg("conv2", input_shape, classes, (64,), width, bias)


def conv4(input_shape: tuple[int, ...], classes: int, *, width: float = 1.0, bias: bool = True) -> nn.Module:
    """Return Conv-4 (Frankle & Carbin 2019, fig. 2): :func:`conv2` with 128, 128, pool after the first pool.

    2,425,024 weights. Images are at least 4×4.

    Raises :class:`BadInput` for another input shape or option.
    """
    return _scaled_down_vgg("conv4", input_shape, classes, (64, 128), width, bias)


def conv6(input_shape: tuple[int, ...], classes: int, *, width: float = 1.0, bias: bool = True) -> nn.Module:
    """Return Conv-6 (Frankle & Carbin 2019, fig. 2): :func:`conv4` with 256, 256, pool after the last pool.

    2,261,184 weights. Images are at least 8×8.

    Raises :class:`BadInput` for another input shape or option.
    """
    return _scaled_down_vgg("conv6", input_shape, classes, (64, 128, 256), width, bias)


def resnet20(
    input_shape: tuple[int, ...], classes: int, *, depth: int = 20, width: float = 1.0, bias: bool = True
) -> nn.Module:
    """Return the residual network for CIFAR of He et al. 2016, section 4.2.

    A 3×3 convolution to 16 channels, then three stages of ``(depth - 2) / 6`` blocks of 16, 32 and 64
    channels, the second and third starting with stride 2; the mean over all positions; one linear layer.
    Convolutions have no bias, batch normalisation follows each. Where a block changes the shape, its
    shortcut is a 1×1 convolution with batch normalisation (the paper's option B). 270,896 weights at depth
    20. Images may have any size.

    Parameters
    ----------
    depth : 6n + 2 from 8 to 1202, e.g. 20, 32, 44, 56 or 110.
    width : multiplies the channels.
    bias : whether the linear layer has biases.

    Raises :class:`BadInput` for another input shape or option.
    """
    channels, _, _ = _image("resnet20", input_shape, 1)
    check_flag("bias", bias)
    blocks = _blocks_per_stage(depth)
    stages = scaled(width, 16, 32, 64)
    layers: list[nn.Module] = [_convolution(channels, stages[0]), nn.BatchNorm2d(stages[0]), nn.ReLU()]
    channels = stages[0]
    for stage, features in enumerate(stages):
        for block in range(blocks):
            layers.append(ResidualBlock(channels, features, stride=2 if stage and not block else 1))
            channels = features
    return _numbered([*layers, nn.AdaptiveAvgPool2d(1), *_head(channels, [], classes, bias)])


def vgg16_bn(
    input_shape: tuple[int, ...],
    classes: int,
    *,
    batch_norm: bool = True,
    width: float = 1.0,
    bias: bool = True,
) -> nn.Module:
    """Return VGG-16 for CIFAR, as in Tanaka et al. 2020 (SynFlow); Simonyan & Zisserman 2015, table 1, D.

    Thirteen 3×3 convolutions padded by 1 in five stages (64 twice, 128 twice, 256, 512 and 512 three times
    each), each stage followed by 2×2 max-pooling; then one linear layer. 14,715,584 weights. Images are at
    least 32×32. (SynFlow's own code takes the mean instead of the maximum in the last pooling.)

    Parameters
    ----------
    batch_norm : whether batch normalisation follows each convolution.
    width : multiplies the channels.
    bias : whether convolutions and the linear layer have biases.

    Raises :class:`BadInput` for another input shape or option.
    """
    channels, high, wide = _image("vgg16_bn", input_shape, 32)
    check_flag("bias", bias)
    check_flag("batch_norm", batch_norm)
    layers: list[nn.Module] = []
    for features, repeats in zip(scaled(width, 64, 128, 256, 512, 512), (2, 2, 3, 3, 3), strict=True):
        for _ in range(repeats):
            layers.append(nn.Conv2d(channels, features, 3, padding=1, bias=bias))
            layers += [nn.BatchNorm2d(features), nn.ReLU()] if batch_norm else [nn.ReLU()]
            channels = features
        layers.append(nn.MaxPool2d(2))
    return _numbered([*layers, *_head(channels * (high // 32) * (wide // 32), [], classes, bias)])


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions with batch normalisation, added to a shortcut; relu (He et al. 2016, eq. 1 and 2).

    ``(samples, inputs, h, w)`` to ``(samples, outputs, h / stride, w / stride)``, rounded up.
    """

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = _convolution(inputs, outputs, stride)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = _convolution(outputs, outputs)
        self.norm2 = nn.BatchNorm2d(outputs)
        # Empty, a Sequential is the identity.
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut.add_module("conv", nn.Conv2d(inputs, outputs, 1, stride, bias=False))
            self.shortcut.add_module("norm", nn.BatchNorm2d(outputs))
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return relu(F(x) + shortcut(x))."""
        inner = self.norm2(self.conv2(self.relu1(self.norm1(self.conv1(x)))))
        outputs: Tensor = self.relu2(inner + self.shortcut(x))
        return outputs


def _scaled_down_vgg(
    name: str, input_shape: tuple[int, ...], classes: int, stages: tuple[int, ...], width: float, bias: bool
) -> nn.Module:
    shrinkage = 2 ** len(stages)
    channels, high, wide = _image(name, input_shape, shrinkage)
    check_flag("bias", bias)
    layers: list[nn.Module] = []
    for features in scaled(width, *stages):
        for _ in range(2):
            layers += [nn.Conv2d(channels, features, 3, padding=1, bias=bias), nn.ReLU()]
            channels = features
        layers.append(nn.MaxPool2d(2))
    inputs = channels * (high // shrinkage) * (wide // shrinkage)
    return _numbered([*layers, *_head(inputs, scaled(width, 256, 256), classes, bias)])


def _head(inputs: int, hidden: list[int], classes: int, bias: bool) -> list[nn.Module]:
    """Return the fully connected end of a network: flatten, hidden layers with relu, the classes."""
    layers: list[nn.Module] = [nn.Flatten()]
    for features in hidden:
        layers += [nn.Linear(inputs, features, bias=bias), nn.ReLU()]
        inputs = features
    return [*layers, nn.Linear(inputs, classes, bias=bias)]


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)


def _image(name: str, input_shape: tuple[int, ...], smallest: int) -> tuple[int, int, int]:
    """Return channels, height and width of an input shape that must have all three."""
    shape = tuple(input_shape)
    check_image(name, shape, smallest=smallest)
    channels, high, wide = shape
    return channels, high, wide


def _blocks_per_stage(depth: int) -> int:
    try:
        layers = int(str(depth))
    except ValueError:
        layers = 0
    if not 8 <= layers <= MAX_DEPTH or (layers - 2) % 6:
        raise BadInput(
            f"depth of resnet20 must be 6n + 2 from 8 to {MAX_DEPTH}, but got {depth!r}; "
            "give 20, 32, 44, 56 or 110"
        )
    return (layers - 2) // 6


def _numbered(layers: Iterable[nn.Module]) -> nn.Sequential:
    """Name layers by kind and number (conv1, relu1, conv2, …); reports and masks use these names."""
    kinds: dict[type[nn.Module], str] = {
        **{nn.Conv2d: "conv", nn.BatchNorm2d: "norm", nn.ReLU: "relu", nn.MaxPool2d: "pool"},
        **{nn.AdaptiveAvgPool2d: "pool", nn.Flatten: "flatten", nn.Linear: "fc", ResidualBlock: "block"},
    }
    seen: Counter[str] = Counter()
    named: OrderedDict[str, nn.Module] = OrderedDict()
    for layer in layers:
        kind = kinds[type(layer)]
        seen[kind] += 1
        named[f"{kind}{seen[kind]}"] = layer
    return nn.Sequential(named)
