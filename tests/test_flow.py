"""Flow: against plain autograd through networks linearised by hand, exact fractions, and long doubles."""

import copy
import itertools
import math
import warnings
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import data, every, examples, refusal
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ticketsearch.masks import layer_counts
from ticketsearch.models import initialize
from ticketsearch.pruners import Copies, LayerCollapseWarning, prune, synflow
from ticketsearch.pruners.flow import Flow, FlowNetwork
from ticketsearch.pruners.flow_layers import SPARSE
from ticketsearch.pruners.scaled_floats import REACH, aligned, normalized, summed

pytestmark = pytest.mark.slow

IMAGE = (3, 8, 8)


# Networks, and each of them linearised by hand: t holds |θ| by name, and |bias| where biases are to flow.


def dense(t, name, x):
    return F.linear(x, t[f"{name}.weight"], t.get(f"{name}.bias"))


def conv(t, name, x, **options):
    return F.conv2d(x, t[f"{name}.weight"], t.get(f"{name}.bias"), **options)


def scaled(t, name, x):
    """Batch normalisation: |scale| over the deviation, and |shift| if it flows."""
    factor = t.get(f"{name}.scale", torch.tensor(1.0)) / (t[f"{name}.running_var"] + 1e-5).sqrt()
    shift = t.get(f"{name}.bias", torch.zeros_like(factor))
    view = (-1, *[1] * (x.ndim - 2))
    return x * factor.view(view) + shift.view(view)


class Modules(nn.Module):
    """Named modules, and what the forward function makes of them."""

    def __init__(self, compute, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.compute = compute

    def forward(self, x):
        return self.compute(self, x)


def mlp():
    return nn.Sequential(
        nn.Flatten(), nn.Linear(7, 12), nn.Tanh(), nn.Linear(12, 9), nn.Dropout(0.5), nn.Linear(9, 3)
    )


def pooled():
    return nn.Sequential(
        *(nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(5, 4, 3, stride=2, padding=1, bias=False), nn.PReLU(4), nn.AvgPool2d(2)),
        *(nn.Flatten(), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)),
    )


def pooled_by_hand(t, x):
    x = F.max_pool2d(conv(t, "0", x, padding=1), 2)
    x = F.avg_pool2d(conv(t, "3", x, stride=2, padding=1), 2)
    return dense(t, "9", dense(t, "7", x.flatten(1)))


def normalised():
    return nn.Sequential(
        *(
            nn.Conv2d(3, 5, 3),
            nn.BatchNorm2d(5),
            nn.ReLU(),
            nn.Conv2d(5, 4, 3, padding=1, padding_mode="circular"),
        ),
        *(nn.BatchNorm2d(4, affine=False), nn.Flatten(), nn.BatchNorm1d(144), nn.Linear(144, 3)),
        nn.BatchNorm1d(3),
    )


def normalised_by_hand(t, x):
    x = scaled(t, "1", conv(t, "0", x))
    x = scaled(t, "4", conv(t, "3", F.pad(x, (1, 1, 1, 1), mode="circular")))
    return scaled(t, "8", dense(t, "7", scaled(t, "6", x.flatten(1))))


def residual():
    def forward(m, x):
        h = torch.relu(m.norm(m.stem(x)))
        h = torch.relu(h + m.outer(torch.relu(m.inner(h))))
        return m.head(m.down(h).add(m.short(h)).mean((2, 3)))

    return Modules(
        forward,
        stem=nn.Conv2d(3, 4, 3, padding=1),
        norm=nn.BatchNorm2d(4),
        inner=nn.Conv2d(4, 6, 3, padding=1),
        outer=nn.Conv2d(6, 4, 1),
        down=nn.Conv2d(4, 5, 3, stride=2, padding=1),
        short=nn.Conv2d(4, 5, 1, stride=2, bias=False),
        head=nn.Linear(5, 3),
    )


def residual_by_hand(t, x):
    h = scaled(t, "norm", conv(t, "stem", x, padding=1))
    h = h + conv(t, "outer", conv(t, "inner", h, padding=1))
    h = conv(t, "down", h, stride=2, padding=1) + conv(t, "short", h, stride=2)
    return dense(t, "head", h.mean((2, 3)))


def concatenated():
    def forward(m, x):
        a = torch.relu(m.a(x))
        h = torch.cat((a, m.b(a), x), 1)
        h = torch.cat((m.c(h), -a), 1)
        return m.head(torch.amax(h, (2, 3)))

    return Modules(
        forward,
        a=nn.Conv2d(3, 4, 3, padding=1),
        b=nn.Conv2d(4, 2, 3, padding=1),
        c=nn.Conv2d(9, 3, 1),
        head=nn.Linear(7, 3),
    )


