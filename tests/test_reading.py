"""Reading: code on shapes, layers as functions, arguments, endings, and the words of refusals."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_wiring import (
    IMAGE,
    Net,
    keeps_renumbering,
    let,
    plane,
    randomized,
    refused_module,
    samples,
    tensors_of,
)
from torch import nn

from ticketsearch.datasets import from_arrays
from ticketsearch.models import initialize
from ticketsearch.models.network import restore
from ticketsearch.pruners import prune
from ticketsearch.wiring import trace
from ticketsearch.wiring.functional import READERS
from ticketsearch.wiring.refusals import DECLARE

pytestmark = pytest.mark.slow


def flat_features(x):
    """The helper of PyTorch's old tutorial."""
    number = 1
    for size in x.size()[1:]:
        number *= size
    return number


def checked(x):
    """Return a value whose shape is asserted, compared and branched on."""
    torch._assert(x.ndim == 4, "an image")
    assert x.dim() == 4
    assert x.shape[1:] == (4, 4, 4)
    if x.shape[1] != 4 or x.size(2) < 4 or len(x.shape) != 4:
        raise ValueError(f"no such channels: {x.shape}")
    torch._assert((x.abs() >= 0).all(), "on values: it is not in the way")
    return x


# A convolution a makes maps (4, 4, 4); each function makes (samples, features) of them.
SHAPE_CODE = {
    "pooling by size": (lambda h: F.avg_pool2d(h, h.size()[3]).view(h.size(0), -1), 4),
    "pooling by the last size": (lambda h: F.avg_pool2d(h, h.size(-1)).flatten(1), 4),
    "pooling by shape": (lambda h: F.avg_pool2d(h, kernel_size=h.shape[2:]).view(h.shape[0], h.shape[1]), 4),
    "pooling by half the size": (lambda h: F.max_pool2d(h, h.shape[-1] // 2).flatten(1), 16),
    "sizes by name": (lambda h: let(h.shape, lambda s: h.view(-1, s[1] * s[2] * s[3])), 64),
    "the tutorial's helper": (lambda h: h.view(-1, flat_features(h)), 64),
    "length": (lambda h: h.reshape(len(h), -1), 64),
    "elements": (lambda h: h.view(h.size(0), int(h.nelement() / h.shape[0])), 64),
    "numel": (lambda h: h.view(-1, h.numel() // h.size(0)), 64),
    "torch.numel": (lambda h: h.view(-1, torch.numel(h[0])), 64),
    "math.prod": (lambda h: h.reshape(h.size(0), math.prod(h.shape[1:])), 64),
    "numpy.prod": (lambda h: h.view(-1, np.prod(h.shape[1:])), 64),
    "torch.Size.numel": (lambda h: h.view(-1, h.shape[1:].numel()), 64),
    "positions in one axis": (lambda h: let(h.shape, lambda s: h.view(s[0], s[1], s[2] * s[3]).mean(2)), 4),
    "flattened from the third axis": (lambda h: h.flatten(2).mean(-1), 4),
    "there and back": (lambda h: F.relu(h.view(len(h), -1)).view(h.shape).flatten(1), 64),
    "unflattened": (lambda h: h.flatten(1).unflatten(1, (4, 16)).mean(2), 4),
    "rows of channels": (lambda h: h.flatten(1).view(-1, 8, 8).mean(2), 8),
    "axes of size one": (
        lambda h: h.mean((2, 3))[..., None].squeeze(-1) if h.ndim < 4 else h.mean((2, 3)),
        4,
    ),
    "squeeze": (lambda h: F.adaptive_avg_pool2d(h, 1).squeeze(), 4),
    "interpolation to a shape": (
        lambda h: torch.cat((h, F.interpolate(F.max_pool2d(h, 2), size=h.shape[2:])), 1).flatten(1),
        128,
    ),
    "asserted": (lambda h: checked(h).flatten(1), 64),
    "a branch on a remainder": (lambda h: (h.relu() if h.size(1) % 3 == 1 else h.tanh()).flatten(1), 64),
    "as many maps as channels": (lambda h: [h := h.sin() for _ in range(h.shape[1])][-1].flatten(1), 64),
    "contiguous": (lambda h: h.contiguous().view(h.size()[0], -1), 64),
}


@pytest.mark.parametrize("name", SHAPE_CODE)
def test_code_on_shapes_is_read_as_it_runs(name):
    code, features = SHAPE_CODE[name]
    torch.manual_seed(0)
    module = Net(lambda m, x: m.b(code(m.a(x))), a=nn.Conv2d(3, 4, 3), b=nn.Linear(features, 3))
    spec = keeps_renumbering(module, IMAGE).spec
    assert [layer.name for layer in spec.layers] == ["a.weight", "b.weight"]
    assert spec.size == 4 * 27 + 3 * features
    pieces = [piece for piece in spec.pieces if piece.layer == 1]
    assert {(spec.groups[p.source].name, p.block) for p in pieces} == {("a", features // (4 * len(pieces)))}


def test_a_wiring_of_code_on_shapes_takes_any_number_of_samples():
    torch.manual_seed(0)
    module = randomized(plane(lambda m, x: m.b(m.a(x).view(x.size(0), -1)), 16))
    wiring = trace(module, IMAGE)
    with torch.no_grad():
        for number in (1, 2, 9):
            x = samples(IMAGE, number)
            assert torch.equal(wiring.forward(tensors_of(module), x), module(x))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (lambda h: h.relu() if h.shape[0] > 6 else h, "something else with 5 samples than with 7"),
        (lambda h: h * (1 / h.size(0)), "something else with 5 samples than with 7"),
        (lambda h: h / len(h), "a quotient of values that depends on the number of samples"),
        (lambda h: h[: len(h)], "a slice of "),
    ],
)
def test_what_depends_on_the_number_of_samples_is_refused(code, words):
    assert words in refused_module(Net(lambda m, x: m.b(code(m.a(x)))))


def test_a_module_that_refuses_the_shape_itself_is_told_from_one_that_cannot_be_traced():
    def asserting(m, x):
        assert x.shape[1] == 4, "four features"
        return m.b(m.a(x))

    assert refused_module(Net(asserting)).startswith(
        "Net fails on 5 samples of shape (5,) (AssertionError: four features"
    )


class Optional(nn.Module):
    """A forward with further arguments, which all have defaults."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(5, 4), nn.Linear(4, 3)

    def forward(self, x, mask=None, return_features=False, *others, scale=2.0, **options):
        h = self.a(x) * scale
        if mask is not None:
            h = h * mask
        return h if return_features else self.b(h)


def test_further_arguments_of_forward_have_their_defaults():
    wiring = keeps_renumbering(Optional(), (5,))
    assert [step.operation for step in wiring.steps] == ["input", "linear", "elementwise", "linear"]


class LeNet(nn.Module):
    """The network of PyTorch's MNIST example, smaller, with or without its ending."""

    def __init__(self, ending=None):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 6, 3)
        self.dropout1, self.dropout2 = nn.Dropout(0.25), nn.Dropout(0.5)
        self.fc1, self.fc2 = nn.Linear(24, 8), nn.Linear(8, 3)
        self.ending = ending

    def forward(self, x):
        x = F.relu(self.conv2(F.relu(self.conv1(x))))
        x = torch.flatten(self.dropout1(F.max_pool2d(x, 2)), 1)
        x = self.fc2(self.dropout2(F.relu(self.fc1(x))))
        return x if self.ending is None else self.ending(x)


ENDINGS = {
    "function": lambda x: F.log_softmax(x, dim=1),
    "last axis": lambda x: F.log_softmax(x, -1),
    "method": lambda x: x.log_softmax(1),
    "module": nn.LogSoftmax(dim=1),
    "twice": lambda x: F.log_softmax(torch.log_softmax(x, 1), 1),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_a_final_log_softmax_is_left_out_and_changes_no_cross_entropy(name):
    torch.manual_seed(0)
    module = randomized(LeNet(ENDINGS[name]))
    wiring, tensors, x = trace(module, (1, 8, 8)), tensors_of(module), samples((1, 8, 8))
    assert wiring.spec == trace(LeNet(), (1, 8, 8)).spec
    assert wiring.steps[-1].operation == "linear"
    (note,) = wiring.notes
    assert "log-softmax of LeNet is left out" in note
    with torch.no_grad():
        logits, expected = wiring.forward(tensors, x), module.eval()(x)
    torch.testing.assert_close(F.log_softmax(logits, 1), expected, rtol=0, atol=1e-10)
    labels = torch.tensor([0, 1, 2, 1])
    losses = [
        F.cross_entropy(logits, labels),
        F.cross_entropy(expected, labels),
        F.nll_loss(expected, labels),
    ]
    assert torch.stack(losses).std() < 1e-12


def images():
    rng = np.random.default_rng(0)
    return from_arrays("images", rng.normal(size=(30, 1, 8, 8)), np.arange(30) % 3)


def test_a_final_log_softmax_is_said_once_by_initialize():
    with pytest.warns(UserWarning, match="log-softmax of LeNet is left out") as caught:
        initialize(lambda shape, classes: LeNet(ENDINGS["function"]), images())
    assert len(caught) == 1
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    "ending", [nn.Softmax(1), lambda x: F.softmax(x, 1), lambda x: x.softmax(-1), nn.Softmax(dim=-1)]
)
def test_a_final_softmax_is_refused_with_the_reason(ending):
    message = refused_module(LeNet(ending), (1, 8, 8))
    assert message.startswith("the network ends in a softmax, ")
    assert message.endswith("remove it (the predicted classes stay the same)")


# Layers as functions of a module's own parameters


class OwnBatchNorm(nn.BatchNorm2d):
    """As timm writes it: the forward of torch's, outside of torch, and an activation."""

    def forward(self, x):
        torch._assert(x.ndim == 4, "expected 4D input")
        factor = 0.0 if self.momentum is None else self.momentum
        if self.training and self.track_running_stats and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        by_batch = self.training or (self.running_mean is None and self.running_var is None)
        mean = self.running_mean if not self.training or self.track_running_stats else None
        variance = self.running_var if not self.training or self.track_running_stats else None
        x = F.batch_norm(x, mean, variance, self.weight, self.bias, by_batch, factor, self.eps)
        return F.relu(x)


class Plain(nn.Module):
    """A convolution, normalisations, a rectifier and layers, as modules of torch."""

    def __init__(self, norm=nn.BatchNorm2d):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False), norm(4)
        self.group = nn.Conv2d(4, 6, 1, groups=2)
        self.act, self.full, self.ln, self.fc = (
            nn.PReLU(6),
            nn.Linear(54, 5),
            nn.LayerNorm(5),
            nn.Linear(5, 3),
        )

    def forward(self, x):
        h = self.act(self.group(self.norm(self.conv(x)).relu()))
        return self.fc(self.ln(self.full(h.flatten(1))))


class Functional(Plain):
    """The same computed by functions."""

    def forward(self, x):
        n = self.norm
        h = F.conv2d(x, self.conv.weight, stride=2, padding=(1, 1))
        h = F.batch_norm(h, n.running_mean, n.running_var, n.weight, n.bias, self.training, n.momentum, n.eps)
        h = F.conv2d(h.relu(), self.group.weight, self.group.bias, groups=2)
        h = F.prelu(h, self.act.weight).flatten(1)
        h = F.linear(input=h, weight=self.full.weight, bias=self.full.bias)
        return F.linear(F.layer_norm(h, (5,), self.ln.weight, self.ln.bias), self.fc.weight, self.fc.bias)


def described(wiring):
    return [(step.operation, step.inputs, step.shape, step.names, step.layer) for step in wiring.steps]


@pytest.mark.parametrize("build", [Functional, lambda: Plain(OwnBatchNorm)])
def test_functions_of_own_parameters_are_read_as_the_modules(build):
    torch.manual_seed(0)
    plain, module = trace(Plain(), IMAGE), randomized(build())
    wiring = keeps_renumbering(module, IMAGE)
    assert wiring.spec.layers == plain.spec.layers
    assert (wiring.spec.pieces, wiring.spec.groups) == (plain.spec.pieces, plain.spec.groups)
    assert wiring.axes == plain.axes
    if build is Functional:
        assert described(wiring) == described(plain)
    x, tensors = samples(IMAGE), tensors_of(module)
    with torch.no_grad():
        outputs = wiring.forward(tensors, x, training=True)
        torch.testing.assert_close(outputs, module.train()(x), rtol=0, atol=1e-10)
    torch.testing.assert_close(tensors["norm.running_mean"], module.norm.running_mean, rtol=0, atol=1e-10)


def test_flows_take_functions_as_they_take_modules():
    data = from_arrays("d", np.random.default_rng(0).normal(size=(30, *IMAGE)), np.arange(30) % 3)
    masks = [
        prune(initialize(lambda *_, k=k: k(), data), "synflow", density=0.2) for k in (Plain, Functional)
    ]
    assert np.array_equal(*masks)


class OwnParameters(nn.Module):
    """Layers whose weights are parameters of the network itself."""

    def __init__(self):
        super().__init__()
        self.w, self.b = nn.Parameter(torch.rand(6, 5)), nn.Parameter(torch.rand(6))
        self.v = nn.Parameter(torch.rand(4, 6))
        self.scale, self.shift = nn.Parameter(torch.rand(4)), nn.Parameter(torch.rand(4))
        self.register_buffer("running_mean", torch.rand(4))
        self.register_buffer("running_var", torch.rand(4))
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        h = F.linear(x, self.w, self.b).relu() @ self.v.t()
        h = F.batch_norm(h, self.running_mean, self.running_var, self.scale, self.shift, self.training)
        return self.fc(h)


def test_own_parameters_are_layers_named_by_them():
    wiring = keeps_renumbering(OwnParameters(), (5,))
    assert [tuple(layer) for layer in wiring.spec.layers] == [
        ("w", (6, 5), 0),
        ("v", (4, 6), 30),
        ("fc.weight", (3, 4), 54),
    ]
    assert [group.name for group in wiring.spec.groups] == ["input", "w", "v", "output"]
    assert wiring.biases == ("b", None, "fc.bias")
    assert wiring.steps[4].names == ("scale", "shift", "running_mean", "running_var")


@pytest.mark.parametrize("turned", ["t()", "T", "mT", "transpose(0, 1)", "transpose(-1, -2)"])
def test_products_with_a_transposed_weight_are_linear_layers(turned):
    module = Net(
        lambda m, x: m.b(torch.matmul(m.a(x), eval(f"m.w.{turned}"))), w=nn.Parameter(torch.rand(5, 5))
    )
    assert [layer.name for layer in keeps_renumbering(module, (5,)).spec.layers] == [
        "a.weight",
        "w",
        "b.weight",
    ]


def vectors():
    return from_arrays("v", np.random.default_rng(0).normal(size=(30, 5)), np.arange(30) % 3)


def test_a_scheme_sets_own_parameters_that_are_layers():
    network = initialize(lambda *_: OwnParameters(), vectors(), "signed_constant", 1)
    module = network.module
    for weight, inputs in ((module.w, 5), (module.v, 6), (module.fc.weight, 4)):
        torch.testing.assert_close(weight.abs(), torch.full_like(weight, math.sqrt(2 / inputs)))
        assert weight.min() < 0 < weight.max()
    for zeros in (module.b, module.shift, module.running_mean, module.fc.bias):
        assert not zeros.any()
    for ones in (module.scale, module.running_var):
        assert (ones == 1).all()
    assert not network.spec.nodes[1].constant  # its bias is zero, and a rectifier follows
    again = restore(lambda *_: OwnParameters(), (5,), 3, {}, network.initialization, network.parameters())
    assert again.spec == network.spec
    for name, tensor in tensors_of(module).items():
        assert torch.equal(tensor, tensors_of(again.module)[name])
    built = initialize(lambda *_: OwnParameters(), vectors(), "as_built", 1).module
    assert (built.w >= 0).all()
    assert built.b.any()


def test_frozen_statistics_stay_in_training():
    module = plane(
        lambda m, x: m.b(
            F.batch_norm(m.a(x), m.n.running_mean, m.n.running_var, m.n.weight, m.n.bias).flatten(1)
        ),
        16,
        n=nn.BatchNorm2d(4),
    )
    torch.manual_seed(0)
    wiring, tensors, x = trace(randomized(module), IMAGE), tensors_of(module), samples(IMAGE)
    with torch.no_grad():
        torch.testing.assert_close(wiring.forward(tensors, x, training=True), module.train()(x))
    assert torch.equal(tensors["n.running_mean"], module.n.running_mean)


@pytest.mark.parametrize(
    ("code", "steps"),
    [
        (lambda m, h: F.dropout(h, 0.4, False), 3),
        (lambda m, h: F.dropout(h, p=0.4, training=False), 3),
        (lambda m, h: F.dropout(h, 0.4, m.training), 4),
        (lambda m, h: torch.dropout(h, 0.4, m.training), 4),
        (lambda m, h: F.dropout(h, 0.4) if m.training else h, 4),
    ],
)
def test_functional_dropout_is_read_as_it_acts_in_each_mode(code, steps):
    wiring = trace(Net(lambda m, x: m.b(code(m, m.a(x)))), (5,))
    assert len(wiring.steps) == steps
    assert [step.operation for step in wiring.steps].count("dropout") == steps - 3


def test_dead_code_is_ignored_whatever_it_is():
    wiring = trace(Net(lambda m, x: let(m.a(x), lambda h: (h.sort(), m.lstm(h), h.long() > 3, m.b(h))[-1]),
                       lstm=nn.LSTM(5, 5)), (5,))  # fmt: skip
    assert [step.operation for step in wiring.steps] == ["input", "linear", "linear"]


# Refusals


class Gate(nn.Module):
    def __init__(self, gate):
        super().__init__()
        self.gate = gate

    def forward(self, x):
        return self.gate(x)


WORDS = {
    "a comparison of values": lambda x: x == 2,
    "a division with remainder": lambda x: x // 2,
    "a conversion to another type": lambda x: x.long(),
    "a matrix product of values": lambda x: torch.einsum("ni,ni->n", x, x),
    "another order of the axes": lambda x: x.permute(1, 0),
    "a repetition of a value": lambda x: x.repeat(1, 2),
    "the function torch.erfinv": torch.erfinv,
    "the tensor method cumsum": lambda x: x.cumsum(1),
}


@pytest.mark.parametrize("words", WORDS)
def test_a_refusal_says_the_operation_in_words_and_the_submodule(words):
    module = nn.Sequential(nn.Linear(5, 4), nn.Sequential(nn.ReLU(), Gate(WORDS[words])), nn.Linear(4, 3))
    message = refused_module(module)
    assert message.startswith(f"the wiring does not know {words}, at '1.1' in Sequential; ")


def test_pooling_over_units_is_named_by_its_module():
    module = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.MaxPool1d(2), nn.Linear(4, 3))
    message = refused_module(module)
    assert "MaxPool1d " in message
    assert "at '2' in Sequential" in message


def named(**axes):
    return {key.replace("_", "."): value for key, value in axes.items()}


DECLARABLE = {
    "normalisation of length": (
        lambda: Net(lambda m, x: m.b(F.normalize(m.a(x)))),
        named(a_weight=("h", "input"), a_bias=("h",), b_weight=("output", "h")),
        (5,),
    ),
    "softmax": (
        lambda: Net(lambda m, x: m.b(torch.softmax(m.a(x), 1))),
        named(a_weight=("h", "input"), a_bias=("h",), b_weight=("output", "h")),
        (5,),
    ),
    "group norm of one group": (
        lambda: plane(lambda m, x: m.b(m.n(m.a(x)).flatten(1)), 16, n=nn.GroupNorm(1, 4)),
        named(
            **{"a_weight": ("h", "input"), "a_bias": ("h",), "n_weight": ("h",), "n_bias": ("h",)},
            **{"b_weight": ("output", "h:16")},
        ),
        IMAGE,
    ),
}


@pytest.mark.parametrize("name", DECLARABLE)
def test_groups_are_named_as_a_way_out_where_declaring_them_works(name):
    build, groups, shape = DECLARABLE[name]
    torch.manual_seed(0)
    module = build()
    assert DECLARE in refused_module(module, shape)
    module.neuron_groups = groups
    assert len(trace(module, shape).spec.layers) >= 2


UNDECLARABLE = {
    "recurrent": lambda: Net(lambda m, x: m.b(m.c(m.a(x))[0]), c=nn.RNN(5, 5)),
    "attention": lambda: Net(lambda m, x: m.b(m.c(m.a(x), x, x)[0]), c=nn.MultiheadAttention(5, 1)),
    "concatenation": lambda: Net(
        lambda m, x: m.c(torch.cat((F.normalize(m.a(x)), x), 1)), b=None, c=nn.Linear(10, 3)
    ),
    "reversal": lambda: Net(lambda m, x: m.b(F.normalize(m.a(x)).flip(1))),
    "random numbers": lambda: Net(lambda m, x: m.b(m.a(x) * torch.rand_like(x))),
    "other outputs": lambda: Net(lambda m, x: m.b(m.a(x)).sum(1)),
    "dropout": lambda: Net(lambda m, x: m.b(m.d(F.normalize(m.a(x)))), d=nn.Dropout()),
}


@pytest.mark.parametrize("name", UNDECLARABLE)
def test_groups_are_not_named_as_a_way_out_where_they_cannot_be_declared(name):
    assert refused_module(UNDECLARABLE[name]()).endswith("; use a network without it")


def test_every_function_that_is_a_layer_is_read():
    assert {F.linear, F.conv1d, F.conv2d, F.conv3d, F.batch_norm, F.layer_norm, F.prelu} <= set(READERS)
