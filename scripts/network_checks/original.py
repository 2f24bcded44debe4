"""The original module as the judge: plain torch in float64, without the wiring that is judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

__all__ = ["Original", "Tensors", "generic", "tensors_of", "without_noise"]

Tensors = dict[str, Tensor]
DROPOUTS = {F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout}


class Original:
    """A module in float64 whose tensors are set before each call; ``build`` gives a fresh one."""

    def __init__(self, build: Callable[[], nn.Module]) -> None:
        self.module = build().double()

    def set(self, tensors: Mapping[str, Tensor]) -> None:
        """Write parameters and buffers."""
        with torch.no_grad():
            for name, own in named(self.module).items():
                own.copy_(tensors[name])

    def outputs(self, tensors: Mapping[str, Tensor], x: Tensor, *, training: bool = False) -> Tensor:
        """Return the outputs ``(samples, classes)`` without dropout; BatchNorm uses the batch in training."""
        self.set(tensors)
        self.module.train(training)
        with torch.no_grad(), _WithoutDropout():
            result: Tensor = self.module(x)
        return result

    def gradients(self, tensors: Mapping[str, Tensor], x: Tensor, weights: Tensor, training: bool) -> Tensors:
        """Return the gradient of the outputs' weighted sum by each parameter that learns."""
        self.set(tensors)
        self.module.train(training)
        own = {name: p for name, p in self.module.named_parameters() if p.requires_grad}
        with _WithoutDropout():
            total = (self.module(x) * weights).sum()
        found = torch.autograd.grad(total, list(own.values()), allow_unused=True)
        return {
            name: torch.zeros_like(p) if gradient is None else gradient
            for (name, p), gradient in zip(own.items(), found, strict=True)
        }

    def flow_scores(self, tensors: Mapping[str, Tensor], x: Tensor) -> Tensors:
        """Return |θ| ∂R/∂|θ| of each parameter: SynFlow (Tanaka et al. 2020) by autograd.

        R is the sum of the outputs for the inputs ``x``, all ones in SynFlow, of the module in evaluation
        mode with |θ|, without biases and shifts, with identity activations, and with normalisations as their
        scale alone.
        """
        self.set(tensors)
        own = dict(self.module.named_parameters())
        frozen = [parameter for parameter in own.values() if not parameter.requires_grad]
        self.module.eval()
        for parameter in frozen:
            parameter.requires_grad_(True)
        with _Flow():
            total = self.module(x).sum()
        found = torch.autograd.grad(total, list(own.values()), allow_unused=True)
        for parameter in frozen:
            parameter.requires_grad_(False)
        return {
            name: torch.zeros_like(p) if gradient is None else (gradient * p.detach()).abs()
            for (name, p), gradient in zip(own.items(), found, strict=True)
        }


def named(module: nn.Module) -> Tensors:
    """Return the parameters and buffers themselves, by name."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def tensors_of(module: nn.Module) -> Tensors:
    """Return copies of the parameters and buffers, floats in double precision."""
    found = {}
    for name, own in named(module).items():
        copy = own.detach().clone()
        found[name] = copy.double() if copy.is_floating_point() else copy
    return found


def generic(tensors: Mapping[str, Tensor], seed: int) -> Tensors:
    """Return tensors near the given ones of which no two entries are equal and none is zero.

    Buffers, such as running variances, only grow.
    """
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            found[name] = tensor.clone()
        elif tensor.ndim < 2:
            noise = torch.rand(tensor.shape, generator=generator, dtype=torch.float64)
            found[name] = tensor + 0.1 + 0.5 * noise
        else:
            noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
            found[name] = 0.7 * tensor + 0.7 * noise / tensor[0].numel() ** 0.5
    return found


def without_noise(module: nn.Module) -> bool:
    """Set the rate of all dropout and stochastic depth to 0; returns whether there was any."""
    noisy = False
    for child in module.modules():
        for name in ("p", "drop_prob"):
            kind = type(child).__name__.lower()
            rate = getattr(child, name, None)
            if ("drop" in kind or "stochastic" in kind) and isinstance(rate, float) and rate > 0:
                setattr(child, name, 0.0)
                noisy = True
    return noisy


class _WithoutDropout(TorchFunctionMode):
    """Dropout that drops nothing: in the module it draws by place, and renumbering changes places."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in DROPOUTS:
            return args[0] if args else (kwargs or {})["input"]
        return func(*args, **(kwargs or {}))