def concatenated_by_hand(t, x):
    a = conv(t, "a", x, padding=1)
    h = conv(t, "c", torch.cat((a, conv(t, "b", a, padding=1), x), 1))
    return dense(t, "head", torch.cat((h, a), 1).amax((2, 3)))


def grouped():
    return nn.Sequential(
        *(
            nn.Conv2d(3, 6, 3),
            nn.ReLU(),
            nn.Conv2d(6, 4, 3, groups=2),
            nn.ReLU(),
            nn.Conv2d(4, 4, 3, groups=4),
        ),
        *(nn.Conv2d(4, 8, 1, groups=4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)),
    )


def grouped_by_hand(t, x):
    x = conv(t, "4", conv(t, "2", conv(t, "0", x), groups=2), groups=4)
    return dense(t, "8", conv(t, "5", x, groups=4).mean((2, 3)))


def layer_normalised():
    return nn.Sequential(
        *(nn.Linear(7, 12), nn.LayerNorm(12), nn.GELU(), nn.Linear(12, 8)),
        *(nn.LayerNorm(8, elementwise_affine=False), nn.Linear(8, 3)),
    )


def layer_normalised_by_hand(t, x):
    return dense(t, "5", dense(t, "3", dense(t, "0", x) * t["1.scale"]))


def multiplied():
    """Branches times numbers, which flow as such; other maps, squares and inverses too, are the identity."""

    def forward(m, x):
        h = m.a(x) * 3
        h = h + 0.25 * torch.tanh(m.b(h))
        h = torch.mul(m.c(h), -0.5) + (-h) / 4
        h = torch.neg(1 - h.neg()) ** 2 + 2 / m.d(h)
        return m.e(h * torch.sigmoid(h))

    return Modules(
        forward, a=nn.Linear(7, 6), b=nn.Linear(6, 6), c=nn.Linear(6, 6), d=nn.Linear(6, 6), e=nn.Linear(6, 3)
    )


def multiplied_by_hand(t, x):
    h = dense(t, "a", x) * 3
    h = h + 0.25 * dense(t, "b", h)
    h = 0.5 * dense(t, "c", h) + h / 4
    return dense(t, "e", h + dense(t, "d", h))


FLOWS = {
    "mlp": (mlp, (7,), lambda t, x: dense(t, "5", dense(t, "3", dense(t, "1", x)))),
    "pooled": (pooled, IMAGE, pooled_by_hand),
    "normalised": (normalised, IMAGE, normalised_by_hand),
    "residual": (residual, IMAGE, residual_by_hand),
    "concatenated": (concatenated, IMAGE, concatenated_by_hand),
    "grouped": (grouped, IMAGE, grouped_by_hand),
    "layer normalised": (layer_normalised, (7,), layer_normalised_by_hand),
    "multiplied": (multiplied, (7,), multiplied_by_hand),
}
# One dense, one normalised, one grouped.
SEVERAL = ("mlp", "normalised", "grouped")


def network(kind, seed=0):
    """Return a network with random parameters, scales of both signs, and random running statistics."""
    build, shape, _ = FLOWS[kind]

    def factory(input_shape, classes):
        module = build()
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, tensor in itertools.chain(module.named_parameters(), module.named_buffers()):
                if name.endswith("running_var"):
                    tensor.uniform_(0.2, 3, generator=generator)
                elif tensor.is_floating_point():
                    tensor.normal_(generator=generator)
        return module

    return initialize(factory, data(*shape), "as_built", seed)


def numbers(spec, share, seed):
    """Return the numbers of a random mask that leaves each layer at least one weight."""
    rng = np.random.default_rng(seed)
    mask = rng.random(spec.size) < share
    for layer in spec.layers:
        mask[layer.offset + rng.integers(layer.size)] = True
    return np.flatnonzero(mask)


def by_hand(kind, net, kept, *, biases=False, power=1.0):
    """Return R and ∂R/∂w of all weights, and the weights w = |θ|^power ⊙ mask, by autograd in float64."""
    mask = np.zeros(net.spec.size, dtype=bool)
    mask[kept] = True
    parts = net.spec.split(mask)
    t, leaves = {}, {}
    for name, tensor in {**net.parameters(), **net.buffers()}.items():
        value = tensor.double().abs()
        if name in parts:
            leaves[name] = (value**power * torch.from_numpy(parts[name].copy())).requires_grad_()
            t[name] = leaves[name]
        elif name.endswith(".weight"):
            t[name.replace(".weight", ".scale")] = value
        elif not name.endswith(".bias") or biases:
            t[name] = value
    if kind == "layer normalised":  # the shift of a layer normalisation never flows
        t.pop("1.bias", None)
    flow = FLOWS[kind][2](t, torch.ones(1, *net.input_shape, dtype=torch.float64)).sum()
    flow.backward()
    names = [layer.name for layer in net.spec.layers]
    slopes = np.concatenate([leaves[name].grad.numpy().ravel() for name in names])
    weights = np.concatenate([leaves[name].detach().numpy().ravel() for name in names])
    return float(flow.detach()), slopes, weights


