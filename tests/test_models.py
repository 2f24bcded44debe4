"""Models: architectures, schemes, and a network that nothing ever writes to."""

import inspect
import itertools
import math
from functools import partial
from types import SimpleNamespace

import pytest
import scipy
import torch
from conftest import refusal
from torch import fx, nn

from ticketsearch import models
from ticketsearch.models import (
    SCHEMES,
    Initialization,
    Network,
    initialize,
    lenet_300_100,
    mlp,
    resnet20,
    restore,
    set_weights,
    vgg16_bn,
)

CIFAR = (3, 32, 32)
NAMED = {name: getattr(models, name) for name in models.__all__}
# The smallest square images that each convolutional model takes.
SMALLEST = {"lenet5": 12, "conv2": 2, "conv4": 4, "conv6": 8, "resnet20": 1, "vgg16_bn": 32}
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


def build(model, input_shape, classes=10, **options):
    """Build shapes without memory, and return the weights' shapes by name."""
    with torch.device("meta"):
        module = NAMED[model](input_shape, classes, **options)
    return {n: tuple(p.shape) for n, p in module.named_parameters() if p.dim() > 1}, module


def count(tensors):
    return sum(tensor.numel() for tensor in tensors)


def test_the_names_that_users_may_give_are_the_models_and_nothing_else():
    assert set(NAMED) == {"mlp", "lenet_300_100", *SMALLEST}
    for factory in NAMED.values():
        parameters = inspect.signature(factory).parameters
        assert list(parameters)[:2] == ["input_shape", "classes"]
        assert parameters["width"].default == 1.0
        assert parameters["bias"].default is True
    message = refusal(initialize, "lenet5:3", IMAGES)
    assert message == "model 'lenet5' takes nothing after a colon, but got lenet5:3"


@pytest.mark.parametrize("model", NAMED)
def test_every_named_model_maps_images_to_classes_and_can_be_traced(model):
    smallest = SMALLEST.get(model, 1)
    for input_shape in ((3, smallest, smallest), (1, 2 * smallest + 1, smallest)):
        module = NAMED[model](input_shape, 3, width=0.25).eval()
        x = torch.randn(2, *input_shape)
        outputs = module(x)
        assert outputs.shape == (2, 3)
        torch.testing.assert_close(fx.symbolic_trace(module)(x), outputs, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("model", "input_shape", "weights", "parameters"),
    [
        ("lenet_300_100", (1, 28, 28), 266_200, 266_610),
        ("lenet5", (1, 28, 28), 61_470, 61_706),
        ("conv2", CIFAR, 4_300_992, 4_301_642),
        ("conv4", CIFAR, 2_425_024, 2_425_930),
        ("conv6", CIFAR, 2_261_184, 2_262_602),
        ("resnet20", CIFAR, 270_896, 272_474),
        ("vgg16_bn", CIFAR, 14_715_584, 14_728_266),
    ],
)
def test_each_model_has_its_number_of_weights_and_parameters(model, input_shape, weights, parameters):
    shapes, module = build(model, input_shape)
    assert sum(math.prod(shape) for shape in shapes.values()) == weights
    assert count(module.parameters()) == parameters


def test_lenet5_has_its_shapes():
    shapes, module = build("lenet5", (1, 28, 28))
    assert shapes == {
        "conv1.weight": (6, 1, 5, 5),
        "conv2.weight": (16, 6, 5, 5),
        "fc1.weight": (120, 400),
        "fc2.weight": (84, 120),
        "fc3.weight": (10, 84),
    }
    assert list(dict(module.named_children())) == [
        *("conv1", "relu1", "pool1", "conv2", "relu2", "pool2"),
        *("flatten1", "fc1", "relu3", "fc2", "relu4", "fc3"),
    ]


