"""Parts that the small networks are made of: a network by its forward function, and rows of layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

CLASSES = 5
VECTOR, IMAGE, SEQUENCE, TOKENS = (12,), (3, 8, 8), (4, 16), (6, 8)


class Small(NamedTuple):
    """A small network: ``traced``, ``refused`` or ``either``, its input shape, and how to build it.

    ``plain`` gives the module that judges, from the one that is built, where the two differ in their names.
    """

    verdict: str
    input_shape: tuple[int, ...]
    build: Callable[[], nn.Module]
    plain: Callable[[Any], nn.Module] = lambda module: module


class Net(nn.Module):
    """Two layers a and b with other parts, and a forward function of them."""

    def __init__(self, forward: Callable[[Any, Tensor], Tensor], **parts: nn.Module | nn.Parameter) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.compute = forward

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs."""
        return self.compute(self, x)


def vector(forward: Callable[[Any, Tensor], Tensor], **parts: Any) -> Callable[[], nn.Module]:
    """Return a factory: a of 12 → 10 and b of 10 → 5, with whatever the function makes of them."""

    def build() -> nn.Module:
        given = {name: part() if callable(part) else part for name, part in parts.items()}
        return Net(forward, **{"a": nn.Linear(12, 10), "m": nn.Linear(10, 10), "b": nn.Linear(10, 5)} | given)

    return build


def image(
    forward: Callable[[Any, Tensor], Tensor], features: int = 8, **parts: Any
) -> Callable[[], nn.Module]:
    """Return a factory: convolutions a of 3 → 8 and m of 8 → 8, and b of ``features`` → 5."""

    def build() -> nn.Module:
        given = {name: part() if callable(part) else part for name, part in parts.items()}
        own = {"a": nn.Conv2d(3, 8, 3, padding=1), "m": nn.Conv2d(8, 8, 3, padding=1)}
        return Net(forward, **own | {"b": nn.Linear(features, 5)} | given)

    return build


def row(*makers: Any) -> Callable[[], nn.Module]:
    """Return a factory of a Sequential; what is callable but no module is called first."""
    return lambda: nn.Sequential(*(make() for make in makers))


def linear(*sizes: int, **options: Any) -> Callable[[], nn.Module]:
    """Return a maker of a Linear layer."""
    return lambda: nn.Linear(*sizes, **options)


def conv(*sizes: int, **options: Any) -> Callable[[], nn.Module]:
    """Return a maker of a convolution."""
    return lambda: nn.Conv2d(*sizes, **options)


def let(value: Any, then: Callable[[Any], Any]) -> Any:
    """Return ``then(value)``: names an intermediate value inside a lambda."""
    return then(value)


def pooled(x: Tensor) -> Tensor:
    """Return means over positions."""
    return x.mean((2, 3))


def behind(module: Callable[[], nn.Module], change: Callable[[nn.Module], Any]) -> Callable[[], nn.Module]:
    """Return a factory whose module is changed after it is built."""

    def build() -> nn.Module:
        built = module()
        change(built)
        return built

    return build


relu = torch.relu
mlp = row(linear(12, 10), nn.ReLU, linear(10, 8), nn.ReLU, linear(8, 5))
convnet = row(
    *(conv(3, 8, 3, padding=1, bias=False), lambda: nn.BatchNorm2d(8), nn.ReLU, lambda: nn.MaxPool2d(2)),
    *(conv(8, 8, 3, padding=1), nn.ReLU, lambda: nn.AdaptiveAvgPool2d(1), nn.Flatten, linear(8, 5)),
)