def found_scores(flow, kepts):
    """Return for each copy the scores of its kept weights: mantissas times powers of two, layer by layer."""
    each = [[] for _ in kepts]
    for layer, (scores, exponent) in zip(flow.spec.layers, flow.layer_scores(), strict=True):
        ends = (layer.offset, layer.offset + layer.size)
        counts = [int(np.diff(np.searchsorted(kept, ends))[0]) for kept in kepts]
        assert len(scores) == sum(counts)
        for own, part, power in zip(each, np.split(scores, np.cumsum(counts)[:-1]), exponent, strict=True):
            own.append(np.ldexp(part, int(power)))
    return [np.concatenate(own) for own in each]


def close(found, wanted, tolerance=1e-12):
    """Check equality to rounding; what the largest dwarfs may lose its own last bits in sums of branches."""
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=0)


def agrees(flow, kind, nets, kepts, **options):
    """Check R and all scores of a flow network against autograd by hand."""
    flows = flow.flow()
    for i, (net, kept, scores) in enumerate(zip(nets, kepts, found_scores(flow, kepts), strict=True)):
        wanted, slopes, weights = by_hand(kind, net, kept, **options)
        close(math.ldexp(float(flows.mantissa[i]), int(flows.exponent[i])), wanted)
        close(scores, (slopes * weights)[kept])


@pytest.mark.parametrize(
    ("kind", "share", "biases"),
    every(
        list(itertools.product(FLOWS, (1.0, 0.6, 0.05), (False, True))),
        default=lambda member: (
            member[1:] == (0.6, True) or (member[0] in SEVERAL and member[1:] == (0.05, False))
        ),
    ),
)
def test_scores_are_those_of_the_network_linearised_by_hand(kind, share, biases):
    for seed in range(3):
        net = network(kind, seed)
        kept = numbers(net.spec, share, seed)
        flow = FlowNetwork(Copies([net]), [kept], biases=biases)
        agrees(flow, kind, [net], [kept], biases=biases)
    if share < SPARSE and kind == "mlp":
        assert any(layer.dense is None for layer in flow.layers)  # thinned out


@pytest.mark.parametrize(
    ("kind", "shares", "biases"),
    every(
        list(itertools.product(FLOWS, ((1.0, 1.0, 1.0), (0.9, 0.5, 0.2), (0.07, 0.05, 0.02)), (False, True))),
        default=lambda member: (
            (member[1][0], member[2]) == (0.9, True) or (member[0] in SEVERAL and member[1][0] == 0.07)
        ),
    ),
)
def test_several_copies_at_once_have_the_scores_of_each(kind, shares, biases):
    nets = [network(kind, seed) for seed in range(3)]
    kepts = [numbers(net.spec, share, i) for i, (net, share) in enumerate(zip(nets, shares, strict=True))]
    agrees(FlowNetwork(Copies(nets), kepts, biases=biases), kind, nets, kepts, biases=biases)


@pytest.mark.parametrize("copies", every([1, 3], default=[3]))
@pytest.mark.parametrize("kind", FLOWS)
def test_scores_after_several_cuts_are_those_of_what_is_left(kind, copies):
    nets = [network(kind, seed) for seed in range(copies)]
    kepts = [np.arange(net.spec.size) for net in nets]
    flow = FlowNetwork(Copies(nets), kepts)
    rng = np.random.default_rng(1)
    for share in (1.0, 0.6, 0.5, 0.5, 0.3, 0.5, 0.3):
        keep = [rng.random(len(kept)) < share for kept in kepts]
        flow.cut(keep)
        kepts = [kept[own] for kept, own in zip(kepts, keep, strict=True)]
        agrees(flow, kind, nets, kepts)


