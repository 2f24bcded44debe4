"""Blocks of public networks: products, slices, zeros and learned scales, from liveness to training."""

import copy
from functools import cache

import networkx as nx
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from blocks import BLOCKS, Block, learned
from conftest import data, refusal
from loops import matters, tensors_of, torch_loop
from networks import shuffled
from test_compaction import exactly, outputs, same, sparse  # noqa: F401 - a fixture
from torch import nn
from torch.overrides import TorchFunctionMode

from ticketsearch.canonical import canonical_key, to_networkx
from ticketsearch.datasets import from_arrays
from ticketsearch.masks import effective_densities, live, live_edges
from ticketsearch.models import initialize
from ticketsearch.operators.paths import random_paths
from ticketsearch.pruners import Copies, prune
from ticketsearch.pruners.flow import FlowNetwork
from ticketsearch.theory.conservation import conservation, saliency_conservation
from ticketsearch.training import Cohort, Recipe, data_order, train
from ticketsearch.training.layout import engine_for
from ticketsearch.wiring import trace

pytestmark = pytest.mark.slow

each = pytest.mark.parametrize("name", BLOCKS)
RECIPE = Recipe(5, 9, "sgd", lr=0.05, momentum=0.9)


@cache
def dataset(shape):
    rng = np.random.default_rng(0)
    return from_arrays("random", rng.normal(size=(60, *shape)), np.arange(60) % 3)


@cache
def network(name, scheme="kaiming_normal"):
    build, shape = BLOCKS[name]
    torch.manual_seed(0)
    return initialize(lambda s, c: build(), dataset(shape), scheme)


def doubles(net):
    return {name: tensor.double() for name, tensor in tensors_of(net).items()}


@each
def test_effective_densities_of_masks_side_by_side_are_those_of_each(name):
    spec = network(name).spec
    masks = np.random.default_rng(0).random((6, spec.size)) < 0.3
    found = [live_edges(mask, spec, constants=False)[0] for mask in masks]
    wanted = [sum(len(part.rows) for part in parts) / spec.size for parts in found]
    assert effective_densities(masks, spec).tolist() == wanted


@each
@pytest.mark.parametrize("scheme", ["kaiming_normal", "as_built"])
def test_noise_for_dead_weights_changes_no_output(name, scheme):
    net = network(name, scheme)
    mask = sparse(net, 1, 0.5)
    dead = net.spec.split(mask & ~live(mask, net.spec))
    tensors, x = doubles(net), dataset(BLOCKS[name][1]).x_train[:8].double()
    generator = torch.Generator().manual_seed(0)
    for key, part in net.spec.split(mask).items():
        tensors[key] = tensors[key] * torch.from_numpy(part.copy())
    changed = dict(tensors)
    for key, part in dead.items():
        noise = torch.randn(tensors[key].shape, dtype=torch.float64, generator=generator)
        changed[key] = torch.where(torch.from_numpy(part.copy()), noise, tensors[key])
    assert scheme == "as_built" or any(part.any() for part in dead.values())
    for training in (False, True):
        module = copy.deepcopy(net.module).double().train(training)
        with torch.no_grad():
            wanted, found = (
                torch.func.functional_call(module, {k: v.clone() for k, v in own.items()}, (x,))
                for own in (tensors, changed)
            )
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


