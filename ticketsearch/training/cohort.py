"""Cohort: masked networks of one architecture that are trained together, by the engine that fits them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from ticketsearch.errors import BadInput, unknown
from ticketsearch.masks import Mask
from ticketsearch.training.dense import Stack
from ticketsearch.training.general import Single
from ticketsearch.training.maskings import MASKINGS
from ticketsearch.training.noise import Noise, check_noise
from ticketsearch.wiring import Wiring

__all__ = ["Cohort", "Part"]


class Part(Protocol):
    """Networks of a cohort that one engine trains with one optimizer; first axes are of ``size``."""

    size: int
    block: int

    @property
    def trainable(self) -> list[Tensor]: ...  # noqa: D102 - see the engines

    def resident(self, x: Tensor) -> Tensor: ...  # noqa: D102

    def forward(  # noqa: D102
        self, x: Tensor, noise: Noise | None = None, *, masked: bool | None = None
    ) -> Tensor: ...

    def parameters(self) -> dict[str, Tensor]: ...  # noqa: D102

    def buffers(self) -> dict[str, Tensor]: ...  # noqa: D102


class Cohort:
    """P networks of one architecture, each with its own mask.

    Parameters
    ----------
    wiring : of the architecture.
    masks : ``(P, weights)`` bool.
    initial : initial parameters and buffers ``{name: tensor}``; one for all or one for each mask. Buffers
        are not asked of dense networks.
    device, dtype : where and in what precision the networks are trained.
    masking : ``parameter``, ``gradient`` or ``forward``; see :mod:`ticketsearch.training.maskings`.
    stacked : whether all are one tensor program; by default where the wiring is dense, which it must be.

    Raises :class:`BadInput` for another number of initial tensors, an unknown masking, or dropout in a
    network whose groups are declared by hand.
    """

    def __init__(
        self,
        wiring: Wiring,
        masks: Mask,
        initial: Sequence[dict[str, Tensor]],
        *,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        masking: str = "parameter",
        stacked: bool | None = None,
    ) -> None:
        if len(initial) not in (1, len(masks)):
            raise BadInput(f"initial parameters are 1 or one a mask ({len(masks)}), but got {len(initial)}")
        if masking not in MASKINGS:
            raise unknown("masking", masking, MASKINGS)
        check_noise(wiring)
        self.wiring = wiring
        self.size = len(masks)
        self.device = device
        self.dtype = dtype
        self.masking = masking
        rules = MASKINGS[masking]
        self.parts: list[Part]
        if wiring.dense if stacked is None else stacked:
            self.parts = [Stack(wiring, masks, initial, rules, device=device, dtype=dtype)]
        else:
            each = initial if len(initial) == self.size else [*initial] * self.size
            self.parts = [
                Single(wiring, mask, tensors, rules, device=device, dtype=dtype)
                for mask, tensors in zip(masks, each, strict=True)
            ]

    def placed(self) -> list[tuple[slice, Part]]:
        """Return the parts, each with the places of its networks in the cohort."""
        found, start = [], 0
        for part in self.parts:
            found.append((slice(start, start + part.size), part))
            start += part.size
        return found

    def resident(self, x: Tensor) -> Tensor:
        """Return samples ``(samples, *input_shape)`` as the engine takes them, on the device."""
        return self.parts[0].resident(x) if self.parts else x

    def parameters(self) -> dict[str, Tensor]:
        """Return ``{name: (P, *shape) tensor}``: copies of what was trained.

        Weights that a mask does not keep are zero under ``parameter``, the initial values under
        ``gradient``, and what they have become under ``forward``.
        """
        return _joined([part.parameters() for part in self.parts])

    def buffers(self) -> dict[str, Tensor]:
        """Return ``{name: (P, *shape) tensor}``: copies of the buffers, e.g. running statistics."""
        return _joined([part.buffers() for part in self.parts])


def _joined(each: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([tensors[name] for tensors in each]) for name in each[0]} if each else {}
