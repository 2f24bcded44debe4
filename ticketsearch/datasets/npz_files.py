"""Datasets in NumPy's npz files."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from ticketsearch.datasets.arrays import first_line, from_arrays
from ticketsearch.datasets.dataset import Dataset, check_counts, check_values
from ticketsearch.errors import BadInput

__all__ = ["npz"]

WAY_OUT = "save arrays of numbers with numpy.savez"
PARTS = {"x_train", "y_train", "x_test", "y_test"}
SETS = ({"x", "y"}, PARTS, PARTS | {"x_validation", "y_validation"})


class _RefusedError(Exception):
    """An array that is not read, with the reason."""


class Header(NamedTuple):
    """Header of an array in an npz file."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def npz(
    file: str | Path,
    *,
    seed: int = 0,
    standardize: str = "global",
    validation: int | None = None,
    classes: int | None = None,
    split: str = "random",
    renumber: bool = False,
) -> Dataset:
    """Return the dataset in a NumPy ``.npz`` file; for the options see :func:`from_arrays`.

    The file holds ``x``, ``y``, or ``x_train``, ``y_train``, ``x_test``, ``y_test``, the latter with or
    without ``x_validation``, ``y_validation``.

    Raises :class:`BadInput` for a missing or torn file, other arrays, or arrays of Python objects.
    """
    path = Path(file).expanduser()
    if not path.is_file():
        raise BadInput(f"dataset npz: no file {str(path)!r}")
    arrays = {key.removesuffix("_train"): array for key, array in _read(path).items()}
    more: dict[str, Any] = {"classes": classes, "standardize": standardize, "split": split}
    return from_arrays(path.stem, **arrays, validation=validation, seed=seed, renumber=renumber, **more)


def _read(path: Path) -> dict[str, Any]:
    what = f"dataset npz: {str(path)!r}"
    if not zipfile.is_zipfile(path):  # NumPy takes such a file for objects, and advises an unsafe way
        raise BadInput(f"{what} is no npz file, or a torn one: {WAY_OUT}")
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            if set(members) not in SETS:
                rule = (
                    "arrays must be x, y or x_train, y_train, x_test, y_test (and x_validation, y_validation)"
                )
                held = ", ".join(sorted(members)) or "nothing"
                raise BadInput(
                    f"dataset npz: the {rule}, but {str(path)!r} holds {held[:200]}: save it with these names"
                )
            headers = {name: _header(archive, info) for name, info in members.items()}
            _check(what, path.stem, headers)
        with np.load(path, allow_pickle=False) as loaded:
            return {name: loaded[name] for name in sorted(members, reverse=True)}  # labels first
    except BadInput:
        raise
    except Exception as error:  # zipfile, its decompressors and NumPy may raise anything on a foreign file
        raise BadInput(f"{what} cannot be read ({first_line(error)}): {WAY_OUT}") from error


def _check(what: str, name: str, headers: dict[str, Header]) -> None:
    """Raise :class:`BadInput` for arrays of unfit shapes, by their headers, before any is unpacked."""
    for key, header in headers.items():
        check_values(f"{what}, array {key}", header.shape, WAY_OUT)
        if key.startswith("x"):
            labels = headers[key.replace("x", "y", 1)]
            part = key.partition("_")[2] or "train"
            check_counts(f"dataset {name!r}, {part} part", header.shape, labels.shape)


def _header(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Header:
    """Return an array's header, after a check that it and the archive's directory tell the same size."""
    with archive.open(info) as member:
        header = _npy_header(member)
        promised = member.tell() + math.prod(header.shape) * header.dtype.itemsize
    if header.dtype.hasobject:
        raise _RefusedError(f"Object arrays cannot be loaded, but {info.filename} is one")
    if promised != info.file_size:
        raise _RefusedError(f"{info.filename} must have {promised} bytes, but has {info.file_size}")
    return header


def _npy_header(member: IO[bytes]) -> Header:
    version = np.lib.format.read_magic(member)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in read:
        raise _RefusedError(f"its arrays must be of version 1.0 or 2.0, but one is of {version}")
    shape, _, dtype = read[version](member)
    return Header(shape, dtype)
