"""The type of a dataset, six tensors, and checks of its parts that arrays must pass as well."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from ticketsearch.checks import is_integer, real_array
from ticketsearch.datasets.standardization import check_constants, standardize_raw
from ticketsearch.errors import BadInput, shown, unknown

__all__ = [
    "PARTS",
    "Dataset",
    "Origin",
    "Shaped",
    "check_counts",
    "check_labels",
    "check_part",
    "check_shape",
    "check_values",
]

PARTS = ("train", "validation", "test")
# Most numbers in one array of a file: 4 GiB as float32.
MAX_VALUES = 2**30
FLOAT32_MAX = float(np.finfo(np.float32).max)


class Origin(NamedTuple):
    """How a dataset was loaded: the name, its options, and the folder that relative paths are relative to."""

    name: str
    options: Mapping[str, Any]
    folder: str


@runtime_checkable
class Shaped(Protocol):
    """Anything with an input shape and a number of classes, such as a dataset: enough to build a network."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""

    @property
    def classes(self) -> int:
        """Number of classes."""


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Samples and labels of the three parts, as whole tensors on the CPU.

    Each ``x`` is ``(samples, *input_shape)`` float32 and finite, each ``y`` ``(samples,)`` int64 in
    [0, classes). :func:`from_arrays` makes a dataset of arrays and splits and standardizes them. ``origin``
    tells how the dataset was loaded, None where it was made in memory. ``mean`` and ``deviation`` are the
    constants of the standardization, float64 arrays that broadcast to ``input_shape``: the tensors hold (raw
    sample / divisor - mean) / deviation, where ``divisor`` is 255 for images of bytes. ``class_names`` name
    the classes in the order of their labels, None where they are numbers alone.

    Raises :class:`BadInput` for other tensors, naming the part, and for constants or names that do not fit.
    """

    name: str
    x_train: torch.Tensor
    y_train: torch.Tensor
    x_validation: torch.Tensor
    y_validation: torch.Tensor
    x_test: torch.Tensor
    y_test: torch.Tensor
    classes: int
    mean: NDArray[np.float64] = field(default_factory=lambda: np.zeros(()), kw_only=True)
    deviation: NDArray[np.float64] = field(default_factory=lambda: np.ones(()), kw_only=True)
    divisor: float = field(default=1.0, kw_only=True)
    class_names: tuple[str, ...] | None = field(default=None, kw_only=True)
    origin: Origin | None = field(default=None, init=False)  # so that replace() forgets it

    def __post_init__(self) -> None:
        for part in PARTS:
            where = f"dataset {self.name!r}, {part} part"
            x, y = getattr(self, f"x_{part}"), getattr(self, f"y_{part}")
            _check_tensor(f"{where}: x", x, torch.float32)
            _check_tensor(f"{where}: y", y, torch.int64)
            check_part(where, x.detach().numpy(), y.numpy())
            check_shape(where, tuple(x.shape[1:]), self.input_shape)
            check_labels(where, y.numpy(), self.classes)
        self._check_constants()

    def _check_constants(self) -> None:
        where = f"dataset {self.name!r}"
        for name in ("mean", "deviation"):
            constant = real_array(f"{where}: {name}", getattr(self, name)).astype(np.float64)
            object.__setattr__(self, name, constant)
        check_constants(where, self.input_shape, self.mean, self.deviation, self.divisor)
        names = self.class_names
        if names is None:
            return
        texts = isinstance(names, tuple | list) and all(isinstance(name, str) for name in names)
        if not texts or len(names) != self.classes:
            raise BadInput(
                f"{where}: class_names must be one text for each of the {self.classes} classes, but got "
                f"{shown(names)}"
            )

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

    def part(self, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Return samples and labels of a part, ``train``, ``validation`` or ``test``.

        Raises :class:`BadInput` for another name.
        """
        if name not in PARTS:
            raise unknown("part", name, PARTS)
        return getattr(self, f"x_{name}"), getattr(self, f"y_{name}")

    def standardize(self, x: ArrayLike | torch.Tensor) -> torch.Tensor:
        """Return raw samples ``(samples, *input_shape)`` as this dataset holds them, float32, to the bit.

        Raw samples are numbers as the loader read them, such as pixels from 0 to 255 in IDX files, and from 0
        to 16 in digits. Raises :class:`BadInput` for samples of another shape, or that are not finite.
        """
        return standardize_raw(
            x,
            input_shape=self.input_shape,
            mean=self.mean,
            deviation=self.deviation,
            divisor=self.divisor,
        )

    def check_fits(self, network: Shaped) -> None:
        """Raise :class:`BadInput` for a network of another input shape or number of classes."""
        if self.input_shape != network.input_shape or self.classes != network.classes:
            raise BadInput(
                f"the network takes {network.input_shape} and {network.classes} classes, but dataset "
                f"{self.name!r} has {self.input_shape} and {self.classes}; initialize the network for it"
            )

    @cached_property
    def fingerprint(self) -> str:
        """Digest of all six tensors, equal exactly for the same data in the same order and split."""
        digest = hashlib.blake2b(digest_size=16)
        for part in PARTS:
            for tensor in (getattr(self, f"x_{part}"), getattr(self, f"y_{part}")):
                digest.update(repr(tuple(tensor.shape)).encode())
                digest.update(tensor.detach().contiguous().numpy().data)
        return digest.hexdigest()

    def loaded_from(self, origin: Origin) -> Dataset:
        """Return the same tensors with this origin."""
        same = copy.copy(self)
        object.__setattr__(same, "origin", origin)  # replace() would check every sample again
        return same


