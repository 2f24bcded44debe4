"""Strong tickets: masks under which a network is right as it was initialized, without any training.

Zhou et al. 2019 ("Deconstructing Lottery Tickets") found that such masks are there, Ramanujan et al. 2020
("What's Hidden in a Randomly Weighted Neural Network?") how to search for them.
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
from ticketsearch.datasets import PARTS, Dataset
from ticketsearch.errors import BadInput, unknown
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

# Samples of a block, and values of a layer of stacked networks for one: 2 MiB, which stay in the caches.
BLOCK, VALUES = 256, 2**19


class Untrained:
    """Fitness of a mask without training: the accuracy of the masked network as it was initialized.

    As nothing is trained, the training part is free to search by; the validation part is left to choose
    among what was found. A score is a count of right samples: it depends on the mask alone, not on what is
    evaluated with it, nor on the round.

    Parameters
    ----------
    network : its parameters are what all masks select from.
    dataset : scored on ``part``.
    samples : how many samples of the part count, the same for all masks; 0 is all of them. Each class has
        its share of them.
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
        if part not in PARTS:
            raise unknown("part", part, PARTS)
        if dataset.input_shape != network.input_shape or dataset.classes != network.classes:
            raise BadInput(
                f"the network takes {network.input_shape} and {network.classes} classes, but dataset "
                f"{dataset.name!r} has {dataset.input_shape} and {dataset.classes}"
            )
        x, y = getattr(dataset, f"x_{part}"), getattr(dataset, f"y_{part}")
        if not is_integer(samples) or not 0 <= samples <= len(y):
            raise BadInput(f"samples are 0 (all) to the {len(y)} of the {part} part, but got {samples!r}")
        check_independence(network.wiring, network.input_shape)
        self.network: Final = network
        self.samples: Final = samples or len(y)
        self.device: Final = find_device(device)
        # One class after the other, so that a block has one label: see _right.
        sizes = torch.bincount(y, minlength=dataset.classes).numpy()
        wanted = np.diff(np.cumsum([0, *sizes]) * self.samples // len(y))
        ready = resident(x, stacked=network.wiring.dense, device=self.device, dtype=torch.float32)
        self._blocks = [
            torch.split(ready[np.flatnonzero(y == label)[:count]], BLOCK)
            for label, count in enumerate(wanted)
        ]
        self._initial = {**network.parameters(), **network.buffers()}

    def __call__(self, masks: ArrayLike) -> Scores:
        """Return the accuracy ``(population,)``, in [0, 1], of masks ``(population, weights)``.

        ``spent`` counts their forward passes by all kept weights: to find which of them are live takes longer
        than the passes of a small network. Raises :class:`BadInput` for masks of another network.
        """
        start = time.perf_counter()
        checked = check_masks(masks, self.network.spec)
        right = np.zeros(len(checked), dtype=np.int64)
        wiring = self.network.wiring
        widest = max((torch.Size(step.shape).numel() for step in wiring.steps), default=1)
        at_once = max(1, VALUES // (widest * BLOCK))
        with one_thread(), torch.no_grad():
            for first in range(0, len(checked), at_once):
                right[first : first + at_once] = self._count(checked[first : first + at_once])
        spent = spending(kept_operations(wiring, checked), steps=0, batch=0, samples=self.samples)
        return Scores(right / self.samples, phases={"validation": time.perf_counter() - start}, spent=spent)

    def _count(self, masks: Mask) -> NDArray[np.int64]:
        """Return how many samples each masked network has right, ``(P,)``."""
        cohort = Cohort(self.network.wiring, masks, [self._initial], device=self.device)
        right = torch.zeros(len(masks), dtype=torch.int64, device=self.device)
        for numbers, part in cohort.placed():
            place = torch.from_numpy(numbers).to(self.device)
            for label, blocks in enumerate(self._blocks):
                for block in blocks:
                    right[place] += _right(part.forward(block), label)
        return right.cpu().numpy()


def _right(logits: Tensor, label: int) -> Tensor:
    """Return how many of the samples, all of one label, have its logit as their first largest: ``(P,)``.

    As argmax tells it, which takes ten times as long along an axis in the middle: ``(P, classes, samples)``.
    """
    own = logits[:, label]
    right = torch.ones_like(own, dtype=torch.bool)
    if label:
        right &= own > logits[:, :label].amax(1)
    if label + 1 < logits.shape[1]:
        right &= own >= logits[:, label + 1 :].amax(1)
    return right.sum(1)
