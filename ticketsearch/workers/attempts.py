"""One task in a worker process: what it raises comes back as a value, and it can be told to stop."""

from __future__ import annotations

import copy
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from joblib.externals.loky.backend.reduction import dumps

from ticketsearch.errors import BadInput

__all__ = ["DEATHS", "Failure", "attempt", "check_stopped", "fatal", "one_line", "result_of", "stoppable"]

# Workers that one task may take down.
DEATHS = 3

# Building networks and switching torch's deterministic algorithms are no work for several threads at once.
_ONE_AT_A_TIME = threading.Lock()

_stopped: ContextVar[Callable[[], bool]] = ContextVar("stopped", default=lambda: False)


@dataclass(frozen=True)
class Failure:
    """What a task raised; as a value it crosses every backend unchanged."""

    error: Exception


def attempt(function: Callable[[Any], Any], task: Any) -> Any:
    """Return what the function returns for a task, or the :class:`Failure` of it; one at a time a process.

    For worker processes: torch computes on one thread, as workers are one a core.
    """
    with _ONE_AT_A_TIME:
        torch.set_num_threads(1)
        try:
            check_stopped()
            return function(task)
        except BaseException as error:
            return Failure(_portable(error))


def result_of(found: Any) -> Any:
    """Return what :func:`attempt` brought back, or raise what the task raised."""
    if isinstance(found, Failure):
        raise found.error
    return found


def fatal(reason: str, deaths: int = DEATHS) -> BadInput:
    """Return the error for a task that no worker survived."""
    return BadInput(
        f"the task of a worker that dies is run again elsewhere, but one took down {deaths} workers "
        f"({reason}); if they lack memory, take fewer workers, fewer masks at once or a smaller network"
    )


def check_stopped() -> None:
    """Raise :class:`InterruptedError` where nobody waits for the running task any more.

    A task calls it between its steps: a thread, or a process of a cluster, cannot be stopped from outside.
    """
    if _stopped.get()():
        raise InterruptedError("another task failed, or the search was interrupted")


@contextmanager
def stoppable(stopped: Callable[[], bool]) -> Iterator[None]:
    """Let :func:`check_stopped` ask ``stopped`` inside the block."""
    token = _stopped.set(stopped)
    try:
        yield
    finally:
        _stopped.reset(token)


def one_line(error: BaseException) -> str:
    """Return the kind of an error and what it says."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def _portable(error: BaseException) -> Exception:
    """Return the error, or one that says the same if it cannot be sent; the traceback is a note of it."""
    lines = traceback.format_exception(error)
    try:
        # A copy is made as the receiver makes its own, which fails for some errors with several arguments.
        dumps(copy.copy(error))
        found = error if isinstance(error, Exception) else None
    except Exception:
        found = None
    found = found or RuntimeError(one_line(error))
    found.add_note(f"In a worker:\n{''.join(lines).rstrip()}")
    return found
