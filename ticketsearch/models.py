"""Architectures, initializers, and the Network that the rest of the package works on.

A network is a module, the initialization it was given, and its wiring. It is never written to: training
works on copies of its parameters.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ticketsearch.datasets import Dataset
from ticketsearch.errors import BadInput, unknown
from ticketsearch.masks import MaskSpec
from ticketsearch.names import check_options, listed, resolve
from ticketsearch.wiring import Wiring, trace

# The models that have a name; Network, initialize and the schemes are importable beside them.
__all__ = ["lenet_300_100", "mlp"]

Factory = Callable[..., nn.Module]

SCHEMES: dict[str, Callable[..., Tensor]] = {
    "kaiming_normal": lambda w, g: nn.init.kaiming_normal_(w, nonlinearity="relu", generator=g),
    "kaiming_uniform": lambda w, g: nn.init.kaiming_uniform_(w, nonlinearity="relu", generator=g),
    "xavier_normal": lambda w, g: nn.init.xavier_normal_(w, generator=g),
    "xavier_uniform": lambda w, g: nn.init.xavier_uniform_(w, generator=g),
    "orthogonal": lambda w, g: nn.init.orthogonal_(w, generator=g),
}
AS_BUILT = "as_built"
MAX_WIDTH = 1_000_000


class Initialization(NamedTuple):
    """Where initial weights come from: a scheme's name and a seed."""

    scheme: str
    seed: int


