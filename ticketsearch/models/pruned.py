"""Modules pruned by ``torch.nn.utils.prune``: baked, i.e. with plain weights again, beside their masks."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from ticketsearch.errors import BadInput

__all__ = ["own_copy", "prune_masks"]


def prune_masks(module: nn.Module) -> dict[str, Tensor]:
    """Return the masks ``{tensor name: bool tensor of its shape}`` that ``torch.nn.utils.prune`` has put."""
    found = {}
    for path, child in module.named_modules():
        for hook in child._forward_pre_hooks.values():
            if isinstance(hook, prune.BasePruningMethod):
                name = str(hook._tensor_name)
                mask = child.get_buffer(f"{name}_mask")
                found[f"{path}.{name}" if path else name] = mask.detach() != 0
    return found


def own_copy(module: nn.Module) -> nn.Module:
    """Return a copy of a module without pruning hooks: pruned tensors are those of the forward pass.

    Raises :class:`BadInput` for a module that cannot be copied.
    """
    # A pruned tensor is the result of a computation, and those cannot be copied; its hook recomputes it.
    computed = [(name, *_owner(module, name)) for name in prune_masks(module)]
    memo = {id(value): value.detach().clone() for _, child, own in computed for value in [vars(child)[own]]}
    try:
        found = copy.deepcopy(module, memo)
    except Exception as error:  # whatever the module's own attributes raise
        raise BadInput(
            f"a network is a copy of its module, but {type(module).__name__} cannot be copied "
            f"({type(error).__name__}: {' '.join(str(error).split())}); keep in the module only what "
            "copy.deepcopy can copy"
        ) from error
    with torch.no_grad():
        for name, *_ in computed:
            prune.remove(*_owner(found, name))  # type: ignore[no-untyped-call]
    return found


def _owner(module: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, own = name.rpartition(".")
    return module.get_submodule(path), own
