"""Datasets in IDX files, the format of MNIST."""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ticketsearch.checks import is_integer
from ticketsearch.datasets.arrays import first_line, from_arrays, whole
from ticketsearch.datasets.dataset import Dataset, check_counts, check_values
from ticketsearch.errors import BadInput, shown

__all__ = ["idx"]

# Element types by their code in the header; all are big-endian.
TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
# Such as train-images-idx3-ubyte, emnist-letters-test-labels.idx1-ubyte.gz, qmnist-test-labels-idx2-int.gz.
NAME = re.compile(r"(?P<prefix>.*?)(?P<part>train|t10k|test)[-.](?P<kind>images|labels)[-.]idx\d+-\w+(\.gz)?")
FETCH = "fetch the file again"


class Header(NamedTuple):
    """Header of an IDX file: its element type, its shape, and the offset of its values in bytes."""

    path: Path
    type: np.dtype[Any]
    shape: tuple[int, ...]
    start: int


def idx(  # noqa: PLR0913 - the documented options of a loader
    folder: str | Path,
    *,
    seed: int = 0,
    standardize: str = "global",
    validation: int | None = None,
    classes: int | None = None,
    split: str = "random",
    renumber: bool = False,
    label: int | None = None,
    prefix: str | None = None,
) -> Dataset:
    """Return the dataset in a folder of MNIST-like IDX files.

    The folder holds ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte`` and the same for ``t10k``,
    gzipped or not; or files named as EMNIST's and QMNIST's are, with ``test`` for ``t10k`` and a ``prefix``
    such as ``"emnist-letters-"``, which is needed where the folder holds several sets. Images
    (samples, rows, columns) become (samples, 1, rows, columns), samples of other dimensions stay as they are;
    bytes are divided by 255. Values may be of any type of the format.

    ``seed`` splits off ``validation`` training images, by default a sixth; for ``split``, ``classes``,
    ``standardize`` and ``renumber`` see :func:`from_arrays`. ``label`` is the column of the labels where a
    file holds several, such as 0 for QMNIST's (samples, 8).

    Raises :class:`BadInput` for a missing, torn or foreign file.
    """
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise BadInput(f"dataset idx: no folder {str(path)!r}: name the one that holds the IDX files")
    files = _find(path, prefix)
    headers = {key: _header(file) for key, file in files.items()}
    for part in ("train", "test"):  # before anything is unpacked
        images, labels = headers[part, "images"], headers[part, "labels"]
        for header in (images, labels):
            check_values(f"dataset idx: {str(header.path)!r}", header.shape, FETCH)
        check_counts(f"dataset {path.resolve().name!r}, {part} part", images.shape, labels.shape[:1])
    read: dict[str, Any] = {}
    whole_bytes = all(headers[part, "images"].type == np.uint8 for part in ("train", "test"))
    for (part, kind), header in headers.items():
        ending = "_test" if part == "test" else ""
        values = _values(header)
        if kind == "images" and not whole_bytes:
            values = values / np.float32(255) if values.dtype == np.uint8 else values
        read[f"{kind[0]}{ending}"] = _labels(header, values, label) if kind == "labels" else _images(values)
    return from_arrays(
        path.resolve().name,
        *(read["i"], read["l"], read["i_test"], read["l_test"]),
        validation=validation,
        seed=seed,
        classes=classes,
        standardize=standardize,
        split=split,
        renumber=renumber,
        divisor=255.0 if whole_bytes else 1.0,
    )


def _images(values: NDArray[Any]) -> NDArray[Any]:
    """Return samples: images with an axis of channels."""
    return values[:, None] if values.ndim == 3 else values


def _labels(header: Header, values: NDArray[Any], label: int | None) -> NDArray[Any]:
    """Return the labels (samples,): one of several columns, whole floats as integers."""
    what = f"dataset idx: {str(header.path)!r}"
    if values.ndim > 1:
        columns = values.reshape(len(values), -1)
        if label is None and columns.shape[1] > 1:
            raise BadInput(
                f"{what} must hold one label a sample, but holds {columns.shape[1]} values for each; give the"
                " option label, the column of the class, which is label=0 for QMNIST"
            )
        column = 0 if label is None else label
        if not is_integer(column) or not 0 <= column < columns.shape[1]:
            raise BadInput(
                f"{what} has columns 0 to {columns.shape[1] - 1}, but got label={shown(column)}; give one"
            )
        values = columns[:, column]
    elif label not in (None, 0):
        raise BadInput(f"{what} holds one label a sample, but got label={shown(label)}; leave it out")
    return whole(values)


