"""Saliency: scores from derivatives of a reward of the outputs, on a batch of data (equation 5 of the note).

The network is scored in evaluation mode, with the weights θ ⊙ mask: batch normalisation is the affine map of
its running statistics, dropout is off. Biases, scales and shifts take part and get no scores.

Copies are scored one after another. Measured on one core, torch.func's stack of copies is at most 1.6 times
as fast, for 100 tiny networks, and half as fast for convolutions; and the last bits of its scores depend on
the other copies in the stack.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ticketsearch.checks import check_flag
from ticketsearch.errors import BadInput, unknown
from ticketsearch.models import Network
from ticketsearch.plugins import check_call, resolve
from ticketsearch.pruners.batching import Batch, Parts, one_cut
from ticketsearch.training import find_device, reproducible
from ticketsearch.wiring import Wiring

__all__ = ["REWARDS", "Reward", "find_precision", "find_reward", "grasp", "saliency", "snip"]

# reward(outputs (samples, classes), labels (samples,)) -> scalar.
Reward = Callable[[Tensor, Tensor], Tensor]
PRECISIONS = {"float32": torch.float32, "float64": torch.float64}
# Values of steps in one block of samples: bounds the memory. Measured: blocks of a quarter to four times this
# size are equally fast, larger ones slower. Fixed, as a sum's last bits follow its blocks.
BLOCK_VALUES = 2**24


def _cross_entropy(outputs: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(outputs, y)


def _logit(outputs: Tensor, y: Tensor) -> Tensor:
    return outputs.gather(1, y[:, None]).sum()


def _sum(outputs: Tensor, y: Tensor) -> Tensor:
    return outputs.sum()


# The rewards that have a name.
REWARDS: dict[str, Reward] = {"cross_entropy": _cross_entropy, "logit": _logit, "sum": _sum}


@one_cut
def saliency(
    network: Network,
    mask: Parts,
    batch: Batch | None,
    *,
    rng: np.random.Generator,
    reward: str | Reward = "logit",
    absolute: bool = False,
    precision: str = "float32",
    device: str = "auto",
) -> Parts:
    """Return the synaptic saliency ∂R/∂θ ⊙ θ of every weight (equation 5 of Ross's notes).

    The largest are kept: with sign, the weights that increase R most. If R is a loss these are the harmful
    ones; ``absolute`` keeps the weights that change R most in either direction, as :func:`snip` does.

    Parameters
    ----------
    reward : R. ``"logit"`` (sum of the outputs of the samples' own labels), ``"cross_entropy"`` (mean over
        the batch; a loss), ``"sum"`` (of all outputs), ``"file.py:function"``, or a function
        ``reward(outputs, y) -> scalar tensor`` of outputs ``(samples, classes)`` and labels ``(samples,)``.
    absolute : score by the absolute value.
    precision : ``"float32"`` or ``"float64"``.
    device : ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.

    Raises :class:`BadInput` without data, or for a reward that is no scalar differentiable in the outputs.
    """
    check_flag("absolute", absolute)
    resolved = find_reward(reward)

    def score(masked: _MaskedNetwork) -> Parts:
        return masked.times_weights(masked.gradient(resolved))

    scores = _scored(score, "saliency", network, mask, batch, precision, device)
    return {name: score.abs() for name, score in scores.items()} if absolute else scores


@one_cut
def snip(
    network: Network,
    mask: Parts,
    batch: Batch | None,
    *,
    rng: np.random.Generator,
    precision: str = "float32",
    device: str = "auto",
) -> Parts:
    """Return the absolute values of ∂L/∂θ ⊙ θ, L the mean cross-entropy (Lee et al. 2019, SNIP).

    The paper divides by the sum of all scores, which changes no mask. ``precision`` and ``device`` are those
    of :func:`saliency`. Raises :class:`BadInput` without data.
    """

    def score(masked: _MaskedNetwork) -> Parts:
        return masked.times_weights(masked.gradient(_cross_entropy))

    scores = _scored(score, "snip", network, mask, batch, precision, device)
    return {name: score.abs() for name, score in scores.items()}


@one_cut
def grasp(
    network: Network,
    mask: Parts,
    batch: Batch | None,
    *,
    rng: np.random.Generator,
    temperature: float = 200.0,
    precision: str = "float32",
    device: str = "auto",
) -> Parts:
    """Return θ ⊙ H g, each weight's contribution to the gradient flow (Wang et al. 2020, GraSP).

    g = ∂L/∂θ and H = ∂²L/∂θ² over the kept weights, L the mean cross-entropy of the outputs divided by
    ``temperature``. To first order, a weight put to 0 lowers the gradient flow gᵀg by twice its score. The
    paper's score is -θ ⊙ H g and it prunes the largest; here as in the SynFlow authors' code the largest
    θ ⊙ H g are kept, which is equivalent. ``precision`` and ``device`` are those of :func:`saliency`.

    Raises :class:`BadInput` without data, or for a temperature that is not > 0 and finite.
    """
    if not (isinstance(temperature, int | float) and 0 < temperature < math.inf):
        raise BadInput(f"temperature must be > 0 and finite, but got {temperature!r}; the paper takes 200")

    def score(masked: _MaskedNetwork) -> Parts:
        loss = masked.hessian_gradient(lambda outputs, y: F.cross_entropy(outputs / temperature, y))
        return masked.times_weights(loss)

    return _scored(score, "grasp", network, mask, batch, precision, device)


def _scored(
    score: Callable[[_MaskedNetwork], Parts],
    pruner: str,
    network: Network,
    mask: Parts,
    batch: Batch | None,
    precision: str,
    device: str,
) -> Parts:
    """Return the scores in the precision asked for; in float64 where float32 overflows."""
    scores = score(_MaskedNetwork(pruner, network, mask, batch, precision, device))
    if precision == "float32" and not all(bool(part.isfinite().all()) for part in scores.values()):
        scores = score(_MaskedNetwork(pruner, network, mask, batch, "float64", device))
    return scores


def find_precision(name: str) -> torch.dtype:
    """Return the type of ``"float32"`` or ``"float64"``; raises :class:`BadInput` for another name."""
    if not isinstance(name, str) or name not in PRECISIONS:
        raise unknown("precision", name, PRECISIONS)
    return PRECISIONS[name]


class _MaskedNetwork:
    """A network as a function of its kept weights, on one batch that is run block by block.

    The mask multiplies the weights in the forward pass, so by equation 3 of the note every derivative is
    masked too.
    """

    def __init__(
        self, pruner: str, network: Network, mask: Parts, batch: Batch | None, precision: str, device: str
    ) -> None:
        dtype, place = find_precision(precision), find_device(device)
        if batch is None:
            raise BadInput(
                f"{pruner} needs data to score weights on, but got dataset=None; give dataset=…, or take a "
                "pruner that needs none, such as synflow"
            )
        self.wiring = network.wiring
        self.tensors = {
            name: tensor.to(place, dtype if tensor.is_floating_point() else None)
            for name, tensor in {**network.parameters(), **network.buffers()}.items()
        }
        names = [layer.name for layer in network.spec.layers]
        self.masks = {name: mask[name].to(place, dtype) for name in names}
        self.weights = {name: (self.tensors[name] * self.masks[name]).requires_grad_() for name in names}
        self.x, self.y = batch[0].to(place, dtype), batch[1].to(place)
        self.block = _block(self.wiring, len(self.y))

    def outputs(self, x: Tensor) -> Tensor:
        """Return outputs ``(samples, classes)``, differentiable in the weights."""
        masked = {name: weight * self.masks[name] for name, weight in self.weights.items()}
        return self.wiring.forward({**self.tensors, **masked}, x)

    def gradient(self, reward: Reward) -> list[Tensor]:
        """Return ∂R/∂θ of each layer.

        R may be any function of the batch: it is differentiated by the outputs of the whole batch, and the
        outputs by the weights block by block.
        """
        blocks = torch.split(self.x, self.block)
        with _differentiation():
            with torch.no_grad():
                outputs = torch.cat([self.outputs(x) for x in blocks])
            value = _checked(reward(outputs.requires_grad_(), self.y))
            (slopes,) = torch.autograd.grad(value, outputs, materialize_grads=True)
            return self._total(
                self._by_weights(self.outputs(x), slope)
                for x, slope in zip(blocks, torch.split(slopes, self.block), strict=True)
            )

    def hessian_gradient(self, loss: Reward) -> list[Tensor]:
        """Return H g of each layer, the slope of ⟨∂L/∂θ, g⟩ at constant g; L is a mean over samples."""
        constant = self.gradient(loss)

        def along(x: Tensor, y: Tensor) -> Tensor:
            share = loss(self.outputs(x), y) * (len(y) / len(self.y))
            slopes = self._by_weights(share, create_graph=True)
            return torch.stack([(s * g).sum() for s, g in zip(slopes, constant, strict=True)]).sum()

        with _differentiation():
            blocks = zip(torch.split(self.x, self.block), torch.split(self.y, self.block), strict=True)
            return self._total(self._by_weights(along(x, y)) for x, y in blocks)

    def times_weights(self, derivative: list[Tensor]) -> Parts:
        """Return the scores ``derivative ⊙ θ ⊙ mask``, on the CPU."""
        pairs = zip(self.weights.items(), derivative, strict=True)
        return {name: (weight.detach() * slope).cpu() for (name, weight), slope in pairs}

    def _by_weights(
        self, value: Tensor, slope: Tensor | None = None, *, create_graph: bool = False
    ) -> tuple[Tensor, ...]:
        return torch.autograd.grad(
            value, [*self.weights.values()], slope, create_graph=create_graph, materialize_grads=True
        )

    def _total(self, parts: Iterator[tuple[Tensor, ...]]) -> list[Tensor]:
        total = [torch.zeros_like(weight) for weight in self.weights.values()]
        for part in parts:
            for into, summand in zip(total, part, strict=True):
                into += summand
        return total


def _block(wiring: Wiring, samples: int) -> int:
    """Return the samples of a block: all of them where samples may influence each other in the network."""
    together = any(step.operation == "normalize" and step.names[2] is None for step in wiring.steps)
    if together or not wiring.steps:
        return samples
    return max(1, BLOCK_VALUES // sum(math.prod(step.shape) for step in wiring.steps))


@contextmanager
def _differentiation() -> Iterator[None]:
    """Record gradients inside, also where the caller has disabled them."""
    with reproducible(), torch.enable_grad():
        yield


def find_reward(reward: str | Reward) -> Reward:
    """Return the reward of a name, or the function given.

    Raises :class:`BadInput` for an unknown name, or a function that does not take outputs and labels.
    """
    resolved = reward if callable(reward) else resolve(str(reward), REWARDS, "reward", ("outputs", "y"))
    check_call(resolved, "reward", str(reward), "reward(outputs, y)", 2)
    return resolved


def _checked(value: object) -> Tensor:
    """Return the value of a reward; raises :class:`BadInput` for one without a gradient."""
    if isinstance(value, Tensor) and value.ndim == 0 and value.requires_grad:
        return value
    got = type(value).__name__
    if isinstance(value, Tensor):
        cause = "" if value.requires_grad else " that does not depend on the outputs"
        got = f"a tensor of shape {tuple(value.shape)}{cause}"
    raise BadInput(
        f"a reward returns one number, a tensor of shape () differentiable in the outputs, but got {got}; "
        "return e.g. outputs.sum()"
    )
