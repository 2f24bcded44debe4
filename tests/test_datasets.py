"""Datasets: what the loaders return, how they split and standardise, and what they refuse."""

import gzip
import inspect
import io
import os
import pickle
import random
import struct
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import refusal

from ticketsearch import datasets
from ticketsearch.datasets import Dataset, from_arrays, load_dataset
from ticketsearch.datasets.opcodes import plain_values
from ticketsearch.errors import BadInput

pytestmark = pytest.mark.slow

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
    assert datasets.__all__ == ["cifar10", "csv", "digits", "idx", "libsvm", "mnist1d", "moons", "npz"]
    for name in datasets.__all__:
        parameters = inspect.signature(getattr(datasets, name)).parameters
        assert parameters["seed"].kind is inspect.Parameter.KEYWORD_ONLY
        own = {"cifar10": "channel", "csv": "feature", "libsvm": "feature"}
        assert parameters["standardize"].default == own.get(name, "global")


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


@pytest.mark.full
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
@pytest.mark.full
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
    return b"\0\0\x0a\x03" + data[4:]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (truncated, "must have 2116 bytes for its shape (60, 5, 7), but got 2113"),
        (lambda data: data + b"\0", "but got 2117"),
        (with_magic, "must start with two zero bytes, a type (08, 09, 0b, 0c, 0d, 0e) and"),
        (lambda data: b"\0\0\x0d" + data[3:], "must have 8416 bytes for its shape (60, 5, 7), but got 2116"),
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


# CIFAR-10

CIFAR_BATCHES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]


def cifar_parts(size=20):
    """Return pixels and labels of six batches; the first byte of an image is its number, 0 to 119."""
    rng = np.random.default_rng(0)
    parts = {}
    for number, name in enumerate(CIFAR_BATCHES):
        pixels = rng.integers(0, 256, (size, 3072), dtype=np.uint8)
        pixels[:, 0] = number * size + np.arange(size)
        parts[name] = pixels, rng.permutation(np.arange(size) % 10)
    return parts


def binary_batch(pixels, labels):
    return np.concatenate([labels[:, None].astype(np.uint8), pixels], axis=1).tobytes()


def held(pixels, labels):
    files = [b"photo_%d.png" % number for number in range(len(labels))]
    return {
        b"batch_label": b"training batch 1 of 5",
        b"labels": labels.tolist(),
        b"data": pixels,
        b"filenames": files,
    }


def python_batch(pixels, labels):
    return pickle.dumps(held(pixels, labels), protocol=2)


