"""Wiring: what a trace finds, that renumbering changes no output, and what is refused by name and place."""

import json

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ticketsearch.errors import BadInput
from ticketsearch.masks import MaskSpec
from ticketsearch.models import mlp
from ticketsearch.wiring import trace


class Net(nn.Module):
    """Two layers a (5 → 5), b (5 → 3) and whatever the forward function makes of them."""

    def __init__(self, forward, **parts):
        super().__init__()
        self.a = nn.Linear(5, 5)
        self.b = nn.Linear(5, 3)
        for name, part in parts.items():
            setattr(self, name, part)
        self.compute = forward

    def forward(self, x):
        return self.compute(self, x)


class Residual(nn.Module):
    """Blocks h = h + up(relu(down(h))) between an entry and an exit layer: one tied group."""

    def __init__(self, width=6, inner=(3, 4)):
        super().__init__()
        self.entry = nn.Linear(5, width)
        self.down = nn.ModuleList(nn.Linear(width, size) for size in inner)
        self.up = nn.ModuleList(nn.Linear(size, width, bias=False) for size in inner)
        self.exit = nn.Linear(width, 3)

    def forward(self, x):
        h = torch.relu(self.entry(x))
        for down, up in zip(self.down, self.up, strict=True):
            h = h + up(F.silu(down(h)))
        return self.exit(h)


MODULES = {
    "mlp": (lambda: mlp((5,), 3, "7,4"), (5,)),
    "mlp on images": (lambda: mlp((1, 2, 3), 3, "7"), (1, 2, 3)),
    "mlp without biases": (lambda: mlp((5,), 3, "4,4", bias=False), (5,)),
    "sequential": (lambda: nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)), (5,)),
    "nested": (lambda: nn.Sequential(nn.Sequential(nn.Linear(5, 4), nn.GELU()), nn.Linear(4, 3)), (5,)),
    "in-place relu": (lambda: nn.Sequential(nn.Linear(5, 4), nn.ReLU(inplace=True), nn.Linear(4, 3)), (5,)),
    "linear after linear": (lambda: nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3)), (5,)),
    "one layer": (lambda: nn.Sequential(nn.Linear(5, 3)), (5,)),
    "map on the output": (
        lambda: nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3), nn.Tanh()),
        (5,),
    ),
    "residual": (Residual, (5,)),
    "residual to the input": (lambda: Net(lambda m, x: m.b(x + F.relu(m.a(x)))), (5,)),
    "residual to the output": (
        lambda: Net(
            lambda m, x: (lambda o: o + m.c(F.relu(m.d(o))))(m.b(m.a(x))),
            c=nn.Linear(4, 3),
            d=nn.Linear(3, 4),
        ),
        (5,),
    ),
    "two branches": (
        lambda: Net(lambda m, x: m.b(torch.tanh(m.a(x)) + torch.sigmoid(m.c(x))), c=nn.Linear(5, 5)),
        (5,),
    ),
    "two readers": (
        lambda: Net(lambda m, x: (lambda h: m.b(h) + m.c(h.abs()))(m.a(x)), c=nn.Linear(5, 3)),
        (5,),
    ),
    "doubled": (lambda: Net(lambda m, x: (lambda h: m.b(h + h))(m.a(x).relu())), (5,)),
    "functional": (lambda: Net(lambda m, x: m.b(F.leaky_relu(m.a(x), negative_slope=0.3))), (5,)),
    "functional in place": (lambda: Net(lambda m, x: m.b(F.relu(m.a(x), inplace=True))), (5,)),
    "functional in place by position": (lambda: Net(lambda m, x: m.b(F.relu(m.a(x), True))), (5,)),
    "arithmetic": (lambda: Net(lambda m, x: 1 - m.b((m.a(x) * 0.5 + 1) / 3) ** 2), (5,)),
    "reversed arithmetic": (lambda: Net(lambda m, x: -m.b(torch.mul(torch.add(m.a(x), 2), 3) - 0.1)), (5,)),
    "by keyword": (lambda: Net(lambda m, x: m.b(input=m.a(x).sin())), (5,)),
    "layers named as groups": (
        lambda: Net(lambda m, x: m.output(m.input(x).relu()), input=nn.Linear(5, 4), output=nn.Linear(4, 3)),
        (5,),
    ),
}
FLATTENINGS = {
    "flatten method": lambda x: x.flatten(1),
    "flatten method by name": lambda x: x.flatten(start_dim=1),
    "torch.flatten": lambda x: torch.flatten(x, 1),
    "torch.flatten by name": lambda x: torch.flatten(x, start_dim=1, end_dim=-1),
    "view with size(0)": lambda x: x.view(x.size(0), -1),
    "view with shape[0]": lambda x: x.view(x.shape[0], 6),
    "view with -1 first": lambda x: x.view(-1, 6),
    "view with a tuple": lambda x: x.view((x.size()[0], -1)),
    "reshape": lambda x: x.reshape(x.shape[0], -1),
    "torch.reshape": lambda x: torch.reshape(x, (-1, 6)),
    "nn.Flatten": nn.Flatten(),
    "a map before it": lambda x: (x * 2).flatten(1),
}


