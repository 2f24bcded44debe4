"""The judge: rules (a) to (e) and (s), tried on a traced network with its original module in float64.

(a) Renumbering groups and bundles, all at once, singly, and with a mask, moves no output, in evaluation and
training mode. (b) Kept weights that are called dead can be anything, and have no gradient. (c) Five steps of
the engine equal a plain loop with the mask multiplied in. (d) Keys are equal for renumbered masks and differ
where the live weights do. (e) Pruners keep the exact count. (s) SynFlow's scores are those of autograd.
(r) Weights that no data reach, such as those that read padding alone, are not live; this is only reported.

The spec that is judged says what to renumber and which weights are dead; all else is torch's own.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from network_checks.original import Original, Tensors, generic, tensors_of
from ticketsearch import canonical_key, from_arrays, live, permute, prune
from ticketsearch.datasets import Dataset
from ticketsearch.errors import BadInput
from ticketsearch.masks import Mask, MaskSpec
from ticketsearch.models import Network
from ticketsearch.pruners import resolve_pruner as pruner
from ticketsearch.training import Cohort, Recipe, data_order, train
from ticketsearch.wiring import Wiring, spec_for

__all__ = ["RULES", "Case", "dataset_of", "judged"]

SAMPLES = 4
TOLERANCE = 1e-9
TRAINED_TOLERANCE = 1e-7
# Groups that are renumbered singly, in a small network and in a large one.
SINGLE_GROUPS = (10, 3)
# Weights of a mask whose key is taken.
KEYED = 4_000
PRUNERS = ("random", "magnitude", "synflow", "snip", "grasp", "balanced_synflow", "saliency")
SLOW_PRUNERS = ("imp", "averaged_imp", "obd", "edge_popup", "flow_preserving")
FEW_WEIGHTS = 1_500
MANY_WEIGHTS = 300_000


def dataset_of(input_shape: tuple[int, ...], classes: int) -> Dataset:
    """Return a dataset of random numbers of this shape."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(max(60, 5 * classes), *input_shape)).astype("f4")
    return from_arrays("random", x, np.arange(len(x)) % classes, classes=classes)


@dataclass
class Case:
    """A network, its wiring as it is judged, its original module, and the data it is tried on."""

    network: Network
    wiring: Wiring
    original: Original
    dataset: Dataset

    @property
    def spec(self) -> MaskSpec:
        """The spec that is judged."""
        return self.wiring.spec

    @property
    def large(self) -> bool:
        """Whether less is tried, as each look takes long."""
        return self.spec.size > MANY_WEIGHTS

    @classmethod
    def of(cls, network: Network, build: Callable[[], nn.Module], dataset: Dataset) -> Case:
        """Return the case of a network as the package traced it."""
        return cls(network, network.wiring, Original(build), dataset)

    def tensors(self) -> tuple[Tensors, Tensors]:
        """Return the initial tensors, and generic ones near them."""
        initial = tensors_of(self.original.module) | {
            name: tensor.double() if tensor.is_floating_point() else tensor
            for name, tensor in {**self.network.parameters(), **self.network.buffers()}.items()
        }
        return initial, generic(initial, 1)

    def samples(self) -> Tensor:
        """Return a few random samples."""
        generator = torch.Generator().manual_seed(5)
        shape = (SAMPLES, *self.network.input_shape)
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    def masked(self, tensors: Mapping[str, Tensor], mask: Mask) -> Tensors:
        """Return tensors with the mask multiplied in."""
        parts = self.spec.split(np.asarray(mask))
        return dict(tensors) | {n: tensors[n] * torch.from_numpy(part.copy()) for n, part in parts.items()}

    def mask(self, density: float, seed: int) -> Mask:
        """Return a random mask."""
        return np.random.default_rng(seed).random(self.spec.size) < density


def judged(case: Case, rules: str = "abcdesr") -> dict[str, str]:
    """Return for each rule how it is violated; "" where it holds, and "-…" where it says nothing."""
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for rule in rules:
            try:
                found[rule] = next(RULES[rule](case), "")
            except BadInput as error:
                found[rule] = f"-{' '.join(str(error).split())}"
            except Exception as error:  # whatever the package raises beyond its own refusals is a fault
                found[rule] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return found


