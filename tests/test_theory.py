"""Theory: conservation, layer collapse and critical compression, where they hold and where they do not."""

import math

import networks
import numpy as np
import pytest
import torch
from conftest import every, refused
from torch import nn

from ticketsearch import initialize, prune
from ticketsearch.datasets import from_arrays
from ticketsearch.masks import layer_counts
from ticketsearch.models import AS_BUILT, SCHEMES
from ticketsearch.pruners import PruningStep, scores_at_once
from ticketsearch.theory import (
    audit,
    collapsed,
    conservation,
    critical_compression,
    disconnected,
    prune_to_cut,
    rho_max,
    saliency_conservation,
)
from ticketsearch.theory.compression import _CutRecorder

pytestmark = pytest.mark.slow

EXACT = 1e-9


@pytest.fixture(scope="module")
def images():
    """60 samples of noise, 3×32×32, in 10 classes."""
    rng = np.random.default_rng(0)
    return from_arrays("images", rng.normal(size=(60, 3, 32, 32)).astype(np.float32), np.arange(60) % 10)


@pytest.fixture(scope="module")
def narrow(images):
    """Return a narrow network of a name, made once."""
    made = {}
    widths = {"lenet5": 0.5, "vgg16_bn": 1 / 8, "resnet20": 1 / 4}

    def network(name, **options):
        if name not in made:
            made[name] = initialize(name, images, width=widths[name], **options)
        return made[name]

    return network


def batch(dataset, size=32):
    return dataset.x_train[:size], dataset.y_train[:size]


def everything(network):
    return np.ones(network.spec.size, dtype=np.bool_)


def thinned(network, share=0.3):
    """Return a random mask."""
    return np.random.default_rng(1).random(network.spec.size) < share


def by_hand(input_shape, classes):
    module = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        module[0].weight.copy_(torch.tensor([[1.0, 2.0], [3.0, -4.0]]))
        module[2].weight.copy_(torch.tensor([[5.0, -6.0], [0.0, 7.0]]))
    return module


@pytest.fixture(scope="module")
def hand():
    """A network of two hidden neurons whose weights and flows are small integers."""
    data = from_arrays("two", np.arange(24.0).reshape(12, 2), np.arange(12) % 2)
    return initialize(by_hand, data, scheme=AS_BUILT)


# Conservation


def test_the_flow_of_two_neurons_is_what_it_is_by_hand(hand):
    scores = scores_at_once(hand, "synflow", steps=1)
    # Neuron 0: 1 + 2 flow in and 5 + 0 carry on; neuron 1: 3 + 4 in, 6 + 7 on. R = 3·5 + 7·13 = 106.
    wanted = np.array([1 * 5, 2 * 5, 3 * 13, 4 * 13, 3 * 5, 7 * 6, 0, 7 * 7])
    assert np.array_equal(scores * 64, wanted)  # scaled by a power of two
    assert scores[:4].sum() * 64 == scores[4:].sum() * 64 == 106
    assert rho_max(hand.spec) == 8 / 2
    found = conservation(scores, hand)
    assert found == (0.0, 0.0, 2, 2)


def test_violations_of_two_neurons_are_what_they_are_by_hand(hand):
    found = conservation(np.array([1.0, 2, 3, 4, 5, 6, 7, 8]), hand)
    # Neuron 0: 1 + 2 in, 5 + 7 out; neuron 1: 3 + 4 in, 6 + 8 out. Cuts 10 and 26, their mean 18.
    assert found.neuron == pytest.approx(9 / (15 / 2), rel=1e-15)
    assert found.network == pytest.approx(8 / 18, rel=1e-15)
    named = {"0.weight": torch.tensor([[1.0, 2], [3, 4]]), "2.weight": torch.tensor([[5.0, 6], [7, 8]])}
    assert conservation(named, hand) == found