def built(name):
    torch.manual_seed(0)
    build, shape = MODULES[name]
    return build().double(), shape


def renumbered(module, wiring, orders):
    """Return the parameters with hidden group ``g`` renumbered by ``orders[g]``, and its biases with it."""
    parameters = {name: p.detach().clone() for name, p in module.named_parameters()}
    for layer, (source, target), bias in zip(
        wiring.spec.layers, wiring.spec.layer_groups, wiring.biases, strict=True
    ):
        weight = parameters[layer.name]
        parameters[layer.name] = weight[orders[target]][:, orders[source]]
        if bias is not None:
            parameters[bias] = parameters[bias][orders[target]]
    return parameters


def orders_of(spec, seed):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randperm(group.size, generator=generator)
        if group.kind == "hidden"
        else torch.arange(group.size)
        for group in spec.groups
    ]


def samples(shape):
    return torch.randn(4, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def refusal(module, shape=(5,)):
    with pytest.raises(BadInput) as caught:
        trace(module, shape)
    message = str(caught.value)
    assert "\n" not in message
    return message


# What is found


def test_an_mlp_is_a_chain_of_groups():
    wiring = trace(mlp((1, 2, 3), 3, "7,4"), (1, 2, 3))
    spec = wiring.spec
    assert [tuple(layer) for layer in spec.layers] == [
        ("1.weight", (7, 6), 0),
        ("3.weight", (4, 7), 42),
        ("5.weight", (3, 4), 70),
    ]
    assert [tuple(group) for group in spec.groups] == [
        ("input", 6, "input"),
        ("1", 7, "hidden"),
        ("3", 4, "hidden"),
        ("output", 3, "output"),
    ]
    assert spec.layer_groups == ((0, 1), (1, 2), (2, 3))
    assert wiring.biases == ("1.bias", "3.bias", "5.bias")
    assert [step.operation for step in wiring.steps] == [
        "input",
        *["linear", "elementwise"] * 2,
        "linear",
    ]


def test_values_that_are_added_share_a_group():
    wiring = trace(Residual(6, (3, 4)), (5,))
    spec = wiring.spec
    assert [tuple(group) for group in spec.groups] == [
        ("input", 5, "input"),
        ("entry", 6, "hidden"),
        ("down.0", 3, "hidden"),
        ("down.1", 4, "hidden"),
        ("output", 3, "output"),
    ]
    names = [layer.name.removesuffix(".weight") for layer in spec.layers]
    assert dict(zip(names, spec.layer_groups, strict=True)) == {
        "entry": (0, 1),
        "down.0": (1, 2),
        "up.0": (2, 1),
        "down.1": (1, 3),
        "up.1": (3, 1),
        "exit": (1, 4),
    }
    assert wiring.biases == ("entry.bias", "down.0.bias", None, "down.1.bias", None, "exit.bias")


def test_neurons_added_to_the_input_or_the_output_are_fixed():
    for name, left in (("residual to the input", []), ("residual to the output", ["a", "d"])):
        spec = trace(*built(name)).spec
        assert [spec.groups[i].name for i in spec.hidden] == left


def test_no_two_groups_have_one_name():
    for name in MODULES:
        names = [group.name for group in trace(*built(name)).spec.groups]
        assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", MODULES)
def test_layers_are_named_as_the_module_names_its_parameters(name):
    module, shape = built(name)
    wiring = trace(module, shape)
    parameters = dict(module.named_parameters())
    for layer, bias in zip(wiring.spec.layers, wiring.biases, strict=True):
        assert parameters[layer.name].shape == layer.shape
        assert bias is None or parameters[bias].shape == layer.shape[:1]


@pytest.mark.parametrize("name", MODULES)
def test_the_steps_compute_what_the_module_computes(name):
    module, shape = built(name)
    wiring = trace(module, shape)
    parameters = dict(module.named_parameters())

    def linear(layer, value):
        bias = wiring.biases[layer]
        weight = parameters[wiring.spec.layers[layer].name]
        return F.linear(value, weight, None if bias is None else parameters[bias])

    x = samples(shape)
    with torch.no_grad():
        values = wiring.run(x.flatten(1), linear=linear, elementwise=lambda f, v: f(v), add=torch.add)
        torch.testing.assert_close(values[-1], module(x), rtol=0, atol=1e-12)
    assert len(values) == len(wiring.steps) == len(wiring.spec.nodes)
    for value, node in zip(values, wiring.spec.nodes, strict=True):
        assert value.shape == (4, wiring.spec.groups[node.group].size)


@pytest.mark.parametrize("flattening", FLATTENINGS)
def test_every_way_to_flatten_samples_is_known(flattening):
    flatten = FLATTENINGS[flattening]
    parts = {"first": nn.Linear(6, 5)} | ({"flat": flatten} if isinstance(flatten, nn.Module) else {})
    module = Net(lambda m, x: m.b(torch.relu(m.first((m.flat if "flat" in parts else flatten)(x)))), **parts)
    spec = trace(module, (1, 2, 3)).spec
    assert [layer.shape for layer in spec.layers] == [(5, 6), (3, 5)]
    assert spec.groups[0] == ("input", 6, "input")


def test_a_traced_spec_survives_json():
    for name in MODULES:
        spec = trace(*built(name)).spec
        again = MaskSpec.from_json(json.loads(json.dumps(spec.to_json())))
        assert again == spec
        assert again.signature == spec.signature


def test_tracing_changes_neither_the_module_nor_the_random_state():
    module, shape = built("in-place relu")
    before = {name: p.clone() for name, p in module.state_dict().items()}
    state = torch.get_rng_state()
    trace(module, shape)
    assert all(torch.equal(before[name], p) for name, p in module.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert module[1].inplace


def test_a_value_that_reaches_no_output_leaves_no_step():
    assert "layer a.weight does not reach the output" in refusal(
        Net(lambda m, x: (m.a(x), m.b(torch.tanh(x)))[1])
    )
    spec = trace(Net(lambda m, x: (torch.relu(x), m.b(torch.tanh(x)))[1]), (5,)).spec
    assert [node.operation for node in spec.nodes] == ["input", "elementwise", "linear"]


# Renumbering


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(MODULES)), st.integers(0, 2**32))
def test_renumbering_hidden_neurons_changes_no_output(name, seed):
    module, shape = built(name)
    wiring = trace(module, shape)
    parameters = renumbered(module, wiring, orders_of(wiring.spec, seed))
    x = samples(shape)
    with torch.no_grad():
        outputs = torch.func.functional_call(module, parameters, (x,))
        torch.testing.assert_close(outputs, module(x), rtol=0, atol=1e-10)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 6), st.lists(st.integers(1, 5), max_size=3), st.integers(0, 2**32))
