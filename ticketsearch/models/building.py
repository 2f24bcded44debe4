"""Modules as factories build them: the checks of a factory and of its module."""

from __future__ import annotations

import itertools
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ticketsearch.errors import BadInput
from ticketsearch.models.pruned import PARALLEL, bake, own_copy, prune_masks
from ticketsearch.plugins import (
    call,
    check_call,
    check_options,
    code_of,
    listed,
    one_line,
    resolve,
    source_digest,
)
from ticketsearch.wiring import check_module

__all__ = ["Architecture", "Factory", "architecture", "check_parameters", "compare_parameters", "make_module"]

Factory = Callable[..., nn.Module]


@dataclass(frozen=True, eq=False)
class Architecture:
    """A factory and the arguments that it is called with.

    Attributes
    ----------
    factory : ``factory(input_shape, classes, **options) -> nn.Module``.
    name : the model's name as it was given, or the factory's.
    input_shape, classes, options : the factory's arguments.
    source : SHA-256 of the file that ``name`` names a function of, "" for a listed model or a callable.
    """

    factory: Factory
    name: str
    input_shape: tuple[int, ...]
    classes: int
    options: Mapping[str, Any]
    source: str = ""

    def build(self) -> Any:
        """Return the factory's module; raises :class:`BadInput` for a factory that refuses its arguments."""
        return call(self.factory, "model", self.name, self.input_shape, self.classes, **self.options)


def architecture(
    model: str | Factory, input_shape: tuple[int, ...], classes: int, options: Mapping[str, Any]
) -> Architecture:
    """Return the architecture of a model's name or factory.

    Raises :class:`BadInput` for an unknown name, an unknown option, or a factory of other arguments.
    """
    source = ""
    if isinstance(model, nn.Module):
        raise BadInput(
            f"a model is a name or a factory of modules, but got a {type(model).__name__} itself; give "
            "lambda input_shape, classes: module, and scheme='as_built' to keep its weights"
        )
    if callable(model):
        factory, name = model, getattr(model, "__name__", type(model).__name__)
    else:
        known = listed(sys.modules[__name__.rpartition(".")[0]])  # the package, whose __all__ are the models
        source = source_digest(model) if code_of(model, known) else ""
        factory, name = resolve(model, known, "model", ("input_shape", "classes")), model
    check_options(factory, options, "model", name)
    check_call(factory, "model", name, "factory(input_shape, classes, **options)", 2, options)
    return Architecture(factory, name, input_shape, classes, options, source)


def check_parameters(model: Architecture, parameters: Mapping[str, Tensor]) -> None:
    """Refuse parameters that are not those of the model, building it on the meta device, without memory.

    A factory that cannot build there passes: its module is compared when it is built.
    """
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the real build repeats every warning
            module = model.build()
            if isinstance(module, nn.Module):
                module = own_copy(module)
                bake(module)
    except BadInput:
        raise
    except Exception:  # a factory may raise anything where tensors hold no values
        return
    if isinstance(module, nn.Module):
        compare_parameters(module, model.name, parameters)


def compare_parameters(module: nn.Module, name: str, parameters: Mapping[str, Tensor]) -> None:
    """Raise :class:`BadInput` unless a module has parameters of these names and shapes, and no others."""
    wanted = {key: tuple(parameter.shape) for key, parameter in module.named_parameters()}
    if wrong := sorted(wanted.keys() ^ parameters.keys()):
        raise BadInput(f"the parameters are not those of model {name!r}: {wrong[0]} is missing or unknown")
    for key, shape in wanted.items():
        if (got := tuple(parameters[key].shape)) != shape:
            raise BadInput(
                f"the parameters are not those of model {name!r}: {key} has shape {got}, "
                f"but the model's has {shape}"
            )


def make_module(model: Architecture, seed: int, *, loud: bool = False) -> nn.Module:
    """Build the module under its seed, leaving torch's global generator as it was; ``loud`` says to warn.

    Raises :class:`BadInput`, also for any error of the factory.
    """
    name = model.name
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = model.build()
    except BadInput:
        raise
    except Exception as error:  # a factory may raise anything
        if _is_size_error(error):
            raise BadInput(
                f"model {name!r} has a layer of a size that cannot be ({one_line(error)}); give it as many "
                "units as memory holds, at least 1"
            ) from error
        raise BadInput(
            f"model {name!r} cannot be built for input_shape {tuple(model.input_shape)}, {model.classes} "
            f"classes and options {dict(model.options)} ({one_line(error)})"
        ) from error
    if not isinstance(module, nn.Module):
        raise BadInput(f"model {name!r} must return a torch.nn.Module, but got {type(module).__name__}")
    check_module(module)
    if loud:
        _warn(name, module)
    _check_precision(name, module)
    # A factory may return a module that it keeps; the network holds a copy.
    copied = own_copy(module)
    bake(copied)
    return copied.to("cpu", torch.float32)


def _is_size_error(error: Exception) -> bool:
    """Whether torch says that a tensor does not fit into memory, or that its size is not a valid one."""
    words = ("can't allocate memory", "not enough memory", "overflow", "out of memory", "negative dimension")
    return isinstance(error, MemoryError) or any(word in str(error).lower() for word in words)


def _warn(name: str, module: nn.Module) -> None:
    """Warn of pruning masks and data-parallel wrappers, which are taken out of a factory's module."""
    pruned = prune_masks(module)
    if pruned:
        warnings.warn(
            f"model {name!r} was pruned by torch.nn.utils.prune: {len(pruned)} tensors begin as their masks "
            "leave them, but the masks themselves are left out; ticketsearch.from_pruned gives both",
            stacklevel=6,
        )
    for path, child in module.named_modules():
        if isinstance(child, PARALLEL):
            warnings.warn(
                f"model {name!r} holds a {type(child).__name__}"
                f"{f' at {path!r}' if path else ''}; its .module is taken, as devices are chosen elsewhere",
                stacklevel=6,
            )


def _check_precision(name: str, module: nn.Module) -> None:
    """Refuse tensors that cannot become float32, and warn of parameters of half precision."""
    for tensor_name, tensor in itertools.chain(module.named_parameters(), module.named_buffers()):
        if tensor.is_complex():
            raise BadInput(
                f"parameters and buffers must be real, but {tensor_name} of model {name!r} is "
                f"{tensor.dtype}; hold its real and imaginary parts in two tensors"
            )
    half = []
    for tensor_name, parameter in module.named_parameters():
        if parameter.dtype in (torch.float16, torch.bfloat16):
            half.append(tensor_name)
        elif parameter.dtype not in (torch.float32, torch.float64):
            raise BadInput(
                f"parameters must be floating-point numbers of 16, 32 or 64 bits, but {tensor_name} of model "
                f"{name!r} is {parameter.dtype}; make it float32, or a buffer if it is not trained"
            )
    if half:
        dtype = module.get_parameter(half[0]).dtype
        warnings.warn(
            f"model {name!r} has {len(half)} parameters of half precision ({half[0]} is {dtype}); they are "
            "converted to float32, in which everything is computed",
            stacklevel=6,
        )
