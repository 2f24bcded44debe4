"""Modules pruned by torch.nn.utils.prune, and those in data-parallel wrappers."""

import copy

import numpy as np
import pytest
import torch
from conftest import refusal
from torch import nn
from torch.nn.utils import prune

import ticketsearch as ts

pytestmark = pytest.mark.slow


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.ReLU(), nn.Linear(20, 10))


def twice(module):
    prune.random_unstructured(module[1], "weight", 0.3)
    prune.l1_unstructured(module[1], "weight", 0.5)


def own_mask(module):
    prune.custom_from_mask(module[3], "weight", torch.arange(200).view(10, 20) % 3 != 0)


WAYS = {
    "magnitude": lambda m: prune.l1_unstructured(m[1], "weight", 0.5),
    "by units": lambda m: prune.ln_structured(m[1], "weight", 0.5, n=2, dim=0),
    "by inputs": lambda m: prune.random_structured(m[3], "weight", 4, dim=1),
    "globally": lambda m: prune.global_unstructured(
        [(m[1], "weight"), (m[3], "weight")], prune.L1Unstructured, amount=0.7
    ),
    "twice": twice,
    "own mask": own_mask,
    "biases too": lambda m: (
        prune.l1_unstructured(m[1], "weight", 9),
        prune.l1_unstructured(m[1], "bias", 5),
    ),
    "nothing": lambda m: prune.identity(m[1], "weight"),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_pruned_module_is_a_ticket_with_its_weights_and_mask(way, digits):
    module = net()
    WAYS[way](module)
    before = copy.deepcopy(list(module.state_dict().items()))
    network, mask = ts.from_pruned(module, digits)
    wanted = {
        name: dict(module.named_buffers()).get(f"{name}_mask", torch.ones(layer.shape))
        for name, layer in ((layer.name, layer) for layer in network.spec.layers)
    }
    assert all((network.spec.split(mask)[name] == (own.numpy() != 0)).all() for name, own in wanted.items())
    assert network.initialization.scheme == "as_built"
    for name, own in network.parameters().items():
        assert torch.equal(own, getattr(module.get_submodule(name[0]), name[2:]).detach())
    x = torch.randn(4, 1, 8, 8)
    torch.testing.assert_close(network.module(x), module(x))
    torch.testing.assert_close(network.wiring.forward(network.parameters(), x), module(x))
    # The module that was given is as it was, hooks and all.
    assert prune.is_pruned(module)
    for (name, own), (again, other) in zip(before, module.state_dict().items(), strict=True):
        assert name == again
        assert torch.equal(own, other)
    assert not prune.is_pruned(network.module)


def test_a_ticket_of_a_pruned_module_trains_and_is_saved(digits, tmp_path):
    module = net()
    prune.l1_unstructured(module[1], "weight", 0.9)
    network, mask = ts.from_pruned(module, digits)
    assert np.isfinite(ts.ShortTraining(network, digits, steps=3)(mask[None])[0])
    ts.save_ticket(tmp_path / "t.safetensors", network, ts.Ticket(mask))
    loaded = ts.load_ticket(tmp_path / "t.safetensors", factory=lambda shape, classes: net())
    assert (loaded.mask == mask).all()
    assert torch.equal(loaded.network.parameters()["1.weight"], network.parameters()["1.weight"])
    assert network.reinitialized("orthogonal", 1).spec.layers == network.spec.layers


def test_a_factory_of_pruned_is_baked_with_a_warning(digits):
    def build(shape, classes):
        module = net()
        prune.l1_unstructured(module[1], "weight", 0.5)
        return module

    with pytest.warns(UserWarning, match=r"pruned by torch.nn.utils.prune.*ticketsearch.from_pruned"):
        network = ts.initialize(build, digits, scheme="as_built")
    assert int((network.parameters()["1.weight"] == 0).sum()) == 640


def test_what_was_not_pruned_is_refused(digits):
    assert "has no masks of torch.nn.utils.prune" in refusal(ts.from_pruned, net(), digits)
    assert "takes a torch.nn.Module, but got str" in refusal(ts.from_pruned, "mlp:9", digits)


def test_a_module_that_cannot_be_copied_is_refused(digits):
    def build(shape, classes):
        module = net()
        module.cache = module[1].weight * 2
        return module

    assert "Sequential cannot be copied (RuntimeError" in refusal(ts.initialize, build, digits)


def test_the_module_of_a_data_parallel_one_is_taken_with_a_line(digits):
    with pytest.warns(UserWarning, match=r"holds a DataParallel; its \.module is taken"):
        network = ts.initialize(lambda shape, classes: nn.DataParallel(net()), digits)
    assert [layer.name for layer in network.spec.layers] == ["1.weight", "3.weight"]

    def inside(shape, classes):
        module = net()
        module[1] = nn.DataParallel(module[1])
        return module

    with pytest.warns(UserWarning, match=r"holds a DataParallel at '1'"):
        network = ts.initialize(inside, digits)
    assert [layer.name for layer in network.spec.layers] == ["1.weight", "3.weight"]
    module = nn.DataParallel(net())
    prune.l1_unstructured(module.module[1], "weight", 0.5)
    assert ts.density(ts.from_pruned(module, digits).mask) == pytest.approx(840 / 1480)


def test_the_shapes_of_a_module_that_begins_with_a_linear_layer_are_its_own(digits):
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.ReLU(), nn.Linear(20, 10))
    prune.l1_unstructured(module[1], "weight", amount=0.5)
    network, mask = ts.from_pruned(module)
    assert (network.input_shape, network.classes) == ((64,), 10)
    assert np.array_equal(mask, ts.from_pruned(module, digits).mask)
    convolution = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 10))
    prune.l1_unstructured(convolution[0], "weight", amount=0.5)
    assert "from_pruned(module, dataset)" in refusal(ts.from_pruned, convolution)


def test_masks_are_zeros_and_ones_wherever_they_come_from():
    module = net()
    prune.custom_from_mask(module[1], "weight", torch.full((20, 64), torch.nan))
    assert "are 0 and 1, but that of 1.weight" in refusal(ts.from_pruned, module)
    module = net()
    prune.custom_from_mask(module[1], "weight", (module[1].weight.abs() * 1e3).round().clamp(0, 1))
    _, mask = ts.from_pruned(module)
    assert mask.sum() == torch.count_nonzero(module[1].weight) + 200


def test_a_half_module_and_one_on_meta_are_told_the_true_reason():
    module = net().half()
    prune.l1_unstructured(module[1], "weight", 0.5)
    with pytest.warns(UserWarning, match="half precision"):
        assert ts.from_pruned(module).network.classes == 10
    with torch.device("meta"):
        empty = net()
    assert "meta" in refusal(ts.from_pruned, empty)
