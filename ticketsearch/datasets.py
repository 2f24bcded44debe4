"""Datasets: whole tensors in three parts; training data trains, validation scores, test is for the report.

A name is a loader in ``__all__``, with what follows a colon as its first argument (``idx:FOLDER``), or
``file.py:function`` for a loader of one's own that returns a :class:`Dataset`. Inputs are standardised
with the mean and deviation of the training part alone. Nothing is ever downloaded.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import random
import struct
import sys
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from ticketsearch import names
from ticketsearch.errors import BadInput, unknown

# The loaders and nothing else: these are the names that users may give.
__all__ = ["digits", "idx", "mnist1d", "npz"]

PARTS = ("train", "validation", "test")
STANDARDIZATIONS = ("feature", "global", "none")
FLOAT32_MAX = float(np.finfo(np.float32).max)
MNIST1D_CLASSES = 10

Values = ArrayLike | torch.Tensor
Pair = tuple[NDArray[Any], NDArray[Any]]  # samples (samples, *input_shape) and labels (samples,)


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Samples and labels of the three parts, as whole tensors on the CPU.

    Each ``x`` is ``(samples, *input_shape)`` float32 and finite, each ``y`` ``(samples,)`` int64 in
    [0, classes). :func:`from_arrays` makes one of arrays, splitting and standardising them.

    Raises :class:`BadInput` for anything else, naming the part.
    """

    name: str
    x_train: torch.Tensor
    y_train: torch.Tensor
    x_validation: torch.Tensor
    y_validation: torch.Tensor
    x_test: torch.Tensor
    y_test: torch.Tensor
    classes: int

    def __post_init__(self) -> None:
        for part in PARTS:
            where = f"dataset {self.name!r}, {part} part"
            x, y = getattr(self, f"x_{part}"), getattr(self, f"y_{part}")
            _check_tensor(f"{where}: x", x, torch.float32)
            _check_tensor(f"{where}: y", y, torch.int64)
            _check_part(where, x.detach().numpy(), y.numpy())
            _check_shape(where, tuple(x.shape[1:]), self.input_shape)
            _check_labels(where, y.numpy(), self.classes)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{size} {part}" for size, part in zip(self.sizes, PARTS, strict=True))
        return f"Dataset({self.name!r}: {sizes}, input_shape={self.input_shape}, classes={self.classes})"

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return tuple(self.x_train.shape[1:])

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Number of training, validation and test samples."""
        return len(self.y_train), len(self.y_validation), len(self.y_test)

    @cached_property
    def fingerprint(self) -> str:
        """A digest of all six tensors: equal exactly for the same data in the same order and split."""
        digest = hashlib.blake2b(digest_size=16)
        for part in PARTS:
            for tensor in (getattr(self, f"x_{part}"), getattr(self, f"y_{part}")):
                digest.update(repr(tuple(tensor.shape)).encode())
                digest.update(tensor.detach().contiguous().numpy().data)
        return digest.hexdigest()


def load_dataset(name: str, /, **options: Any) -> Dataset:
    """Return the dataset of a name: a loader of this module, ``idx:FOLDER``, ``file.py:function``.

    ``options`` go to the loader. What a user's own loader raises passes through unchanged.

    Raises :class:`BadInput` for an unknown name or option, unusable data, or a loader that returns
    something else.
    """
    load = names.resolve(name, names.listed(sys.modules[__name__]), "dataset")
    names.check_options(load, options, "dataset", name)
    dataset = load(**options)
    if not isinstance(dataset, Dataset):
        got = type(dataset).__name__
        way_out = "ticketsearch.datasets.from_arrays makes one of arrays"
        raise BadInput(f"dataset {name!r}: a loader must return a Dataset, but got {got}: {way_out}")
    return dataset


def from_arrays(
    name: str,
    x: Values,
    y: Values,
    x_test: Values | None = None,
    y_test: Values | None = None,
    *,
    x_validation: Values | None = None,
    y_validation: Values | None = None,
    validation: int | None = None,
    seed: int = 0,
    classes: int | None = None,
    standardize: str = "global",
) -> Dataset:
    """Return a dataset of arrays, its missing parts split off ``x`` and ``y``, stratified by label.

    ``x``: (samples, *input_shape) numbers; ``y``: (samples,) integers in [0, classes). Parts that are
    given are used as they are. Of n samples a missing test part takes n // 5 and a missing validation
    part ``validation`` samples, by default n // 5 too, or n // 6 where the test part is given.
    ``seed`` draws the split. ``classes`` is by default one more than the largest label.
    ``standardize``: ``"global"``, one mean and deviation; ``"feature"``, one for each feature, where a
    constant feature is only centred; ``"none"``. Both are the training part's, in float64.

    Raises :class:`BadInput` for data that is no dataset, or that cannot be split.
    """
    where = f"dataset {name!r}"
    _check_seed(seed)
    if standardize not in STANDARDIZATIONS:
        raise unknown("standardization", str(standardize), STANDARDIZATIONS)
    train = _take(f"{where}, train part", x, y)
    test, held = None, None
    if x_test is not None or y_test is not None:
        test = _take(f"{where}, test part", x_test, y_test)
    if x_validation is not None or y_validation is not None:
        held = _take(f"{where}, validation part", x_validation, y_validation)
        if validation is not None:
            raise BadInput(f"{where}: give validation, a number to split off, or x_validation, but not both")
    labels = np.concatenate([part[1] for part in (train, held, test) if part])
    classes = _infer_classes(where, labels) if classes is None else classes
    _check_labels(where, labels, classes)
    fifth, sixth = len(train[1]) // 5, len(train[1]) // 6
    if validation is None:
        validation = sixth if test else fifth
    if not test:
        train, test = _split_off(where, train, fifth, seed)
    if not held:
        train, held = _split_off(where, train, validation, seed)
    pairs = dict(zip(PARTS, (train, held, test), strict=True))
    for part, pair in pairs.items():  # before broadcasting could hide a wrong shape
        _check_shape(f"{where}, {part} part", pair[0].shape[1:], train[0].shape[1:])
    samples = _standardized([pair[0] for pair in pairs.values()], standardize)
    tensors = {f"x_{part}": torch.from_numpy(x) for part, x in zip(PARTS, samples, strict=True)}
    tensors |= {f"y_{part}": torch.from_numpy(pair[1].astype(np.int64)) for part, pair in pairs.items()}
    return Dataset(name=name, classes=classes, **tensors)


def digits(*, seed: int = 0, standardize: str = "global") -> Dataset:
    """Return scikit-learn's 1,797 handwritten digits: samples (1, 8, 8), split 60/20/20 by ``seed``."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return from_arrays("digits", bunch.images[:, None], bunch.target, seed=seed, standardize=standardize)


