"""Compaction: a network without its dead units trains as the whole masked one does."""

import dataclasses
import itertools
from functools import cache
from typing import NamedTuple

import networks
import numpy as np
import pytest
import torch
from conftest import every, examples, refusal, refused
from hypothesis import given, settings
from hypothesis import strategies as st
from loops import (
    Images,
    Parts,
    Stream,
    Summed,
    masks_for,
    matters,
    normalised_away,
    recipes,
    tensors_of,
    torch_loop,
)
from torch import nn

from ticketsearch import models
from ticketsearch.datasets import from_arrays
from ticketsearch.fitness.named import short_training
from ticketsearch.masks import live, live_units
from ticketsearch.models import initialize
from ticketsearch.training import (
    Cohort,
    Recipe,
    Training,
    batches,
    compaction_notes,
    data_order,
    evaluate,
    layout,
    reproducible,
    train,
    why_not_compacted,
)
from ticketsearch.training import matmul as products
from ticketsearch.training.layout import Layout, layouts, networks_at_once, why_not_native
from ticketsearch.wiring import compact, fixed_groups, live_groups, spec_for, whole

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
IMAGE = (3, 8, 8)
RECIPES = recipes(6, 9)


class Channels(nn.Module):
    """A convolution in groups between two others; depthwise with as many groups as channels."""

    def __init__(self, classes, groups, made=6):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 6, 1, bias=False), nn.BatchNorm2d(6)
        self.middle = nn.Conv2d(6, made, 3, padding=1, groups=groups)
        self.out, self.head = nn.Conv2d(made, 5, 1), nn.Linear(5, classes)

    def forward(self, x):
        x = torch.relu(self.norm(self.stem(x)))
        return self.head(torch.relu(self.out(nn.functional.relu6(self.middle(x)))).mean((2, 3)))


class Normed(nn.Module):
    """Layer normalisation, by which each unit influences all, and a layer behind it."""

    def __init__(self, features, classes):
        super().__init__()
        self.first, self.norm = nn.Linear(features, 8), nn.LayerNorm(8)
        self.second, self.head = nn.Linear(8, 6), nn.Linear(6, classes)

    def forward(self, x):
        return self.head(torch.relu(self.second(self.norm(self.first(x)))))


class Pooled(nn.Module):
    """A max-pooling behind what is not monotone, and one behind a relu that something else reads too."""

    def __init__(self, classes):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 5, 3, padding=1)
        self.gelu, self.relu = nn.GELU(), nn.ReLU()
        self.largest, self.mean = nn.MaxPool2d(2), nn.AvgPool2d(2)
        self.head = nn.Linear(2 * 5 * 4, classes)

    def forward(self, x):
        x = self.relu(self.conv2(self.largest(self.gelu(self.conv1(x)))))
        return self.head(torch.cat([self.largest(x), self.mean(x)], 1).flatten(1))


class Preactivated(nn.Module):
    """Residual blocks: what a normalisation gives, or a sum, is read by a relu and by the shortcut."""

    def __init__(self, classes):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.inner = nn.ModuleList(nn.Conv2d(6, 6, 3, padding=1) for _ in range(2))
        self.relu, self.head = nn.ReLU(), nn.Linear(6, classes)

    def forward(self, x):
        x = self.norm(self.stem(x))
        for layer in self.inner:
            x = x + layer(self.relu(x))
        return self.head(torch.tanh(x).mean((2, 3)))


class Viewed(nn.Module):
    """Feature maps that are read as they are, and by a relu behind each of two views of them."""

    def __init__(self, classes):
        super().__init__()
        self.conv, self.relu = nn.Conv1d(3, 6, 3, padding=1), nn.ReLU()
        self.same, self.flat = nn.Identity(), nn.Flatten()
        self.head = nn.Linear(3 * 6 * 8, classes)

    def forward(self, x):
        x = self.conv(x)
        parts = self.relu(self.flat(x)), self.flat(self.relu(self.same(x))), self.flat(torch.tanh(x))
        return self.head(torch.cat(parts, 1))


class Joined(nn.Module):
    """Feature maps of unlike widths side by side, flattened, and beside features of another layer."""

    def __init__(self, classes):
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 5, 5, padding=2, bias=False)
        self.slopes, self.pool = nn.PReLU(5), nn.AvgPool2d(4)
        self.beside, self.body = nn.Linear(32, 6), nn.Linear(6 + 32, 7)
        self.head = nn.Linear(7, classes)

    def forward(self, x):
        x = self.pool(torch.cat([torch.relu(self.left(x)), self.slopes(self.right(x))], 1)).flatten(1)
        return self.head(torch.relu(self.body(torch.cat([torch.tanh(self.beside(x)), x], 1))))


class Dropping(nn.Module):
    """Dropout of channels, of places, of what is flattened, and of whole samples."""

    def __init__(self, classes):
        super().__init__()
        self.conv, self.pool = nn.Conv2d(1, 5, 3, padding=1), nn.MaxPool2d(4)
        self.channels, self.places, self.samples = nn.Dropout2d(0.3), nn.Dropout(0.2), nn.Dropout1d(0.2)
        self.body, self.head = nn.Linear(20, 9), nn.Linear(9, classes)

    def forward(self, x):
        x = self.pool(self.places(self.channels(torch.relu(self.conv(x))))).flatten(1)
        return self.head(self.samples(torch.sigmoid(self.body(self.places(x)))))


def sloped(features, classes):
    layers = nn.Linear(features, 9), nn.PReLU(9), nn.Linear(9, 7), nn.PReLU(), nn.Linear(7, classes)
    return nn.Sequential(*layers)


