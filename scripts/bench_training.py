"""Time short training against a plain loop as a careful user writes it; both sides in one run, on one thread.

The plain loop trains one mask after another: one module with its masks multiplied in, cross-entropy, SGD
built once, data on the device, nothing logged or evaluated. How masks are multiplied in and which SGD is
taken is tried at the start, and the fastest is the rival. This package's side is what a search calls,
ShortTraining, with all that it builds and an evaluation on 32 samples. Both sides start from the same weights
with the same masks and data order. They are timed in turn, so that they meet the same machine: in each pair
the plain loop trains one mask of the cohort before this package trains them all, and another one after.
Ratios are medians over pairs, with the least and the largest.

Before a cohort is timed, both sides must agree on its first and last loss after 20 steps; "losses" is by how
much they do not. Much later float32 tells little: a ReLU that rounding switches sets two of torch's own SGDs
5e-3 apart after 100 steps, where in float64 both sides agree to 1e-12.

The floor is 6 x batch x kept weights FLOPs a mask-step, those of a convolution once for each position, at
the rate of a large dense product; "of floor" is the floor over this package's time. Inputs need no gradient,
so that a dense network may get below the floor.

SynFlow's masks are narrow: few of their units live. Magnitudes of trained weights leave wide ones; beside
them "torch engine" is this package without its native engine, and the ratio of its time to that of this
package as it is.

    scripts/bench_training.py                   all, about 12 minutes
    scripts/bench_training.py --only lenet      LeNet-300-100: six densities, cohorts of 1, 16 and 64
    scripts/bench_training.py --only wide       the same, wide masks: five densities, cohorts of 1, 8 and 16
    scripts/bench_training.py --only conv2      Conv-2, few steps: three densities, cohorts of 1 and 4
    scripts/bench_training.py --only evolved    masks after 20 generations beside fresh ones
    scripts/bench_training.py --only processes  two workers against one
    scripts/bench_training.py --only memory     peak memory of a cohort, in a process of its own
    scripts/bench_training.py --only cuda       a cohort of 256 on a CUDA device
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ticketsearch import compiled
from ticketsearch.datasets import Dataset, load_dataset
from ticketsearch.errors import BadInput
from ticketsearch.evolution import Variation, evolve
from ticketsearch.fitness import EvaluationOptions, ShortTraining
from ticketsearch.masks import Mask, MaskSpec, digest, live_units
from ticketsearch.models import Network, initialize
from ticketsearch.operators import swap_mutation, uniform_crossover
from ticketsearch.pruners import prune_all
from ticketsearch.training import Evaluation, Recipe, data_order

Row = dict[str, Any]

TITLES = {"lenet_300_100": "LeNet-300-100", "conv2": "Conv-2"}
SCHEME = "kaiming_uniform"
BATCH, LR, MOMENTUM = 128, 0.05, 0.9
VALIDATION = 32
GENERATIONS = 20
# Of the kept weights of a wide mask, so that masks of a cohort differ.
MOVED = 0.05
# A cohort of one is over soon, and noise alone could miss its ratio: it gets this many times the pairs.
PAIRS_OF_ONE = 3
# Steps after which losses must agree, and how closely: both sides round in different orders, where one relu
# at zero may open or stay shut.
CHECKED, TOLERANCE = {"lenet_300_100": 20, "conv2": 1}, 1e-3

# To reach, by density: ratios to the plain loop, ratio of two workers to one, bytes of a cohort of 64.
LENET_64 = {1: 1.0, 0.2: 1.0, 0.1: 2.4, 0.05: 4.5, 0.02: 10.0, 0.01: 15.0}
CONV2 = {0.02: 2.0}
CUDA_256 = {0.02: 100.0}
PROCESSES = 1.7
MEMORY = 1e9


class Rival(NamedTuple):
    """A way to write the plain loop: where masks are multiplied in, and an implementation of SGD."""

    masking: str
    sgd: str


SGD = {"for-loop": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}
RIVALS = [Rival(masking, sgd) for masking in ("in the forward pass", "after each step") for sgd in SGD]


class Cohort(NamedTuple):
    """Masks to be trained, and what they are: ``fresh`` from pruning, ``evolved`` or ``wide``."""

    kind: str
    density: float
    masks: Mask


class Problem:
    """A network, its data on a device, and the data order of both sides.

    Parameters
    ----------
    network : all masks are trained from its weights.
    dataset : trained on its training part; its validation part tells the losses.
    steps : optimizer steps.
    device : ``cpu`` or ``cuda``.
    """

    def __init__(self, network: Network, dataset: Dataset, steps: int, device: str) -> None:
        self.network, self.dataset, self.steps, self.device = network, dataset, steps, device
        self.x, self.y = dataset.x_train.to(device), dataset.y_train.to(device)
        self.fitness = self.training()
        self.order = data_order(len(dataset.y_train), self.fitness.recipe, [0])

    @cached_property
    def uses(self) -> list[int]:
        """How often one sample uses a weight of each layer: once, or in a convolution once a position."""
        found: list[int] = []
        with torch.no_grad():
            x = self.dataset.x_train[:1]
            for layer in self.network.module.children():
                x = layer(x)
                if isinstance(layer, nn.Linear | nn.Conv2d):
                    found.append(x[0, 0].numel())
        return found

    def training(self, workers: int = 1) -> ShortTraining:
        """Return the fitness that a search would use."""
        recipe = Recipe(self.steps, batch=BATCH, lr=LR, momentum=MOMENTUM)
        options = EvaluationOptions(device=self.device, workers=workers)
        return ShortTraining(self.network, self.dataset, recipe=recipe, options=options)

    def trained(
        self, masks: Mask, steps: int | None = None, fitness: ShortTraining | None = None
    ) -> Evaluation:
        """Train masks as a search does, all on one data order, and evaluate them."""
        fitness = fitness or self.fitness
        recipe = fitness.recipe if steps is None else dataclasses.replace(fitness.recipe, steps=steps)
        return fitness.trained(masks, recipe, [self.order[: recipe.steps]])

    def floor(self, masks: Mask) -> float:
        """Return the ms that the FLOPs of a mask-step take at the machine's rate."""
        kept = [masks[:, layer.slice].sum(1).mean() for layer in self.network.spec.layers]
        used = sum(float(count) * times for count, times in zip(kept, self.uses, strict=True))
        return 6 * BATCH * used / rate(self.device) / 1e6


