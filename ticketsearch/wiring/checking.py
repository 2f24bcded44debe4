"""Checks of a wiring against its module, on generic tensors."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ticketsearch.errors import BadInput
from ticketsearch.wiring.chance import Drawn, WithoutDropout, global_states, state_of
from ticketsearch.wiring.steps import Wiring
from ticketsearch.wiring.verification import orders_of

__all__ = ["check_declared", "check_runs", "check_trace", "generic", "tensors_of"]

SAMPLES = 5
TOLERANCE = 1e-8
# Seeds of all global generators while a module runs: dropout then draws the same in the module and in its
# trace. One for each mode, so that a number drawn while tracing agrees with at most one of them.
SEEDS = (4_058_237_161, 2_713_664_309)


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Return copies of a module's parameters and buffers by name, floats in double precision."""
    named = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return {
        name: tensor.detach().clone().double() if tensor.is_floating_point() else tensor.detach().clone()
        for name, tensor in named.items()
    }


def check_runs(module: nn.Module, input_shape: tuple[int, ...]) -> None:
    """Raise :class:`BadInput` for a module that fails on samples of this shape."""
    _Subject(module, _samples(input_shape)).run(False, SEEDS[0])


def generic(module: nn.Module) -> dict[str, Tensor]:
    """Return :func:`tensors_of` a module with noise added, so that nothing is zero, equal or symmetric.

    Buffers, which may be variances, get positive noise.
    """
    generator = torch.Generator().manual_seed(0)
    parameters = {name for name, _ in module.named_parameters()}
    tensors = tensors_of(module)
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            noise = torch.rand(tensor.shape, generator=generator)
            if name in parameters:
                fan_in = math.prod(tensor.shape[1:]) if tensor.ndim > 1 else 1
                noise = (noise - 0.5).mul_(1.0 / math.sqrt(max(1, fan_in)))
            tensor += noise
    return tensors


def check_trace(wiring: Wiring, input_shape: tuple[int, ...]) -> None:
    """Refuse a module that does not compute what its traced steps compute, or that has hidden state.

    Outputs are compared in evaluation and training mode, where both draw the same dropout; in training also
    their gradients by the samples and all parameters, and running statistics.
    Raises :class:`BadInput` for a difference, or if the module itself fails.
    """
    subject = _Subject(wiring.module, _samples(input_shape))
    moving = {
        name for step in wiring.steps if step.operation == "normalize" for name in step.names[2:] if name
    }
    differing = []
    for training in (False, True):
        expected = subject.run(training, SEEDS[training], learns=training)
        statistics = {name: buffer.clone() for name, buffer in subject.module.named_buffers()}
        tensors = {name: tensor.clone() for name, tensor in subject.tensors.items()}
        traced = _run(
            partial(wiring.forward, tensors, training=training),
            subject.x,
            {name: tensors[name] for name, _ in subject.module.named_parameters()} if training else {},
            SEEDS[training],
        )
        # The module's dropout may draw the random numbers that its trace draws, and no others.
        repeated = training and wiring.drops and torch.equal(expected.state, traced.state)
        subject.check_calls(
            training, expected, moving, repeated=repeated, dropout=repeated or not wiring.drops
        )
        used = {name for step in wiring.steps for name in step.names}
        same = all(_alike(value, tensors[name]) for name, value in statistics.items() if name in used)
        if not _alike(expected.outputs, traced.outputs) or not same:
            differing.append(training)
        elif not differing:
            _check_gradients(subject.kind, expected.gradients, traced.gradients)
    if not differing:
        return
    if differing == [False]:
        raise BadInput(
            f"{subject.kind} computes something other than its trace in evaluation mode; what depends on "
            "self.training may be dropout and batch normalisation alone"
        )
    raise BadInput(
        f"{subject.kind} computes something other than its trace"
        f"{'' if len(differing) > 1 else ' in training mode'} (a forward that depends on values, or rewrites "
        "in place what is read again through a view of it, cannot be traced); make every value anew"
    )


