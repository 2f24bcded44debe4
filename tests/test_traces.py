"""Traces: each is the module's own computation whatever its tensors hold, and may be renumbered."""

import itertools
import random
import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import refusal
from torch import nn

from ticketsearch.datasets import from_arrays
from ticketsearch.errors import BadInput
from ticketsearch.models import initialize
from ticketsearch.wiring import trace
from ticketsearch.wiring.checking import check_trace, tensors_of
from ticketsearch.wiring.graphs import graph_of
from ticketsearch.wiring.shapes import SampleCount
from ticketsearch.wiring.steps import Wiring
from ticketsearch.wiring.verification import check_numbering

pytestmark = pytest.mark.slow

IMAGE = (3, 6, 6)


class Net(nn.Module):
    """A network of 5 features and 3 classes whose forward is given."""

    def __init__(self, forward, **children):
        super().__init__()
        self.a, self.b = nn.Linear(5, 5), nn.Linear(5, 3)
        for name, child in children.items():
            setattr(self, name, child)
        self.run = forward

    def forward(self, x):
        return self.run(self, x)


def refused(module, *words, shape=(5,)):
    message = refusal(trace, module, shape)
    for word in words:
        assert word in message, message


def traced(module, shape=(5,)):
    """Return the wiring of a module that is taken, whose trace has its outputs and gradients."""
    wiring = trace(module, shape)
    x = torch.randn(7, *shape, dtype=torch.float64)
    for training in (False, True):
        own = trace(module, shape).module.double().train(training)
        tensors = tensors_of(module)
        for name, _ in module.named_parameters():
            tensors[name].requires_grad_()
        found = wiring.forward(tensors, x.clone(), training=training)
        expected = own(x.clone())
        torch.testing.assert_close(found, expected)
        names = [name for name, _ in own.named_parameters()]
        ours = torch.autograd.grad(found.square().sum(), [tensors[name] for name in names])
        theirs = torch.autograd.grad(expected.square().sum(), list(own.parameters()))
        torch.testing.assert_close(ours, theirs)
    return wiring


# Pooling over units


@pytest.mark.parametrize(
    "kind",
    [
        *(nn.MaxPool1d(3, 1, 1), nn.AvgPool1d(3, 1, 1), nn.AdaptiveAvgPool1d(5), nn.AdaptiveMaxPool1d(5)),
        nn.ZeroPad1d(0),
    ],
    ids=lambda kind: type(kind).__name__,
)
def test_pooling_of_features_is_refused(kind):
    refused(nn.Sequential(nn.Linear(5, 5), kind, nn.Linear(5, 3)), "over 1 axis of positions", "shape (5,)")


@pytest.mark.parametrize(
    "function",
    [
        lambda x: F.max_pool1d(x, 3, 1, 1),
        lambda x: F.avg_pool1d(x, 3, 1, 1),
        lambda x: F.adaptive_avg_pool1d(x, 5),
        lambda x: F.adaptive_max_pool1d(x, 5),
        lambda x: torch.max_pool1d(x, 3, 1, 1),
    ],
)
def test_pooling_of_features_by_a_function_is_refused(function):
    refused(Net(lambda m, x: m.b(function(m.a(x)))), "over 1 axis of positions")


@pytest.mark.parametrize(
    "kind",
    [nn.AvgPool2d(3, 1, 1), nn.MaxPool2d((3, 1), 1, (1, 0)), nn.AdaptiveAvgPool2d((4, 8)), nn.ZeroPad2d(0)],
    ids=lambda kind: type(kind).__name__,
)
def test_pooling_of_images_over_channels_of_signals_is_refused(kind):
    signal = nn.Sequential(nn.Conv1d(3, 4, 3, padding=1), kind, nn.Flatten(), nn.Linear(32, 3))
    refused(signal, "over 2 axes of positions", "shape (4, 8)", shape=(3, 8))


def test_pooling_of_volumes_over_channels_of_images_is_refused():
    image = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AvgPool3d(3, 1, 1), nn.Flatten(), nn.Linear(64, 3))
    refused(image, "over 3 axes of positions", shape=IMAGE)


def test_pooling_as_the_wiring_knows_it_is_taken():
    traced(nn.Sequential(nn.Conv1d(3, 4, 3), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(12, 3)), (3, 8))


# Every finished wiring is verified