def plain_loop(
    problem: Problem, mask: NDArray[np.bool_], rival: Rival, steps: int | None = None
) -> Callable[[Tensor], Tensor]:
    """Train one mask as a careful user does; return the trained network's forward pass."""
    network, device = problem.network, problem.device
    tensors = {name: tensor.to(device) for name, tensor in network.parameters().items()}
    masks = {
        name: torch.from_numpy(part.copy()).to(device, torch.float32)
        for name, part in network.spec.split(mask).items()
    }
    for name, tensor in tensors.items():
        tensor.mul_(masks.get(name, 1)).requires_grad_()
    multiplied = masks if rival.masking == "in the forward pass" else {}
    functions = [plain_layer(*named, tensors, multiplied) for named in network.module.named_children()]

    def forward(x: Tensor) -> Tensor:
        for function in functions:
            x = function(x)
        return x

    optimizer = torch.optim.SGD(tensors.values(), LR, MOMENTUM, **SGD[rival.sgd])
    after_step = [(tensors[name], part) for name, part in masks.items() if name not in multiplied]
    x, y = problem.x, problem.y
    for chosen in torch.from_numpy(problem.order[:steps]).to(device):
        # Three times as fast as x[chosen] on a CPU.
        loss = F.cross_entropy(forward(x.index_select(0, chosen)), y.index_select(0, chosen))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        with torch.no_grad():
            for weight, part in after_step:
                weight.mul_(part)
    return forward


