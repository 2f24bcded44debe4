"""How commands end: exit codes, and the one line that says why."""

from __future__ import annotations

import errno
import signal
import sqlite3
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import typer

from ticketsearch.errors import BadInput, printable

__all__ = [
    "BAD_INPUT",
    "INTERRUPTED",
    "fail",
    "interrupted",
    "own_fault",
    "reason",
    "resumable",
    "show_lines",
]

BAD_INPUT, INTERRUPTED = 2, 130


def fail(message: str) -> int:
    """Print what is wrong as one line on stderr; return the exit code."""
    print(f"error: {printable(' '.join(message.split()))}", file=sys.stderr)
    return BAD_INPUT


def interrupted(message: str) -> typer.Exit:
    """Print what was interrupted, and return what ends the command with the exit code of Ctrl-C."""
    # A second Ctrl-C must not cut short what says how to go on.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    print(f"\n{message}", file=sys.stderr)
    return typer.Exit(INTERRUPTED)


def reason(problem: Exception) -> str:
    """Return what the system says is wrong, and with which file."""
    if not isinstance(problem, OSError) or not problem.strerror:
        return str(problem)
    found = problem.strerror + (f" {problem.filename!r}" if problem.filename else "")
    full = problem.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return f"{found}: free space there, or move the folder to another disk" if full else found


def show_lines(lines: Iterable[str], file: TextIO | None = None) -> None:
    """Print lines, by default on stdout, with what is no printable character escaped."""
    for line in lines:
        print(printable(line), file=file)


def own_fault(problem: BaseException) -> str | None:
    """Return the one line for what a user's own code raised that is no fault of the search; None otherwise.

    That is what would end the program, such as ``sys.exit``, and any error of a data loader.
    """
    frames = [(frame.f_code, line) for frame, line in traceback.walk_tb(problem.__traceback__)]
    place = f"{frames[-1][0].co_filename!r}, line {frames[-1][1]}" if frames else "the program"
    said = " ".join(f"{type(problem).__name__}: {problem}".split())
    if not isinstance(problem, Exception):
        return (
            f"a file or function of your own would end the program ({said}, raised in {place}); "
            "put sys.exit and the like under if __name__ == '__main__'"
        )
    from ticketsearch.datasets import load_dataset

    loading = any(code is load_dataset.__code__ for code, _ in frames)
    return f"the data could not be loaded ({said}, raised in {place}); mend the loader" if loading else None


@contextmanager
def resumable(what: str, path: Path) -> Iterator[None]:
    """Whatever stops the work on the folder of a ``what``, say how to go on."""
    again = f"what was done is in {str(path)!r}: the same command goes on from there"
    try:
        yield
    except KeyboardInterrupt:
        raise interrupted(f"Interrupted; {again}") from None
    except BrokenPipeError:  # who read the tables has read enough
        raise
    except (OSError, sqlite3.Error) as problem:
        raise BadInput(f"the {what} stopped ({reason(problem)}); mend the cause; {again}") from problem
    except BadInput as problem:
        raise BadInput(f"{problem}; {again}") from problem