def _check_gradients(kind: str, expected: Mapping[str, Tensor], traced: Mapping[str, Tensor]) -> None:
    for name, gradient in expected.items():
        if not _near(gradient, traced[name]):
            raise BadInput(
                f"{kind} has other gradients than its trace (by {name}): something in its forward pass stops "
                "or changes them; set requires_grad=False on parameters that are not to learn"
            )


def check_declared(wiring: Wiring, input_shape: tuple[int, ...]) -> None:
    """Refuse groups declared by hand whose renumbering changes the module's outputs.

    Outputs are compared in evaluation and training mode, without dropout; group by group, and all together.
    Raises :class:`BadInput` naming the group.
    """
    module = copy.deepcopy(wiring.module)
    for child in module.modules():
        if isinstance(child, nn.modules.dropout._DropoutNd):
            child.p = 0.0
        elif isinstance(getattr(child, "dropout", None), float):
            child.dropout = 0.0  # type: ignore[assignment]
    kind = type(module).__name__
    subject = _Subject(module, _samples(input_shape))
    expected = subject.run(False, SEEDS[0]).outputs
    if expected.ndim != 2 or expected.shape[1] != wiring.spec.outputs:
        raise BadInput(
            f"a network returns (samples, classes), here (samples, {wiring.spec.outputs}) as the group "
            f"'output' says, but {kind} returns shape {tuple(expected.shape)}"
        )
    for training in (False, True):
        subject.check_calls(training)
    doubled = replace(wiring, module=module.double())
    for training in (False, True):

        def outputs(tensors: Mapping[str, Tensor], training: bool = training) -> Tensor:
            copies = {name: tensor.clone() for name, tensor in tensors.items()}
            with torch.no_grad(), global_states(SEEDS[training]), WithoutDropout():
                return doubled.forward(copies, subject.x.clone(), training=training)

        expected = outputs(subject.tensors)
        for order in orders_of(wiring):
            if not _alike(expected, outputs(wiring.renumbered(subject.tensors, order))):
                units = " and ".join(map(repr, order)) if len(order) < 3 else "all groups together"
                raise BadInput(
                    f"neuron_groups of {kind}: renumbering the units of {units} changes the outputs"
                    f"{' in training mode' if training else ''}; name every axis that they number, with its "
                    "block, or leave the group out"
                )


class _Run(NamedTuple):
    """The result of a call: outputs, gradients, generators drawn from, and the final state of torch's one."""

    outputs: Tensor
    gradients: dict[str, Tensor]
    drawn: Drawn
    state: Tensor


class _Subject:
    """A copy of a module in double precision with generic tensors, and samples to call it on."""

    def __init__(self, module: nn.Module, x: Tensor) -> None:
        self.kind = type(module).__name__
        self.x = x
        self.tensors = generic(module)
        self.module = copy.deepcopy(module).double().requires_grad_()
        with torch.no_grad():
            for name, tensor in (*self.module.named_parameters(), *self.module.named_buffers()):
                tensor.copy_(self.tensors[name])

    def run(self, training: bool, seed: int, *, learns: bool = False, dropout: bool = True) -> _Run:
        """Return the result of a call under seeded global generators."""
        self.module.train(training)
        parameters = dict(self.module.named_parameters()) if learns else {}

        def forward(x: Tensor) -> Tensor:
            with nullcontext() if dropout else WithoutDropout():
                outputs = self.module(x)
            if not isinstance(outputs, Tensor):
                raise BadInput(
                    "a network returns one tensor (samples, classes), but this one returns something else"
                )
            return outputs

        try:
            return _run(forward, self.x, parameters, seed)
        except BadInput:
            raise
        except Exception as error:  # the module's own code may raise anything
            reason = " ".join(str(error).split())
            shape = tuple(self.x.shape[1:])
            raise BadInput(
                f"{self.kind} fails on {len(self.x)} samples of shape {shape} "
                f"({type(error).__name__}: {reason}); make it take (samples, {', '.join(map(str, shape))})"
            ) from error

    def check_calls(
        self,
        training: bool,
        first: _Run | None = None,
        statistics: Container[str] = (),
        *,
        repeated: bool = False,
        dropout: bool = False,
    ) -> None:
        """Refuse a module that draws random numbers, dropout apart, or differs from call to call.

        ``first`` is a call under the mode's own seed, if there was one; ``statistics`` names the buffers that
        may change. ``repeated`` says that the trace draws the same numbers of torch's generator as the
        module, so that these may be drawn; otherwise training is checked without ``dropout``.
        """
        mode, dropout = "training" if training else "evaluation", dropout or not training
        seed = SEEDS[training]
        runs = [first if first and dropout else self.run(training, seed, dropout=dropout)]
        states = []
        for other in (seed if repeated else seed + 1, seed):
            runs.append(self.run(training, other, dropout=dropout))
            states.append(_own_state(self.module, statistics))
        allowed = ["torch's random generator"] if repeated else []
        drawn = [name for run in runs for name in run.drawn if name not in allowed]
        if drawn:
            hint = "" if training else " (F.dropout needs training=self.training)"
            raise BadInput(
                f"{self.kind} draws from {drawn[0]} in {mode} mode, which its trace does not repeat; leave "
                f"it out, or take nn.Dropout{hint}"
            )
        changed = [
            name for name, value in states[1].items() if name not in states[0] or value != states[0][name]
        ]
        if changed:
            raise BadInput(
                f"{self.kind} counts its calls or keeps what it has seen: {changed[0]!r} changes with each "
                f"call in {mode} mode; leave that out (running statistics of batch normalisation are known)"
            )
        if not all(_alike(runs[0].outputs, run.outputs) for run in runs[1:]):
            raise BadInput(
                f"{self.kind} returns other outputs from call to call in {mode} mode (a generator, a clock "
                "or a counter of its own); make it deterministic"
            )