def python2_batch(pixels, labels):
    """Return what Python 2 wrote with protocol 2: strings of bytes, everything memorized."""
    memo = iter(range(1, 1000))

    def put():
        number = next(memo)
        return b"q" + bytes([number]) if number < 256 else b"r" + struct.pack("<i", number)

    def string(text):
        short = len(text) < 256
        size = bytes([len(text)]) if short else struct.pack("<i", len(text))
        return (b"U" if short else b"T") + size + text + put()

    batch = held(pixels, labels)
    parts = [b"\x80\x02}", put(), b"("]
    parts += [string(b"batch_label"), string(batch[b"batch_label"])]
    parts += [string(b"labels"), b"]", put(), b"(", *(b"K" + bytes([label]) for label in labels), b"e"]
    parts += [string(b"data"), b"cnumpy.core.multiarray\n_reconstruct\n", put(), b"cnumpy\nndarray\n", put()]
    parts += [b"K\0\x85", put(), string(b"b"), b"\x87", put(), b"R", put(), b"(K\1"]
    parts += [b"M", struct.pack("<H", len(pixels)), b"M\x00\x0c\x86", put()]
    parts += [b"cnumpy\ndtype\n", put(), string(b"u1"), b"K\0K\1\x87", put(), b"R", put()]
    parts += [b"(K\3", string(b"|"), b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0t", put(), b"b\x89"]
    parts += [string(pixels.tobytes()), b"t", put(), b"b"]
    parts += [string(b"filenames"), b"]", put(), b"(", *map(string, batch[b"filenames"]), b"eu."]
    return b"".join(parts)


def python2_text_batch(pixels, labels):
    """Return what Python 2 wrote with protocol 0: lines of text, strings quoted and escaped."""
    memo = iter(range(1, 1000))

    def put():
        return b"p%d\n" % next(memo)

    def string(text):
        return b"S" + repr(text)[1:].encode() + b"\n" + put()

    batch = held(pixels, labels)
    parts = [b"(d", put(), string(b"batch_label"), string(batch[b"batch_label"]), b"s"]
    parts += [string(b"labels"), b"(l", put(), *(b"I%d\na" % label for label in labels), b"s"]
    parts += [string(b"data"), b"cnumpy.core.multiarray\n_reconstruct\n", put()]
    parts += [b"(cnumpy\nndarray\n", put(), b"(I0\nt", put(), string(b"b"), b"t", put(), b"R", put()]
    parts += [b"(I1\n(I%d\nI3072\nt" % len(pixels), put(), b"cnumpy\ndtype\n", put()]
    parts += [b"(", string(b"u1"), b"I0\nI1\nt", put(), b"R", put()]
    parts += [b"(I3\n", string(b"|"), b"NNNI-1\nI-1\nI0\nt", put(), b"bI00\n"]
    parts += [string(pixels.tobytes()), b"t", put(), b"bs"]
    parts += [string(b"filenames"), b"(l", put(), *(string(name) + b"a" for name in batch[b"filenames"])]
    return b"".join([*parts, b"s."])


def cifar_folder(folder, write=binary_batch, parts=None):
    """Write six batches of 20 images each, as ``write`` does."""
    folder.mkdir(parents=True)
    for name, (pixels, labels) in (parts or cifar_parts()).items():
        ending = ".bin" if write is binary_batch else ""
        (folder / f"{name}{ending}").write_bytes(write(pixels, labels))
    return folder


def cifar_archive(folder, write=binary_batch, leave_out=None):
    """Pack six batches as the official archives are packed, and return the archive."""
    version, short = ("binary", "bin") if write is binary_batch else ("python", "py")
    inner = cifar_folder(folder / "unpacked", write)
    (inner / "readme.html").write_text("about")
    archive = folder / f"cifar-10-{version}.tar.gz"
    with tarfile.open(archive, "w:gz") as packed:
        for file in sorted(inner.iterdir()):
            if file.name != leave_out:
                packed.add(file, f"cifar-10-batches-{short}/{file.name}")
    return archive


def image_numbers(x):
    """Return which images of :func:`cifar_parts` these are, where nothing is standardised."""
    return (x[:, 0, 0, 0] * 255).round().int().tolist()


WRITERS = [binary_batch, python_batch, python2_batch, python2_text_batch]


def test_cifar10_is_fifty_parts_in_a_sixth_and_the_official_test_batch(tmp_path):
    dataset = load_dataset(f"cifar10:{cifar_folder(tmp_path / 'here')}")
    assert dataset.name == "cifar10"
    assert dataset.sizes == (84, 16, 20)
    assert dataset.input_shape == (3, 32, 32)
    assert dataset.classes == 10
    assert dataset.x_train.dtype == torch.float32
    assert dataset.y_train.dtype == torch.int64
    assert load_dataset(f"cifar10:{tmp_path / 'here'}", validation=30).sizes == (70, 30, 20)


@pytest.mark.parametrize("write", WRITERS)
def test_cifar10_pixels_are_red_then_green_then_blue_by_rows(tmp_path, write):
    pixels, labels = cifar_parts()["test_batch"]
    dataset = load_dataset(f"cifar10:{cifar_folder(tmp_path / 'here', write)}", standardize="none")
    assert dataset.y_test.tolist() == labels.tolist()
    for image, channel, row, column in (
        (0, 0, 0, 1),
        (3, 0, 1, 0),
        (7, 1, 0, 0),
        (11, 2, 0, 31),
        (19, 2, 31, 5),
    ):
        byte = pixels[image, 1024 * channel + 32 * row + column]
        assert dataset.x_test[image, channel, row, column] == np.float32(byte) / np.float32(255)


def test_cifar10_images_keep_their_labels_and_are_each_in_one_part(tmp_path):
    parts = cifar_parts()
    label = dict(enumerate(np.concatenate([labels for _, labels in parts.values()]).tolist()))
    folder = cifar_folder(tmp_path / "here")
    dataset = load_dataset(f"cifar10:{folder}", standardize="none")
    train, validation = image_numbers(dataset.x_train), image_numbers(dataset.x_validation)
    assert sorted(train + validation) == list(range(100))
    assert image_numbers(dataset.x_test) == list(range(100, 120))
    assert dataset.y_train.tolist() == [label[number] for number in train]
    assert dataset.y_validation.tolist() == [label[number] for number in validation]
    other = load_dataset(f"cifar10:{folder}", standardize="none", seed=1)
    assert sorted(image_numbers(other.x_validation)) != sorted(validation)
    assert image_numbers(other.x_test) == list(range(100, 120))


def test_cifar10_is_standardised_channel_by_channel_with_the_training_part_alone(tmp_path):
    parts = cifar_parts()
    for pixels, _ in parts.values():
        pixels[:, 1024:2048] //= 4
        pixels[:, 2048:] = pixels[:, 2048:] // 2 + 120
    folder = cifar_folder(tmp_path / "here", parts=parts)
    dataset, whole = (load_dataset(f"cifar10:{folder}", standardize=how) for how in ("channel", "none"))
    assert load_dataset(f"cifar10:{folder}").fingerprint == dataset.fingerprint
    for channel in range(3):
        train = whole.x_train[:, channel].double()
        expected = (whole.x_test[:, channel].double() - train.mean()) / train.std(correction=0)
        torch.testing.assert_close(dataset.x_test[:, channel], expected.float())
        assert dataset.x_train[:, channel].double().mean().item() == pytest.approx(0, abs=1e-6)
        assert dataset.x_train[:, channel].double().std(correction=0).item() == pytest.approx(1, abs=1e-6)
    assert load_dataset(f"cifar10:{folder}", standardize="global").fingerprint != dataset.fingerprint


def test_cifar10_is_the_same_from_every_version_folder_and_archive(tmp_path):
    def by_columns(pixels, labels):
        return python_batch(np.asfortranarray(pixels), labels)

    def with_text_keys(pixels, labels):
        return pickle.dumps({"labels": labels.tolist(), "data": pixels}, protocol=2)

    plain = load_dataset(f"cifar10:{cifar_folder(tmp_path / 'plain')}")
    for write in (python_batch, python2_batch, python2_text_batch, by_columns, with_text_keys):
        folder = cifar_folder(tmp_path / write.__name__, write)
        assert load_dataset(f"cifar10:{folder}").fingerprint == plain.fingerprint, write
    cifar_folder(tmp_path / "binary folder" / "cifar-10-batches-bin")
    cifar_folder(tmp_path / "python folder" / "cifar-10-batches-py", python2_batch)
    cifar_archive(tmp_path / "binary archive")
    cifar_archive(tmp_path / "python archive", python2_batch)
    for name in ("binary folder", "python folder", "binary archive", "python archive"):
        assert load_dataset(f"cifar10:{tmp_path / name}").fingerprint == plain.fingerprint, name


@pytest.mark.parametrize("write", WRITERS[1:])
def test_the_batches_written_by_hand_are_pickled_ones(write):
    pixels, labels = cifar_parts()["data_batch_1"]
    loaded = pickle.loads(write(pixels, labels), encoding="bytes")
    expected = held(pixels, labels)
    assert np.array_equal(loaded.pop(b"data"), expected.pop(b"data"))
    assert loaded == expected


def test_the_cifar10_fingerprint_changes_with_any_pixel_or_label(tmp_path):
    prints = {load_dataset(f"cifar10:{cifar_folder(tmp_path / 'plain')}", standardize="none").fingerprint}
    for name in CIFAR_BATCHES:
        pixel, label = cifar_parts(), cifar_parts()
        pixel[name][0][5, 3071] ^= 1
        label[name][1][:2] = label[name][1][1::-1]  # two images trade their classes
        for what, parts in (("pixel", pixel), ("label", label)):
            folder = cifar_folder(tmp_path / f"{name} {what}", parts=parts)
            prints.add(load_dataset(f"cifar10:{folder}", standardize="none").fingerprint)
    assert len(prints) == 13


def damaged_cifar(tmp_path, write, name, damage):
    """Return the refusal of a folder one of whose files is damaged; it must name the file and a way out."""
    folder = cifar_folder(tmp_path / "here", write)
    file = folder / name
    file.write_bytes(damage(file.read_bytes()))
    message = refusal(load_dataset, f"cifar10:{folder}")
    assert str(file) in message
    assert message.endswith("fetch the official archive again")
    return message


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (
            truncated,
            "must have a multiple of 3073 bytes, a label and 3072 pixels for each image, but got 61457",
        ),
        (lambda data: data + b"\0", "but got 61461"),
        (lambda data: b"", "but got 0"),
        (lambda data: data[:3073] + b"\x0a" + data[3074:], "labels from 0 to 9, but got 10 for image 1"),
        (lambda data: b"\xff" + data[1:], "labels from 0 to 9, but got 255 for image 0"),
    ],
)
def test_a_damaged_binary_batch_is_refused_with_its_name(tmp_path, damage, said):
    assert said in damaged_cifar(tmp_path, binary_batch, "data_batch_4.bin", damage)


