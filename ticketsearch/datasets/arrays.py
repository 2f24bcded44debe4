"""Datasets of arrays: missing parts are split off, stratified by label, and all parts are standardized."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from ticketsearch.checks import check, checked, is_integer, real_array
from ticketsearch.datasets.dataset import PARTS, Dataset, check_labels, check_part, check_shape
from ticketsearch.datasets.standardization import check_divisor, standardized
from ticketsearch.errors import BadInput, unknown

__all__ = ["check_seed", "first_line", "from_arrays", "split_off", "whole"]

STANDARDIZATIONS = ("channel", "feature", "global", "none", "range")
# How missing parts are split off.
SPLITS = ("last", "random")
# Standardization "range" maps features to [-RANGE, RANGE], as searches for strong tickets do.
RANGE = 0.7

Values = ArrayLike | torch.Tensor
Pair = tuple[NDArray[Any], NDArray[Any]]  # samples (samples, *input_shape) and labels (samples,)


@checked
def from_arrays(  # noqa: PLR0913 - the documented interface to data of one's own
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
    split: str = "random",
    renumber: bool = False,
    divisor: float = 1.0,
    class_names: tuple[str, ...] | list[str] | None = None,
) -> Dataset:
    """Return a dataset of arrays; missing validation and test parts are split off ``x`` and ``y``.

    Parameters
    ----------
    name : name of the dataset.
    x, y : ``(samples, *input_shape)`` numbers, and ``(samples,)`` integers in [0, classes).
    x_test, y_test : test part; a missing one takes n // 5 of the n samples.
    x_validation, y_validation : validation part; a missing one takes ``validation`` samples.
    validation : by default n // 5, or n // 6 where the test part is given.
    seed : seed of the split, which is stratified by label.
    classes : number of classes, by default one more than the largest label.
    standardize : ``"global"``, one mean and deviation; ``"channel"``, one for each index of a sample's first
        axis; ``"feature"``, one for each feature; ``"range"``, each feature from its smallest and largest
        value to [-0.7, 0.7]; ``"none"``. Constant values are only centred. Mean and deviation are those of
        the training part, in float64.
    split : ``"random"``, or ``"last"`` for the last samples, for data whose order groups samples: the last of
        MNIST's training images have higher losses than images drawn from among all of them.
    renumber : number the labels that occur 0, 1, … in ascending order, such as EMNIST's letters, which count
        from 1, or -1 and 1. The labels as they were become the class names.
    divisor : all samples are divided by it first, in float32, such as by 255 for bytes.
    class_names : names of the classes in the order of their labels.

    Raises :class:`BadInput` for data that are no dataset, or that cannot be split.
    """
    where = f"dataset {name!r}"
    _check_options(name, seed, standardize, split)
    check_divisor(where, divisor)
    train = _checked_part(f"{where}, train part", x, y)
    test = _optional_part(f"{where}, test part", x_test, y_test)
    held = _optional_part(f"{where}, validation part", x_validation, y_validation)
    if held and validation is not None:
        raise BadInput(f"{where}: give validation, a number to split off, or x_validation, but not both")
    if renumber:
        known, (train, held, test) = _renumbered([train, held, test])
        if class_names is None and classes in (None, len(known)):
            class_names = [str(label) for label in known]
    labels = np.concatenate([part[1] for part in (train, held, test) if part])
    classes = _infer_classes(where, labels) if classes is None else classes
    check_labels(where, labels, classes)
    parts = _completed(where, train, held, test, validation, None if split == "last" else seed)
    return _dataset(name, classes, parts, standardize, divisor, class_names)


def _completed(
    where: str, train: Pair, held: Pair | None, test: Pair | None, validation: int | None, seed: int | None
) -> tuple[Pair, Pair, Pair]:
    """Return the training, validation and test part; missing ones are split off the training part."""
    fifth, sixth = len(train[1]) // 5, len(train[1]) // 6
    if validation is None:
        validation = sixth if test else fifth
    if not test:
        train, test = split_off(where, train, fifth, seed)
    if not held:
        train, held = split_off(where, train, validation, seed)
    return train, held, test


def _check_options(name: object, seed: int, standardize: str, split: str) -> None:
    check("name", name, str)
    check_seed(seed)
    if standardize not in STANDARDIZATIONS:
        raise unknown("standardization", str(standardize), STANDARDIZATIONS)
    if split not in SPLITS:
        raise unknown("split", str(split), SPLITS)


def split_off(
    where: str, pair: Pair, size: int, seed: int | None, keep: int | None = None
) -> tuple[Pair, Pair]:
    """Return ``keep`` samples (by default all others) and ``size`` samples, disjoint.

    With a seed they are drawn, stratified by label; without one (None) they are the first and the last ones.
    Raises :class:`BadInput` where a part would have no sample of some class.
    """
    x, y = pair
    if not is_integer(size):
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
    if seed is None:
        first, last = (x[:kept], y[:kept]), (x[len(y) - size :], y[len(y) - size :])
        for _, part_labels in (first, last):
            if len(missing := np.setdiff1d(labels, part_labels)):
                raise BadInput(
                    f"{where}: every part must have samples of every class, but of the first {kept} and the "
                    f"last {size} samples one part has none of class {missing[0]}; leave split='last' out "
                    "where samples are sorted by class"
                )
        return first, last

    from sklearn.model_selection import train_test_split

    order = np.arange(len(y))
    rest, part = train_test_split(order, train_size=kept, test_size=size, stratify=y, random_state=seed)
    return (x[rest], y[rest]), (x[part], y[part])


def check_seed(seed: int) -> None:
    """Raise :class:`BadInput` unless the seed is one that scikit-learn takes: an integer in [0, 2**32)."""
    if not is_integer(seed) or not 0 <= seed < 2**32:
        raise BadInput(f"a dataset's seed must be an integer in [0, 2**32), but got {seed!r}")


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, to be quoted inside another message."""
    return str(error).partition("\n")[0].rstrip(".:") or type(error).__name__


