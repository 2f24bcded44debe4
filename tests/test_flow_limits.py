"""What flows, retention and the theory must also hold for: cases in which they once did not."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import refused
from torch import nn

import ticketsearch as ts
from ticketsearch.pruners.retention import retention_kind

pytestmark = pytest.mark.slow


class Shape:
    """What a dataset says of its samples."""

    def __init__(self, input_shape, classes):
        self.input_shape, self.classes = input_shape, classes


class Pooled(nn.Module):
    """A functional max-pooling, in which the whole network keeps less of a weight than a mask does."""

    def __init__(self, inputs, classes):
        super().__init__()
        self.conv = nn.Conv1d(10, 1, 2, padding=1, bias=False)
        self.fc = nn.Linear(1, classes, bias=False)
        with torch.no_grad():
            self.conv.weight.zero_()
            self.conv.weight[0, :, 1] = 0.1
            self.conv.weight[0, 0, 0] = 0.9
            self.fc.weight.fill_(1)

    def forward(self, x):
        return self.fc(F.max_pool1d(self.conv(x), 2).flatten(1))


class Scaled(nn.Module):
    """A residual branch times a number."""

    def __init__(self, inputs, classes, scale=1.0, times="mul"):
        super().__init__()
        self.scale, self.times = scale, times
        self.first, self.second, self.last = (nn.Linear(8, n, bias=False) for n in (8, 8, classes))

    def forward(self, x):
        h = torch.relu(self.first(x))
        branch = torch.relu(self.second(h))
        return self.last(h + (self.scale * branch if self.times == "mul" else -branch / self.scale))


class Added(nn.Module):
    """Inputs that are added to the outputs."""

    def __init__(self, inputs, classes):
        super().__init__()
        self.a, self.b = nn.Linear(8, 6, bias=False), nn.Linear(6, 8, bias=False)

    def forward(self, x):
        return self.b(torch.relu(self.a(x))) + x


def test_no_bound_is_claimed_where_a_pooling_takes_maxima_however_it_is_called():
    network = ts.initialize(Pooled, Shape((10, 1), 1), scheme="as_built")
    mask = np.zeros(network.spec.size, dtype=bool)
    mask[[0, 20]] = True
    assert retention_kind(network) == "search"
    assert ts.flow_retention(mask, network).value == 1.0
    averaged = nn.Sequential(nn.Conv1d(10, 2, 2), nn.AvgPool1d(2), nn.Flatten(), nn.Linear(4, 3))
    assert retention_kind(ts.initialize(lambda *_: averaged, Shape((10, 5), 3))) == "bound"


@pytest.mark.parametrize("method", ["synflow", "balanced_synflow", "flow_preserving"])
def test_a_scale_that_is_not_finite_is_refused_naming_it(method):
    def factory(inputs, classes):
        norm = nn.BatchNorm1d(8)
        with torch.no_grad():
            norm.weight[3] = float("nan")
        return nn.Sequential(nn.Linear(8, 8), norm, nn.ReLU(), nn.Linear(8, classes))

    network = ts.initialize(factory, Shape((8,), 3), scheme="as_built")
    refused(lambda: ts.prune(network, method, density=0.3), "scores must be finite", "1.weight")


@pytest.mark.parametrize(("scale", "times"), [(1e-6, "mul"), (1e6, "div")])
def test_a_branch_times_a_number_carries_that_much_of_the_flow(scale, times):
    network = ts.initialize(Scaled, Shape((8,), 3), scale=scale, times=times)
    with pytest.warns(ts.LayerCollapseWarning, match=r"second\.weight"):
        mask = ts.prune(network, "synflow", density=0.3)
    assert not network.spec.split(mask)["second.weight"].any()
    found = ts.theory.saliency_conservation(network, np.ones(network.spec.size, dtype=bool), None)
    assert max(found.neuron, found.network) < 1e-12
    exact = nn.Sequential(nn.Linear(6, 4, bias=False), nn.Linear(4, 3, bias=False))

    class Halved(nn.Module):
        def __init__(self, *_):
            super().__init__()
            self.body = exact

        def forward(self, x):
            return 0.5 * self.body(x)

    halved = ts.initialize(Halved, Shape((6,), 3))
    everything = np.ones(halved.spec.size, dtype=bool)
    assert ts.flow_retention(everything, halved).value == pytest.approx(1)


def test_a_network_that_adds_its_inputs_to_its_outputs_is_connected():
    network = ts.initialize(Added, Shape((8,), 8))
    assert not ts.theory.disconnected(np.ones(network.spec.size, dtype=bool), network.spec)


@pytest.mark.parametrize(
    ("model", "options", "shape", "density"),
    [
        ("lenet5", {"width": 0.25}, (1, 12, 12), 0.02),
        pytest.param("lenet5", {"width": 0.25}, (1, 12, 12), 0.05, marks=pytest.mark.full),
        ("mlp:20,20,20,20", {}, (1, 8, 8), 0.02),
    ],
)
def test_the_floor_costs_nothing_where_the_mask_of_most_flow_has_it_anyway(model, options, shape, density):
    network = ts.initialize(model, Shape(shape, 10), **options)
    plain = ts.prune(network, "synflow", density=density)
    alive = ts.live_units(plain, network.spec)
    assert all(units.any() for units in alive.values())
    kept = ts.prune(network, "flow_preserving", density=density)
    assert ts.flow_retention(kept, network).flow >= ts.flow_retention(plain, network).flow


def test_several_architectures_are_not_pruned_at_once():
    shape = Shape((8,), 3)
    networks = [ts.initialize(Scaled, shape), ts.initialize(Scaled, shape, times="div")]
    refused(lambda: ts.prune_all(networks, "synflow", density=0.3), "one architecture")
    networks = [ts.initialize(f"mlp:{width}", shape) for width in (12, 10)]
    refused(lambda: ts.prune_all(networks, "magnitude", density=0.3), "one architecture", "mlp:12")


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("balanced_synflow", {"strength": "x"}),
        ("flow_preserving", {"floor": "x"}),
        ("flow_preserving", {"floor": 2.5}),
        ("imp", {"lr": "abc"}),
        ("snip", {"precision": [1]}),
        ("random", {"distribution": 3}),
        ("saliency", {"reward": lambda outputs: outputs.sum()}),
    ],
)
def test_an_option_of_the_wrong_type_is_one_line(method, options, tiny):
    network = ts.initialize("mlp:6", tiny)
    refused(lambda: ts.prune(network, method, density=0.5, dataset=tiny, **options))


@pytest.mark.parametrize("argument", [{"steps": 2.5}, {"steps": "5"}, {"batch": 2.5}, {"density": "0.1"}])
def test_an_argument_of_the_wrong_type_is_one_line(argument, tiny):
    network = ts.initialize("mlp:6", tiny)
    refused(lambda: ts.prune(network, "magnitude", **{"density": 0.5, **argument}), "but got")


def test_modules_are_not_taken_for_networks_or_factories(tiny):
    refused(lambda: ts.initialize(nn.Linear(7, 3), tiny), "a factory", "as_built")
    refused(lambda: ts.initialize(lambda: nn.Linear(7, 3), tiny), "factory(input_shape, classes")
    refused(lambda: ts.prune(nn.Linear(7, 3), "synflow", density=0.5), "Network", "ts.initialize")


def test_liveness_refuses_masks_of_another_network(tiny):
    spec = ts.initialize("mlp:6", tiny).spec
    for function in (ts.live, ts.live_units, ts.effective_density):
        refused(lambda function=function: function(np.ones(3, dtype=bool), spec), "shape")


def test_uniform_random_masks_have_one_density_in_all_layers(tiny):
    network = ts.initialize("mlp:40,30", tiny)
    mask = ts.prune(network, "random", density=0.3, distribution="uniform")
    for part in network.spec.split(mask).values():
        assert abs(part.sum() - 0.3 * part.size) <= 1


@pytest.mark.full
def test_deep_networks_are_scored_in_more_precision_where_they_must_be():
    rng = np.random.default_rng(0)
    data = ts.from_arrays("r", rng.normal(size=(40, 3, 8, 8)).astype("f4"), np.arange(40) % 4)
    network = ts.initialize("resnet20", data, depth=602, width=0.1)
    with pytest.warns(ts.LayerCollapseWarning):  # it is one-shot
        mask = ts.prune(network, "grasp", density=0.3, dataset=data, batch=4)
    assert mask.sum() == round(0.3 * mask.size)


def test_the_audit_of_the_saliency_counts_biases_as_incoming(tiny):
    network = ts.initialize("mlp:12,10", tiny, scheme="as_built")
    signed, used = ts.theory.audit(network, ["saliency", "snip"], tiny)
    assert max(signed.used.neuron, signed.used.network) < 1e-9
    assert signed.prune_to_cut is None
    assert used.used.neuron > 1e-3
    assert used.signed.neuron < 1e-9