def mnist1d(
    *, seed: int = 0, train: int = 4000, validation: int = 1000, test: int = 1000, standardize: str = "global"
) -> Dataset:
    """Return freshly generated MNIST-1D: samples (40,), 10 classes, exactly as many as asked for.

    ``seed`` draws the samples and the split. The generator normalises with one mean and deviation over
    all samples, test included; ``"global"`` and ``"feature"`` undo that affine map, ``"none"`` keeps it.

    Greydanus & Kobak 2024, "Scaling down deep learning with MNIST-1D", https://arxiv.org/abs/2011.14439.

    Raises :class:`BadInput` for a part with fewer samples than classes.
    """
    sizes = {"train": train, "validation": validation, "test": test}
    for part, size in sizes.items():
        if not _is_integer(size) or size < MNIST1D_CLASSES:
            raise BadInput(
                f"mnist1d: {part} must be an integer of at least {MNIST1D_CLASSES}, but got {size!r}"
            )
    _check_seed(seed)
    with _global_randomness_kept():
        from mnist1d.data import get_dataset_args, make_dataset

        arguments = get_dataset_args()
        arguments.seed = int(seed)
        # It makes equally many of each class; the few too many are left out by the first split.
        arguments.num_samples = math.ceil(sum(sizes.values()) / MNIST1D_CLASSES) * MNIST1D_CLASSES
        arguments.train_split = 1.0
        made = make_dataset(arguments)
    rest, last = _split_off("mnist1d", (made["x"], made["y"]), test, seed, keep=train + validation)
    return from_arrays("mnist1d", *rest, *last, validation=validation, seed=seed, standardize=standardize)


