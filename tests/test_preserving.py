"""Flow-preserving pruning: the best flow against all masks there are, and live units in every layer."""

import itertools
import math
from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import data, every, examples, refusal
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ticketsearch.masks import live_units
from ticketsearch.models import initialize
from ticketsearch.pruners import prune
from ticketsearch.pruners.flow_preserving import flow_slopes, log_flow, unit_flows
from ticketsearch.pruners.retention import best_flow, flow_retention

pytestmark = pytest.mark.slow

IMAGE = (3, 8, 8)


def chain(*widths, seed=0, scheme="kaiming_normal", **options):
    hidden = ",".join(map(str, widths[1:-1]))
    return initialize(f"mlp:{hidden}", data(widths[0], classes=widths[-1]), scheme, seed, **options)


class Shortcut(nn.Module):
    """stem, then h + up(down(h)), then head."""

    def __init__(self, features, classes):
        super().__init__()
        self.stem = nn.Linear(features, 2)
        self.down = nn.Linear(2, 1)
        self.up = nn.Linear(1, 2)
        self.head = nn.Linear(2, classes)

    def forward(self, x):
        h = torch.relu(self.stem(x))
        return self.head(h + self.up(torch.relu(self.down(h))))


class Pooled(nn.Module):
    """A convolution, pooling of two positions by their maximum or mean, and a Linear layer."""

    def __init__(self, classes, pool, norm):
        super().__init__()
        self.conv = nn.Conv1d(1, 2, 2)
        self.norm = nn.BatchNorm1d(2) if norm else nn.Identity()
        self.pool = pool
        self.head = nn.Linear(4, classes)

    def forward(self, x):
        return self.head(self.pool(torch.relu(self.norm(self.conv(x)))).flatten(1))


class Grouped(nn.Module):
    """Convolutions in two groups and of each channel by itself, side by side with what came in."""

    def __init__(self, classes):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3)
        self.grouped = nn.Conv2d(6, 8, 3, groups=2)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.mix = nn.Conv2d(8, 5, 1)
        self.head = nn.Linear(13, classes)

    def forward(self, x):
        h = torch.relu(self.depthwise(torch.relu(self.grouped(torch.relu(self.stem(x))))))
        return self.head(torch.cat((h, torch.relu(self.mix(h))), 1).mean((2, 3)))


def shortcut(input_shape, classes):
    return Shortcut(input_shape[0], classes)


def maximum(input_shape, classes):
    return Pooled(classes, nn.MaxPool1d(2), False)


def mean(input_shape, classes):
    return Pooled(classes, nn.AvgPool1d(2), True)


def grouped(input_shape, classes):
    return Grouped(classes)


# Every mask of a tiny network


def weights_of(net):
    """Return all masks ``(2 ** weights, weights)`` and |θ| ⊙ mask of each layer, in double precision."""
    masks = np.array(list(itertools.product((False, True), repeat=net.spec.size)))
    parts = {name: torch.from_numpy(part.copy()) for name, part in net.spec.split(masks).items()}
    return masks, [net.parameters()[name].double().abs() * part for name, part in parts.items()]


def of_chain(net, ones, layers):
    for weight in layers:
        ones = (weight @ ones[..., None])[..., 0]
    return ones.sum(-1)


def of_shortcut(net, ones, layers):
    stem, down, up, head = (weight.double() for weight in layers)
    h = (stem @ ones[..., None])[..., 0]
    h = h + (up @ (down @ h[..., None]))[..., 0]
    return (head @ h[..., None]).sum((-1, -2))


def of_pooled(net, ones, layers):
    flows = []
    for conv, head in zip(*layers, strict=True):
        h = F.conv1d(ones, conv)
        if net.name == "mean":
            scale = net.parameters()["norm.weight"].double().abs()
            h = h * (scale / (net.buffers()["norm.running_var"].double() + 1e-5).sqrt())[:, None]
        pool = F.max_pool1d if net.name == "maximum" else F.avg_pool1d
        flows.append((pool(h, 2).flatten() @ head.T).sum())
    return torch.stack(flows)