@pytest.mark.parametrize("write", WRITERS[1:])
def test_a_torn_python_batch_is_refused_wherever_it_ends(tmp_path, write):
    folder = cifar_folder(tmp_path / "here", write)
    file = folder / "data_batch_2"
    whole = file.read_bytes()
    for end in (*range(0, 200, 7), len(whole) // 2, *range(len(whole) - 300, len(whole), 7), len(whole) - 1):
        file.write_bytes(whole[:end])
        message = refusal(load_dataset, f"cifar10:{folder}")
        assert f"{str(file)!r} must be a batch of the python version, but " in message
        assert message.endswith("fetch the official archive again")


class Foreign:
    """Asks for a call when it is read back."""

    def __init__(self, function, *arguments):
        self.wanted = function, arguments

    def __reduce__(self):
        return self.wanted


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (Foreign(os.system, "false"), "it asks for 'posix system', which arrays do not need"),
        (Foreign(eval, "1"), "it asks for '__builtin__ eval'"),
        (
            Foreign(np.dtype, "u1"),
            "must hold a dictionary of data and labels, but holds another array or object",
        ),
        ([1, 2], "must hold a dictionary of data and labels, but holds a list"),
        ({"labels": [1]}, "must hold a dictionary of data and labels, but data is missing"),
        ({"data": np.zeros((1, 3072), np.uint8)}, "but labels is missing"),
        ({2: 3}, "it holds a dictionary whose keys are not names"),
        (1.5, "it uses the opcode BINFLOAT, which arrays do not need"),
    ],
)
def test_a_python_batch_of_something_else_is_refused(tmp_path, content, said):
    message = damaged_cifar(
        tmp_path, python_batch, "data_batch_5", lambda data: pickle.dumps(content, protocol=2)
    )
    assert said in message


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"labels": [*range(10), *range(9), 10]}, "labels from 0 to 9, but got 10 for image 19"),
        ({"labels": [-1] * 20}, "labels from 0 to 9, but got -1 for image 0"),
        ({"labels": [True] * 20}, "but got a bool for image 0"),
        ({"labels": ["1"] * 20}, "but got a str for image 0"),
        ({"labels": [1] * 19}, "must have a list of 20 labels, one an image, but got 19"),
        ({"labels": None}, "must have a list of 20 labels, one an image, but got a NoneType"),
        ({"data": "x" * 3072}, "data of shape (images, 3072) and type uint8, but got a str"),
        ({"data": np.zeros((20, 3071), np.uint8)}, "got shape (20, 3071) and type 'u1'"),
        ({"data": np.zeros((20, 3072), np.int8)}, "got shape (20, 3072) and type 'i1'"),
        ({"data": np.zeros((20, 3072), np.float32)}, "got shape (20, 3072) and type 'f4'"),
        ({"data": np.zeros((20, 3, 32, 32), np.uint8)}, "type uint8, but got another array or object"),
        ({"data": np.array([[{}]], dtype=object)}, "type uint8, but got another array or object"),
        ({"data": np.uint8(3)}, "which arrays do not need"),
    ],
)
def test_a_python_batch_with_other_values_is_refused(tmp_path, changed, said):
    batch = held(*cifar_parts()["data_batch_3"]) | {key.encode(): value for key, value in changed.items()}
    content = pickle.dumps(batch, protocol=2)
    assert said in damaged_cifar(tmp_path, python_batch, "data_batch_3", lambda data: content)


