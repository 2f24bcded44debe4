"""States: what the training of each network goes on from, as small as its mask allows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from ticketsearch.training.cohort import Part

__all__ = ["State", "load_states", "states_of"]

# Kept weights, biases, what the optimizer holds of them, and buffers; by an engine's own names.
State = dict[str, NDArray[Any]]


def states_of(part: Part, optimizer: torch.optim.Optimizer) -> list[State]:
    """Return one state a network of a part; on a device this waits for all work on it."""
    states: list[State] = [{} for _ in range(part.size)]
    for name, rows, kept in _tensors(part, optimizer):
        for number, state in enumerate(states):
            own = rows[number] if kept is None else rows[number][kept[number] != 0]
            state[name] = own.detach().cpu().numpy().copy()
    for index, tensor in enumerate(part.trainable):
        for key, value in optimizer.state[tensor].items():
            if isinstance(value, Tensor) and value.shape != tensor.shape:  # the number of steps
                for state in states:
                    state[f"{index} {key}"] = value.detach().cpu().numpy().copy()
    return states


@torch.no_grad()
def load_states(part: Part, optimizer: torch.optim.Optimizer, states: Sequence[State]) -> None:
    """Put the states of networks with the same masks into a part and its new optimizer."""
    for index, tensor in enumerate(part.trainable):
        for name, value in states[0].items():
            owner, _, key = name.partition(" ")
            if owner == str(index) and key:
                single = value.ndim == 0
                step = (
                    torch.from_numpy(value.copy()).to(tensor.device) if single else torch.zeros_like(tensor)
                )
                optimizer.state[tensor][key] = step
    for name, rows, kept in _tensors(part, optimizer):
        for number, state in enumerate(states):
            own = torch.from_numpy(np.array(state[name])).to(rows.device)
            if kept is None:
                rows[number].copy_(own)
            else:
                rows[number][kept[number] != 0] = own


def _tensors(part: Part, optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, Tensor, Tensor | None]]:
    """Yield (name, tensor, its mask or None), first axes being of the part's size.

    The weights as they are; then what the optimizer holds of each, and the buffers.
    """

    def rows(tensor: Tensor) -> Tensor:
        return tensor.detach() if part.stacked else tensor.detach()[None]

    for index, (tensor, kept) in enumerate(zip(part.trainable, part.keeps, strict=True)):
        mask = None if kept is None else rows(kept)
        yield str(index), rows(tensor), mask
        for key, value in optimizer.state[tensor].items():
            if isinstance(value, Tensor) and value.shape == tensor.shape:
                yield f"{index} {key}", rows(value), mask
    for name, tensor in part.moved.items():
        yield f"buffer {name}", rows(tensor), None