@pytest.mark.parametrize("kind", every(FLOWS, default=SEVERAL))
def test_scores_after_cuts_by_score_are_those_of_what_is_left(kind):
    """As pruning does it: whole units go, and convolutions may be made smaller."""
    net = network(kind)
    kept = np.arange(net.spec.size)
    flow = FlowNetwork(Copies([net]), [kept])
    for count in (len(kept) // 2, len(kept) // 5, len(kept) // 15, len(kept) // 40):
        order = np.argsort(-flow.scores()[0], kind="stable")
        keep = np.zeros(len(kept), dtype=bool)
        keep[order[: max(count, 4)]] = True
        flow.cut([keep])
        kept = kept[keep]
        agrees(flow, kind, [net], [kept])


@pytest.mark.parametrize("kind", FLOWS)
def test_an_empty_layer_lets_nothing_through(kind):
    nets = [network(kind, seed) for seed in range(2)]
    spec = nets[0].spec
    first = spec.layers[0]
    for gone in (first, spec.layers[-1]):
        kept = np.setdiff1d(np.arange(spec.size), np.arange(gone.offset, gone.offset + gone.size))
        for kepts in ([kept, np.arange(spec.size)], [kept, kept], [np.arange(0), kept]):
            agrees(FlowNetwork(Copies(nets), kepts), kind, nets, kepts)
    flow = FlowNetwork(Copies(nets[:1]), [np.arange(spec.size)])
    flow.cut([np.zeros(spec.size, dtype=bool)])
    assert len(flow.scores()[0]) == 0
    assert float(flow.flow().mantissa) == by_hand(kind, nets[0], np.arange(0))[0]


@pytest.mark.parametrize("kind", FLOWS)
def test_scores_share_one_scale_that_brings_the_largest_to_a_half_or_more(kind):
    nets = [network(kind, seed) for seed in range(3)]
    kepts = [numbers(net.spec, 0.4, seed) for seed, net in enumerate(nets)]
    flow = FlowNetwork(Copies(nets), kepts)
    for scores, whole in zip(flow.scores(), found_scores(flow, kepts), strict=True):
        assert 0.5 <= scores.max() < 1
        factor = whole.max() / scores.max()
        assert math.frexp(factor)[0] == 0.5
        assert np.array_equal(scores * factor, whole)


@pytest.mark.parametrize("power", every([0.5, 0.75, 2.0], default=[0.5]))
@pytest.mark.parametrize("kind", FLOWS)
def test_a_power_of_the_weights_flows_instead_of_them(kind, power):
    nets = [network(kind, seed) for seed in range(2)]
    kepts = [numbers(net.spec, share, 3) for net, share in zip(nets, (0.7, 0.08), strict=True)]
    agrees(FlowNetwork(Copies(nets), kepts, power=power), kind, nets, kepts, power=power)
    agrees(FlowNetwork(Copies(nets[1:]), kepts[1:], power=power), kind, nets[1:], kepts[1:], power=power)


@pytest.mark.parametrize("share", every([1.0, 0.5, 0.06], default=[0.5, 0.06]))
@pytest.mark.parametrize("kind", FLOWS)
def test_slopes_score_pruned_weights_by_what_they_would_add(kind, share):
    """|θ| ∂R/∂|θ| at the mask; of a kept weight that is its score, of a pruned one the gain of keeping it."""
    nets = [network(kind, seed) for seed in range(2)]
    spec = nets[0].spec
    kepts = [numbers(spec, share, seed) for seed in range(2)]
    for chosen in ([0], [0, 1]):
        flow = FlowNetwork(Copies([nets[i] for i in chosen]), [kepts[i] for i in chosen], slopes=True)
        parts = [np.split(scores, len(chosen)) for scores, _ in flow.layer_scores()]
        powers = [exponent for _, exponent in flow.layer_scores()]
        for place, i in enumerate(chosen):
            own = [np.ldexp(p[place], int(e[place])) for p, e in zip(parts, powers, strict=True)]
            _, slopes, _ = by_hand(kind, nets[i], kepts[i])
            _, _, weights = by_hand(kind, nets[i], np.arange(spec.size))
            close(np.concatenate(own), slopes * weights)


def test_a_slope_is_the_gain_of_keeping_the_weight():
    """R is linear in each weight by itself where no maximum is taken."""
    net = network("residual")
    kept = numbers(net.spec, 0.5, 0)
    scores = FlowNetwork(Copies([net]), [kept], slopes=True).layer_scores()
    gains = np.concatenate([np.ldexp(part, int(exponent[0])) for part, exponent in scores])
    before = by_hand("residual", net, kept)[0]
    for weight in np.setdiff1d(np.arange(net.spec.size), kept)[::23]:
        after = by_hand("residual", net, np.sort([*kept, weight]))[0]
        np.testing.assert_allclose(gains[weight], after - before, rtol=1e-9, atol=1e-12 * before)


@pytest.mark.parametrize("kind", FLOWS)
def test_what_flows_into_a_unit_flows_out_of_it(kind):
    """Through a value passes Σ (flow into it) · (flow from it); all of R where no shortcut goes past it."""
    net = network(kind)
    flow = FlowNetwork(Copies([net]), [numbers(net.spec, 0.7, 0)])
    total, exponent = (float(part[0]) for part in flow.flow())
    into, out, _ = flow.through()
    scores = flow.layer_scores()
    shares = []
    for step, a, b in zip(net.wiring.steps, into, out, strict=True):
        through = float((a.mantissa * b.mantissa).sum()) / total
        shares.append(math.ldexp(through, int(a.exponent[0] + b.exponent[0] - exponent)))
        if step.operation == "linear":  # all that its weights hold
            own, power = scores[step.layer]
            close(math.ldexp(own.sum() / total, int(power[0] - exponent)), shares[-1], 1e-11)
    assert shares[-1] == pytest.approx(1, rel=1e-12)
    assert max(shares) <= 1 + 1e-12
    if kind not in ("residual", "concatenated", "multiplied"):
        np.testing.assert_allclose(shares, 1, rtol=1e-11)


@pytest.mark.parametrize("kind", FLOWS)
def test_a_flow_leaves_networks_and_their_running_statistics_as_they_were(kind):
    net = network(kind)
    before = copy.deepcopy(net.module.state_dict())
    modes = [child.training for child in net.module.modules()]
    flow = FlowNetwork(Copies([net]), [np.arange(net.spec.size)], biases=True)
    flow.scores()
    flow.cut([np.arange(net.spec.size) % 3 == 0])
    flow.scores()
    after = net.module.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert [child.training for child in net.module.modules()] == modes
    assert all(p.grad is None and p.requires_grad for p in net.module.parameters())


def test_flows_may_be_asked_for_where_gradients_are_off():
    net = network("pooled")
    kept = numbers(net.spec, 0.5, 0)
    with torch.no_grad():
        found = FlowNetwork(Copies([net]), [kept]).scores()[0]
    assert np.array_equal(found, FlowNetwork(Copies([net]), [kept]).scores()[0])


def test_biases_and_shifts_take_no_part_in_the_flow_unless_asked():
    net, other = network("normalised"), network("normalised")
    with torch.no_grad():
        for name, parameter in other.module.named_parameters():
            if name.endswith("bias"):
                parameter.fill_(3.0)
    kept = np.arange(net.spec.size)
    scores = [FlowNetwork(Copies([n]), [kept]).scores()[0] for n in (net, other)]
    assert np.array_equal(*scores)
    with_biases = [FlowNetwork(Copies([n]), [kept], biases=True).scores()[0] for n in (net, other)]
    assert not np.allclose(*with_biases)
    assert not np.allclose(scores[0], with_biases[0])


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "gelu", "leaky_relu"])
def test_activations_are_the_identity_in_the_flow(activation):
    plain = initialize("mlp:9,6", data(7), activation="identity")
    other = initialize("mlp:9,6", data(7), activation=activation)
    kept = np.arange(plain.spec.size)
    scores = [FlowNetwork(Copies([net]), [kept]).scores()[0] for net in (plain, other)]
    assert np.array_equal(*scores)