# Narrow variants of the models that users may name: (input shape, options).
VARIANTS = {
    "conv2": (IMAGE, {"width": 0.08}),
    "conv4": (IMAGE, {"width": 0.06}),
    "conv6": (IMAGE, {"width": 0.04}),
    "lenet5": ((1, 12, 12), {"width": 0.7}),
    "lenet_300_100": (IMAGE, {"width": 0.08}),
    "mlp": ((7,), {"hidden": "12,9"}),
    "resnet20": (IMAGE, {"depth": 8, "width": 0.3}),
    "vgg16_bn": ((3, 32, 32), {"width": 0.06}),
}
UNLISTED = (3, 32, 32), {}
# (model, input shape, options, scheme). As built, biases begin where torch puts them: not at zero.
CASES = {name: (name, *VARIANTS.get(name, UNLISTED), "kaiming_normal") for name in models.__all__} | {
    **{a: ("mlp", (7,), {"hidden": "12,9", "activation": a}, "xavier_normal") for a in ("tanh", "sigmoid")},
    "gelu": ("mlp", (7,), {"hidden": "12,9", "activation": "gelu"}, "as_built"),
    **{
        f"no biases, {a}": ("mlp", (7,), {"hidden": "12,9", "bias": False, "activation": a}, "kaiming_normal")
        for a in ("relu", "sigmoid")
    },
    "biases": ("mlp", (7,), {"hidden": "12,9"}, "as_built"),
    "biases of convolutions": ("conv2", IMAGE, {"width": 0.08}, "as_built"),
    "stream": (lambda s, c: Stream(s[0], c), (7,), {}, "kaiming_normal"),
    "stream, normalised": (lambda s, c: Stream(s[0], c, normalised=True), (7,), {}, "kaiming_normal"),
    "sum": (lambda s, c: Summed(s[0], c), (7,), {}, "kaiming_normal"),
    "depthwise": (lambda s, c: Channels(c, 6), IMAGE, {}, "kaiming_normal"),
    "depthwise, biases": (lambda s, c: Channels(c, 6), IMAGE, {}, "as_built"),
    "grouped": (lambda s, c: Channels(c, 3), IMAGE, {}, "kaiming_normal"),
    "two a channel": (lambda s, c: Channels(c, 6, 12), IMAGE, {}, "kaiming_normal"),
    "layer normalisation": (lambda s, c: Normed(s[0], c), (7,), {}, "kaiming_normal"),
    "pooling": (lambda s, c: Pooled(c), IMAGE, {}, "kaiming_normal"),
    "preactivation": (lambda s, c: Preactivated(c), IMAGE, {}, "kaiming_normal"),
    "views": (lambda s, c: Viewed(c), (3, 8), {}, "kaiming_normal"),
    "concatenation": (lambda s, c: Joined(c), IMAGE, {}, "kaiming_normal"),
    "concatenation, biases": (lambda s, c: Joined(c), IMAGE, {}, "as_built"),
    "slopes": (lambda s, c: sloped(s[0], c), (7,), {}, "kaiming_normal"),
    "dropout": (lambda s, c: Parts(s[0], c), (7,), {}, "as_built"),
    "dropout and batches": (lambda s, c: Images(c, 0.4), (1, 8, 8), {}, "kaiming_normal"),
    "dropout of all kinds": (lambda s, c: Dropping(c), (1, 8, 8), {}, "kaiming_normal"),
}
DROPOUT = [case for case in CASES if case.startswith("dropout")]
# Networks of plain vectors, which may also be stacked.
DENSE = {
    *("lenet_300_100", "mlp", "tanh", "sigmoid", "gelu", "no biases, relu", "no biases, sigmoid"),
    *("biases", "stream", "sum", "dropout"),
}
# And those that the native engine trains.
NATIVE = {*DENSE, "layer normalisation", "stream, normalised"}


@cache
def dataset(shape):
    rng = np.random.default_rng(0)
    return from_arrays("random", rng.normal(size=(60, *shape)), np.arange(60) % 3)


@cache
def network(case, seed=0, scheme=None):
    model, shape, options, usual = CASES[case]
    return initialize(model, dataset(shape), scheme or usual, seed, **options)


