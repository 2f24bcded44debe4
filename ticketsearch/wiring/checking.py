"""Checks of a wiring against the module that it was made from."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn

from ticketsearch.errors import BadInput
from ticketsearch.masks import random_order
from ticketsearch.wiring.steps import Wiring

__all__ = ["check_declared", "check_runs", "check_trace", "tensors_of"]

SAMPLES = 5
TOLERANCE = 1e-8
# Of torch's global generator while a module runs: dropout then draws alike in the module and in its trace.
# One for each mode, so that a number drawn while tracing agrees with one of them at most.
SEEDS = (4_058_237_161, 2_713_664_309)


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Return copies of a module's parameters and buffers by name, floats in double precision."""
    named = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return {
        name: tensor.detach().clone().double() if tensor.is_floating_point() else tensor.detach().clone()
        for name, tensor in named.items()
    }


def check_runs(module: nn.Module, input_shape: tuple[int, ...]) -> None:
    """Raise :class:`BadInput` for a module that fails on samples of this shape."""
    _outputs(module, _samples(input_shape), False, SEEDS[0])


def check_trace(wiring: Wiring, input_shape: tuple[int, ...]) -> None:
    """Refuse a module whose outputs differ from those of the traced steps, or from call to call.

    Looked at in evaluation mode and in training mode, where both draw the same dropout.
    Raises :class:`BadInput` saying so, or that the module itself fails.
    """
    module = wiring.module
    name = type(module).__name__
    for training in (False, True):
        x = _samples(input_shape)
        expected = _outputs(module, x, training, SEEDS[training])
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEEDS[training])
            found = wiring.forward(tensors_of(module), x, training=training)
        if expected.shape != found.shape or not torch.allclose(
            expected, found, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True
        ):
            raise BadInput(
                f"{name} computes something other than its trace (a forward that is random, or "
                "depends on values, cannot be traced); make it deterministic"
            )


def check_declared(wiring: Wiring, input_shape: tuple[int, ...]) -> None:
    """Refuse groups declared by hand whose renumbering changes what the module computes.

    Raises :class:`BadInput` naming the group.
    """
    module = wiring.module
    x = _samples(input_shape)
    expected = _outputs(module, x, False, SEEDS[0])
    if expected.ndim != 2 or expected.shape[1] != wiring.spec.outputs:
        raise BadInput(
            f"a network returns (samples, classes), here (samples, {wiring.spec.outputs}) as the group "
            f"'output' says, but {type(module).__name__} returns shape {tuple(expected.shape)}"
        )
    if not torch.equal(expected, _outputs(module, x, False, SEEDS[1])):
        raise BadInput(
            f"{type(module).__name__} returns other outputs from call to call; make it deterministic"
        )
    # Of tensors without equal entries: biases that start at zero may be renumbered as one likes.
    generator = torch.Generator().manual_seed(0)
    tensors = {
        key: tensor + torch.rand(tensor.shape, generator=generator) if tensor.is_floating_point() else tensor
        for key, tensor in tensors_of(module).items()
    }
    with torch.no_grad():
        expected = wiring.forward(tensors, x)
    order = random_order(wiring.spec, np.random.default_rng(0))
    for name, numbers in order.items():
        with torch.no_grad():
            found = wiring.forward(wiring.renumbered(tensors, {name: numbers}), x)
        if not torch.allclose(expected, found, rtol=TOLERANCE, atol=TOLERANCE):
            raise BadInput(
                f"neuron_groups of {type(module).__name__}: renumbering the units of {name!r} changes the "
                "outputs; name every axis that they number, with its block, or leave the group out"
            )


def _samples(input_shape: tuple[int, ...]) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn((SAMPLES, *input_shape), dtype=torch.float64, generator=generator)


@torch.no_grad()
def _outputs(module: nn.Module, x: Tensor, training: bool, seed: int) -> Tensor:
    double = copy.deepcopy(module).double().train(training)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            outputs = double(x)
    except Exception as error:  # the module's own code may raise anything
        reason = " ".join(str(error).split())
        shape = tuple(x.shape[1:])
        raise BadInput(
            f"{type(module).__name__} fails on {len(x)} samples of shape {shape} "
            f"({type(error).__name__}: {reason}); make it take (samples, {', '.join(map(str, shape))})"
        ) from error
    if not isinstance(outputs, Tensor):
        raise BadInput("a network returns one tensor (samples, classes), but this one returns something else")
    return outputs