@pytest.mark.parametrize(
    ("rows", "said"), [(21, "got 61440 bytes for shape (21, 3072)"), (0, "got shape (0, 3072) and type 'u1'")]
)
def test_a_python_batch_whose_shape_and_bytes_disagree_is_refused(tmp_path, rows, said):
    def reshaped(data):
        assert data.count(b"M\x14\0M\0\x0c") == 1
        return data.replace(b"M\x14\0M", b"M" + bytes([rows]) + b"\0M")

    message = damaged_cifar(tmp_path, python2_batch, "test_batch", reshaped)
    assert f"must have data of shape (images, 3072) and type uint8, but {said}" in message


def test_nothing_that_a_python_batch_asks_for_is_run(tmp_path):
    witness = tmp_path / "witness"
    content = pickle.dumps(Foreign(Path.touch, witness), protocol=2)
    pickle.loads(content)
    assert witness.exists()  # read the usual way it would be
    witness.unlink()
    damaged_cifar(tmp_path, python_batch, "data_batch_1", lambda data: content)
    assert not witness.exists()


def test_python_batches_of_later_protocols_are_refused(tmp_path):
    pixels, labels = cifar_parts()["data_batch_1"]
    for protocol in (3, 4, 5):
        content = pickle.dumps(held(pixels, labels), protocol=protocol)
        with pytest.raises(ValueError, match=r"it uses the opcode (SHORT_BINBYTES|FRAME), which arrays"):
            plain_values(content, names=())