@pytest.mark.parametrize(
    ("model", "channels", "inputs"),
    [
        ("conv2", [3, 64, 64], 64 * 16 * 16),
        ("conv4", [3, 64, 64, 128, 128], 128 * 8 * 8),
        ("conv6", [3, 64, 64, 128, 128, 256, 256], 256 * 4 * 4),
    ],
)
def test_the_conv_networks_of_frankle_and_carbin_have_their_shapes(model, channels, inputs):
    shapes, module = build(model, CIFAR)
    assert list(shapes.values()) == [
        *((after, before, 3, 3) for before, after in itertools.pairwise(channels)),
        *((256, inputs), (256, 256), (10, 256)),
    ]
    kinds = [type(child).__name__ for child in module]
    pair = ["Conv2d", "ReLU", "Conv2d", "ReLU", "MaxPool2d"]
    assert kinds[: kinds.index("Flatten")] == pair * (len(channels) // 2)


def test_resnet20_has_its_shapes():
    shapes, module = build("resnet20", CIFAR)
    assert next(iter(shapes.values())) == (16, 3, 3, 3)
    for block in range(9):
        outputs = (16, 32, 64)[block // 3]
        inputs = (16, 16, 32)[block // 3] if block % 3 == 0 else outputs
        own = {n.split(".", 1)[1]: s for n, s in shapes.items() if n.startswith(f"block{block + 1}.")}
        wanted = {"conv1.weight": (outputs, inputs, 3, 3), "conv2.weight": (outputs, outputs, 3, 3)}
        if inputs != outputs:
            wanted["shortcut.conv.weight"] = (outputs, inputs, 1, 1)
        assert own == wanted
    assert shapes["fc1.weight"] == (10, 64)
    # Biases are those of the normalisations and of the linear layer alone.
    assert not any("conv" in n and n.endswith("bias") for n, _ in module.named_parameters())
    norms = [child for child in module.modules() if isinstance(child, nn.BatchNorm2d)]
    assert len(norms) == 1 + 9 * 2 + 2


def test_resnet20_halves_the_image_twice_and_takes_the_mean_of_what_is_left():
    module = resnet20((3, 32, 32), 10).eval()
    x = torch.randn(2, 3, 32, 32)
    for name, child in module.named_children():
        x = child(x)
        if name in ("block3", "block6", "block9"):
            assert x.shape[1:] == {"block3": (16, 32, 32), "block6": (32, 16, 16), "block9": (64, 8, 8)}[name]
            mean = x.mean(dim=(2, 3))
        if name == "flatten1":
            torch.testing.assert_close(x, mean)


def test_a_residual_block_adds_its_input():
    module = resnet20((3, 8, 8), 10).eval()
    x = torch.rand(2, 16, 8, 8)
    with torch.no_grad():
        module.block1.norm2.weight.zero_()
        torch.testing.assert_close(module.block1(x), x, rtol=0, atol=0)
        module.block4.norm2.weight.zero_()
        torch.testing.assert_close(module.block4(x), module.block4.shortcut(x).relu(), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("depth", "weights"), [(8, 77_360), (56, 851_504), (110, 1_722_416), ("20", 270_896)]
)
def test_depth_sets_the_number_of_residual_blocks(depth, weights):
    shapes, _ = build("resnet20", CIFAR, depth=depth)
    assert sum(math.prod(shape) for shape in shapes.values()) == weights
    layers = [n for n in shapes if "shortcut" not in n]
    assert len(layers) == int(depth)


@pytest.mark.parametrize("depth", [2, 7, 18, 21, 1208, -4, 20.0, True, "deep", None, math.inf])
def test_a_depth_that_is_not_6n_plus_2_is_refused(depth):
    assert refusal(resnet20, CIFAR, 10, depth=depth) == (
        f"depth of resnet20 must be 6n + 2 from 8 to 1202, but got {depth!r}; give 20, 32, 44, 56 or 110"
    )


def test_vgg16_has_its_shapes_with_and_without_batch_normalisation():
    channels = [3, 64, 64, 128, 128, *[256] * 3, *[512] * 6]
    wanted = [(b, a, 3, 3) for a, b in itertools.pairwise(channels)] + [(10, 512)]
    shapes, module = build("vgg16_bn", CIFAR)
    plain_shapes, plain = build("vgg16_bn", CIFAR, batch_norm=False)
    assert list(shapes.values()) == list(plain_shapes.values()) == wanted
    kinds = [type(child).__name__ for child in module]
    assert [kinds.count(kind) for kind in ("Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d")] == [13, 13, 13, 5]
    assert [k for k in kinds if k != "BatchNorm2d"] == [type(child).__name__ for child in plain]
    assert count(module.parameters()) - count(plain.parameters()) == 2 * 4224
    # Larger images leave more than one position to the linear layer.
    assert build("vgg16_bn", (3, 64, 96))[0]["fc1.weight"] == (10, 512 * 2 * 3)


@pytest.mark.slow
@pytest.mark.parametrize("model", NAMED)
def test_every_named_model_becomes_a_network_whose_masks_cover_all_weights(model):
    dataset = SimpleNamespace(input_shape=CIFAR, classes=10)
    found = initialize(model, dataset, seed=3, width=0.1)
    shapes, module = build(model, CIFAR, width=0.1)
    assert {layer.name: layer.shape for layer in found.spec.layers} == shapes
    assert found.buffers().keys() == dict(module.named_buffers()).keys()
    again = restore(model, CIFAR, 10, {"width": 0.1}, found.initialization, found.parameters())
    assert again.spec.signature == found.spec.signature
    assert same(again.buffers(), found.buffers())
    x = torch.randn(2, *CIFAR)
    assert torch.equal(again.module.eval()(x), found.module.eval()(x))


@pytest.mark.parametrize("model", NAMED)
def test_without_biases_no_layer_has_one(model):
    _, module = build(model, CIFAR, bias=False)
    for child in module.modules():
        if isinstance(child, nn.Linear | nn.Conv2d):
            assert child.bias is None


@pytest.mark.parametrize("model", NAMED)
def test_width_multiplies_every_hidden_layer(model):
    published, _ = build(model, CIFAR)
    for width in (0.5, 2, "2", 1.5):
        shapes, _ = build(model, CIFAR, width=width)
        assert shapes.keys() == published.keys()
        names = list(shapes)
        for name in names[:-1]:
            assert shapes[name][0] == round(published[name][0] * float(width))
        # Inputs and classes are no hidden layers.
        assert shapes[names[0]][1:] == published[names[0]][1:]
        assert shapes[names[-1]][0] == 10
    narrowest, _ = build(model, CIFAR, width=1e-9)
    assert {shape[0] for shape in list(narrowest.values())[:-1]} == {1}


@pytest.mark.parametrize("width", [0, -1, 0.0, math.inf, math.nan, "wide", True, None, [1]])
@pytest.mark.parametrize("model", NAMED)
def test_a_width_that_is_no_finite_positive_number_is_refused(model, width):
    message = refusal(NAMED[model], CIFAR, 10, width=width)
    assert message == f"width must be a finite number > 0, but got {width!r}; 1 keeps the published sizes"


def test_a_width_that_no_memory_holds_is_refused():
    message = refusal(vgg16_bn, CIFAR, 10, width=1e6)
    assert message == (
        "width must leave a layer at most 1000000 units, but 1000000.0 times 512 units is more; "
        "give a smaller one"
    )


@pytest.mark.parametrize("model", NAMED)
def test_a_truth_value_that_is_text_is_refused(model):
    message = refusal(NAMED[model], CIFAR, 10, bias="no")
    assert message == "bias must be true or false, but got 'no'; write bias = true or false"
    assert "batch_norm must be true or false, but got 0" in refusal(vgg16_bn, CIFAR, 10, batch_norm=0)


@pytest.mark.parametrize(("model", "smallest"), SMALLEST.items())
def test_inputs_that_are_no_images_or_too_small_are_refused(model, smallest):
    shapes = [(40,), (40, 40), (1, 3, 40, 40), (1, smallest - 1, 40), (1, 40, smallest - 1), (0,), ()]
    for shape in shapes:
        assert refusal(NAMED[model], shape, 10) == (
            f"model {model!r} takes images (channels, height, width) of at least {smallest}×{smallest}, but "
            f"got input shape {shape}; give the images a channel axis or enlarge them, or use mlp"
        )
    assert NAMED[model]((1, smallest, smallest), 10, width=0.1)


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
        if name.endswith("weight") and scheme not in ("sparse", "signed_constant"):
            assert not torch.isclose(other, first[name]).any()
        elif name.endswith("weight"):  # of few values, some are equal
            assert not torch.equal(other, first[name])


def test_no_two_schemes_give_the_same_weights():
    weights = [initialize("mlp:6", IMAGES, scheme=s).parameters()["1.weight"] for s in SCHEMES]
    assert not any(torch.allclose(a, b) for i, a in enumerate(weights) for b in weights[:i])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_schemes_put_all_biases_to_zero_but_for_one(scheme):
    parameters = initialize(tanh_net, IMAGES, scheme=scheme).parameters()
    assert parameters["1.bias"].any() == (scheme == "uniform")
    assert parameters["3.bias"].any() == (scheme == "uniform")


def test_uniform_weights_and_biases_are_uniform_within_one():
    found = initialize("mlp:400", IMAGES, scheme="uniform").parameters()
    for tensor in found.values():
        assert scipy.stats.kstest(tensor.flatten().numpy(), "uniform", (-1, 2)).pvalue > 1e-3


WEIGHTED = {
    "linear": lambda: nn.Linear(12, 20),
    "conv1d": lambda: nn.Conv1d(4, 20, 3),
    "conv2d": lambda: nn.Conv2d(4, 20, 3),
    "conv3d": lambda: nn.Conv3d(4, 20, 2),
    "grouped": lambda: nn.Conv2d(8, 20, 3, groups=4),
}


@pytest.mark.parametrize("kind", WEIGHTED)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_schemes_set_linear_layers_and_convolutions_wherever_they_are(scheme, kind):
    def weights(seed):
        module = nn.Sequential(nn.Sequential(WEIGHTED[kind]()))
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.fill_(7)
        set_weights(module, scheme, seed)
        assert module[0][0].bias.any() == (scheme == "uniform")
        return module[0][0].weight.detach()

    first = weights(3)
    assert not (first == 7).any()
    assert torch.equal(weights(3), first)
    assert not torch.equal(weights(4), first)
    assert first.isfinite().all()


NORMALISATIONS = [
    *(nn.BatchNorm1d(4), nn.BatchNorm2d(4), nn.BatchNorm3d(4), nn.SyncBatchNorm(4)),
    *(nn.InstanceNorm2d(4, affine=True, track_running_stats=True), nn.InstanceNorm1d(4)),
    *(nn.LayerNorm(4), nn.LayerNorm(4, bias=False), nn.GroupNorm(2, 4), nn.RMSNorm(4)),
    *(nn.BatchNorm2d(4, affine=False), nn.BatchNorm2d(4, track_running_stats=False)),
]


@pytest.mark.parametrize("layer", NORMALISATIONS, ids=str)
def test_the_schemes_reset_normalisations(layer):
    module = nn.Sequential(layer)
    with torch.no_grad():
        for tensor in module.state_dict().values():
            tensor.fill_(3)
    set_weights(module, "orthogonal", 0)
    wanted = {"weight": 1, "bias": 0, "running_mean": 0, "running_var": 1, "num_batches_tracked": 0}
    for name, tensor in layer.state_dict().items():
        assert tensor.eq(wanted[name]).all(), name


def test_the_schemes_leave_other_parameters_as_they_are():
    module = nn.Sequential(nn.PReLU(3, init=0.125), nn.Linear(3, 3))
    set_weights(module, "kaiming_normal", 0)
    assert module[0].weight.eq(0.125).all()


@pytest.mark.parametrize(
    ("scheme", "deviation", "bound"),
    [
        ("kaiming_normal", math.sqrt(2 / 300), None),
        ("kaiming_uniform", math.sqrt(2 / 300), math.sqrt(6 / 300)),
        ("xavier_normal", math.sqrt(2 / 700), None),
        ("xavier_uniform", math.sqrt(2 / 700), math.sqrt(6 / 700)),
        ("pytorch", math.sqrt(1 / 900), math.sqrt(1 / 300)),
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


@pytest.mark.parametrize("scheme", ["kaiming_normal", "signed_constant", "xavier_normal", "pytorch"])
def test_the_fan_of_a_convolution_counts_its_kernel(scheme):
    module = nn.Conv2d(32, 400, 3)
    set_weights(module, scheme, 0)
    fan_in, fan_out = 32 * 9, 400 * 9
    variance = {"xavier_normal": 2 / (fan_in + fan_out), "pytorch": 1 / (3 * fan_in)}.get(scheme, 2 / fan_in)
    assert module.weight.std().item() == pytest.approx(math.sqrt(variance), rel=0.01)


@pytest.mark.parametrize("factory", [partial(mlp, hidden="7,4"), partial(models.conv2, width=0.1)])
def test_the_pytorch_scheme_is_what_torch_gives_where_there_are_no_biases(factory):
    torch.manual_seed(5)
    own = factory((1, 8, 8), 3, bias=False)
    module = factory((1, 8, 8), 3, bias=False)
    set_weights(module, "pytorch", 5)
    assert same(module.state_dict(), own.state_dict())


@pytest.mark.parametrize("kind", WEIGHTED)
def test_signed_constants_are_the_kaiming_deviation_with_either_sign(kind):
    module = WEIGHTED[kind]()
    set_weights(module, "signed_constant", 0)
    fan_in = module.weight[0].numel()
    constant = torch.tensor(math.sqrt(2 / fan_in))
    assert torch.equal(module.weight.detach().abs(), constant.expand(module.weight.shape))
    assert 0.35 < (module.weight > 0).float().mean() < 0.65


@pytest.mark.parametrize("layer", [nn.Linear(300, 400), nn.Conv2d(30, 100, 3), nn.Conv1d(1000, 70, 1)])
def test_sparse_weights_are_zero_but_for_a_tenth_of_each_column(layer):
    set_weights(layer, "sparse", 0)
    kept = layer.weight.detach().flatten(1) != 0
    # Each unit has many columns to be kept in, so that none had to be mended.
    assert kept.sum(dim=0).eq(len(kept) // 10).all()
    values = layer.weight[layer.weight != 0]
    assert values.std().item() == pytest.approx(0.01, rel=0.05)
    assert abs(values.mean().item()) < 5 * 0.01 / math.sqrt(len(values))


@pytest.mark.parametrize("layer", [nn.Linear(50, 3), nn.Conv2d(1, 6, 5), nn.Linear(1, 9), nn.Linear(4, 1)])
def test_a_sparse_layer_that_would_be_all_zero_keeps_one_weight_a_unit(layer):
    set_weights(layer, "sparse", 0)
    assert layer.weight.detach().flatten(1).ne(0).sum(dim=1).eq(1).all()


@pytest.mark.parametrize("seed", range(20))
def test_a_sparse_layer_leaves_no_unit_without_incoming_weight(seed):
    layer = nn.Linear(6, 40)  # 4 of 40 in each of 6 columns: at least 16 units are mended
    set_weights(layer, "sparse", seed)
    kept = layer.weight.detach() != 0
    assert kept.any(dim=1).all()
    assert kept.sum(dim=0).ge(4).all()
    mended = kept.sum().item() - 6 * 4
    assert 16 <= mended <= kept.sum(dim=1).eq(1).sum().item()


def test_sparse_weights_do_not_depend_on_torchs_global_generator():
    weights = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        layer = nn.Linear(30, 40)
        set_weights(layer, "sparse", 0)
        weights.append(layer.weight.detach())
    assert torch.equal(*weights)


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


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_parameters_of_half_precision_are_converted_with_a_warning(dtype):
    def half(input_shape, classes):
        module = tanh_net(input_shape, classes)
        module[3].to(dtype)
        return module

    with pytest.warns(UserWarning, match="converted to float32") as caught:
        found = initialize(half, IMAGES, scheme="as_built", seed=5).parameters()
    assert [str(warning.message) for warning in caught] == [
        f"model 'half' has 2 parameters of half precision (3.weight is {dtype}); they are converted to "
        "float32, in which everything is computed"
    ]
    whole = initialize(tanh_net, IMAGES, scheme="as_built", seed=5).parameters()
    assert same(found, {n: p.to(dtype).float() if n.startswith("3") else p for n, p in whole.items()})


@pytest.mark.parametrize("what", ["parameter", "buffer"])
def test_complex_tensors_are_refused(what):
    def turned(input_shape, classes):
        module = tanh_net(input_shape, classes)
        phase = torch.ones(2, dtype=torch.complex64)
        if what == "buffer":
            module.register_buffer("phase", phase)
        else:
            module.register_parameter("phase", nn.Parameter(phase))
        return module

    assert refusal(initialize, turned, IMAGES) == (
        "parameters and buffers must be real, but phase of model 'turned' is torch.complex64; hold its real "
        "and imaginary parts in two tensors"
    )


def test_parameters_that_are_no_floating_point_numbers_are_refused():
    def counting(input_shape, classes):
        module = tanh_net(input_shape, classes)
        module.register_parameter("steps", nn.Parameter(torch.zeros(1, dtype=int), requires_grad=False))
        return module

    assert refusal(initialize, counting, IMAGES) == (
        "parameters must be floating-point numbers of 16, 32 or 64 bits, but steps of model 'counting' is "
        "torch.int64; make it float32, or a buffer if it is not trained"
    )


def test_a_factory_of_doubles_gives_a_network_of_floats():
    network = initialize(lambda s, c: tanh_net(s, c).double(), IMAGES, scheme="as_built", seed=5)
    assert same(network.parameters(), initialize(tanh_net, IMAGES, scheme="as_built", seed=5).parameters())


def test_outputs_are_counted_where_an_input_is_added_to_them():
    class Skip(nn.Module):
        def __init__(self, input_shape, classes):
            super().__init__()
            self.linear = nn.Linear(input_shape[0], classes)

        def forward(self, x):
            return x + self.linear(x)

    found = initialize(Skip, SimpleNamespace(input_shape=(3,), classes=3))
    assert [layer.shape for layer in found.spec.layers] == [(3, 3)]


def test_a_module_that_cannot_be_traced_is_refused():
    message = refusal(
        initialize, lambda s, c: nn.Sequential(nn.Flatten(), nn.Softmax(1), nn.Linear(20, c)), IMAGES
    )
    assert "Softmax" in message
    assert "'1' in Sequential" in message


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


def with_a_buffer(input_shape, classes):
    module = tanh_net(input_shape, classes)
    module.register_buffer("seen", torch.arange(3.0))
    return module


def test_a_network_gives_copies_of_its_buffers():
    found = initialize(with_a_buffer, IMAGES)
    assert initialize("mlp:6", IMAGES).buffers() == {}
    assert list(found.buffers()) == ["seen"]
    assert "seen" not in found.parameters()
    found.buffers()["seen"].zero_()
    assert torch.equal(found.buffers()["seen"], torch.arange(3.0))
    assert torch.equal(found.module.seen, torch.arange(3.0))


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


@pytest.mark.parametrize(("scheme", "mean"), [("kaiming_normal", 0), ("as_built", 5)])
def test_a_restored_network_has_the_buffers_that_initialize_gave_it(scheme, mean):
    def normalised(input_shape, classes):
        module = nn.Sequential(nn.Flatten(), nn.Linear(20, 4), nn.BatchNorm1d(4), nn.Linear(4, classes))
        module[2].running_mean.fill_(5)
        return module

    module = normalised((1, 4, 5), 3)
    parameters = {name: p.detach() + 1 for name, p in module.named_parameters()}
    again = restore(normalised, (1, 4, 5), 3, {}, Initialization(scheme, 0), parameters)
    assert same(again.parameters(), parameters)
    assert again.buffers()["2.running_mean"].eq(mean).all()


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
