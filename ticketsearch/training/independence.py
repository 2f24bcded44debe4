"""Independence: a network's outputs for a sample must not depend on the samples evaluated beside it."""

from __future__ import annotations

import torch
from torch import nn

from ticketsearch.errors import BadInput
from ticketsearch.wiring import Wiring, tensors_of

__all__ = ["check_independence"]

# Number of samples, evaluated at once and in two halves.
SAMPLES = 6
TOLERANCE = 1e-6


def check_independence(wiring: Wiring, input_shape: tuple[int, ...]) -> None:
    """Refuse a network whose scores would depend on the order and the blocks of validation samples.

    The network is evaluated on random samples at once and in halves, with noise on its parameters, since
    parameters that are zero may not stay so. Raises :class:`BadInput`, naming batch normalisations that use
    the batch in evaluation if they are the cause.
    """
    generator = torch.Generator().manual_seed(0)
    tensors = tensors_of(wiring.module)
    for name, _ in wiring.module.named_parameters():
        noise = torch.randn(tensors[name].shape, generator=generator, dtype=torch.float64)
        tensors[name] = tensors[name] + 0.1 * noise
    x = torch.randn((SAMPLES, *input_shape), generator=generator, dtype=torch.float64)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        whole = wiring.forward(tensors, x)
        halves = torch.cat([wiring.forward(tensors, half) for half in torch.split(x, SAMPLES // 2)])
    if torch.allclose(whole, halves, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True):
        return
    batch = [
        name or type(child).__name__
        for name, child in wiring.module.named_modules()
        if isinstance(child, nn.modules.batchnorm._BatchNorm) and child.running_mean is None
    ]
    cause = f" ({', '.join(batch[:3])} has no running statistics)" if batch else ""
    way_out = "give it track_running_stats=True" if batch else "normalise by running statistics"
    raise BadInput(
        f"a score must not depend on the samples that are evaluated together, but outputs of "
        f"{type(wiring.module).__name__} do{cause}; {way_out}"
    )
