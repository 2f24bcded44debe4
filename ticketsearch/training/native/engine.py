"""The native engine: masked networks trained by their kept weights alone, by compiled loops on a CPU.

A cost per kept weight and none per operator call. Networks of one call share the gathered batch and nothing
else, so that each gets the bits that it would get alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ticketsearch.training.native.loop import NativeTraining
from ticketsearch.training.native.networks import Networks
from ticketsearch.training.recipe import Recipe

__all__ = ["Native"]


class Native(Networks):
    """P networks of one architecture, each with its own mask, under masking ``parameter``."""

    def training(self, recipe: Recipe, x: Tensor, y: Tensor, order: NDArray[np.int64]) -> NativeTraining:
        """Return the training of the networks, not begun."""
        return NativeTraining(self, recipe, x, y, order)