def test_renumbering_a_residual_network_changes_no_output(width, inner, seed):
    torch.manual_seed(seed)
    module = Residual(width, inner).double()
    wiring = trace(module, (5,))
    parameters = renumbered(module, wiring, orders_of(wiring.spec, seed))
    x = samples((5,))
    with torch.no_grad():
        outputs = torch.func.functional_call(module, parameters, (x,))
        torch.testing.assert_close(outputs, module(x), rtol=0, atol=1e-10)


def test_renumbering_the_fixed_outputs_does_change_them():
    module, shape = built("mlp")
    wiring = trace(module, shape)
    orders = [torch.arange(group.size) for group in wiring.spec.groups]
    orders[-1] = orders[-1].flip(0)
    x = samples(shape)
    with torch.no_grad():
        outputs = torch.func.functional_call(module, renumbered(module, wiring, orders), (x,))
        assert not torch.allclose(outputs, module(x))
        torch.testing.assert_close(outputs.flip(1), module(x))


# Refusals: by name and place


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(5, 3)

    def forward(self, x, y):
        return self.a(x + y)


class Branch(Two):
    def forward(self, x):
        return self.a(x) if x.sum() > 0 else self.a(-x)


class Random(Two):
    def forward(self, x):
        return self.a(x * float(torch.rand(())))