def renumbering(case: Case) -> Iterator[str]:
    """Yield how rule (a) is violated."""
    spec, wiring = case.spec, case.wiring
    rng = np.random.default_rng(2)
    sizes = {spec.groups[i].name: spec.groups[i].size for i in spec.hidden}
    sizes |= {bundle.name: len(bundle.columns) for bundle in spec.bundles}
    orders = {name: _moved(rng, size) for name, size in sizes.items() if size > 1}
    names = rng.permutation(list(orders))[: SINGLE_GROUPS[case.large]].tolist() if len(orders) > 1 else []
    tried = [("all groups", orders)] + [(f"{name!r}", {name: orders[name]}) for name in names]
    tensors = case.tensors()[1]
    mask = case.mask(0.5, 3)
    x = case.samples()
    for training in (False, True):
        whole = case.original.outputs(tensors, x, training=training)
        if not (whole.isfinite().all() and whole.std() > 0):
            yield f"-outputs {'are constant' if whole.isfinite().all() else 'are not finite'}"
        part = case.original.outputs(case.masked(tensors, mask), x, training=training)
        for what, order in tried:
            moved = wiring.renumbered(tensors, order)
            if order and all(torch.equal(moved[name], tensors[name]) for name in tensors):
                yield f"renumbering {what} changes no tensor"
            masked = case.masked(moved, permute(mask, spec, order))
            for expected, own in ((whole, moved), (part, masked)):
                if case.large and len(order) == 1 and own is moved:
                    continue
                off = _off(expected, case.original.outputs(own, x, training=training))
                if off > TOLERANCE:
                    mode = "training" if training else "evaluation"
                    yield f"renumbering {what} moves outputs by {off:.1e} in {mode} mode"


def dead_weights(case: Case) -> Iterator[str]:
    """Yield how rule (b) is violated."""
    x = case.samples()
    weights = torch.randn((SAMPLES, case.spec.outputs), generator=torch.Generator().manual_seed(7)).double()
    for number, tensors in enumerate(case.tensors()):
        spec = spec_for(case.wiring, tensors) if case.wiring.steps else case.spec
        for density in (0.1,) if case.large else (0.5, 0.1, 0.02):
            mask = case.mask(density, 11 + number)
            dead = mask & ~live(mask, spec)
            if not dead.any():
                continue
            own = case.masked(tensors, mask)
            noisy = _with_noise(own, case.spec, dead)
            for training in (False, True):
                outputs = [case.original.outputs(t, x, training=training) for t in (own, noisy)]
                if (off := _off(*outputs)) > TOLERANCE:
                    yield f"{dead.sum()} dead weights of {mask.sum()} kept move outputs by {off:.1e}"
                slopes = case.original.gradients(own, x, weights, training)
                top = max(float(slope.abs().max()) for slope in slopes.values())
                for name, part in case.spec.split(dead).items():
                    if name in slopes and part.any():
                        most = float(slopes[name][torch.from_numpy(part.copy())].abs().max())
                        if most > 1e-12 * max(top, 1.0):
                            yield f"a dead weight of {name} has the gradient {most:.1e}"