def mlp(
    input_shape: tuple[int, ...],
    classes: int,
    hidden: str = "100,50",
    *,
    activation: str = "relu",
    bias: bool = True,
) -> nn.Module:
    """Return a multilayer perceptron; ``hidden`` lists the hidden widths, e.g. ``"300,100"``."""
    activations = {"relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}
    activations |= {"gelu": nn.GELU, "silu": nn.SiLU, "elu": nn.ELU, "identity": nn.Identity}
    if str(activation) not in activations:
        raise unknown("activation", str(activation), activations)
    try:
        widths = [int(width) for width in str(hidden).split(",")]
    except ValueError:
        widths = [0]
    if not all(1 <= width <= MAX_WIDTH for width in widths):
        raise BadInput(
            f"mlp widths are integers from 1 to {MAX_WIDTH} such as mlp:300,100, but got {hidden!r}"
        )
    layers: list[nn.Module] = [nn.Flatten()]
    previous = int(torch.Size(input_shape).numel())
    for width in widths:
        layers += [nn.Linear(previous, width, bias=bias), activations[activation]()]
        previous = width
    layers.append(nn.Linear(previous, classes, bias=bias))
    return nn.Sequential(*layers)


def lenet_300_100(input_shape: tuple[int, ...], classes: int, *, bias: bool = True) -> nn.Module:
    """Return LeNet-300-100, the fully connected network of LeCun et al. 1998 and Frankle & Carbin 2019."""
    return mlp(input_shape, classes, "300,100", bias=bias)


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
    """

    name: str
    module: nn.Module
    initialization: Initialization
    wiring: Wiring
    input_shape: tuple[int, ...]
    classes: int
    options: Mapping[str, Any] = field(default_factory=dict)
    factory: Factory | None = None

    @property
    def spec(self) -> MaskSpec:
        """The mask spec: layers, neuron groups, and the computation as far as liveness needs it."""
        return self.wiring.spec

    def parameters(self) -> dict[str, Tensor]:
        """Return ``{name: tensor}`` of copies of all parameters, on the CPU."""
        return {name: parameter.clone() for name, parameter in self._parameters.items()}

    @cached_property
    def _parameters(self) -> dict[str, Tensor]:
        return {name: parameter.detach() for name, parameter in self.module.named_parameters()}

    def reinitialized(self, scheme: str, seed: int) -> Network:
        """Return the same architecture with other initial weights."""
        if (scheme, seed) == self.initialization:
            return self
        assert self.factory is not None
        return _build(self.factory, self.name, self.input_shape, self.classes, self.options, scheme, seed)


def initialize(
    model: str | Factory,
    dataset: Dataset,
    scheme: str = "kaiming_normal",
    seed: int = 0,
    **options: Any,
) -> Network:
    """Build a network for a dataset and give it initial weights.

    Parameters
    ----------
    model : a name (``"mlp:300,100"``, ``"lenet_300_100"``), ``"file.py:function"``, or a factory
        ``factory(input_shape, classes, **options) -> nn.Module``.
    dataset : gives the input shape and the number of classes.
    scheme : one of ``kaiming_normal, kaiming_uniform, xavier_normal, xavier_uniform, orthogonal``, which set
        all Linear weights and put the biases to zero; or ``as_built``, which keeps the factory's own weights
        (built under ``torch.manual_seed(seed)``).
    seed : of the scheme's generator.
    options : of the model.

    Raises :class:`BadInput` for an unknown name or option, or a module that cannot be traced.
    """
    factory, name = _factory(model, options)
    return _build(factory, name, dataset.input_shape, dataset.classes, options, scheme, seed)


def restore(
    model: str | Factory,
    input_shape: tuple[int, ...],
    classes: int,
    options: Mapping[str, Any],
    initialization: Initialization,
    parameters: Mapping[str, Tensor],
) -> Network:
    """Return a network whose initial parameters are given: the architecture of a saved ticket.

    Raises :class:`BadInput` if the parameters are not those of the model.
    """
    factory, name = _factory(model, options)
    module = _make(factory, name, input_shape, classes, options, initialization.seed)
    try:
        found = module.load_state_dict(dict(parameters), strict=False)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise BadInput(f"the parameters are not those of model {name!r}: {reason}") from error
    # Buffers are the factory's own: a ticket holds what is initialized and trained.
    missing = set(found.missing_keys) - {buffer for buffer, _ in module.named_buffers()}
    if missing or found.unexpected_keys:
        wrong = ", ".join(sorted(missing) + found.unexpected_keys)
        raise BadInput(f"the parameters are not those of model {name!r}: {wrong} missing or unknown")
    wiring = trace(module, input_shape)
    return Network(name, module, initialization, wiring, tuple(input_shape), classes, dict(options), factory)


def _factory(model: str | Factory, options: Mapping[str, Any]) -> tuple[Factory, str]:
    if callable(model):
        factory, name = model, getattr(model, "__name__", type(model).__name__)
    else:
        known = listed(sys.modules[__name__])
        factory, name = resolve(model, known, "model", ("input_shape", "classes")), model
    check_options(factory, options, "model", name)
    return factory, name


def _make(
    factory: Factory,
    name: str,
    input_shape: tuple[int, ...],
    classes: int,
    options: Mapping[str, Any],
    seed: int,
) -> nn.Module:
    """Build the module under its seed, leaving torch's global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = factory(input_shape, classes, **options)
    if not isinstance(module, nn.Module):
        raise BadInput(f"model {name!r} must return a torch.nn.Module, but got {type(module).__name__}")
    for parameter_name, parameter in module.named_parameters():
        if parameter.dtype not in (torch.float32, torch.float64):
            raise BadInput(f"parameters are float32 or float64, but {parameter_name} is {parameter.dtype}")
    # A factory may return a module that it keeps; what the network holds is its own.
    return copy.deepcopy(module).to("cpu", torch.float32)


def _build(
    factory: Factory,
    name: str,
    input_shape: tuple[int, ...],
    classes: int,
    options: Mapping[str, Any],
    scheme: str,
    seed: int,
) -> Network:
    if scheme != AS_BUILT and scheme not in SCHEMES:
        raise unknown("initialization scheme", scheme, [*SCHEMES, AS_BUILT])
    if not 0 <= seed < 2**63:
        raise BadInput(f"a seed of a network is an integer from 0 to 2**63 - 1, but got {seed}")
    module = _make(factory, name, input_shape, classes, options, seed)
    if scheme != AS_BUILT:
        _set_weights(module, scheme, seed)
    wiring = trace(module, input_shape)
    outputs = wiring.spec.groups[wiring.spec.nodes[-1].group].size
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


def _set_weights(module: nn.Module, scheme: str, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for child in module.modules():
            if isinstance(child, nn.Linear):
                SCHEMES[scheme](child.weight, generator)
                if child.bias is not None:
                    child.bias.zero_()
