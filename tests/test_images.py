"""Images without an axis of channels, or with it last, do not go into convolutions without a word."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ticketsearch import BadInput, from_arrays, initialize
from ticketsearch.models.images import check_first_layer, check_image

pytestmark = pytest.mark.slow

LAST = "(channels, height, width), but got input shape (8, 8, 3), which has its channels last; give it "
TURNED = LAST + "x.transpose(0, 3, 1, 2)"


def data(*shape):
    return from_arrays("mine", np.random.default_rng(0).random((60, *shape)), np.arange(60) % 3)


class Functional(nn.Module):
    def __init__(self, inputs):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4, inputs, 3, 3))

    def forward(self, x):
        return F.conv2d(input=torch.relu(x), weight=self.weight)


class Turning(nn.Module):
    def __init__(self, inputs):
        super().__init__()
        self.conv = nn.Conv2d(inputs, 4, 3)

    def forward(self, x):
        return self.conv(x.permute(0, 3, 1, 2))


def refusal(call, *arguments):
    with pytest.raises(BadInput) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("model", ["conv2", "lenet5", "resnet20"])
def test_named_models_refuse_channels_that_come_last(model):
    assert TURNED in refusal(initialize, model, data(8, 8, 3))


@pytest.mark.parametrize("inputs", [8, 3])
def test_own_models_refuse_channels_that_come_last_whether_the_sizes_fit_or_not(inputs):
    def model(input_shape, classes):
        return nn.Sequential(nn.ReLU(), nn.Conv2d(inputs, 4, 3), nn.Flatten(), nn.Linear(24, classes))

    assert f"model 'model' takes images {TURNED}" in refusal(initialize, model, data(8, 8, 3))
    assert TURNED in refusal(check_first_layer, "own", Functional(inputs), (8, 8, 3))
    turned = "x.transpose(0, 4, 1, 2, 3)"
    assert turned in refusal(check_first_layer, "own", nn.Conv3d(inputs, 4, 3), (8, 8, 8, 3))


def test_images_without_channels_get_the_sentence_of_the_named_models():
    said = (
        "takes images (channels, height, width){}, but got input shape (8, 8); give the images a channel axis"
    )
    assert said.format("") in refusal(check_first_layer, "own", nn.Conv2d(1, 4, 3), (8, 8))
    assert said.format(" of at least 2×2") in refusal(initialize, "conv2", data(8, 8))
    assert "(channels, length)" in refusal(check_first_layer, "own", nn.Conv1d(1, 4, 3), (8,))


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 8, 8), (64, 4, 4), (3, 8, 3), (16, 3)])
def test_channels_that_come_first_are_left_alone(shape):
    layer = nn.Conv1d(shape[0], 4, 3) if len(shape) == 2 else nn.Conv2d(shape[0], 4, 3)
    check_first_layer("own", layer, shape)
    if len(shape) == 3:
        check_image("own", shape)


def test_a_model_that_moves_the_channels_itself_or_reads_features_takes_them_last():
    check_first_layer("own", Turning(3), (8, 8, 3))
    features = nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.Unflatten(1, (1, 4, 4)), nn.Conv2d(1, 1, 3))
    check_first_layer("own", features, (8, 8, 3))
    assert initialize("mlp:4", data(8, 8, 3)).spec.layers[0].shape == (4, 192)
