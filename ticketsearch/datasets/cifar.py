"""CIFAR-10 from the official archives, binary or python version, unpacked or not."""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ticketsearch.datasets.arrays import Pair, first_line, from_arrays
from ticketsearch.datasets.dataset import Dataset
from ticketsearch.datasets.opcodes import Call, Name, as_text, plain_values
from ticketsearch.errors import BadInput

__all__ = ["cifar10"]

CLASSES = 10
SHAPE = (3, 32, 32)
PIXELS = 3 * 32 * 32
BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
# Folder, archive and ending of the batches' names, of the binary and of the python version.
VERSIONS = (
    ("cifar-10-batches-bin", "cifar-10-binary.tar.gz", ".bin"),
    ("cifar-10-batches-py", "cifar-10-python.tar.gz", ""),
)
# Limits of a batch and of all; the official batches have 31 MB each and 178 MB together.
BATCH_BYTES, ARCHIVE_BYTES = 2**26, 2**28
# Names that a pickled array mentions; the function moved in NumPy 2.
RECONSTRUCT = ("numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct")
CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
NAMES = (*RECONSTRUCT, "numpy ndarray", "numpy dtype")


def cifar10(
    folder: str | Path, *, seed: int = 0, standardize: str = "channel", validation: int | None = None
) -> Dataset:
    """Return CIFAR-10's colour photographs of 10 classes: samples (3, 32, 32), bytes / 255.

    The channels are red, green and blue. The folder holds the official batches of the binary version
    (``data_batch_1.bin`` to ``data_batch_5.bin``, ``test_batch.bin``) or of the python version (the same
    without ``.bin``), or the archive's folder ``cifar-10-batches-bin`` or ``cifar-10-batches-py``, or the
    archive ``cifar-10-binary.tar.gz`` or ``cifar-10-python.tar.gz``; the first of these is read. The python
    version is read without running the code that it names. ``seed`` splits ``validation`` images (by default
    a sixth) off the 50,000 training images; the 10,000 images of the test batch are the test part.

    Krizhevsky 2009, "Learning multiple layers of features from tiny images", technical report, University
    of Toronto; https://www.cs.toronto.edu/~kriz/cifar.html.

    Raises :class:`BadInput` for a missing, torn or foreign file.
    """
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise BadInput(f"dataset cifar10: no folder {str(path)!r}: name the one that holds the batches")
    place, ending = _find(path)
    batches = _read_batches(place, ending)
    _check_sizes(place, {name: len(labels) for name, (_, labels) in batches.items()})
    *train, test = batches.values()
    return from_arrays(
        "cifar10",
        *(_images(np.concatenate([pixels for pixels, _ in train])), np.concatenate([y for _, y in train])),
        *(_images(test[0]), test[1]),
        validation=validation,
        seed=seed,
        classes=CLASSES,
        standardize=standardize,
        divisor=255.0,
        class_names=CLASS_NAMES,
    )


