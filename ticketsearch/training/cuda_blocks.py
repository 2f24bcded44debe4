"""Networks that a CUDA device trains by their kept weights, one in each block, in kernels of many steps."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ticketsearch.masks import Guidance, Mask, MaskSpec
from ticketsearch.training.native.known_maps import known_map
from ticketsearch.training.native.loop import NativeTraining
from ticketsearch.training.native.names import MAPS, OPTIMIZERS
from ticketsearch.training.native.networks import Networks
from ticketsearch.training.native.program import Program
from ticketsearch.training.parts import State
from ticketsearch.training.recipe import Recipe
from ticketsearch.wiring import Compaction, Wiring

__all__ = ["AVAILABLE", "Blocks", "BlocksTraining", "fits"]

AVAILABLE = importlib.util.find_spec("triton") is not None
# Maps whose slope follows from their output.
KNOWN = frozenset(MAPS[name] for name in ("affine", "relu", "leaky_relu", "tanh", "sigmoid"))
# Most units of a value, whose numbers have 16 bits; samples of a batch; and outputs of a batch.
MOST_UNITS, MOST_SAMPLES, MOST_OUTPUTS = 2**15, 1024, 2**15
# Numbers of a tile of rows: 8 for each thread.
TILE, WARPS = 2048, 8
# Blocks of a multiprocessor, which have memory of their own for values.
RESIDENT = 4
# Multiplications of one launch, and bytes of its gathered batches: Ctrl-C waits for its end.
LAUNCH, GATHERED = 2e11, 2**26
# Samples of a block of an evaluation.
EVALUATED = 128
BETA1, BETA2 = 0.9, 0.999


def fits(wiring: Wiring, compactions: Sequence[Compaction], recipe: Recipe) -> bool:
    """Return whether the kernels train networks: on a CUDA device, where :data:`AVAILABLE`.

    They have layers one after another, of at most ``MOST_UNITS`` units, each followed by at most one map of
    ``KNOWN``; float32; and masking ``parameter``.
    """
    if recipe.masking != "parameter" or recipe.precision != "float32" or recipe.batch > MOST_SAMPLES:
        return False
    steps = wiring.steps
    if (
        len(steps) < 2
        or steps[1].operation != "linear"
        or steps[-1].shape[0] * _samples(recipe) > MOST_OUTPUTS
    ):
        return False
    for index, step in enumerate(steps[1:], 1):
        if tuple(step.inputs) != (index - 1,) or len(step.shape) != 1:
            return False
        if step.operation != "linear" and not _is_map_of_layer(steps[index - 1], step):
            return False
    return all(c.steps[i].shape[0] <= MOST_UNITS for c in compactions for i in range(len(steps)))


def _is_map_of_layer(before: Any, step: Any) -> bool:
    """Return whether a step is a map that the kernels have, of the outputs of a layer."""
    if before.operation != "linear" or step.operation != "elementwise" or step.names:
        return False
    known = known_map(step.function)
    # The slope of a leaky ReLU that turns negative values round does not follow from its output.
    return known is not None and known.kind in KNOWN and (known.kind != MAPS["leaky_relu"] or known.first > 0)


def _samples(recipe: Recipe) -> int:
    """Return the numbers of a row: a batch, padded to a power of two."""
    return max(16, 1 << (recipe.batch - 1).bit_length())


class Blocks(Networks):
    """P networks of one architecture, each with its own mask, which :func:`fits` has accepted.

    Parameters are those of :class:`~ticketsearch.training.native.networks.Networks`, which computes slopes on
    the CPU, and ``device``. The type of all numbers is float32.
    """

    def __init__(
        self,
        compactions: Sequence[Compaction],
        masks: Mask,
        live: Sequence[Mask],
        initial: Sequence[Any],
        *,
        device: torch.device,
    ) -> None:
        super().__init__(compactions, masks, live, initial, dtype=torch.float32)
        self.device = device
        self.features = self.programs[0].features
        self.weights = self._put(self.tables.params)
        self._lay_layers()

    def _put(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device, copy=True)

    def _lay_layers(self) -> None:
        """Copy to the device what the kernels need of each layer: see :mod:`.cuda_kernels`."""
        length = int(self.param_starts[-1])
        self._arrays: dict[str, list[NDArray[np.int64]]] = {
            name: [] for name in ("orders", "bounds", "turned_units", "turned_places")
        }
        units_of, columns = np.zeros(length, np.int16), np.zeros(length, np.int16)
        layers: list[list[int]] = []
        numbers: list[tuple[float, float]] = []
        networks = []
        self.hidden = 0
        for program, start in zip(self.programs, self.param_starts, strict=False):
            begin, row = len(layers), 0
            for name, (_, inputs, _, units) in program.layers.items():
                first, place = program.named[name]
                assert not isinstance(place, int)
                unit, source = place
                at = int(start) + first
                units_of[at : at + len(unit)], columns[at : at + len(unit)] = unit, source
                by_units = self._lay_rows(at + np.searchsorted(unit, np.arange(units + 1)))
                turned = np.argsort(source, kind="stable")
                by_inputs = self._lay_rows(np.searchsorted(source[turned], np.arange(inputs + 1)))
                turned_at = self._lay("turned_units", unit[turned])
                self._lay("turned_places", at + turned)
                layers.append([row, inputs, units, at, len(unit), -1, *by_units, *by_inputs, turned_at])
                row += units
            self._lay_maps(program, int(start), layers[begin:], numbers)
            networks.append((begin, len(layers)))
            self.hidden = max(self.hidden, row)
        kinds: dict[str, Any] = {"orders": np.int32, "bounds": np.int32, "turned_units": np.int16}
        self.network_table = self._put(np.array(networks, np.int32).reshape(-1, 2))
        self.layer_table = self._put(np.array(layers, np.int32).reshape(-1, 15))
        self.numbers = self._put(np.array(numbers, np.float32).reshape(-1, 2))
        self.units_of, self.columns = self._put(units_of), self._put(columns)
        for name, parts in self._arrays.items():
            joined = np.concatenate([*parts, np.zeros(1, np.int64)]).astype(kinds.get(name, np.int32))
            setattr(self, name, self._put(joined))

    orders: Tensor
    bounds: Tensor
    turned_units: Tensor
    turned_places: Tensor

    def _lay(self, name: str, values: NDArray[Any]) -> int:
        """Append to an array; return the first place."""
        parts = self._arrays[name]
        begin = sum(map(len, parts))
        parts.append(values.astype(np.int64))
        return begin

    def _lay_rows(self, bounds: NDArray[np.int64]) -> tuple[int, int]:
        """Append rows of weights, in the order of their lengths; return the first places."""
        order = np.argsort(-np.diff(bounds), kind="stable")
        return self._lay("orders", order), self._lay("bounds", bounds)

    def _lay_maps(
        self, program: Program, start: int, layers: list[list[int]], numbers: list[tuple[float, float]]
    ) -> None:
        """Add to the layers of a network their biases, the maps that follow, and what learns."""
        layer = -1
        for operation, pair in zip(program.operations, program.numbers, strict=True):
            if operation[0] == 0:
                layer += 1
                bias = operation[6]
                layers[layer][5] = start + bias if bias >= 0 else -1
                learns = operation[9] and operation[-1], operation[10] and operation[-1]
                layers[layer] += [MAPS["affine"], *map(int, learns), 0]
                numbers.append((1.0, 0.0))
            else:
                layers[layer][11] = operation[5]
                numbers[-1] = pair

    def pull(self) -> None:
        """Copy the trained parameters to the CPU, where the native engine has them."""
        self.tables.params[:] = self.weights.cpu().numpy()

    def push(self) -> None:
        """Copy parameters from the CPU to the device."""
        self.weights.copy_(torch.from_numpy(self.tables.params))

    def training(self, recipe: Recipe, x: Tensor, y: Tensor, order: NDArray[np.int64]) -> BlocksTraining:
        """Return the training of the networks, not begun."""
        return BlocksTraining(self, recipe, x, y, order)

    def forward(self, x: Tensor, *, masked: bool | None = None) -> Tensor:
        """Return logits ``(P, classes, samples)`` of resident samples, as in evaluation.

        Weights that masks do not keep are zero, whatever ``masked``.
        """
        from ticketsearch.training.cuda_kernels import evaluate_blocks  # imports triton

        total, parts = len(x), -(-len(x) // EVALUATED)
        logits = x.new_empty(self.size, int(self.outputs[0, 1]), total)
        padded = x.new_zeros(parts * EVALUATED, self.features)
        padded[:total] = x[:, : self.features]
        samples = padded.view(parts, EVALUATED, self.features).transpose(1, 2).contiguous()
        # Values of all blocks of a launch are in memory together.
        for begin in range(0, parts, 8):
            some = samples[begin : begin + 8]
            scratch = x.new_empty(self.size * len(some) * self.hidden * EVALUATED)
            evaluate_blocks[(self.size, len(some))](
                some, self.features, total, begin,
                self.network_table, self.layer_table, self.numbers, self.weights, self.orders, self.bounds,
                self.columns, scratch, self.hidden, logits,
                ROWS=TILE // EVALUATED, SAMPLES=EVALUATED, num_warps=WARPS, num_stages=1,
            )  # fmt: skip
        return logits

    def parameters(self) -> dict[str, Tensor]:
        """Return ``{name: (P, *shape) tensor}``: copies of trained parameters; pruned weights are zero."""
        self.pull()
        return {name: tensor.to(self.device) for name, tensor in super().parameters().items()}

    def buffers(self) -> dict[str, Tensor]:
        """Return ``{name: (P, *shape) tensor}``: copies of the buffers."""
        return {name: tensor.to(self.device) for name, tensor in super().buffers().items()}


class BlocksTraining(NativeTraining):
    """The training of networks in blocks, which can stop at any step and go on.

    Parameters are those of :class:`~ticketsearch.training.native.NativeTraining`; ``x`` and ``y`` are on the
    device. States are those of the native engine.
    """

    part: Blocks

    def __init__(self, part: Blocks, recipe: Recipe, x: Tensor, y: Tensor, order: NDArray[np.int64]) -> None:
        super().__init__(part, recipe, x[:0].cpu(), y[:0].cpu(), order)
        self._x, self._y = x, y.to(torch.int32)
        self._moments = [torch.zeros_like(part.weights) for _ in range(2)]
        rule = [recipe.momentum, recipe.weight_decay, 1.0 - BETA1, 1.0 - BETA2]
        self._rule = torch.tensor(rule, dtype=torch.float32, device=part.device)
        self._blocks = min(part.size, RESIDENT * _multiprocessors(part.device))
        rows = 2 * part.hidden + part.features
        self._scratch = x.new_empty(self._blocks * rows * _samples(recipe), dtype=torch.float32)

    @property
    def at_once(self) -> int:
        """Steps of one launch."""
        part, samples = self.part, _samples(self.recipe)
        cost = 3.0 * max(len(part.weights), 1) * samples
        return max(1, min(int(LAUNCH / cost), GATHERED // (4 * samples * part.features)))

    def advance(self, begin: int, until: int) -> None:
        """Train from step ``begin`` to step ``until`` of the recipe."""
        for start in range(begin, until, self.at_once):
            self._launch(start, min(start + self.at_once, until))

    def _launch(self, begin: int, end: int) -> None:
        """Train from one step to another by one kernel."""
        from ticketsearch.training.cuda_kernels import train_blocks  # imports triton

        part, recipe, samples = self.part, self.recipe, _samples(self.recipe)
        own, steps = len(self.order) > 1, end - begin
        order = torch.from_numpy(self.order[:, begin:end]).to(part.device, torch.int32).contiguous()
        gathered = self._x
        if not own:
            gathered = self._x.new_zeros(steps, part.features, samples)
            batches = self._x[order[0].long()][:, :, : part.features]
            gathered[:, :, : recipe.batch] = batches.transpose(1, 2)
        classes = max(16, 1 << (int(part.outputs[0, 1]) - 1).bit_length())
        train_blocks[(self._blocks,)](
            self._x, self._y, order, self._x.stride(0), part.features, recipe.batch, steps,
            steps * recipe.batch if own else 0, gathered, part.network_table, part.size,
            part.layer_table, part.numbers, part.weights, *self._moments, part.orders,
            part.bounds, part.units_of, part.columns, part.turned_units, part.turned_places,
            self._rates(begin, end), self._rule, self._scratch, part.hidden,
            OPTIMIZER=OPTIMIZERS[recipe.optimizer], OWN=own, CLASSES=classes, ROWS=max(1, TILE // samples),
            SAMPLES=samples, num_warps=WARPS, num_stages=1,
        )  # fmt: skip
        self._taken += steps

    def _rates(self, begin: int, end: int) -> Tensor:
        """Return for each step its learning rate, and the step size and root that Adam makes of it."""
        rates = np.array([self.recipe.rate(step) for step in range(begin, end)])
        taken = self._taken + 1 + np.arange(len(rates))
        table = np.stack([rates, rates / (1 - BETA1**taken), 1 / np.sqrt(1 - BETA2**taken)], axis=1)
        return torch.from_numpy(table.astype(np.float32)).to(self.part.device)

    def states(self) -> list[State]:
        """Return each network's state, from which :meth:`restore` goes on."""
        self.part.pull()
        for array, moments in zip((self._first, self._second), self._moments, strict=True):
            array[:] = moments.cpu().numpy()
        return super().states()

    def restore(self, states: Sequence[State]) -> None:
        """Go on from the states of networks with the same masks and recipe."""
        super().restore(states)
        self.part.push()
        for array, moments in zip((self._first, self._second), self._moments, strict=True):
            moments.copy_(torch.from_numpy(array))

    def guidance(
        self, begin: int, share: float, saliency: str, specs: Sequence[MaskSpec] | None
    ) -> list[Guidance | None]:
        """Return the guidance of each network: see :meth:`ticketsearch.training.Training.guidance`."""
        self.part.pull()
        self._samples, self._labels = self._x.cpu().numpy(), self._y.long().cpu().numpy()
        return super().guidance(begin, share, saliency, specs)


def _multiprocessors(device: torch.device) -> int:
    """Return the number of a device's multiprocessors; 1 of a CPU, where Triton's interpreter runs."""
    if device.type != "cuda":
        return 1
    return int(torch.cuda.get_device_properties(device).multi_processor_count)