def test_a_flow_of_weights_that_are_not_finite_is_refused_naming_the_layer():
    net = network("mlp")
    with torch.no_grad():
        net.module[3].weight[2, 2] = float("nan")
    message = refusal(FlowNetwork, Copies([net]), [np.arange(net.spec.size)])
    assert "must be finite" in message
    assert "3.weight" in message


def test_a_network_of_declared_groups_has_no_flow():
    def factory(input_shape, classes):
        module = nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 3))
        module.neuron_groups = {
            **{"0.weight": ("hidden", "input"), "0.bias": ("hidden",)},
            **{"2.weight": ("output", "hidden"), "2.bias": ("output",)},
        }
        return module

    net = initialize(factory, data(7))
    for method in ("synflow", "balanced_synflow", "flow_preserving"):
        message = refusal(lambda name=method: prune(net, name, density=0.5))
        assert "'factory' were declared by hand" in message
        assert "magnitude" in message


# Chains: what goes in comes out


def chain(*widths, seed=0, **options):
    hidden = ",".join(map(str, widths[1:-1]))
    return initialize(f"mlp:{hidden}", data(widths[0], classes=widths[-1]), seed=seed, **options)


def scores_of(net, mask=None, **options):
    mask = np.ones(net.spec.size, dtype=bool) if mask is None else mask
    masked = {name: torch.from_numpy(part.copy()) for name, part in net.spec.split(mask).items()}
    parts = synflow(net, masked, None, rng=np.random.default_rng(0), **options)
    return {name: part.numpy() for name, part in parts.items()}


@given(st.integers(0, 2**32 - 1), st.floats(0.2, 1))
@settings(max_examples=examples(40), deadline=None, derandomize=True)
def test_synaptic_flow_is_conserved_in_chains(seed, share):
    net = chain(6, 8, 5, 7, 3, seed=seed % 1000)
    mask = np.random.default_rng(seed).random(net.spec.size) < share
    layers = list(scores_of(net, mask).values())
    np.testing.assert_allclose([layer.sum() for layer in layers], layers[0].sum(), rtol=1e-9)
    for into, out in itertools.pairwise(layers):  # and through every hidden unit
        np.testing.assert_allclose(into.sum(axis=1), out.sum(axis=0), rtol=1e-9, atol=1e-15)


