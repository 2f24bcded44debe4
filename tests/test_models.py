"""Models: architectures, schemes, and a network that nothing ever writes to."""

import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from conftest import refusal
from torch import nn

from ticketsearch import models
from ticketsearch.models import SCHEMES, Initialization, Network, initialize, lenet_300_100, mlp, restore

IMAGES = SimpleNamespace(input_shape=(1, 4, 5), classes=3)
WIDE = SimpleNamespace(input_shape=(300,), classes=10)


def tanh_net(input_shape, classes, width=6):
    """A factory with biases and weights of its own."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(math.prod(input_shape), width), nn.Tanh(), nn.Linear(width, classes)
    )


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# Architectures


def test_an_mlp_has_the_given_widths():
    network = initialize("mlp:7,4", IMAGES)
    assert [layer.shape for layer in network.spec.layers] == [(7, 20), (4, 7), (3, 4)]
    assert [tuple(p.shape) for p in network.parameters().values()] == [
        (7, 20),
        (7,),
        (4, 7),
        (4,),
        (3, 4),
        (3,),
    ]


def test_lenet_has_its_266200_weights_on_mnist():
    spec = initialize("lenet_300_100", SimpleNamespace(input_shape=(1, 28, 28), classes=10)).spec
    assert [layer.shape for layer in spec.layers] == [(300, 784), (100, 300), (10, 100)]
    assert spec.size == 266_200


def test_every_named_model_maps_samples_to_classes():
    for name in models.__all__:
        outputs = initialize(name, IMAGES).module(torch.zeros(2, 1, 4, 5))
        assert outputs.shape == (2, 3)


def test_activation_and_biases_are_options():
    network = initialize("mlp:7,4", IMAGES, activation="tanh", bias=False)
    assert [type(child).__name__ for child in network.module] == [
        "Flatten",
        "Linear",
        "Tanh",
        "Linear",
        "Tanh",
        "Linear",
    ]
    assert list(network.parameters()) == ["1.weight", "3.weight", "5.weight"]
    assert network.options == {"activation": "tanh", "bias": False}
    assert list(dict(initialize("lenet_300_100", IMAGES, bias=False).parameters())) == [
        "1.weight",
        "3.weight",
        "5.weight",
    ]


def test_one_width_may_be_a_number_as_toml_gives_it():
    assert [layer.shape for layer in initialize("mlp", IMAGES, hidden=7).spec.layers] == [(7, 20), (3, 7)]


@pytest.mark.parametrize("widths", ["", "0", "3,", "3,,4", "-3", "3.5", "x", "3;4", "10,0"])
def test_widths_that_are_no_positive_integers_are_refused(widths):
    message = refusal(initialize, f"mlp:{widths}", IMAGES)
    assert message == f"mlp widths are integers from 1 to 1000000 such as mlp:300,100, but got {widths!r}"


def test_an_unknown_model_activation_or_option_names_the_nearest():
    assert refusal(initialize, "mlpp:3", IMAGES).startswith("unknown model 'mlpp' (did you mean 'mlp'?)")
    assert "(did you mean 'relu'?)" in refusal(initialize, "mlp:3", IMAGES, activation="relo")
    assert "(did you mean 'activation'?)" in refusal(initialize, "mlp:3", IMAGES, activaton="relu")
    assert "no option 'hidden'" in refusal(initialize, "mlp:3", IMAGES, hidden="4")
    assert "no option 'widht' (did you mean 'width'?)" in refusal(initialize, tanh_net, IMAGES, widht=4)


@pytest.mark.parametrize("activation", [3, ["relu"], None])
def test_an_activation_that_is_no_name_is_refused(activation):
    assert refusal(initialize, "mlp:3", IMAGES, activation=activation).startswith("unknown activation ")


# Initial weights


@pytest.mark.parametrize("scheme", [*SCHEMES, "as_built"])
def test_a_scheme_and_a_seed_determine_the_weights(scheme):
    first = initialize(tanh_net, IMAGES, scheme=scheme, seed=3).parameters()
    torch.rand(5)  # whatever else draws from torch's generator
    assert same(initialize(tanh_net, IMAGES, scheme=scheme, seed=3).parameters(), first)
    for name, other in initialize(tanh_net, IMAGES, scheme=scheme, seed=4).parameters().items():
        if name.endswith("weight"):
            assert not torch.isclose(other, first[name]).any()


def test_no_two_schemes_give_the_same_weights():
    weights = [initialize("mlp:6", IMAGES, scheme=s).parameters()["1.weight"] for s in [*SCHEMES, "as_built"]]
    assert not any(torch.allclose(a, b) for i, a in enumerate(weights) for b in weights[:i])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_schemes_put_all_biases_to_zero(scheme):
    parameters = initialize(tanh_net, IMAGES, scheme=scheme).parameters()
    assert not parameters["1.bias"].any()
    assert not parameters["3.bias"].any()


@pytest.mark.parametrize(
    ("scheme", "deviation", "bound"),
    [
        ("kaiming_normal", math.sqrt(2 / 300), None),
        ("kaiming_uniform", math.sqrt(2 / 300), math.sqrt(6 / 300)),
        ("xavier_normal", math.sqrt(2 / 700), None),
        ("xavier_uniform", math.sqrt(2 / 700), math.sqrt(6 / 700)),
    ],
)
def test_each_scheme_has_its_distribution(scheme, deviation, bound):
    weight = initialize("mlp:400", WIDE, scheme=scheme).parameters()["1.weight"]  # 400 × 300
    assert weight.std().item() == pytest.approx(deviation, rel=0.01)
    assert abs(weight.mean().item()) < 5 * deviation / math.sqrt(weight.numel())
    largest = weight.abs().max().item()
    if bound is None:
        assert largest > 3.5 * deviation  # no uniform distribution reaches beyond √3 deviations
    else:
        assert 0.999 * bound < largest <= bound


def test_orthogonal_weights_are_orthogonal():
    parameters = initialize("mlp:400,50", WIDE, scheme="orthogonal").parameters()
    tall, wide = parameters["1.weight"], parameters["3.weight"]
    torch.testing.assert_close(tall.T @ tall, torch.eye(300), rtol=0, atol=1e-5)
    torch.testing.assert_close(wide @ wide.T, torch.eye(50), rtol=0, atol=1e-5)


def test_as_built_keeps_the_factorys_own_weights():
    torch.manual_seed(5)
    own = {name: p.detach().clone() for name, p in tanh_net((1, 4, 5), 3).named_parameters()}
    network = initialize(tanh_net, IMAGES, scheme="as_built", seed=5)
    assert same(network.parameters(), own)
    assert own["1.bias"].all()
    assert network.initialization == Initialization("as_built", 5)


@pytest.mark.parametrize("scheme", ["kaiming_normal", "as_built"])
def test_torchs_global_random_state_is_left_as_it_was(scheme):
    torch.manual_seed(11)
    state = torch.get_rng_state()
    initialize(tanh_net, IMAGES, scheme=scheme, seed=1)
    assert torch.equal(torch.get_rng_state(), state)


def test_an_unknown_scheme_or_a_seed_out_of_range_is_refused():
    message = refusal(initialize, "mlp:3", IMAGES, scheme="kaiming")
    assert message.startswith("unknown initialization scheme 'kaiming' (did you mean 'kaiming_normal'?)")
    assert "as_built" in message
    for seed in (-1, 2**63):
        assert refusal(initialize, "mlp:3", IMAGES, seed=seed).endswith(f"2**63 - 1, but got {seed}")
    assert initialize("mlp:3", IMAGES, seed=2**63 - 1).initialization.seed == 2**63 - 1


# What a factory may return


def test_a_factory_that_returns_no_module_is_refused():
    message = refusal(initialize, lambda input_shape, classes: "net", IMAGES)
    assert message == "model '<lambda>' must return a torch.nn.Module, but got str"


def test_a_network_of_other_classes_is_refused():
    message = refusal(initialize, lambda input_shape, classes: tanh_net(input_shape, 4), IMAGES)
    assert message == "the dataset has 3 classes, but model '<lambda>' returns 4 values"


def test_parameters_of_half_precision_are_refused():
    message = refusal(initialize, lambda s, c: tanh_net(s, c).half(), IMAGES)
    assert message == "parameters are float32 or float64, but 1.weight is torch.float16"


def test_a_factory_of_doubles_gives_a_network_of_floats():
    network = initialize(lambda s, c: tanh_net(s, c).double(), IMAGES, scheme="as_built", seed=5)
    assert same(network.parameters(), initialize(tanh_net, IMAGES, scheme="as_built", seed=5).parameters())


def test_a_module_that_cannot_be_traced_is_refused():
    message = refusal(
        initialize, lambda s, c: nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(20, c)), IMAGES
    )
    assert "'1' in Sequential is Dropout" in message


def test_a_model_may_be_a_file_a_partial_or_a_class(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from torch import nn\n\n\ndef build(input_shape, classes, width=2):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(20, width), nn.ReLU(), nn.Linear(width, classes))\n"
    )
    network = initialize(f"{path}:build", IMAGES, width=4)
    assert [layer.shape for layer in network.spec.layers] == [(4, 20), (3, 4)]
    assert network.name == f"{path}:build"

    class Linear(nn.Sequential):
        def __init__(self, input_shape, classes):
            super().__init__(nn.Flatten(), nn.Linear(math.prod(input_shape), classes))

    assert [layer.shape for layer in initialize(Linear, IMAGES).spec.layers] == [(3, 20)]
    assert initialize(partial(tanh_net, width=9), IMAGES).spec.groups[1].size == 9


# Nothing is written to


def test_writing_to_the_returned_parameters_changes_nothing():
    network = initialize("mlp:6", IMAGES)
    before = {name: p.detach().clone() for name, p in network.module.named_parameters()}
    for parameter in network.parameters().values():
        assert not parameter.requires_grad
        parameter.add_(1)
    assert same(network.parameters(), before)
    assert same({n: p.detach() for n, p in network.module.named_parameters()}, before)


def test_networks_share_no_module_with_each_other_or_with_a_factory_that_keeps_its_own():
    kept = tanh_net((1, 4, 5), 3)
    own = {name: p.detach().clone() for name, p in kept.named_parameters()}
    networks = [
        initialize(lambda input_shape, classes: kept, IMAGES, scheme=scheme, seed=seed)
        for scheme, seed in (("as_built", 0), ("kaiming_normal", 0), ("kaiming_normal", 1))
    ]
    assert same({n: p.detach() for n, p in kept.named_parameters()}, own)
    assert same(networks[0].parameters(), own)
    assert not same(networks[1].parameters(), networks[2].parameters())
    with torch.no_grad():
        kept[1].weight.zero_()
    assert same(networks[0].parameters(), own)


def test_a_reinitialized_network_has_the_architecture_and_other_weights():
    network = initialize("mlp:6", IMAGES, activation="tanh", seed=0)
    before = network.parameters()
    other = network.reinitialized("orthogonal", 4)
    assert isinstance(other, Network)
    assert other.spec == network.spec
    assert (other.name, other.initialization) == ("mlp:6", ("orthogonal", 4))
    assert same(
        other.parameters(), initialize("mlp:6", IMAGES, "orthogonal", 4, activation="tanh").parameters()
    )
    assert same(network.parameters(), before)
    assert not same(other.parameters(), before)
    assert network.reinitialized("kaiming_normal", 0) is network
    assert "unknown initialization scheme" in refusal(network.reinitialized, "none", 0)


# Restoring


def test_a_network_restores_from_its_parameters():
    network = initialize("mlp:6", IMAGES, scheme="xavier_normal", seed=3, activation="tanh")
    changed = {name: p + 1 for name, p in network.parameters().items()}
    again = restore("mlp:6", (1, 4, 5), 3, {"activation": "tanh"}, network.initialization, changed)
    assert same(again.parameters(), changed)
    assert (again.name, again.initialization) == ("mlp:6", ("xavier_normal", 3))
    assert (again.input_shape, again.classes, again.options) == ((1, 4, 5), 3, {"activation": "tanh"})
    changed["1.weight"].zero_()
    assert again.parameters()["1.weight"].any()
    # Its lineage goes on as that of the original does.
    assert same(
        again.reinitialized("orthogonal", 1).parameters(), network.reinitialized("orthogonal", 1).parameters()
    )


def test_an_untouched_network_restores_with_the_same_signature():
    for build in (tanh_net, lenet_300_100, partial(mlp, hidden="6")):
        network = initialize(build, IMAGES, scheme="as_built", seed=2)
        again = restore(build, (1, 4, 5), 3, {}, network.initialization, network.parameters())
        assert again.spec.signature == network.spec.signature
        assert same(again.parameters(), network.parameters())


@pytest.mark.parametrize("change", ["missing", "additional", "shape"])
def test_parameters_of_another_model_are_refused(change):
    parameters = initialize("mlp:6", IMAGES).parameters()
    if change == "missing":
        del parameters["1.bias"]
    elif change == "additional":
        parameters["7.bias"] = torch.zeros(3)
    else:
        parameters["1.bias"] = torch.zeros(7)
    message = refusal(restore, "mlp:6", (1, 4, 5), 3, {}, Initialization("kaiming_normal", 0), parameters)
    assert message.startswith("the parameters are not those of model 'mlp:6': ")
    assert ("7.bias" if change == "additional" else "1.bias") in message