@pytest.mark.parametrize("name", ["lenet5", "vgg16_bn", "resnet20"])
def test_synflow_conserves_at_every_neuron_and_cut_of_convolutional_networks(narrow, name):
    network = narrow(name)
    found = conservation(scores_at_once(network, "synflow", steps=1), network)
    assert found.neuron < EXACT
    assert found.network < EXACT
    assert found.neurons == sum(network.spec.groups[group].size for group in network.spec.hidden)
    if name == "resnet20":  # past all layers but the first and the last a shortcut leads
        assert found.cuts == 2
    for mask in (everything(network), thinned(network, 0.5)):
        whole = saliency_conservation(network, mask, None)
        assert whole.neuron < EXACT
        assert whole.network < EXACT
        # Shortcuts are counted in, so every layer lies in a cut; and so do the inputs.
        assert whole.cuts == len(network.spec.layers) + 1


@pytest.mark.parametrize("scheme", [*SCHEMES, AS_BUILT])
def test_synflow_conserves_in_fully_connected_networks(digits, scheme):
    network = initialize("mlp:30,20", digits, scheme, seed=3)
    found = conservation(scores_at_once(network, "synflow", steps=1), network)
    assert found.neuron < EXACT
    assert found.network < EXACT
    assert (found.neurons, found.cuts) == (50, 3)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "identity"])
def test_the_signed_saliency_of_a_loss_conserves_where_activations_are_homogeneous(digits, activation):
    network = initialize("mlp:30,20", digits, AS_BUILT, seed=3, activation=activation)
    assert all(bool(value.any()) for name, value in network.parameters().items() if "bias" in name)
    for mask in (everything(network), thinned(network)):
        found = saliency_conservation(network, mask, nn.functional.cross_entropy, batch(digits))
        assert found.neuron < EXACT
        assert found.network < EXACT


def test_the_signed_saliency_of_a_loss_conserves_past_shortcuts_and_normalisations(narrow, images):
    network = narrow("resnet20")
    found = saliency_conservation(network, everything(network), nn.functional.cross_entropy, batch(images, 8))
    assert found.neuron < EXACT
    assert found.network < EXACT


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "gelu"])
def test_it_does_not_where_they_are_not(digits, activation):
    network = initialize("mlp:30,20", digits, AS_BUILT, seed=3, activation=activation)
    found = saliency_conservation(network, everything(network), nn.functional.cross_entropy, batch(digits))
    assert found.neuron > 1e-3
    assert found.network > 1e-3


def test_absolute_saliency_does_not_conserve(digits):
    network = initialize("mlp:30,20", digits, AS_BUILT, seed=3)
    found = saliency_conservation(
        network, everything(network), nn.functional.cross_entropy, batch(digits), absolute=True
    )
    assert found.neuron > 1e-3
    assert found.network > 1e-3
    assert conservation(scores_at_once(network, "snip", dataset=digits), network).neuron > 1e-3


def test_where_biases_feed_the_flow_it_is_not_conserved(digits):
    network = initialize("mlp:30,20", digits, AS_BUILT, seed=3)
    assert conservation(scores_at_once(network, "synflow", steps=1, biases=True), network).neuron > 1e-3


def test_conservation_refuses_an_r_that_is_not_finite(digits):
    network = initialize("mlp:30", digits)
    refused(
        lambda: saliency_conservation(
            network, everything(network), lambda outputs, y: outputs.sum() * math.inf, batch(digits)
        ),
        "float64",
        "R of 'mlp:30'",
    )


# Layer collapse


def test_an_empty_layer_need_not_disconnect_and_a_disconnected_mask_need_have_none():
    shortcut = networks.residual(2, 3, 2)
    parts = {layer.name: np.ones(layer.shape, dtype=np.bool_) for layer in shortcut.layers}
    parts["l1"][:] = False
    mask = shortcut.join(parts)
    assert collapsed(mask, shortcut) == ["l1"]
    assert not disconnected(mask, shortcut)

    chain = networks.mlp(2, 2, 1)
    apart = chain.join({"fc0.weight": [[True, False], [False, False]], "fc1.weight": [[False, True]]})
    assert collapsed(apart, chain) == []
    assert disconnected(apart, chain)
    meeting = chain.join({"fc0.weight": [[True, False], [False, False]], "fc1.weight": [[True, False]]})
    assert not disconnected(meeting, chain)