class Noise(Two):
    def forward(self, x):
        return self.a(x + torch.rand(5))


def hooked():
    """Return a layer whose own forward is never traced, and fails."""

    def fail(*_):
        raise RuntimeError("two\nlines")

    layer = nn.Linear(5, 5)
    layer.register_forward_hook(fail)
    return layer


def tied():
    module = Net(lambda m, x: m.b(m.c(m.a(x))), c=nn.Linear(5, 5))
    module.c.weight = module.a.weight
    return module


REFUSALS = {
    "convolution": (
        lambda: nn.Sequential(nn.Conv2d(1, 2, 2), nn.Flatten(), nn.Linear(4, 3)),
        (1, 2, 3),
        ["'0' in Sequential is Conv2d"],
    ),
    "dropout": (
        lambda: nn.Sequential(nn.Linear(5, 4), nn.Dropout()),
        (5,),
        ["'1' in Sequential is Dropout"],
    ),
    "batch norm": (
        lambda: Net(lambda m, x: m.b(m.norm(m.a(x))), norm=nn.BatchNorm1d(5)),
        (5,),
        ["'norm' in Net is BatchNorm1d"],
    ),
    "prelu": (lambda: Net(lambda m, x: m.b(m.act(m.a(x))), act=nn.PReLU()), (5,), ["'act' in Net is PReLU"]),
    "random relu": (
        lambda: Net(lambda m, x: m.b(m.act(m.a(x))), act=nn.RReLU()),
        (5,),
        ["'act' in Net is RReLU"],
    ),
    "softmax": (
        lambda: Net(lambda m, x: torch.softmax(m.b(m.a(x)), 1)),
        (5,),
        ["'softmax' in Net is softmax()"],
    ),
    "softmax module": (
        lambda: nn.Sequential(nn.Linear(5, 3), nn.Softmax(1)),
        (5,),
        ["'1' in Sequential is Softmax"],
    ),
    "product of values": (lambda: Net(lambda m, x: m.b(m.a(x) * x)), (5,), ["'mul' in Net is mul()"]),
    "difference of values": (lambda: Net(lambda m, x: m.b(m.a(x) - x)), (5,), ["'sub' in Net is sub()"]),
    "concatenation": (
        lambda: Net(lambda m, x: m.b(torch.cat((m.a(x), x), 1))),
        (5,),
        ["'cat' in Net is cat()"],
    ),
    "sum of shapes": (lambda: Net(lambda m, x: m.b(m.a(x)) + m.a(x)), (5,), ["layer 'a'"]),
    "broadcast": (
        lambda: Net(lambda m, x: m.b(m.a(x) + m.c(x)), c=nn.Linear(5, 1)),
        (5,),
        ["'add' in Net is a sum of shapes (5,) and (1,)"],
    ),
    "scaled sum": (
        lambda: Net(lambda m, x: m.b(torch.add(x, m.a(x), alpha=2))),
        (5,),
        ["'add' in Net is add()"],
    ),
    "shared weight": (tied, (5,), ["shared between layers", "a.weight and c.weight are one tensor"]),
    "one layer twice": (
        lambda: Net(lambda m, x: m.b(m.a(m.a(x).relu()))),
        (5,),
        ["'a' in Net is a second use of layer 'a'"],
    ),
    "computed weight": (
        lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(5, 3))),
        (5,),
        ["'0' in Sequential is a Linear whose weight is computed"],
    ),
    "branch on a value": (Branch, (5,), ["torch.fx cannot trace Branch", "without branches"]),
    "random factor": (Random, (5,), ["Random computes something other than its trace", "random"]),
    "random tensor": (Noise, (5,), ["in Noise is the tensor"]),
    "two inputs": (Two, (5,), ["'y' in Two is a second input"]),
    "layer without effect": (
        lambda: Net(lambda m, x: (m.a(x), m.b(x))[1]),
        (5,),
        ["layer a.weight does not reach the output"],
    ),
    "no layer": (lambda: nn.Sequential(nn.Flatten(), nn.ReLU()), (5,), ["Sequential has no Linear layer"]),
    "tuple": (lambda: Net(lambda m, x: (m.b(m.a(x)), x)), (5,), ["returns one tensor (samples, classes)"]),
    "nothing": (lambda: Net(lambda m, x: None), (5,), ["returns one tensor (samples, classes)"]),
    "features": (
        lambda: mlp((4,), 3, "2"),
        (5,),
        ["'1' in Sequential is Linear(4, 2) on a value of shape (5,)"],
    ),
    "unflattened": (
        lambda: nn.Sequential(nn.Linear(3, 3)),
        (2, 3),
        ["Linear(3, 3) on a value of shape (2, 3)"],
    ),
    "slice": (
        lambda: Net(lambda m, x: m.b(m.a(x)[:, :5])),
        (5,),
        ["'b' in Net is b of something that is no feature vector"],
    ),
    "view across samples": (
        lambda: Net(lambda m, x: m.b(m.a(x)).view(3, -1)),
        (5,),
        ["'view' in Net is view(3, -1)"],
    ),
    "view by features": (
        lambda: Net(lambda m, x: m.b(m.a(x.view(x.size(1), -1)))),
        (5,),
        ["'view' in Net is view(size, -1)"],
    ),
    "failing only when run": (
        lambda: Net(lambda m, x: m.b(m.a(x)), a=hooked()),
        (5,),
        ["Net fails on 5 samples of shape (5,) (RuntimeError: two lines)"],
    ),
    "flatten of samples": (
        lambda: Net(lambda m, x: m.b(m.a(x.flatten()))),
        (5,),
        ["'flatten' in Net is flatten"],
    ),
    "value in place and read again": (
        lambda: Net(lambda m, x: (lambda h: (lambda r: m.b(r + h))(F.relu_(h)))(m.a(x))),
        (5,),
        ["Net", "relu_"],
    ),
    "module in place and read again": (
        lambda: Net(
            lambda m, x: (lambda h: (lambda r: m.b(r + h))(m.act(h)))(m.a(x)), act=nn.ReLU(inplace=True)
        ),
        (5,),
        ["Net computes something other than its trace"],
    ),
    "raising": (lambda: Net(lambda m, x: {}["two\nlines"]), (5,), ["torch.fx cannot trace Net (KeyError"]),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_module_that_cannot_be_traced_is_refused_by_name_and_place(name):
    build, shape, words = REFUSALS[name]
    message = refusal(build(), shape)
    for word in words:
        assert word in message


