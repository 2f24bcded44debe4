"""Receptive positions: kernel positions that can only read padding are never live, and all that follows."""

import copy
import dataclasses
from functools import cache

import numpy as np
import pytest
import torch
from conftest import data, refused
from loops import matters, recipes, tensors_of, torch_loop
from torch import nn

import ticketsearch as ts
from ticketsearch import operators
from ticketsearch.evolution import LocalSearch
from ticketsearch.masks import MaskSpec, between_live, effective_density, layer_counts, layer_shuffle, live
from ticketsearch.masks.guidance import Guidance
from ticketsearch.overlap import chance_iou, overlap_study, raw_overlap
from ticketsearch.overlap.null_models import degree_shuffle
from ticketsearch.pruners import prune
from ticketsearch.training import Cohort, data_order, train
from ticketsearch.wiring import trace

pytestmark = pytest.mark.slow

C, R, S = nn.Conv2d, nn.ReLU, nn.Sequential


def head(units):
    return nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(units, 3)


class Joined(nn.Module):
    """The values of several branches side by side, or their sum."""

    def __init__(self, *branches, add=False):
        super().__init__()
        self.branches, self.add = nn.ModuleList(branches), add

    def forward(self, x):
        values = [branch(x) for branch in self.branches]
        return values[0] + values[1] if self.add else torch.cat(values, 1)


# Name: (module, input shape, weights that can never be live).
NETWORKS = {
    "after global pooling": (
        S(C(2, 4, 3, 4, 1), R(), nn.AdaptiveAvgPool2d(1), C(4, 4, 3, padding=1), R(), *head(4)),
        (2, 8, 8),
        128,
    ),
    "kernels of 5": (
        S(C(2, 4, 5, 2, 2), R(), C(4, 4, 5, 2, 2), R(), C(4, 4, 5, 1, 2), *head(4)),
        (2, 7, 7),
        256,
    ),
    "strides": (
        S(C(2, 4, 3, 2, 1), nn.BatchNorm2d(4), R(), C(4, 4, 3, 2, 1), R(), C(4, 4, 3, 2, 1), *head(4)),
        (2, 8, 8),
        80,
    ),
    "dilation": (
        S(C(2, 4, 3, 1, 2, dilation=2), R(), nn.MaxPool2d(2), C(4, 4, 3, 1, 3, dilation=3), R(), *head(4)),
        (2, 5, 5),
        128,
    ),
    "one dimension": (
        S(nn.Conv1d(2, 4, 3, 2, 1), R(), nn.Conv1d(4, 4, 5, 1, 2), R(), nn.Flatten(), nn.Linear(8, 3)),
        (2, 4),
        32,
    ),
    "three dimensions": (
        S(nn.Conv3d(1, 2, 3, 2, 1), R(), nn.Conv3d(2, 2, 3, 1, 1), R(), nn.Flatten(), nn.Linear(2, 3)),
        (1, 2, 2, 1),
        150,
    ),
    "explicit padding": (
        S(C(2, 4, 3), R(), nn.AdaptiveMaxPool2d(1), nn.ZeroPad2d(1), C(4, 4, 3), R(), *head(4)),
        (2, 5, 5),
        128,
    ),
    "padding, then a shift": (
        S(C(2, 4, 3), nn.AdaptiveMaxPool2d(1), nn.ZeroPad2d(1), nn.BatchNorm2d(4), C(4, 4, 3), R(), *head(4)),
        (2, 5, 5),
        0,
    ),
    "padding, then f(0) ≠ 0": (
        S(C(2, 4, 3, 2, 1, bias=False), nn.ZeroPad2d(1), nn.Sigmoid(), C(4, 4, 3), R(), *head(4)),
        (2, 2, 2),
        40,  # nothing of the first layer's value is known to be read but its only entry
    ),
    "padding, then flattened": (
        S(C(2, 4, 3), R(), nn.ZeroPad2d(1), nn.Flatten(), nn.Linear(100, 3)),
        (2, 5, 5),
        192,
    ),
    "a border of biases": (
        S(C(2, 4, 1, 1, 1), R(), C(4, 4, 3), R(), nn.Flatten(), nn.Linear(16, 3)),
        (2, 2, 2),
        0,
    ),
    "padding with data": (
        S(
            C(2, 4, 3, 1, 1, padding_mode="reflect"),
            R(),
            C(4, 4, 3, 2, 1, padding_mode="circular"),
            R(),
            *head(4),
        ),
        (2, 3, 3),
        0,
    ),
    "nobody looks there": (
        S(C(2, 4, 3, 1, 1), R(), C(4, 4, 3, 5, 1), R(), nn.Flatten(), nn.Linear(4, 3)),
        (2, 4, 4),
        80,
    ),
    "upsampling": (
        S(C(2, 4, 3, 3), R(), nn.Upsample(scale_factor=2), C(4, 4, 5, 1, 2), R(), *head(4)),
        (2, 3, 3),
        256,
    ),
    "depthwise and grouped": (
        S(C(2, 4, 3, 2, 1), R(), C(4, 4, 3, 2, 1, groups=4), R(), C(4, 4, 3, 1, 1, groups=2), R(), *head(4)),
        (2, 4, 4),
        84,
    ),
    "a sum": (
        S(
            C(2, 4, 3, 2, 1),
            R(),
            Joined(S(C(4, 4, 3, 2, 1), R(), C(4, 4, 3, 1, 1)), C(4, 4, 1, 2), add=True),
            *head(4),
        ),
        (2, 4, 4),
        208,
    ),
    "a concatenation of parts that are padded and not": (
        S(
            C(2, 4, 3, 2, 1),
            R(),
            Joined(S(nn.AdaptiveAvgPool2d(1), nn.ZeroPad2d(1)), S(C(4, 4, 3, 1, 1), nn.Upsample((3, 3)))),
            C(8, 4, 3),
            *head(4),
        ),
        (2, 2, 2),
        296,
    ),
    "normalised over the sample": (
        S(C(2, 4, 3, 2, 1), nn.LayerNorm((4, 2, 2)), R(), nn.MaxPool2d(3, 2, 1), C(4, 4, 3, 1, 1), *head(4)),
        (2, 4, 4),
        128,
    ),
}