@cache
def every_flow(kind, seed):
    """Return a tiny network, all its masks, and R of each, with no code of the pruners."""
    build, through = TINY[kind]
    net = build(seed)
    masks, layers = weights_of(net)
    lead = () if through is of_pooled else (1,)
    ones = torch.ones(*lead, *net.input_shape, dtype=torch.float64)
    if through is of_chain:
        ones = ones.expand(len(masks), -1)
    return net, masks, through(net, ones, layers).numpy()


TINY = {
    "2-2-2": (lambda seed: chain(2, 2, 2, seed=seed), of_chain),
    "3-2-2 of constants": (lambda seed: chain(3, 2, 2, seed=seed, scheme="signed_constant"), of_chain),
    "2-3-2 of few weights": (lambda seed: chain(2, 3, 2, seed=seed, scheme="sparse"), of_chain),
    "1-4-2": (lambda seed: chain(1, 4, 2, seed=seed, activation="tanh"), of_chain),
    "2-2-2-2": (lambda seed: chain(2, 2, 2, 2, seed=seed), of_chain),
    "3-2-1-2": (lambda seed: chain(3, 2, 1, 2, seed=seed), of_chain),
    "2-1-2-1-2": (lambda seed: chain(2, 1, 2, 1, 2, seed=seed), of_chain),
    "constants": (lambda seed: chain(2, 2, 2, 2, seed=seed, scheme="signed_constant"), of_chain),
    "shortcut": (lambda seed: initialize(shortcut, data(2, classes=2), seed=seed), of_shortcut),
    "maximum": (lambda seed: initialize(maximum, data(1, 5, classes=2), seed=seed), of_pooled),
    "mean": (lambda seed: initialize(mean, data(1, 5, classes=2), seed=seed), of_pooled),
}
EXACT = ["2-2-2", "3-2-2 of constants", "2-3-2 of few weights", "1-4-2"]
BOUND = ["2-2-2-2", "3-2-1-2", "2-1-2-1-2", "constants", "mean"]
SEARCH = ["shortcut", "maximum"]


def best_of_all(masks, flows, count):
    return flows[masks.sum(1) == count].max()


@pytest.mark.parametrize("seed", every([0, 1, 2], default=[0]))
@pytest.mark.parametrize("kind", TINY)
def test_the_flow_of_a_mask_is_that_of_the_definition(kind, seed):
    net, masks, flows = every_flow(kind, seed)
    for index in np.random.default_rng(seed).choice(len(masks), 60, replace=False):
        found = 2.0 ** log_flow(net, masks[index])
        assert found == pytest.approx(flows[index], rel=1e-12, abs=0)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("kind", EXACT)
def test_with_one_hidden_layer_the_best_flow_is_that_of_trying_all_masks(kind, seed):
    net, masks, flows = every_flow(kind, seed)
    for count in range(net.spec.size + 1):
        optimum, how = best_flow(net, count)
        assert how == "exact"
        assert 2.0**optimum == pytest.approx(best_of_all(masks, flows, count), rel=1e-12, abs=0)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("kind", BOUND)
def test_with_more_layers_no_mask_has_more_flow_than_the_bound(kind, seed):
    net, masks, flows = every_flow(kind, seed)
    for count in range(net.spec.size + 1):
        optimum, how = best_flow(net, count)
        assert how == "bound"
        assert 2.0**optimum >= best_of_all(masks, flows, count) * (1 - 1e-12)
    assert 2.0**optimum == pytest.approx(flows[-1], rel=1e-12)  # all weights hold all flow


