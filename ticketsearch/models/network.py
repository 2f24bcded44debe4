"""The Network that the rest of the package works on: a module, its initialization and its wiring."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from ticketsearch.checks import checked
from ticketsearch.datasets import Shaped
from ticketsearch.errors import BadInput, shown, unknown
from ticketsearch.masks import MaskSpec
from ticketsearch.models.building import (
    Architecture,
    Factory,
    architecture,
    check_parameters,
    compare_parameters,
    make_module,
)
from ticketsearch.models.images import check_first_layer
from ticketsearch.models.initialization import Initialization
from ticketsearch.models.schemes import (
    AS_BUILT,
    SCHEMES,
    reset_functional,
    reset_normalisation,
    set_functional,
    set_weights,
)
from ticketsearch.plugins import own_code
from ticketsearch.wiring import Wiring, trace

__all__ = ["Network", "initialize", "module_of", "restore"]


@dataclass(frozen=True, eq=False)
class Network:
    """A module with its initialization and wiring; nothing ever writes to it.

    Attributes
    ----------
    name : the model's name as it was given, e.g. ``"mlp:300,100"``, or the factory's.
    module : the untouched module, on the CPU.
    initialization : the scheme and seed of its weights.
    wiring : its traced computation; ``spec`` is the wiring's mask spec.
    input_shape, classes, options : the factory's arguments.
    factory : builds the module again.
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

    def __repr__(self) -> str:
        scheme, seed = self.initialization
        return (
            f"Network({shown(self.name, 40)}, {self.spec.size:,} weights in {len(self.spec.layers)} layers, "
            f"{self.classes} classes, {scheme} {seed})"
        )

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
        """The module's tensors, collected once, as walking a deep module is slow."""
        return {
            "parameters": {name: tensor.detach() for name, tensor in self.module.named_parameters()},
            "buffers": {name: tensor.detach() for name, tensor in self.module.named_buffers()},
        }

    def reinitialized(self, scheme: str, seed: int) -> Network:
        """Return the same architecture with other initial weights."""
        if (scheme, seed) == self.initialization:
            return self
        assert self.factory is not None
        model = Architecture(
            self.factory, self.name, self.input_shape, self.classes, self.options, self.source
        )
        return _build(model, scheme, seed, like=self.wiring)


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
        ``as_built``, which keeps the factory's values under ``torch.manual_seed(seed)``. Use it for biases
        that are not zero, such as PyTorch's default: ``pytorch`` is its default for the weights alone.
    seed : of the scheme's generator.
    options : of the model.

    Parameters with ``requires_grad=False`` are never trained. A scheme sets frozen weights like all others:
    they are then random features, and masks may prune them. Running statistics are updated in training all
    the same.

    Raises :class:`BadInput` for an unknown name or option, or a module that cannot be traced. Warns where
    parameters of half precision are converted to float32, a ``DataParallel`` is replaced by its module, or
    masks of ``torch.nn.utils.prune`` are multiplied into the weights and dropped (see
    :func:`ticketsearch.from_pruned`).
    """
    return _build(architecture(model, dataset.input_shape, dataset.classes, options), scheme, seed, loud=True)


def restore(
    model: str | Factory,
    input_shape: tuple[int, ...],
    classes: int,
    options: Mapping[str, Any],
    initialization: Initialization,
    parameters: Mapping[str, Tensor],
) -> Network:
    """Return a network with given initial parameters: the architecture of a saved ticket.

    Names and shapes of the parameters are compared before the module's memory is allocated.

    Raises :class:`BadInput` if the parameters are not those of the model.
    """
    made = architecture(model, input_shape, classes, options)
    check_parameters(made, parameters)
    module = make_module(made, initialization.seed)
    # A ticket holds the tensors that are initialized and trained; buffers are made anew, as in initialize.
    if initialization.scheme != AS_BUILT:
        reset_normalisation(module)
    compare_parameters(module, made.name, parameters)
    _fill(module, parameters)
    with own_code("model", made.name):  # tracing calls its forward
        wiring = trace(module, input_shape)
        if initialization.scheme != AS_BUILT and reset_functional(module, wiring):
            _fill(module, parameters)
            wiring = trace(module, input_shape, like=wiring)
    return _network(made, module, initialization, wiring)


def module_of(
    model: str | Factory,
    input_shape: tuple[int, ...],
    classes: int,
    options: Mapping[str, Any],
    parameters: Mapping[str, Tensor],
    buffers: Mapping[str, Tensor],
) -> nn.Module:
    """Return the module of a model with these parameters and buffers, in evaluation mode.

    Names and shapes of the parameters are compared before the module's memory is allocated. The module has
    the type of the parameters.

    Raises :class:`BadInput` if the tensors are not those of the model.
    """
    made = architecture(model, input_shape, classes, options)
    check_parameters(made, parameters)
    module = make_module(made, 0)
    compare_parameters(module, made.name, parameters)
    wanted = {name: tuple(buffer.shape) for name, buffer in module.named_buffers()}
    if wanted != {name: tuple(buffer.shape) for name, buffer in buffers.items()}:
        raise BadInput(f"the buffers are not those of model {made.name!r}: names or shapes differ")
    if parameters:
        module = module.to(next(iter(parameters.values())).dtype)
    _fill(module, parameters)
    with torch.no_grad():
        for name, buffer in module.named_buffers():
            buffer.copy_(buffers[name])
    return module.eval()


def _fill(module: nn.Module, parameters: Mapping[str, Tensor]) -> None:
    """Give a module these parameters."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(parameters[name])


def _build(
    model: Architecture, scheme: str, seed: int, *, like: Wiring | None = None, loud: bool = False
) -> Network:
    """Return the network; ``like`` is the wiring of another one of this model, ``loud`` says to warn."""
    if scheme != AS_BUILT and scheme not in SCHEMES:
        raise unknown("initialization scheme", scheme, [*SCHEMES, AS_BUILT])
    if not 0 <= seed < 2**63:
        raise BadInput(f"a seed of a network is an integer from 0 to 2**63 - 1, but got {seed}")
    module = make_module(model, seed, loud=loud)
    check_first_layer(model.name, module, model.input_shape)
    generator = None if scheme == AS_BUILT else set_weights(module, scheme, seed)
    with own_code("model", model.name):  # tracing calls its forward
        wiring = trace(module, model.input_shape, like=like)
        if generator is not None and set_functional(module, wiring, scheme, generator):
            # The biases decide which units are constant.
            wiring = trace(module, model.input_shape, like=wiring)
    for note in wiring.notes if loud else ():
        warnings.warn(note, stacklevel=4)
    # Groups declared by hand come without steps. The groups alone do not tell the number of outputs: outputs
    # that an input is added to are numbered by the inputs.
    outputs = wiring.steps[-1].shape[0] if wiring.steps else wiring.spec.outputs
    if outputs != model.classes:
        raise BadInput(
            f"the dataset has {model.classes} classes, but model {model.name!r} returns {outputs} values"
        )
    return _network(model, module, Initialization(scheme, seed), wiring)


def _network(
    model: Architecture, module: nn.Module, initialization: Initialization, wiring: Wiring
) -> Network:
    return Network(
        model.name,
        module,
        initialization,
        wiring,
        tuple(model.input_shape),
        model.classes,
        dict(model.options),
        model.factory,
        model.source,
    )