def training_steps(case: Case) -> Iterator[str]:
    """Yield how rule (c) is violated."""
    if any(step.operation == "dropout" and getattr(step.function, "p", 0) for step in case.wiring.steps):
        yield "-dropout of its own in forward: the engine draws other numbers"
        return
    x = case.dataset.x_test.double()
    mask = case.mask(0.4, 21)
    for start in case.tensors()[: 2 if case.spec.size < FEW_WEIGHTS else 1]:
        for recipe in (Recipe(steps=5, batch=8, lr=lr, momentum=0.9) for lr in (1e-2, 1e-4, 1e-6)):
            order = data_order(len(case.dataset.x_train), recipe, [0])
            theirs = _plain_loop(case, start, mask, recipe, order)
            nearby = _plain_loop(case, _rounded(start), mask, recipe, order)
            outputs, others = (case.original.outputs(case.masked(t, mask), x) for t in (theirs, nearby))
            if _off(outputs, others) < TRAINED_TOLERANCE / 10:
                break
        else:
            yield "-training multiplies rounding errors so much that nothing can be compared"
        cohort = Cohort(case.wiring, mask[None], [start], device=torch.device("cpu"), dtype=torch.float64)
        train(cohort, case.dataset, recipe, [order])
        # A layer that the outputs do not depend on is not trained.
        ours = start | {name: own[0] for name, own in {**cohort.parameters(), **cohort.buffers()}.items()}
        off = _off(outputs, case.original.outputs(case.masked(ours, mask), x))
        if off > TRAINED_TOLERANCE:
            yield f"outputs differ from those of a plain loop by {off:.1e} after five steps"
        for name, parameter in case.original.module.named_parameters():
            if not parameter.requires_grad and not torch.equal(
                case.masked(start, mask)[name], case.masked(ours, mask)[name]
            ):
                yield f"frozen {name} was trained"


def _rounded(tensors: Tensors) -> Tensors:
    """Return tensors that differ by rounding: batch normalisation of a few samples can make that large."""
    generator = torch.Generator().manual_seed(17)
    return {
        name: tensor * (1 + 1e-14 * torch.randn(tensor.shape, generator=generator, dtype=torch.float64))
        if tensor.is_floating_point()
        else tensor
        for name, tensor in tensors.items()
    }


def _plain_loop(case: Case, start: Tensors, mask: Mask, recipe: Recipe, order: NDArray[np.int64]) -> Tensors:
    """Return the tensors after training as one would by hand."""
    case.original.set(case.masked(start, mask))
    module = case.original.module.train()
    keep = {name: torch.from_numpy(part.copy()) for name, part in case.spec.split(np.asarray(mask)).items()}
    learning = {name: p for name, p in module.named_parameters() if p.requires_grad}
    optimizer = torch.optim.SGD(list(learning.values()), recipe.lr, recipe.momentum)
    for chosen in order:
        optimizer.zero_grad()
        outputs = module(case.dataset.x_train[chosen].double())
        F.cross_entropy(outputs, case.dataset.y_train[chosen]).backward()
        for name, part in keep.items():
            if name in learning and learning[name].grad is not None:
                learning[name].grad *= part
        optimizer.step()
    return tensors_of(module)


def keys(case: Case) -> Iterator[str]:
    """Yield how rule (d) is violated."""
    spec = case.spec
    rng = np.random.default_rng(31)
    mask = _paths(case, min(0.3, KEYED / spec.size))
    key = canonical_key(mask, spec)
    sizes = {spec.groups[i].name: spec.groups[i].size for i in spec.hidden}
    sizes |= {bundle.name: len(bundle.columns) for bundle in spec.bundles}
    for _ in range(2):
        order = {name: rng.permutation(size) for name, size in sizes.items()}
        if canonical_key(permute(mask, spec, order), spec) != key:
            yield "the key of a renumbered mask is another one"
    counts = _counts(mask, spec)
    for _ in range(6):
        other = mask.copy()
        other[rng.choice(np.flatnonzero(mask))] = False
        if rng.random() < 0.7 and not mask.all():
            other[rng.choice(np.flatnonzero(~mask))] = True
        if _counts(other, spec) != counts and canonical_key(other, spec) == key:
            yield "masks of other live weights have one key"


def _paths(case: Case, density: float) -> Mask:
    """Return a mask with live paths, of which SynFlow leaves many; a random one without a flow."""
    try:
        return np.array(prune(case.network, "synflow", density=density, steps=5))
    except BadInput:
        return case.mask(max(density, 0.2), 32)


def _counts(mask: Mask, spec: MaskSpec) -> list[list[int]]:
    """Return how many live weights each layer has at each place of its kernel: renumbering keeps these."""
    parts = spec.split(live(mask, spec))
    return [part.reshape(*part.shape[:2], -1).sum((0, 1)).tolist() for part in parts.values()]