def sparse(net, seed, density=0.8):
    """Return a mask under which nothing feeds a quarter of each hidden group, and nothing reads another."""
    rng, spec = np.random.default_rng(seed), net.spec
    mask = rng.random(spec.size) < density
    for index in spec.hidden:
        size = spec.groups[index].size
        half = rng.permutation(size)[: size // 2]
        unfed, unread = half[::2], half[1::2]
        for piece in spec.pieces:
            window = spec.window(piece, mask)
            if piece.target == index:
                window[unfed] = False
            if piece.source == index and not piece.diagonal:
                window[:, np.add.outer(unread * piece.block, np.arange(piece.block)).ravel()] = False
    return mask


def compactions(cohort):
    """Return what is kept of each network, in the order of the masks."""
    found = [None] * cohort.size
    for numbers, part in cohort.placed():
        for number, own in zip(numbers, part.compactions, strict=True):
            found[number] = own
    return found


@torch.no_grad()
def outputs(cohort, x):
    """Return logits ``(P, samples, classes)``."""
    found = torch.empty(cohort.size, cohort.classes, len(x), dtype=cohort.dtype)
    for numbers, part in cohort.placed():
        found[numbers] = part.forward(cohort.resident(x))
    return found.transpose(1, 2)


def same(ours, theirs, matter, skipped=(), atol=1e-10):
    """Check tensors of networks, where they matter, to 1e-10 or what is given."""
    for name, own in theirs.items():
        if name not in skipped and not name.endswith("num_batches_tracked"):
            found, wanted = ours[name][matter[name]], own[matter[name]]
            torch.testing.assert_close(found, wanted.to(found.dtype), rtol=0, atol=atol, msg=name)


@pytest.fixture
def exactly(monkeypatch):
    """Give also the narrowest stacked networks about the widths that live."""
    monkeypatch.setattr(layout, "OVERHEAD", 1.0)
    monkeypatch.setattr(layout, "NARROWEST", 2)


# --- the same training


def engines(cases):
    """Return every case with each engine that has it."""
    return [
        (case, own)
        for case in cases
        for own in ("native",) * (case in NATIVE) + ("stacked",) * (case in DENSE) + ("single",)
    ]


def test_the_cases_of_each_engine_are_those_whose_networks_it_has():
    wirings = {case: network(case).wiring for case in CASES}
    assert {case for case, wiring in wirings.items() if wiring.dense} == DENSE
    native = {case for case, own in wirings.items() if why_not_native(own, "parameter", CPU) is None}
    assert native == NATIVE


# Whatever the network, an optimizer sees one tensor of weights after another: all of them train a dense, a
# normalised and a grouped network, and every network is trained by one.
OPTIMIZED = ("mlp", "resnet20", "grouped")


@pytest.mark.parametrize(
    ("case", "engine", "optimizer"),
    every(
        [
            (*own, optimizer)
            for own in engines([case for case in CASES if case not in DROPOUT])
            for optimizer in RECIPES
        ],
        default=lambda member: member[0] in OPTIMIZED or member[2] == "momentum",
    ),
)
@pytest.mark.usefixtures("exactly")
def test_a_network_without_its_dead_units_trains_as_the_whole_masked_one_does(case, engine, optimizer):
    """By a plain loop: logits, live parameters and running statistics at every step."""
    recipe = RECIPES[optimizer]
    nets = [network(case, seed) for seed in range(2)]
    wiring, data = nets[0].wiring, dataset(CASES[case][1])
    masks = np.stack([sparse(net, seed) for seed, net in enumerate(nets)])
    orders = [data_order(len(data.y_train), recipe, [seed]) for seed in range(2)]
    initial = [tensors_of(net) for net in nets]
    cohort = Cohort(wiring, masks, initial, device=CPU, dtype=torch.float64, engine=engine)
    nothing = fixed_groups(wiring) >= set(range(len(wiring.spec.groups)))
    assert all(bool(own.places) is not nothing for own in compactions(cohort))
    assert all(live(mask, net.spec).sum() > 0.3 * mask.sum() for mask, net in zip(masks, nets, strict=True))
    loops = [torch_loop(*own[:2], data, recipe, own[2]) for own in zip(nets, masks, orders, strict=True)]
    matter = [matters(*own) for own in zip(nets, masks, strict=True)]
    adaptive = recipe.optimizer.startswith("adam")  # which divides by gradients, small ones too
    skipped, atol = (normalised_away(wiring), 1e-9) if adaptive else ((), 1e-10)
    x = data.x_validation.double()
    steps = []

    def check(step):
        ours, logits = {**cohort.parameters(), **cohort.buffers()}, outputs(cohort, x)
        for i, loop in enumerate(loops):
            module, _ = next(loop)
            theirs = {**dict(module.named_parameters()), **dict(module.named_buffers())}
            same({name: own[i] for name, own in ours.items()}, theirs, matter[i], skipped, atol)
            theirs |= {name: ours[name][i] for name in skipped}
            wanted = torch.func.functional_call(module.eval(), theirs, (x,))
            torch.testing.assert_close(logits[i], wanted, rtol=0, atol=1e-10)
            module.train()
        steps.append(step)

    train(cohort, data, recipe, orders, after_step=check)
    assert steps == list(range(recipe.steps))


@pytest.mark.parametrize(("case", "engine"), engines(DROPOUT))
@pytest.mark.usefixtures("exactly")
def test_dropout_drops_the_same_of_what_is_left(case, engine, monkeypatch):
    """Beside an engine that leaves nothing out: noise is drawn for the whole network."""
    net, recipe = network(case), RECIPES["momentum"]
    data, masks = dataset(net.input_shape), np.stack([sparse(net, seed) for seed in range(3)])
    orders = [data_order(len(data.y_train), recipe, [seed]) for seed in range(3)]
    options = {"device": CPU, "dtype": torch.float64, "engine": engine}
    small = Cohort(net.wiring, masks, [tensors_of(net)], **options)
    monkeypatch.setattr(layout, "compacts", lambda wiring, masking: False)
    options["engine"] = "single" if engine == "native" else engine  # the native one always leaves them out
    large = Cohort(net.wiring, masks, [tensors_of(net)], **options)
    assert all(own.places for own in compactions(small))
    assert not any(own.places for own in compactions(large))
    matter = [matters(net, mask) for mask in masks]
    cohorts = small, large
    trainings = [Training(cohort, data, recipe, orders) for cohort in cohorts]
    for step in range(recipe.steps):
        for training in trainings:
            training.advance(step + 1)
        ours, theirs = ({**cohort.parameters(), **cohort.buffers()} for cohort in cohorts)
        for i in range(3):
            same(*({name: own[i] for name, own in each.items()} for each in (ours, theirs)), matter[i])
        torch.testing.assert_close(*(outputs(c, data.x_validation) for c in cohorts), rtol=0, atol=1e-10)


# --- what is left out


def small(hidden="4", scheme="kaiming_normal", features=3, **options):
    return initialize("mlp", dataset((features,)), scheme, hidden=hidden, **options)


def kept(net, mask, initial=None):
    """Return the numbers of the units that are kept of each group, by its name."""
    initial = tensors_of(net) if initial is None else initial
    spec = spec_for(net.wiring, initial)
    numbers = live_groups(mask, spec, fixed_groups(net.wiring), lambda sizes, alive: alive)
    return {group.name: own.tolist() for group, own in zip(spec.groups, numbers, strict=True)}


def narrowed(net, mask):
    spec = spec_for(net.wiring, tensors_of(net))
    return compact(net.wiring, live_groups(mask, spec, fixed_groups(net.wiring), lambda _, alive: alive))


@pytest.mark.parametrize("case", CASES)
def test_what_is_cut_out_of_a_tensor_goes_back_where_it_came_from(case):
    net = network(case)
    compaction = narrowed(net, sparse(net, 3))
    generator = torch.Generator().manual_seed(0)
    for name, like in tensors_of(net).items():
        tensor = torch.randn(like.shape, generator=generator)
        other = torch.randn(like.shape, generator=generator)
        before, cut = other.clone(), compaction.shrunk(name, tensor)
        found = compaction.scattered(name, cut, other)
        inside = torch.zeros(like.shape, dtype=torch.bool)
        places = compaction.places.get(name)
        inside[(...,) if places is None else np.ix_(*places)] = True
        assert torch.equal(cut.flatten(), tensor[inside])
        assert torch.equal(found, torch.where(inside, tensor, other))
        assert torch.equal(other, before)
        assert (cut is tensor) is (places is None)
        assert found is not cut


@pytest.mark.parametrize("case", CASES)
def test_every_tensor_of_a_compacted_network_has_the_widths_of_its_values(case):
    """The smaller network computes alone, by its own steps, what the whole masked one computes."""
    net = network(case)
    mask = sparse(net, 3)
    compaction = narrowed(net, mask)
    parts = {name: torch.from_numpy(part.copy()) for name, part in net.spec.split(mask).items()}
    tensors = {name: own.double() * parts.get(name, 1) for name, own in tensors_of(net).items()}
    own = {name: compaction.shrunk(name, tensor) for name, tensor in tensors.items()}
    x = dataset(net.input_shape).x_test.double()
    torch.testing.assert_close(
        compaction.compacted.forward(own, x), net.wiring.forward(tensors, x), rtol=0, atol=1e-12
    )
    assert [step.shape[0] for step in compaction.steps] == [len(f) for f in compaction.features]
    assert compaction.compacted.spec is net.spec


@pytest.mark.parametrize("case", CASES)
def test_inputs_and_outputs_are_whole_and_no_value_is_empty(case):
    """Also where a mask keeps nothing; what is kept are numbers in ascending order."""
    net = network(case)
    for mask in (np.zeros(net.spec.size, dtype=bool), sparse(net, 1), np.ones(net.spec.size, dtype=bool)):
        compaction = narrowed(net, mask)
        for step, numbers in zip(net.wiring.steps, compaction.features, strict=True):
            assert 1 <= len(numbers) <= step.shape[0]
            assert (np.diff(numbers) > 0).all()
        assert len(compaction.features[0]) == net.wiring.steps[0].shape[0]
        assert len(compaction.features[-1]) == net.classes
    assert not compaction.places  # of the last, which keeps all


def test_an_empty_mask_leaves_one_unit_of_each_hidden_layer_and_trains():
    net = small("4,5")
    empty = np.zeros(net.spec.size, dtype=bool)
    assert {name: len(own) for name, own in kept(net, empty).items()} == {
        **{"input": 3, "1": 1, "3": 1, "output": 3}
    }
    recipe, data = RECIPES["momentum"], dataset((3,))
    cohort = Cohort(net.wiring, empty[None], [tensors_of(net)], device=CPU, engine="single")
    train(cohort, data, recipe, [data_order(len(data.y_train), recipe, [0])])
    logits = outputs(cohort, data.x_validation)[0]
    assert torch.equal(logits, cohort.parameters()["5.bias"][0].expand_as(logits))
    assert logits.any()


def fed_and_not(net):
    """Return a mask that keeps all but what feeds unit 1 of the first hidden layer."""
    mask = np.ones(net.spec.size, dtype=bool)
    next(iter(net.spec.split(mask).values()))[1] = False
    return mask


def test_a_unit_that_a_bias_keeps_alive_stays_and_one_whose_bias_is_zero_goes():
    for scheme, units in (("kaiming_normal", [0, 2, 3]), ("as_built", [0, 1, 2, 3])):
        net = small(scheme=scheme)
        assert kept(net, fed_and_not(net))["1"] == units
    for activation, units in (("sigmoid", [0, 1, 2, 3]), ("gelu", [0, 1, 2, 3]), ("relu", [0, 2, 3])):
        net = small(activation=activation)
        assert kept(net, fed_and_not(net))["1"] == units
    for activation, units in (("sigmoid", [0, 1, 2, 3]), ("gelu", [0, 2, 3])):
        net = small(activation=activation, bias=False)
        assert kept(net, fed_and_not(net))["1"] == units


@pytest.mark.parametrize("traced", ["kaiming_normal", "as_built"])
@pytest.mark.parametrize("engine", ["native", "stacked", "single"])
@pytest.mark.usefixtures("exactly")
def test_the_initialization_decides_which_units_are_dead_not_the_module_that_was_traced(traced, engine):
    """Two networks of one cohort, one with biases and one without, by the wiring of either."""
    nets = [small("6", scheme) for scheme in ("kaiming_normal", "as_built")]
    wiring = next(net.wiring for net in nets if net.initialization.scheme == traced)
    initial = [tensors_of(net) for net in nets]
    assert [spec_for(wiring, own) == wiring.spec for own in initial] == [net.wiring is wiring for net in nets]
    masks = np.stack([fed_and_not(nets[0])] * 2)
    cohort = Cohort(wiring, masks, initial, device=CPU, dtype=torch.float64, engine=engine)
    assert [len(own.features[1]) for own in compactions(cohort)] == [5, 6]
    recipe, data = RECIPES["momentum"], dataset((3,))
    order = data_order(len(data.y_train), recipe, [0])
    train(cohort, data, recipe, [order])
    found = cohort.parameters()
    for i, net in enumerate(nets):
        *_, (module, _) = torch_loop(net, masks[i], data, recipe, order)
        ours = {name: own[i] for name, own in found.items()}
        same(ours, dict(module.named_parameters()), matters(net, masks[i]))
    assert found["1.bias"][0, 1] == 0 != found["1.bias"][1, 1]


def test_a_slope_that_begins_at_zero_passes_gradients_once_it_has_learned():
    """One slope for all units: the others teach it, and a unit that nothing feeds then gets a gradient."""

    def build(shape, classes):
        return nn.Sequential(nn.Linear(*shape, 4), nn.PReLU(init=0.0), nn.Linear(4, classes))

    data, recipe = dataset((3,)), RECIPES["momentum"]
    net = initialize(build, data)
    mask, order = fed_and_not(net), data_order(len(data.y_train), recipe, [0])
    cohort = Cohort(net.wiring, mask[None], [tensors_of(net)], device=CPU, dtype=torch.float64)
    train(cohort, data, recipe, [order])
    *_, (module, _) = torch_loop(net, mask, data, recipe, order)
    assert module.get_parameter("0.bias")[1] != 0
    for name, wanted in module.named_parameters():
        torch.testing.assert_close(cohort.parameters()[name][0], wanted, rtol=0, atol=1e-10)


def test_the_first_dead_units_fill_a_group_up():
    net = small("6")
    mask = np.ones(net.spec.size, dtype=bool)
    net.spec.split(mask)["1.weight"][[0, 2, 3]] = False
    for number, units in ((3, [1, 4, 5]), (4, [0, 1, 4, 5]), (5, [0, 1, 2, 4, 5]), (6, [0, 1, 2, 3, 4, 5])):
        widths = []

        def wanted(sizes, alive, widths=widths, number=number):
            widths.append((sizes, alive))
            return [number if size == 6 else size for size in sizes]

        numbers = live_groups(mask, net.spec, fixed_groups(net.wiring), wanted)
        assert [own.tolist() for own in numbers] == [[0, 1, 2], units, [0, 1, 2]]
        assert widths == [((3, 6, 3), (3, 3, 3))]


def test_a_depthwise_convolution_has_as_many_groups_as_it_has_channels_left():
    net = network("depthwise")
    mask = np.ones(net.spec.size, dtype=bool)
    parts = net.spec.split(mask)
    parts["stem.weight"][[0, 4]] = False
    parts["middle.weight"][1] = False
    compaction = narrowed(net, mask)
    step = next(step for step in compaction.steps if step.names[:1] == ("middle.weight",))
    # Channel 1 has a bias, but relu6 passes nothing at 0.
    assert (step.function.groups, step.shape) == (3, (3, 8, 8))
    assert compaction.places["middle.weight"][0].tolist() == [2, 3, 5]
    assert compaction.shrunk("middle.weight", torch.zeros(6, 1, 3, 3)).shape == (3, 1, 3, 3)
    assert compaction.shrunk("out.weight", torch.zeros(5, 6, 1, 1)).shape == (5, 3, 1, 1)
    whole_step = next(step for step in net.wiring.steps if step.names[:1] == ("middle.weight",))
    assert whole_step.function.groups == 6


def group_names(net, numbers):
    return {net.spec.groups[index].name for index in numbers}


def test_what_grouped_convolutions_divide_and_what_is_normalised_over_its_units_is_whole():
    for case in ("grouped", "two a channel"):
        net = network(case)
        hidden = group_names(net, net.spec.hidden)
        assert hidden - group_names(net, fixed_groups(net.wiring)) == {"out"}
        mask = np.ones(net.spec.size, dtype=bool)
        net.spec.split(mask)["stem.weight"][[0, 4]] = False
        net.spec.split(mask)["out.weight"][1] = False
        compaction = narrowed(net, mask)
        assert set(compaction.places) == {"out.weight", "out.bias", "head.weight"}
    net = network("layer normalisation")
    assert group_names(net, fixed_groups(net.wiring)) == {"input", "first", "output"}
    net = network("depthwise")
    assert group_names(net, fixed_groups(net.wiring)) == {"input", "output"}


def test_all_is_kept_of_a_whole_network_and_of_one_whose_groups_are_declared():
    net = network("resnet20")
    compaction = whole(net.wiring)
    assert not compaction.places
    assert [len(own) for own in compaction.features] == [step.shape[0] for step in net.wiring.steps]
    wiring = dataclasses.replace(net.wiring, steps=())
    assert (whole(wiring).features, whole(wiring).steps, dict(whole(wiring).places)) == ((), (), {})


# --- layouts


@cache
def wide():
    """A dataset of 784 features in 10 classes, 360 samples to train on."""
    rng = np.random.default_rng(0)
    return from_arrays("wide", rng.normal(size=(600, 784)), np.arange(600) % 10)


@cache
def lenet():
    return initialize("mlp", wide(), hidden="120,60")


DENSITIES = (*[0.3] * 3, 0.1, 0.05, *[0.02] * 3, *[0.01] * 3, *[0.005] * 3)


def mixed(net, densities=DENSITIES, seed=0):
    rng = np.random.default_rng(seed)
    return np.stack([rng.random(net.spec.size) < density for density in densities])


def widths(found):
    """Return for each mask how many units of each group its layout keeps."""
    return {
        mask: tuple(len(own) for own in compaction.features)
        for each in found
        for mask, compaction in zip(each.masks, each.compactions, strict=True)
    }


@settings(max_examples=examples(25), deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), densities=st.lists(st.floats(0.001, 0.5), min_size=1, max_size=6))
def test_a_layout_follows_from_the_masks_own_live_size(seed, densities):
    """In any company and order, and whichever units live; at least as wide as they, at most as all."""
    net, rng = lenet(), np.random.default_rng(seed)
    masks = mixed(net, densities, seed)
    options = {"masking": "parameter", "stacked": True}
    together = layouts(net.wiring, masks, [net.parameters()], **options)
    assert sorted(mask for own in together for mask in own.masks) == list(range(len(masks)))
    own = widths(together)
    order = rng.permutation(len(masks))
    moved = widths(layouts(net.wiring, masks[order], [net.parameters()], **options))
    renumbered = np.stack([networks.shuffled(mask, net.spec, rng) for mask in masks])
    alike = widths(layouts(net.wiring, renumbered, [net.parameters()], **options))
    for place, number in enumerate(order):
        alone = layouts(net.wiring, masks[number][None], [net.parameters()], **options)
        assert moved[place] == own[number] == alike[number] == widths(alone)[0]
    for each in together:
        assert {own[mask] for mask in each.masks} == {own[each.masks[0]]}
        for mask, compaction in zip(each.masks, each.compactions, strict=True):
            live_ones = live_units(masks[mask], net.spec)
            for group, step in (("1", 1), ("3", 3)):
                numbers, alive = compaction.features[step], np.flatnonzero(live_ones[group])
                assert set(alive) <= set(numbers.tolist())
                assert len(alive) <= len(numbers) <= len(live_ones[group])