@pytest.mark.parametrize("seed", every([0, 1, 2], default=[0]))
@pytest.mark.parametrize("kind", SEARCH)
def test_where_nothing_else_is_known_the_best_that_a_search_finds_stands_for_the_best(kind, seed):
    net, masks, flows = every_flow(kind, seed)
    shares = []
    for count in range(4, net.spec.size + 1, 2):
        optimum, how = best_flow(net, count)
        assert how == "search"
        shares.append(2.0**optimum / best_of_all(masks, flows, count))
    assert max(shares) <= 1 + 1e-12
    assert min(shares) > 0.7
    assert np.mean(shares) > 0.9


@pytest.mark.parametrize("kind", TINY)
def test_retention_is_the_share_of_the_best_flow(kind):
    net, masks, flows = every_flow(kind, 0)
    counts = masks.sum(1)
    best_masks = [np.argmax(np.where(counts == count, flows, -1)) for count in range(net.spec.size + 1)]
    some = np.random.default_rng(1).choice(len(masks), 8, replace=False)
    for index in (*some, *best_masks[:: 3 if kind in SEARCH else 1]):
        found = flow_retention(masks[index], net)
        best = best_of_all(masks, flows, counts[index])
        share = flows[index] / best if best > 0 else 0.0
        assert 0 <= found.value <= 1
        assert found.kind == ("exact" if kind in EXACT else "bound" if kind in BOUND else "search")
        if found.kind == "exact":
            assert found.value == pytest.approx(share, rel=1e-11, abs=0)
        elif found.kind == "bound":
            assert found.value <= share * (1 + 1e-11)
        else:
            assert found.value >= share * (1 - 1e-11)
        assert found.value == 0 or found.flow - found.optimum == pytest.approx(
            math.log2(found.value), abs=1e-9
        )
        assert (found.flow == -math.inf) == (flows[index] == 0)


@pytest.mark.filterwarnings("ignore::ticketsearch.pruners.EqualScoresWarning")
@settings(max_examples=examples(40), deadline=None, derandomize=True)
@given(
    st.sampled_from(["7-5-3", "7-6-5-3", "convolutions"]),
    st.sampled_from(["kaiming_normal", "signed_constant", "orthogonal"]),
    st.integers(0, 5),
    st.floats(0, 1),
    st.booleans(),
)
def test_retention_lies_between_nothing_and_all(kind, scheme, seed, share, pruned):
    """Also of masks that are the best there are, where rounding might carry it past 1."""
    widths = [int(number) for number in kind.split("-") if number.isdecimal()]
    net = chain(*widths, seed=seed, scheme=scheme) if widths else averaged(scheme, seed)
    if pruned and share * net.spec.size > len(net.spec.layers):
        mask = prune(net, "flow_preserving", density=share, floor=0, rounds=5, tries=2)
    else:
        mask = np.random.default_rng(seed).random(net.spec.size) < share
    assert 0 <= flow_retention(mask, net).value <= 1
    assert flow_retention(np.ones(net.spec.size, dtype=bool), net).value == pytest.approx(1, rel=1e-12)


def averaged(scheme, seed):
    def factory(input_shape, classes):
        return nn.Sequential(
            *(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(4, 3, 2), nn.Flatten()),
            nn.Linear(12, classes),
        )

    return initialize(factory, data(*IMAGE), scheme, seed)


def test_a_mask_of_another_shape_is_refused():
    refusal(flow_retention, np.ones(5, dtype=bool), chain(2, 2, 2))


# Live units


NETWORKS = {
    "mlp": lambda seed: chain(10, 12, 9, 8, 3, seed=seed),
    "convolutions": lambda seed: initialize("lenet5", data(1, 12, 12), seed=seed, width=0.3),
    "resnet20": lambda seed: initialize("resnet20", data(*IMAGE), seed=seed, width=1 / 4, depth=8),
    "grouped": lambda seed: initialize(grouped, data(*IMAGE), seed=seed),
}
QUICK = {"rounds": 4, "tries": 2}


def live_hidden(net, mask):
    """Return which units of each hidden group kept weights alone keep live."""
    units = live_units(mask, net.spec, constants=False)
    return [units[net.spec.groups[group].name] for group in net.spec.hidden]


