"""Standardization: raw samples become what a dataset holds, to the bit, whatever loaded it."""

import numpy as np
import pytest
import torch
from test_data_files import IMAGES, ROWS, Y, idx_folder, written
from test_datasets import cifar_folder

from ticketsearch import BadInput, from_arrays, load_dataset

HOW = ["global", "channel", "feature", "range", "none"]
LABELS = np.arange(60) % 3
RAW = {
    "bytes": np.random.default_rng(0).integers(0, 256, (60, 3, 4, 5), dtype=np.uint8),
    "integers": np.random.default_rng(1).integers(-(2**40), 2**40, (60, 7)),
    "float16": np.random.default_rng(2).normal(size=(60, 3, 4)).astype(np.float16),
    "float32": np.random.default_rng(3).normal(5, 3, (60, 7)).astype(np.float32),
    "float64": np.random.default_rng(4).normal(-5, 1e-3, (60, 7)),
    "one value": np.full((60, 2), 0.1),
}


def parts_of(raw, **options):
    """Return the dataset whose three parts are these samples."""
    return from_arrays("mine", raw, LABELS, raw, LABELS, x_validation=raw, y_validation=LABELS, **options)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("kind", RAW)
def test_raw_samples_become_those_of_the_dataset_to_the_bit(kind, how):
    raw = RAW[kind]
    for divisor in (1.0, 255.0):
        dataset = parts_of(raw, standardize=how, divisor=divisor)
        for given in (raw, raw[:, None][:, 0], torch.from_numpy(raw.copy())):
            assert torch.equal(dataset.standardize(given), dataset.x_train)
        assert torch.equal(dataset.standardize(raw[3:5]), dataset.x_train[3:5])


def test_constants_are_those_of_the_training_part_alone():
    raw = RAW["float64"]
    other = raw + 100
    dataset = from_arrays("mine", raw, LABELS, other, LABELS, x_validation=other, y_validation=LABELS)
    assert (dataset.mean.item(), dataset.deviation.item()) == (raw.mean(), raw.std())
    plain = parts_of(raw, standardize="none")
    assert (plain.mean.item(), plain.deviation.item(), plain.divisor) == (0, 1, 1)
    features = parts_of(raw, standardize="feature")
    assert features.mean.shape == features.deviation.shape == (7,)


def raw_of(dataset):
    """Return the raw samples of a dataset that was loaded without standardization, in the order of its parts.

    Bytes divided by 255 in float32 give the bytes back when they are rounded.
    """
    x = torch.cat([dataset.x_train, dataset.x_validation, dataset.x_test]).double().numpy()
    return np.rint(x * dataset.divisor).astype(np.uint8) if dataset.divisor != 1 else x


LOADERS = {
    "digits": lambda folder: ("digits", {}),
    "mnist1d": lambda folder: ("mnist1d", {"train": 120, "validation": 30, "test": 30}),
    "moons": lambda folder: ("moons", {"train": 120, "validation": 30, "test": 30}),
    "idx": lambda folder: (idx_folder(folder / "bytes"), {}),
    "idx of floats": lambda folder: (idx_folder(folder / "floats", kinds=("f4", "u1")), {}),
    "cifar10": lambda folder: (f"cifar10:{cifar_folder(folder / 'cifar')}", {}),
    "npz": lambda folder: (f"npz:{saved(folder / 'mine.npz')}", {}),
}


def saved(path):
    np.savez(path, x=IMAGES, y=Y)
    return path


@pytest.mark.parametrize("loader", LOADERS)
def test_every_loader_keeps_its_constants(tmp_path, loader):
    name, options = LOADERS[loader](tmp_path)
    raw = raw_of(load_dataset(name, standardize="none", **options))
    for how in ("global", "feature"):
        dataset = load_dataset(name, standardize=how, **options)
        held = torch.cat([dataset.x_train, dataset.x_validation, dataset.x_test])
        # MNIST-1D's samples are float64, of which a dataset without standardization holds the rounded ones.
        atol = 1e-5 if loader in ("mnist1d", "moons") else 0
        torch.testing.assert_close(dataset.standardize(raw), held, rtol=0, atol=atol)


def test_labels_that_are_renumbered_or_text_are_the_class_names(tmp_path):
    labels = np.array([-1, 1, 7])[LABELS]
    assert from_arrays("mine", RAW["float32"], labels, renumber=True).class_names == ("-1", "1", "7")
    named = from_arrays("mine", RAW["float32"], labels, renumber=True, class_names=["a", "b", "c"])
    assert named.class_names == ("a", "b", "c")
    # As before class names were kept, more classes than labels may be asked for.
    assert from_arrays("mine", RAW["float32"], labels, renumber=True, classes=5).class_names is None
    assert from_arrays("mine", RAW["float32"], LABELS).class_names is None
    lines = ["a;b;name", *(f"{a};{b};{name}" for a, b, name, _ in ROWS)]
    file = written(tmp_path / "text.csv", "\n".join(lines))
    dataset = load_dataset(f"csv:{file}", delimiter=";", split="last")
    names = [dataset.class_names[label] for label in dataset.y_test]
    assert names == [row[2] for row in ROWS[48:]]
    assert load_dataset(f"csv:{file}", delimiter=";", classes=9).class_names is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"class_names": ["a"]}, "one text for each of the 3 classes"),
        ({"class_names": [1, 2, 3]}, "one text for each of the 3 classes"),
        ({"divisor": 0}, "divisor must be finite and > 0, but got 0"),
        ({"divisor": float("nan")}, "divisor must be finite and > 0"),
    ],
)
def test_names_and_divisors_that_do_not_fit_are_refused(options, said):
    with pytest.raises(BadInput, match=said):
        parts_of(RAW["float32"], **options)