def idx(
    folder: str | Path,
    *,
    seed: int = 0,
    standardize: str = "global",
    validation: int | None = None,
    classes: int | None = None,
) -> Dataset:
    """Return the images of a folder of MNIST-like IDX files: samples (1, rows, columns), bytes / 255.

    The folder holds ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte`` and the same for ``t10k``,
    gzipped or not. ``validation`` training images, by default a sixth, are split off by ``seed``.

    Raises :class:`BadInput` for a missing, torn or foreign file.
    """
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise BadInput(f"dataset idx: no folder {str(path)!r}: name the one that holds the IDX files")
    images = [_read_idx(_find_idx(path, f"{part}-images", 3), 3) for part in ("train", "t10k")]
    labels = [_read_idx(_find_idx(path, f"{part}-labels", 1), 1) for part in ("train", "t10k")]
    x, x_test = (part[:, None] / np.float32(255) for part in images)
    return from_arrays(
        path.resolve().name,
        *(x, labels[0], x_test, labels[1]),
        validation=validation,
        seed=seed,
        classes=classes,
        standardize=standardize,
    )


def npz(
    file: str | Path,
    *,
    seed: int = 0,
    standardize: str = "global",
    validation: int | None = None,
    classes: int | None = None,
) -> Dataset:
    """Return the dataset in a NumPy ``.npz`` file; :func:`from_arrays` says how missing parts are split off.

    It holds ``x``, ``y``, or ``x_train``, ``y_train``, ``x_test``, ``y_test``, the latter with or without
    ``x_validation``, ``y_validation``.

    Raises :class:`BadInput` for a missing or torn file, other arrays, or arrays of Python objects.
    """
    path = Path(file).expanduser()
    if not path.is_file():
        raise BadInput(f"dataset npz: no file {str(path)!r}")
    arrays = _read_npz(path)
    split = {"x_train", "y_train", "x_test", "y_test"}
    if set(arrays) not in ({"x", "y"}, split, split | {"x_validation", "y_validation"}):
        rule = "arrays must be x, y or x_train, y_train, x_test, y_test (and x_validation, y_validation)"
        held = ", ".join(sorted(arrays)) or "nothing"
        raise BadInput(f"dataset npz: the {rule}, but {str(path)!r} holds {held}: save it with these names")
    arrays = {key.removesuffix("_train"): array for key, array in arrays.items()}
    return from_arrays(
        path.stem, **arrays, validation=validation, seed=seed, classes=classes, standardize=standardize
    )


