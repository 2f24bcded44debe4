"""Copies of users' modules: without data-parallel wrappers, and with pruning hooks made permanent."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from ticketsearch.errors import BadInput

__all__ = ["PARALLEL", "bake", "own_copy", "prune_masks"]

PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)


def prune_masks(module: nn.Module) -> dict[str, Tensor]:
    """Return the masks of ``torch.nn.utils.prune`` as ``{tensor name: bool tensor of its shape}``."""
    masks = {}
    for path, child in module.named_modules():
        for hook in child._forward_pre_hooks.values():
            if isinstance(hook, prune.BasePruningMethod):
                name = str(hook._tensor_name)
                mask = child.get_buffer(f"{name}_mask").detach()
                if not bool(((mask == 0) | (mask == 1)).all()):
                    raise BadInput(
                        f"masks of torch.nn.utils.prune are 0 and 1, but that of {path}.{name} has other "
                        "values; give custom_from_mask a mask of 0 and 1"
                    )
                masks[f"{path}.{name}" if path else name] = mask != 0
    return masks


def own_copy(module: nn.Module) -> nn.Module:
    """Return a copy of a module in which data-parallel wrappers are replaced by their modules.

    Raises :class:`BadInput` for a module that cannot be copied.
    """
    # A pruned tensor, and perhaps its mask, is the result of a computation and cannot be copied.
    computed = [
        vars(child)[tensor] for child, tensor in (_owner(module, name) for name in prune_masks(module))
    ]
    for child in module.modules():
        for hook in child._forward_pre_hooks.values():
            computed += vars(hook).values() if isinstance(hook, prune.BasePruningMethod) else ()
        computed += child.buffers(recurse=False)
    computed = [value for value in computed if isinstance(value, Tensor) and not value.is_leaf]
    try:
        copied = copy.deepcopy(module, {id(value): value.detach().clone() for value in computed})
    except Exception as error:  # the module's own attributes may raise anything
        raise BadInput(
            f"a network is a copy of its module, but {type(module).__name__} cannot be copied "
            f"({type(error).__name__}: {' '.join(str(error).split())}); keep in the module only what "
            "copy.deepcopy can copy"
        ) from error
    return _unwrapped(copied)


def bake(module: nn.Module) -> dict[str, Tensor]:
    """Remove the pruning hooks of a module, in place, and return their masks as :func:`prune_masks` does.

    Pruned tensors become parameters again, with the values that they had in the forward pass.
    """
    masks = prune_masks(module)
    with torch.no_grad():
        for name in masks:
            prune.remove(*_owner(module, name))  # type: ignore[no-untyped-call]
    return masks


def _unwrapped(module: nn.Module) -> nn.Module:
    """Replace data-parallel wrappers of a module by their modules, in place; return the module."""
    while isinstance(module, PARALLEL):
        module = module.module
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, PARALLEL):
                setattr(parent, name, _unwrapped(child))
    return module


def _owner(module: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, tensor = name.rpartition(".")
    return module.get_submodule(path), tensor
