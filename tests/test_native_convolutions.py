"""Convolutions and poolings of the native engine: what they compute is what torch does."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from loops import matters
from torch import nn

from ticketsearch.datasets import from_arrays
from ticketsearch.models import initialize
from ticketsearch.training import Cohort, Recipe, Training, data_order, evaluate
from ticketsearch.training.native.convolutions import convolve, convolved_gradient
from ticketsearch.training.native.known_poolings import Margin, Pooling, known_spatial
from ticketsearch.training.native.memory import aligned
from ticketsearch.training.native.pooling import (
    average,
    average_gradient,
    largest,
    largest_gradient,
    margin,
    margin_gradient,
)
from ticketsearch.training.native.windows import geometry_of, plans
from ticketsearch.wiring import Step, trace
from ticketsearch.wiring.operations import Convolution, Replay

pytestmark = pytest.mark.slow

TOLERANCE = 1e-12


def rows_of(value, stride, dtype=np.float64, *, padding="sample"):
    """Return a value ``(samples, channels, *positions)`` as rows; padding repeats a sample, or is 0."""
    flat = value.detach().numpy().reshape(len(value), -1).T
    rows = aligned(flat.shape[0] * stride, np.dtype(dtype)).reshape(-1, stride)
    rows[:, : len(value)] = flat
    if padding == "sample":
        rows[:, len(value) :] = flat[:, :1]
    return rows.ravel()


def value_of(rows, like, stride):
    return torch.from_numpy(rows.reshape(-1, stride)[:, : len(like)].T.reshape(like.shape).copy())


def stride_of(samples):
    return -(-samples // 16) * 16


def close(ours, theirs, tolerance=TOLERANCE):
    theirs = theirs.detach()
    scale = max(1.0, float(theirs.abs().max())) if theirs.numel() else 1.0
    return bool((torch.as_tensor(ours) - theirs).abs().le(tolerance * scale).all())


def convolution(module, shape):
    with torch.no_grad():
        out = module(torch.zeros(1, *shape, dtype=module.weight.dtype))
    return Step("linear", (0,), tuple(out.shape[1:]), Convolution.of(module))


def check_convolution(module, shape, samples, density, dtype=np.float64, tolerance=TOLERANCE):
    generator = torch.Generator().manual_seed(samples)
    mask = torch.rand(module.weight.shape, generator=generator) < density
    mask[0] = False  # an empty filter
    module = module.to(torch.float64)
    with torch.no_grad():
        module.weight.mul_(mask)
    step = convolution(module, shape)
    geometry = geometry_of(step, shape, module.weight.shape)
    kept = np.nonzero(mask.numpy())
    forward, back = plans(geometry, kept)
    x = torch.randn(samples, *shape, generator=generator, dtype=torch.float64, requires_grad=True)
    y = module(x)
    change = torch.randn(y.shape, generator=generator, dtype=torch.float64)
    dx, dw, *_ = torch.autograd.grad(y, [x, *module.parameters()], change)

    stride, params = stride_of(samples), module.weight.detach().numpy()[kept].astype(dtype)
    at = 3  # weights begin anywhere
    params = np.concatenate([np.full(at, np.nan, dtype), params])
    biases = np.zeros(0, dtype) if module.bias is None else module.bias.detach().numpy().astype(dtype)
    xs, dys = rows_of(x, stride, dtype), rows_of(change, stride, dtype, padding="zero")
    positions, inputs = int(np.prod(step.shape[1:])), int(np.prod(shape[1:]))
    channels, filters = shape[0], step.shape[0]
    row = 2  # values begin at any row
    xs, dys = (np.concatenate([np.zeros(row * stride, dtype), each]) for each in (xs, dys))
    out = np.full(row * stride + filters * positions * stride, np.nan, dtype)
    bias_at = -1 if module.bias is None else 0
    convolve(
        out, row, positions, biases, bias_at, False, params, at, *forward, filters, xs, row, channels, stride
    )
    assert close(value_of(out[row * stride :], y, stride), y, tolerance)
    for adds in (False, True):
        into = np.full(len(xs), 1.0 if adds else np.nan, dtype)
        convolve(into, row, inputs, biases, -1, adds, params, at, *back, channels, dys, row, filters, stride)
        found = value_of(into[row * stride :], x, stride)
        assert close(found - 1 if adds else found, dx, tolerance)
    slopes = np.full(len(params), np.nan, dtype)
    convolved_gradient(
        slopes, at, len(params) - at, *forward, filters, dys, row, positions, xs, row, channels, stride
    )
    assert close(slopes[at:], dw[mask], tolerance)
    return out, into, slopes


@pytest.mark.parametrize("groups", [1, 2, 4], ids=["whole", "two groups", "depthwise"])
@pytest.mark.parametrize("density", [pytest.param(0.0, id="empty"), 0.1, 0.5, pytest.param(1.0, id="dense")])
def test_convolutions_equal_torch_for_all_strides_paddings_and_dilations(groups, density):
    products = itertools.product((1, 2, 3), (0, 1, "same"), (1, 2), (1, 3), (5, 37))
    for number, (stride, padding, dilation, kernel, samples) in enumerate(products):
        if padding == "same" and stride > 1:
            continue
        torch.manual_seed(number)
        module = nn.Conv2d(4, 8, (kernel, 3), stride, padding, dilation, groups=groups, bias=bool(number % 2))
        check_convolution(module, (4, 6, 7), samples, density)


@pytest.mark.parametrize("groups", [1, 2])
def test_convolutions_in_one_dimension_equal_torch(groups):
    for stride, padding, dilation, samples in itertools.product((1, 2), (0, 3, "same"), (1, 3), (16, 70)):
        if padding == "same" and stride > 1:
            continue
        module = nn.Conv1d(4, 6, 5, stride, padding, dilation, groups=groups)
        check_convolution(module, (4, 13), samples, 0.4)


def test_convolutions_are_as_exact_in_float32_as_its_numbers():
    check_convolution(nn.Conv2d(6, 8, 3, padding=1), (6, 9, 8), 130, 0.3, np.float32, 1e-4)


def test_convolutions_in_bands_of_lines_equal_torch():
    # A megabyte holds few lines of so many channels.
    check_convolution(nn.Conv2d(64, 4, 3, padding=1), (64, 11, 9), 160, 0.1)


def test_convolutions_have_the_same_bits_in_any_call():
    torch.manual_seed(0)
    module = nn.Conv2d(4, 8, 3, padding=1)
    results = [check_convolution(module, (4, 6, 7), 37, 0.4) for _ in range(2)]
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


def test_paddings_by_other_modes_and_three_dimensions_are_not_known():
    reflected = nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect").double()
    assert geometry_of(convolution(reflected, (4, 6, 6)), (4, 6, 6), reflected.weight.shape) is None
    deep = nn.Conv3d(2, 2, 3).double()
    assert geometry_of(convolution(deep, (2, 4, 4, 4)), (2, 4, 4, 4), deep.weight.shape) is None


POOLINGS = [
    (nn.MaxPool2d(2), (3, 6, 8)),
    (nn.MaxPool2d(3, 2, 1), (3, 6, 7)),
    (nn.MaxPool2d((2, 3), 1, dilation=(2, 1)), (2, 6, 7)),
    (nn.MaxPool2d(3, 2, 1, dilation=2, ceil_mode=True), (2, 8, 9)),
    (nn.MaxPool1d(3, 2, 1), (3, 11)),
    (nn.AvgPool2d(2), (3, 6, 8)),
    (nn.AvgPool2d(3, 2, 1), (3, 6, 7)),
    (nn.AvgPool2d(3, 2, 1, count_include_pad=False), (3, 6, 7)),
    (nn.AvgPool2d(3, 2, 1, ceil_mode=True), (3, 6, 8)),
    (nn.AvgPool2d(2, divisor_override=3), (3, 6, 8)),
    (nn.AvgPool1d(4, 3, 2), (3, 11)),
    (nn.AdaptiveAvgPool2d(1), (3, 6, 8)),
    (nn.AdaptiveAvgPool2d((2, 3)), (3, 6, 7)),
    (nn.AdaptiveAvgPool1d(4), (3, 12)),
    (nn.ZeroPad2d((1, 2, 0, 3)), (3, 4, 5)),
    (nn.ZeroPad2d((-1, 2, 1, -1)), (3, 4, 5)),
]


@pytest.mark.parametrize(("module", "shape"), POOLINGS, ids=[str(module) for module, _ in POOLINGS])
def test_poolings_and_margins_equal_torch(module, shape):
    samples = 21
    x = torch.randint(-3, 3, (samples, *shape), dtype=torch.float64)  # with ties
    x = (x + 0.1).requires_grad_()
    y = module(x)
    change = torch.randn(y.shape, dtype=torch.float64)
    (dx,) = torch.autograd.grad(y, x, change)
    known = known_spatial(Step("spatial", (0,), tuple(y.shape[1:]), module), shape)
    stride, inputs = stride_of(samples), int(np.prod(shape))
    empty = np.full(int(np.prod(y.shape[1:])) * stride, np.nan)
    values = np.concatenate([rows_of(x, stride), empty])
    for adds in (False, True):
        changes = np.full(inputs * stride, 1.0 if adds else np.nan)
        changes = np.concatenate([changes, rows_of(change, stride, padding="zero")])
        channels = shape[0]
        if isinstance(known, Margin):
            margin(values, 0, inputs, channels, *known, stride)
            margin_gradient(0, inputs, changes, channels, *known, stride, adds)
        elif known.shares is None:
            largest(values, 0, inputs, channels, *known[:4], stride)
            largest_gradient(values, 0, inputs, changes, channels, *known[:4], stride, adds)
        else:
            windows = *known[:3], known.shares
            average(values, 0, inputs, channels, *windows, stride)
            average_gradient(0, inputs, changes, channels, *windows, stride, adds)
        assert close(value_of(values[inputs * stride :], y, stride), y)
        assert close(value_of(changes[: inputs * stride], x, stride) - int(adds), dx)


class Called(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.layer, self.function, self.head = nn.Conv2d(1, 3, 3), function, nn.LazyLinear(2)

    def forward(self, x):
        return self.head(self.function(self.layer(x)).flatten(1))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: F.max_pool2d(x, 2),
        lambda x: F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False),
        lambda x: F.adaptive_avg_pool2d(x, (2, 2)),
        lambda x: x.mean((2, 3)),
        lambda x: x.mean(dim=[-1, -2]),
    ],
)
def test_calls_of_poolings_are_known_as_modules_are(function):
    module = Called(function)
    module(torch.zeros(1, 1, 8, 8))
    steps = trace(module, (1, 8, 8)).steps
    (step,) = [step for step in steps if isinstance(step.function, Replay)][:1]
    x = torch.randn(16, 3, 6, 6, dtype=torch.float64)
    y = step.function(x)
    known = known_spatial(step, (3, 6, 6))
    assert isinstance(known, Pooling)
    values = np.concatenate([rows_of(x, 16), np.zeros(y[0].numel() * 16)])
    if known.shares is None:
        largest(values, 0, 3 * 36, 3, *known[:4], 16)
    else:
        average(values, 0, 3 * 36, 3, *known[:3], known.shares, 16)
    assert close(value_of(values[3 * 36 * 16 :], y, 16), y)


@pytest.mark.parametrize("module", [nn.AdaptiveMaxPool2d(1), nn.Upsample(scale_factor=2), nn.Flatten()])
def test_other_spatial_maps_are_not_known(module):
    y = module(torch.zeros(1, 3, 6, 6))
    assert known_spatial(Step("spatial", (0,), tuple(y.shape[1:]), module), (3, 6, 6)) is None


class Pictures(nn.Module):
    """Convolutions of several kinds, normalised, added, pooled by the mean and the maximum, flattened."""

    def __init__(self, shape, classes):
        super().__init__()
        self.first, self.norm = nn.Conv2d(shape[0], 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.second, self.third = nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.Conv2d(6, 8, 3, 2, dilation=2)
        self.pad, self.pool, self.mean = nn.ZeroPad2d(1), nn.MaxPool2d(2), nn.AvgPool2d(2, 1)
        self.head = nn.Linear(16, classes)

    def forward(self, x):
        x = torch.relu(self.norm(self.first(x)))
        x = self.mean(x + torch.tanh(self.second(x)))
        return self.head(self.pool(self.pad(self.third(x))).flatten(1))


class Series(nn.Module):
    """Convolutions along one axis, and the mean over positions."""

    def __init__(self, shape, classes):
        super().__init__()
        self.first, self.second = nn.Conv1d(shape[0], 5, 5, 2, 2), nn.Conv1d(5, 6, 3, padding="same")
        self.head = nn.Linear(6, classes)

    def forward(self, x):
        return self.head(torch.relu(self.second(torch.relu(self.first(x)))).mean(2))


@pytest.mark.parametrize(("module", "shape"), [(Pictures, (2, 8, 7)), (Series, (1, 21))])
def test_networks_of_convolutions_train_as_by_torch_alone_and_in_company(module, shape):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((70, *shape)).astype(np.float32), rng.integers(0, 3, 70)
    data = from_arrays("made", x, y)
    net = initialize(lambda s, c: module(s, c), data, "as_built", 0)
    masks = np.stack([rng.random(net.spec.size) < density for density in (0.9, 0.5, 0.2)])
    recipe = Recipe(5, batch=13, lr=0.1, momentum=0.9)
    order = data_order(len(data.y_train), recipe, [0])

    def trained(engine, numbers):
        initial = [{**net.parameters(), **net.buffers()}]
        options = {"device": torch.device("cpu"), "dtype": torch.float64, "engine": engine}
        training = Training(Cohort(net.wiring, masks[numbers], initial, **options), data, recipe, [order])
        training.advance(recipe.steps)
        found = evaluate(training.cohort, data.x_validation, data.y_validation)
        return training.cohort.parameters() | {"loss": torch.from_numpy(found.loss)}

    ours, theirs = (trained(engine, [0, 1, 2]) for engine in ("native", "single"))
    begun = {name: tensor.double() for name, tensor in net.parameters().items()}
    assert set(ours) == set(theirs)
    for name, own in ours.items():
        kept = torch.stack([matters(net, mask)[name] for mask in masks]) if name in begun else ...
        torch.testing.assert_close(own[kept], theirs[name][kept], rtol=0, atol=1e-11, msg=name)
    last = net.spec.layers[-1].name
    assert (ours[last][0] - begun[last]).abs().max() > 1e-3
    alone = trained("native", [1])
    for name, own in alone.items():
        assert torch.equal(own[0], ours[name][1]), name
