"""Datasets: what the loaders return, how they split and standardise, and what they refuse."""

import gzip
import inspect
import os
import random
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import refusal

from ticketsearch import datasets
from ticketsearch.datasets import Dataset, from_arrays, load_dataset

SHARED = Path(__file__).resolve().parents[2] / "shared"
needs_mnist = pytest.mark.skipif(not (SHARED / "data/mnist").is_dir(), reason="no MNIST at hand")
needs_mnist1d = pytest.mark.skipif(not (SHARED / "data/mnist1d").is_dir(), reason="no MNIST-1D at hand")

IDX_NAMES = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}


def arrays(samples=60, classes=3, shape=(4,), seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(3.0, 2.0, (samples, *shape)).astype(np.float32)
    return x, np.arange(samples) % classes


def dataset_of(**changed):
    x, y = (torch.from_numpy(array) for array in arrays(12))
    parts = {
        f"{axis}_{part}": tensor.clone() for axis, tensor in (("x", x), ("y", y)) for part in datasets.PARTS
    }
    return Dataset(**{"name": "mine", "classes": 3, **parts, **changed})


def idx_bytes(array):
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def idx_folder(folder, *, pack=bytes, rename=str):
    """Write 60 + 20 images of 5×7 bytes in four classes; ``pack`` and ``rename`` make variants."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for part, size in (("train", 60), ("test", 20)):
        images = rng.integers(0, 256, (size, 5, 7), dtype=np.uint8)
        labels = (np.arange(size) % 4).astype(np.uint8)
        for axis, array in (("x", images), ("y", labels)):
            (folder / rename(IDX_NAMES[f"{axis}_{part}"])).write_bytes(pack(idx_bytes(array)))
    return folder


def shares(labels, classes):
    return torch.bincount(labels, minlength=classes) / len(labels)


@pytest.fixture(scope="module")
def mnist1d():
    return load_dataset("mnist1d", train=120, validation=37, test=51)


# The loaders


def test_all_lists_exactly_the_loaders_with_keyword_only_options():
    assert datasets.__all__ == ["digits", "idx", "mnist1d", "npz"]
    for name in datasets.__all__:
        parameters = inspect.signature(getattr(datasets, name)).parameters
        assert parameters["seed"].kind is inspect.Parameter.KEYWORD_ONLY
        assert parameters["standardize"].default == "global"


def test_digits_come_as_images_in_three_parts(digits):
    assert digits.name == "digits"
    assert digits.sizes == (1079, 359, 359)
    assert digits.input_shape == (1, 8, 8)
    assert digits.classes == 10
    assert digits.x_train.dtype == torch.float32
    assert digits.y_train.dtype == torch.int64


def test_digits_are_each_in_one_part_only(digits):
    rows = torch.cat([digits.x_train, digits.x_validation, digits.x_test]).flatten(1)
    assert len(torch.unique(rows, dim=0)) == 1797  # no two of the originals are equal


def test_every_part_has_the_same_share_of_each_class(digits, mnist1d):
    for dataset in (digits, mnist1d):
        whole = torch.cat([dataset.y_train, dataset.y_validation, dataset.y_test])
        for labels in (dataset.y_train, dataset.y_validation, dataset.y_test):
            torch.testing.assert_close(
                shares(labels, 10) * len(labels), shares(whole, 10) * len(labels), atol=1.0, rtol=0
            )


def test_standardisation_uses_the_training_part_alone(digits, mnist1d):
    for dataset in (digits, mnist1d):
        train, test = dataset.x_train.double(), dataset.x_test.double()
        assert train.mean().item() == pytest.approx(0, abs=1e-6)
        assert train.std(correction=0).item() == pytest.approx(1, abs=1e-6)
        assert abs(test.mean().item()) > 1e-5
        assert abs(test.std(correction=0).item() - 1) > 1e-5


def test_another_seed_makes_another_split_of_the_same_digits(digits):
    other = load_dataset("digits", seed=1)
    assert other.sizes == digits.sizes
    assert not torch.equal(other.y_train, digits.y_train)
    assert other.fingerprint != digits.fingerprint


def test_digits_without_standardisation_are_the_original_pixels():
    dataset = load_dataset("digits", standardize="none")
    assert dataset.x_train.min() == 0
    assert dataset.x_train.max() == 16
    assert torch.equal(dataset.x_train, dataset.x_train.round())


def test_mnist1d_has_exactly_the_samples_asked_for(mnist1d):
    assert mnist1d.sizes == (120, 37, 51)
    assert mnist1d.input_shape == (40,)
    assert mnist1d.classes == 10


def test_mnist1d_of_another_seed_holds_other_samples(mnist1d):
    other = load_dataset("mnist1d", seed=1, train=120, validation=37, test=51)
    assert not set(other.x_train[:, 0].tolist()) & set(mnist1d.x_train[:, 0].tolist())


def test_mnist1d_leaves_every_global_generator_as_it_was(capsys):
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002 - the global state is what is tested
    torch.manual_seed(5)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
    load_dataset("mnist1d", train=10, validation=10, test=10)
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
    assert after == before
    assert capsys.readouterr() == ("", "")


def test_mnist1d_is_the_same_whatever_the_global_generators_hold():
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    first = load_dataset("mnist1d", train=11, validation=10, test=10)
    np.random.seed(2)  # noqa: NPY002
    assert load_dataset("mnist1d", train=11, validation=10, test=10).fingerprint == first.fingerprint


@pytest.mark.parametrize("option", [{"train": 9}, {"test": 0}, {"validation": -1}, {"train": 50.0}])
def test_mnist1d_refuses_a_part_with_fewer_samples_than_classes(option):
    message = refusal(load_dataset, "mnist1d", **option)
    assert "at least 10" in message
    assert f"got {next(iter(option.values()))}" in message


def test_the_same_options_give_the_same_bits_in_another_process(digits, mnist1d):
    code = (
        "from ticketsearch.datasets import load_dataset as load; print(load('digits').fingerprint,"
        " load('mnist1d', train=120, validation=37, test=51).fingerprint)"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "77", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [digits.fingerprint, mnist1d.fingerprint]


# IDX files


@needs_mnist
def test_the_full_mnist_gives_fifty_ten_and_ten_thousand_images():
    dataset = load_dataset(f"idx:{SHARED / 'data/mnist'}")
    assert dataset.sizes == (50_000, 10_000, 10_000)
    assert dataset.input_shape == (1, 28, 28)
    assert dataset.classes == 10
    # The published counts of each digit.
    assert torch.bincount(dataset.y_test).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    whole = torch.bincount(torch.cat([dataset.y_train, dataset.y_validation])).tolist()
    assert whole == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert dataset.x_train.mean().item() == pytest.approx(0, abs=1e-5)
    assert dataset.x_train.std().item() == pytest.approx(1, abs=1e-4)


def test_idx_images_take_their_shape_from_the_header_and_a_sixth_validates(tmp_path):
    dataset = load_dataset(f"idx:{idx_folder(tmp_path / 'tiny')}", standardize="none")
    assert dataset.name == "tiny"
    assert dataset.sizes == (50, 10, 20)
    assert dataset.input_shape == (1, 5, 7)
    expected = np.frombuffer((tmp_path / "tiny" / IDX_NAMES["x_test"]).read_bytes(), np.uint8, offset=16)
    assert torch.equal(dataset.x_test.flatten(), torch.from_numpy(expected / np.float32(255)))
    assert dataset.y_test.tolist() == [0, 1, 2, 3] * 5


def test_idx_files_packed_or_named_otherwise_give_the_same_dataset(tmp_path):
    plain = load_dataset(f"idx:{idx_folder(tmp_path / 'plain')}")
    variants = {
        "packed": {"pack": gzip.compress, "rename": lambda name: f"{name}.gz"},
        "dotted": {"rename": lambda name: name.replace("-idx", ".idx")},
        "dotted and packed": {
            "pack": gzip.compress,
            "rename": lambda name: name.replace("-idx", ".idx") + ".gz",
        },
        "unpacked by a browser": {"rename": lambda name: f"{name}.gz"},
    }
    for name, variant in variants.items():
        other = load_dataset(f"idx:{idx_folder(tmp_path / name, **variant)}")
        assert other.fingerprint == plain.fingerprint, name


def test_idx_validation_size_can_be_chosen(tmp_path):
    assert load_dataset(f"idx:{idx_folder(tmp_path / 'tiny')}", validation=24).sizes == (36, 24, 20)


def truncated(data):
    return data[:-3]


def with_magic(data):
    return b"\0\0\x0d\x03" + data[4:]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (truncated, "must have 2116 bytes for its shape (60, 5, 7), but got 2113"),
        (lambda data: data + b"\0", "but got 2117"),
        (with_magic, "must start with the bytes 00000803 (unsigned bytes, 3 dimensions), but got 00000d03"),
        (lambda data: data[:9], "must have a header of 16 bytes, but ends after 9"),
        (lambda data: b"", "got an empty file"),
        (lambda data: gzip.compress(data)[:-20], "cannot be read"),
        (lambda data: gzip.compress(data)[:40] + b"\xff" * 40, "cannot be read"),
        (lambda data: data[:4] + b"\xff" * 12, "for its shape (4294967295, 4294967295, 4294967295)"),
    ],
)
def test_a_damaged_idx_file_is_refused_with_its_name(tmp_path, damage, said):
    folder = idx_folder(tmp_path / "tiny")
    file = folder / IDX_NAMES["x_train"]
    file.write_bytes(damage(file.read_bytes()))
    message = refusal(load_dataset, f"idx:{folder}")
    assert said in message
    assert str(file) in message
    assert message.endswith("fetch the file again")


def test_a_missing_idx_file_or_folder_is_refused_with_its_name(tmp_path):
    folder = idx_folder(tmp_path / "tiny")
    (folder / IDX_NAMES["y_test"]).unlink()
    message = refusal(load_dataset, f"idx:{folder}")
    assert str(folder) in message
    assert "must hold t10k-labels-idx1-ubyte or t10k-labels-idx1-ubyte.gz" in message
    assert str(tmp_path / "none") in refusal(load_dataset, f"idx:{tmp_path / 'none'}")


def test_idx_images_and_labels_must_be_as_many(tmp_path):
    folder = idx_folder(tmp_path / "tiny")
    (folder / IDX_NAMES["y_train"]).write_bytes(idx_bytes(np.zeros(59, np.uint8)))
    message = refusal(load_dataset, f"idx:{folder}")
    assert "train part: y must hold one label a sample, shape (60,), but got (59,)" in message


# npz files


def npz_file(path, **held):
    np.savez(path, **held)
    return f"npz:{path}"


def test_an_npz_of_x_and_y_is_split_into_three_parts(tmp_path):
    x, y = arrays(60)
    dataset = load_dataset(npz_file(tmp_path / "mine.npz", x=x, y=y))
    assert dataset.name == "mine"
    assert dataset.sizes == (36, 12, 12)
    assert dataset.fingerprint == from_arrays("mine", x, y).fingerprint


def test_an_npz_with_all_parts_is_used_as_it_is(tmp_path):
    held = {}
    for seed, part in enumerate(datasets.PARTS):
        held[f"x_{part}"], held[f"y_{part}"] = arrays(12, seed=seed)
    dataset = load_dataset(npz_file(tmp_path / "mine.npz", **held), standardize="none")
    for key, array in held.items():
        assert torch.equal(getattr(dataset, key), torch.from_numpy(array))


@needs_mnist1d
def test_the_published_mnist1d_loads_as_an_npz():
    dataset = load_dataset(f"npz:{SHARED / 'data/mnist1d/mnist1d.npz'}")
    assert dataset.sizes == (3334, 666, 1000)
    assert dataset.input_shape == (40,)


@pytest.mark.parametrize(
    "held",
    [
        ("x",),
        ("x_train", "y_train"),
        ("x", "y", "z"),
        ("x_train", "y_train", "x_test", "y_test", "x_val"),
        (),
    ],
)
def test_an_npz_with_other_arrays_is_refused(tmp_path, held):
    name = npz_file(tmp_path / "mine.npz", **dict.fromkeys(held, np.zeros((4, 2))))
    message = refusal(load_dataset, name)
    assert f"mine.npz' holds {', '.join(sorted(held)) or 'nothing'}:" in message


def test_an_npz_of_python_objects_is_never_loaded(tmp_path):
    name = npz_file(tmp_path / "mine.npz", x=np.array([{}, []], dtype=object), y=np.zeros(2, int))
    message = refusal(load_dataset, name)
    assert "mine.npz" in message
    assert "Object arrays cannot be loaded" in message


def test_a_torn_or_foreign_npz_is_refused_without_unsafe_advice(tmp_path):
    x, y = arrays(60)
    whole = tmp_path / "whole.npz"
    np.savez_compressed(whole, x=x, y=y)
    data = whole.read_bytes()
    np.save(tmp_path / "one.npy", x)
    damaged = {
        "torn": data[: len(data) // 2],
        "flipped": data[:100] + bytes(value ^ 255 for value in data[100:120]) + data[120:],
        "empty": b"",
        "text": b"x,y\n1,2\n",
        "array": (tmp_path / "one.npy").read_bytes(),
    }
    for name, content in damaged.items():
        file = tmp_path / f"{name}.npz"
        file.write_bytes(content)
        message = refusal(load_dataset, f"npz:{file}")
        assert str(file) in message
        assert "pickle" not in message
        assert message.endswith("save arrays of numbers with numpy.savez")
    assert str(tmp_path / "none.npz") in refusal(load_dataset, f"npz:{tmp_path / 'none.npz'}")


# Arrays


def test_parts_that_are_given_stay_and_a_sixth_validates():
    x, y = arrays(60)
    x_test, y_test = arrays(9, seed=1)
    dataset = from_arrays("mine", x, y, x_test, y_test, standardize="none")
    assert dataset.sizes == (50, 10, 9)
    assert torch.equal(dataset.x_test, torch.from_numpy(x_test))


def test_a_given_validation_part_stays_and_a_fifth_tests():
    x, y = arrays(60)
    x_validation, y_validation = arrays(9, seed=1)
    dataset = from_arrays("mine", x, y, x_validation=x_validation, y_validation=y_validation)
    assert dataset.sizes == (48, 9, 12)


def test_tensors_lists_and_integers_are_arrays_too():
    x = [[0, 1], [1, 0], [2, 5], [3, 1]] * 5
    y = [0, 1] * 10
    as_lists = from_arrays("mine", x, y)
    assert from_arrays("mine", torch.tensor(x), torch.tensor(y)).fingerprint == as_lists.fingerprint
    assert from_arrays("mine", np.array(x, np.uint8), np.array(y, bool)).fingerprint == as_lists.fingerprint


def test_the_users_arrays_are_neither_changed_nor_shared():
    x, y = arrays(12)
    dataset = from_arrays("mine", x, y, x, y, x_validation=x, y_validation=y, standardize="none")
    dataset.x_train[:] = 0
    dataset.y_train[:] = 0
    assert np.array_equal(x, arrays(12)[0])
    assert np.array_equal(y, arrays(12)[1])


def test_per_feature_standardisation_only_centres_a_constant_feature():
    x, y = arrays(60)
    x[:, 1] = 0.1  # summed in floating point, its deviation comes out above 0
    dataset = from_arrays("mine", x, y, standardize="feature")
    torch.testing.assert_close(dataset.x_train.mean(0), torch.zeros(4), atol=1e-6, rtol=0)
    torch.testing.assert_close(dataset.x_train.std(0, correction=0), torch.tensor([1.0, 0.0, 1.0, 1.0]))
    assert not dataset.x_test[:, 1].any()


@pytest.mark.parametrize("standardize", ["global", "feature"])
def test_data_that_are_constant_become_zero(standardize):
    dataset = from_arrays("mine", np.full((30, 4), 0.1), np.arange(30) % 2, standardize=standardize)
    assert not dataset.x_train.any()
    assert not dataset.x_test.any()


def test_statistics_survive_an_offset_that_float32_cannot_hold():
    x, y = arrays(60)
    shifted = from_arrays("mine", x.astype(np.float64) + 2.0**40, y)
    torch.testing.assert_close(shifted.x_train, from_arrays("mine", x, y).x_train, atol=1e-3, rtol=0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_values_that_are_not_finite_are_counted_and_their_part_named(value):
    x, y = arrays(60)
    x_test = np.ones((6, 4))
    x_test[2, :3] = value
    message = refusal(from_arrays, "mine", x, y, x_test, np.arange(6) % 3)
    assert "dataset 'mine', test part" in message
    assert "3 of 24 values are NaN, infinite or too large" in message


def one(array, index, value):
    changed = array.copy()
    changed[index] = value
    return changed


X, Y = arrays(60)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"x": X[:59]}, "one label a sample, shape (59,), but got (60,)"),
        ({"y": np.eye(3)[Y]}, "y.argmax(1)"),
        ({"y": Y.astype(float)}, "labels must be integers, but got dtype float64"),
        ({"y": Y + 1}, "but 0 never occurs and 3 does: renumber them, or give classes=4"),
        ({"y": one(Y, 7, -1)}, "got -1"),
        ({"y": one(Y, 7, 10**12)}, "but 3 never occurs"),
        ({"y": one(Y, 7, 5), "classes": 3}, "labels must be 0 to 2 for 3 classes, but got 5"),
        ({"classes": 2}, "labels must be 0 to 1 for 2 classes, but got 2"),
        ({"y": Y * 0}, "at least 2 classes, but got 1"),
        ({"x": X[:, 0]}, "(samples, *input_shape)"),
        ({"x": X[:0], "y": Y[:0]}, "got shape (0, 4)"),
        ({"x": X.astype(str)}, "array of real numbers, but got dtype <U"),
        ({"x": X + 1j}, "array of real numbers"),
        ({"x": [[1], [1, 2]]}, "train part: x must be an array of numbers"),
        ({"x_test": X}, "test part: x and y belong together, but y is missing"),
        (
            {"x_test": X[:, :1], "y_test": Y},
            "test part: samples must have shape (4,), as in the train part, but got (1,)",
        ),
        ({"x_validation": X, "y_validation": Y, "validation": 9}, "not both"),
        ({"validation": 2}, "at least as many samples as there are classes (3), but a split is 46 + 2"),
        ({"validation": 60}, "-12 + 60"),
        ({"validation": 0.2}, "integer number of samples, but got 0.2"),
        ({"y": one(Y, 0, 3)}, "class 3 has one sample left"),
        ({"x": X[:9], "y": Y[:9]}, "a split is 8 + 1"),
        ({"seed": -1}, "seed must be an integer in [0, 2**32), but got -1"),
        ({"seed": "1"}, "but got '1'"),
        ({"standardize": "globe"}, "did you mean 'global'?"),
        ({"standardize": None}, "known are feature, global, none"),
    ],
)
def test_arrays_that_are_no_dataset_are_refused(given, said):
    assert said in refusal(from_arrays, **{"name": "mine", "x": X, "y": Y, **given})


def test_labels_with_a_gap_are_taken_when_classes_are_given():
    assert from_arrays("mine", X, Y + 1, classes=4).classes == 4


# Dataset


def test_a_dataset_says_what_it_is():
    dataset = dataset_of()
    assert dataset.sizes == (12, 12, 12)
    assert repr(dataset) == "Dataset('mine': 12 train, 12 validation, 12 test, input_shape=(4,), classes=3)"


def test_the_fingerprint_changes_with_any_value_label_shape_or_order():
    tensors = {
        f"{axis}_{part}": getattr(dataset_of(), f"{axis}_{part}") for axis in "xy" for part in datasets.PARTS
    }
    prints = [dataset_of().fingerprint]
    for key, tensor in tensors.items():
        changed = tensor.clone()
        changed.view(-1)[0] += 1
        prints.append(dataset_of(**{key: changed}).fingerprint)
    folded = {key: tensor.reshape(-1, 2, 2) for key, tensor in tensors.items() if key.startswith("x")}
    prints.append(dataset_of(**folded).fingerprint)
    prints.append(dataset_of(x_train=tensors["x_train"].flip(0)).fingerprint)
    assert len(set(prints)) == 9
    assert {len(digest) for digest in prints} == {32}


def test_the_fingerprint_depends_neither_on_the_name_nor_on_the_memory_layout():
    dataset = dataset_of()
    strided = dataset.x_train.T.contiguous().T
    assert not strided.is_contiguous()
    assert dataset_of(name="other", x_train=strided).fingerprint == dataset.fingerprint


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"x_train": X}, "train part: x must be a torch.float32 tensor on the CPU, but got ndarray"),
        ({"x_test": torch.zeros(12, 4).double()}, "but got torch.float64, cpu"),
        ({"y_test": torch.zeros(12)}, "test part: y must be a torch.int64 tensor"),
        (
            {"x_validation": torch.full((12, 4), torch.nan)},
            "validation part: x must be finite as float32, but 48 of 48",
        ),
        (
            {"y_validation": torch.full((12,), 3)},
            "validation part: labels must be 0 to 2 for 3 classes, but got 3",
        ),
        ({"y_train": torch.full((12,), -1)}, "but got -1"),
        ({"x_test": torch.zeros(12, 5)}, "test part: samples must have shape (4,)"),
        ({"x_test": torch.zeros(0, 4), "y_test": torch.zeros(0).long()}, "got shape (0, 4)"),
        ({"x_train": torch.zeros(11, 4)}, "one label a sample"),
        ({"classes": 1}, "at least 2 classes, but got 1"),
        ({"classes": True}, "got True"),
    ],
)
def test_a_dataset_refuses_what_would_break_training(changed, said):
    assert said in refusal(dataset_of, **changed)


# Names


def test_an_unknown_name_or_option_is_refused_with_the_nearest():
    assert "unknown dataset 'digit' (did you mean 'digits'?)" in refusal(load_dataset, "digit")
    assert "has no option 'sed' (did you mean 'seed'?)" in refusal(load_dataset, "digits", sed=1)
    assert "write idx:FOLDER" in refusal(load_dataset, "idx")
    # What is importable is not thereby a dataset.
    assert "unknown dataset 'from_arrays'" in refusal(load_dataset, "from_arrays")


@pytest.fixture
def user_file(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "import numpy as np\n"
        "from ticketsearch.datasets import from_arrays\n"
        "def load(*, samples=20, name='own'):\n"
        "    return from_arrays(name, np.eye(samples), np.arange(samples) % 2)\n"
        "def arrays():\n"
        "    return np.eye(20), np.arange(20) % 2\n"
        "def broken():\n"
        "    return {}['key']\n"
    )
    return file


def test_a_loader_of_ones_own_takes_its_options(user_file):
    dataset = load_dataset(f"{user_file}:load", samples=30, name="thirty")
    assert dataset.name == "thirty"
    assert dataset.sizes == (18, 6, 6)
    assert "it takes samples, name" in refusal(load_dataset, f"{user_file}:load", size=3)


def test_a_loader_that_returns_something_else_is_told_how_to_make_a_dataset(user_file):
    message = refusal(load_dataset, f"{user_file}:arrays")
    assert "a loader must return a Dataset, but got tuple" in message
    assert "from_arrays" in message


def test_an_error_inside_a_loader_of_ones_own_passes_through(user_file):
    with pytest.raises(KeyError, match="key"):
        load_dataset(f"{user_file}:broken")
