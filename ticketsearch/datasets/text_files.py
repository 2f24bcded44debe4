"""Datasets in text files: comma-separated values, and the sparse samples of libsvm."""

from __future__ import annotations

import csv as csv_format
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ticketsearch.checks import is_integer
from ticketsearch.datasets.arrays import first_line, from_arrays, whole
from ticketsearch.datasets.dataset import Dataset, check_values
from ticketsearch.errors import BadInput, nearest, shown

__all__ = ["csv", "libsvm"]


def csv(  # noqa: PLR0913 - the documented options of a loader
    file: str | Path,
    *,
    seed: int = 0,
    standardize: str = "feature",
    validation: int | None = None,
    classes: int | None = None,
    split: str = "random",
    renumber: bool = False,
    label: str | int | None = None,
    delimiter: str = ",",
) -> Dataset:
    """Return the dataset in a file of comma-separated values: samples (features,), one line each.

    ``label`` is the column of the labels: its name in the header, its number from 0, or by default the last
    one; the other columns are the features, which are numbers. The first line is a header if it holds a text
    where the second line has a number. Labels that are texts are numbered in alphabetical order, and are the
    class names. For the other options see :func:`from_arrays`.

    Raises :class:`BadInput` for a missing file, lines of unequal length, or features that are no numbers.
    """
    path = _file("csv", file)
    what = f"dataset csv: {str(path)!r}"
    if not isinstance(delimiter, str) or len(delimiter) != 1:
        raise BadInput(f"a delimiter of csv is one character, such as ',', but got {shown(delimiter)}")
    first, second = _first_lines(what, path, delimiter)
    header = any(
        not _is_number(a) and (not second or _is_number(b)) for a, b in zip(first, second, strict=False)
    )
    column = _column(what, label, first, header)
    features = [other for other in range(len(first)) if other != column]
    if not features:
        raise BadInput(
            f"{what} must hold features beside the labels, but has one column; check the delimiter"
        )
    common: dict[str, Any] = {"delimiter": delimiter, "skiprows": int(header), "ndmin": 2}
    x = _columns(what, path, usecols=features, dtype=np.float64, **common)
    y, names = _numbered(_columns(what, path, usecols=[column], dtype=np.str_, **common)[:, 0])
    return from_arrays(
        path.stem,
        x,
        y,
        validation=validation,
        seed=seed,
        classes=classes,
        standardize=standardize,
        split=split,
        renumber=renumber,
        class_names=names if names and classes in (None, len(names)) else None,
    )


def libsvm(
    file: str | Path,
    *,
    seed: int = 0,
    standardize: str = "feature",
    validation: int | None = None,
    classes: int | None = None,
    split: str = "random",
    renumber: bool = False,
) -> Dataset:
    """Return the dataset in a file of libsvm's format, ``label index:value …``: samples (features,).

    scikit-learn reads the file; features that a line leaves out are 0. Labels −1 and 1 need ``renumber``.
    For the other options see :func:`from_arrays`.

    Raises :class:`BadInput` for a missing file, or one of another format.
    """
    path = _file("libsvm", file)
    what = f"dataset libsvm: {str(path)!r}"
    from sklearn.datasets import load_svmlight_file

    try:
        with path.open("rb") as stream:  # by its name, scikit-learn might unpack the file
            x, y = load_svmlight_file(stream)
    except Exception as error:  # scikit-learn's parser may raise anything on another format
        raise BadInput(
            f"{what} cannot be read ({first_line(error)}): each line is a label and index:value pairs"
        ) from error
    check_values(what, x.shape, "leave features out")
    return from_arrays(
        path.stem,
        x.toarray(),
        whole(y),
        validation=validation,
        seed=seed,
        classes=classes,
        standardize=standardize,
        split=split,
        renumber=renumber,
    )


def _file(kind: str, file: str | Path) -> Path:
    path = Path(file).expanduser()
    if not path.is_file():
        raise BadInput(f"dataset {kind}: no file {str(path)!r}")
    return path


def _first_lines(what: str, path: Path, delimiter: str) -> tuple[list[str], list[str]]:
    """Return the cells of the first two lines; those of a missing second line are empty."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = csv_format.reader(stream, delimiter=delimiter)
            first, second = next(rows, []), next(rows, [])
    except (OSError, ValueError, csv_format.Error) as error:
        raise _unreadable(what, error) from error
    if not first:
        raise BadInput(f"{what} must hold lines of values, but begins with an empty one; leave it out")
    return [cell.strip() for cell in first], [cell.strip() for cell in second]


def _column(what: str, label: str | int | None, first: list[str], header: bool) -> int:
    """Return the number of the labels' column."""
    if label is None:
        return len(first) - 1
    if isinstance(label, str) and header:
        if label in first:
            return first.index(label)
        raise BadInput(
            f"{what} has no column {shown(label)}{nearest(label, first)}: its columns are "
            f"{shown(', '.join(first))}"
        )
    if not is_integer(label) or not 0 <= int(label) < len(first):
        rule = f"a column's number from 0 to {len(first) - 1}" + (" or its name" if header else "")
        raise BadInput(f"{what}: label must be {rule}, but got {shown(label)}")
    return int(label)


def _columns(what: str, path: Path, **options: Any) -> NDArray[Any]:
    """Return columns (lines, columns) of the file."""
    try:
        with path.open(encoding="utf-8-sig") as stream:
            columns: NDArray[Any] = np.loadtxt(stream, comments=None, quotechar='"', **options)
            return columns
    except (OSError, ValueError) as error:
        raise _unreadable(what, error) from error


def _unreadable(what: str, error: Exception) -> BadInput:
    return BadInput(
        f"{what} cannot be read ({first_line(error)}): lines hold numbers, as many each, and one label"
    )


def _numbered(labels: NDArray[np.str_]) -> tuple[NDArray[Any], list[str]]:
    """Return whole labels as integers, and texts by their number in alphabetical order, with these texts."""
    try:
        return whole(labels.astype(np.float64)), []
    except ValueError:
        names, numbers = np.unique(np.char.strip(labels), return_inverse=True)
        return numbers, names.tolist()


def _is_number(text: str) -> bool:
    try:
        return not math.isnan(float(text)) or text.lower().lstrip("+-") == "nan"
    except ValueError:
        return False