def _find(folder: Path, prefix: str | None) -> dict[tuple[str, str], Path]:
    """Return the files by part and kind, labels first: bad ones are then refused before images are read."""
    sets: dict[str, dict[tuple[str, str], Path]] = {}
    for file in sorted(folder.iterdir(), reverse=True):  # an unpacked file replaces its gzipped one
        if (match := NAME.fullmatch(file.name)) and file.is_file():
            part = "train" if match["part"] == "train" else "test"
            sets.setdefault(match["prefix"], {})[part, match["kind"]] = file
    if prefix is None and "" not in sets and len(sets) > 1:
        names = ", ".join(repr(name) for name in sorted(sets))
        raise BadInput(
            f"dataset idx: {str(folder)!r} must hold one set of IDX files, but holds {len(sets)}; give the "
            f"option prefix, one of {names}"
        )
    chosen = prefix if prefix is not None else "" if "" in sets or not sets else next(iter(sets))
    files = sets.get(chosen, {})
    wanted = {}
    for kind, dimensions in (("labels", 1), ("images", 3)):
        for part, short in (("train", "train"), ("test", "t10k")):
            name = f"{chosen}{short}-{kind}-idx{dimensions}-ubyte"
            if (part, kind) not in files:
                raise BadInput(
                    f"dataset idx: {str(folder)!r} must hold {name} or {name}.gz, but has neither; put it "
                    "there, or name the folder that holds it"
                )
            wanted[part, kind] = files[part, kind]
    return wanted


def _open(path: Path) -> Any:
    """Open a file; it is unpacked if its first bytes are those of gzip, whatever its name."""
    file = path.open("rb")
    if file.read(2) != b"\x1f\x8b":
        file.seek(0)
        return file
    file.close()
    return gzip.open(path, "rb")


def _header(path: Path) -> Header:
    """Read the header alone: 2 zero bytes, the type, the number of dimensions, a 4-byte size for each."""
    what = f"dataset idx: {str(path)!r}"
    try:
        with _open(path) as file:
            magic = file.read(4)
            dimensions = magic[3] if len(magic) == 4 else 0
            sizes = file.read(4 * dimensions)
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"{what} cannot be read ({first_line(error)}): {FETCH}") from error
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in TYPES or not dimensions:
        known = ", ".join(f"{code:02x}" for code in TYPES)
        rule = f"must start with two zero bytes, a type ({known}) and its number of dimensions"
        raise BadInput(f"{what} {rule}, but got {magic.hex() or 'an empty file'}: {FETCH}")
    start = 4 + 4 * dimensions
    if len(sizes) < 4 * dimensions:
        raise BadInput(
            f"{what} must have a header of {start} bytes, but ends after {4 + len(sizes)}: {FETCH}"
        )
    return Header(path, np.dtype(TYPES[magic[2]]), struct.unpack(f">{dimensions}I", sizes), start)


def _values(header: Header) -> NDArray[Any]:
    """Read as many bytes as the header promises, and one more to see that there is none."""
    what = f"dataset idx: {str(header.path)!r}"
    size = math.prod(header.shape) * header.type.itemsize
    values = np.empty(size, np.uint8)
    count = 0
    try:
        with _open(header.path) as file:
            file.read(header.start)
            while count < size and (more := file.readinto(values[count : count + 2**24])):
                count += more
            more = len(file.read(1))
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"{what} cannot be read ({first_line(error)}): {FETCH}") from error
    if count + more != size:
        rule = f"must have {header.start + size} bytes for its shape {header.shape}"
        got = f"{header.start + count + more}{' or more' if more else ''}"
        raise BadInput(f"{what} {rule}, but got {got}: {FETCH}")
    return values.view(header.type).reshape(header.shape)