def plain_layer(
    name: str, layer: nn.Module, tensors: dict[str, Tensor], masks: dict[str, Tensor]
) -> Callable[[Tensor], Tensor]:
    """Return a layer as a function of its input, with its mask multiplied in if it is among the masks."""
    if isinstance(layer, nn.ReLU):
        return torch.relu
    function: Callable[..., Tensor] = F.linear
    if isinstance(layer, nn.Conv2d):
        function = partial(F.conv2d, stride=layer.stride, padding=layer.padding)
    elif not isinstance(layer, nn.Linear):
        return layer
    weight, bias, mask = tensors[f"{name}.weight"], tensors[f"{name}.bias"], masks.get(f"{name}.weight")
    if mask is None:
        return lambda x: function(x, weight, bias)
    return lambda x: function(x, weight * mask, bias)


def losses(problem: Problem, masks: Mask, rival: Rival, steps: int) -> NDArray[np.float64]:
    """Return the losses ``(2, 2)`` of the plain loop and this package, for the first mask and the last."""
    x, y = problem.dataset.x_validation.to(problem.device), problem.dataset.y_validation.to(problem.device)
    ends = [0, len(masks) - 1]
    forwards = [plain_loop(problem, masks[i], rival, steps) for i in ends]
    with torch.no_grad():
        theirs = [F.cross_entropy(forward(x), y).item() for forward in forwards]
    return np.array([theirs, problem.trained(masks, steps).loss[ends]])


@cache
def rival_of(problem: Problem) -> Rival:
    """Return the fastest way to write the plain loop, by the better of two runs each; print all.

    Exits if it does not end in the loss that this package ends in.
    """
    masks = masks_of(problem.network, 0.1, 1)
    steps = min(CHECKED[problem.network.name], problem.steps)
    start, (theirs, ours) = (losses(problem, masks, RIVALS[0], number)[:, 0] for number in (0, steps))
    print(f"{TITLES[problem.network.name]} at density 0.1, {problem.device}")
    print(f"  loss {start[0]:.6f}; after {steps} steps {theirs:.6f}, of this package {ours:.6f}", flush=True)
    if not abs(theirs - ours) <= TOLERANCE:
        sys.exit(f"both sides must end in the same loss to {TOLERANCE:g}; times of other work say nothing")
    runs = [timed(problem, plain_loop, problem, masks[0], rival)[0] for rival in RIVALS * 2]
    seconds = np.array(runs).reshape(2, -1).min(0)
    fastest = int(seconds.argmin())
    for place, (rival, each) in enumerate(zip(RIVALS, 1e3 * seconds / problem.steps, strict=True)):
        chosen = "  <- the rival" if place == fastest else ""
        print(f"  {each:8.3f} ms a step: masks {rival.masking}, {rival.sgd} SGD{chosen}")
    print(flush=True)
    return RIVALS[fastest]