def check_part(where: str, x: NDArray[Any], y: NDArray[Any]) -> None:
    """Raise :class:`BadInput` unless ``x`` and ``y`` are finite samples and their integer labels."""
    check_counts(where, x.shape, y.shape)
    if y.dtype.kind not in "biu":
        raise BadInput(f"{where}: labels must be integers, but got dtype {y.dtype}: convert them first")
    bad = x.size - np.count_nonzero(np.abs(x) <= FLOAT32_MAX)
    if bad:
        rule = "x must be finite as float32"
        values = f"{bad} of {x.size} values are NaN, infinite or too large"
        raise BadInput(f"{where}: {rule}, but {values}: mend them or leave their samples out")


def check_counts(where: str, x: tuple[int, ...], y: tuple[int, ...]) -> None:
    """Raise :class:`BadInput` unless these are the shapes of samples and of their labels."""
    if len(x) < 2 or 0 in x:
        raise BadInput(f"{where}: x must be (samples, *input_shape), none of them 0, but got shape {x}")
    if y != x[:1]:
        rule = f"y must hold one label a sample, shape ({x[0]},)"
        raise BadInput(f"{where}: {rule}, but got {y}: give y.argmax(1) if one-hot, y.ravel() if a column")


def check_values(what: str, shape: tuple[int, ...], way_out: str) -> None:
    """Raise :class:`BadInput` for more values than MAX_VALUES, as data are held in memory."""
    if math.prod(shape) > MAX_VALUES:
        rule = f"must hold at most {MAX_VALUES:,} numbers, as data are held whole"
        raise BadInput(f"{what} {rule}, but got {math.prod(shape):,} for its shape {shape}: {way_out}")


def check_labels(where: str, y: NDArray[Any], classes: int) -> None:
    """Raise :class:`BadInput` for fewer than 2 classes, or a label outside of 0 to classes - 1."""
    if not is_integer(classes) or classes < 2:
        raise BadInput(f"{where}: a dataset needs at least 2 classes, but got {classes!r}")
    wrong = y[(y < 0) | (y >= classes)]
    if len(wrong):
        rule = f"labels must be 0 to {classes - 1} for {classes} classes"
        way_out = "renumber them or change classes; renumber=True of from_arrays and loaders does it"
        raise BadInput(f"{where}: {rule}, but got {wrong[0]}: {way_out}")


def check_shape(where: str, shape: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    """Raise :class:`BadInput` for samples of another shape than the training part's."""
    if shape != wanted:
        raise BadInput(f"{where}: samples must have shape {wanted}, as in the train part, but got {shape}")


def _check_tensor(what: str, value: object, dtype: torch.dtype) -> None:
    if not isinstance(value, torch.Tensor) or value.dtype != dtype or value.device.type != "cpu":
        got = f"{value.dtype}, {value.device}" if isinstance(value, torch.Tensor) else type(value).__name__
        way_out = "ticketsearch.datasets.from_arrays converts arrays and tensors"
        raise BadInput(f"{what} must be a {dtype} tensor on the CPU, but got {got}: {way_out}")
