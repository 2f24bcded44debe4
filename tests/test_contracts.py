"""What holds for every model, and for every model under every pruner, whoever adds one to ``__all__``."""

import copy
import itertools
import random as stdlib_random
import warnings
from functools import cache

import numpy as np
import pytest
import torch
from conftest import every
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ticketsearch import models, pruners
from ticketsearch.datasets import from_arrays
from ticketsearch.masks import layer_counts, permute, random_order
from ticketsearch.models import initialize
from ticketsearch.pruners import PruningWarning, prune, prune_all
from ticketsearch.wiring import trace

IMAGE = (3, 8, 8)


class MobileBlocks(nn.Module):
    """Inverted residual blocks: 1×1 convolution, depthwise 3×3, 1×1, added to what came in."""

    def __init__(self, classes, multiplier=1):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        wide = 6 * multiplier
        self.expand = nn.ModuleList(nn.Conv2d(4, 6, 1, bias=False) for _ in range(2))
        self.depthwise = nn.ModuleList(nn.Conv2d(6, wide, 3, padding=1, groups=6) for _ in range(2))
        self.inner = nn.ModuleList(nn.BatchNorm2d(wide) for _ in range(2))
        self.project = nn.ModuleList(nn.Conv2d(wide, 4, 1) for _ in range(2))
        self.head = nn.Linear(4, classes)

    def forward(self, x):
        x = torch.relu(self.norm(self.stem(x)))
        for i in range(2):
            h = nn.functional.relu6(self.inner[i](self.depthwise[i](self.expand[i](x))))
            x = x + self.project[i](h)
        return self.head(x.mean((2, 3)))


class Grouped(nn.Module):
    """A ResNeXt block: 1×1, a 3×3 convolution in three groups, 1×1; flattened at the end."""

    def __init__(self, classes):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2)
        self.reduce = nn.Conv2d(4, 6, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(6)
        self.grouped = nn.Conv2d(6, 6, 3, padding=1, groups=3, bias=False)
        self.norm2 = nn.BatchNorm2d(6)
        self.expand = nn.Conv2d(6, 4, 1)
        self.head = nn.Linear(4 * 9, classes)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        h = torch.relu(self.norm2(self.grouped(torch.relu(self.norm1(self.reduce(x))))))
        return self.head((x + self.expand(h)).flatten(1))


class DenselyConnected(nn.Module):
    """Each convolution reads the concatenation of all that came before."""

    def __init__(self, classes):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2)
        self.norms = nn.ModuleList(nn.BatchNorm2d(size) for size in (4, 7, 10))
        self.layers = nn.ModuleList(nn.Conv2d(size, 3, 3, padding=1, bias=False) for size in (4, 7))
        self.head = nn.Linear(10, classes)

    def forward(self, x):
        x = self.stem(x)
        for norm, layer in zip(self.norms, self.layers, strict=False):
            x = torch.cat((x, layer(torch.relu(norm(x)))), 1)
        return self.head(nn.functional.adaptive_avg_pool2d(torch.relu(self.norms[2](x)), 1).flatten(1))


class LayerNormed(nn.Module):
    """Residual blocks of features, each sample normalised, with learned slopes of the leaky relu."""

    def __init__(self, features, classes):
        super().__init__()
        self.stem = nn.Linear(features, 8)
        self.norms = nn.ModuleList(nn.LayerNorm(8) for _ in range(2))
        self.up = nn.ModuleList(nn.Linear(8, 5) for _ in range(2))
        self.slopes = nn.ModuleList(nn.PReLU(5) for _ in range(2))
        self.down = nn.ModuleList(nn.Linear(5, 8) for _ in range(2))
        self.head = nn.Linear(8, classes)

    def forward(self, x):
        x = self.stem(x.flatten(1))
        for norm, up, slope, down in zip(self.norms, self.up, self.slopes, self.down, strict=True):
            x = x + down(slope(up(norm(x))))
        return self.head(x)