def test_biases_in_the_flow_break_its_conservation():
    net = chain(6, 8, 5, 3, seed=1)
    with torch.no_grad():
        net.module.get_parameter("1.bias").fill_(1.0)
    sums = [part.sum() for part in scores_of(net, biases=True).values()]
    assert sums[1] > 1.01 * sums[0]


# Depths at which plain numbers overflow or vanish


def scaled_by(net, factor):
    with torch.no_grad():
        for layer in net.spec.layers:
            net.module.get_parameter(layer.name).mul_(factor)
    return net


def convolutions(depth):
    """A chain of convolutions, with pooling, normalisations and a Linear layer at the end."""

    def factory(input_shape, classes):
        layers = [nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3)]
        for _ in range(depth):
            layers += [nn.Conv2d(3, 3, 3, padding=1), nn.ReLU()]
        return nn.Sequential(*layers, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(12, classes))

    return lambda seed: initialize(factory, data(2, 4, 4), seed=seed)


CHAINS = {
    "thirty layers": lambda seed: chain(7, *[6] * 29, 4, seed=seed),
    "three hundred layers": lambda seed: chain(4, *[4] * 299, 3, seed=seed),
    "forty convolutions": convolutions(40),
}


@pytest.mark.parametrize(
    ("kind", "exponent"),
    every(
        list(itertools.product(CHAINS, (33, -33, 100, -100))),
        default=lambda member: member[0] == "thirty layers" or member == ("forty convolutions", -100),
    ),
)
def test_a_gain_of_every_layer_changes_no_mask_of_a_chain(kind, exponent):
    """2^33 is about 1e10; powers of two round nothing, so that not one bit may differ."""
    net, other = CHAINS[kind](0), scaled_by(CHAINS[kind](0), 2.0**exponent)
    kept = np.arange(net.spec.size)
    plain, scaled_too = (FlowNetwork(Copies([n]), [kept]).scores()[0] for n in (net, other))
    assert np.isfinite(plain).all()
    assert (plain > 0).all()
    assert np.array_equal(plain, scaled_too)
    masks = [prune(n, "synflow", density=0.3, steps=3) for n in (net, other)]
    assert np.array_equal(*masks)
    assert layer_counts(masks[0], net.spec).min() >= 1
    totals = [exact(FlowNetwork(Copies([n]), [kept]).flow())[0] for n in (net, other)]
    assert totals[1] == totals[0] * Fraction(2) ** (exponent * len(net.spec.layers))


@given(st.lists(st.integers(-40, 40), min_size=3, max_size=3), st.integers(0, 20))
@settings(max_examples=examples(15), deadline=None, derandomize=True)
def test_a_gain_of_each_layer_by_itself_changes_nothing_in_a_chain(exponents, seed):
    net, other = chain(7, 9, 6, 4, seed=seed), chain(7, 9, 6, 4, seed=seed)
    with torch.no_grad():
        for layer, exponent in zip(other.spec.layers, exponents, strict=True):
            other.module.get_parameter(layer.name).mul_(2.0**exponent)
    masks = [prune(n, "synflow", density=0.1, steps=30) for n in (net, other)]
    assert np.array_equal(*masks)