def exact_counts(case: Case) -> Iterator[str]:
    """Yield how rule (e) is violated."""
    size, layers = case.spec.size, len(case.spec.layers)
    chosen = [*PRUNERS[: 4 if case.large else None], *(SLOW_PRUNERS if size < FEW_WEIGHTS else ())]
    refused = []
    for name in chosen:
        options = {"steps": 3} if "synflow" in name or "imp" in name or name == "obd" else {}
        if name in SLOW_PRUNERS:
            options |= {"rounds": 1, "tries": 1} if name == "flow_preserving" else {"training_steps": 3}
        density = max(0.1, layers / size)
        try:
            mask = prune(case.network, name, density=density, dataset=case.dataset, batch=16, **options)
        except BadInput as error:
            refused.append(f"{name}: {' '.join(str(error).split())}")
            continue
        if int(mask.sum()) != round(density * size):
            yield f"{name} keeps {mask.sum()} of {size} at density {density}"
    if refused:
        yield f"-{refused[0]}"


def flow_scores(case: Case) -> Iterator[str]:
    """Yield how rule (s) is violated."""
    names = [layer.name for layer in case.spec.layers]
    for mask in (np.ones(case.spec.size, dtype=bool), case.mask(0.5, 41)):
        parts = {n: torch.from_numpy(p.copy()) for n, p in case.spec.split(mask).items()}
        scores = pruner("synflow")(case.network, parts, None, rng=np.random.default_rng(0))
        tensors = {**case.network.parameters(), **case.network.buffers()}
        x = torch.ones((1, *case.network.input_shape), dtype=torch.float64)
        theirs = case.original.flow_scores(case.masked(tensors, mask), x)
        ours = torch.cat([scores[name].flatten() for name in names])
        expected = torch.cat([theirs[name].flatten() for name in names])
        if not expected.isfinite().all():
            yield "-the flow by autograd overflows"
        if not expected.any() and not ours.any():
            continue
        off = float(
            (ours / ours.sum() - expected / expected.sum()).abs().max() / (expected / expected.sum()).max()
        )
        if not off < TRAINED_TOLERANCE:
            yield f"scores differ from autograd's by {off:.1e} of the largest"


def data_reached(case: Case) -> Iterator[str]:
    """Yield how many weights are called live in the whole network though no data reach them: rule (r).

    No violation, as such a weight does no harm but that it counts.
    """
    whole = np.ones(case.spec.size, dtype=bool)
    reached = np.zeros(case.spec.size, dtype=bool)
    for seed in range(1 if case.large else 3):
        # Random inputs, since max-pooling passes a gradient to one of its values alone.
        generator = torch.Generator().manual_seed(seed)
        x = 0.5 + torch.rand((2, *case.network.input_shape), generator=generator, dtype=torch.float64)
        scores = case.original.flow_scores(generic(case.tensors()[0], seed), x)
        reached |= np.concatenate([scores[layer.name].flatten() != 0 for layer in case.spec.layers])
    idle = live(whole, case.spec, constants=False) & ~reached
    if idle.any():
        yield f"-{int(idle.sum()):,} of {idle.size:,} weights are called live though no data reach them"


def _moved(rng: np.random.Generator, size: int) -> NDArray[np.intp]:
    """Return a permutation that moves something."""
    while np.array_equal(order := rng.permutation(size), np.arange(size)):
        pass
    return order


def _with_noise(tensors: Tensors, spec: MaskSpec, where: Mask) -> Tensors:
    generator = torch.Generator().manual_seed(13)
    found = dict(tensors)
    for name, part in spec.split(where).items():
        noise = torch.randn(tensors[name].shape, generator=generator, dtype=torch.float64)
        found[name] = tensors[name] + noise * torch.from_numpy(part.copy())
    return found


def _off(expected: Tensor, found: Tensor) -> float:
    """Return the largest difference, relative to the largest value where that is above 1."""
    if expected.shape != found.shape:
        return float("inf")
    off = float((expected - found).abs().max() / max(1.0, float(expected.abs().max())))
    return off if off == off else float("inf")


RULES: dict[str, Callable[[Case], Iterator[str]]] = {
    "a": renumbering,
    "b": dead_weights,
    "c": training_steps,
    "d": keys,
    "e": exact_counts,
    "s": flow_scores,
    "r": data_reached,
}