def mobile(input_shape, classes, multiplier=1):
    return MobileBlocks(classes, multiplier)


def grouped(input_shape, classes):
    return Grouped(classes)


def densely_connected(input_shape, classes):
    return DenselyConnected(classes)


def layer_normed(input_shape, classes):
    return LayerNormed(int(np.prod(input_shape)), classes)


# Narrow variants of the models that users may name: (input shape, options).
VARIANTS = {
    "conv2": [(IMAGE, {"width": 0.06}), ((1, 7, 6), {"width": 0.06, "bias": False})],
    "conv4": [(IMAGE, {"width": 0.05})],
    "conv6": [(IMAGE, {"width": 0.03})],
    "lenet5": [((1, 28, 28), {"width": 0.3}), ((3, 12, 13), {"width": 0.4, "bias": False})],
    "lenet_300_100": [((1, 28, 28), {"width": 0.03})],
    "mlp": [
        ((7,), {"hidden": "9,6"}),
        (IMAGE, {"hidden": "5", "activation": "gelu"}),
        ((7,), {"hidden": "6,5,4", "activation": "sigmoid", "bias": False}),
    ],
    "resnet20": [
        (IMAGE, {"width": 0.25, "depth": 8}),
        ((1, 9, 9), {"width": 0.2, "depth": 14, "bias": False}),
    ],
    "vgg16_bn": [((3, 32, 32), {"width": 0.03}), ((3, 32, 32), {"width": 0.03, "batch_norm": False})],
}
UNLISTED = [((3, 32, 32), {})]
OWN = {
    "mobile": (mobile, IMAGE, {}),
    "mobile, two a channel": (mobile, IMAGE, {"multiplier": 2}),
    "grouped": (grouped, IMAGE, {}),
    "densely connected": (densely_connected, IMAGE, {}),
    "layer normed": (layer_normed, (7,), {}),
}
CASES = {
    f"{name} {number}": (name, shape, options)
    for name in models.__all__
    for number, (shape, options) in enumerate(VARIANTS.get(name, UNLISTED))
} | OWN
# One dense, one normalised, one grouped.
SEVERAL = ("mlp 0", "resnet20 0", "grouped")
CLASSES = 3


@cache
def dataset(shape):
    rng = np.random.default_rng(0)
    return from_arrays("random", rng.normal(size=(50, *shape)), np.arange(50) % CLASSES)


@cache
def network(case, seed=0, scheme="kaiming_normal"):
    model, shape, options = CASES[case]
    return initialize(model, dataset(shape), scheme, seed, **options)


def random_tensors(module, seed):
    """Return random double parameters (scales of both signs) and running statistics of a module."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, tensor in itertools.chain(module.named_parameters(), module.named_buffers()):
        found[name] = tensor.detach().clone()
        if tensor.is_floating_point():
            fan = tensor[0].numel() if tensor.ndim > 1 else 1
            values = torch.randn(tensor.shape, generator=generator, dtype=torch.float64) / fan**0.5
            found[name] = values.abs() + 0.3 if name.endswith("running_var") else values
    return found


def outputs(module, tensors, x, training=False):
    """Return the module's own outputs with these tensors, and the tensors as a forward pass leaves them."""
    own = copy.deepcopy(module).double().train(training)
    own.load_state_dict(tensors)
    with torch.no_grad():
        return own(x), own.state_dict()


def samples(shape, seed, number=6):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(number, *shape, dtype=torch.float64, generator=generator)


def masked(tensors, spec, mask):
    parts = {name: torch.from_numpy(part.copy()) for name, part in spec.split(mask).items()}
    return {name: tensor * parts[name] if name in parts else tensor for name, tensor in tensors.items()}


# Renumbering