def timed(problem: Problem, function: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    """Return the seconds of a call, with the device's work, and its result."""
    synchronize(problem.device)
    start = time.perf_counter()
    result = function(*arguments)
    synchronize(problem.device)
    return time.perf_counter() - start, result


def synchronize(device: str) -> None:
    """Wait until the device has done its work."""
    if device == "cuda":
        torch.cuda.synchronize()


@cache
def rate(device: str) -> float:
    """Return the median GFLOP/s of square float32 products, of size 1024 on a CPU and 8192 on CUDA."""
    size = 8192 if device == "cuda" else 1024
    a, b = torch.randn(2, size, size, device=device)
    seconds = []
    for _ in range(24):
        synchronize(device)
        start = time.perf_counter()
        torch.mm(a, b)
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    return 2e-9 * size**3 / statistics.median(seconds[3:])


@cache
def dataset_of(name: str) -> Dataset:
    """Return the data of a name, or synthetic data of MNIST's shape; both with a small validation part."""
    if name != "synthetic":
        found = load_dataset(name)
        small = {f"{axis}_validation": getattr(found, f"{axis}_validation")[:VALIDATION] for axis in "xy"}
        return dataclasses.replace(found, **small)
    generator = torch.Generator().manual_seed(0)
    means = 0.1 * torch.randn(10, 1, 28, 28, generator=generator)
    tensors: dict[str, Tensor] = {}
    for part, samples in (("train", 50_000), ("validation", VALIDATION), ("test", VALIDATION)):
        y = torch.randint(10, (samples,), generator=generator)
        x = torch.randn(samples, 1, 28, 28, generator=generator).add_(means[y])
        tensors |= {f"x_{part}": x, f"y_{part}": y}
    return Dataset(name="synthetic", classes=10, **tensors)


@cache
def problem_of(model: str, data: str, steps: int, device: str = "cpu") -> Problem:
    """Return the problem, the same one if asked again: its rival is chosen once."""
    dataset = dataset_of(data)
    return Problem(initialize(model, dataset, SCHEME, seed=0), dataset, steps, device)


@cache
def masks_of(network: Network, density: float, count: int) -> Mask:
    """Return SynFlow's masks of differently initialized copies; at density 1 all are equal."""
    if density == 1:
        return np.ones((count, network.spec.size), dtype=np.bool_)
    copies = [network.reinitialized(SCHEME, seed) for seed in range(count)]
    return np.stack(prune_all(copies, "synflow", density=density))


def wide_masks(problem: Problem, density: float, count: int) -> Mask:
    """Return copies of what iterative magnitude pruning leaves, with some of the kept weights moved."""
    (first,) = prune_all(
        [problem.network], "imp", density=density, dataset=problem.dataset, steps=5, training_steps=100
    )
    masks, rng = np.stack([first] * count), np.random.default_rng(0)
    for mask in masks:
        kept, pruned = np.flatnonzero(mask), np.flatnonzero(~mask)
        moved = round(MOVED * len(kept))
        mask[rng.choice(kept, moved, replace=False)] = False
        mask[rng.choice(pruned, moved, replace=False)] = True
    return masks


def evolved_masks(network: Network, first: Mask) -> Mask:
    """Return the masks of the last generation under a fitness that is chance, drawn from a mask's digest.

    It costs nothing and a mask keeps it, so that selection and blind operators shape masks as in a
    search.
    """

    def chance(masks: Mask) -> list[float]:
        return [int(digest(mask)[:12], 16) / 16**12 for mask in masks]

    variation = Variation(uniform_crossover, swap_mutation, mutation_rate=0.05)
    *_, last = evolve(first, chance, network.spec, variation=variation, generations=GENERATIONS)
    return last.population.masks


def widths(masks: Mask, spec: MaskSpec) -> dict[str, list[int]]:
    """Return the least, median and largest number of live units of each hidden group."""
    alive = [live_units(mask, spec) for mask in masks]
    found = {}
    for group in spec.groups:
        if group.kind == "hidden":
            counts = [int(units[group.name].sum()) for units in alive]
            found[group.name] = [min(counts), int(statistics.median(counts)), max(counts)]
    return found


@contextmanager
def torch_engine() -> Iterator[None]:
    """Let torch train all networks inside."""
    before = compiled.AVAILABLE
    compiled.AVAILABLE = False
    try:
        yield
    finally:
        compiled.AVAILABLE = before


def compare(problem: Problem, masks: Mask, pairs: int, beside_torch: bool) -> Row:
    """Time both sides in turn; return ms a mask-step, their ratio, and by how much the losses differ.

    ``beside_torch`` times the torch engine too.
    """
    size, rival = len(masks), rival_of(problem)
    plain_ms, our_ms, torch_ms, cores = [], [], [], []
    theirs, ours = losses(
        problem, masks, rival, min(CHECKED[problem.network.name], problem.steps)
    )  # warms up both sides
    for pair in range(pairs):
        chosen = [masks[i % size] for i in (2 * pair, 2 * pair + 1)]
        before, _ = timed(problem, plain_loop, problem, chosen[0], rival)
        busy = time.process_time()
        seconds, _ = timed(problem, problem.trained, masks)
        cores.append((time.process_time() - busy) / seconds)
        if beside_torch:
            with torch_engine():
                torch_ms.append(1e3 * timed(problem, problem.trained, masks)[0] / size / problem.steps)
        after, _ = timed(problem, plain_loop, problem, chosen[1], rival)
        plain_ms.append(1e3 * (before + after) / 2 / problem.steps)
        our_ms.append(1e3 * seconds / size / problem.steps)
    floor, median = problem.floor(masks), statistics.median(our_ms)
    beside: Row = {}
    if beside_torch:
        found = spread([a / b for a, b in zip(torch_ms, our_ms, strict=True)])
        beside = {"torch_engine": {"ms": statistics.median(torch_ms), **found}}
    return {
        "kept": int(masks.sum(1).mean()),
        "cohort": size,
        "plain_ms": statistics.median(plain_ms),
        "our_ms": median,
        **spread([a / b for a, b in zip(plain_ms, our_ms, strict=True)]),
        "floor_ms": floor,
        "floor_share": floor / median,
        "loss_difference": float(np.abs(theirs - ours).max()),
        "cores": statistics.median(cores),
        "pairs": pairs,
        **beside,
    }


def spread(ratios: Sequence[float]) -> dict[str, float]:
    """Return the median, the least and the largest of ratios."""
    return {"ratio": statistics.median(ratios), "least": min(ratios), "largest": max(ratios)}


def judged(value: float, target: float | None, *, at_most: bool = False) -> Row:
    """Return the target and whether it is met; None where there is none."""
    met = None if target is None else value <= target if at_most else value >= target
    return {"target": target, "met": met}


def verdict(row: Row) -> str:
    """Say whether a row's target is met."""
    return "" if row["met"] is None else "met" if row["met"] else "missed"


def table(
    problem: Problem,
    cohorts: Sequence[Cohort],
    target: Callable[[Cohort], float | None],
    pairs: int,
    of_one: int = 1,
    *,
    beside_torch: bool = False,
) -> list[Row]:
    """Time cohorts and print a line for each; a cohort of one in ``of_one`` times as many pairs."""
    rival_of(problem)
    print(
        f"{TITLES[problem.network.name]}, {problem.network.spec.size:,} weights, {problem.device}: batch "
        f"{BATCH}, {problem.steps} steps, {pairs} pairs; ms a mask-step"
    )
    print(
        f"{'masks':<8}{'density':>7}{'cohort':>8}{'plain loop':>12}{'this package':>14}"
        f"{'ratio':>8}  {'least-largest':<14}{'to reach':>9}{'':8}{'of floor':>9}{'losses':>9}"
        f"{'  torch engine   ratio  least-largest' if beside_torch else ''}",
        flush=True,
    )
    rows = []
    for cohort in cohorts:
        size = len(cohort.masks)
        measured = compare(problem, cohort.masks, pairs * of_one if size == 1 else pairs, beside_torch)
        row = {
            **{"model": problem.network.name, "device": problem.device, "steps": problem.steps},
            **{"masks": cohort.kind, "density": cohort.density, **measured},
            **judged(measured["ratio"], target(cohort)),
        }
        if not row["loss_difference"] <= TOLERANCE and row["met"]:
            row["met"] = False
        rows.append(row)
        limits = f"{row['least']:.2f}-{row['largest']:.2f}"
        reach = "" if row["target"] is None else f"{row['target']:g}"
        print(
            f"{cohort.kind:<8}{cohort.density:>7g}{size:>8}{row['plain_ms']:>12.3f}{row['our_ms']:>14.3f}"
            f"{row['ratio']:>8.2f}  {limits:<14}{reach:>9} {verdict(row):<7}{row['floor_share']:>9.3f}"
            f"{row['loss_difference']:>9.0e}{beside(row)}{remark(row)}",
            flush=True,
        )
    return rows


def beside(row: Row) -> str:
    """Say how long the torch engine takes, where it was timed."""
    if "torch_engine" not in row:
        return ""
    own = row["torch_engine"]
    limits = f"{own['least']:.2f}-{own['largest']:.2f}"
    return f"{own['ms']:>14.3f}{own['ratio']:>8.2f}  {limits:<13}"


def remark(row: Row) -> str:
    """Say what makes a row's times unfair."""
    found = []
    if not row["loss_difference"] <= TOLERANCE:
        found.append("losses differ")
    if row["device"] == "cpu" and row["cores"] > 1.1:
        found.append(f"{row['cores']:.1f} cores")
    return f"  {', '.join(found)}" if found else ""


def lenet(given: argparse.Namespace) -> list[Row]:
    """LeNet-300-100 on one thread."""
    problem = problem_of("lenet_300_100", given.data, given.steps or 200)
    sizes = given.cohorts or [1, 16, 64]
    fresh = fresh_cohorts(problem, sizes, given.densities or [*LENET_64])

    def target(cohort: Cohort) -> float | None:
        return {1: 1.0, 64: LENET_64.get(cohort.density)}.get(len(cohort.masks))

    return table(problem, fresh, target, given.pairs, PAIRS_OF_ONE)


def wide(given: argparse.Namespace) -> list[Row]:
    """LeNet-300-100 on one thread, wide masks."""
    problem = problem_of("lenet_300_100", given.data, given.steps or 100)
    sizes, densities = given.cohorts or [1, 8, 16], given.densities or [0.2, 0.1, 0.05, 0.02, 0.01]
    masks = {density: wide_masks(problem, density, max(sizes)) for density in densities}
    return table(problem, cut("wide", masks, sizes), lambda _: None, given.pairs, beside_torch=True)


def conv2(given: argparse.Namespace) -> list[Row]:
    """Conv-2 on one thread."""
    problem = problem_of("conv2", given.data, given.steps or 8)
    fresh = fresh_cohorts(problem, given.cohorts or [1, 4], given.densities or [1, 0.1, 0.02])

    def target(cohort: Cohort) -> float | None:
        return CONV2.get(cohort.density, 1.0 if len(cohort.masks) == 1 else None)

    return table(problem, fresh, target, given.pairs)


def evolved(given: argparse.Namespace) -> list[Row]:
    """LeNet-300-100: masks after a search beside those it began with."""
    problem = problem_of("lenet_300_100", given.data, given.steps or 100)
    spec, cohorts = problem.network.spec, []
    for density in given.densities or [0.05, 0.02]:
        first = masks_of(problem.network, density, 64)
        cohorts += [
            Cohort("fresh", density, first),
            Cohort("evolved", density, evolved_masks(problem.network, first)),
        ]
    print(f"live units of 64 masks, least, median, largest; evolved: after {GENERATIONS} generations")
    alive = [widths(cohort.masks, spec) for cohort in cohorts]
    for cohort, live in zip(cohorts, alive, strict=True):
        sizes = "   ".join(f"group {name}: {', '.join(map(str, each))}" for name, each in live.items())
        print(f"{cohort.kind:<8}{cohort.density:>7g}   {sizes}")
    rows = table(problem, cohorts, lambda _: None, given.pairs)
    return [{**row, "live_units": live} for row, live in zip(rows, alive, strict=True)]


def fresh_cohorts(problem: Problem, sizes: Sequence[int], densities: Sequence[float]) -> list[Cohort]:
    """Return cohorts of SynFlow's masks of all sizes and densities."""
    return cut("fresh", {each: masks_of(problem.network, each, max(sizes)) for each in densities}, sizes)


def cut(kind: str, masks: dict[float, Mask], sizes: Sequence[int]) -> list[Cohort]:
    """Return cohorts of all sizes, by density; a smaller one is the beginning of the largest."""
    return [Cohort(kind, density, own[:size]) for size in sizes for density, own in masks.items()]


def processes(given: argparse.Namespace) -> list[Row]:
    """LeNet-300-100, a cohort of 64: two workers against one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if cores < 2:
        print("processes: skipped, there is one core here")
        return []
    problem, rows = problem_of("lenet_300_100", given.data, given.steps or 100), []
    two, backend = problem.training(workers=2), "loky"
    print(f"LeNet-300-100: 64 masks, {problem.steps} steps, {given.pairs} pairs; seconds")
    print(
        f"{'density':>7}{'1 worker':>12}{'2 ' + backend:>12}{'ratio':>8}  {'least-largest':<14}"
        f"{'to reach':>9}"
    )
    for density in given.densities or [0.05, 0.02]:
        masks = masks_of(problem.network, density, 64)
        for fitness in (problem.fitness, two):
            problem.trained(masks, 2, fitness)
        pairs = [
            [timed(problem, problem.trained, masks, None, fitness)[0] for fitness in (problem.fitness, two)]
            for _ in range(given.pairs)
        ]
        medians = [statistics.median(side) for side in zip(*pairs, strict=True)]
        found = spread([alone / shared for alone, shared in pairs])
        row = {
            **{"model": problem.network.name, "density": density, "cohort": 64, "steps": problem.steps},
            **{"seconds": medians, "backend": backend, "pairs": given.pairs},
            **found,
            **judged(found["ratio"], PROCESSES),
        }
        rows.append(row)
        limits = f"{row['least']:.2f}-{row['largest']:.2f}"
        print(
            f"{density:>7g}{medians[0]:>12.2f}{medians[1]:>12.2f}{row['ratio']:>8.2f}  {limits:<14}"
            f"{PROCESSES:>9g} {verdict(row)}",
            flush=True,
        )
    return rows


def memory(given: argparse.Namespace) -> list[Row]:
    """LeNet-300-100, a cohort of 64 at density 0.02: the peak over a process that has data and masks."""
    if not Path("/proc/self/status").exists():
        print("memory: skipped, it is read from /proc")
        return []
    problem = problem_of("lenet_300_100", given.data, given.steps or 20)
    masks = masks_of(problem.network, 0.02, 64)
    child = subprocess.run(
        [sys.executable, __file__, "--child", "--data", given.data, "--steps", str(problem.steps)],
        input=np.packbits(masks).tobytes(),
        stdout=subprocess.PIPE,
        check=True,
    )
    sizes = json.loads(child.stdout)
    over = sizes["peak"] - sizes["idle"]
    row = {
        **{"model": problem.network.name, "density": 0.02, "cohort": 64, "steps": problem.steps},
        **{f"{name}_bytes": size for name, size in sizes.items()},
        **judged(over, MEMORY, at_most=True),
    }
    print(
        f"LeNet-300-100, 64 masks at density 0.02: {over / 1e6:,.0f} MB at the peak over the "
        f"{sizes['idle'] / 1e6:,.0f} MB of\nthe idle process; to stay under {MEMORY / 1e6:,.0f} MB: "
        f"{verdict(row)}"
    )
    return [row]


def memory_child(given: argparse.Namespace) -> None:
    """Train the masks that come in and print the resident bytes before and at the peak.

    The peak that getrusage gives begins with that of the parent, so the kernel's own is reset and read.
    """
    problem = problem_of("lenet_300_100", given.data, given.steps)
    size = problem.network.spec.size
    bits = np.frombuffer(sys.stdin.buffer.read(), dtype=np.uint8)
    masks = np.unpackbits(bits)[: 8 * len(bits) // size * size].reshape(-1, size).astype(np.bool_)
    Path("/proc/self/clear_refs").write_text("5")
    idle = resident("VmRSS")
    problem.trained(masks)
    print(json.dumps({"idle": idle, "peak": resident("VmHWM")}))


def resident(name: str) -> int:
    """Return a size of this process in bytes."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return 1024 * int(found[1])


def cuda(given: argparse.Namespace) -> list[Row]:
    """LeNet-300-100 on a CUDA device."""
    if not torch.cuda.is_available():
        print("cuda: skipped, there is no CUDA device here")
        return []
    print(f"{torch.cuda.get_device_name()}: a product of size 8192 runs at {rate('cuda'):,.0f} GFLOP/s")
    problem = problem_of("lenet_300_100", given.data, given.steps or 100, "cuda")
    fresh = fresh_cohorts(problem, given.cohorts or [256], given.densities or [0.02])

    def target(cohort: Cohort) -> float | None:
        return CUDA_256.get(cohort.density) if len(cohort.masks) == 256 else None

    return table(problem, fresh, target, given.pairs)


PARTS = {part.__name__: part for part in (lenet, wide, conv2, evolved, processes, memory, cuda)}


def machine() -> dict[str, Any]:
    """Return what the times are of, without names of hosts."""
    lines = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    named = re.search(r"model name\s*:\s*(.+)", lines)
    return {
        "cpu": named[1].strip() if named else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def results_file(only: str | None) -> Path:
    """Return where results go by default: a file of the machine, and of the part if it is one alone."""
    here = machine()
    name = here["cuda"] if here["cuda"] and only in (None, "cuda") else here["cpu"]
    words = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return Path(__file__).parent / "results" / f"bench_training-{words}{f'-{only}' if only else ''}.json"


def write(file: Path, data: str, results: dict[str, Any]) -> None:
    """Write all rows, and what they are of."""
    here = machine()
    devices = ("cpu", "cuda") if here["cuda"] and "cuda" in results else ("cpu",)
    content = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "torch": torch.__version__,
        "machine": here,
        "data": data,
        "gflops": {device: rate(device) for device in devices},
        "parts": results,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=1) + "\n")
    print(f"written to {file}")


