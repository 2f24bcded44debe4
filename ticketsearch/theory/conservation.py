"""Conservation of saliency: at each hidden neuron, and across each cut of the network.

Theorem 1 of Ross's notes: at a hidden neuron the scores of incoming parameters sum to those of outgoing
ones. Theorem 2: across any set of parameters that separates inputs from outputs they sum to <∂R/∂y, y>. Both
hold for the saliency ∂R/∂θ ⊙ θ of any R of the outputs if activations are homogeneous. The contribution of a
bias, or of the shift of a normalisation, counts as incoming; an identity shortcut that a cut crosses counts
as an edge.

A product p = a b of two values (e.g. a gate) is homogeneous in each of them, so <∂R/∂a, a> = <∂R/∂b, b> =
<∂R/∂p, p>: the saliency that passes p enters both factors. Therefore the incoming scores of a neuron equal
the outgoing ones plus <∂R/∂p, p> of its products, and a cut equals <∂R/∂y, y> plus <∂R/∂p, p> of the products
behind it. Both theorems hold unchanged for neurons outside products, and for cuts without products behind.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ticketsearch.checks import checked, real_array
from ticketsearch.errors import BadInput
from ticketsearch.masks import Mask, MaskSpec
from ticketsearch.models import Network
from ticketsearch.typing import Floats
from ticketsearch.wiring import BatchNormalization, Scale, Shift, Step, Sum, factor

__all__ = ["Conservation", "Reward", "conservation", "saliency_conservation"]

Reward = Callable[[Tensor, Tensor], Tensor]


class Conservation(NamedTuple):
    """The largest relative violations of conservation; 0 is exact conservation.

    Attributes
    ----------
    neuron : the largest |in - out| over the mean of the absolute scores in and out, over all hidden neurons.
    network : the largest |cut - R| / |R|, R being <∂R/∂y, y> where it is known and else the mean cut.
    neurons, cuts : number of hidden neurons and of cuts that were checked.
    """

    neuron: float
    network: float
    neurons: int
    cuts: int


@checked
def conservation(scores: Mapping[str, Tensor] | Floats, network: Network) -> Conservation:
    """Return the conservation of any scores of a network's weights.

    ``scores`` is ``{layer name: tensor of the layer's shape}`` or flat ``(weights,)``. Without a reward the
    contributions of biases, shortcuts and products are not known, so only layers that separate inputs from
    outputs, with no product behind them, are checked as cuts, and only neurons outside products.
    """
    spec = network.spec
    if isinstance(scores, Mapping):
        flat = spec.join({name: real_array(f"scores of {name}", part) for name, part in scores.items()})
    elif (flat := real_array("scores", scores)).shape != (spec.size,):
        raise BadInput(f"scores are one a weight, i.e. shape ({spec.size},), but got {flat.shape}")
    sums = {layer.name: float(flat[layer.slice].sum()) for layer in spec.layers}
    products = [i for i, node in enumerate(spec.nodes) if node.operation == "multiply"]
    behind = {node.layer for node in spec.nodes[max(products, default=0) :]}
    layers = [index for index in network.wiring.cut_layers if index in behind]
    cuts = [sums[spec.layers[index].name] for index in layers]
    mean = float(np.mean(cuts)) if cuts else 0.0
    nothing = [np.zeros(group.size) for group in spec.groups]
    twice = {group for index in products for group in spec.nodes[index].groups}
    worst, neurons = _at_neurons(flat, spec, nothing, twice)
    return Conservation(worst, _violation(cuts, mean), neurons, len(cuts))


@checked
def saliency_conservation(
    network: Network,
    mask: Mask,
    reward: Reward | None,
    batch: tuple[Tensor, Tensor] | None = None,
    *,
    absolute: bool = False,
) -> Conservation:
    """Return the conservation of the saliency ∂R/∂θ ⊙ θ of a masked network, in float64.

    Parameters
    ----------
    mask : ``(weights,)`` bool.
    reward : ``reward(outputs, y) -> scalar``; None is SynFlow's R of the linearised network with |weights|
        and all-ones inputs, which needs no batch.
    batch : samples and labels.
    absolute : check |∂R/∂θ ⊙ θ| instead, with absolute edges and shifts.

    Raises :class:`BadInput` for a network whose computation is not known, or an R that is not finite.
    """
    saliency = _Saliency(network, mask, reward, batch, absolute)
    spec = network.spec
    worst, neurons = _at_neurons(saliency.scores, spec, saliency.shifts)
    cuts = saliency.cuts()
    return Conservation(worst, _violation(cuts, saliency.output), neurons, len(cuts))


def _violation(cuts: list[float], reference: float) -> float:
    if not cuts:
        return 0.0
    scale = abs(reference) or max(map(abs, cuts)) or 1.0
    return max(abs(cut - reference) for cut in cuts) / scale


def _at_neurons(
    flat: Floats, spec: MaskSpec, shifts: list[Floats], skipped: Container[int] = ()
) -> tuple[float, int]:
    """Return the largest relative violation at a hidden neuron, and the number of neurons.

    Groups in ``skipped`` are left out.
    """
    incoming = [shift.copy() for shift in shifts]
    outgoing = [np.zeros(group.size) for group in spec.groups]
    traffic = [np.abs(shift) for shift in shifts]
    for piece in spec.pieces:
        part = spec.part(piece, flat)
        if piece.diagonal:  # a depthwise layer joins each unit to itself: in and out are equal
            continue
        incoming[piece.target] += part.sum((1, 2))
        outgoing[piece.source] += part.sum((0, 2))
        traffic[piece.target] += np.abs(part).sum((1, 2))
        traffic[piece.source] += np.abs(part).sum((0, 2))
    worst, neurons = 0.0, 0
    for group in spec.hidden:
        if group in skipped:
            continue
        busy = traffic[group] > 0
        neurons += len(busy)
        gaps = np.abs(incoming[group] - outgoing[group])[busy] / (traffic[group][busy] / 2)
        worst = max(worst, float(gaps.max(initial=0.0)))
    return worst, neurons


@dataclass(frozen=True)
class _Edge:
    """The use of a value by a step, and the saliency that passes there."""

    step: int
    source: int
    flow: float


class _Saliency:
    """The saliency of all weights, shifts and uses of values in a network."""

    def __init__(
        self,
        network: Network,
        mask: Mask,
        reward: Reward | None,
        batch: tuple[Tensor, Tensor] | None,
        absolute: bool,
    ) -> None:
        self.network, self.wiring, self.spec = network, network.wiring, network.spec
        if not self.wiring.steps:
            raise BadInput(
                "cuts need the traced computation, but the neuron groups of "
                f"{network.name!r} were declared by hand"
            )
        self.linear = reward is None
        self.sized = np.abs if absolute else np.asarray
        self.tensors = {
            name: tensor.double() for name, tensor in {**network.parameters(), **network.buffers()}.items()
        }
        for name, part in self.spec.split(mask).items():
            weight = self.tensors[name] * torch.from_numpy(part.copy())
            self.tensors[name] = (weight.abs() if self.linear else weight).requires_grad_()
        self.uses: list[tuple[int, int, Tensor]] = []
        self.made: list[Tensor] = []
        if reward is None:
            x = torch.ones((1, *self.wiring.steps[0].shape), dtype=torch.float64)
            total = self._outputs(x).sum()
        else:
            assert batch is not None
            total = reward(self._outputs(batch[0].double()), batch[1])
        if not bool(total.isfinite()):
            raise BadInput(
                f"conservation is checked in float64, but R of {network.name!r} is {total.item():g}"
            )
        self._differentiate(total)

    def _outputs(self, x: Tensor) -> Tensor:
        indices = itertools.count()

        def evaluate(step: Step, values: list[Tensor]) -> Tensor:
            index = next(indices)
            tensors = []
            for source, value in zip(step.inputs, values, strict=False):
                edge = value.clone()
                self.uses.append((index, source, edge))
                tensors.append(edge)
            made = (
                self._linearised(step, tensors or values)
                if self.linear
                else self._value(step, tensors or values)
            )
            self.made.append(made.requires_grad_() if not made.requires_grad else made)
            return made

        return self.wiring.run(x.requires_grad_(), evaluate)[-1]

    def _value(self, step: Step, values: list[Tensor]) -> Tensor:
        return self.wiring.evaluate(step, values, self.tensors)

    def _linearised(self, step: Step, values: list[Tensor]) -> Tensor:
        """Return the value of a step in SynFlow's linearised network."""
        if step.operation == "linear":
            assert step.names[0] is not None
            return step.function(values[0], self.tensors[step.names[0]], None)
        if isinstance(step.function, Scale):
            assert step.names[0] is not None
            return values[0] * step.function.factor(self.tensors[step.names[0]]).abs()
        if step.operation in ("elementwise", "dropout"):
            return values[0] * (factor(step.function) if step.operation == "elementwise" else 1.0)
        if isinstance(step.function, Sum):
            return values[0] + abs(step.function.scale) * values[1]
        if step.operation in ("normalize", "mix"):
            scale = None if step.names[0] is None else self.tensors[step.names[0]].abs()
            if isinstance(step.function, BatchNormalization) and step.names[3] is not None:
                deviation = (self.tensors[step.names[3]] + step.function.eps).sqrt()
                scale = 1 / deviation if scale is None else scale / deviation
            if scale is None:
                return values[0] * 1
            return values[0] * scale.reshape(1, *scale.shape, *[1] * (values[0].ndim - 1 - scale.ndim))
        return step.function(*values)

    def _differentiate(self, total: Tensor) -> None:
        """Compute the saliency of weights, shifts and edges as NumPy arrays and floats."""
        weights = [self.tensors[layer.name] for layer in self.spec.layers]
        edges = [edge for _, _, edge in self.uses]
        slopes = torch.autograd.grad(total, [*weights, *edges, *self.made], allow_unused=True)
        parts = iter(slopes)

        def saliency(value: Tensor) -> Floats:
            slope = next(parts)
            product = value.detach() * (torch.zeros_like(value) if slope is None else slope)
            values: Floats = product.numpy()
            return values

        scores = [saliency(weight) for weight in weights]
        self.scores = np.concatenate([self.sized(part).ravel() for part in scores])
        self.edges = [
            _Edge(index, source, float(self.sized(saliency(edge)).sum())) for index, source, edge in self.uses
        ]
        self.shifts = [np.zeros(group.size) for group in self.spec.groups]
        self.added = np.zeros(len(self.wiring.steps))
        for index, (step, slope) in enumerate(zip(self.wiring.steps, parts, strict=True)):
            shifted = step.operation in ("linear", "normalize") or isinstance(step.function, Shift)
            if shifted and not self.linear and slope is not None:
                source = self.wiring.steps[step.inputs[0]].shape
                with torch.no_grad():
                    constant = self._value(step, [torch.zeros((1, *source), dtype=torch.float64)])
                self._add(index, slope * constant)
            elif step.operation == "multiply" and slope is not None:  # enters both factors
                self._add(index, -slope * self.made[index].detach())
        last = self.made[-1].detach()
        final = slopes[-1]
        self.output = float(self.sized((last * final).numpy()).sum()) if final is not None else 0.0

    def _add(self, index: int, saliency: Tensor) -> None:
        """Record a step's constant part, or minus its product, ``(samples, *shape)``, unit by unit."""
        sums = self.sized(saliency.numpy()).sum(0)
        sums = sums.reshape(len(sums), -1).sum(1)
        self.added[index] = sums.sum()
        start, groups = 0, self.spec.nodes[index].groups
        block = len(sums) // sum(self.spec.groups[group].size for group in groups)
        for group in groups:
            size = self.spec.groups[group].size
            self.shifts[group] += sums[start : start + size * block].reshape(size, block).sum(1)
            start += size * block

    def cuts(self) -> list[float]:
        """Return <∂R/∂x, x> and the cut before each layer, plus later shifts and minus later products.

        All are <∂R/∂y, y> if R is conserved.
        """
        sums = {
            index: float(self.scores[self.spec.layers[step.layer].slice].sum())
            for index, step in enumerate(self.wiring.steps)
            if step.operation == "linear"
        }
        # ⟨∂R/∂x, x⟩ itself, and then the cut before each layer.
        entering = sum(edge.flow for edge in self.edges if edge.source == 0)
        cuts = [entering + float(self.added.sum())]
        for index in sums:
            crossing = [edge for edge in self.edges if edge.source < index <= edge.step]
            flow = sum(sums.get(edge.step, edge.flow) for edge in crossing)
            cuts.append(flow + float(self.added[index:].sum()))
        return cuts