IDENTITIES = {
    *("relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish", "tanh", "sigmoid"),
    *("hardtanh", "hardswish", "hardsigmoid", "softplus", "softsign", "logsigmoid", "tanhshrink"),
    *("hardshrink", "softshrink", "threshold", "prelu", "abs", "sin", "cos", "square", "exp", "clamp"),
    *("pow", "neg", "dropout", "dropout1d", "dropout2d", "dropout3d", "softmax", "log_softmax", "sqrt"),
}
LAYERS = {"linear", *(f"conv{t}{d}d" for t in ("", "_transpose") for d in (1, 2, 3))}
# Places of scale and shift among the arguments.
NORMALISATIONS = {"batch_norm": 3, "layer_norm": 2, "group_norm": 2, "instance_norm": 3, "rms_norm": 2}


class _Flow(TorchFunctionMode):
    """Runs a module as the flow of SynFlow: weights |θ|, nothing that adds, activations as the identity.

    A product of two elementwise maps of one value, as in x · sigmoid(x), is such a map itself.
    """

    def __init__(self) -> None:
        super().__init__()
        self.constants: list[Tensor] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        name = name.strip("_") if name.startswith("__") else name.removesuffix("_")
        tensors = [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)]
        if tensors and all(self._is_constant(t) for t in tensors):
            result = func(*args, **kwargs)
            if isinstance(result, Tensor):
                self.constants.append(result)
            return result
        if name in IDENTITIES:
            return tensors[0]
        if name == "glu":  # its gate is a sigmoid
            axis = kwargs.get("dim", args[1] if len(args) > 1 else -1)
            return torch.mul(*args[0].chunk(2, axis))
        if name in LAYERS:
            weight = kwargs.get("weight", args[1] if len(args) > 1 else None)
            kwargs = {k: v for k, v in kwargs.items() if k not in ("weight", "bias")}
            return func(args[0], weight.abs(), None, *args[3:], **kwargs)
        if name in NORMALISATIONS:
            return self._normalised(name, args, kwargs)
        if name in ("add", "iadd", "radd", "sub", "isub", "rsub"):
            values = [t for t in tensors if not self._is_constant(t)]
            return values[0] if len(values) == 1 else torch.add(*values)
        if name in ("mul", "imul", "rmul", "div", "truediv", "itruediv"):
            return self._scaled(name, args)
        with self if name in ("multi_head_attention_forward",) else nullcontext():
            return func(*args, **kwargs)

    def _is_constant(self, tensor: Tensor) -> bool:
        return isinstance(tensor, nn.Parameter) or any(tensor is known for known in self.constants)

    def _scaled(self, name: str, args: tuple[Any, ...]) -> Tensor:
        first, second = args[:2]
        if first is second:
            return first
        first, second = (
            a.abs()
            if isinstance(a, Tensor) and self._is_constant(a)
            else a
            if isinstance(a, Tensor)
            else abs(a)
            for a in (first, second)
        )
        return torch.div(first, second) if "div" in name else torch.mul(first, second)

    def _normalised(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
        place = NORMALISATIONS[name]
        x = args[0] if args else kwargs["input"]
        scale = kwargs.get("weight", args[place] if len(args) > place else None)
        variance = kwargs.get("running_var", args[2] if len(args) > 2 else None)
        eps = kwargs.get("eps", args[7] if len(args) > 7 else 1e-5)
        factor = torch.ones((), dtype=torch.float64) if scale is None else scale.abs()
        if name == "batch_norm" and variance is not None:
            factor = factor / (variance.abs() + eps).sqrt()
        if name in ("batch_norm", "group_norm", "instance_norm") and factor.ndim:
            factor = factor.reshape(-1, *[1] * (x.ndim - 2))
        return x * factor
