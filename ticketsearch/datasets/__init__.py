"""Datasets: whole tensors in three parts, for training, for the choice of masks, and for the final test.

A dataset's name is a loader in ``__all__``, with the text after a colon as its first argument
(``idx:FOLDER``), or ``file.py:function`` for a user's loader that returns a :class:`Dataset`. Inputs are
standardized by mean and deviation of the training part. Nothing is ever downloaded.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ticketsearch import plugins as names
from ticketsearch.checks import checked
from ticketsearch.datasets.arrays import from_arrays as from_arrays
from ticketsearch.datasets.cifar import cifar10
from ticketsearch.datasets.dataset import PARTS as PARTS
from ticketsearch.datasets.dataset import Dataset as Dataset
from ticketsearch.datasets.dataset import Origin as Origin
from ticketsearch.datasets.dataset import Shaped as Shaped
from ticketsearch.datasets.idx_files import idx
from ticketsearch.datasets.libraries import digits, mnist1d, moons
from ticketsearch.datasets.npz_files import npz
from ticketsearch.datasets.standardization import check_constants as check_constants
from ticketsearch.datasets.standardization import standardize_raw as standardize_raw
from ticketsearch.datasets.text_files import csv, libsvm
from ticketsearch.errors import BadInput

# The loaders alone: users may give these names.
__all__ = ["cifar10", "csv", "digits", "idx", "libsvm", "mnist1d", "moons", "npz"]


@checked
def load_dataset(name: str, /, **options: Any) -> Dataset:
    """Return the dataset of a name.

    Parameters
    ----------
    name : a loader of this module, with its first argument after a colon, such as ``"digits"`` or
        ``"idx:FOLDER"``; or ``"file.py:function"`` for a loader of one's own.
    options : options of the loader.

    Raises :class:`BadInput` for an unknown name or option, unusable data, or a loader that takes other
    arguments, returns another type or would end the program, as by ``SystemExit``; other exceptions of a
    user's loader pass unchanged.
    """
    load = names.resolve(name, names.listed(sys.modules[__name__]), "dataset")
    names.check_options(load, options, "dataset", name)
    names.check_call(load, "dataset", name, "load(**options)", 0, options)
    dataset = names.call(load, "dataset", name, **options)
    if not isinstance(dataset, Dataset):
        got = type(dataset).__name__
        way_out = "ticketsearch.datasets.from_arrays makes one of arrays"
        raise BadInput(f"dataset {name!r}: a loader must return a Dataset, but got {got}: {way_out}")
    return dataset.loaded_from(Origin(name, dict(options), str(Path.cwd())))