def test_a_flipped_byte_makes_a_refusal_or_other_data_and_nothing_else(tmp_path):
    folder = cifar_folder(tmp_path / "here", python2_batch)
    file = folder / "data_batch_1"
    whole = file.read_bytes()
    rng = np.random.default_rng(0)
    loaded, refused = 0, []
    for place in rng.integers(-400, 400, 150):
        damaged = bytearray(whole)
        damaged[place] ^= int(rng.integers(1, 256))
        file.write_bytes(damaged)
        try:
            assert load_dataset(f"cifar10:{folder}").sizes == (84, 16, 20)
            loaded += 1
        except BadInput as error:
            refused.append(str(error))
    assert loaded > 10
    assert len(refused) > 10
    assert not [message for message in refused if "\n" in message or str(file) not in message]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "it ends too soon"),
        (b"\x80\x02", "it ends too soon"),
        (b"\xff.", "it has the byte ff for an opcode"),
        (b".", "a value that it does not hold"),
        (b"h\x05.", "a value that it does not hold"),
        (b"q\x05.", "a value that it does not hold"),
        (b"K\x01\x86.", "a value that it does not hold"),
        (b"t.", "a value that it does not hold"),
        (b"]K", "not enough data in stream"),
        (b"T\xff\xff\xff\x7fab.", "expected 2147483647 bytes in a string4, but only 3 remain"),
        (b"I1x\n.", "invalid literal"),
        (b"Sab\n.", "a string without quotes"),
        (b"S'\n.", "a string without quotes"),
        (b"S'ab", "it ends too soon"),
        (b"S'\\q'\n.", "an escape that Python 2 does not write"),
        (b"S'\\x0'\n.", "an escape that Python 2 does not write"),
        (b"S'\\'\n.", "an escape that Python 2 does not write"),
        (b"K\x01K\x02a.", "it adds items to a int"),
        (b"}(K\x01K\x02u.", "keys are not names"),
        (b"}(U\x01au.", "keys are not names"),
        (b"K\x01)R.", "it calls a value that is not a function"),
        (b"K\x01Nb.", "it gives a state to a int"),
        (b"cnumpy\ndtype\n.", "it asks for 'numpy dtype'"),
        (b"cnumpy\ndty", "it ends too soon"),
        (b"c_codecs\n\\x65ncode\n.", "it asks for"),
        (b"c_codecs\nencode\nX\x01\0\0\0aX\x03\0\0\0hex\x86R.", "spells bytes in another way"),
        (b"c_codecs\nencode\n)R.", "spells bytes in another way"),
        (b"(ios\nsystem\n.", "opcode INST"),
        (b"(cos\nsystem\no.", "asks for 'os system'"),
        (b"Pname\n.", "opcode PERSID"),
        (b"NQ.", "opcode BINPERSID"),
        (b"\x82\x01.", "opcode EXT1"),
        (b")\x81.", "opcode NEWOBJ"),
        (b"\x8c\x02os\x8c\x06system\x93.", "opcode SHORT_BINUNICODE"),
    ],
)
def test_opcodes_that_make_no_plain_value_are_refused(data, said):
    with pytest.raises(ValueError, match=said) as caught:
        plain_values(data, names=())
    assert "\n" not in str(caught.value)