def test_layouts_that_are_not_stacked_are_exactly_what_lives():
    """But for one unit of each group, where none lives."""
    net = lenet()
    masks = mixed(net)
    for each in layouts(net.wiring, masks, [net.parameters()], masking="parameter", stacked=False):
        for mask, compaction in zip(each.masks, each.compactions, strict=True):
            units = live_units(masks[mask], net.spec)
            for group, step in (("1", 1), ("3", 3)):
                alive = np.flatnonzero(units[group]).tolist()
                assert compaction.features[step].tolist() == (alive or [0])


def test_widths_are_rounded_up_so_that_many_masks_have_them_in_common():
    net = lenet()
    masks = mixed(net, [0.01] * 12)
    exact, rounded = (
        layouts(net.wiring, masks, [net.parameters()], masking="parameter", stacked=stacked)
        for stacked in (False, True)
    )
    assert len(rounded) < len(exact)
    assert sum(map(sum, widths(rounded).values())) < 12 * 2 * sum((784, 120, 60))


def test_networks_that_cost_nothing_are_stacked_whole():
    net = small("9")
    masks = masks_for(net, 5, density=0.2)
    (only,) = layouts(net.wiring, masks, [net.parameters()], masking="parameter", stacked=True)
    assert only.masks == list(range(5))
    assert not any(own.places for own in only.compactions)