@each
@pytest.mark.usefixtures("exactly")
def test_a_block_without_its_dead_units_trains_as_by_a_plain_loop(name):
    # Two halves that nothing feeds tie in a maximum, and rounding then decides which of them learns.
    net, own = network(name, "as_built" if name == "maxima" else "kaiming_normal"), dataset(BLOCKS[name][1])
    masks = np.stack([sparse(net, seed) for seed in range(2)])
    orders = [data_order(len(own.y_train), RECIPE, [seed]) for seed in range(2)]
    x = own.x_validation.double()
    cpu = torch.device("cpu")
    torches = ("stacked", "single") if net.wiring.dense else ("single",)
    for engine in sorted({engine_for(net.wiring, "parameter", cpu), *torches}):
        cohort = Cohort(
            net.wiring,
            masks,
            [tensors_of(net)],
            device=cpu,
            dtype=torch.float64,
            engine=engine,
        )
        train(cohort, own, RECIPE, orders)
        ours, logits = {**cohort.parameters(), **cohort.buffers()}, outputs(cohort, x)
        for i, mask in enumerate(masks):
            *_, (module, _) = torch_loop(net, mask, own, RECIPE, orders[i])
            theirs = {**dict(module.named_parameters()), **dict(module.named_buffers())}
            same({key: tensor[i] for key, tensor in ours.items()}, theirs, matters(net, mask))
            torch.testing.assert_close(logits[i], module.eval()(x), rtol=0, atol=1e-10)


@each
def test_keys_are_those_of_graphs_that_are_isomorphic(name):
    net = network(name)
    spec, rng = net.spec, np.random.default_rng(0)
    mask = sparse(net, 0, 0.8)
    key = canonical_key(mask, spec)
    for _ in range(3):
        assert canonical_key(shuffled(mask, spec, rng), spec) == key
    for _ in range(3):
        moved = mask.copy()
        moved[rng.choice(np.flatnonzero(live(mask, spec)))] = False
        moved[rng.choice(np.flatnonzero(~mask))] = True
        graphs = to_networkx(mask, spec), to_networkx(moved, spec)
        assert (canonical_key(moved, spec) == key) is nx.vf2pp_is_isomorphic(*graphs, node_label="label")


ACTIVATIONS = {
    *("relu", "sigmoid", "tanh", "silu", "hardswish", "hardsigmoid", "relu6"),
}


class Linearised(TorchFunctionMode):
    """Runs a module as the network whose flow SynFlow takes; ``given`` are its parameters and buffers."""

    def __init__(self, given):
        super().__init__()
        self.given = list(given)

    def is_given(self, value):
        return not isinstance(value, torch.Tensor) or any(value is own for own in self.given)

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, function.__name__.strip("_")
        tensors = [a for a in args if isinstance(a, torch.Tensor)]
        if tensors and all(map(self.is_given, tensors)):  # maps of a parameter are its own
            self.given.append(function(*args, **kwargs))
            return self.given[-1]
        if name in ACTIVATIONS:
            return args[0] * 1
        if name == "batch_norm":
            names = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
            given = {**dict(zip(names, args, strict=False)), **kwargs}
            scale = given["weight"] / (given["running_var"] + given["eps"]).sqrt()
            return given["input"] * scale.view(1, -1, *[1] * (given["input"].ndim - 2))
        if name in (
            "add",
            "radd",
            "sub",
            "rsub",
        ):  # what is added to values, or to a parameter, is left out
            first, second = sorted(args, key=self.is_given)
            alone = self.is_given(second)
            return first * 1 if alone else first + second * abs(kwargs.get("alpha", 1))
        return torch.mul(*args[0].chunk(2, 1)) if name == "glu" else function(*args, **kwargs)


@each
@pytest.mark.parametrize("share", [1.0, 0.5])
def test_synflow_is_the_autograd_of_the_network_without_signs(name, share):
    net = network(name, "as_built")
    spec = net.spec
    mask = np.random.default_rng(0).random(spec.size) < share
    tensors = {key: tensor.abs() for key, tensor in doubles(net).items()}
    for key in tensors:
        if key.endswith(".bias"):
            tensors[key] = torch.zeros_like(tensors[key])
    parts = spec.split(mask)
    for layer in spec.layers:
        weight = tensors[layer.name] * torch.from_numpy(parts[layer.name].copy())
        tensors[layer.name] = weight.requires_grad_()
    module = copy.deepcopy(net.module).double().eval()
    x = torch.ones((1, *net.input_shape), dtype=torch.float64)
    with Linearised(tensors.values()):
        total = torch.func.functional_call(module, tensors, (x,)).sum()
    slopes = torch.autograd.grad(total, [tensors[layer.name] for layer in spec.layers])
    wanted = np.concatenate(
        [
            (slope * tensors[layer.name]).detach().numpy().ravel()
            for slope, layer in zip(slopes, spec.layers, strict=True)
        ]
    )
    flow = FlowNetwork(Copies([net]), [np.flatnonzero(mask)])
    found = np.concatenate([np.ldexp(s, int(e[0])) for s, e in flow.layer_scores()])
    r = flow.flow()
    np.testing.assert_allclose(np.ldexp(float(r.mantissa[0]), int(r.exponent[0])), total.item(), rtol=1e-12)
    np.testing.assert_allclose(found, wanted[mask], rtol=1e-10, atol=1e-14 * wanted.max())
    assert not found[~live(mask, spec, constants=False)[mask]].any()


