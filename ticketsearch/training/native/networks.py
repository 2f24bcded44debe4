"""Networks of the native engine: their programs in flat arrays, forward passes, slopes and parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ticketsearch.masks import Mask
from ticketsearch.training.flops import BLOCK
from ticketsearch.training.native.memory import LINE, aligned
from ticketsearch.training.native.names import FIELDS
from ticketsearch.training.native.program import program_of
from ticketsearch.training.native.steps import Tables, backward, forward, gather
from ticketsearch.training.saliency import Slopes
from ticketsearch.wiring import Compaction

__all__ = ["Networks"]

# Samples that are evaluated at once: their values fit the cache. Changes no result.
AT_ONCE = 128


class Networks:
    """P networks of one architecture, each with its own mask, under masking ``parameter``.

    Parameters
    ----------
    compactions : kept units of each network.
    masks : ``(P, weights)`` bool.
    live : kept weights between live units, ``(weights,)`` bool for each; the others keep their values.
    initial : initial parameters and buffers ``{name: tensor}``; one for all or one for each mask.
    dtype : precision of the training.
    """

    # Samples of a block of an evaluation, which bounds memory. Fixed: a sum's last bits follow its blocks.
    block = BLOCK
    stacked = True

    def __init__(
        self,
        compactions: Sequence[Compaction],
        masks: Mask,
        live: Sequence[Mask],
        initial: Sequence[Mapping[str, Tensor]],
        *,
        dtype: torch.dtype,
    ) -> None:
        self.size = len(compactions)
        self.compactions = compactions
        self.whole_mask = masks
        self.initial = initial if len(initial) == self.size else [*initial] * self.size
        self.dtype = dtype
        self.kind: np.dtype[Any] = torch.empty(0, dtype=dtype).numpy().dtype
        networks = zip(compactions, live, self.initial, strict=True)
        self.programs = [program_of(c, mask, tensors, self.kind) for c, mask, tensors in networks]
        self.param_starts = _starts([len(p.params) for p in self.programs], LINE)
        self.moved_starts = _starts([len(p.moved) for p in self.programs], LINE)
        self.tables = self._tables()
        self.rows = max((p.rows for p in self.programs), default=0)
        self.outputs = np.array([p.output for p in self.programs], dtype=np.int64).reshape(-1, 2)
        self.noise_rows = max((p.noise_rows for p in self.programs), default=0)
        # First features of the lines that hold those which are used.
        lines = np.concatenate([p.used() for p in self.programs]) // LINE * LINE
        per_line = LINE * self.kind.itemsize // 64
        self.used = (np.unique(lines)[:, None] + np.arange(per_line) * (LINE // per_line)).ravel()

    def _tables(self) -> Tables:
        """Return the programs as flat arrays, in which places are counted from the first of all."""
        programs, params = self.programs, self.param_starts
        operation_starts = _starts([len(p.operations) for p in programs])
        networks = np.zeros((self.size, 4), dtype=np.int64)
        networks[:, 0], networks[:, 1] = operation_starts[:-1], operation_starts[1:]
        networks[:, 2] = params[:-1]
        networks[:, 3] = params[:-1] + [p.learning for p in programs]
        sources = np.zeros(params[-1], dtype=np.int32)
        values, moved = aligned(params[-1], self.kind), aligned(self.moved_starts[-1], self.kind)
        counts = {
            name: _starts([sum(map(len, getattr(p, name))) for p in programs])
            for name in ("begins", "turned_begins", "turned_order", "indices")
        }
        operations = []
        for index, program in enumerate(programs):
            at = params[index]
            values[at : at + len(program.params)] = program.params
            moved_at = self.moved_starts[index]
            moved[moved_at : moved_at + len(program.moved)] = program.moved
            for (name, _), row in zip(program.layers.items(), program.sources, strict=True):
                begin = at + program.named[name][0]
                sources[begin : begin + len(row)] = row
            offsets = {name: int(starts[index]) for name, starts in counts.items()}
            operations += [
                program.shifted(operation, int(at), int(moved_at), offsets)
                for operation in program.operations
            ]

        def joined(name: str, kind: Any, starts: NDArray[np.int64] | None = None) -> NDArray[Any]:
            parts = [
                part + (0 if starts is None else int(starts[index]))
                for index, program in enumerate(programs)
                for part in getattr(program, name)
            ]
            return np.concatenate([*parts, np.zeros(0, kind)]).astype(kind)

        order = joined("turned_order", np.int64, params)
        return Tables(
            networks,
            np.array(operations, dtype=np.int64).reshape(-1, FIELDS),
            np.array([pair for p in programs for pair in p.numbers], dtype=np.float64).reshape(-1, 2),
            values,
            sources,
            joined("begins", np.int64, params),
            joined("turned_sources", np.int32),
            joined("turned_begins", np.int64, counts["turned_order"]),
            order,
            aligned(len(order), self.kind),
            joined("indices", np.int32),
            moved,
        )

    def scratch(self, stride: int) -> NDArray[Any]:
        """Return room for what operations compute of each sample."""
        return aligned(max(p.scratch for p in self.programs) * stride, self.kind)

    def saved(self) -> NDArray[Any]:
        """Return room for what operations keep between forward and backward."""
        return aligned(max(p.saved for p in self.programs), self.kind)

    def values(self, stride: int) -> NDArray[Any]:
        """Return room for the values of one network."""
        return aligned(self.rows * stride, self.kind)

    def forward(self, x: Tensor, *, masked: bool | None = None) -> Tensor:
        """Return logits ``(P, classes, samples)`` of resident samples, as in evaluation.

        Weights that masks do not keep are zero, whatever ``masked``.
        """
        samples = x.numpy().ravel()
        logits = np.empty((self.size, int(self.outputs[0, 1]), len(x)), dtype=self.kind)
        values, scratch = self.values(AT_ONCE), self.scratch(AT_ONCE)
        saved, none = self.saved(), aligned(0, self.kind)
        for begin in range(0, len(x), AT_ONCE):
            order = np.arange(begin, min(begin + AT_ONCE, len(x)))
            gather(samples, x.shape[1], self.used, order, values, AT_ONCE)
            for network, (row, classes) in enumerate(self.outputs):
                forward(self.tables, network, values, AT_ONCE, len(order), False, none, scratch, saved)
                of_network = values[row * AT_ONCE : (row + classes) * AT_ONCE].reshape(classes, AT_ONCE)
                logits[network, :, begin : begin + len(order)] = of_network[:, : len(order)]
        return torch.from_numpy(logits)

    def slopes(
        self, network: int, x: Tensor, gradient: Callable[[Tensor], Tensor], *, curved: bool
    ) -> Slopes:
        """Return gradients by all weights between a network's kept units, ``{layer: (1, *kept shape)}``.

        ``x`` are resident samples; ``gradient(logits)`` is the gradient of the mean loss by the logits.
        ``curved`` adds the mean of the samples' squared gradients.
        """
        count = len(x)
        stride = -(-count // LINE) * LINE
        values, changes, scratch = self.values(stride), self.values(stride), self.scratch(stride)
        slopes, saved, none = np.zeros_like(self.tables.params), self.saved(), aligned(0, self.kind)
        # All features, since weights that are pruned have gradients too.
        lines = np.arange(0, x.shape[1], 64 // self.kind.itemsize)
        gather(x.numpy().ravel(), x.shape[1], lines, np.arange(count), values, stride)
        forward(self.tables, network, values, stride, count, False, none, scratch, saved)
        row, classes = self.outputs[network]
        rows = {"values": values.reshape(-1, stride), "changes": changes.reshape(-1, stride)}
        logits = torch.from_numpy(rows["values"][row : row + classes, :count].copy())[None]
        rows["changes"][row : row + classes, :count] = gradient(logits)[0].numpy()
        backward(self.tables, network, values, changes, slopes, stride, count, False, none, scratch, saved)
        means, squares = {}, {}
        for name, (read, inputs, out, units) in self.programs[network].layers.items():
            change = torch.from_numpy(rows["changes"][out : out + units, :count])
            inputs_of = torch.from_numpy(rows["values"][read : read + inputs, :count])
            means[name] = (change @ inputs_of.t())[None]
            if curved:
                # A weight's gradient by a sample is its input times the gradient by its output.
                squares[name] = ((change.square() @ inputs_of.square().t()) * count)[None]
        return Slopes(means, squares if curved else None)

    def parameters(self) -> dict[str, Tensor]:
        """Return ``{name: (P, *shape) tensor}``: copies of trained parameters; pruned weights are zero."""
        masks = self.compactions[0].wiring.spec.split(self.whole_mask)
        named: dict[str, list[Tensor]] = {}
        for index in range(self.size):
            for name, tensor in self.trained(index).items():
                kept = torch.from_numpy(masks[name][index].copy()) if name in masks else None
                named.setdefault(name, []).append(tensor if kept is None else tensor * kept)
        return {name: torch.stack(tensors) for name, tensors in named.items()}

    def trained(self, index: int) -> dict[str, Tensor]:
        """Return all parameters of a network; those that were not trained have their initial values."""
        program, compaction, start = self.programs[index], self.compactions[index], self.param_starts[index]
        learnt = torch.from_numpy(self.tables.params)
        trained = {}
        for name, _ in compaction.wiring.module.named_parameters():
            whole = self.initial[index][name].detach().cpu().to(self.dtype)
            if name not in program.named:
                trained[name] = whole.clone()
                continue
            begin, place = program.named[name]
            small = compaction.shrunk(name, whole).clone()
            if isinstance(place, int):
                small = learnt[start + begin : start + begin + place].view(small.shape)
            else:
                count = len(place[0])
                small[tuple(map(torch.from_numpy, place))] = learnt[start + begin : start + begin + count]
            trained[name] = compaction.scattered(name, small, whole)
        return trained

    def buffers(self) -> dict[str, Tensor]:
        """Return ``{name: (P, *shape) tensor}``: copies of the running statistics."""
        moved = torch.from_numpy(self.tables.moved)
        named: dict[str, list[Tensor]] = {}
        for index, (program, compaction) in enumerate(zip(self.programs, self.compactions, strict=True)):
            for name, buffer in compaction.wiring.module.named_buffers():
                whole = self.initial[index].get(name, buffer).detach().cpu()
                if name in program.moved_names:
                    begin, count = program.moved_names[name]
                    begin += int(self.moved_starts[index])
                    whole = compaction.scattered(name, moved[begin : begin + count], whole.to(self.dtype))
                named.setdefault(name, []).append(whole.clone())
        return {name: torch.stack(tensors) for name, tensors in named.items()}


def _starts(lengths: Sequence[int], multiple: int = 1) -> NDArray[np.int64]:
    """Return the first places of parts one after another, each at a multiple, and the end."""
    rounded = [-(-length // multiple) * multiple for length in lengths]
    return np.cumsum([0, *rounded]).astype(np.int64)