@pytest.mark.parametrize("masking", ["gradient", "forward"])
def test_under_other_maskings_than_the_parameters_networks_are_trained_whole(masking):
    net = lenet()
    (only,) = layouts(net.wiring, mixed(net), [net.parameters()], masking=masking, stacked=True)
    assert only.masks == list(range(len(DENSITIES)))
    assert not any(own.places for own in only.compactions)


def test_what_keeps_networks_whole_is_said():
    net, declared = lenet(), dataclasses.replace(lenet().wiring, steps=())
    assert why_not_compacted(net.wiring, "parameter") is None
    assert compaction_notes(net.wiring, "parameter") == []
    for masking, reason in (
        ("gradient", "under masking 'gradient' the forward pass is that of the whole network"),
        ("forward", "under masking 'forward' weights that the mask does not keep learn too"),
    ):
        assert why_not_compacted(net.wiring, masking) == reason
        assert compaction_notes(net.wiring, masking) == [f"Networks are trained whole: {reason}."]
    assert "declared by hand" in why_not_compacted(declared, "parameter")
    (line,) = compaction_notes(network("layer normalisation").wiring, "parameter")
    assert line.startswith("Trained whole: first, which are normalised over their units or divided by")


@settings(max_examples=examples(30), deadline=None, derandomize=True)
@given(
    number=st.integers(1, 9),
    workers=st.integers(1, 9),
    most=st.integers(1, 9),
    seed=st.integers(0, 2**32 - 1),
)
def test_programs_hold_every_mask_once_and_share_the_work_among_all_workers(number, workers, most, seed):
    """The longest first, and none of several masks much longer than half of a worker's share."""
    net, rng = lenet(), np.random.default_rng(seed)
    masks = mixed(net, rng.choice([0.3, 0.01], number), seed)
    arguments = net.wiring, masks, [net.parameters()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "WEIGHTS", most * net.spec.size)
        patch.setattr(layout, "engine_for", lambda *_: "stacked")
        found = batches(*arguments, masking="parameter", device=CPU, workers=workers)
        each = layouts(*arguments, masking="parameter", stacked=True)
        limits = {mask: networks_at_once(own, CPU) for own in each for mask in own.masks}
    weights = {name: net.parameters()[name] for name in net.spec.split(masks[0])}
    costs, own = {}, {}
    for place, one in enumerate(each):
        for mask, compaction in zip(one.masks, one.compactions, strict=True):
            costs[mask] = sum(compaction.shrunk(*weight).numel() for weight in weights.items())
            own[mask] = place
    work = [sum(costs[mask] for mask in program) for program in found]
    assert work == sorted(work, reverse=True)
    share = sum(work) / workers
    assert sorted(mask for program in found for mask in program) == list(range(number))
    assert len(found) >= min(number, workers)
    for program in found:
        assert 1 <= len(program) <= limits[program[0]]
        assert len({own[mask] for mask in program}) == 1
        if workers > 1:
            assert (len(program) - 1) * costs[program[0]] <= share / 2


