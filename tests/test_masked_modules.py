"""Masked networks as modules of torch: compact, pruned by torch.nn.utils.prune, sparse, and as ONNX files."""

import copy
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from conftest import every, refused

import ticketsearch as ts
from ticketsearch.models import write_onnx

MODELS = {
    "mlp:20,10": ((1, 8, 8), {}),
    "lenet_300_100": ((1, 28, 28), {}),
    "lenet5": ((1, 28, 28), {}),
    "conv2": ((3, 32, 32), {"width": 0.25}),
    "conv4": ((3, 32, 32), {"width": 0.25}),
    "conv6": ((3, 32, 32), {"width": 0.25}),
    "resnet20": ((3, 16, 16), {"width": 0.25}),
    "vgg16_bn": ((3, 32, 32), {"width": 0.125}),
}
USUAL = every(list(MODELS), default=["mlp:20,10", "lenet5", "resnet20"], quick=["mlp:20,10", "lenet5"])
DENSITIES = (1.0, 0.3, 0.05, 0.01)


class Shape:
    def __init__(self, input_shape, classes=10):
        self.input_shape, self.classes = input_shape, classes


class Mixed(torch.nn.Module):
    """Grouped and depthwise convolutions, concatenation, selection, gate, PReLU and functional calls."""

    def __init__(self, shape, classes):
        super().__init__()
        channels = shape[0]
        self.stem = torch.nn.Conv2d(channels, 8, 3, padding=1, padding_mode="reflect")
        self.norm = torch.nn.BatchNorm2d(8)
        self.act = torch.nn.PReLU(8)
        self.deep = torch.nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.grouped = torch.nn.Conv2d(8, 8, 1, groups=2)
        self.gate = torch.nn.Parameter(torch.rand(8, 1, 1))
        self.head_weight = torch.nn.Parameter(torch.randn(classes, 16))
        self.drop = torch.nn.Dropout(0.5)

    def forward(self, x):
        x = self.act(self.norm(self.stem(x)))
        x = torch.cat([self.deep(x) * self.gate, torch.sigmoid(self.grouped(x))], dim=1)
        x = torch.nn.functional.adaptive_avg_pool2d(x[:, :, 1:], 1).flatten(1)
        return torch.nn.functional.linear(self.drop(x), self.head_weight)


def mixed(input_shape, classes):
    return Mixed(input_shape, classes)


def trained(network, mask, seed=0):
    """Return the masked module with other parameters and statistics, as after a training, in float64."""
    generator = torch.Generator().manual_seed(seed)
    module = copy.deepcopy(network.module).double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        for buffer in module.buffers():
            if buffer.is_floating_point():
                buffer += torch.rand(buffer.shape, generator=generator, dtype=torch.float64)
        for name, kept in network.spec.split(mask).items():
            module.get_parameter(name).mul_(torch.from_numpy(kept.copy()))
    return module


def made(model, density):
    shape, options = ((3, 6, 6), {}) if model is mixed else MODELS[model]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = ts.initialize(model, Shape(shape), **options)
    mask = np.random.default_rng(int(density * 100)).random(network.spec.size) < density
    return (
        network,
        mask,
        torch.randn(5, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)),
    )


def same(ours, theirs):
    return torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("model", [*USUAL, mixed])
def test_the_compact_network_computes_what_the_masked_one_does(model, density):
    network, mask, x = made(model, density)
    whole = trained(network, mask)
    small = ts.compact(network, mask, whole)
    same(small(x), whole(x))
    assert sum(p.numel() for p in small.parameters()) <= sum(p.numel() for p in whole.parameters())
    assert set(dict(small.named_parameters())) <= set(dict(whole.named_parameters()))


@pytest.mark.parametrize("model", USUAL)
def test_initial_weights_leave_dead_units_out(model):
    """Without biases a unit that no kept path feeds is zero: it goes, with all its weights."""
    network, mask, x = made(model, 0.02)
    small = ts.compact(network, mask)
    whole = ts.to_pruned(network, mask)
    torch.testing.assert_close(small(x.float()), whole(x.float()), rtol=1e-5, atol=1e-5)
    alive = {name: int(units.sum()) for name, units in ts.live_units(mask, network.spec).items()}
    first = network.spec.layers[0]
    group = network.spec.groups[network.spec.pieces[network.spec.layer_pieces[0][0]].target]
    # Fewer where only further training could make a unit non-zero, as by the shift of a normalisation.
    assert small.get_parameter(first.name).shape[0] <= max(1, alive[group.name])
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in whole.parameters())


def test_a_unit_without_inputs_that_its_bias_makes_non_zero_stays():
    network, _, _ = made("mlp:20,10", 1.0)
    parts = {layer.name: np.ones(layer.shape, bool) for layer in network.spec.layers}
    parts["1.weight"][3] = False  # no input is left to unit 3
    mask = network.spec.join(parts)
    assert ts.compact(network, mask).get_parameter("1.weight").shape[0] == 19
    module = copy.deepcopy(network.module).eval()
    with torch.no_grad():
        module.get_parameter("1.weight")[3] = 0
        module.get_parameter("1.bias")[3] = 2.0
    small = ts.compact(network, mask, module)
    x = torch.randn(4, 1, 8, 8)
    assert small.get_parameter("1.weight").shape[0] == 20
    torch.testing.assert_close(small(x), module(x))