def test_a_key_nested_deeper_than_the_stack_is_refused_unhashed():
    with pytest.raises(ValueError, match="keys are not names"):
        plain_values(b"}()" + b"\x85" * 200_000 + b"K\x01u.", names=())


def test_a_missing_batch_or_folder_is_refused_with_its_name(tmp_path):
    for write, ending in ((binary_batch, ".bin"), (python_batch, "")):
        folder = cifar_folder(tmp_path / f"torn{ending}", write)
        (folder / f"data_batch_3{ending}").unlink()
        message = refusal(load_dataset, f"cifar10:{folder}")
        assert f"{str(folder)!r} must hold data_batch_1{ending}, data_batch_2{ending}, " in message
        assert f"but data_batch_3{ending} is missing: fetch the official archive again" in message
    (tmp_path / "empty").mkdir()
    message = refusal(load_dataset, f"cifar10:{tmp_path / 'empty'}")
    assert "must hold data_batch_1.bin, data_batch_1, or the archive cifar-10-binary.tar.gz or " in message
    assert message.endswith("fetch one from https://www.cs.toronto.edu/~kriz/cifar.html")
    assert str(tmp_path / "none") in refusal(load_dataset, f"cifar10:{tmp_path / 'none'}")
    assert "needs its folder: write cifar10:FOLDER" in refusal(load_dataset, "cifar10")


def test_a_batch_torn_between_two_images_is_refused_for_its_size(tmp_path):
    folder = cifar_folder(tmp_path / "here")
    file = folder / "data_batch_5.bin"
    file.write_bytes(file.read_bytes()[: 19 * 3073])
    message = refusal(load_dataset, f"cifar10:{folder}")
    assert (
        "must hold batches of equally many images, but data_batch_5.bin has 19 and data_batch_1.bin 20"
        in (message)
    )


@pytest.mark.parametrize("write", [binary_batch, python2_batch])
def test_a_torn_or_foreign_cifar10_archive_is_refused_with_its_name(tmp_path, write):
    archive = cifar_archive(tmp_path / "here", write)
    whole = archive.read_bytes()
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as packed:
        packed.add(tmp_path / "here/unpacked/readme.html", "readme.html")
    middle = len(whole) // 2
    damaged = {
        "torn": whole[:middle],
        "without its checksum": whole[:-8],
        "flipped": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
        "with another checksum": whole[:-8] + bytes(4) + whole[-4:],
        "empty": b"",
        "text": b"not found",
        "no archive": gzip.compress(b"not found"),
        "torn inside": gzip.compress(gzip.decompress(whole)[:90_000]),
        "not gzipped": plain.getvalue(),
    }
    for name, content in damaged.items():
        archive.write_bytes(content)
        message = refusal(load_dataset, f"cifar10:{archive.parent}")
        assert f"{str(archive)!r} must be a whole gzipped archive, but " in message, name
    archive.write_bytes(gzip.compress(plain.getvalue()))
    assert "is missing: fetch the official" in refusal(load_dataset, f"cifar10:{archive.parent}")


def test_damage_inside_a_cifar10_archive_is_refused_with_its_place(tmp_path):
    ending = {binary_batch: ".bin", python2_batch: ""}
    for write, end in ending.items():
        archive = cifar_archive(tmp_path / f"left out{end}", write, leave_out=f"data_batch_2{end}")
        message = refusal(load_dataset, f"cifar10:{archive.parent}")
        assert f"{str(archive)!r} must hold data_batch_1{end}, " in message
        assert f"but data_batch_2{end} is missing" in message
    folder = tmp_path / "wrong"
    archive = cifar_archive(folder)
    with tarfile.open(archive, "w:gz") as packed:
        for file in (folder / "unpacked").iterdir():
            file.write_bytes(b"\x0b" + file.read_bytes()[1:])
            packed.add(file, f"cifar-10-batches-bin/{file.name}")
    message = refusal(load_dataset, f"cifar10:{folder}")
    assert f"{str(archive / 'data_batch_1.bin')!r} must have labels from 0 to 9, but got 11" in message


