"""The training of native networks: chunks of steps, dropout, states and guidance."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ticketsearch.masks import Guidance, MaskSpec
from ticketsearch.training.dropout import Noise
from ticketsearch.training.flops import BLOCK
from ticketsearch.training.native.memory import LINE, aligned
from ticketsearch.training.native.names import OPTIMIZERS
from ticketsearch.training.native.networks import Networks
from ticketsearch.training.native.steps import train
from ticketsearch.training.parts import State, loss_gradient
from ticketsearch.training.recipe import Recipe
from ticketsearch.training.saliency import guidance_of

__all__ = ["NativeTraining"]

# Multiplications of one call, and numbers of dropout factors: Ctrl-C waits for its end.
CALL, FACTORS = 5e8, 2**24


class NativeTraining:
    """The training of native networks, which can stop at any step and go on.

    Parameters
    ----------
    part : is trained in place.
    recipe : of masking ``parameter``.
    x, y : resident samples and labels of the training part.
    order : ``(1 or P, steps, batch)`` sample indices, over all steps of the recipe.
    """

    def __init__(
        self, part: Networks, recipe: Recipe, x: Tensor, y: Tensor, order: NDArray[np.int64]
    ) -> None:
        self.part, self.recipe, self.order = part, recipe, order
        self._samples, self._labels = x.numpy(), y.numpy()
        stride = -(-recipe.batch // LINE) * LINE
        length = len(part.tables.params)
        self._first, self._second = (aligned(length, part.kind) for _ in range(2))
        self._adaptive = recipe.optimizer in ("adam", "adamw")
        # Steps of the optimizer, which the bias correction of Adam counts.
        self._taken = 0
        self._stride = stride

    @cached_property
    def _buffers(self) -> tuple[NDArray[Any], ...]:
        part, length = self.part, len(self.part.tables.params)
        values, changes = part.values(self._stride), part.values(self._stride)
        slopes, scratch = aligned(length, part.kind), part.scratch(self._stride)
        return values, changes, slopes, self._first, self._second, scratch, part.saved()

    @cached_property
    def at_once(self) -> int:
        """Steps of one call."""
        cost = 3.0 * max(len(self.part.tables.params), 1) * self._stride
        factors = max(1, self.part.size * self.part.noise_rows * self._stride)
        return max(1, min(int(CALL / cost), FACTORS // factors))

    def advance(self, begin: int, until: int) -> None:
        """Train from step ``begin`` to step ``until`` of the recipe."""
        recipe, part = self.recipe, self.part
        rule = OPTIMIZERS[recipe.optimizer], recipe.momentum, recipe.weight_decay
        for start in range(begin, until, self.at_once):
            end = min(start + self.at_once, until)
            rates = np.array([recipe.rate(step) for step in range(start, end)])
            train(
                part.tables, rule, self._samples, self._labels, part.used, self.order[:, start:end], rates,
                self._taken, self._noise(start, end), part.noise_rows, self._buffers, part.outputs,
            )  # fmt: skip
            self._taken += end - start

    def _noise(self, begin: int, end: int) -> NDArray[Any]:
        """Return the factors of dropout of these steps, ``(steps, P, noise rows, stride)`` flat."""
        part = self.part
        if not part.noise_rows:
            return aligned(0, part.kind)
        noise = aligned((end - begin) * part.size * part.noise_rows * self._stride, part.kind)
        noise[:] = 1.0
        shaped = noise.reshape(end - begin, part.size, part.noise_rows, self._stride)
        like = torch.empty(0, dtype=part.dtype)
        steps, wiring = sorted(part.programs[0].drops), part.compactions[0].wiring
        batch = self.order.shape[2]
        for place, step in enumerate(range(begin, end)):
            drawn = Noise(self.order[:, step], step)
            for index in steps:
                whole = wiring.steps[index]
                factors = drawn.factors(whole, (batch, *whole.shape), like).numpy()
                for network, program in enumerate(part.programs):
                    batch_factors = factors[0 if len(factors) == 1 else network]
                    features = part.compactions[network].features[index]
                    kept = (
                        batch_factors[:, features]
                        if batch_factors.shape[1] == whole.shape[0]
                        else batch_factors
                    )
                    rows = slice(program.drops[index], program.drops[index] + len(features))
                    shaped[place, network, rows, :batch] = kept.T
        return noise

    def states(self) -> list[State]:
        """Return each network's state, from which :meth:`restore` goes on."""
        states: list[State] = []
        for network in range(self.part.size):
            state: State = {name: array.copy() for name, array in self._arrays(network).items()}
            if self._adaptive:
                state["steps"] = np.array(self._taken, dtype=np.float32)
            states.append(state)
        return states

    def restore(self, states: Sequence[State]) -> None:
        """Go on from the states of networks with the same masks and recipe."""
        for network, state in enumerate(states):
            for name, array in self._arrays(network).items():
                array[:] = state[name]
            self._taken = int(state.get("steps", 0))

    def _arrays(self, network: int) -> dict[str, NDArray[Any]]:
        """Return views of all that training moves."""
        part, tables = self.part, self.part.tables
        learning = slice(*tables.networks[network, 2:4])
        moved = slice(
            part.moved_starts[network], part.moved_starts[network] + len(part.programs[network].moved)
        )
        arrays = {
            "parameters": tables.params[learning],
            "first moments": self._first[learning],
            "buffers": tables.moved[moved],
        }
        return arrays | ({"second moments": self._second[learning]} if self._adaptive else {})

    def guidance(
        self,
        begin: int,
        share: float,
        saliency: str,
        specs: Sequence[MaskSpec] | None,
    ) -> list[Guidance | None]:
        """Return the guidance of each network: see :meth:`ticketsearch.training.Training.guidance`."""
        part = self.part
        count = min(BLOCK, len(self._samples))
        guidance: list[Guidance | None] = []
        for network in range(part.size):
            order = self.order[0 if len(self.order) == 1 else network, begin:].ravel()[:count]
            chosen = torch.from_numpy(order if len(order) else np.arange(count))
            x, y = torch.from_numpy(self._samples)[chosen], torch.from_numpy(self._labels)[chosen]
            targets = F.one_hot(y, int(part.outputs[network, 1])).to(part.dtype)
            gradient = partial(loss_gradient, targets=targets)
            slopes = part.slopes(network, x, gradient, curved=saliency != "magnitude")
            trained = {name: tensor[None] for name, tensor in part.trained(network).items()}
            guidance += guidance_of(
                [part.compactions[network]],
                part.whole_mask[network][None],
                trained,
                slopes,
                None if specs is None else [specs[network]],
                share,
                saliency,
            )
        return guidance
