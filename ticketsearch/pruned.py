"""Tickets out of modules that ``torch.nn.utils.prune`` has pruned."""

from __future__ import annotations

import numpy as np
from torch import nn

from ticketsearch.datasets import Dataset
from ticketsearch.errors import BadInput
from ticketsearch.masks import check_mask
from ticketsearch.models import AS_BUILT, bake, initialize, own_copy
from ticketsearch.tickets import LoadedTicket

__all__ = ["from_pruned"]


def from_pruned(module: nn.Module, dataset: Dataset) -> LoadedTicket:
    """Return the network and the mask of a module that was pruned by ``torch.nn.utils.prune``.

    Kept weights begin with the values that they have in the module (scheme ``as_built``), and layers that
    were not pruned are kept whole. Entries of biases that were pruned begin at 0 like any bias, and learn:
    masks are over the weights alone. The module is left as it is.

    Parameters
    ----------
    module : pruned in whatever way: by magnitude, globally, by whole units, by a mask of one's own, several
        times over.
    dataset : gives the input shape and the number of classes.

    Returns
    -------
    ``(network, mask)``, the mask being ``(weights,)`` bool; ``save_ticket`` takes both.

    Raises :class:`BadInput` for a module without such pruning, or one that cannot be traced.
    """
    if not isinstance(module, nn.Module):
        raise BadInput(f"from_pruned takes a torch.nn.Module, but got {type(module).__name__}")
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
    network = initialize(factory, dataset, scheme=AS_BUILT)
    parts = {
        layer.name: np.asarray(masks[layer.name]) if layer.name in masks else np.ones(layer.shape, bool)
        for layer in network.spec.layers
    }
    mask = network.spec.join(parts)
    mask.flags.writeable = False
    return LoadedTicket(network, check_mask(mask, network.spec))
