"""Schemes of initial weights: each fills a weight ``(outputs, inputs, *kernel)`` from a generator.

=================  ===========================================================================================
kaiming_normal     N(0, 2 / fan_in) (He et al. 2015, eq. 10)
kaiming_uniform    the uniform distribution of the same variance
xavier_normal      N(0, 2 / (fan_in + fan_out)) (Glorot & Bengio 2010, eq. 12)
xavier_uniform     the uniform distribution of the same variance (Glorot & Bengio 2010, eq. 16)
orthogonal         rows or columns orthonormal (Saxe et al. 2014)
sparse             nine in ten weights 0, the others N(0, 0.01²) (Martens 2010, as PyTorch does it)
pytorch            PyTorch's default: uniform within ± 1 / √fan_in
signed_constant    ± √(2 / fan_in), the signs at random (Zhou et al. 2019)
uniform            uniform within ± 1 whatever fan_in is, and so the biases, as strong tickets are searched in
=================  ===========================================================================================

fan_in is inputs × kernel positions, fan_out outputs × kernel positions.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

__all__ = ["AS_BUILT", "SCHEMES", "reset_normalisation", "set_weights", "signed_constant", "sparse"]

AS_BUILT = "as_built"

WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMALISATIONS = (
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm),
)


def sparse(weight: Tensor, generator: torch.Generator, *, sparsity: float = 0.9) -> Tensor:
    """Fill ``(outputs, inputs, *kernel)`` weights with N(0, 0.01²), most of them 0 (Martens 2010, section 5).

    As in ``torch.nn.init.sparse_``, ``ceil(sparsity * outputs)`` weights are 0 in each column of the weight
    viewed as ``(outputs, inputs * kernel positions)``. A unit that this leaves without incoming weight gets
    back one of them, chosen at random.
    """
    matrix = weight.new_empty(len(weight), weight[0].numel()).normal_(0, 0.01, generator=generator)
    order = torch.rand(matrix.shape, generator=generator, dtype=matrix.dtype).argsort(dim=0, stable=True)
    zeros = torch.zeros(matrix.shape, dtype=torch.bool)
    zeros.scatter_(0, order[: math.ceil(sparsity * len(matrix))], True)
    (isolated,) = torch.where(zeros.all(dim=1))
    zeros[isolated, torch.randint(matrix.shape[1], isolated.shape, generator=generator)] = False
    return weight.copy_(matrix.masked_fill(zeros, 0).view_as(weight))


def signed_constant(weight: Tensor, generator: torch.Generator) -> Tensor:
    """Fill ``(outputs, inputs, *kernel)`` weights with ± √(2 / fan_in), each sign as likely.

    The constant is the deviation of kaiming_normal (Zhou et al. 2019, "Deconstructing Lottery Tickets").
    """
    signs = 2 * torch.randint(2, weight.shape, generator=generator) - 1
    return weight.copy_(signs).mul_(math.sqrt(2 / weight[0].numel()))


SCHEMES: dict[str, Callable[..., Tensor]] = {
    "kaiming_normal": lambda w, g: nn.init.kaiming_normal_(w, nonlinearity="relu", generator=g),
    "kaiming_uniform": lambda w, g: nn.init.kaiming_uniform_(w, nonlinearity="relu", generator=g),
    "xavier_normal": lambda w, g: nn.init.xavier_normal_(w, generator=g),
    "xavier_uniform": lambda w, g: nn.init.xavier_uniform_(w, generator=g),
    "orthogonal": lambda w, g: nn.init.orthogonal_(w, generator=g),
    "sparse": sparse,
    "pytorch": lambda w, g: nn.init.kaiming_uniform_(w, a=math.sqrt(5), generator=g),
    "signed_constant": signed_constant,
    "uniform": lambda w, g: w.uniform_(-1, 1, generator=g),
}
# Schemes that give biases values too.
BIASED = ("uniform",)


def set_weights(module: nn.Module, scheme: str, seed: int) -> None:
    """Give a module, in place, the weights of a scheme in :data:`SCHEMES` under a seed.

    All linear layers and convolutions get weights of the scheme, and biases 0 but for :data:`BIASED`;
    normalisation layers are reset. Parameters of other layers stay.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for child in module.modules():
            if isinstance(child, WEIGHTED):
                SCHEMES[scheme](child.weight, generator)
                if child.bias is not None:
                    child.bias.zero_()
                    if scheme in BIASED:
                        SCHEMES[scheme](child.bias, generator)
    reset_normalisation(module)


def reset_normalisation(module: nn.Module) -> None:
    """Give normalisation layers, in place, weight 1, bias 0, running mean 0 and running variance 1."""
    start = {"weight": 1, "bias": 0, "running_mean": 0, "running_var": 1, "num_batches_tracked": 0}
    with torch.no_grad():
        for child in module.modules():
            if isinstance(child, NORMALISATIONS):
                for name, value in start.items():
                    tensor = getattr(child, name, None)
                    if tensor is not None:
                        tensor.fill_(value)