@pytest.mark.parametrize(
    ("kind", "floor"),
    every(
        list(itertools.product(NETWORKS, (1, 2, 4))),
        default=lambda member: member in (("mlp", 1), ("mlp", 4), ("grouped", 2)),
    ),
)
def test_every_hidden_group_keeps_the_floor_of_live_units(kind, floor):
    for seed, density in ((0, 0.2), (1, 0.5)):
        net = NETWORKS[kind](seed)
        mask = prune(net, "flow_preserving", density=density, floor=floor, **QUICK)
        assert mask.sum() == round(density * net.spec.size)
        for units in live_hidden(net, mask):
            assert units.sum() >= min(floor, len(units))


@pytest.mark.parametrize("kind", every(NETWORKS, default=["mlp"]))
def test_the_floor_holds_at_the_fewest_weights_that_fit_it(kind):
    """The refusal says how many weights a floor needs; with that many it is kept, with one less refused."""
    net = NETWORKS[kind](0)
    for floor in (2, 3):
        message = floor_refused(net, len(net.spec.layers), floor)
        needed = int(message.split("need ")[1].split()[0])
        assert f"but {needed - 1} are kept; lower floor" in floor_refused(net, needed - 1, floor)
        mask = prune(net, "flow_preserving", density=needed / net.spec.size, floor=floor, **QUICK)
        assert mask.sum() == needed
        for units in live_hidden(net, mask):
            assert units.sum() >= min(floor, len(units))


def floor_refused(net, count, floor):
    """Return the refusal to keep so many live units with so few weights."""
    density = count / net.spec.size
    message = refusal(lambda: prune(net, "flow_preserving", density=density, floor=floor, **QUICK))
    assert f"floor={floor} live neurons a layer need" in message
    return message


def test_a_floor_that_needs_too_many_weights_is_refused():
    net = chain(10, 12, 9, 3)
    message = refusal(lambda: prune(net, "flow_preserving", density=0.05, floor=12))
    assert "floor=12 live neurons a layer need" in message


@pytest.mark.parametrize("options", [{"floor": -1}, {"rounds": 0}, {"tries": -1}])
def test_options_out_of_range_are_refused(options):
    message = refusal(lambda: prune(chain(2, 3, 2), "flow_preserving", density=0.9, **options))
    ((name, value),) = options.items()
    assert message == f"{name} is an integer from {int(name == 'rounds')} up, but got {value}"


@pytest.mark.parametrize("steps", [3])
@pytest.mark.parametrize("kind", every(NETWORKS, default=["mlp"]))
def test_used_in_several_steps_masks_are_nested_and_counts_exact(kind, steps):
    net, cuts = NETWORKS[kind](0), []
    mask = prune(net, "flow_preserving", density=0.2, floor=1, steps=steps, callback=cuts.append, **QUICK)
    kept = np.arange(net.spec.size)
    for step, cut in enumerate(cuts, start=1):
        assert np.array_equal(cut.numbers, kept)
        kept = kept[cut.kept]
        if step < steps:
            assert len(kept) == net.spec.size - math.floor((1 - 0.2 ** (step / steps)) * net.spec.size)
    assert len(cuts) == steps
    assert len(kept) == round(0.2 * net.spec.size)
    assert np.array_equal(np.flatnonzero(mask), kept)
    assert all(units.any() for units in live_hidden(net, mask))


# How much it preserves


@pytest.mark.parametrize(
    ("kind", "density", "seeds"),
    every(
        [
            ("mlp", 0.3, range(2)),
            ("mlp", 0.08, range(2)),
            ("convolutions", 0.05, range(2)),
            ("grouped", 0.1, range(1)),
            ("resnet20", 0.05, range(1)),
        ],
        default=lambda member: member[0] == "mlp",
    ),
)
def test_no_less_flow_is_preserved_than_by_synflow(kind, density, seeds):
    """It begins from the same descent of a hundred cuts. Without a floor; the default one costs little."""
    options = {"rounds": 50, "tries": 2}
    for seed in seeds:
        net = NETWORKS[kind](seed)
        plain = log_flow(net, prune(net, "synflow", density=density))
        best = log_flow(net, prune(net, "flow_preserving", density=density, floor=0, **options))
        assert best >= plain
        assert log_flow(net, prune(net, "flow_preserving", density=density, **options)) >= plain - 0.5