@pytest.mark.parametrize("case", every(CASES, quick=SEVERAL))
@settings(max_examples=4, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1))
def test_renumbering_changes_no_output_of_any_model(case, seed):
    """In double precision, with random parameters and running statistics, in evaluation and in training."""
    net = network(case)
    tensors, x = random_tensors(net.module, seed), samples(net.input_shape, seed)
    order = random_order(net.spec, np.random.default_rng(seed))
    assert set(order) == {net.spec.groups[i].name for i in net.spec.hidden} | {
        b.name for b in net.spec.bundles
    }
    renumbered = net.wiring.renumbered(tensors, order)
    for training in (False, True):
        expected, moved = outputs(net.module, tensors, x, training)
        found, moved_too = outputs(net.module, renumbered, x, training)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
        for name, tensor in net.wiring.renumbered(moved, order).items():  # the statistics that training moved
            torch.testing.assert_close(moved_too[name], tensor, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("case", every(CASES, quick=SEVERAL))
@settings(max_examples=3, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0.2, 0.9))
def test_a_renumbered_mask_masks_the_renumbered_weights(case, seed, share):
    net = network(case)
    rng = np.random.default_rng(seed)
    tensors, x = random_tensors(net.module, seed), samples(net.input_shape, seed)
    mask, order = rng.random(net.spec.size) < share, random_order(net.spec, rng)
    expected, _ = outputs(net.module, masked(tensors, net.spec, mask), x)
    moved = masked(net.wiring.renumbered(tensors, order), net.spec, permute(mask, net.spec, order))
    for name, tensor in net.wiring.renumbered(masked(tensors, net.spec, mask), order).items():
        assert torch.equal(moved[name], tensor)
    torch.testing.assert_close(outputs(net.module, moved, x)[0], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("case", every(CASES, quick=SEVERAL))
@settings(max_examples=3, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1))
def test_renumbering_moves_weights_within_their_layer_and_loses_none(case, seed):
    net = network(case)
    rng = np.random.default_rng(seed)
    order = random_order(net.spec, rng)
    tensors = random_tensors(net.module, seed)
    for name, tensor in net.wiring.renumbered(tensors, order).items():
        assert tensor.shape == tensors[name].shape
        assert torch.equal(tensor.flatten().sort().values, tensors[name].flatten().sort().values)
    mask = rng.random(net.spec.size) < 0.5
    again = permute(mask, net.spec, order)
    assert np.array_equal(layer_counts(again, net.spec), layer_counts(mask, net.spec))


@pytest.mark.parametrize("case", every(CASES, quick=SEVERAL))
def test_renumbering_twice_is_undone_by_the_inverse(case):
    net = network(case)
    order = random_order(net.spec, np.random.default_rng(5))
    columns = {bundle.name for bundle in net.spec.bundles}
    units = {name: numbers for name, numbers in order.items() if name not in columns}
    inverse = {name: np.argsort(numbers) for name, numbers in units.items()}
    tensors = random_tensors(net.module, 5)
    once = net.wiring.renumbered(tensors, units)
    assert all(torch.equal(net.wiring.renumbered(once, inverse)[name], t) for name, t in tensors.items())


@pytest.mark.parametrize("case", every(CASES, quick=SEVERAL))
def test_renumbering_that_is_not_allowed_does_change_outputs(case):
    """Two outputs exchanged, and the rows of one layer exchanged without the columns of what reads them."""
    net = network(case)
    tensors, x = random_tensors(net.module, 3), samples(net.input_shape, 3)
    expected, _ = outputs(net.module, tensors, x)
    layer, bias = net.spec.layers[-1].name, net.wiring.biases[-1]
    swapped = dict(tensors)
    for name in (layer, bias):
        if name is not None:
            swapped[name] = tensors[name][[1, 0, *range(2, CLASSES)]]
    assert not torch.allclose(outputs(net.module, swapped, x)[0], expected, rtol=1e-3)
    first = net.spec.layers[0].name
    alone = tensors | {first: tensors[first].flip(0)}
    assert not torch.allclose(outputs(net.module, alone, x)[0], expected, rtol=1e-3)


