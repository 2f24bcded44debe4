"""Cohort: masked networks of one architecture, trained together by the engine that fits them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ticketsearch.errors import BadInput, unknown
from ticketsearch.masks import Mask, MaskSpec
from ticketsearch.training.batched_forward import filled
from ticketsearch.training.dropout import check_noise
from ticketsearch.training.layout import compacts, engine_for, exact_compactions, layouts, networks_at_once
from ticketsearch.training.mask_modes import MASKINGS
from ticketsearch.training.parts import Part
from ticketsearch.training.single import Single
from ticketsearch.training.stacked import Stack
from ticketsearch.wiring import Wiring, spec_for

__all__ = ["Cohort", "resident"]


def resident(x: Tensor, *, flat: bool, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return samples ``(samples, *input_shape)`` on the device, in the form of the engines.

    Samples of networks whose values are vectors are flat, and padded to whole vectors.
    """
    return filled(x.flatten(1).to(device, dtype)) if flat else x.to(device, dtype)


class Cohort:
    """P networks of one architecture, each with its own mask.

    Networks are trained without their dead units. On a CPU the native engine trains them by their kept
    weights alone, where it has all of their steps; otherwise torch trains networks of Linear layers with the
    same widths as one tensor program, and all others one by one. For networks that are trained whole,
    :func:`~ticketsearch.training.why_not_compacted` gives the reason.

    Parameters
    ----------
    wiring : of the architecture.
    masks : ``(P, weights)`` bool.
    initial : initial parameters and buffers ``{name: tensor}``; one for all or one for each mask. Dense
        networks need no buffers.
    device, dtype : place and precision of the training.
    masking : ``parameter``, ``gradient`` or ``forward``; see :mod:`ticketsearch.training.mask_modes`.
    engine : ``native``, ``stacked`` (only for dense wiring) or ``single``; None takes the first that fits,
        see :func:`ticketsearch.training.layout.engine_for`.
    precision : precision of products in training: see :class:`~ticketsearch.training.Recipe`.

    Raises :class:`BadInput` for a wrong number of initial parameters, an unknown masking, or dropout in a
    network whose groups are declared by hand.
    """

    def __init__(
        self,
        wiring: Wiring,
        masks: Mask,
        initial: Sequence[Mapping[str, Tensor]],
        *,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        masking: str = "parameter",
        engine: str | None = None,
        precision: str = "float32",
    ) -> None:
        if len(initial) not in (1, len(masks)):
            raise BadInput(
                f"initial parameters must be 1 or one for each mask ({len(masks)}), but got {len(initial)}"
            )
        if masking not in MASKINGS:
            raise unknown("masking", masking, MASKINGS)
        check_noise(wiring)
        self.wiring = wiring
        self.size = len(masks)
        self.device = device
        self.dtype = dtype
        self.masking = masking
        self.parts: list[Part] = []
        self.indices: list[NDArray[np.intp]] = []
        self._initial = initial
        self.engine = engine_for(wiring, masking, device, precision) if engine is None else engine
        if self.engine == "native":
            self._native(masks)
        else:
            self._by_torch(masks)

    def _native(self, masks: Mask) -> None:
        """Make one part of all networks."""
        from ticketsearch.training.native import Native  # compiled loops

        if len(masks):
            compactions, live = zip(*exact_compactions(self.wiring, masks, self._initial), strict=True)
            self.parts.append(Native(compactions, masks, live, self._initial, dtype=self.dtype))
            self.indices.append(np.arange(len(masks)))

    def _by_torch(self, masks: Mask) -> None:
        """Make parts of networks that are one tensor program."""
        initial, device, dtype, rules = self._initial, self.device, self.dtype, MASKINGS[self.masking]
        stacked = self.engine == "stacked"
        for layout in layouts(self.wiring, masks, initial, masking=self.masking, stacked=stacked):
            at_once = networks_at_once(layout, device) if stacked else 1
            for start in range(0, len(layout.masks), at_once):
                indices = np.array(layout.masks[start : start + at_once])
                kept = layout.compactions[start : start + at_once]
                tensors = initial if len(initial) == 1 else [initial[index] for index in indices]
                if stacked:
                    self.parts.append(Stack(kept, masks[indices], tensors, rules, device=device, dtype=dtype))
                else:
                    mask = masks[indices[0]]
                    self.parts.append(Single(kept[0], mask, tensors[0], rules, device=device, dtype=dtype))
                self.indices.append(indices)

    def specs(self, indices: NDArray[np.intp]) -> list[MaskSpec] | None:
        """Return the specs of the rule of dead units for networks; None where they are trained whole."""
        if not compacts(self.wiring, self.masking):
            return None
        if len(self._initial) == 1:
            return [spec_for(self.wiring, self._initial[0])] * len(indices)
        return [spec_for(self.wiring, self._initial[index]) for index in indices]

    def placed(self) -> list[tuple[NDArray[np.intp], Part]]:
        """Return the parts, each with the indices of its networks in the cohort."""
        return list(zip(self.indices, self.parts, strict=True))

    @property
    def classes(self) -> int:
        """Number of output units of each network."""
        return self.wiring.spec.outputs

    def resident(self, x: Tensor) -> Tensor:
        """Return samples in the form of :func:`resident`, the same tensor if they have it already."""
        return resident(x, flat=self.engine != "single", device=self.device, dtype=self.dtype)

    def parameters(self) -> dict[str, Tensor]:
        """Return ``{name: (P, *shape) tensor}``: copies of the trained parameters.

        Weights that a mask does not keep are zero under ``parameter``, initial values under ``gradient``, and
        trained values under ``forward``. Parameters of dead units have their initial values.
        """
        return self._joined([part.parameters() for part in self.parts])

    def buffers(self) -> dict[str, Tensor]:
        """Return ``{name: (P, *shape) tensor}``: copies of the buffers, e.g. running statistics."""
        return self._joined([part.buffers() for part in self.parts])

    def _joined(self, parts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return the tensors of all parts in the order of the masks."""
        if not parts:
            return {}
        places = torch.from_numpy(np.argsort(np.concatenate(self.indices))).to(self.device)
        return {name: torch.cat([part[name] for part in parts])[places] for name in parts[0]}
