"""Saliency, SNIP and GraSP against derivatives of the module itself, taken by plain autograd in float64."""

import copy
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import refused
from torch import nn

from ticketsearch.datasets import Dataset
from ticketsearch.models import initialize
from ticketsearch.pruners import PruningStep, grasp, prune, prune_all, saliency, snip

pytestmark = pytest.mark.slow

# The package's function of that name hides the module.
MODULE = sys.modules["ticketsearch.pruners.saliency"]


def shapes(input_shape, classes=3, samples=12):
    """A dataset of noise."""
    generator = torch.Generator().manual_seed(0)
    parts = {}
    for part in ("train", "validation", "test"):
        parts[f"x_{part}"] = torch.randn(samples, *input_shape, generator=generator)
        parts[f"y_{part}"] = torch.arange(samples) % classes
    return Dataset(name="noise", classes=classes, **parts)


FEATURES, IMAGES = shapes((7,)), shapes((2, 6, 6))


def disturbed(module):
    """Give biases, scales and running statistics values that an evaluation mode shows."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.ndim == 1:
                parameter.copy_(torch.rand_like(parameter) + (0.2 if name.endswith("weight") else -0.4))
        for name, buffer in module.named_buffers():
            if buffer.is_floating_point():
                buffer.copy_(torch.rand_like(buffer) + (0.3 if name.endswith("var") else -0.5))
    return module


def dense(input_shape, classes):
    layers = (nn.Linear(7, 9), nn.ReLU(), nn.Dropout(0.5), nn.Linear(9, 6), nn.Tanh(), nn.Linear(6, classes))
    return disturbed(nn.Sequential(*layers))


def convolutional(input_shape, classes):
    layers = (
        *(nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), nn.BatchNorm2d(6), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.3), nn.Linear(6, classes)),
    )
    return disturbed(nn.Sequential(*layers))


class Residual(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.stem, self.inner, self.head = nn.Linear(7, 5), nn.Linear(5, 5), nn.Linear(5, classes)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        return self.head(x + torch.relu(self.inner(x)))


class Declared(nn.Module):
    """What no trace reads, with its groups declared by hand; it computes relu(x Aᵀ) Bᵀ."""

    neuron_groups = {"first": ("hidden", "input"), "second": ("output", "hidden")}  # noqa: RUF012

    def __init__(self, classes):
        super().__init__()
        self.first = nn.Parameter(torch.randn(8, 7))
        self.second = nn.Parameter(torch.randn(classes, 8))

    def forward(self, x):
        return torch.einsum("ni,hi->nh", x, self.first).relu() @ self.second.T


NETWORKS = {
    "dense": lambda seed=0: initialize(dense, FEATURES, "as_built", seed),
    "convolutional": lambda seed=0: initialize(convolutional, IMAGES, "as_built", seed),
    "residual": lambda seed=0: initialize(lambda s, c: Residual(c), FEATURES, "as_built", seed),
    "declared": lambda seed=0: initialize(lambda s, c: Declared(c), FEATURES, "as_built", seed),
}


@pytest.fixture(params=NETWORKS)
def network(request):
    return NETWORKS[request.param]()


def batch_of(network):
    dataset = FEATURES if network.input_shape == (7,) else IMAGES
    return dataset.x_train, dataset.y_train


def half(network, seed=0):
    """A mask of about half the weights, by layer."""
    mask = np.random.default_rng(seed).random(network.spec.size) < 0.5
    return {name: torch.from_numpy(part.copy()) for name, part in network.spec.split(mask).items()}


def scored(function, network, mask, **options):
    rng = np.random.default_rng(0)
    options = {"precision": "float64", "device": "cpu", **options}
    return function(network, mask, batch_of(network), rng=rng, **options)


def masked_module(network, mask):
    """The module itself in float64 with its weights masked, in evaluation mode, and its weights by name."""
    module = copy.deepcopy(network.module).double().eval()
    weights = {name: module.get_parameter(name) for name in mask}
    with torch.no_grad():
        for name, kept in mask.items():
            weights[name].mul_(kept)
    return module, weights


def reward_by_weights(network, mask, reward):
    """∂R/∂θ ⊙ θ by autograd through the module."""
    module, weights = masked_module(network, mask)
    x, y = batch_of(network)
    slopes = torch.autograd.grad(reward(module(x.double()), y), list(weights.values()))
    return {name: (slope * weights[name]).detach() for name, slope in zip(weights, slopes, strict=True)}


def agree(found, expected, tolerance=1e-12):
    """Check that scores are equal, relative to the largest of their layer."""
    assert list(found) == list(expected)
    for name, scores in expected.items():
        assert found[name].shape == scores.shape
        difference = (found[name].double() - scores).abs().max()
        assert difference <= tolerance * scores.abs().max(), (name, difference, scores.abs().max())


def margin(outputs, y):
    """A reward that joins the samples of the batch."""
    return outputs.std() * outputs.gather(1, y[:, None]).prod().tanh() + outputs.logsumexp((0, 1))


# --- the derivatives


def test_snip_is_the_absolute_saliency_of_the_cross_entropy(network):
    mask = half(network)
    expected = reward_by_weights(network, mask, F.cross_entropy)
    agree(scored(saliency, network, mask, reward="cross_entropy"), expected)
    absolute = {name: scores.abs() for name, scores in expected.items()}
    agree(scored(snip, network, mask), absolute)
    agree(scored(saliency, network, mask, reward="cross_entropy", absolute=True), absolute)
    assert any((scores < 0).any() for scores in expected.values())


@pytest.mark.parametrize(
    ("reward", "meant"),
    [
        ("cross_entropy", F.cross_entropy),
        ("sum", lambda outputs, y: outputs.sum()),
        ("logit", lambda outputs, y: sum(outputs[i, label] for i, label in enumerate(y.tolist()))),
        (margin, margin),
        (nn.MSELoss(), None),
    ],
)
def test_the_reward_is_of_the_users_own(network, reward, meant):
    if meant is None:  # any callable of outputs and labels
        own = reward

        def reward(outputs, y):
            return own(outputs, F.one_hot(y, 3).to(outputs))

        meant = reward
    mask = half(network)
    agree(scored(saliency, network, mask, reward=reward), reward_by_weights(network, mask, meant))


def test_a_reward_in_a_file_is_used_by_name(tmp_path):
    (tmp_path / "mine.py").write_text("def squares(outputs, y):\n    return (outputs**2).sum()\n")
    network = NETWORKS["dense"]()
    mask = half(network)
    found = scored(saliency, network, mask, reward=f"{tmp_path / 'mine.py'}:squares")
    agree(found, reward_by_weights(network, mask, lambda outputs, y: (outputs**2).sum()))


def hessian_gradient_by_weights(network, mask, temperature):
    """θ ⊙ H g, with g of the kept weights, by differentiating twice through the module."""
    module, weights = masked_module(network, mask)
    x, y = batch_of(network)
    loss = F.cross_entropy(module(x.double()) / temperature, y)
    slopes = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
    kept = [slope * own for slope, own in zip(slopes, mask.values(), strict=True)]
    flow = sum((slope**2).sum() for slope in kept) / 2
    products = torch.autograd.grad(flow, list(weights.values()))
    return {name: (p * weights[name]).detach() for name, p in zip(weights, products, strict=True)}


@pytest.mark.parametrize("temperature", [200, 1.0])
def test_grasp_is_the_weight_times_hessian_times_gradient(network, temperature):
    mask = half(network)
    found = scored(grasp, network, mask, temperature=temperature)
    agree(found, hessian_gradient_by_weights(network, mask, temperature), 1e-11)
    assert all((scores != 0).any() for scores in found.values())


def test_grasp_is_what_a_weight_adds_to_the_gradient_flow():
    """By finite differences: gᵀg falls by 2 ε score when a weight shrinks by the factor 1 - ε."""
    network = initialize("mlp:5", FEATURES, seed=1, activation="tanh")
    module = copy.deepcopy(network.module).double()
    x, y = FEATURES.x_train.double(), FEATURES.y_train
    weights = {layer.name: module.get_parameter(layer.name) for layer in network.spec.layers}

    def flow():
        slopes = torch.autograd.grad(F.cross_entropy(module(x) / 200, y), list(weights.values()))
        return sum(float((slope**2).sum()) for slope in slopes)

    full = {name: torch.ones(w.shape, dtype=torch.bool) for name, w in weights.items()}
    scores = scored(grasp, network, full)
    step = 1e-5
    for name, weight in weights.items():
        for place in [(0, 0), (1, 2), (2, 1)]:
            value = weight[place].item()
            flows = []
            for sign in (-1, 1):
                with torch.no_grad():
                    weight[place] = value * (1 + sign * step)
                flows.append(flow())
            with torch.no_grad():
                weight[place] = value
            slope = (flows[1] - flows[0]) / (2 * step)
            assert float(scores[name][place]) == pytest.approx(slope / 2, rel=1e-5, abs=1e-14)


def test_the_scores_of_each_layer_of_a_bias_free_relu_chain_sum_to_the_outputs_share():
    network = initialize("mlp:9,8,6", FEATURES, bias=False)
    module = copy.deepcopy(network.module).double()
    outputs = module(FEATURES.x_train.double()).detach().requires_grad_()
    (slope,) = torch.autograd.grad(margin(outputs, FEATURES.y_train), outputs)
    share = (slope * outputs).sum().item()
    full = {layer.name: torch.ones(layer.shape, dtype=torch.bool) for layer in network.spec.layers}
    scores = scored(saliency, network, full, reward=margin)
    assert len(scores) == 4
    for own in scores.values():
        assert float(own.sum()) == pytest.approx(share, rel=1e-12)


@pytest.mark.parametrize("function", [saliency, snip, grasp])
def test_pruned_weights_score_exactly_zero(network, function):
    mask = half(network)
    for name, scores in scored(function, network, mask).items():
        assert (scores[~mask[name]] == 0).all()
        assert (scores[mask[name]] != 0).any()


@pytest.mark.parametrize("function", [saliency, snip, grasp])
def test_float32_scores_are_those_of_float64_but_for_rounding(network, function):
    mask = half(network)
    found = scored(function, network, mask, precision="float32")
    assert all(scores.dtype == torch.float32 for scores in found.values())
    agree(found, scored(function, network, mask), 1e-4)


# --- blocks, copies, and what is left alone


@pytest.mark.parametrize("function", [saliency, snip, grasp])
@pytest.mark.parametrize("samples", [1, 5])
@pytest.mark.parametrize("kind", ["dense", "convolutional"])
def test_blocks_of_samples_give_the_scores_of_the_whole_batch(monkeypatch, function, samples, kind):
    network = NETWORKS[kind]()
    mask = half(network)
    options = {"reward": margin} if function is saliency else {}
    expected = scored(function, network, mask, **options)
    values = sum(int(np.prod(step.shape)) for step in network.wiring.steps)
    seen = []
    whole = type(network.wiring).forward

    def forward(wiring, tensors, x, **mode):
        seen.append(len(x))
        return whole(wiring, tensors, x, **mode)

    monkeypatch.setattr(MODULE, "BLOCK_VALUES", samples * values + 1)
    monkeypatch.setattr(type(network.wiring), "forward", forward)
    agree(scored(function, network, mask, **options), expected)
    assert max(seen) == samples


def test_samples_that_meet_in_a_batch_normalisation_are_run_at_once(monkeypatch):
    def factory(input_shape, classes):
        norm = nn.BatchNorm1d(5, track_running_stats=False)
        return nn.Sequential(nn.Linear(7, 5), norm, nn.ReLU(), nn.Linear(5, classes))

    monkeypatch.setattr(MODULE, "BLOCK_VALUES", 1)
    network = initialize(factory, FEATURES)
    mask = half(network)
    signed = scored(saliency, network, mask, reward="cross_entropy")
    agree(scored(snip, network, mask), {name: scores.abs() for name, scores in signed.items()})
    agree(signed, reward_by_weights(network, mask, F.cross_entropy))


@pytest.mark.filterwarnings("ignore::ticketsearch.pruners.EqualScoresWarning")  # of units that are dead
@pytest.mark.parametrize("method", ["saliency", "snip", "grasp"])
def test_several_networks_get_the_masks_of_each_alone(method):
    networks = [NETWORKS["convolutional"](seed) for seed in range(3)]
    options = {"density": 0.3, "dataset": IMAGES, "steps": 3, "batch": 7}
    together = prune_all(networks, method, seeds=[4, 5, 6], **options)
    for network, seed, mask in zip(networks, (4, 5, 6), together, strict=True):
        assert np.array_equal(prune(network, method, seed=seed, **options), mask)
    assert len({mask.tobytes() for mask in together}) == 3


@pytest.mark.parametrize("method", ["saliency", "snip", "grasp"])
def test_the_largest_scores_are_kept(method):
    network = NETWORKS["dense"]()
    cuts: list[PruningStep] = []
    mask = prune(network, method, density=0.4, dataset=FEATURES, batch=12, callback=cuts.append)
    assert len(cuts) == 1  # these score once
    scores = cuts[0].scores
    assert scores[mask].min() > scores[~mask].max()


@pytest.mark.parametrize("function", [saliency, snip, grasp])
def test_network_and_batch_are_left_as_they_were(network, function):
    state = {name: tensor.clone() for name, tensor in network.module.state_dict().items()}
    mask = half(network)
    kept = {name: part.clone() for name, part in mask.items()}
    x, y = (tensor.clone() for tensor in batch_of(network))
    training = [child.training for child in network.module.modules()]
    random = torch.get_rng_state()
    with torch.no_grad():  # what the caller turned off is turned on inside alone
        scored(function, network, mask)
        assert not torch.is_grad_enabled()
    assert all(torch.equal(state[name], tensor) for name, tensor in network.module.state_dict().items())
    assert all(parameter.grad is None for parameter in network.module.parameters())
    assert [child.training for child in network.module.modules()] == training
    assert all(torch.equal(kept[name], part) for name, part in mask.items())
    assert all(torch.equal(a, b) for a, b in zip((x, y), batch_of(network), strict=True))
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("function", [saliency, snip, grasp])
def test_scores_on_cuda_are_those_of_the_cpu(network, function):
    mask = half(network)
    found = scored(function, network, mask, device="cuda")
    assert all(scores.device.type == "cpu" for scores in found.values())
    agree(found, scored(function, network, mask), 1e-10)


# --- refusals


@pytest.mark.parametrize("method", ["saliency", "snip", "grasp"])
def test_no_data_is_refused_with_a_way_out(method):
    network = NETWORKS["dense"]()
    refused(lambda: prune(network, method, density=0.5), method, "dataset=None", "dataset=…", "synflow")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"reward": "crossentropy"}, ("reward 'crossentropy'", "did you mean 'cross_entropy'", "file.py")),
        ({"reward": "sum:2"}, ("reward 'sum'", "nothing after a colon")),
        ({"reward": 3}, ("reward '3'", "logit")),
        ({"reward": lambda outputs, y: outputs}, ("shape ()", "shape (12, 3)", "outputs.sum()")),
        ({"reward": lambda outputs, y: 1.0}, ("tensor of shape ()", "got float")),
        ({"reward": lambda outputs, y: y.float().sum()}, ("does not depend on the outputs",)),
        ({"absolute": "no"}, ("absolute must be true or false", "'no'")),
        ({"precision": "float16"}, ("precision 'float16'", "float32, float64")),
        ({"device": "gpu"}, ("device", "'gpu'")),
        ({"rewards": "sum"}, ("'saliency' has no option 'rewards'", "did you mean 'reward'")),
    ],
)
def test_a_bad_option_of_saliency_is_refused(options, words):
    network = NETWORKS["dense"]()
    refused(lambda: prune(network, "saliency", density=0.5, dataset=FEATURES, **options), *words)


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan"), float("inf"), "200"])
def test_a_temperature_that_is_no_positive_number_is_refused(temperature):
    network = NETWORKS["dense"]()
    options = {"density": 0.5, "dataset": FEATURES, "temperature": temperature}
    refused(lambda: prune(network, "grasp", **options), "temperature must be > 0", repr(temperature))


def test_scores_that_are_not_finite_are_refused():
    network = NETWORKS["dense"]()
    with torch.no_grad():
        network.module[0].weight[0, 0] = float("nan")
    refused(lambda: prune(network, "snip", density=0.5, dataset=FEATURES), "finite", "'snip'", "0.weight")
