"""Other ways to train masked networks, which ``scripts/bench_searched.py`` times beside this package.

Each is a function of a problem that gives a side: a function of masks ``(P, weights)`` bool and a number of
steps. It trains all of them from the same weights on the same data order, by SGD with momentum, and returns
the weights of the first network's first layer.

    plain     one network after another in torch: masks multiplied after each step, fused SGD; images are
              channels last
    compile   the same, its forward pass, loss and gradients by torch.compile
    vmap      all networks together, by torch.func's vmap of grad (Linear and ReLU alone)
    jax       all networks and steps in one call, by JAX's jit, vmap and scan (Linear and ReLU alone)
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ticketsearch.masks import Mask
from ticketsearch.models import Network

LR, MOMENTUM = 0.05, 0.9

# One thread. Read when JAX makes its backend.
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
try:
    import jax
    import jax.numpy as jnp
except ImportError:
    jax = None


class Problem(NamedTuple):
    """A network, its training samples ``(n, *input_shape)`` with labels ``(n,)``, and a data order."""

    network: Network
    x: Tensor
    y: Tensor
    order: NDArray[np.int64]

    @property
    def linear(self) -> bool:
        """Whether the network is a chain of Linear layers and ReLU."""
        return all(isinstance(m, nn.Flatten | nn.Linear | nn.ReLU) for m in self.network.module.children())


Side = Callable[[Mask, int], Tensor]


def plain(problem: Problem) -> Side:
    """Train one network after another as a careful user does."""
    return _one_by_one(problem, lambda function: function)


def compiled(problem: Problem) -> Side:
    """Train one network after another, with a compiled forward and backward pass."""
    return _one_by_one(problem, torch.compile)


def _one_by_one(problem: Problem, wrapped: Callable[..., Any]) -> Side:
    """Return the loop over networks; all of them are trained in one module, so that it is compiled once."""
    form = torch.channels_last if problem.x.ndim == 4 else torch.contiguous_format
    module = copy.deepcopy(problem.network.module).train().to(memory_format=form)
    initial = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    parameters = dict(module.named_parameters())
    x, y = problem.x.to(memory_format=form), problem.y
    loss_of = wrapped(lambda x, y: F.cross_entropy(module(x), y))

    def side(masks: Mask, steps: int) -> Tensor:
        first = torch.empty(0)
        for number, mask in enumerate(masks):
            module.load_state_dict(initial)
            parts = problem.network.spec.split(mask)
            weights = [parameters[name].data for name in parts]
            keeps = [torch.from_numpy(part.copy()).float() for part in parts.values()]
            keeps = [keep.to(memory_format=form) if keep.ndim == 4 else keep for keep in keeps]
            torch._foreach_mul_(weights, keeps)
            optimizer = torch.optim.SGD(module.parameters(), LR, MOMENTUM, fused=True)
            for chosen in torch.from_numpy(problem.order[:steps]):
                loss = loss_of(x.index_select(0, chosen), y.index_select(0, chosen))
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                torch._foreach_mul_(weights, keeps)
            if number == 0:
                first = weights[0].clone()
        return first

    return side


def _linear_parts(problem: Problem, mask: Mask) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
    """Return weights and biases of all layers in turn, and as many factors: masks, and ones for biases."""
    spec, state = problem.network.spec, problem.network.module.state_dict()
    values, keeps = [], []
    for name in state:
        value = state[name].numpy()
        if name in {layer.name for layer in spec.layers}:
            (layer,) = (layer for layer in spec.layers if layer.name == name)
            keep = mask[:, layer.slice].reshape(-1, *layer.shape).astype(np.float32)
        else:
            keep = np.ones((len(mask), *value.shape), np.float32)
        values.append(value * keep)
        keeps.append(keep)
    return values, keeps


def vmap(problem: Problem) -> Side:
    """Train all networks together, gradients by vmap."""

    def loss_of(tensors: list[Tensor], x: Tensor, y: Tensor) -> Tensor:
        for index in range(0, len(tensors), 2):
            x = F.linear(x, tensors[index], tensors[index + 1])
            if index + 2 < len(tensors):
                x = torch.relu(x)
        return F.cross_entropy(x, y)

    gradients = torch.func.vmap(torch.func.grad(loss_of), in_dims=(0, None, None))
    x, y = problem.x.flatten(1), problem.y

    def side(masks: Mask, steps: int) -> Tensor:
        values, keeps = ([torch.from_numpy(v) for v in each] for each in _linear_parts(problem, masks))
        momenta = [torch.zeros_like(value) for value in values]
        # Biases need no mask.
        weights, factors = values[::2], keeps[::2]
        for chosen in torch.from_numpy(problem.order[:steps]):
            slopes = gradients(values, x.index_select(0, chosen), y.index_select(0, chosen))
            torch._foreach_mul_(momenta, MOMENTUM)
            torch._foreach_add_(momenta, slopes)
            torch._foreach_add_(values, momenta, alpha=-LR)
            torch._foreach_mul_(weights, factors)
        return values[0][0]

    return side


def by_jax(problem: Problem) -> Side:
    """Train all networks and steps in one call."""

    def loss_of(tensors: Any, keeps: Any, x: Any, y: Any) -> Any:
        for index in range(0, len(tensors), 2):
            x = x @ (tensors[index] * keeps[index]).T + tensors[index + 1]
            if index + 2 < len(tensors):
                x = jax.nn.relu(x)
        return -jnp.take_along_axis(jax.nn.log_softmax(x), y[:, None], 1).mean()

    gradients = jax.vmap(jax.grad(loss_of), in_axes=(0, 0, None, None))

    @jax.jit
    def trained(values: Any, keeps: Any, x: Any, y: Any, order: Any) -> Any:
        def step(state: Any, chosen: Any) -> Any:
            values, momenta = state
            slopes = gradients(values, keeps, x[chosen], y[chosen])
            momenta = [MOMENTUM * m + g for m, g in zip(momenta, slopes, strict=True)]
            return ([v - LR * m for v, m in zip(values, momenta, strict=True)], momenta), None

        (values, _), _ = jax.lax.scan(step, (values, [jnp.zeros_like(v) for v in values]), order)
        return values

    x, y = jnp.asarray(problem.x.flatten(1).numpy()), jnp.asarray(problem.y.numpy())

    def side(masks: Mask, steps: int) -> Tensor:
        values, keeps = _linear_parts(problem, masks)
        weights = jax.block_until_ready(trained(values, keeps, x, y, problem.order[:steps]))
        return torch.from_numpy(np.array(weights[0][0]))

    return side


def rivals(problem: Problem) -> dict[str, Side]:
    """Return the sides that can train a problem's network."""
    sides = {"plain": plain(problem)}
    if problem.linear:
        sides |= {"compile": compiled(problem), "vmap": vmap(problem)}
        if jax is not None:
            sides["JAX"] = by_jax(problem)
    return sides
