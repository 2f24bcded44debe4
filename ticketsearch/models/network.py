"""The Network that the rest of the package works on, and how one is made of a factory and a scheme."""

from __future__ import annotations

import itertools
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ticketsearch.checks import checked
from ticketsearch.datasets import Shaped
from ticketsearch.errors import BadInput, unknown
from ticketsearch.masks import MaskSpec
from ticketsearch.models.images import check_first_layer
from ticketsearch.models.pruned import PARALLEL, bake, own_copy, prune_masks
from ticketsearch.models.schemes import (
    AS_BUILT,
    SCHEMES,
    reset_functional,
    reset_normalisation,
    set_functional,
    set_weights,
)
from ticketsearch.plugins import (
    call,
    check_call,
    check_options,
    code_of,
    listed,
    one_line,
    own_code,
    resolve,
    source_digest,
)
from ticketsearch.wiring import Wiring, check_module, trace

__all__ = ["Factory", "Initialization", "Network", "initialize", "restore"]

Factory = Callable[..., nn.Module]


class Initialization(NamedTuple):
    """Where initial weights come from: a scheme's name and a seed."""

    scheme: str
    seed: int


@dataclass(frozen=True, eq=False)
class Network:
    """A module with its initialization and wiring; nothing ever writes to it.

    Attributes
    ----------
    name : the model's name as it was given, e.g. ``"mlp:300,100"``, or the factory's.
    module : the untouched module, on the CPU.
    initialization : the scheme and seed of its weights.
    wiring : its traced computation; ``spec`` is the wiring's mask spec.
    input_shape, classes, options : what the factory was called with.
    source : SHA-256 of the file that ``name`` names a function of, "" for a listed model or a callable.
    """

    name: str
    module: nn.Module
    initialization: Initialization
    wiring: Wiring
    input_shape: tuple[int, ...]
    classes: int
    options: Mapping[str, Any] = field(default_factory=dict)
    factory: Factory | None = None
    source: str = ""

    @property
    def spec(self) -> MaskSpec:
        """The mask spec: layers, neuron groups, and the computation as far as liveness needs it."""
        return self.wiring.spec

    def parameters(self) -> dict[str, Tensor]:
        """Return ``{name: tensor}`` of copies of all parameters, on the CPU."""
        return {name: parameter.clone() for name, parameter in self._tensors["parameters"].items()}

    def buffers(self) -> dict[str, Tensor]:
        """Return ``{name: tensor}`` of copies of all buffers, such as running means, on the CPU."""
        return {name: buffer.clone() for name, buffer in self._tensors["buffers"].items()}

    @cached_property
    def _tensors(self) -> dict[str, dict[str, Tensor]]:
        """The module's own tensors: walking a deep module is slow, and training asks for each ticket."""
        return {
            "parameters": {name: tensor.detach() for name, tensor in self.module.named_parameters()},
            "buffers": {name: tensor.detach() for name, tensor in self.module.named_buffers()},
        }

    def reinitialized(self, scheme: str, seed: int) -> Network:
        """Return the same architecture with other initial weights."""
        if (scheme, seed) == self.initialization:
            return self
        assert self.factory is not None
        made = self.factory, self.name, self.input_shape, self.classes, self.options
        return replace(_build(*made, scheme, seed, like=self.wiring), source=self.source)


@checked
def initialize(
    model: str | Factory,
    dataset: Shaped,
    scheme: str = "kaiming_normal",
    seed: int = 0,
    **options: Any,
) -> Network:
    """Build a network for a dataset and give it initial weights.

    Parameters
    ----------
    model : a name (``"mlp:300,100"``, ``"resnet20"``), ``"file.py:function"``, or a factory
        ``factory(input_shape, classes, **options) -> nn.Module``.
    dataset : gives the input shape and the number of classes.
    scheme : one of ``kaiming_normal, kaiming_uniform, xavier_normal, xavier_uniform, orthogonal, sparse,
        pytorch, signed_constant, uniform``, which set the weights of all linear layers and convolutions, put
        their biases to zero (``uniform`` draws them too) and reset normalisation layers to weight 1, bias 0,
        running mean 0 and variance 1; or
        ``as_built``, which keeps whatever the factory gives under ``torch.manual_seed(seed)``. That is the
        way to have biases that are not zero, such as PyTorch's own: ``pytorch`` is its default for the
        weights alone.
    seed : of the scheme's generator.
    options : of the model.

    Parameters with ``requires_grad=False`` never learn. A scheme sets frozen weights like all others: they
    are random features then, and masks may prune them. Running statistics move in training all the same.

    Raises :class:`BadInput` for an unknown name or option, or a module that cannot be traced. Warns where
    parameters of half precision are converted to float32, a ``DataParallel`` is replaced by what it holds,
    or masks of ``torch.nn.utils.prune`` are baked into the weights and left out (see
    :func:`ticketsearch.from_pruned`).
    """
    factory, name, source = _factory(model, options)
    made = factory, name, dataset.input_shape, dataset.classes, options
    return replace(_build(*made, scheme, seed, loud=True), source=source)


