"""Masked networks as modules of torch: compact, pruned by torch.nn.utils.prune, or with sparse weights."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from dataclasses import replace

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn.utils import prune

from ticketsearch.checks import check, checked
from ticketsearch.errors import BadInput
from ticketsearch.masks import Mask, MaskSpec, check_mask
from ticketsearch.models.network import Network
from ticketsearch.wiring import (
    Wiring,
    fixed_groups,
    is_constant,
    live_groups,
    standalone,
)
from ticketsearch.wiring import compact as compacted

__all__ = ["compact", "to_pruned", "to_sparse"]


@checked
def compact(
    network: Network, mask: ArrayLike, parameters: Mapping[str, Tensor] | nn.Module | None = None
) -> nn.Module:
    """Return the dense network of the live units of a masked network, which computes the same outputs.

    Parameters
    ----------
    network : the whole network.
    mask : ``(weights,)`` bool.
    parameters : a module of the same architecture, such as the trained one, or its parameters and buffers
        ``{name: tensor}``; those left out are the network's initial ones.

    Returns a ``torch.fx.GraphModule`` of torch's own modules and functions, in evaluation mode. It runs
    without ticketsearch, and ``torch.save``, ``torch.export.export`` and ``torch.onnx.export`` take it. Names
    of parameters are those of the network.

    A unit is left out where no kept path leads from it to an output, or where it is zero for every input: it
    has no kept input, and no bias or shift makes it non-zero. Weights between live units that the mask prunes
    are zeros; further training would move them. Dropout is left out. Groups that are normalised over their
    units or divided by grouped convolutions stay whole, and so does a network whose groups are declared.

    Raises :class:`BadInput` for a mask of another network, and parameters of other names or shapes.
    """
    check("network", network, Network)
    mask = check_mask(mask, network.spec)
    tensors = masked_tensors(network, mask, parameters)
    if not network.wiring.steps:
        return _filled(network, tensors)
    spec = spec_of(network.wiring, tensors)
    units = live_groups(mask, spec, fixed_groups(network.wiring), lambda sizes, live: live)
    return standalone(compacted(network.wiring, units), tensors, network.input_shape)


def spec_of(wiring: Wiring, tensors: Mapping[str, Tensor]) -> MaskSpec:
    """Return the spec whose rule of dead units holds for a network that is not trained any more."""
    still = frozenset(tensors)
    nodes = tuple(
        node._replace(constant=is_constant(wiring.steps, index, tensors, still))
        for index, node in enumerate(wiring.spec.nodes)
    )
    return replace(wiring.spec, nodes=nodes)


@checked
def to_pruned(
    network: Network, mask: ArrayLike, parameters: Mapping[str, Tensor] | nn.Module | None = None
) -> nn.Module:
    """Return the module of a masked network as ``torch.nn.utils.prune`` would leave it.

    Each maskable tensor ``weight`` is stored as ``weight_orig`` and ``weight_mask``;
    :func:`ticketsearch.from_pruned` gives network and mask back. Parameters are as in :func:`compact`.

    Raises :class:`BadInput` as :func:`compact` does.
    """
    check("network", network, Network)
    mask = check_mask(mask, network.spec)
    module = _filled(network, _tensors(network, parameters))
    for name, kept in network.spec.split(mask).items():
        path, _, tensor = name.rpartition(".")
        prune.custom_from_mask(  # type: ignore[no-untyped-call]
            module.get_submodule(path), tensor, torch.from_numpy(kept.copy())
        )
    return module


@checked
def to_sparse(
    network: Network, mask: ArrayLike, parameters: Mapping[str, Tensor] | nn.Module | None = None
) -> nn.Module:
    """Return the module of a masked network, with the weights of Linear layers as sparse CSR tensors.

    Weights of other layers are dense, with zeros where the mask prunes. The module is for evaluation on a
    CPU. Parameters are as in :func:`compact`.

    Raises :class:`BadInput` as :func:`compact` does.
    """
    check("network", network, Network)
    mask = check_mask(mask, network.spec)
    module = _filled(network, masked_tensors(network, mask, parameters))
    for name in network.spec.split(mask):
        path, _, tensor = name.rpartition(".")
        layer = module.get_submodule(path)
        if isinstance(layer, nn.Linear):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch says once that these tensors are new
                weight = getattr(layer, tensor).detach().to_sparse_csr()
            setattr(layer, tensor, nn.Parameter(weight, requires_grad=False))
    return module


def masked_tensors(
    network: Network, mask: Mask, parameters: Mapping[str, Tensor] | nn.Module | None
) -> dict[str, Tensor]:
    """Return parameters and buffers of a network, with zeros where the mask prunes."""
    tensors = _tensors(network, parameters)
    for name, kept in network.spec.split(mask).items():
        tensors[name] = tensors[name] * torch.from_numpy(kept.copy())
    return tensors


def _tensors(network: Network, parameters: Mapping[str, Tensor] | nn.Module | None) -> dict[str, Tensor]:
    """Return parameters and buffers, the given ones in place of the initial ones, all of one type."""
    whole = {**network.parameters(), **network.buffers()}
    if isinstance(parameters, nn.Module):
        parameters = {**dict(parameters.named_parameters()), **dict(parameters.named_buffers())}
    given = {name: tensor.detach().cpu() for name, tensor in (parameters or {}).items()}
    for name, tensor in given.items():
        if name not in whole or tensor.shape != whole[name].shape:
            wanted = f"shape {tuple(whole[name].shape)}" if name in whole else "no such tensor"
            raise BadInput(
                f"parameters are those of model {network.name!r}, which has {wanted} for {name!r}, but got "
                f"shape {tuple(tensor.shape)}; give the module as it was trained"
            )
    kinds = {tensor.dtype for tensor in given.values() if tensor.is_floating_point()}
    dtype = torch.float64 if torch.float64 in kinds else torch.float32
    return {
        name: tensor.to(dtype) if tensor.is_floating_point() else tensor.clone()
        for name, tensor in {**whole, **given}.items()
    }


def _filled(network: Network, tensors: Mapping[str, Tensor]) -> nn.Module:
    """Return a copy of the network's module with these tensors, in evaluation mode."""
    module = copy.deepcopy(network.module)
    module.to(next(iter(tensors.values())).dtype if tensors else torch.float32)
    with torch.no_grad():
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            tensor.copy_(tensors[name])
    return module.eval()