def whole(labels: NDArray[Any]) -> NDArray[Any]:
    """Return whole labels that are stored as floats as integers, and any others as they are."""
    with np.errstate(invalid="ignore"):
        rounded = labels.astype(np.int64)
    same = labels.dtype.kind == "f" and bool((rounded == labels).all())
    return rounded if same else labels


def _checked_part(where: str, x: Values | None, y: Values | None) -> Pair:
    """Return a part as checked arrays; samples are float32, or float64 where float32 does not hold them."""
    if x is None or y is None:
        raise BadInput(f"{where}: x and y belong together, but {'x' if x is None else 'y'} is missing")
    samples, labels = real_array(f"{where}: x", x), real_array(f"{where}: y", y)
    samples = samples.astype(np.promote_types(samples.dtype, np.float32), copy=False)
    check_part(where, samples, labels)
    return samples, labels


def _optional_part(where: str, x: Values | None, y: Values | None) -> Pair | None:
    return None if x is None and y is None else _checked_part(where, x, y)


def _renumbered(parts: Sequence[Any]) -> tuple[list[int], list[Any]]:
    """Return the labels that occur, and the parts, each a pair or None, with labels numbered 0, 1, …"""
    known = np.unique(np.concatenate([labels for _, labels in filter(None, parts)]))
    return known.tolist(), [part and (part[0], np.searchsorted(known, part[1])) for part in parts]


def _dataset(
    name: str,
    classes: int,
    pairs: Sequence[Pair],
    standardize: str,
    divisor: float,
    class_names: tuple[str, ...] | list[str] | None,
) -> Dataset:
    """Return the dataset of three parts, standardized."""
    shape = pairs[0][0].shape[1:]
    for part, (samples, _) in zip(PARTS, pairs, strict=True):  # before broadcasting could hide a wrong shape
        check_shape(f"dataset {name!r}, {part} part", samples.shape[1:], shape)
    if divisor != 1:
        pairs = [(np.divide(x, np.float32(divisor), dtype=np.float32), y) for x, y in pairs]
    mean, deviation = _constants(pairs[0][0], standardize)
    tensors = {}
    for part, (samples, labels) in zip(PARTS, pairs, strict=True):
        tensors[f"x_{part}"] = torch.from_numpy(standardized(samples, mean, deviation))
        tensors[f"y_{part}"] = torch.from_numpy(labels.astype(np.int64))
    return Dataset(
        name=name,
        classes=classes,
        **tensors,
        mean=mean,
        deviation=deviation,
        divisor=divisor,
        class_names=tuple(class_names) if isinstance(class_names, list) else class_names,
    )


def _infer_classes(where: str, labels: NDArray[Any]) -> int:
    """Return one more than the largest label; raises :class:`BadInput` for gaps, as of labels from 1 on."""
    known = set(np.unique(labels).tolist())
    classes = int(max(known)) + 1
    missing = next((label for label in range(classes) if label not in known), None)
    if missing is not None and min(known) >= 0:
        rule = "labels must be 0, 1, 2 and so on without a gap"
        way_out = f"renumber them, or give classes={classes} if that is meant; renumber=True does it"
        raise BadInput(f"{where}: {rule}, but {missing} never occurs and {classes - 1} does: {way_out}")
    return classes


def _constants(train: NDArray[Any], how: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and deviation of training samples, which broadcast to the shape of a sample.

    For ``"range"`` the middle of the values replaces the mean, and their half width over ``RANGE`` the
    deviation. NumPy reduces in one order whatever the number of threads, so every process gets the same bits.
    """
    if how == "none":
        return np.zeros(()), np.ones(())
    axis = {"global": None, "channel": (0, *range(2, train.ndim)), "feature": 0, "range": 0}[how]
    low, high = train.min(axis=axis, keepdims=True), train.max(axis=axis, keepdims=True)
    # Rounding leaves a constant a deviation just above 0; dividing by that would blow noise up to 1.
    constant = low == high
    if how == "range":
        low, high = low.astype(np.float64), high.astype(np.float64)
        mean, deviation = (low + high) / 2, (high - low) / (2 * RANGE)
    else:
        mean = train.mean(axis=axis, dtype=np.float64, keepdims=True)
        deviation = train.std(axis=axis, dtype=np.float64, keepdims=True)
    return np.where(constant, low, mean)[0], np.where(constant, 1.0, deviation)[0]