def changed(wiring, **steps):
    """Return a wiring of which some step has another function."""
    own = [
        step._replace(function=steps[step.operation]) if step.operation in steps else step
        for step in wiring.steps
    ]
    return Wiring(wiring.spec, tuple(own), wiring.axes, wiring.module, wiring.values)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x: x.roll(1, 1),
        lambda x: x.cumsum(1),
        lambda x: x - x.mean(1, keepdim=True),  # free to be renumbered, and yet it joins units
        lambda x: x * torch.arange(x.shape[1]).view(1, -1),
        lambda x: torch.where(torch.arange(x.shape[1]) == 0, x.square(), x),
    ],
)
def test_a_step_that_tells_units_apart_or_joins_them_is_found(wrong):
    wiring = trace(nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)), (5,))
    check_numbering(wiring)
    with pytest.raises(BadInput, match="in Sequential, on values of shape"):
        check_numbering(changed(wiring, elementwise=wrong))


def test_groups_that_must_be_renumbered_together_are_found():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 3))
    wiring = trace(module, IMAGE)
    axes = {name: axis for name, axis in wiring.axes.items() if not name.endswith("running_var")}
    with pytest.raises(BadInput):
        check_numbering(Wiring(wiring.spec, wiring.steps, axes, wiring.module, wiring.values))


def test_a_wiring_is_verified_once_an_architecture(monkeypatch):
    from ticketsearch.wiring import tracing

    checked = []
    monkeypatch.setattr(tracing, "check_trace", lambda *_: checked.append("trace"))
    monkeypatch.setattr(tracing, "check_numbering", lambda *_: checked.append("numbering"))

    def factory(input_shape, classes):
        size = int(torch.randint(4, 9, ()))  # it depends on the seed
        return nn.Sequential(nn.Linear(5, size), nn.ReLU(), nn.Linear(size, classes))

    data = from_arrays("d", np.random.default_rng(0).normal(size=(60, 5)), np.arange(60) % 3)
    network = initialize(factory, data)
    assert checked == ["trace", "numbering"]
    for seed in range(8):
        before = len(checked)
        other = network.reinitialized("orthogonal", seed)
        alike = other.spec.layers == network.spec.layers
        assert len(checked) - before == (0 if alike else 2)
    assert 2 < len(checked) < 18


# Gradients