def _is_integer(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _check_seed(seed: int) -> None:
    if not _is_integer(seed) or not 0 <= seed < 2**32:
        raise BadInput(f"a dataset's seed must be an integer in [0, 2**32), but got {seed!r}")


def _check_tensor(what: str, value: object, dtype: torch.dtype) -> None:
    if not isinstance(value, torch.Tensor) or value.dtype != dtype or value.device.type != "cpu":
        got = f"{value.dtype}, {value.device}" if isinstance(value, torch.Tensor) else type(value).__name__
        way_out = "ticketsearch.datasets.from_arrays converts arrays and tensors"
        raise BadInput(f"{what} must be a {dtype} tensor on the CPU, but got {got}: {way_out}")


def _check_shape(where: str, shape: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    if shape != wanted:
        raise BadInput(f"{where}: samples must have shape {wanted}, as in the train part, but got {shape}")


def _check_part(where: str, x: NDArray[Any], y: NDArray[Any]) -> None:
    if x.ndim < 2 or 0 in x.shape:
        raise BadInput(f"{where}: x must be (samples, *input_shape), none of them 0, but got shape {x.shape}")
    if y.shape != x.shape[:1]:
        rule = f"y must hold one label a sample, shape ({len(x)},)"
        raise BadInput(
            f"{where}: {rule}, but got {y.shape}: give y.argmax(1) if one-hot, y.ravel() if a column"
        )
    if y.dtype.kind not in "biu":
        raise BadInput(f"{where}: labels must be integers, but got dtype {y.dtype}: convert them first")
    bad = x.size - np.count_nonzero(np.abs(x) <= FLOAT32_MAX)
    if bad:
        rule = "x must be finite as float32"
        values = f"{bad} of {x.size} values are NaN, infinite or too large"
        raise BadInput(f"{where}: {rule}, but {values}: mend them or leave their samples out")


def _check_labels(where: str, y: NDArray[Any], classes: int) -> None:
    if not _is_integer(classes) or classes < 2:
        raise BadInput(f"{where}: a dataset needs at least 2 classes, but got {classes!r}")
    wrong = y[(y < 0) | (y >= classes)]
    if len(wrong):
        rule = f"labels must be 0 to {classes - 1} for {classes} classes"
        raise BadInput(f"{where}: {rule}, but got {wrong[0]}: renumber them or change classes")


def _take(where: str, x: Values | None, y: Values | None) -> Pair:
    """Return a part as checked arrays, integers as the narrowest of float32 and float64 that holds them."""
    if x is None or y is None:
        raise BadInput(f"{where}: x and y belong together, but {'x' if x is None else 'y'} is missing")
    samples, labels = _array(f"{where}: x", x), _array(f"{where}: y", y)
    samples = samples.astype(np.promote_types(samples.dtype, np.float32), copy=False)
    _check_part(where, samples, labels)
    return samples, labels


def _array(what: str, values: Values) -> NDArray[Any]:
    try:
        array = np.asarray(values.detach().cpu() if isinstance(values, torch.Tensor) else values)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{what} must be an array of numbers, but {_first_line(error)}") from error
    if array.dtype.kind not in "biuf":
        raise BadInput(f"{what} must be an array of real numbers, but got dtype {array.dtype}: convert it")
    return array


def _infer_classes(where: str, labels: NDArray[Any]) -> int:
    """Return one more than the largest label; gaps are refused: labels that count from 1 are an accident."""
    known = set(np.unique(labels).tolist())
    classes = int(max(known)) + 1
    missing = next((label for label in range(classes) if label not in known), None)
    if missing is not None and min(known) >= 0:
        rule = "labels must be 0, 1, 2 and so on without a gap"
        way_out = f"renumber them, or give classes={classes} if that is meant"
        raise BadInput(f"{where}: {rule}, but {missing} never occurs and {classes - 1} does: {way_out}")
    return classes


def _split_off(where: str, pair: Pair, size: int, seed: int, keep: int | None = None) -> tuple[Pair, Pair]:
    """Return ``keep`` samples (by default all others) and ``size`` samples, disjoint and stratified."""
    x, y = pair
    if not _is_integer(size):
        raise BadInput(f"{where}: validation must be an integer number of samples, but got {size!r}")
    kept = len(y) - size if keep is None else keep
    labels, counts = np.unique(y, return_counts=True)
    if counts.min() < 2:
        rule = "splitting needs a sample of every class for every part"
        rare = f"class {labels[counts.argmin()]} has one sample left to split in two"
        raise BadInput(f"{where}: {rule}, but {rare}: add samples, or give the parts yourself")
    if min(size, kept) < len(labels):
        rule = f"every part must have at least as many samples as there are classes ({len(labels)})"
        raise BadInput(f"{where}: {rule}, but a split is {kept} + {size}: add samples, or give other sizes")

    from sklearn.model_selection import train_test_split

    order = np.arange(len(y))
    rest, part = train_test_split(order, train_size=kept, test_size=size, stratify=y, random_state=seed)
    return (x[rest], y[rest]), (x[part], y[part])


def _standardized(parts: list[NDArray[Any]], how: str) -> list[NDArray[np.float32]]:
    """Return the parts as float32, less the first one's mean, in units of its standard deviation.

    NumPy reduces in one order whatever the number of threads, so every process gets the same bits.
    """
    mean, deviation = np.asarray(0.0), np.asarray(1.0)
    if how != "none":
        train, axis = parts[0], 0 if how == "feature" else None
        low, high = train.min(axis=axis), train.max(axis=axis)
        # Rounding leaves a constant a deviation just above 0; dividing by that would blow noise up to 1.
        constant = low == high
        mean = np.where(constant, low, train.mean(axis=axis, dtype=np.float64))
        deviation = np.where(constant, 1.0, train.std(axis=axis, dtype=np.float64))
    scaled = []
    with np.errstate(over="ignore"):  # what becomes infinite is refused by Dataset
        for part in parts:
            centred = np.subtract(part, mean, dtype=np.float64)
            centred /= deviation
            scaled.append(centred.astype(np.float32, order="C"))
    return scaled


@contextmanager
def _global_randomness_kept() -> Iterator[None]:
    """Restore the global generators, which the MNIST-1D package seeds, and keep its warnings to itself."""
    state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002 - the state to restore
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        random.setstate(state)
        np.random.set_state(numpy_state)  # noqa: NPY002


def _find_idx(folder: Path, stem: str, dimensions: int) -> Path:
    """Return the file of a folder that is named like ``train-images-idx3-ubyte``, with ``-`` or ``.``."""
    wanted = [f"{stem}{mark}idx{dimensions}-ubyte{end}" for end in ("", ".gz") for mark in "-."]
    found = next((folder / file for file in wanted if (folder / file).is_file()), None)
    if found is None:
        raise BadInput(f"dataset idx: {str(folder)!r} must hold {wanted[0]} or {wanted[2]}, but has neither")
    return found


def _read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Return the array of unsigned bytes in an IDX file, gzipped or not.

    The header is big-endian: 2 zero bytes, the type (8: unsigned byte), the number of dimensions, then
    one 4-byte size for each.
    """
    what, way_out = f"dataset idx: {str(path)!r}", "fetch the file again"
    try:
        data = path.read_bytes()
        if data.startswith(b"\x1f\x8b"):  # what is inside decides: browsers unpack without renaming
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"{what} cannot be read ({_first_line(error)}): {way_out}") from error
    magic, start = bytes((0, 0, 8, dimensions)), 4 + 4 * dimensions
    if data[:4] != magic:
        rule = f"must start with the bytes {magic.hex()} (unsigned bytes, {dimensions} dimensions)"
        raise BadInput(f"{what} {rule}, but got {data[:4].hex() or 'an empty file'}: {way_out}")
    if len(data) < start:
        raise BadInput(f"{what} must have a header of {start} bytes, but ends after {len(data)}: {way_out}")
    shape = struct.unpack(f">{dimensions}I", data[4:start])
    expected = start + math.prod(shape)
    if len(data) != expected:
        rule = f"must have {expected} bytes for its shape {shape}"
        raise BadInput(f"{what} {rule}, but got {len(data)}: {way_out}")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _read_npz(path: Path) -> dict[str, Any]:
    what, way_out = f"dataset npz: {str(path)!r}", "save arrays of numbers with numpy.savez"
    if not zipfile.is_zipfile(path):  # NumPy takes such a file for objects, and advises to load it unsafely
        raise BadInput(f"{what} is no npz file, or a torn one: {way_out}")
    try:
        with np.load(path, allow_pickle=False) as loaded:
            return dict(loaded)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise BadInput(f"{what} cannot be read ({_first_line(error)}): {way_out}") from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(".:") or type(error).__name__
