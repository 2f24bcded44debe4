"""Tickets from modules that were pruned by ``torch.nn.utils.prune``."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from ticketsearch.checks import checked
from ticketsearch.datasets import Shaped
from ticketsearch.errors import BadInput
from ticketsearch.masks import check_mask
from ticketsearch.models import AS_BUILT, bake, initialize, own_copy
from ticketsearch.tickets.files import LoadedTicket
from ticketsearch.wiring import check_module

__all__ = ["from_pruned"]


class _Shape(NamedTuple):
    """Shape of one sample, and number of classes."""

    input_shape: tuple[int, ...]
    classes: int


@checked
def from_pruned(module: nn.Module, dataset: Shaped | None = None) -> LoadedTicket:
    """Return the network and the mask of a module that was pruned by ``torch.nn.utils.prune``.

    Kept weights start from their values in the module (scheme ``as_built``), and layers that were not pruned
    are kept whole. Pruned entries of biases start from 0 and are trained like any bias, as masks cover
    weights only. The module is not changed.

    Parameters
    ----------
    module : pruned by any method of ``torch.nn.utils.prune``, also globally, by whole units, by a custom
        mask, or several times.
    dataset : gives the input shape and the number of classes. It may be left out where the module's first
        layer is Linear: samples are then vectors with the features of that layer.

    Returns
    -------
    ``(network, mask)`` with a mask ``(weights,)`` bool; ``save_ticket`` takes both.

    Raises :class:`BadInput` for a module without such pruning, one that cannot be traced, and one whose input
    shape is unknown.
    """
    if not isinstance(module, nn.Module):
        raise BadInput(f"from_pruned takes a torch.nn.Module, but got {type(module).__name__}")
    check_module(module)
    baked = own_copy(module)
    masks = bake(baked)
    if not masks:
        raise BadInput(
            f"{type(module).__name__} has no masks of torch.nn.utils.prune; if they were made permanent by "
            "prune.remove, take the weights that are not 0 as the mask of ticketsearch.initialize(…)"
        )

    def factory(input_shape: tuple[int, ...], classes: int) -> nn.Module:
        return baked

    factory.__name__ = type(module).__name__
    network = initialize(factory, dataset or _shape_of(baked), scheme=AS_BUILT)
    parts = {
        layer.name: np.asarray(masks[layer.name]) if layer.name in masks else np.ones(layer.shape, bool)
        for layer in network.spec.layers
    }
    mask = network.spec.join(parts)
    mask.flags.writeable = False
    return LoadedTicket(network, check_mask(mask, network.spec))


def _shape_of(module: nn.Module) -> _Shape:
    """Return the shapes of a module whose first layer is Linear; modules list layers in order."""
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    first = next((child for child in module.modules() if isinstance(child, kinds)), None)
    rule = "samples of a module whose first layer is no Linear one have a shape that is not known"
    if not isinstance(first, nn.Linear):
        raise BadInput(f"{rule}; give the dataset: from_pruned(module, dataset)")
    shape = (first.in_features,)
    training = module.training
    try:
        with torch.no_grad():
            outputs = module.eval()(torch.zeros(2, *shape, dtype=first.weight.dtype))
    except Exception as error:  # the module's own code may raise anything
        reason = " ".join(str(error).split())
        raise BadInput(
            f"{type(module).__name__} takes no samples of {shape[0]} features ({reason}); give the dataset: "
            "from_pruned(module, dataset)"
        ) from error
    finally:
        module.train(training)
    return _Shape(shape, int(outputs.shape[-1]))