def _run(forward: Callable[[Tensor], Tensor], x: Tensor, parameters: Mapping[str, Tensor], seed: int) -> _Run:
    """Call ``forward``; with gradients by samples and parameters where there are any."""
    learns = bool(parameters)
    x = x.clone().requires_grad_(learns)
    leaves = [parameter.requires_grad_() for parameter in parameters.values()]
    with global_states(seed) as drawn, torch.set_grad_enabled(learns):
        outputs = forward(x + 0.0)  # no leaf: the module may rewrite its samples in place
        computed: Sequence[Tensor | None] = [None] * (len(leaves) + 1)
        state = torch.get_rng_state()
        if outputs.requires_grad:
            generator = torch.Generator().manual_seed(1)
            weights = torch.rand(outputs.shape, generator=generator, dtype=torch.float64).to(outputs)
            computed = torch.autograd.grad(outputs, [x, *leaves], weights, allow_unused=True)
    names = ("its samples", *parameters) if learns else ()
    gradients = {
        name: torch.zeros(()) if gradient is None else gradient
        for name, gradient in zip(names, computed, strict=False)
    }
    return _Run(outputs.detach(), gradients, drawn, state)


def _own_state(module: nn.Module, statistics: Container[str]) -> dict[str, object]:
    """Return a module's state: plain attributes, generators, and buffers other than statistics."""
    state_by_name: dict[str, object] = {}
    for path, child in module.named_modules():
        for name, value in vars(child).items():
            if (state := state_of(value)) is not None:
                state_by_name[f"{path}.{name}".lstrip(".")] = state
        if not isinstance(child, nn.modules.batchnorm._NormBase):
            for name, buffer in child.named_buffers(recurse=False):
                full = f"{path}.{name}".lstrip(".")
                if full not in statistics:
                    state_by_name[full] = buffer.double().nan_to_num().sum().item()
    return state_by_name


def _samples(input_shape: tuple[int, ...]) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn((SAMPLES, *input_shape), dtype=torch.float64, generator=generator)


def _alike(expected: Tensor, actual: Tensor) -> bool:
    return expected.shape == actual.shape and torch.allclose(
        expected, actual, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True
    )


def _near(expected: Tensor, actual: Tensor) -> bool:
    """Whether gradients are equal relative to their largest entry."""
    expected, actual = expected.nan_to_num(), actual.nan_to_num()
    scale = max(1e-3, float(expected.abs().max()))
    return float((expected - actual).abs_().max()) <= 1e-7 * scale