@each
def test_what_products_pass_on_is_what_conservation_leaves(name):
    net = network(name)
    mask = np.random.default_rng(1).random(net.spec.size) < 0.7
    found = saliency_conservation(net, mask, None)
    assert found.neurons > 0
    assert found.neuron < 1e-10
    assert found.network < 1e-10
    flow = FlowNetwork(Copies([net]), [np.flatnonzero(mask)])
    scores = np.zeros(net.spec.size)
    scores[mask] = np.concatenate([np.ldexp(s, int(e[0])) for s, e in flow.layer_scores()])
    plain = conservation(scores, net)  # of the neurons that no product has, and the cuts behind products
    assert plain.neuron < 1e-10
    assert plain.network < 1e-10


def test_a_cut_before_a_product_holds_twice_what_it_passes_on():
    """y = c (a x ⊙ b x): R is of degree 1 in c, and of degree 1 in a and in b; the inputs enter twice."""
    torch.manual_seed(0)
    parts = {"a": nn.Linear(4, 5), "b": nn.Linear(4, 5), "c": nn.Linear(5, 3)}
    net = initialize(lambda s, c: Block(lambda m, x: m.c(m.a(x) * m.b(x)), **parts), data(4))
    flow = FlowNetwork(Copies([net]), [np.arange(net.spec.size)])
    r = flow.flow()
    total = float(np.ldexp(float(r.mantissa[0]), int(r.exponent[0])))
    sums = [float(np.ldexp(scores, int(e[0])).sum()) for scores, e in flow.layer_scores()]
    np.testing.assert_allclose(sums, total, rtol=1e-12)


@pytest.mark.parametrize("name", ["option a", "zeros behind", "channel split", "learned scales", "bilinear"])
def test_the_signed_saliency_of_a_loss_conserves_in_homogeneous_blocks(name):
    if name == "bilinear":
        torch.manual_seed(0)
        parts = {"a": nn.Linear(5, 6), "b": nn.Linear(5, 6), "c": nn.Linear(6, 3), "shift": learned(6)}
        build = Block(lambda m, x: m.c(torch.relu(m.a(x)) * m.b(x) + m.shift), **parts)
        net = initialize(lambda s, c: build, dataset((5,)), "as_built")
    else:
        net = network(name, "as_built")
    own = dataset(net.input_shape)
    batch = own.x_train[:16], own.y_train[:16]
    found = saliency_conservation(net, np.ones(net.spec.size, dtype=bool), F.cross_entropy, batch)
    assert found.neuron < 1e-9
    assert found.network < 1e-9


@each
def test_a_path_that_is_grown_is_alive_by_itself(name):
    spec = network(name).spec
    for seed in range(6):
        grown = random_paths(spec, np.random.default_rng(seed), 1)
        assert grown.any()
        assert np.array_equal(live(grown, spec), grown)


@pytest.mark.parametrize("name", ["mobilenet v3", "option a", "gated linear unit"])
def test_synflow_prunes_to_an_exact_count(name):
    net = network(name, "as_built")
    mask = prune(net, "synflow", density=0.3, steps=10)
    assert mask.sum() == round(0.3 * net.spec.size)
    assert live(mask, net.spec, constants=False).sum() > 0.9 * mask.sum()


