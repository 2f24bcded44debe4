"""Preconditions of tracing: features of a module that training by its wiring would lose or change."""

from __future__ import annotations

import itertools
from collections.abc import Container

from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from ticketsearch.errors import BadInput

__all__ = ["check_learning", "check_module"]


def check_module(module: nn.Module) -> None:
    """Refuse tensors that have no values yet or are computed from others, and hooks on gradients.

    Pruning by ``torch.nn.utils.prune`` is allowed. Raises :class:`BadInput` naming the tensor or module.
    """
    for name, tensor in itertools.chain(module.named_parameters(), module.named_buffers()):
        _check_tensor(name, tensor)
    for path, child in module.named_modules():
        _check_computed(path, child, declared=getattr(module, "neuron_groups", None) is not None)
        if child._backward_hooks or child._backward_pre_hooks:
            raise BadInput(
                f"{_named(path, child)} has a backward hook, which training by the wiring would leave out; "
                "remove it"
            )


def check_learning(module: nn.Module, used: Container[str]) -> None:
    """Refuse a module without a trainable parameter among the ``used`` ones; raises :class:`BadInput`."""
    if not any(parameter.requires_grad and name in used for name, parameter in module.named_parameters()):
        raise BadInput(
            f"all parameters of {type(module).__name__} have requires_grad=False, so nothing can be trained; "
            "let at least one learn, e.g. those of the last layer"
        )


def _check_tensor(name: str, tensor: Tensor) -> None:
    if nn.parameter.is_lazy(tensor):
        path = name.rpartition(".")[0]
        raise BadInput(
            f"{name!r} has no shape yet, as its lazy module {path!r} was never run; let the factory run the "
            "module once, e.g. module(torch.zeros(2, *input_shape)), before it returns it"
        )
    if tensor.is_meta:
        raise BadInput(
            f"{name!r} is on device 'meta', where tensors have no values; build the module on the CPU"
        )
    if tensor.numel() == 0:
        raise BadInput(
            f"{name!r} has shape {tuple(tensor.shape)}, i.e. no entries; a layer has at least one unit and "
            "one input, so give it more or leave it out"
        )
    if tensor._backward_hooks or getattr(tensor, "_post_accumulate_grad_hooks", None):
        raise BadInput(
            f"parameter {name!r} has a hook on its gradient, which training by the wiring would leave out; "
            "remove it (a parameter that is not to learn has requires_grad=False)"
        )


def _check_computed(path: str, child: nn.Module, *, declared: bool) -> None:
    """Refuse tensors that a hook or a parametrization computes from other parameters at each call."""
    if parametrize.is_parametrized(child) and not declared:
        name = next(iter(child.parametrizations))  # type: ignore[arg-type]
        raise BadInput(
            f"{name!r} of {_named(path, child)} is computed from other parameters, so there is no tensor to "
            f"mask; let the factory call torch.nn.utils.parametrize.remove_parametrizations(layer, {name!r})"
        )
    for hook in child._forward_pre_hooks.values():
        for kind, way in ((WeightNorm, "remove_weight_norm"), (SpectralNorm, "remove_spectral_norm")):
            if isinstance(hook, kind):
                raise BadInput(
                    f"{hook.name!r} of {_named(path, child)} is computed from other parameters by "
                    f"{kind.__name__}, so there is no tensor to mask; let the factory call "
                    f"torch.nn.utils.{way}(layer, {hook.name!r})"
                )


def _named(path: str, child: nn.Module) -> str:
    return f"module {path!r} ({type(child).__name__})" if path else f"the module ({type(child).__name__})"
