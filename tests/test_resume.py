"""A search that is killed, interrupted or out of disk ends, resumed, in the content of one that was not."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import every
from safetensors import safe_open

from ticketsearch.report import text
from ticketsearch.runs import Run

SMALL = (
    *("--model", "mlp:24,12", "--density", "0.1", "--population", "8", "--generations", "5", "--steps", "60"),
    *("--initializations", "4", "--device", "cpu", "--set", "final.steps=120", "--set", "final.orders=2"),
    *("--set", "evolution.mutation=swap_mutation,path_mutation"),
)
pytestmark = pytest.mark.slow


def command(*arguments):
    return [sys.executable, "-m", "ticketsearch", *arguments]


def environment(hash_seed="0"):
    return {**os.environ, "PYTHONHASHSEED": hash_seed, "OMP_NUM_THREADS": "1"}


def ticketsearch(folder, *arguments, hash_seed="0", **options):
    done = subprocess.run(
        command(*arguments),
        cwd=folder,
        env=environment(hash_seed),
        capture_output=True,
        text=True,
        check=False,
        **options,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def content(folder, name):
    with Run.open(Path(folder) / "runs" / name) as run:
        first, *rest = text.content(run)
    assert first == f"run {name}"
    return rest


def stop_when(folder, name, condition, how, *arguments):
    """Start the search and send it the signal ``how`` once ``condition(run folder)`` holds."""
    process = subprocess.Popen(
        command("evolve", *arguments), cwd=folder, env=environment(), stderr=subprocess.PIPE, text=True
    )
    path = Path(folder) / "runs" / name
    deadline = time.monotonic() + 60
    with process:
        try:
            while not condition(path):
                assert process.poll() is None, f"it ended before it could be stopped: {process.stderr.read()}"
                assert time.monotonic() < deadline
                time.sleep(0.002)
            process.send_signal(how)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    return process.returncode, errors


def reached(number):
    def condition(path):
        if not (path / "run.sqlite").exists():
            return False
        with Run.open(path) as run:
            return run.progress() >= number

    return condition


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder with the run ``whole`` that nobody interrupts."""
    folder = tmp_path_factory.mktemp("whole")
    done = ticketsearch(folder, "evolve", *SMALL, "--name", "whole")
    assert done.returncode == 0, done.stderr
    return folder


INTERRUPTED = ((1, signal.SIGINT), (5, signal.SIGKILL))
KILLED = tuple((last, signal.SIGKILL) for last in (None, 0, 2, 3, 5))


@pytest.mark.parametrize("stops", every([(INTERRUPTED,), (KILLED,)], default=[(INTERRUPTED,)]))
def test_interrupted_and_killed_again_and_again_a_run_ends_in_the_same_content(whole, stops, tmp_path):
    """Stopped once its folder is there (None), and after each of these generations: 5 is the last."""
    arguments = (*SMALL, "--name", "killed")
    for last, how in stops:
        condition = (lambda path: path.exists()) if last is None else reached(last)
        code, errors = stop_when(tmp_path, "killed", condition, how, *arguments)
        if how == signal.SIGINT:
            assert code == 130
            assert "go on with: ticketsearch evolve --resume killed" in errors
            assert "Traceback" not in errors
        else:
            assert code == -how
        arguments = ("--resume", "killed")
    with Run.open(tmp_path / "runs" / "killed") as run:
        assert run.progress() == 5
        assert not run.finished  # the last kill came during the final training
    done = ticketsearch(tmp_path, "evolve", "--resume", "killed", hash_seed="77")
    assert done.returncode == 0, done.stderr
    assert "best ticket" in done.stdout
    assert content(tmp_path, "killed") == content(whole, "whole")
    tickets = sorted(path.name for path in (tmp_path / "runs" / "killed" / "tickets").iterdir())
    assert tickets == sorted(path.name for path in (whole / "runs" / "whole" / "tickets").iterdir())
    for name in tickets:
        ours, theirs = (
            (f / "runs" / n / "tickets" / name) for f, n in ((tmp_path, "killed"), (whole, "whole"))
        )
        # The order of the metadata is the writer's; what they say and the tensors are the run's.
        with safe_open(ours, "np") as a, safe_open(theirs, "np") as b:
            assert a.metadata() == b.metadata()
            assert {k: a.get_tensor(k).tobytes() for k in a.keys()} == {  # noqa: SIM118 - no dict
                k: b.get_tensor(k).tobytes()
                for k in b.keys()  # noqa: SIM118 - no dict
            }


@pytest.mark.full
def test_two_processes_with_other_hash_seeds_give_the_same_content(whole, tmp_path):
    script = "print(hash('ticket'))"
    hashes = {
        subprocess.run(
            [sys.executable, "-c", script], env=environment(s), capture_output=True, check=True
        ).stdout
        for s in ("0", "123")
    }
    assert len(hashes) == 2
    done = ticketsearch(tmp_path, "evolve", *SMALL, "--name", "other", hash_seed="123")
    assert done.returncode == 0, done.stderr
    assert content(tmp_path, "other") == content(whole, "whole")


@pytest.mark.full
def test_the_settings_of_a_run_fed_back_give_the_same_run_with_more_workers_too(whole, tmp_path):
    settings = whole / "runs" / "whole" / "settings.toml"
    done = ticketsearch(tmp_path, "evolve", str(settings), "--name", "again", "--set", "training.workers=2")
    assert done.returncode == 0, done.stderr
    assert content(tmp_path, "again") == content(whole, "whole")


@pytest.mark.full
def test_a_full_disk_loses_nothing_that_was_committed(whole, tmp_path):
    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))

    done = ticketsearch(tmp_path, "evolve", *SMALL, "--name", "full", preexec_fn=small_files)
    assert done.returncode == 2, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert "--resume" in errors[0]
    with Run.open(tmp_path / "runs" / "full") as run:
        assert not run.finished
        for generation in run.generations():
            assert len(generation.population) == 8
    assert ticketsearch(tmp_path, "evolve", "--resume", "full").returncode == 0
    assert content(tmp_path, "full") == content(whole, "whole")


@pytest.mark.full
@pytest.mark.parametrize("asked", [False, True])
def test_more_generations_extend_a_finished_run(whole, asked, tmp_path):
    """Also one that was asked again, in vain, in between."""
    short = [
        ("3" if a == "5" and b == "--generations" else a) for a, b in zip(SMALL, ("", *SMALL), strict=False)
    ]
    assert ticketsearch(tmp_path, "evolve", *short, "--name", "short").returncode == 0
    assert content(tmp_path, "short") != content(whole, "whole")
    if asked:
        again = ticketsearch(tmp_path, "evolve", "--resume", "short")
        assert again.returncode == 0
        assert "best ticket" in again.stdout
        assert "generation" not in again.stderr
        refused = ticketsearch(tmp_path, "evolve", "--resume", "short", "--steps", "61")
        assert refused.returncode == 2
        assert "training.steps is 60 in 'short' and 61 here" in refused.stderr
    extended = ticketsearch(tmp_path, "evolve", "--resume", "short", "--generations", "5")
    assert extended.returncode == 0, extended.stderr
    assert content(tmp_path, "short") == content(whole, "whole")
    if asked:
        assert ticketsearch(tmp_path, "evolve", "--resume", "short", "--generations", "2").returncode == 2