def stochastic_depth(input, p, mode, training=True):
    """What torchvision.ops.stochastic_depth does with rows."""
    if not training or not p:
        return input
    kept = torch.empty(len(input), *[1] * (input.ndim - 1), dtype=input.dtype).bernoulli_(1 - p)
    return input * kept.div_(1 - p)


torch.fx.wrap("stochastic_depth")


def dropping(p, mode="row"):
    def compute(m, x):
        x = torch.relu(m.stem(x))
        x = x + stochastic_depth(m.conv(x), p, mode, m.training)
        return m.head(x.mean((2, 3)))

    return Block(compute, stem=nn.Conv2d(3, 5, 3), conv=nn.Conv2d(5, 5, 1), head=nn.Linear(5, 3))


def test_stochastic_depth_drops_whole_samples_and_is_known():
    wiring = trace(dropping(0.3), (3, 6, 6))
    assert [step.operation for step in wiring.steps].count("dropout") == 1
    net = initialize(lambda s, c: dropping(0.3), dataset((3, 6, 6)))
    orders = [data_order(len(dataset((3, 6, 6)).y_train), RECIPE, [0])] * 2
    masks = np.stack([sparse(net, 0)] * 2)
    cohort = Cohort(
        net.wiring, masks, [tensors_of(net)], device=torch.device("cpu"), dtype=torch.float64, engine="single"
    )
    train(cohort, dataset((3, 6, 6)), RECIPE, orders)
    first, second = cohort.parameters()["conv.weight"]
    assert torch.equal(first, second)
    assert "the function test_blocks.stochastic_depth" in refusal(trace, dropping(0.3, "batch"), (3, 6, 6))


# What is numbered together


def names_of(module, shape):
    return [(group.name, group.size, group.kind) for group in trace(module, shape).spec.groups]


def test_a_gate_shares_the_units_that_it_multiplies():
    groups = names_of(BLOCKS["squeeze-excite resnet"][0](), BLOCKS["squeeze-excite resnet"][1])
    assert groups == [
        ("input", 3, "input"),
        ("stem", 6, "hidden"),
        ("conv1", 6, "hidden"),
        ("down", 3, "hidden"),
        ("output", 3, "output"),
    ]


def test_a_slice_parts_a_group_and_zeros_have_units_of_their_own():
    groups = names_of(BLOCKS["zeros behind"][0](), BLOCKS["zeros behind"][1])
    assert groups == [
        ("input", 3, "input"),
        ("stem", 3, "hidden"),
        ("conv1[1]", 3, "hidden"),
        ("zeros of zeros_like", 6, "hidden"),
        ("output", 3, "output"),
    ]
    assert [size for _, size, _ in names_of(BLOCKS["option a"][0](), BLOCKS["option a"][1])] == [
        3,
        4,
        7,
        1,
        2,
        3,
    ]


def test_a_shuffle_takes_channel_j_from_where_it_was():
    """Channel j is then channel (j mod g) C / g + j div g; those beside each other are numbered apart."""
    for forward in (
        lambda m, x: m.head(m.shuffle(m.stem(x)).mean((2, 3))),
        lambda m, x: m.head(torch.channel_shuffle(m.stem(x), 3).mean((2, 3))),
        lambda m, x: m.head(
            m.stem(x).reshape(len(x), 3, 4, 4, 4).permute(0, 2, 1, 3, 4).flatten(1, 2).mean((2, 3))
        ),
    ):
        parts = {"stem": nn.Conv2d(3, 12, 3), "shuffle": nn.ChannelShuffle(3), "head": nn.Linear(12, 3)}
        wiring = trace(Block(forward, **parts), (3, 6, 6))
        (step,) = (step for step in wiring.steps if step.operation == "select")
        assert step.function.numbers == (0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11)
        assert [group.size for group in wiring.spec.groups if group.kind == "hidden"] == [1] * 12