def test_a_program_takes_as_many_networks_as_there_is_room_for_their_weights(monkeypatch):
    net = small("8,6")
    full, empty = whole(net.wiring), narrowed(net, np.zeros(net.spec.size, dtype=bool))
    for room, many, more in ((1, 1, 1), (90, 1, 12), (179, 1, 25), (180, 2, 25), (900, 10, 128)):
        monkeypatch.setattr(layout, "WEIGHTS", room)
        assert networks_at_once(Layout([0], [full]), CPU) == many  # of 3 x 8 + 8 x 6 + 6 x 3 weights
        assert networks_at_once(Layout([0], [empty]), CPU) == more  # of 3 + 1 + 3


def test_convolutional_networks_are_a_program_each():
    net = network("conv2")
    masks = masks_for(net, 5)
    found = batches(net.wiring, masks, [tensors_of(net)], masking="parameter", device=CPU)
    assert sorted(found) == [[0], [1], [2], [3], [4]]


# --- the same bits in any company


class Trained(NamedTuple):
    loss: np.ndarray
    parameters: dict[str, torch.Tensor]
    sizes: list[int]


def trained(net, data, masks, recipe, orders, initial=None, dtype=torch.float32, engine=None):
    initial = [tensors_of(net)] if initial is None else initial
    cohort = Cohort(
        net.wiring, masks, initial, device=CPU, dtype=dtype, masking=recipe.masking, engine=engine
    )
    train(cohort, data, recipe, orders)
    found = evaluate(cohort, data.x_validation, data.y_validation)
    return Trained(found.loss, cohort.parameters(), [part.size for part in cohort.parts])