def restore(
    model: str | Factory,
    input_shape: tuple[int, ...],
    classes: int,
    options: Mapping[str, Any],
    initialization: Initialization,
    parameters: Mapping[str, Tensor],
) -> Network:
    """Return a network whose initial parameters are given: the architecture of a saved ticket.

    Names and shapes of the parameters are compared before anything of the module is allocated.

    Raises :class:`BadInput` if the parameters are not those of the model.
    """
    factory, name, source = _factory(model, options)
    _check_parameters(factory, name, input_shape, classes, options, parameters)
    module = _make(factory, name, input_shape, classes, options, initialization.seed)
    # A ticket holds what is initialized and trained; buffers are made anew, as initialize makes them.
    if initialization.scheme != AS_BUILT:
        reset_normalisation(module)
    _compare_parameters(module, name, parameters)
    _fill(module, parameters)
    with own_code("model", name):  # tracing calls its forward
        wiring = trace(module, input_shape)
        if initialization.scheme != AS_BUILT and reset_functional(module, wiring):
            _fill(module, parameters)
            wiring = trace(module, input_shape, like=wiring)
    return Network(
        name, module, initialization, wiring, tuple(input_shape), classes, dict(options), factory, source
    )


def _fill(module: nn.Module, parameters: Mapping[str, Tensor]) -> None:
    """Give a module these parameters."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(parameters[name])


def _check_parameters(
    factory: Factory,
    name: str,
    input_shape: tuple[int, ...],
    classes: int,
    options: Mapping[str, Any],
    parameters: Mapping[str, Tensor],
) -> None:
    """Refuse parameters that are not those of the model, building it on the meta device, without memory.

    A factory that cannot build there passes: its module is compared when it is built.
    """
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what there is to warn of is told when it is built
            module = call(factory, "model", name, input_shape, classes, **options)
            if isinstance(module, nn.Module):
                module = own_copy(module)
                bake(module)
    except BadInput:
        raise
    except Exception:  # whatever a factory raises where tensors hold no values
        return
    if isinstance(module, nn.Module):
        _compare_parameters(module, name, parameters)


def _compare_parameters(module: nn.Module, name: str, parameters: Mapping[str, Tensor]) -> None:
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


def _factory(model: str | Factory, options: Mapping[str, Any]) -> tuple[Factory, str, str]:
    """Return a factory, its name, and the SHA-256 of the file that the name stands for."""
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
    return factory, name, source


def _make(
    factory: Factory,
    name: str,
    input_shape: tuple[int, ...],
    classes: int,
    options: Mapping[str, Any],
    seed: int,
    *,
    loud: bool = False,
) -> nn.Module:
    """Build the module under its seed, leaving torch's global generator as it was.

    Raises :class:`BadInput`, from whatever the factory raises.
    """
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = call(factory, "model", name, input_shape, classes, **options)
    except BadInput:
        raise
    except Exception as error:  # a factory may raise anything
        if _is_of_sizes(error):
            raise BadInput(
                f"model {name!r} has a layer of a size that cannot be ({one_line(error)}); give it as many "
                "units as memory holds, at least 1"
            ) from error
        raise BadInput(
            f"model {name!r} cannot be built for input_shape {tuple(input_shape)}, {classes} classes and "
            f"options {dict(options)} ({one_line(error)})"
        ) from error
    if not isinstance(module, nn.Module):
        raise BadInput(f"model {name!r} must return a torch.nn.Module, but got {type(module).__name__}")
    check_module(module)
    if loud:
        _warn(name, module)
    _check_precision(name, module)
    # A factory may return a module that it keeps; what the network holds is its own.
    own = own_copy(module)
    bake(own)
    return own.to("cpu", torch.float32)


def _is_of_sizes(error: Exception) -> bool:
    """Whether torch says that it has no memory for a tensor, or that its size is no number of entries."""
    words = ("can't allocate memory", "not enough memory", "overflow", "out of memory", "negative dimension")
    return isinstance(error, MemoryError) or any(each in str(error).lower() for each in words)


def _warn(name: str, module: nn.Module) -> None:
    """Warn of what is taken out of a module that a factory has made."""
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
    """Refuse what cannot become float32, and warn of what becomes more exact than its author meant."""
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


def _build(
    factory: Factory,
    name: str,
    input_shape: tuple[int, ...],
    classes: int,
    options: Mapping[str, Any],
    scheme: str,
    seed: int,
    *,
    like: Wiring | None = None,
    loud: bool = False,
) -> Network:
    """Return the network; ``like`` is the wiring of another of this factory, ``loud`` says to warn."""
    if scheme != AS_BUILT and scheme not in SCHEMES:
        raise unknown("initialization scheme", scheme, [*SCHEMES, AS_BUILT])
    if not 0 <= seed < 2**63:
        raise BadInput(f"a seed of a network is an integer from 0 to 2**63 - 1, but got {seed}")
    module = _make(factory, name, input_shape, classes, options, seed, loud=loud)
    check_first_layer(name, module, input_shape)
    generator = None if scheme == AS_BUILT else set_weights(module, scheme, seed)
    with own_code("model", name):  # tracing calls its forward
        wiring = trace(module, input_shape, like=like)
        if generator is not None and set_functional(module, wiring, scheme, generator):
            # Which units are constant depends on the biases.
            wiring = trace(module, input_shape, like=wiring)
    for note in wiring.notes if loud else ():
        warnings.warn(note, stacklevel=4)
    # Groups declared by hand come without steps. Groups alone do not tell: outputs that an input is added to
    # are numbered by the inputs.
    outputs = wiring.steps[-1].shape[0] if wiring.steps else wiring.spec.outputs
    if outputs != classes:
        raise BadInput(f"the dataset has {classes} classes, but model {name!r} returns {outputs} values")
    return Network(
        name,
        module,
        Initialization(scheme, seed),
        wiring,
        tuple(input_shape),
        classes,
        dict(options),
        factory,
    )
