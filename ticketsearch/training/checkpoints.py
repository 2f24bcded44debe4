"""Checkpoints: the state of each network's training, with kept weights alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ticketsearch.training.parts import AutogradPart, State

__all__ = ["load_states", "states_of"]


def states_of(part: AutogradPart, optimizer: torch.optim.Optimizer) -> list[State]:
    """Return one state for each network of a part; on a device this waits for all work on it."""
    states: list[State] = [{} for _ in range(part.size)]
    for name, rows, kept in _tensors(part, optimizer):
        for index, state in enumerate(states):
            values = rows[index] if kept is None else rows[index][kept[index] != 0]
            state[name] = values.detach().cpu().numpy().copy()
    for index, tensor in enumerate(part.trainable):
        for key, value in optimizer.state[tensor].items():
            if isinstance(value, Tensor) and value.shape != tensor.shape:  # the number of steps
                for state in states:
                    state[f"{index} {key}"] = value.detach().cpu().numpy().copy()
    return states


@torch.no_grad()
def load_states(part: AutogradPart, optimizer: torch.optim.Optimizer, states: Sequence[State]) -> None:
    """Load states of networks with the same masks into a part and its new optimizer."""
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
        for index, state in enumerate(states):
            values = torch.from_numpy(np.array(state[name])).to(rows.device)
            if kept is None:
                rows[index].copy_(values)
            else:
                rows[index][kept[index] != 0] = values


def _tensors(
    part: AutogradPart, optimizer: torch.optim.Optimizer
) -> Iterator[tuple[str, Tensor, Tensor | None]]:
    """Yield (name, tensor, its mask or None): trainable tensors, their optimizer state, and buffers.

    First axes are of the part's size.
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