def test_what_a_bias_lets_live_does_not_connect_outputs_to_inputs():
    chain = networks.mlp(2, 2, 1, constant=True)
    apart = chain.join({"fc0.weight": np.zeros((2, 2), dtype=bool), "fc1.weight": [[True, True]]})
    assert disconnected(apart, chain)


# Critical compression


@pytest.mark.parametrize("scheme", [*SCHEMES, AS_BUILT])
@pytest.mark.parametrize("seed", every([0, 1, 2], default=[0]))
def test_synflow_in_a_hundred_steps_reaches_rho_max_of_fully_connected_networks(digits, scheme, seed):
    network = initialize("mlp:60,40,20", digits, scheme, seed=seed)
    found = critical_compression(network, "synflow")
    assert found.holds
    assert found.rho == found.rho_max == rho_max(network.spec)
    assert found.kept == 4
    mask = prune(network, "synflow", density=4 / network.spec.size)
    assert layer_counts(mask, network.spec).tolist() == [1, 1, 1, 1]
    assert not disconnected(mask, network.spec)


def test_synflow_comes_within_a_schedule_step_of_rho_max_of_a_deep_convolutional_network(narrow):
    network = narrow("vgg16_bn")
    found = critical_compression(network, "synflow")
    assert found.rho * found.rho_max ** (1 / 100) >= found.rho_max


@pytest.mark.parametrize("method", ["magnitude", "snip", "grasp", "random"])
def test_pruners_that_score_once_fall_short_of_rho_max(digits, method):
    network = initialize("mlp:100,50", digits)
    found = critical_compression(network, method, digits)
    assert found.exact
    assert not found.holds
    assert found.rho < found.rho_max
    density = found.kept / network.spec.size
    assert not collapsed(prune(network, method, density=density, dataset=digits), network.spec)
    with pytest.warns(UserWarning, match="layer collapse"):
        prune(network, method, density=(found.kept - 1) / network.spec.size, dataset=digits)