def test_cifar10_takes_the_options_of_the_other_files(tmp_path):
    folder = cifar_folder(tmp_path / "here")
    assert "it takes seed, standardize, validation" in refusal(load_dataset, f"cifar10:{folder}", classes=10)
    assert "but a split is 95 + 5" in refusal(load_dataset, f"cifar10:{folder}", validation=5)
    assert "seed must be an integer" in refusal(load_dataset, f"cifar10:{folder}", seed=-1)
    assert "did you mean 'channel'" in refusal(load_dataset, f"cifar10:{folder}", standardize="channels")


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


def test_parts_may_be_the_last_samples(tmp_path):
    x, y = arrays(60)
    options = {"split": "last", "standardize": "none", "validation": 10}
    dataset = load_dataset(npz_file(tmp_path / "mine.npz", x=x, y=y), **options)
    for part, samples in (("train", slice(0, 38)), ("validation", slice(38, 48)), ("test", slice(48, 60))):
        assert torch.equal(getattr(dataset, f"x_{part}"), torch.from_numpy(x[samples]))
        assert torch.equal(getattr(dataset, f"y_{part}"), torch.from_numpy(y[samples]))
    assert dataset.fingerprint == from_arrays("other", x, y, seed=7, **options).fingerprint
    assert dataset.fingerprint != from_arrays("mine", x, y, **{**options, "split": "random"}).fingerprint
    message = refusal(lambda: from_arrays("mine", x, np.sort(y), split="last"))
    assert "the first 48 and the last 12 samples" in message
    assert "none of class" in message
    message = refusal(lambda: from_arrays("mine", x, y, split="first"))
    assert message == "unknown split 'first': known are last, random"


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


def test_standardisation_by_range_maps_the_training_part_onto_an_interval():
    x, y = arrays(60)
    x[:, 1] = 0.1
    dataset, whole = (from_arrays("mine", x, y, standardize=how) for how in ("range", "none"))
    ends = torch.tensor([0.7, 0.0, 0.7, 0.7])
    torch.testing.assert_close(dataset.x_train.amax(0), ends)
    torch.testing.assert_close(dataset.x_train.amin(0), -ends)
    low, high = whole.x_train.double().aminmax(dim=0)
    expected = (1.4 * (whole.x_test.double() - low) / (high - low) - 0.7).float()
    torch.testing.assert_close(dataset.x_test[:, [0, 2, 3]], expected[:, [0, 2, 3]])


def test_moons_are_two_half_circles_of_as_many_samples_as_asked_for():
    dataset = load_dataset("moons", train=400, validation=100, test=60, noise=0.0, standardize="none")
    assert dataset.sizes == (400, 100, 60)
    assert (dataset.input_shape, dataset.classes) == ((2,), 2)
    centres = torch.tensor([[0.0, 0.0], [1.0, 0.5]])[dataset.y_train]
    radius = (dataset.x_train - centres).norm(dim=1)
    torch.testing.assert_close(radius, torch.ones(400))
    assert shares(dataset.y_train, 2).tolist() == [0.5, 0.5]


def test_noise_of_moons_has_the_deviation_asked_for():
    dataset = load_dataset("moons", train=4000, validation=10, test=10, noise=0.05, standardize="none")
    centres = torch.tensor([[0.0, 0.0], [1.0, 0.5]])[dataset.y_train]
    radius = (dataset.x_train - centres).norm(dim=1)
    assert radius.std().item() == pytest.approx(0.05, rel=0.1)


def test_bad_moons_are_refused_in_one_line():
    assert "train must be an integer" in refusal(load_dataset, "moons", train=1)
    assert "noise must be a deviation" in refusal(load_dataset, "moons", noise=-0.1)
    assert "seed must be an integer" in refusal(load_dataset, "moons", seed=-1)


def test_per_channel_standardisation_gives_each_channel_one_mean_and_deviation():
    x, y = arrays(60, shape=(3, 2, 5))
    x *= np.array([1, 10, 100], np.float32)[:, None, None]
    x[:, 1] = 0.1  # a constant channel is only centred
    dataset = from_arrays("mine", x, y, standardize="channel")
    whole = from_arrays("mine", x, y, standardize="none")
    for channel in range(3):
        train = whole.x_train[:, channel].double()
        deviation = train.std(correction=0) if channel != 1 else 1.0
        expected = (whole.x_test[:, channel].double() - train.mean()) / deviation
        torch.testing.assert_close(dataset.x_test[:, channel], expected.float())


@pytest.mark.parametrize("standardize", ["global", "channel", "feature", "range"])
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
        ({"standardize": None}, "known are channel, feature, global, none, range"),
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