def identical(found, wanted, numbers):
    """Check that networks have to the bit what those of these numbers have in another cohort."""
    assert np.isfinite(found.loss).all()
    assert np.array_equal(found.loss, wanted.loss[numbers])
    for name, own in found.parameters.items():
        assert torch.equal(own, wanted.parameters[name][numbers]), name


COMPANIES = [
    *((128, True, "stacked"), (45, False, "stacked"), (77, True, "stacked")),
    *((77, True, "native"), (45, False, "native")),
]


@pytest.mark.parametrize(
    ("batch", "shared", "engine", "optimizer", "dtype"),
    every(
        [
            (*company, *own)
            for company in COMPANIES
            for own in itertools.product(("sgd", "adamw"), (torch.float32, torch.float64))
        ],
        default=lambda member: member[3:] == ("sgd", torch.float32) or member[:3] == (77, True, "native"),
    ),
)
def test_a_mask_trains_to_the_same_bits_alone_and_in_any_company(
    batch, shared, engine, optimizer, dtype, monkeypatch
):
    """Masks of several layouts; not shared are the initialization and the data order."""
    net, data = lenet(), wide()
    recipe = Recipe(4, batch, optimizer, lr=0.02, weight_decay=1e-3)
    masks = mixed(net)
    copies = 1 if shared else len(masks)
    initial = [net.reinitialized("kaiming_normal", seed).parameters() for seed in range(copies)]
    orders = [data_order(len(data.y_train), recipe, [seed]) for seed in range(copies)]

    def company(numbers):
        def own(values):
            return values if shared else [values[number] for number in numbers]

        return trained(net, data, masks[numbers], recipe, own(orders), own(initial), dtype, engine)

    everyone = np.arange(len(masks))
    together = company(everyone)
    assert (len(together.sizes) > 3) == (engine == "stacked")
    assert max(together.sizes) > 2
    assert len(set(together.loss)) == len(masks)
    for number in everyone:
        identical(company(everyone[number : number + 1]), together, everyone[number : number + 1])
    order = np.random.default_rng(1).permutation(everyone)
    for numbers in (order, order[:5], np.repeat(order[:3], 4)):
        identical(company(numbers), together, numbers)
    for weights in (1, 40_000) if engine == "stacked" else ():
        monkeypatch.setattr(layout, "WEIGHTS", weights)
        found = company(everyone)
        assert found.sizes != together.sizes
        identical(found, together, everyone)
    monkeypatch.setattr(products, "_same_alone", lambda *_: False)
    identical(company(everyone), together, everyone)


def mapped(features, classes):
    """The samples are mapped before a narrow layer reads them."""
    return nn.Sequential(nn.Tanh(), nn.Linear(features, 3), nn.Tanh(), nn.Linear(3, classes))


def through_one_unit(features, classes):
    layers = nn.Linear(features, 12), nn.Tanh(), nn.Linear(12, 1), nn.Tanh(), nn.Linear(1, 45), nn.Tanh()
    return nn.Sequential(*layers, nn.Linear(45, classes))


