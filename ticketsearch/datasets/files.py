"""Datasets in files: the IDX files of MNIST and its likes, and NumPy's npz."""

from __future__ import annotations

import gzip
import math
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ticketsearch.datasets.arrays import first_line, from_arrays
from ticketsearch.datasets.dataset import Dataset
from ticketsearch.errors import BadInput

__all__ = ["idx", "npz"]


def idx(
    folder: str | Path,
    *,
    seed: int = 0,
    standardize: str = "global",
    validation: int | None = None,
    classes: int | None = None,
    split: str = "random",
) -> Dataset:
    """Return the images of a folder of MNIST-like IDX files: samples (1, rows, columns), bytes / 255.

    The folder holds ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte`` and the same for ``t10k``,
    gzipped or not. ``validation`` training images, by default a sixth, are split off by ``seed``, or,
    with ``split="last"``, are the last ones: see :func:`from_arrays`.

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
        split=split,
    )


def npz(
    file: str | Path,
    *,
    seed: int = 0,
    standardize: str = "global",
    validation: int | None = None,
    classes: int | None = None,
    split: str = "random",
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
    parts = {"x_train", "y_train", "x_test", "y_test"}
    if set(arrays) not in ({"x", "y"}, parts, parts | {"x_validation", "y_validation"}):
        rule = "arrays must be x, y or x_train, y_train, x_test, y_test (and x_validation, y_validation)"
        held = ", ".join(sorted(arrays)) or "nothing"
        raise BadInput(f"dataset npz: the {rule}, but {str(path)!r} holds {held}: save it with these names")
    arrays = {key.removesuffix("_train"): array for key, array in arrays.items()}
    more: dict[str, Any] = {"classes": classes, "standardize": standardize, "split": split}
    return from_arrays(path.stem, **arrays, validation=validation, seed=seed, **more)


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
        raise BadInput(f"{what} cannot be read ({first_line(error)}): {way_out}") from error
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
        raise BadInput(f"{what} cannot be read ({first_line(error)}): {way_out}") from error