@pytest.mark.filterwarnings("ignore:.*layer collapse")
@pytest.mark.parametrize("method", ["magnitude", "random", "snip"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_critical_compression_is_that_of_trying_all_counts(tiny, method, seed):
    network = initialize("mlp:6,4", tiny, seed=seed)
    spec = network.spec
    whole = [
        count
        for count in range(len(spec.layers), spec.size + 1)
        if not collapsed(prune(network, method, density=count / spec.size, dataset=tiny, seed=5), spec)
    ]
    found = critical_compression(network, method, tiny, seed=5)
    assert found.exact
    assert (found.rho, found.kept) == (spec.size / whole[0], whole[0])
    assert whole == list(range(whole[0], spec.size + 1))


@pytest.mark.filterwarnings("ignore:.*layer collapse")
def test_critical_compression_of_a_schedule_is_told_to_within_a_step(digits):
    network = initialize("mlp:40,30", digits)
    found = critical_compression(network, "balanced_synflow", steps=20)
    assert not found.holds
    spec = network.spec

    def empty(count):
        return collapsed(prune(network, "balanced_synflow", density=count / spec.size, steps=20), spec)

    assert not empty(found.kept)
    further = math.ceil(found.kept / found.rho_max ** (1 / 20)) - 1
    assert empty(max(further, len(spec.layers)))


# Theorem 3


def test_synflow_prunes_less_than_a_cut_in_small_steps_and_more_in_one(digits):
    network = initialize("mlp:100,50", digits)
    ratio, counts = prune_to_cut(network, "synflow", steps=100)
    assert ratio < 1
    assert counts.shape == (101, 3)
    assert counts[0].tolist() == [6400, 5000, 500]
    assert counts[-1].tolist() == [1, 1, 1]
    assert (np.diff(counts, axis=0) <= 0).all()
    assert prune_to_cut(network, "synflow", steps=1)[0] > 1


def test_prune_size_and_cut_size_are_what_they_are_by_hand():
    recorder = _CutRecorder(networks.mlp(2, 2, 1))  # layers of 4 and 2 weights

    def cut(step, numbers, scores, kept):
        kept = np.array(kept, dtype=bool)
        recorder(
            PruningStep(0, step, np.array(numbers), np.array(scores, dtype=float), kept, np.zeros_like(kept))
        )

    cut(1, range(6), [1, 2, 3, 4, 5, 6], [0, 0, 1, 1, 1, 1])
    assert recorder.ratios[-1] == 3 / 10  # of 1 + 2, against cuts of 10 and 11
    cut(2, [2, 3, 4, 5], [7, 8, 2, 4], [1, 1, 0, 0])
    assert recorder.ratios[-1] == 6 / 6  # of 2 + 4, against cuts of 15 and 6
    cut(3, [2, 3], [1, 3], [0, 1])
    assert recorder.ratios[-1] == 1 / 4  # the empty layer is no cut
    cut(4, [3], [0], [0])
    assert recorder.ratios[-1] == 0  # nothing is left that could be pruned
    assert recorder.counts == [[4, 2], [2, 2], [2, 0], [1, 0], [0, 0]]


# The audit


def test_an_audit_yields_a_pruner_at_a_time(digits):
    network = initialize("mlp:40,30", digits)
    found = audit(network, ["synflow", "magnitude"], digits)
    first = next(found)
    assert first.method == "synflow"
    assert first.critical.holds
    assert first.used.neuron < EXACT
    assert first.used.network < EXACT
    assert first.signed is None
    assert first.prune_to_cut < 1
    assert [len(names) for names in first.empty.values()] == [0, 0, 0, 0]
    assert list(first.empty) == [10, 100, 1000, rho_max(network.spec)]
    assert first.disconnected == ()
    assert first.curve.collapse == math.inf
    assert first.curve.density.shape == (101, 3)
    second = next(found)
    assert (second.method, second.prune_to_cut) == ("magnitude", None)


def test_the_curve_of_a_pruner_that_scores_once_shows_where_the_first_layer_goes(digits):
    network = initialize("mlp:100,50", digits)
    for method in ("snip", "random"):
        (found,) = audit(network, [method], digits)
        kept, size = found.critical.kept, network.spec.size
        assert found.curve.collapse == size / (kept - 1)
        assert found.critical.rho in found.curve.compression
        assert (np.diff(found.curve.compression) > 0).all()
        assert found.curve.compression[[0, -1]].tolist() == [1, rho_max(network.spec)]
        assert (found.curve.density[0] == 1).all()
        assert found.empty[rho_max(network.spec)]


def test_the_audit_of_snip_tells_that_its_signed_saliency_is_conserved(digits):
    network = initialize("mlp:40,30", digits, AS_BUILT)
    (found,) = audit(network, ["snip"], digits)
    assert found.used.neuron > 1e-3
    assert found.signed.neuron < EXACT
    assert found.signed.network < EXACT


def test_an_audit_takes_steps_and_options_of_a_pruner(digits):
    network = initialize("mlp:20", digits)
    (coarse,) = audit(network, ["synflow"], steps=4)
    assert len(coarse.curve.compression) == 5
    refused(lambda: list(audit(network, ["synflow"], options={"synflow": {"bias": True}})), "biases")
    refused(lambda: list(audit(network, ["synfow"])), "unknown pruner 'synfow'", "synflow")
    refused(lambda: list(audit(network, ["snip"])), "needs data")
