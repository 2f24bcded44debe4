"""Fully connected architectures."""

from __future__ import annotations

import torch
from torch import nn

from ticketsearch.checks import LAYERS, check_flag
from ticketsearch.errors import BadInput, unknown
from ticketsearch.models.options import MAX_WIDTH, scaled

__all__ = ["lenet_300_100", "mlp"]


def mlp(
    input_shape: tuple[int, ...],
    classes: int,
    hidden: str = "100,50",
    *,
    activation: str = "relu",
    width: float = 1.0,
    bias: bool = True,
) -> nn.Module:
    """Return a multilayer perceptron: ``(samples, *input_shape)`` to ``(samples, classes)``.

    Parameters
    ----------
    hidden : the hidden widths, e.g. ``"300,100"``.
    activation : after each hidden layer: relu, leaky_relu, tanh, sigmoid, gelu, silu, elu or identity.
    width : multiplies the hidden widths.
    bias : whether the layers have biases.

    Raises :class:`BadInput` for another option.
    """
    activations = {"relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}
    activations |= {"gelu": nn.GELU, "silu": nn.SiLU, "elu": nn.ELU, "identity": nn.Identity}
    if str(activation) not in activations:
        raise unknown("activation", str(activation), activations)
    try:
        widths = [int(units) for units in str(hidden).split(",")]
    except ValueError:
        widths = [0]
    if not all(1 <= units <= MAX_WIDTH for units in widths):
        raise BadInput(
            f"mlp widths are integers from 1 to {MAX_WIDTH} such as mlp:300,100, but got {hidden!r}"
        )
    if len(widths) > LAYERS:
        raise BadInput(f"mlp has at most {LAYERS} hidden layers, but got {len(widths)}; give fewer widths")
    check_flag("bias", bias)
    layers: list[nn.Module] = [nn.Flatten()]
    previous = int(torch.Size(input_shape).numel())
    for units in scaled(width, *widths):
        layers += [nn.Linear(previous, units, bias=bias), activations[activation]()]
        previous = units
    layers.append(nn.Linear(previous, classes, bias=bias))
    return nn.Sequential(*layers)


def lenet_300_100(
    input_shape: tuple[int, ...], classes: int, *, width: float = 1.0, bias: bool = True
) -> nn.Module:
    """Return LeNet-300-100, the fully connected network of LeCun et al. 1998 and Frankle & Carbin 2019.

    ``(samples, *input_shape)`` to ``(samples, classes)``; 266,200 weights for 1×28×28 and 10 classes. Its
    options are those of :func:`mlp`.
    """
    return mlp(input_shape, classes, "300,100", width=width, bias=bias)
