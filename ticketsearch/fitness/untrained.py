"""Untrained accuracy: the fitness of strong tickets, masks under which initial weights alone classify well.

Zhou et al. 2019 ("Deconstructing Lottery Tickets") found such masks; Ramanujan et al. 2020 ("What's Hidden in
a Randomly Weighted Neural Network?") search for them by edge-popup.
"""

from __future__ import annotations

import time
from typing import Final

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ticketsearch.checks import check, is_integer
from ticketsearch.cost import spending
from ticketsearch.datasets import Dataset
from ticketsearch.errors import BadInput
from ticketsearch.masks import Mask, check_masks
from ticketsearch.models import Network
from ticketsearch.tickets import Scores
from ticketsearch.training import (
    Cohort,
    check_independence,
    find_device,
    kept_operations,
    one_thread,
    resident,
)

__all__ = ["Untrained"]

# Samples of a block, and values of a layer of stacked networks for one block: 2 MiB, which fit the caches.
BLOCK, VALUES = 256, 2**19


class Untrained:
    """Fitness of a mask without training: the accuracy of the masked network at its initialization.

    Nothing is trained, so the search may use the training part; the validation part remains for choosing
    among its tickets. A score counts correct samples: it depends on the mask alone, neither on the masks
    beside it nor on the round.

    Parameters
    ----------
    network : its parameters are the initial weights of all masks.
    dataset : scored on ``part``.
    samples : number of samples of the part that count, the same for all masks, each class in proportion; 0 is
        all of them.
    part : ``train``, ``validation`` or ``test``.
    device : ``auto`` (CUDA where there is one), ``cpu``, ``cuda`` or ``cuda:N``.

    Raises :class:`BadInput` for data of another shape than the network's, or more samples than there are.
    """

    def __init__(
        self,
        network: Network,
        dataset: Dataset,
        *,
        samples: int = 0,
        part: str = "train",
        device: str = "auto",
    ) -> None:
        check("network", network, Network)
        check("dataset", dataset, Dataset)
        x, y = dataset.part(part)
        dataset.check_fits(network)
        if not is_integer(samples) or not 0 <= samples <= len(y):
            raise BadInput(f"samples are 0 (all) to the {len(y)} of the {part} part, but got {samples!r}")
        check_independence(network.wiring, network.input_shape)
        self.network: Final = network
        self.samples: Final = samples or len(y)
        self.device: Final = find_device(device)
        # Sorted by class, so that a block has one label: see _correct.
        sizes = torch.bincount(y, minlength=dataset.classes).numpy()
        counts = np.diff(np.cumsum([0, *sizes]) * self.samples // len(y))
        ready = resident(x, flat=network.wiring.dense, device=self.device, dtype=torch.float32)
        self._blocks = [
            torch.split(ready[np.flatnonzero(y == label)[:count]], BLOCK)
            for label, count in enumerate(counts)
        ]
        self._initial = {**network.parameters(), **network.buffers()}

    def __call__(self, masks: ArrayLike) -> Scores:
        """Return the accuracy ``(population,)``, in [0, 1], of masks ``(population, weights)``.

        ``spent`` counts forward passes by all kept weights: telling live ones takes longer than the passes of
        a small network. Raises :class:`BadInput` for masks of another network.
        """
        start = time.perf_counter()
        population = check_masks(masks, self.network.spec)
        correct = np.zeros(len(population), dtype=np.int64)
        wiring = self.network.wiring
        widest = max((torch.Size(step.shape).numel() for step in wiring.steps), default=1)
        at_once = max(1, VALUES // (widest * BLOCK))
        with one_thread(), torch.no_grad():
            for first in range(0, len(population), at_once):
                correct[first : first + at_once] = self._count(population[first : first + at_once])
        spent = spending(kept_operations(wiring, population), steps=0, batch=0, samples=self.samples)
        phases = {"validation": time.perf_counter() - start}
        return Scores(correct / self.samples, phases=phases, spent=spent)

    def _count(self, masks: Mask) -> NDArray[np.int64]:
        """Return the number of correct samples of each masked network, ``(P,)``."""
        cohort = Cohort(self.network.wiring, masks, [self._initial], device=self.device)
        correct = torch.zeros(len(masks), dtype=torch.int64, device=self.device)
        for indices, part in cohort.placed():
            place = torch.from_numpy(indices).to(self.device)
            for label, blocks in enumerate(self._blocks):
                for block in blocks:
                    correct[place] += _correct(part.forward(block), label)
        return correct.cpu().numpy()


def _correct(logits: Tensor, label: int) -> Tensor:
    """Return the number ``(P,)`` of samples, all of one label, whose first largest logit is the label's.

    Logits are ``(P, classes, samples)``. Equal to argmax, which takes ten times as long along a middle axis.
    """
    target = logits[:, label]
    correct = torch.ones_like(target, dtype=torch.bool)
    if label:
        correct &= target > logits[:, :label].amax(1)
    if label + 1 < logits.shape[1]:
        correct &= target >= logits[:, label + 1 :].amax(1)
    return correct.sum(1)