def _images(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (images, 3, 32, 32) of (images, 3072) bytes: channel by channel, row by row."""
    return pixels.reshape(-1, *SHAPE)


def _find(folder: Path) -> tuple[Path, str]:
    """Return the folder or archive that holds a version's batches, and the ending of their names."""
    unpacked = [(folder, ending) for *_, ending in VERSIONS]
    unpacked += [(folder / inner, ending) for inner, _, ending in VERSIONS]
    for place, ending in unpacked:
        if any((place / f"{batch}{ending}").is_file() for batch in BATCHES):
            return place, ending
    for _, archive, ending in VERSIONS:
        if (folder / archive).is_file():
            return folder / archive, ending
    rule = "must hold data_batch_1.bin, data_batch_1, or the archive " + " or ".join(v[1] for v in VERSIONS)
    way_out = "fetch one from https://www.cs.toronto.edu/~kriz/cifar.html"
    raise BadInput(f"dataset cifar10: {str(folder)!r} {rule}, but has none of them: {way_out}")


def _read_batches(place: Path, ending: str) -> dict[str, Pair]:
    """Return pixels (images, 3072) and labels (images,) of each batch, the test batch last."""
    names = [f"{batch}{ending}" for batch in BATCHES]
    contents = _unpacked(place, names) if place.is_file() else _in_folder(place, names)
    missing = next((name for name in names if name not in contents), None)
    if missing is not None:
        raise _bad(place, f"must hold {', '.join(names)}", f"{missing} is missing")
    read = _binary_batch if ending else _python_batch
    return {name: read(place / name, contents[name]) for name in names}


def _in_folder(folder: Path, names: Collection[str]) -> dict[str, bytes]:
    contents = {}
    for path in (folder / name for name in names if (folder / name).is_file()):
        try:
            with path.open("rb") as file:
                contents[path.name] = _whole(path, file)
        except OSError as error:
            raise _bad(path, "must be readable", first_line(error)) from error
    return contents


def _unpacked(archive: Path, names: Collection[str]) -> dict[str, bytes]:
    """Return the files of these names in a gzipped archive."""
    contents = {}
    try:
        with (
            gzip.open(archive) as unpacked,
            _Bounded(archive, unpacked) as stream,
            tarfile.open(fileobj=stream, mode="r:") as members,
        ):
            for member in members:
                name = PurePosixPath(member.name).name
                if name in names and member.isfile() and (file := members.extractfile(member)):
                    contents[name] = _whole(archive / name, file)
            while stream.read(2**20):  # to the end of the file, where the checksum is
                pass
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise _bad(archive, "must be a whole gzipped archive", first_line(error)) from error
    return contents


class _Bounded(io.RawIOBase):
    """An unpacked archive that refuses reads beyond the size of CIFAR-10's, and reads of larger pieces."""

    def __init__(self, archive: Path, stream: gzip.GzipFile) -> None:
        self.archive, self.stream = archive, stream

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes."""
        self._check(size, self.stream.tell() + size)
        return self.stream.read(size)

    def tell(self) -> int:
        """Return the position in the unpacked archive."""
        return self.stream.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position; the bytes before it are unpacked in pieces."""
        self._check(0, offset)
        return self.stream.seek(offset, whence)

    def seekable(self) -> bool:
        """Whether the position can be set: always."""
        return True

    def _check(self, size: int, end: int) -> None:
        if not 0 <= size <= BATCH_BYTES or end > ARCHIVE_BYTES:
            rule = f"must unpack to at most {ARCHIVE_BYTES:,} bytes, and {BATCH_BYTES:,} a file"
            raise _bad(self.archive, rule, "is larger")


def _whole(path: Path, file: IO[bytes]) -> bytes:
    """Return a batch's bytes; raises :class:`BadInput` for a batch much larger than CIFAR-10's."""
    content = bytearray()
    while piece := file.read(2**20):
        content += piece
        if len(content) > BATCH_BYTES:
            raise _bad(path, f"must have at most {BATCH_BYTES:,} bytes", "is larger")
    return bytes(content)


def _binary_batch(path: Path, content: bytes) -> Pair:
    """Return the pixels and labels of records of 1 + 3072 bytes."""
    size = 1 + PIXELS
    if not content or len(content) % size:
        rule = f"must have a multiple of {size} bytes, a label and {PIXELS} pixels for each image"
        raise _bad(path, rule, f"got {len(content)}")
    records = np.frombuffer(content, np.uint8).reshape(-1, size)
    return records[:, 1:], _checked_labels(path, records[:, 0].tolist())


def _python_batch(path: Path, content: bytes) -> Pair:
    """Return the pixels and labels of a pickled dictionary of ``data`` and ``labels``."""
    try:
        batch = plain_values(content, names=NAMES)
    except ValueError as error:
        raise _bad(path, "must be a batch of the python version", first_line(error)) from error
    rule = "must hold a dictionary of data and labels"
    if not isinstance(batch, dict):
        raise _bad(path, rule, f"holds {_kind(batch)}")
    for key in ("data", "labels"):
        if key not in batch:
            raise _bad(path, rule, f"{key} is missing")
    pixels = _pixels(path, batch["data"])
    labels = batch["labels"]
    if not isinstance(labels, list) or len(labels) != len(pixels):
        got = len(labels) if isinstance(labels, list) else _kind(labels)
        raise _bad(path, f"must have a list of {len(pixels)} labels, one an image", f"got {got}")
    return pixels, _checked_labels(path, labels)


def _pixels(path: Path, data: object) -> NDArray[np.uint8]:
    """Return the (images, 3072) bytes of the array that a call of NumPy would make."""
    rule = f"must have data of shape (images, {PIXELS}) and type uint8"
    match data:
        case Call(
            function=function,
            arguments=(Name(text="numpy ndarray"), *_),
            state=(
                1,
                (int(rows), int(columns)),
                Call(function="numpy dtype", arguments=(kind, *_)),
                bool(by_columns),
                bytes(raw),
            ),
        ) if function in RECONSTRUCT:
            if columns != PIXELS or rows < 1 or as_text(kind) != "u1":
                raise _bad(path, rule, f"got shape ({rows}, {columns}) and type {as_text(kind)[:8]!r}")
            if len(raw) != rows * columns:
                raise _bad(path, rule, f"got {len(raw)} bytes for shape ({rows}, {columns})")
            return np.frombuffer(raw, np.uint8).reshape(rows, columns, order="F" if by_columns else "C")
    raise _bad(path, rule, f"got {_kind(data)}")


def _checked_labels(path: Path, labels: Sequence[Any]) -> NDArray[np.int64]:
    for image, label in enumerate(labels):
        if type(label) is not int or not 0 <= label < CLASSES:
            got = label if type(label) is int else _kind(label)
            raise _bad(path, f"must have labels from 0 to {CLASSES - 1}", f"got {got} for image {image}")
    return np.array(labels, np.int64)


def _check_sizes(place: Path, sizes: dict[str, int]) -> None:
    """Raise :class:`BadInput` for batches of unequal sizes, as of a binary one cut between two images."""
    first, wanted = next(iter(sizes.items()))
    for name, size in sizes.items():
        if size != wanted:
            got = f"{name} has {size} and {first} {wanted}"
            raise _bad(place, "must hold batches of equally many images", got)


def _kind(value: object) -> str:
    return "another array or object" if isinstance(value, Call) else f"a {type(value).__name__}"


def _bad(path: Path, rule: str, got: str) -> BadInput:
    return BadInput(f"dataset cifar10: {str(path)!r} {rule}, but {got}: fetch the official archive again")