@pytest.mark.parametrize("case", ["grouped", "mobile, two a channel"])
def test_units_exchanged_across_the_groups_of_a_convolution_change_outputs(case):
    """Though all that reads and makes them follows: within a group the same exchange changes nothing."""
    net = network(case)
    tensors, x = random_tensors(net.module, 4), samples(net.input_shape, 4)
    expected, _ = outputs(net.module, tensors, x)
    if case == "grouped":  # six channels in groups of two, made by reduce and norm1, each reading two of them
        makers, reader = ("reduce.weight", *(f"norm1.{n}" for n in NORM)), "grouped.weight"
        height = 2
    else:  # each channel by itself, made by expand.0
        makers, reader, height = ("expand.0.weight",), "depthwise.0.weight", 2

    def exchanged(a, b):
        order = list(range(6))
        order[a], order[b] = b, a
        found = dict(tensors)
        for name in makers:
            found[name] = tensors[name][order]
        width = tensors[reader].shape[1]  # channel c is column c % width of the rows of group c // width
        weight = tensors[reader].clone()
        rows = [slice(c // width * height, (c // width + 1) * height) for c in (a, b)]
        weight[rows[0], a % width] = tensors[reader][rows[1], b % width]
        weight[rows[1], b % width] = tensors[reader][rows[0], a % width]
        found[reader] = weight
        return outputs(net.module, found, x)[0]

    assert not torch.allclose(exchanged(0, 2), expected, rtol=1e-3)
    if case == "grouped":
        torch.testing.assert_close(exchanged(0, 1), expected, rtol=1e-10, atol=1e-10)


NORM = ("weight", "bias", "running_mean", "running_var")


@pytest.mark.parametrize("case", every(CASES, quick=SEVERAL))
def test_a_second_trace_of_a_model_is_the_same(case):
    net = network(case)
    again = trace(net.module, net.input_shape)
    assert again.spec == net.spec
    assert again.axes == net.wiring.axes


# Pruning

# Options under which pruners that search or train are quick.
QUICK = {
    "flow_preserving": {"rounds": 1, "tries": 0, "floor": 0},
    "edge_popup": {"training_steps": 2, "training_batch": 8},
    "imp": {"training_steps": 2, "training_batch": 8},
    "obd": {"training_steps": 2, "training_batch": 8},
    "averaged_imp": {"training_steps": 2, "training_batch": 8, "orders": 2},
}
# Of each model that users may name the first variant, and all of the others.
PRUNED = [*(f"{name} 0" for name in models.__all__), *OWN]
DENSITY = 0.35


def pruned(case, name, initializations=0, **given):
    """Prune one network, or several of them, with a pruner's quick options and data."""
    arguments = {"density": DENSITY, "steps": 2, "batch": 8, "dataset": dataset(CASES[case][1])}
    arguments |= QUICK.get(name, {}) | given
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PruningWarning)
        if isinstance(initializations, int):
            return prune(network(case, initializations), name, **arguments)
        return prune_all([network(case, number) for number in initializations], name, **arguments)


# The loop sees flat scores, whatever the model: every pruner is tried on several models, every model under
# two pruners.
SLOWEST = [(case, "flow_preserving") for case in ("resnet20 0", "grouped")]
PAIRS = every(
    list(itertools.product(PRUNED, pruners.__all__)),
    default=lambda pair: pair not in SLOWEST and (pair[0] in SEVERAL or pair[1] in ("synflow", "magnitude")),
    quick=lambda pair: pair[0] == "mlp 0" or (pair[0] in SEVERAL and pair[1] == "synflow"),
)
LOOPS = [("exponential", "global"), ("linear", "layer"), ("one_shot", "global"), ("one_shot", "layer")]


@pytest.mark.parametrize(("case", "name"), PAIRS)
class TestEveryPruner:
    def test_counts_are_exact_and_what_is_cut_never_comes_back(self, case, name):
        for schedule, scope in LOOPS if case == "mlp 0" else LOOPS[:1]:
            self.check_counts(case, name, schedule, scope)

    def check_counts(self, case, name, schedule, scope):
        cuts = []
        mask = pruned(case, name, schedule=schedule, scope=scope, callback=cuts.append)
        spec = network(case).spec
        assert (mask.shape, mask.dtype, mask.flags.writeable) == ((spec.size,), np.bool_, False)
        assert mask.sum() == round(DENSITY * spec.size)
        assert [cut.step for cut in cuts] == ([1] if schedule == "one_shot" else [1, 2])
        kept = np.arange(spec.size)
        for cut in cuts:
            assert np.array_equal(cut.numbers, kept)  # scored is what the cuts before have left
            assert len(cut.scores) == len(cut.kept) == len(kept)
            assert np.isfinite(cut.scores).all()
            kept = kept[cut.kept]
        assert np.array_equal(kept, np.flatnonzero(mask))
        if scope == "layer":
            sizes = np.array([layer.size for layer in spec.layers])
            assert (abs(layer_counts(mask, spec) - DENSITY * sizes) < 2).all()

    def test_the_seed_determines_the_mask(self, case, name):
        first, second = (pruned(case, name, seed=3) for _ in range(2))
        assert np.array_equal(first, second)
        if name == "random":
            assert not np.array_equal(first, pruned(case, name, seed=4))

    def test_network_and_global_randomness_stay_as_they_were(self, case, name):
        net = network(case)
        before = {key: value.clone() for key, value in net.module.state_dict().items()}
        modes = [child.training for child in net.module.modules()]
        states = torch.get_rng_state(), np.random.get_state()[1].copy(), stdlib_random.getstate()  # noqa: NPY002
        pruned(case, name)
        after = net.module.state_dict()
        assert list(after) == list(before)
        assert all(after[key].numpy().tobytes() == value.numpy().tobytes() for key, value in before.items())
        assert [child.training for child in net.module.modules()] == modes
        assert all(p.grad is None and p.requires_grad for p in net.module.parameters())
        assert torch.equal(states[0], torch.get_rng_state())
        assert np.array_equal(states[1], np.random.get_state()[1])  # noqa: NPY002
        assert states[2] == stdlib_random.getstate()

    def test_several_networks_are_pruned_as_each_of_them(self, case, name):
        together = pruned(case, name, (0, 1), seeds=[5, 0])
        assert together.shape == (2, network(case).spec.size)
        assert not together.flags.writeable
        for number, (own, seed) in enumerate(zip(together, (5, 0), strict=True)):
            assert np.array_equal(own, pruned(case, name, number, seed=seed))


@pytest.mark.parametrize(
    ("case", "scheme", "name"),
    every(
        list(
            itertools.product(
                ("conv2 0", "resnet20 0", "vgg16_bn 1", "mlp 0", "lenet_300_100 0", "grouped"),
                ("kaiming_normal", "signed_constant"),
                ("synflow", "balanced_synflow"),
            )
        ),
        default=lambda member: (
            member[0] in ("mlp 0", "grouped") or member[1:] == ("signed_constant", "synflow")
        ),
        quick=[("mlp 0", "signed_constant", "synflow")],
    ),
)
def test_copies_have_the_masks_of_single_networks_after_many_steps(case, scheme, name):
    """Of signed constants most scores are equal: the order of summation must not part them."""
    nets = [network(case, seed, scheme) for seed in range(3)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PruningWarning)
        together = prune_all(nets, name, density=0.06, steps=25)
        for seed, (own, net) in enumerate(zip(together, nets, strict=True)):
            assert np.array_equal(own, prune(net, name, density=0.06, steps=25, seed=seed))