# Which units are non-zero though nothing feeds them


ACTIVATIONS = {
    # f(0) = 0 and no gradient at 0: a zero bias never moves.
    "relu": (nn.ReLU(), True, False),
    "relu6": (nn.ReLU6(), True, False),
    "hardshrink": (nn.Hardshrink(), True, False),
    "tanhshrink": (nn.Tanhshrink(), True, False),
    "square": (lambda x: x.square(), True, False),
    # f(0) = 0 with a gradient: the bias moves, if there is one.
    "tanh": (nn.Tanh(), True, True),
    "tanh without bias": (nn.Tanh(), False, False),
    "leaky relu": (nn.LeakyReLU(), True, True),
    "gelu": (nn.GELU(), True, True),
    "silu": (nn.SiLU(), True, True),
    "elu": (nn.ELU(), True, True),
    "identity": (nn.Identity(), True, True),
    "nothing": (lambda x: x, True, True),
    "nothing without bias": (lambda x: x, False, False),
    "half, then relu": (lambda x: torch.relu(x * 0.5), True, False),
    "half, then tanh": (lambda x: torch.tanh(x * 0.5), True, True),
    # f(0) ≠ 0: non-zero from the start, with or without a bias.
    "sigmoid": (nn.Sigmoid(), True, True),
    "sigmoid without bias": (nn.Sigmoid(), False, True),
    "softplus": (nn.Softplus(), True, True),
    "cos without bias": (lambda x: x.cos(), False, True),
    "plus one": (lambda x: torch.relu(x) + 1, True, True),
    "plus one inside": (lambda x: torch.relu(x + 1), False, True),
}