def test_the_whole_search_finds_nearly_the_best_there_is():
    for seed in range(3):
        net = chain(20, 15, 5, seed=seed)
        for density in (0.1, 0.3):
            mask = prune(net, "flow_preserving", density=density, floor=0)
            synflow = prune(net, "synflow", density=density)
            found, plain = flow_retention(mask, net), flow_retention(synflow, net)
            assert found.kind == "exact"
            assert found.value > 0.95
            assert found.value > plain.value


def test_the_same_mask_is_found_again():
    net = NETWORKS["grouped"](0)
    masks = [prune(net, "flow_preserving", density=0.2, seed=seed, **QUICK) for seed in (0, 0, 1)]
    assert np.array_equal(masks[0], masks[1])
    assert np.array_equal(masks[0], masks[2])  # nothing is drawn


# What the search asks


@pytest.mark.parametrize("kind", [kind for kind in TINY if kind != "maximum"])
def test_a_weights_worth_is_the_flow_that_it_holds_or_would_add(kind):
    """But for a power of two that all slopes share; R is linear in a weight where no maximum is taken."""
    net, masks, flows = every_flow(kind, 0)
    numbers = 1 << np.arange(net.spec.size)[::-1]
    for index in np.flatnonzero(flows)[:: len(masks) // 8]:
        found = flow_slopes(net, masks[index])
        with_each = flows[index | numbers]
        without = flows[index & ~numbers]
        wanted = with_each - without
        assert np.array_equal(found > 0, wanted > 0)
        ratio = found[wanted > 0] / wanted[wanted > 0]
        np.testing.assert_allclose(ratio, 2.0 ** round(math.log2(ratio[0])), rtol=1e-9)


def test_unit_flows_are_the_shares_that_enter_each_unit():
    net = chain(4, 5, 3, 2, seed=1)
    mask = np.random.default_rng(0).random(net.spec.size) < 0.8
    first, second, third = (
        np.abs(net.parameters()[layer.name].double().numpy()) * net.spec.split(mask)[layer.name]
        for layer in net.spec.layers
    )
    into = first.sum(1)
    out = third.sum(0) @ second
    flows = unit_flows(net, mask)
    assert [len(own) for own in flows] == [4, 5, 3, 2]
    total = flows[3].sum()
    np.testing.assert_allclose(flows[1] / total, into * out / (into @ out), rtol=1e-12)
    np.testing.assert_allclose(flows[2] / total, (second @ into) * third.sum(0) / (into @ out), rtol=1e-12)
    np.testing.assert_allclose(flows[3] / total, third @ second @ into / (into @ out), rtol=1e-12)


def test_units_that_nothing_feeds_or_reads_need_no_floor():
    """Zeros beside other channels, and a slice of which the rest is never read."""

    class Parts(nn.Module):
        def __init__(self, padded):
            super().__init__()
            self.padded = padded
            self.first, self.second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(6 if padded else 2, 3, 3)
            self.head = nn.Linear(3, 3)

        def forward(self, x):
            x = self.first(x).relu()
            x = nn.functional.pad(x, (0, 0, 0, 0, 1, 1)) if self.padded else x[:, :2]
            return self.head(self.second(x).mean((2, 3)))

    for padded in (True, False):
        net = initialize(lambda shape, classes, padded=padded: Parts(padded), data(1, 6, 6))
        mask = prune(net, "flow_preserving", density=0.3, floor=1, rounds=3, tries=1)
        assert mask.sum() == round(0.3 * net.spec.size)