NARROW = {
    "samples that are mapped": mapped,
    "one unit": through_one_unit,
    "parts": Parts,
    "a stream": Stream,
}


@pytest.mark.parametrize("features", [7, 101, 555])
@pytest.mark.parametrize("module", NARROW)
def test_bits_are_the_same_in_any_company_however_odd_a_dense_network_is(module, features):
    rng = np.random.default_rng(0)
    data = from_arrays("odd", rng.normal(size=(300, features)), np.arange(300) % 3)
    net, recipe = initialize(lambda s, c: NARROW[module](*s, c), data), Recipe(3, 64)
    assert net.wiring.dense
    masks, orders = masks_for(net, 15, density=0.8), [data_order(len(data.y_train), recipe, [0])]
    together = trained(net, data, masks, recipe, orders)
    for number in range(15):
        alone = trained(net, data, masks[number : number + 1], recipe, orders)
        identical(alone, together, np.array([number]))


@pytest.mark.parametrize("shape", [(2, 1, 64, 64), (5, 1, 64, 64), (16, 2, 24, 64), (3, 56, 104, 128)])
def test_a_product_that_gives_other_bits_in_company_is_found_out_though_rounding_hides_it(shape):
    """Of random numbers bfloat16 shows the order of a sum in one product of a hundred."""
    size, units, inputs, samples = shape
    generator = torch.Generator().manual_seed(1)

    def draw(*shape):
        return torch.randn(shape, generator=generator).bfloat16()

    def differs():
        weight, bias, x = draw(size, units, inputs), draw(size, units), draw(size, inputs, samples)
        alone = [products._together(weight[i, None], bias[i, None], x[i, None]) for i in range(size)]
        return not torch.equal(products._together(weight, bias, x), torch.cat(alone))

    products._same_alone.cache_clear()
    accepted = products._same_alone(products.Shape(*shape, False, True, True, torch.bfloat16, CPU))
    assert not (accepted and any(differs() for _ in range(400)))


@pytest.mark.parametrize("hidden", ["3", "120,60"])
def test_bits_are_the_same_where_training_and_evaluation_have_unlike_precisions(hidden):
    """A batch as long as the validation part: products of one shape, summed in another order each."""
    data = wide()
    net, recipe = initialize("mlp", data, hidden=hidden), Recipe(3, 120, precision="bfloat16")
    masks, orders = masks_for(net, 3), [data_order(len(data.y_train), recipe, [0])]
    products._same_alone.cache_clear()
    together = trained(net, data, masks, recipe, orders, engine="stacked")
    for number in range(3):
        alone = trained(net, data, masks[number : number + 1], recipe, orders, engine="stacked")
        identical(alone, together, np.array([number]))


# --- precision


@pytest.mark.parametrize("model", ["dense", "convolutions"])
def test_bfloat16_trains_about_as_float32_does(model, digits):
    net = (
        initialize("mlp", digits, hidden="30") if model == "dense" else initialize("conv2", digits, width=0.1)
    )
    masks, losses = masks_for(net, 3, density=0.5), {}
    for precision in ("float32", "bfloat16"):
        recipe = Recipe(40, 64, lr=0.05, precision=precision)
        order = data_order(len(digits.y_train), recipe, [0])
        cohort = Cohort(net.wiring, masks, [tensors_of(net)], device=CPU, precision=precision)
        before = evaluate(cohort, digits.x_validation, digits.y_validation)
        train(cohort, digits, recipe, [order])
        after = evaluate(cohort, digits.x_validation, digits.y_validation)
        assert (after.loss < 0.7 * before.loss).all()
        assert {own.dtype for own in cohort.parameters().values()} == {torch.float32}
        losses[precision] = after.loss
    assert (losses["bfloat16"] != losses["float32"]).all()
    np.testing.assert_allclose(losses["bfloat16"], losses["float32"], rtol=0.05)


def test_an_unknown_precision_is_refused_and_one_beside_float64_too(tiny):
    message = refusal(Recipe, precision="bfloat")
    assert message.startswith("unknown precision 'bfloat' (did you mean 'bfloat16'?)")
    net = initialize("mlp", tiny, hidden="5")
    options = {"batch": 16, "device": "cpu", "dtype": "float64"}
    refused(lambda: short_training(net, tiny, precision="bfloat16", **options), "'bfloat16'", "float64")
    short_training(net, tiny, precision="float32", **options)


# --- on a CUDA device


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("model", ["dense", "convolutions"])
def test_cuda_and_cpu_find_the_same_loss_without_dead_units(model, digits, monkeypatch):
    net = (
        initialize("mlp", digits, hidden="200,100")
        if model == "dense"
        else initialize("conv2", digits, width=0.2)
    )
    masks, recipe = mixed(net, [0.3, 0.1, 0.05, 0.05, 0.02]), Recipe(20, 128, lr=0.02)
    order, losses, replays = data_order(len(digits.y_train), recipe, [0]), [], []
    replay = torch.cuda.CUDAGraph.replay
    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", lambda graph: replays.append(graph) or replay(graph))
    for device in (CPU, torch.device("cuda")):
        cohort = Cohort(net.wiring, masks, [tensors_of(net)], device=device)
        assert all(own.places for own in compactions(cohort)[1:])
        with reproducible():
            train(cohort, digits, recipe, [order])
            losses.append(evaluate(cohort, digits.x_validation, digits.y_validation).loss)
    np.testing.assert_allclose(*losses, rtol=1e-3)
    assert len(replays) == (recipe.steps - 3) * len(cohort.parts)