def test_a_network_of_declared_groups_stays_whole():
    class Declared(torch.nn.Module):
        neuron_groups = {  # noqa: RUF012 - read once
            "a.weight": ("hidden", "input"),
            "a.bias": ("hidden",),
            "b.weight": ("output", "hidden"),
            "b.bias": ("output",),
        }

        def __init__(self):
            super().__init__()
            self.a, self.b = torch.nn.Linear(6, 4), torch.nn.Linear(4, 3)

        def forward(self, x):
            return self.b(torch.relu(self.a(x)))

    network = ts.initialize(lambda input_shape, classes: Declared(), Shape((6,), 3))
    mask = np.arange(network.spec.size) % 3 == 0
    x = torch.randn(4, 6)
    torch.testing.assert_close(ts.compact(network, mask)(x), ts.to_pruned(network, mask)(x))


@pytest.mark.slow
@pytest.mark.parametrize("model", every(["resnet20", mixed], default=[mixed]))
def test_the_compact_network_runs_where_there_is_no_ticketsearch(model, tmp_path):
    network, mask, x = made(model, 0.1)
    small = ts.compact(network, mask)
    torch.save(small, tmp_path / "small.pt")
    batch = torch.export.Dim("batch")
    torch.export.save(
        torch.export.export(small, (x.float(),), dynamic_shapes=({0: batch},)), tmp_path / "small.pt2"
    )
    torch.save((x.float()[:3], small(x.float()[:3])), tmp_path / "values.pt")
    code = (
        "import sys; sys.modules['ticketsearch'] = None\n"
        "import torch\n"
        "x, wanted = torch.load('values.pt')\n"
        "whole = torch.load('small.pt', weights_only=False)\n"
        "exported = torch.export.load('small.pt2').module()\n"
        "for module in (whole, exported):\n"
        "    torch.testing.assert_close(module(x), wanted)\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=tmp_path, check=True)


@pytest.mark.slow
@pytest.mark.parametrize("model", every(["mlp:20,10", "resnet20", mixed], default=["resnet20"]))
def test_the_onnx_file_computes_the_same_for_any_number_of_samples(model, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    network, mask, x = made(model, 0.1)
    small = ts.compact(network, mask)
    write_onnx(small, network.input_shape, tmp_path / "small.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "small.onnx")
    for count in (1, 5):
        inputs = x[:count].float()
        (logits,) = session.run(["logits"], {"inputs": inputs.numpy()})
        np.testing.assert_allclose(logits, small(inputs).detach().numpy(), rtol=1e-5, atol=1e-5)
    assert [path.name for path in tmp_path.iterdir()] == ["small.onnx"]


def test_an_onnx_file_needs_its_packages(tmp_path, monkeypatch):
    network, mask, _ = made("mlp:20,10", 0.5)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    path = tmp_path / "small.onnx"
    refused(lambda: write_onnx(ts.compact(network, mask), (1, 8, 8), path), "ticketsearch[onnx]")


@pytest.mark.parametrize("model", USUAL)
def test_the_pruned_module_gives_mask_and_weights_back(model):
    network, mask, _ = made(model, 0.3)
    module = ts.to_pruned(network, mask)
    names = dict(module.named_parameters()) | dict(module.named_buffers())
    for layer in network.spec.layers:
        assert {f"{layer.name}_orig", f"{layer.name}_mask"} <= set(names)
    back, mask_back = ts.from_pruned(module, Shape(network.input_shape))
    assert np.array_equal(mask_back, mask)
    kept = network.spec.split(mask)
    for name, parameter in back.parameters().items():
        wanted = network.parameters()[name]
        wanted = wanted * torch.from_numpy(kept[name].copy()) if name in kept else wanted
        assert torch.equal(parameter, wanted)


@pytest.mark.parametrize("model", USUAL)
def test_sparse_weights_compute_the_same(model):
    network, mask, x = made(model, 0.1)
    whole = trained(network, mask)
    module = ts.to_sparse(network, mask, whole)
    same(module(x), whole(x))
    linear = [m for m in module.modules() if isinstance(m, torch.nn.Linear)]
    assert linear
    assert all(layer.weight.layout is torch.sparse_csr for layer in linear)


def test_parameters_of_another_network_are_refused():
    network, mask, _ = made("mlp:20,10", 0.5)
    refused(lambda: ts.compact(network, mask, {"1.weight": torch.zeros(3)}), "'1.weight'", "shape (3,)")
    refused(lambda: ts.compact(network, mask, {"9.weight": torch.zeros(3)}), "no such tensor for '9.weight'")
    refused(lambda: ts.compact(network, mask[:-1]), str(network.spec.size))
