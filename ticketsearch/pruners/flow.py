"""Flow: the synaptic flow of a network, forward from all-ones inputs and back from the sum of the outputs.

R is the sum of the outputs of the network with weights |θ ⊙ mask|, identity activations (but for those that
multiply by a number), no biases or shifts, batch normalisation as its evaluation-mode linear map, and
all-ones inputs (equation 6 of Ross's notes). A weight's score is ∂R/∂θ ⊙ θ = |w| · (flow into its source) ·
(flow out of its target), equation 7. All values are float64 with a power of two as a separate exponent, so
that no depth overflows.

As all signs are dropped (Tanaka et al. 2020), a difference flows as a sum, and a tensor that multiplies or
divides values does so with its absolute entries. The flow of a maximum or minimum of values is the maximum
or minimum of their flows, as in max-pooling, and its gradient goes to the value taken. The flow of a product
is the product of the flows; gates are taken without their sigmoid, as all activations are the identity. R is
then no longer of degree 1 in each layer, and the flow that a product passes back enters both its factors in
full: layers before a product hold more of R than layers behind it; see
:mod:`ticketsearch.theory.conservation`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ticketsearch.errors import BadInput
from ticketsearch.pruners.batching import Copies
from ticketsearch.pruners.flow_layers import ConvolutionFlow, FlowLayer, LinearFlow
from ticketsearch.pruners.scaled_floats import (
    Flow,
    aligned,
    gathered,
    normalized,
    product,
    summed,
    times_power,
)
from ticketsearch.typing import Floats, Indices
from ticketsearch.wiring import Convolution, Scale, Shift, Step, Sum, factor

__all__ = ["Flow", "FlowNetwork"]


class FlowNetwork:
    """The flow of several copies of a network whose masks only lose weights.

    Parameters
    ----------
    copies : the networks.
    kept : for each copy the ascending numbers of its kept weights.
    biases : let |bias| and |shift| feed the flow, as the SynFlow authors' code does.
    power : exponent of the weights: the flow of |θ|^power favours paths of large weights.
    slopes : score pruned weights too, by the flow that they would add: |θ| ∂R/∂|θ| of all weights.

    Raises :class:`BadInput` for a network whose computation is not known, or weights that are not finite.
    """

    def __init__(
        self,
        copies: Copies,
        kept: list[Indices],
        *,
        biases: bool = False,
        power: float = 1.0,
        slopes: bool = False,
    ) -> None:
        if not copies.wiring.steps:
            raise BadInput(
                "a flow needs the traced computation, but the neuron groups of "
                f"{copies.networks[0].name!r} were declared by hand; choose another method: "
                "magnitude, random, snip, grasp, saliency or imp"
            )
        self.copies = copies
        self.spec = copies.spec
        self.biases = biases
        self.count = len(copies)
        self.tensors = {**copies.parameters(), **copies.buffers()}
        weights = copies.weights()
        for step in copies.wiring.steps:
            scales = step.operation in ("normalize", "mix") or isinstance(step.function, Scale)
            for name in step.names if scales else ():
                if name is not None and not self.tensors[name].isfinite().all():
                    raise BadInput(f"scores must be finite, but {name}, which scales the flow, is not")
        functions = {step.layer: step.function for step in copies.wiring.steps if step.operation == "linear"}
        self.layers: list[FlowLayer] = []
        for index, layer in enumerate(self.spec.layers):
            if not weights[layer.name].isfinite().all():
                raise BadInput(f"scores must be finite, but the weights of {layer.name} are not")
            ends = (layer.offset, layer.offset + layer.size)
            numbers = [
                copy_numbers[slice(*np.searchsorted(copy_numbers, ends))] - layer.offset
                for copy_numbers in kept
            ]
            whole = weights[layer.name].abs() ** power if power != 1 else weights[layer.name].abs()
            function = functions[index]
            if isinstance(function, Convolution):
                self.layers.append(ConvolutionFlow(layer, whole, numbers, function, slopes=slopes))
            else:
                self.layers.append(LinearFlow(layer, whole, numbers, slopes=slopes))
        self.inputs: list[list[Tensor]] = []
        self.results: list[Tensor | None] = []

    def cut(self, keep: list[NDArray[np.bool_]]) -> None:
        """Drop weights: one bool for each kept weight of each copy."""
        starts = [0] * self.count
        for layer in self.layers:
            parts = []
            for copy in range(self.count):
                end = starts[copy] + int(layer.bounds[copy + 1] - layer.bounds[copy])
                parts.append(keep[copy][starts[copy] : end])
                starts[copy] = end
            layer.cut(np.concatenate(parts))

    def flow(self) -> Flow:
        """Return R of each copy: ``(copies,)``."""
        outputs = self._forward()[-1]
        return normalized(outputs.mantissa.flatten(1).sum(1), outputs.exponent)

    def scores(self) -> list[Floats]:
        """Return for each copy the scores of its kept weights, in the order of their numbers.

        All layers share one scale a copy: a power of two that brings the largest score to [1/2, 1).
        """
        by_layer = self.layer_scores()
        tops = np.full(self.count, -(2**62))
        for layer, (scores, exponent) in zip(self.layers, by_layer, strict=True):
            for copy, copy_scores in enumerate(_split(scores, layer.bounds)):
                if len(copy_scores) and (most := copy_scores.max()) > 0:
                    tops[copy] = max(tops[copy], exponent[copy] + math.frexp(most)[1])
        by_copy: list[list[Floats]] = [[] for _ in range(self.count)]
        for layer, (scores, exponent) in zip(self.layers, by_layer, strict=True):
            for copy, copy_scores in enumerate(_split(scores, layer.bounds)):
                by_copy[copy].append(times_power(copy_scores, int(exponent[copy] - tops[copy])))
        return [np.concatenate(parts) for parts in by_copy]

    def layer_scores(self) -> list[tuple[Floats, Indices]]:
        """Return for each layer its kept weights' scores, copy after copy, and each copy's exponent."""
        return self.through()[2]

    def through(self) -> tuple[list[Flow], list[Flow], list[tuple[Floats, Indices]]]:
        """Return the flow into each value, the flow from it to the outputs, and the :meth:`layer_scores`."""
        values = self._forward()
        steps = self.copies.wiring.steps
        outgoing: list[Flow | None] = [None] * len(steps)
        outgoing[-1] = Flow(torch.ones_like(values[-1].mantissa), np.zeros(self.count, dtype=np.intp))
        scored: list[tuple[Floats, Indices]] = [(np.empty(0), np.empty(0, dtype=np.intp))] * len(self.layers)
        for index in range(len(steps) - 1, 0, -1):
            step, flow = steps[index], outgoing[index]
            assert flow is not None  # every step of a wiring reaches the output
            if step.operation == "linear":
                score, slope = self.layers[step.layer].backward(flow.mantissa)
                scored[step.layer] = (score, values[step.inputs[0]].exponent + flow.exponent)
                back = normalized(slope, flow.exponent)
                parts = [back]
            else:
                parts = self._back(step, index, flow, [values[source] for source in step.inputs])
            for source, part in zip(step.inputs, parts, strict=True):
                known = outgoing[source]
                outgoing[source] = part if known is None else summed(known, part)
        ends = [flow if flow is not None else outgoing[-1] for flow in outgoing]
        return values, [flow for flow in ends if flow is not None], scored

    def _forward(self) -> list[Flow]:
        self.inputs, self.results = [], []
        zero = np.zeros(self.count, dtype=np.intp)

        def evaluate(step: Step, values: list[Flow]) -> Flow:
            self.inputs.append([value.mantissa for value in values])
            self.results.append(None)
            if step.operation == "linear":
                made = self.layers[step.layer].forward(values[0].mantissa)
                return self._fed(step.names[1], normalized(made, values[0].exponent))
            if step.operation in ("spatial", "select"):
                return Flow(self._local(step, values[0].mantissa), values[0].exponent)
            if step.operation in ("normalize", "mix"):
                return self._scaled(step, values[0])
            if step.operation == "add":
                return summed(values[0], _times(values[1], _weight_of(step)))
            if step.operation == "multiply":
                return product(values[0], values[1])
            if step.operation in ("maximum", "minimum"):
                parts, exponent = aligned(values)
                return Flow(self._local(step, *parts), exponent)
            if step.operation == "zeros":
                return Flow(torch.zeros((self.count, *step.shape), dtype=torch.float64), zero)
            if step.operation == "concatenate":
                parts, exponent = aligned(values)
                return Flow(torch.cat(parts, 1), exponent)
            return self._multiplied(step, values[0])

        ones = torch.ones((self.count, *self.copies.wiring.steps[0].shape), dtype=torch.float64)
        return self.copies.wiring.run(Flow(ones, zero), evaluate)

    def _local(self, step: Step, *values: Tensor) -> Tensor:
        """Return the value of a step that autograd differentiates; its graph is stored for :meth:`_back`."""
        with torch.enable_grad():
            leaves = [value.detach().requires_grad_() for value in values]
            result = step.function(*leaves)
        self.inputs[-1], self.results[-1] = leaves, result
        return result.detach()

    def _multiplied(self, step: Step, value: Flow, *, back: bool = False) -> Flow:
        """Return the flow through a map: unchanged, or scaled where the map multiplies by a number or tensor.

        A tensor that is added feeds the forward flow if biases do.
        """
        function = step.function
        if isinstance(function, Scale):
            scale = self._each(step, function.factor)
            return normalized(value.mantissa * scale, value.exponent)
        if isinstance(function, Shift):
            if back or not self.biases or not function.learned:
                return value
            shift = self._each(step, function.added).expand_as(value.mantissa)
            return summed(value, normalized(shift, np.zeros(self.count, dtype=np.intp)))
        return _times(value, factor(function) if step.operation == "elementwise" else 1.0)

    def _each(self, step: Step, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the absolute values of a function of a map's tensor, copy by copy."""
        assert step.names[0] is not None
        return torch.cat([function(tensor.double()) for tensor in self.tensors[step.names[0]]]).abs()

    def _fed(self, name: str | None, flow: Flow) -> Flow:
        """Add |bias| to a flow if biases feed it."""
        if name is None or not self.biases:
            return flow
        bias = self.tensors[name].double().abs()
        shape = (self.count, -1, *[1] * (flow.mantissa.ndim - 2))
        spread = bias.reshape(shape).expand_as(flow.mantissa)
        return summed(flow, normalized(spread, np.zeros(self.count, dtype=np.intp)))

    def _scale(self, step: Step, like: Tensor) -> Tensor | None:
        """Return the scale of a normalisation's evaluation-mode linear map."""
        names = step.names
        scale = None if names[0] is None else self.tensors[names[0]].double().abs()
        if step.operation == "normalize" and names[3] is not None:
            deviation = (self.tensors[names[3]].double().abs() + step.function.eps).sqrt()  # type: ignore[attr-defined]
            scale = 1 / deviation if scale is None else scale / deviation
        if scale is None:
            return None
        return scale.reshape(*scale.shape, *[1] * (like.ndim - scale.ndim))

    def _scaled(self, step: Step, value: Flow) -> Flow:
        scale = self._scale(step, value.mantissa)
        if scale is not None:
            value = normalized(value.mantissa * scale, value.exponent)
        return self._fed(step.names[1], value) if step.operation == "normalize" else value

    def _back(self, step: Step, index: int, flow: Flow, values: list[Flow]) -> list[Flow]:
        """Return for each input value of a step the flow from it to the outputs through this step."""
        if step.operation in ("spatial", "select", "maximum", "minimum"):
            result = self.results[index]
            assert result is not None
            gradients = torch.autograd.grad(result, self.inputs[index], flow.mantissa)
            return [normalized(back, flow.exponent) for back in gradients]
        if step.operation == "multiply":
            first, second = values
            parts = [product(flow, second), product(flow, first)]
            return [gathered(part, value) for part, value in zip(parts, values, strict=True)]
        if step.operation == "add":
            parts = [flow, _times(flow, _weight_of(step))]
            return [gathered(part, value) for part, value in zip(parts, values, strict=True)]
        if step.operation in ("normalize", "mix"):
            scale = self._scale(step, flow.mantissa)
            return [flow if scale is None else normalized(flow.mantissa * scale, flow.exponent)]
        if step.operation == "elementwise":
            return [self._multiplied(step, flow, back=True)]
        if step.operation == "concatenate":
            sizes = [value.shape[1] for value in self.inputs[index]]
            return [Flow(part, flow.exponent) for part in torch.split(flow.mantissa, sizes, 1)]
        return [flow] * len(step.inputs)


def _times(flow: Flow, scale: float) -> Flow:
    return flow if scale == 1.0 else normalized(flow.mantissa * scale, flow.exponent)


def _weight_of(step: Step) -> float:
    """Return the absolute number that the second value of a sum is multiplied by."""
    return abs(step.function.scale) if isinstance(step.function, Sum) else 1.0


def _split(scores: Floats, bounds: Indices) -> list[Floats]:
    return [scores] if len(bounds) == 2 else np.split(scores, bounds[1:-1])
