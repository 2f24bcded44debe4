"""Fixtures and checks that several test modules share."""

import atexit
import math
import os
import shutil
import signal
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

from ticketsearch.datasets import Dataset, load_dataset
from ticketsearch.errors import BadInput

# A shell that starts the tests in its background ignores Ctrl-C, and their children would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Small products on two threads that share a busy core take ten times as long.
torch.set_num_threads(1)
# Runs that tests make are signed with a key of their own, not with that of whoever runs the tests.
os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="ticketsearch-state-")
atexit.register(shutil.rmtree, os.environ["XDG_STATE_HOME"], ignore_errors=True)


# Examples of a property of which no number is given; a test that gives one gives that of the full tier.
for tier, number in (("quick", 15), ("middle", 25), ("full", 100)):
    settings.register_profile(tier, max_examples=number, deadline=None)
settings.load_profile("middle")


# Files that take longest, which begin first, so that no process is left alone with one at the end.
LONGEST = ("test_resume", "test_workers", "test_distributed", "test_contest", "test_flow", "test_canonical")

# Dear members of products, whose cheaper siblings hold the rule in the other tiers.
DEAR = frozenset(Path(__file__).with_name("full_tier.txt").read_text(encoding="utf-8").splitlines()[1:])


def pytest_collection_modifyitems(items):
    """Order the tests by file, the longest files first, and mark those of the full tier alone."""
    for item in items:
        if f"{item.path.name}::{item.nodeid.partition('::')[2]}" in DEAR:
            item.add_marker(pytest.mark.full)
    order = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(LONGEST)))


def examples(number):
    """Return how many examples of a property the tier tries, of the ``number`` that the full one tries."""
    return math.ceil(number * settings.default.max_examples / 100)


def every(full, default=None, quick=None):
    """Return all members of a product as parameters, each marked with the tiers that leave it out.

    Members beyond ``default`` run in the full tier alone (mark ``full``), the others beyond ``quick`` in all
    tiers but the quick one (mark ``slow``). Each of the two is a collection of members, a test of a member,
    or None, which is all.
    """

    def among(tier):
        return tier if callable(tier) else tier.__contains__ if tier is not None else lambda member: True

    in_default, in_quick = among(default), among(quick)
    parameters = []
    for member in full:
        marks = pytest.mark.full if not in_default(member) else () if in_quick(member) else pytest.mark.slow
        parameters.append(pytest.param(*(member if isinstance(member, tuple) else (member,)), marks=marks))
    return parameters


def refusal(call, *arguments, **options):
    """Return the message of the refusal, which must be one line."""
    with pytest.raises(BadInput) as caught:
        call(*arguments, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def refused(call, *words):
    """Check that the call is refused in one line, and that each of the words is in it."""
    message = refusal(call)
    for word in words:
        assert word in message, message


def data(*input_shape, classes=3):
    """A dataset for its shapes alone."""
    parts = {}
    for part in ("train", "validation", "test"):
        parts[f"x_{part}"] = torch.ones(classes, *input_shape)
        parts[f"y_{part}"] = torch.arange(classes)
    return Dataset(name="shapes", classes=classes, **parts)


@pytest.fixture(autouse=True)
def _interrupts_stay_as_they_were():
    """A command that was interrupted ignores further interrupts, in a test for good."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


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


@pytest.fixture(scope="session")
def small_run(tmp_path_factory):
    """The folder of a small finished run on digits, made through the command line."""
    from ticketsearch import cli

    folder = tmp_path_factory.mktemp("small_run")
    before = Path.cwd()
    os.chdir(folder)
    try:
        with pytest.raises(SystemExit) as ended:
            cli.main(
                [
                    *(
                        "evolve",
                        "--name",
                        "small",
                        "--model",
                        "mlp:12",
                        "--density",
                        "0.1",
                        "--device",
                        "cpu",
                    ),
                    *("--population", "6", "--generations", "2", "--steps", "20", "--initializations", "3"),
                    *("--set", "final.steps=30", "--set", "final.orders=3"),
                ]
            )
        assert ended.value.code == 0
    finally:
        os.chdir(before)
    return folder / "runs" / "small"