class LongDoubles:
    """The flow of a narrow resnet20 in long doubles: every convolution as the matrix of its linear map."""

    def __init__(self, net):
        self.tensors = {name: tensor.double().abs() for name, tensor in net.parameters().items()}
        self.tensors |= {name: tensor.double() for name, tensor in net.buffers().items()}
        self.module, self.kernels, self.bases = net.module, {}, {}
        self.scores, self.back = {}, []
        value = np.ones(math.prod(net.input_shape), dtype=np.longdouble)
        value = self.scale("norm1", self.conv("conv1", value, net.input_shape[-1]))
        for name, block in net.module.named_children():
            if name.startswith("block"):
                value = self.block(name, block, value)
        maps = value.reshape(self.tensors["fc1.weight"].shape[1], -1)
        weight = self.tensors["fc1.weight"].numpy().astype(np.longdouble)
        self.flow = (weight @ maps.mean(1)).sum()
        self.scores["fc1.weight"] = weight * maps.mean(1)
        out = np.repeat(weight.sum(0) / maps.shape[1], maps.shape[1])
        for step in reversed(self.back):
            out = step(out)

    def basis(self, name, high):
        """Return B (weights, outputs, inputs) of 0 and 1, so that a convolution of weights w is Σ w_k B_k."""
        conv = self.module.get_submodule(name)
        key = (tuple(conv.weight.shape), conv.stride, high)
        if key not in self.bases:
            units = torch.eye(conv.in_channels * high * high).view(-1, conv.in_channels, high, high)
            each = torch.eye(conv.weight.numel()).view(-1, *conv.weight.shape)
            maps = [F.conv2d(units, w, None, conv.stride, conv.padding).flatten(1).T for w in each]
            self.bases[key] = torch.stack(maps).numpy().astype(np.longdouble)
        return self.bases[key]

    def conv(self, name, value, high):
        return self.linear(name, value, self.basis(name, high))

    def linear(self, name, value, basis):
        weight = self.tensors[f"{name}.weight"].flatten().numpy().astype(np.longdouble)
        matrix = np.tensordot(weight, basis, 1)

        def back(out):
            self.scores[f"{name}.weight"] = weight * ((basis @ value) @ out)
            return out @ matrix

        self.back.append(back)
        return matrix @ value

    def scale(self, name, value):
        factor = self.tensors[f"{name}.weight"] / (self.tensors[f"{name}.running_var"] + 1e-5).sqrt()
        spread = np.repeat(factor.numpy().astype(np.longdouble), len(value) // len(factor))
        self.back.append(lambda out: out * spread)
        return value * spread

    def block(self, name, block, value):
        high = math.isqrt(len(value) // block.conv1.in_channels)
        before, self.back = self.back, []
        inner = self.scale(f"{name}.norm1", self.conv(f"{name}.conv1", value, high))
        inner = self.scale(f"{name}.norm2", self.conv(f"{name}.conv2", inner, high // block.conv1.stride[0]))
        inner_back, self.back = self.back, []
        short = value
        if len(block.shortcut):
            short = self.scale(f"{name}.shortcut.norm", self.conv(f"{name}.shortcut.conv", value, high))
        short_back = self.back

        def back(out):
            through = past = out
            for step in reversed(inner_back):
                through = step(through)
            for step in reversed(short_back):
                past = step(past)
            return through + past

        self.back = [*before, back]
        return inner + short


@pytest.mark.skipif(np.finfo(np.longdouble).maxexp < 16000, reason="long doubles have no wider range here")
@pytest.mark.parametrize("factor", every([1.0, 1e10, 1e-10], default=[1e10]))
def test_a_residual_network_of_110_layers_neither_overflows_nor_vanishes(factor):
    net = scaled_by(initialize("resnet20", data(1, 4, 4), depth=110, width=1 / 16), factor)
    with torch.no_grad():
        for name, parameter in net.module.named_parameters():
            if "norm" in name and name.endswith("weight"):
                parameter.uniform_(-2, 2, generator=torch.Generator().manual_seed(len(name)))
    truth = LongDoubles(net)
    assert factor < 2 or truth.flow > np.longdouble("1e1000")  # doubles end at 1e308
    flow = FlowNetwork(Copies([net]), [np.arange(net.spec.size)])
    total = flow.flow()
    ours = np.ldexp(np.longdouble(float(total.mantissa[0])), int(total.exponent[0]))
    assert abs(float(ours / truth.flow) - 1) < 1e-11
    for layer, (scores, exponent) in zip(net.spec.layers, flow.layer_scores(), strict=True):
        wanted = truth.scores[layer.name].ravel() / truth.flow
        shares = np.ldexp(scores.astype(np.longdouble), int(exponent[0])) / truth.flow
        np.testing.assert_allclose(shares.astype(float), wanted.astype(float), rtol=1e-10)
    assert np.isfinite(flow.scores()[0]).all()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LayerCollapseWarning)  # of shortcuts that are nothing beside the rest
        assert prune(net, "synflow", density=0.3, steps=3).sum() == round(0.3 * net.spec.size)


# Where branches meet, exactly


def tiny_residual(exponents, seed):
    """Blocks h + up(down(h)) of one unit inside, their weights times a power of two."""

    def factory(input_shape, classes):
        def forward(m, x):
            h = m.stem(x)
            for down, up in zip(m.down, m.up, strict=True):
                h = h + up(torch.relu(down(h)))
            return m.head(h)

        return Modules(
            forward,
            stem=nn.Linear(2, 2, bias=False),
            down=nn.ModuleList(nn.Linear(2, 1, bias=False) for _ in exponents),
            up=nn.ModuleList(nn.Linear(1, 2, bias=False) for _ in exponents),
            head=nn.Linear(2, 2, bias=False),
        )

    net = initialize(factory, data(2, classes=2), seed=seed)
    with torch.no_grad():
        for number, exponent in enumerate(exponents):
            net.module.down[number].weight.mul_(2.0**exponent)
            net.module.up[number].weight.mul_(2.0**exponent)
    return net


def in_fractions(net, blocks):
    """Return R and the scores of a tiny residual network, exactly."""
    w = {
        layer.name.removesuffix(".weight"): [
            [Fraction(abs(v)) for v in row] for row in net.parameters()[layer.name].tolist()
        ]
        for layer in net.spec.layers
    }

    def through(name, values):
        return [sum(v * x for v, x in zip(row, values, strict=True)) for row in w[name]]

    def back(name, values):
        return [
            sum(row[j] * u for row, u in zip(w[name], values, strict=True)) for j in range(len(w[name][0]))
        ]

    sources = {"stem": [Fraction(1)] * 2}
    h = through("stem", sources["stem"])
    for i in range(blocks):
        sources[f"down.{i}"] = h
        sources[f"up.{i}"] = through(f"down.{i}", h)
        h = [a + b for a, b in zip(h, through(f"up.{i}", sources[f"up.{i}"]), strict=True)]
    sources["head"] = h
    targets = {"head": [Fraction(1)] * 2}
    out = back("head", targets["head"])
    for i in reversed(range(blocks)):
        targets[f"up.{i}"] = out
        targets[f"down.{i}"] = back(f"up.{i}", out)
        out = [a + b for a, b in zip(out, back(f"down.{i}", targets[f"down.{i}"]), strict=True)]
    targets["stem"] = out
    scores = [
        targets[name][r] * weight * sources[name][c]
        for name in (layer.name.removesuffix(".weight") for layer in net.spec.layers)
        for r, row in enumerate(w[name])
        for c, weight in enumerate(row)
    ]
    return sum(through("head", h)), scores


@pytest.mark.parametrize(
    "exponents",
    [
        (0, 0),
        (40,) * 30,
        (-40,) * 30,
        (50, -50) * 15,
        (-3, 60, -60, 0, 60, 60, -60),
        (30,) * 10 + (-55,) * 10,
    ],
)
def test_residual_branches_that_meet_share_one_scale(exponents):
    """2^±100 a block, up to thirty blocks: compared with exact fractions, within and between layers."""
    for seed in range(2):
        net = tiny_residual(exponents, seed)
        total, wanted = in_fractions(net, len(exponents))
        flow = FlowNetwork(Copies([net]), [np.arange(net.spec.size)])
        assert abs(exact(flow.flow())[0] / total - 1) < 1e-13
        scores = flow.scores()[0]
        top = max(wanted)
        shift = Fraction(float(scores[np.argmax(wanted)])) / top
        power = round(math.log2(shift.numerator) - math.log2(shift.denominator))
        for own, score in zip(scores, wanted, strict=True):
            score *= Fraction(2) ** power
            if score > Fraction(2) ** -1000:  # what lies further below the largest score is zero in float64
                assert abs(Fraction(float(own)) / score - 1) < 1e-12
            else:
                assert own < 2.0**-999


# The numbers themselves


def flow_of(values, exponent):
    return Flow(torch.tensor([values], dtype=torch.float64), np.array([exponent]))


def exact(flow):
    return [Fraction(v) * Fraction(2) ** int(flow.exponent[0]) for v in flow.mantissa[:1].flatten().tolist()]


@given(st.lists(st.floats(0, 1e300, allow_subnormal=False), min_size=1, max_size=4), st.integers(-5000, 5000))
@settings(deadline=None, derandomize=True)
def test_normalising_changes_no_value_and_keeps_products_within_reach(values, exponent):
    top = max(values)
    values = [v if v > top * 1e-200 else 0.0 for v in values]
    flow = flow_of(values, exponent)
    result = normalized(*flow)
    assert exact(result) == exact(flow)
    assert max(values) == 0 or float(2 * result.mantissa.max()) >= 2.0**-REACH
    assert float(result.mantissa.max()) <= 2.0**REACH


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=3),
    st.integers(-3000, 3000),
    st.integers(-3000, 3000),
)
@settings(deadline=None, derandomize=True)
def test_sums_are_at_the_larger_scale(pairs, first, second):
    a, b = (flow_of([pair[i] for pair in pairs], e) for i, e in ((0, first), (1, second)))
    found = exact(summed(normalized(*a), normalized(*b)))
    top = max(x + y for x, y in zip(exact(a), exact(b), strict=True))
    for own, x, y in zip(found, exact(a), exact(b), strict=True):
        assert abs(own - x - y) <= max((x + y) / 2**50, top / 2**1020)


def test_nothing_has_no_scale_of_its_own():
    """A flow of zero does not drag another to its exponent."""
    nothing, little = flow_of([0.0, 0.0], 10**6), flow_of([0.75, 0.5], -(10**6))
    for order in ([nothing, little], [little, nothing]):
        result = summed(*order)
        assert result.mantissa.tolist() == [[0.75, 0.5]]
        assert result.exponent.tolist() == [-(10**6)]
    (a, b), exponent = aligned([nothing, nothing])
    assert not a.any()
    assert not b.any()
    assert exponent.tolist() == [0]