class Cut(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.layer, self.how = nn.Linear(5, 5), how

    def forward(self, x):
        return self.how(self.layer, x)


def without(context):
    def how(layer, x):
        with context():
            return layer(x)

    return how


@pytest.mark.parametrize(
    ("how", "word"),
    [
        (without(torch.no_grad), "torch.no_grad()"),
        (without(lambda: torch.set_grad_enabled(False)), "torch.no_grad()"),
        (without(torch.inference_mode), "torch.inference_mode()"),
        (without(lambda: torch.autocast("cpu", torch.bfloat16)), "torch.autocast()"),
        (torch.no_grad()(lambda layer, x: layer(x)), "torch.no_grad()"),
        (lambda layer, x: layer(x).detach(), "detach()"),
        (lambda layer, x: torch.detach(layer(x)), "detach()"),
        (lambda layer, x: layer(x).detach_(), "detach()"),
        (lambda layer, x: layer(x).data, ".data"),
    ],
)
def test_stopped_gradients_are_refused_by_name_and_place(how, word):
    refused(nn.Sequential(nn.Linear(5, 5), Cut(how), nn.Linear(5, 3)), word, "at '1", "in Sequential")


def test_gradients_that_are_not_used_may_be_stopped_and_those_that_are_on_may_be_switched_on():
    def looked_at(m, x):
        hidden = m.a(x)
        with torch.no_grad():
            hidden.detach().abs().mean()
        return m.b(hidden)

    traced(Net(looked_at))
    with torch.no_grad():
        wiring = trace(nn.Sequential(Cut(without(torch.enable_grad)), nn.Linear(5, 3)), (5,))
    assert len(wiring.spec.layers) == 2


def hook(*_):
    return None


@pytest.mark.parametrize(
    ("register", "words"),
    [
        (lambda m: m.a.weight.register_hook(hook), ["parameter 'a.weight' has a hook on its gradient"]),
        (lambda m: m.b.bias.register_post_accumulate_grad_hook(hook), ["parameter 'b.bias' has a hook"]),
        (lambda m: m.a.register_full_backward_hook(hook), ["module 'a' (Linear) has a backward hook"]),
        (lambda m: m.register_full_backward_pre_hook(hook), ["the module (Net) has a backward hook"]),
    ],
)
def test_hooks_on_gradients_are_refused_also_out_of_a_factory(register, words):
    def build(*_):
        module = Net(lambda m, x: m.b(m.a(x)))
        register(module)
        return module

    refused(build(), *words)
    data = from_arrays("d", np.random.default_rng(0).normal(size=(60, 5)), np.arange(60) % 3)
    assert words[0] in refusal(initialize, build, data)


def test_forward_hooks_are_part_of_the_computation():
    module = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
    module[0].register_forward_pre_hook(lambda m, args: (args[0] * 2,))
    module[1].register_forward_hook(lambda m, args, output: output + args[0])
    module[2].register_state_dict_pre_hook(lambda *_: None)
    wiring = traced(module)
    assert [step.operation for step in wiring.steps].count("add") == 1


def test_a_hook_on_the_whole_module_is_refused_with_a_way_out_that_works():
    module = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
    module.register_forward_hook(lambda m, args, output: output * 3)
    refused(module, "a forward hook of the whole Sequential", "nn.Sequential(module)")
    traced(nn.Sequential(module))


def test_a_forward_that_was_put_into_a_layer_is_not_overlooked():
    module = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
    module[1].forward = lambda x: torch.relu(x) + 1
    traced(module)


# In place


def let(value, use):
    return use(value)


def added(m, x):
    t = m.a(x)
    u = t
    u += x
    return m.b(t + u)


@pytest.mark.parametrize(
    "forward",
    [
        lambda m, x: let(m.a(x), lambda t: let(F.relu(t, inplace=True), lambda u: m.b(u + t))),
        lambda m, x: let(m.a(x), lambda t: let(F.relu(t, True), lambda u: m.b(u + t))),
        lambda m, x: let(m.a(x), lambda t: let(F.relu_(t), lambda u: m.b(u + t))),
        lambda m, x: let(m.a(x), lambda t: let(t.relu_(), lambda u: m.b(u + t))),
        lambda m, x: let(m.a(x), lambda t: let(m.act(t), lambda u: m.b(u + t))),
        lambda m, x: let(m.a(x), lambda t: (F.relu(t, inplace=True), m.b(t))[1]),
        lambda m, x: let(m.a(x), lambda t: (t.add_(x), F.elu(t, inplace=True), m.b(t + t))[2]),
        lambda m, x: (F.relu(x, inplace=True), m.b(m.a(x) + x))[1],
        added,
    ],
)
def test_a_value_that_is_rewritten_is_read_as_it_then_is(forward):
    traced(Net(forward, act=nn.ReLU(inplace=True)))


def test_sizes_are_not_rewritten():
    def forward(m, x):
        size = other = x.size(0)
        size *= 2
        return m.b(m.a(x.view(other, -1)))

    (view,) = (node for node in graph_of(Net(forward), (5,)).nodes if node.target == "view")
    assert view.args[1] == SampleCount(1)


@pytest.mark.parametrize(
    "forward",
    [
        lambda m, x: let(m.a(x), lambda t: let(t.view(-1, 5), lambda v: (F.relu_(v), m.b(t + v))[1])),
        lambda m, x: let(m.a(x).sigmoid(), lambda t: (t.mul_(t), m.b(t))[1]),
    ],
)
def test_rewriting_that_is_not_seen_through_is_refused(forward):
    refused(Net(forward))


def test_dropout_that_is_off_is_nothing_and_one_that_stays_on_is_refused():
    wiring = traced(Net(lambda m, x: m.b(F.dropout(m.a(x), 0.5, False))))
    assert [step.operation for step in wiring.steps] == ["input", "linear", "linear"]
    traced(Net(lambda m, x: m.b(F.dropout(m.a(x), training=False, p=0.3))))
    refused(
        Net(lambda m, x: m.b(F.dropout(m.a(x), 0.5))),
        "draws from torch's random generator in evaluation mode",
        "training=self.training",
    )


# Chance and memory


class Residual(nn.Module):
    """A branch that begins as nothing: its last scale is 0."""

    def __init__(self, rule):
        super().__init__()
        self.stem, self.branch, self.norm = nn.Linear(5, 5), nn.Linear(5, 5), nn.BatchNorm1d(5)
        self.head = nn.Linear(5, 3)
        nn.init.zeros_(self.norm.weight)
        nn.init.zeros_(self.head.weight)
        self.rule = rule
        self.calls, self.own = 0, random.Random(0)

    def forward(self, x):
        x = self.stem(x)
        return self.head(x + self.rule(self, self.norm(self.branch(x))))


def counted(m, x):
    m.calls += 1
    return x * m.calls


numbers = itertools.count()
own_generator = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (lambda m, x: x * 2 if random.random() < 0.5 else x, "draws from Python's random"),
        (lambda m, x: x * 2 if random.random() < 1e-9 else x, "draws from Python's random"),
        (lambda m, x: x * np.random.uniform(), "draws from NumPy's random generator"),  # noqa: NPY002
        (lambda m, x: x * float(torch.rand(())), "draws from torch's random generator"),
        (lambda m, x: x * 2 if m.training and random.random() < 0.5 else x, "in training mode"),
        (counted, "'calls' changes with each call"),
        (lambda m, x: x * (2 if m.own.random() < 1e-9 else 1), "'own' changes with each call"),
        (lambda m, x: x * next(numbers), "other outputs from call to call"),
        (lambda m, x: x * own_generator.random(), "other outputs from call to call"),
        (lambda m, x: x * time.perf_counter(), "other outputs from call to call"),
        (lambda m, x: x * 2 if m.training else x, "something other than its trace in evaluation mode"),
    ],
)
def test_a_forward_that_depends_on_chance_or_calls_is_refused_with_the_reason(rule, words):
    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    module = Residual(rule)
    torch.set_rng_state(states[2])
    before = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    refused(module, words)
    if "draws" not in words and "training" not in words:
        assert before == (random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002


def test_a_check_leaves_all_generators_as_they_were():
    wiring = trace(Residual(lambda m, x: F.dropout(x, 0.5, m.training)), (5,))
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002
    check_trace(wiring, (5,))
    assert before[:2] == (random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002
    assert torch.equal(before[2], torch.get_rng_state())


def test_a_buffer_that_the_forward_moves_is_refused():
    def forward(m, x):
        m.seen += 1
        return m.b(m.a(x))

    module = Net(forward)
    module.register_buffer("seen", torch.zeros(()))
    refused(module, "'seen'")


# Tensors that are not there


def built(change):
    module = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    change(module)
    return module


class Double(nn.Module):
    def forward(self, x):
        return x * 2


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (
            lambda: built(lambda m: nn.utils.parametrize.register_parametrization(m[0], "bias", Double())),
            ["'bias' of module '0'", "remove_parametrizations(layer, 'bias')"],
        ),
        (
            lambda: built(lambda m: nn.utils.parametrize.register_parametrization(m[1], "weight", Double())),
            ["'weight' of module '1'"],
        ),
        (
            lambda: nn.Sequential(nn.LazyLinear(4), nn.Linear(4, 3)),
            ["'0.weight' has no shape yet", "run the"],
        ),
        (lambda: nn.Sequential(nn.Linear(5, 3, device="meta")), ["'0.weight' is on device 'meta'"]),
        (
            lambda: nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3)).requires_grad_(False),
            ["all parameters of Sequential have requires_grad=False"],
        ),
    ],
)
def test_tensors_that_are_not_plain_are_refused_with_a_way_out(build, words):
    refused(build(), *words)


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_a_layer_without_units_and_one_without_end_are_refused():
    data = from_arrays("d", np.random.default_rng(0).normal(size=(60, 5)), np.arange(60) % 3)

    def of(units):
        return lambda shape, classes: nn.Sequential(nn.Linear(5, units), nn.Linear(units, classes))

    assert "'0.weight' has shape (0, 5), i.e. no entries" in refusal(initialize, of(0), data)
    for units in (10**13, 10**30, -1):
        assert "has a layer of a size that cannot be" in refusal(initialize, of(units), data)


@pytest.mark.filterwarnings("ignore:.*(weight_norm|spectral_norm).*:FutureWarning")
@pytest.mark.parametrize("name", ["weight_norm", "spectral_norm"])
def test_old_norms_of_weights_are_refused_and_taken_once_removed(name):
    module = built(lambda m: getattr(nn.utils, name)(m[0]))
    refused(module, f"let the factory call torch.nn.utils.remove_{name}(layer, 'weight')")
    getattr(nn.utils, f"remove_{name}")(module[0], "weight")
    traced(module)


def test_the_way_out_of_a_parametrization_and_of_a_lazy_layer_works():
    module = built(lambda m: nn.utils.parametrizations.weight_norm(m[0]))
    nn.utils.parametrize.remove_parametrizations(module[0], "weight")
    trace(module, (5,))
    lazy = nn.Sequential(nn.LazyLinear(4), nn.Linear(4, 3))
    lazy(torch.zeros(2, 5))
    trace(lazy, (5,))
