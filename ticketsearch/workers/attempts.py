"""One task in a worker process: its error comes back as a value, and it can be told to stop."""

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

# Number of workers that may die of one task.
DEATHS = 3

# Threads must not build networks or switch torch's deterministic algorithms at the same time.
_ONE_AT_A_TIME = threading.Lock()

_stopped: ContextVar[Callable[[], bool]] = ContextVar("stopped", default=lambda: False)


@dataclass(frozen=True)
class Failure:
    """The error of a task; as a value it crosses every backend unchanged."""

    error: Exception


def attempt(function: Callable[[Any], Any], task: Any) -> Any:
    """Return the function's result for a task, or its :class:`Failure`; one task at a time in a process.

    In worker processes torch computes on one thread, since there is one worker for each core.
    """
    with _ONE_AT_A_TIME:
        torch.set_num_threads(1)
        try:
            check_stopped()
            return function(task)
        except BaseException as error:
            return Failure(_portable(error))


def result_of(attempted: Any) -> Any:
    """Return the result of :func:`attempt`, or raise the task's error."""
    if isinstance(attempted, Failure):
        raise attempted.error
    return attempted


def fatal(reason: str, deaths: int = DEATHS) -> BadInput:
    """Return the error for a task that no worker survived."""
    return BadInput(
        f"a task whose worker dies is run again elsewhere, but {deaths} workers died of one task ({reason}); "
        "if they lack memory, take fewer workers, fewer masks at once or a smaller network"
    )


def check_stopped() -> None:
    """Raise :class:`InterruptedError` if the result of the running task is no longer needed.

    A task calls it between its steps: a thread, or a process of a cluster, cannot be stopped from outside.
    """
    if _stopped.get()():
        raise InterruptedError("another task failed, or the search was interrupted")


@contextmanager
def stoppable(stopped: Callable[[], bool]) -> Iterator[None]:
    """Make :func:`check_stopped` call ``stopped`` inside the block."""
    token = _stopped.set(stopped)
    try:
        yield
    finally:
        _stopped.reset(token)


def one_line(error: BaseException) -> str:
    """Return the type of an error and its message on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def _portable(error: BaseException) -> Exception:
    """Return the error, or one with the same message if it cannot be sent; a note holds the traceback."""
    lines = traceback.format_exception(error)
    try:
        # Copying does what the receiver will do, which fails for some errors with several arguments.
        dumps(copy.copy(error))
        portable = error if isinstance(error, Exception) else None
    except Exception:
        portable = None
    portable = portable or RuntimeError(one_line(error))
    portable.add_note(f"In a worker:\n{''.join(lines).rstrip()}")
    return portable
