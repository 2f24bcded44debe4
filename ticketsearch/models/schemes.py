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
uniform            uniform within ± 1 for any fan_in, biases too; for the search of strong lottery tickets
=================  ===========================================================================================

fan_in is inputs × kernel positions, fan_out outputs × kernel positions.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ticketsearch.wiring import Wiring

__all__ = [
    "AS_BUILT",
    "SCHEMES",
    "reset_functional",
    "reset_normalisation",
    "set_functional",
    "set_weights",
    "signed_constant",
    "sparse",
]

AS_BUILT = "as_built"

WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMALISATIONS = (
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm),
)


def sparse(weight: Tensor, generator: torch.Generator, *, sparsity: float = 0.9) -> Tensor:
    """Fill ``(outputs, inputs, *kernel)`` weights with N(0, 0.01²), most of them 0 (Martens 2010, section 5).

    As in ``torch.nn.init.sparse_``, ``ceil(sparsity * outputs)`` weights are 0 in each column of the weight
    viewed as ``(outputs, inputs * kernel positions)``. A unit without any incoming weight then gets one back,
    chosen at random.
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
# Schemes that draw biases too.
BIASED = ("uniform",)


def set_weights(module: nn.Module, scheme: str, seed: int) -> torch.Generator:
    """Give a module, in place, the weights of a scheme in :data:`SCHEMES` under a seed.

    All linear layers and convolutions get weights of the scheme, and biases 0 except under :data:`BIASED`;
    normalisation layers are reset. Parameters of other layers do not change. Returns the generator, for
    :func:`set_functional`.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for child in module.modules():
            if isinstance(child, WEIGHTED):
                _set_layer(child.weight, child.bias, scheme, generator)
    reset_normalisation(module)
    return generator


def set_functional(module: nn.Module, wiring: Wiring, scheme: str, generator: torch.Generator) -> bool:
    """Give functional layers, which ``forward`` computes from the module's parameters, weights of a scheme.

    These are the maskable layers of the traced network that are not modules, in the order of the computation;
    normalisations by such parameters are reset. The module is changed in place. Returns whether there are
    any.
    """
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    module_weights = {id(child.weight) for child in module.modules() if isinstance(child, WEIGHTED)}
    layers = [
        step.names
        for step in wiring.steps
        if step.operation == "linear" and id(tensors[str(step.names[0])]) not in module_weights
    ]
    with torch.no_grad():
        for weight, bias in layers:
            _set_layer(tensors[str(weight)], None if bias is None else tensors[bias], scheme, generator)
    return reset_functional(module, wiring) or bool(layers)


def reset_functional(module: nn.Module, wiring: Wiring) -> bool:
    """Reset, in place, the normalisations that are not modules; see :func:`reset_normalisation`.

    Returns whether there are any.
    """
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    layers = [child for child in module.modules() if isinstance(child, NORMALISATIONS)]
    module_tensors = {id(tensor) for child in layers for tensor in (*child.parameters(), *child.buffers())}
    changed = False
    with torch.no_grad():
        for step in wiring.steps:
            if step.operation in ("normalize", "mix"):
                for name, value in zip(step.names, (1, 0, 0, 1), strict=False):
                    if name is not None and id(tensors[name]) not in module_tensors:
                        tensors[name].fill_(value)
                        changed = True
    return changed


def _set_layer(weight: Tensor, bias: Tensor | None, scheme: str, generator: torch.Generator) -> None:
    SCHEMES[scheme](weight, generator)
    if bias is not None:
        bias.zero_()
        if scheme in BIASED:
            SCHEMES[scheme](bias, generator)


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