def slopes(module, input_shape, layers):
    """Return which weights have a gradient for some of many random tensors and samples, in either mode."""
    own = copy.deepcopy(module).double()
    generator = torch.Generator().manual_seed(1)
    found = {layer.name: torch.zeros(layer.shape, dtype=torch.bool) for layer in layers}
    for turn in range(8):
        own.train(turn % 2 == 0)
        with torch.no_grad():
            for parameter in own.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
        own.zero_grad()
        x = torch.randn((12, *input_shape), generator=generator, dtype=torch.float64)
        out = own(x)
        (out * torch.randn(out.shape, generator=generator, dtype=torch.float64)).sum().backward()
        for name, part in found.items():
            part |= own.get_parameter(name).grad.abs() > 1e-9
    return np.concatenate([part.numpy().ravel() for part in found.values()])


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_that_cannot_be_live_are_those_that_never_have_a_gradient(name):
    module, input_shape, unread = NETWORKS[name]
    spec = trace(module, input_shape).spec
    assert np.array_equal(spec.readable, slopes(module, input_shape, spec.layers))
    assert spec.size - spec.readable.sum() == unread == spec.size - sum(spec.readable_sizes)


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"), [(3, 1, 1), (3, 2, 1), (5, 2, 1), (3, 1, 2), (5, 1, 2)]
)
@pytest.mark.parametrize("size", [1, 2, 3])
def test_data_reach_the_positions_of_an_all_ones_path(kernel, stride, dilation, size):
    padding = dilation * (kernel // 2)
    layers = [C(2, 2, kernel, stride, padding, dilation, bias=False) for _ in range(2)]
    spec = trace(S(*layers, *head(2)), (2, size, size)).spec
    for layer in layers:
        nn.init.ones_(layer.weight)
    S(*layers)(torch.ones(1, 2, size, size)).sum().backward()
    for layer, part in zip(layers, spec.split(spec.data_readable).values(), strict=False):
        assert np.array_equal(part, layer.weight.grad.numpy() > 0)


def test_weights_that_read_constants_alone_are_live_but_not_effective():
    spec = trace(*NETWORKS["padding, then a shift"][:2]).spec
    everything = np.ones(spec.size, dtype=bool)
    assert spec.readable.all()
    assert spec.size - spec.data_readable.sum() == 128
    assert live(everything, spec).all()
    assert effective_density(everything, spec) == (spec.size - 128) / spec.size


def block(inputs, outputs, stride):
    """A basic block of a ResNet: its shortcut is a 1 × 1 convolution where shapes change."""
    body = S(
        *(C(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), R()),
        *(C(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)),
    )
    plain = stride == 1 and inputs == outputs
    short = S(C(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
    return S(Joined(body, nn.Identity() if plain else short, add=True), R())


def resnet18(classes=10):
    """The layers of torchvision's ResNet-18."""
    widths = [64, 64, 64, 128, 128, 256, 256, 512, 512]
    strides = [1, 1, 2, 1, 2, 1, 2, 1]
    blocks = [block(*each) for each in zip(widths, widths[1:], strides, strict=False)]
    stem = C(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), R(), nn.MaxPool2d(3, 2, 1)
    return S(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, classes))


def test_most_weights_of_resnet18_read_padding_alone_on_small_images():
    spec = trace(resnet18(), (3, 32, 32)).spec
    assert spec.size == 11_172_032
    assert spec.size - spec.readable.sum() == 6_946_816
    mask = np.random.default_rng(0).random(spec.size, dtype=np.float32) < 0.1
    assert effective_density(mask, spec) == pytest.approx(0.037, abs=5e-4)


def test_reading_positions_changes_nothing_where_all_are_read():
    spec = trace(S(C(1, 2, 3, 1, 1), R(), nn.Flatten(), nn.Linear(32, 2)), (1, 4, 4)).spec
    assert spec.reads == ()
    assert "reads" not in spec.to_json()


# --- all that follows, on one network


def padded(bias=True):
    """Its second convolution reads a map of 1 × 1: 512 of 872 weights can never be live."""
    layers = (
        C(3, 8, 3, 4, 1),
        R(),
        nn.AdaptiveAvgPool2d(1),
        C(8, 8, 3, padding=1, bias=bias),
        R(),
        nn.Flatten(),
    )
    return S(*layers, nn.Linear(8, 10))


DATASET = data(3, 8, 8, classes=10)


@cache
def network_of_padded():
    return ts.initialize(lambda input_shape, classes: padded(), DATASET, scheme="kaiming_normal", seed=0)


def padded_spec():
    return network_of_padded().spec


def unreadable():
    return ~padded_spec().readable


def random_mask(seed, density=0.2):
    """A mask that keeps weights that read padding alone like any others."""
    return np.random.default_rng(seed).random(padded_spec().size) < density


def readable_mask(seed, count=100):
    mask = np.zeros(padded_spec().size, dtype=bool)
    mask[np.random.default_rng(seed).choice(np.flatnonzero(~unreadable()), count, replace=False)] = True
    return mask


def test_a_convolution_after_global_pooling_reads_by_its_centre_alone():
    assert padded_spec().size == 872
    assert unreadable().sum() == 512
    assert padded_spec().readable_sizes == (216, 64, 80)
    assert not unreadable()[: padded_spec().layers[1].offset].any()
    assert np.array_equal(np.flatnonzero(~unreadable()[padded_spec().layers[1].slice]) % 9, np.full(64, 4))


def test_live_weights_and_candidates_read_data():
    everything = np.ones(padded_spec().size, dtype=bool)
    assert np.array_equal(live(everything, padded_spec()), ~unreadable())
    assert np.array_equal(between_live(everything, padded_spec()), ~unreadable())
    assert effective_density(everything, padded_spec()) == 360 / 872


def test_a_unit_that_only_such_weights_reach_is_dead():
    spec = dataclasses.replace(
        padded_spec(), nodes=tuple(node._replace(constant=False) for node in padded_spec().nodes)
    )
    mask = np.ones(spec.size, dtype=bool)
    spec.split(mask)["3.weight"][3, :, 1, 1] = False
    assert np.array_equal(np.flatnonzero(~ts.live_units(mask, spec)["3"]), [3])


def test_keys_forms_and_isomorphism_are_those_of_the_readable_part():
    mask = random_mask(1)
    bare = mask & ~unreadable()
    assert (mask & unreadable()).any()
    assert ts.canonical_key(mask, padded_spec()) == ts.canonical_key(bare, padded_spec())
    assert np.array_equal(ts.canonical_form(mask, padded_spec()), ts.canonical_form(bare, padded_spec()))
    assert ts.isomorphic(mask, bare, padded_spec())
    assert ts.to_networkx(mask, padded_spec()).edges == ts.to_networkx(bare, padded_spec()).edges
    other = bare.copy()
    other[np.flatnonzero(live(bare, padded_spec()))[0]] = False
    assert ts.canonical_key(mask, padded_spec()) != ts.canonical_key(other, padded_spec())


def test_training_does_not_feel_such_weights():
    """The engine leaves out a unit that nothing else reaches; a plain loop keeps it, decay and all."""
    network = ts.initialize(lambda *_: padded(bias=False), DATASET, scheme="kaiming_normal", seed=0)
    mask = random_mask(2)
    padded_spec().split(mask)["3.weight"][3, :, 1, 1] = False
    masks, recipe = np.stack([mask, mask & ~unreadable()]), recipes(5, 3)["sgd"]
    order = data_order(len(DATASET.y_train), recipe, [0])
    cohort = Cohort(
        network.wiring, masks, [tensors_of(network)], device=torch.device("cpu"), dtype=torch.float64
    )
    train(cohort, DATASET, recipe, [order, order])
    assert all(3 not in part.compactions[0].places["3.weight"][0] for _, part in cohort.placed())
    *_, (module, _) = torch_loop(network, mask, DATASET, recipe, order)
    matter = matters(network, mask)
    for name, parameter in module.named_parameters():
        own, other = (part[matter[name]] for part in cohort.parameters()[name])
        assert torch.equal(own, other)
        torch.testing.assert_close(own, parameter.detach()[matter[name]], rtol=0, atol=1e-12)


def test_specs_of_before_are_read_and_have_the_same_signature():
    stored = padded_spec().to_json()
    assert MaskSpec.from_json(stored) == padded_spec()
    before = MaskSpec.from_json({key: value for key, value in stored.items() if key != "reads"})
    assert before.reads == ()
    assert before.signature == padded_spec().signature  # their tickets still fit
    assert live(np.ones(padded_spec().size, dtype=bool), before).all()


def test_declared_wirings_have_no_shapes_and_read_all_positions():
    module = padded()
    module.neuron_groups = {
        "0.weight": ("a", "input"),
        "0.bias": ("a",),
        "3.weight": ("b", "a"),
        "3.bias": ("b",),
        "6.weight": ("output", "b"),
    }
    assert trace(module, (3, 8, 8)).spec.readable.all()


@pytest.mark.parametrize("name", operators.__all__)
def test_operators_keep_no_weight_more_that_reads_padding_alone(name):
    operator = getattr(operators, name)
    rng = np.random.default_rng(0)
    for seed in range(4):
        parents = [readable_mask(2 * seed), readable_mask(2 * seed + 1)]
        if name.endswith("mutation"):
            parents = parents[:1]
        child = operator(*parents, spec=padded_spec(), rng=rng)
        assert child.sum() == 100
        assert not (child & unreadable()).any()


def test_guided_swaps_prune_such_weights_first_and_grow_none():
    mask = random_mask(3)
    kept, pruned = np.flatnonzero(mask), np.flatnonzero(~mask)
    guidance = Guidance(
        np.ones(len(kept), dtype=np.float32), pruned, np.where(unreadable()[pruned], 9, 1).astype(np.float32)
    )
    child = operators.guided_mutation(
        mask, spec=padded_spec(), rng=np.random.default_rng(0), guidance=guidance, rate=0.2
    )
    assert not (child & ~mask & unreadable()).any()
    assert unreadable()[mask & ~child].all()


def test_crossovers_drop_such_weights_first():
    a, b = random_mask(4), random_mask(5)
    guides = tuple(
        Guidance(np.ones(int(m.sum()), dtype=np.float32), np.arange(0), np.ones(0)) for m in (a, b)
    )
    for name in ("uniform_crossover", "union_crossover", "neuron_crossover"):
        given = {} if name == "uniform_crossover" else {"guidance": guides}
        child = getattr(operators, name)(a, b, spec=padded_spec(), rng=np.random.default_rng(0), **given)
        assert child.sum() == a.sum()
        assert (child & unreadable()).sum() < (a & unreadable()).sum()


def test_polishing_keeps_no_such_weight():
    climb = LocalSearch(20, padded_spec().size).improvement(lambda masks: np.zeros(len(masks)), padded_spec())
    masks, _ = climb(np.stack([readable_mask(seed) for seed in range(8)]), np.random.default_rng(0))
    assert not (masks & unreadable()).any()


def test_shuffled_masks_keep_such_weights_last():
    rng = np.random.default_rng(0)
    child = layer_shuffle(random_mask(6, 0.07), spec=padded_spec(), rng=rng)
    assert np.array_equal(
        layer_counts(child, padded_spec()), layer_counts(random_mask(6, 0.07), padded_spec())
    )
    assert not (child & unreadable()).any()
    dense = layer_shuffle(np.ones(padded_spec().size, dtype=bool), spec=padded_spec(), rng=rng)
    assert dense.all()
    half = layer_shuffle(random_mask(6, 0.5), spec=padded_spec(), rng=rng)
    assert half[padded_spec().layers[1].slice][~unreadable()[padded_spec().layers[1].slice]].all()
    bare = readable_mask(7)
    assert not (degree_shuffle(bare, spec=padded_spec(), rng=rng) & unreadable()).any()


def test_overlap_counts_what_can_be_live():
    masks = np.stack([random_mask(seed) for seed in (8, 9, 10)])
    bare = masks & ~unreadable()
    for own, other in zip(raw_overlap(masks, padded_spec()), raw_overlap(bare, padded_spec()), strict=True):
        assert np.array_equal(own, other)
    # A mask of 4 and one of 16 among the 64 of the second layer: 1 is shared on average.
    pair = np.zeros((2, padded_spec().size), dtype=bool)
    centres = (
        np.flatnonzero(padded_spec().readable[padded_spec().layers[1].slice]) + padded_spec().layers[1].offset
    )
    pair[0, centres[:4]] = pair[1, centres[:16]] = True
    exact = sum(
        np.prod([_binomial(16, k), _binomial(48, 4 - k)]) / _binomial(64, 4) * k / (20 - k) for k in range(5)
    )
    assert chance_iou(pair, padded_spec()).whole[0, 1] == pytest.approx(exact)
    refused(lambda: chance_iou(np.array([[0, 65, 0], [0, 1, 0]]), padded_spec()), "64", "padding")


def _binomial(n, k):
    return float(np.prod([(n - i) / (i + 1) for i in range(k)]))


def test_an_overlap_study_is_that_of_the_readable_parts():
    masks = np.stack([random_mask(seed) for seed in (11, 12)])
    found = [
        overlap_study(own, padded_spec(), draws=3, aligned_draws=2) for own in (masks, masks & ~unreadable())
    ]
    for field in ("iou", "chance", "aligned", "containment", "layers_chance"):
        assert np.array_equal(*(getattr(study, field) for study in found))
    assert found[0].nulls == found[1].nulls
    assert found[0].keys == found[1].keys


RANDOM = [
    {"method": "random"},
    {"method": "random", "distribution": "uniform"},
    {"method": "random", "distribution": "erk"},
    {"method": "random", "schedule": "exponential", "steps": 4},
    {"method": "flow_preserving", "rounds": 3, "tries": 3},
]


@pytest.mark.parametrize("options", RANDOM)
@pytest.mark.parametrize("density", [0.1, 0.4])
def test_random_masks_draw_among_readable_weights_as_long_as_there_are_enough(options, density):
    mask = prune(network_of_padded(), density=density, seed=1, **options)
    assert mask.sum() == round(density * padded_spec().size)
    assert not (mask & unreadable()).any()


@pytest.mark.parametrize("options", RANDOM)
def test_weights_that_read_padding_alone_are_taken_last(options):
    mask = prune(network_of_padded(), density=0.6, seed=1, **options)
    assert mask.sum() == round(0.6 * padded_spec().size)
    assert mask[~unreadable()].all()


def test_a_layer_scope_draws_such_weights_last_within_each_layer():
    mask = prune(network_of_padded(), "random", density=0.1, scope="layer", seed=1)
    assert (abs(layer_counts(mask, padded_spec()) - 0.1 * np.array([216, 576, 80])) <= 1).all()
    assert not (mask & unreadable()).any()