def main() -> None:
    """Run the parts asked for, print their tables and write all rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--pairs", type=int, default=3, help="of both sides in turn")
    parser.add_argument("--steps", type=int, help="by default 100, for lenet 200; of Conv-2 8, for memory 20")
    parser.add_argument("--densities", type=float, nargs="+", help="instead of a part's own")
    parser.add_argument(
        "--cohorts", type=int, nargs="+", help="instead of those of lenet, wide, conv2 and cuda"
    )
    parser.add_argument(
        "--data", default="synthetic", help="idx:FOLDER; by default of MNIST's shape, made here"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="by default in scripts/results")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    try:
        dataset = dataset_of(given.data)
    except BadInput as error:
        parser.error(str(error))
    if given.child:
        memory_child(given)
        return
    here, data = machine(), given.data.partition(":")[0]
    print(f"{here['cpu']}, one thread, torch {torch.__version__}")
    print(f"a float32 product of size 1024 runs at {rate('cpu'):.0f} GFLOP/s")
    made = ", made by a fixed generator" if data == "synthetic" else ""
    shape = " x ".join(map(str, dataset.input_shape))
    print(f"data: {data}, {dataset.sizes[0]:,} samples of {shape}{made}")
    print(
        f"masks: SynFlow's of different initializations ({SCHEME}), wide ones of magnitudes; all are trained"
    )
    print("from one of them\n")
    results: dict[str, Any] = {}
    for name in [given.only] if given.only else PARTS:
        start = time.perf_counter()
        rows = PARTS[name](given)
        seconds = time.perf_counter() - start
        results[name] = {"seconds": seconds, "rows": rows}
        print(f"({name}: {seconds:.0f} s)\n", flush=True)
    targets = [row["met"] for part in results.values() for row in part["rows"] if row["met"] is not None]
    if targets:
        print(f"{sum(targets)} of {len(targets)} targets met")
    if any(part["rows"] for part in results.values()):
        write(given.json or results_file(given.only), data, results)


if __name__ == "__main__":
    main()