def hidden_unit(name):
    """Return a network of one hidden layer with zero biases, its activation, and what the rule must say."""
    activation, bias, constant = ACTIVATIONS[name]
    torch.manual_seed(0)
    parts = {"act": activation} if isinstance(activation, nn.Module) else {}
    act = (lambda m, x: m.act(x)) if parts else (lambda m, x: activation(x))
    module = Net(lambda m, x: m.b(act(m, m.hidden(x))), hidden=nn.Linear(5, 5, bias=bias), **parts).double()
    with torch.no_grad():
        for layer in (module.hidden, module.b):
            if layer.bias is not None:
                layer.bias.zero_()
    return module, act, constant


def hidden_constants(module):
    spec = trace(module, (5,)).spec
    (hidden,) = spec.hidden
    return [node.constant for node in spec.nodes if node.group == hidden]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_rule_for_a_unit_that_nothing_feeds(name):
    module, _, constant = hidden_unit(name)
    assert any(hidden_constants(module)) is constant


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_training_bears_the_rule_out(name):
    module, act, constant = hidden_unit(name)
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(20, 5, dtype=torch.float64, generator=generator)
    y = torch.randint(0, 3, (20,), generator=generator)
    mask = torch.ones(5, 5, dtype=torch.float64)
    mask[0] = 0  # nothing feeds unit 0
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    moved = False
    for _ in range(30):
        hidden = act(module, F.linear(x, module.hidden.weight * mask, module.hidden.bias))
        moved |= bool((hidden[:, 0] != 0).any())
        optimizer.zero_grad()
        F.cross_entropy(module.b(hidden), y).backward()
        optimizer.step()
    assert moved is constant
    assert (hidden[:, 1:] != 0).any()


def test_the_constant_is_put_where_it_arises():
    kinds = {}
    for name in ("relu", "sigmoid", "tanh"):
        activation = mlp((5,), 3, "4", activation=name)
        with torch.no_grad():
            activation[1].bias.zero_()
            activation[3].bias.zero_()
        kinds[name] = hidden_constants(activation)
    # (linear, elementwise); a sigmoid's slope at 0 also lets the bias move.
    assert kinds == {"relu": [False, False], "sigmoid": [True, True], "tanh": [True, False]}


def test_biases_that_start_non_zero_make_relu_units_constant():
    torch.manual_seed(0)
    module = mlp((5,), 3, "4", activation="relu")  # torch's own biases
    assert hidden_constants(module) == [True, False]
    with torch.no_grad():
        module[1].bias.zero_()
    assert hidden_constants(module) == [False, False]


def test_the_bias_of_the_output_can_always_move():
    spec = trace(mlp((5,), 3, "4"), (5,)).spec
    assert spec.nodes[-1].constant
    assert not trace(mlp((5,), 3, "4", bias=False), (5,)).spec.nodes[-1].constant


def test_one_reader_that_passes_a_gradient_is_enough():
    def module(second):
        net = Net(lambda m, x: (lambda h: m.b(h.relu()) + m.c(second(h)))(m.a(x)), c=nn.Linear(5, 3))
        for parameter in net.parameters():
            if parameter.ndim == 1:
                nn.init.zeros_(parameter)
        return net

    assert not any(hidden_constants(module(torch.relu)))
    assert any(hidden_constants(module(torch.tanh)))
