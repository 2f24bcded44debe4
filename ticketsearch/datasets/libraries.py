"""Datasets of other libraries: scikit-learn's digits and moons, and generated MNIST-1D."""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from ticketsearch.checks import is_integer
from ticketsearch.datasets.arrays import check_seed, from_arrays, split_off
from ticketsearch.datasets.dataset import Dataset
from ticketsearch.errors import BadInput

__all__ = ["digits", "mnist1d", "moons"]

MNIST1D_CLASSES = 10


def digits(*, seed: int = 0, standardize: str = "global") -> Dataset:
    """Return scikit-learn's 1,797 handwritten digits: samples (1, 8, 8), split 60/20/20 by ``seed``."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return from_arrays("digits", bunch.images[:, None], bunch.target, seed=seed, standardize=standardize)


def mnist1d(
    *, seed: int = 0, train: int = 4000, validation: int = 1000, test: int = 1000, standardize: str = "global"
) -> Dataset:
    """Return newly generated MNIST-1D: samples (40,), 10 classes, parts of exactly the given sizes.

    ``seed`` draws the samples and the split. The generator normalizes with one mean and deviation over
    all samples, test included; ``"global"`` and ``"feature"`` undo that affine map, ``"none"`` keeps it.

    Greydanus & Kobak 2024, "Scaling down deep learning with MNIST-1D", https://arxiv.org/abs/2011.14439.

    Raises :class:`BadInput` for a part with fewer samples than classes.
    """
    sizes = {"train": train, "validation": validation, "test": test}
    for part, size in sizes.items():
        if not is_integer(size) or size < MNIST1D_CLASSES:
            raise BadInput(
                f"mnist1d: {part} must be an integer of at least {MNIST1D_CLASSES}, but got {size!r}"
            )
    check_seed(seed)
    with _global_randomness_kept():
        from mnist1d.data import get_dataset_args, make_dataset

        arguments = get_dataset_args()
        arguments.seed = int(seed)
        # The generator makes equally many samples of each class; the first split leaves surplus ones out.
        arguments.num_samples = math.ceil(sum(sizes.values()) / MNIST1D_CLASSES) * MNIST1D_CLASSES
        arguments.train_split = 1.0
        made = make_dataset(arguments)
    rest, last = split_off("mnist1d", (made["x"], made["y"]), test, seed, keep=train + validation)
    return from_arrays("mnist1d", *rest, *last, validation=validation, seed=seed, standardize=standardize)


def moons(
    *,
    seed: int = 0,
    train: int = 50_000,
    validation: int = 10_000,
    test: int = 16_000,
    noise: float = 0.07,
    standardize: str = "global",
) -> Dataset:
    """Return scikit-learn's two interleaved half circles: samples (2,), 2 classes, drawn by ``seed``.

    ``noise`` is the deviation of the normal noise on both coordinates.

    Raises :class:`BadInput` for a part with fewer samples than classes, or noise that is negative.
    """
    check_seed(seed)
    for part, size in {"train": train, "validation": validation, "test": test}.items():
        if not is_integer(size) or size < 2:
            raise BadInput(f"moons: {part} must be an integer of at least 2, but got {size!r}")
    if not 0 <= noise < math.inf:
        raise BadInput(f"moons: noise must be a deviation >= 0 and finite, but got {noise!r}")
    from sklearn.datasets import make_moons

    made = make_moons(train + validation + test, noise=noise, random_state=seed)
    rest, last = split_off("moons", made, test, seed)
    return from_arrays("moons", *rest, *last, validation=validation, seed=seed, standardize=standardize)


@contextmanager
def _global_randomness_kept() -> Iterator[None]:
    """Restore the global random generators, which the MNIST-1D package seeds, and silence its warnings."""
    state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002 - the state to restore
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        random.setstate(state)
        np.random.set_state(numpy_state)  # noqa: NPY002
