"""Fixtures that several test modules share."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ticketsearch.datasets import Dataset, load_dataset


@pytest.fixture(scope="session")
def shared():
    """The folder of reference values beside the repository; a test that needs it skips where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("no ../shared here")
    return folder


@pytest.fixture(scope="session")
def digits():
    return load_dataset("digits")


@pytest.fixture(scope="session")
def tiny():
    """A learnable dataset: 61, 45 and 33 samples of 7 features in 3 classes. All sizes are odd."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, 7))
    parts = {}
    for part, size in (("train", 61), ("validation", 45), ("test", 33)):
        y = rng.permutation(np.arange(size) % 3)
        x = centres[y] + rng.normal(scale=0.7, size=(size, 7))
        parts[f"x_{part}"] = torch.from_numpy(x.astype(np.float32))
        parts[f"y_{part}"] = torch.from_numpy(y)
    return Dataset(name="tiny", classes=3, **parts)
