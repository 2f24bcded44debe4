"""CUDA graphs: a training step recorded once, and replayed step by step.

A step of small networks is many small kernels, and starting them takes longer than they run; a graph starts
them at once.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["RecordedSteps"]

# Steps before recording: in the first, libraries choose their kernels and optimizers make their state.
WARMING_UP = 3


class RecordedSteps:
    """Training steps of one part of a cohort, recorded on a CUDA device and run one by one elsewhere.

    Parameters
    ----------
    device : of the part.
    order : ``(1 or P, steps, batch)`` sample indices.
    recordable : whether every step is the same program, i.e. draws no noise on the CPU.
    """

    def __init__(self, device: torch.device, order: NDArray[np.int64], *, recordable: bool) -> None:
        self._samples = torch.from_numpy(order).to(device)
        self._recordable = recordable and device.type == "cuda"
        self._steps = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._chosen = self._samples[..., 0, :].clone() if self._recordable and order.size else None

    def run(self, run: Callable[[Tensor], None], step: int) -> None:
        """Run a step on its sample indices, ``(batch,)`` or ``(P, batch)``, or replay the recorded graph."""
        chosen = self._samples[0, step] if len(self._samples) == 1 else self._samples[:, step]
        self._steps += 1
        if not self._recordable or self._chosen is None:
            run(chosen)
        elif self._steps <= WARMING_UP:
            side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                run(chosen)
            torch.cuda.current_stream().wait_stream(side)
        else:
            self._chosen.copy_(chosen.view_as(self._chosen))
            if self._graph is None:
                self._graph = self._recorded(run)
            if self._graph is None:
                run(chosen)
            else:
                self._graph.replay()

    def _recorded(self, run: Callable[[Tensor], None]) -> torch.cuda.CUDAGraph | None:
        """Return the graph of a step, without running it; None if it cannot be recorded."""
        assert self._chosen is not None
        graph = torch.cuda.CUDAGraph()
        chosen = self._chosen[0] if len(self._samples) == 1 else self._chosen
        try:
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                run(chosen)
        except RuntimeError as error:
            if isinstance(error, torch.cuda.OutOfMemoryError):
                raise
            self._recordable = False
            return None
        return graph
