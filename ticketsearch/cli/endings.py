"""Ends of commands: exit codes, and the one line that gives the reason."""

from __future__ import annotations

import errno
import gc
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
    "reason",
    "resumable",
    "show_lines",
    "stop_garbage_collection",
    "user_code_fault",
]

BAD_INPUT, INTERRUPTED = 2, 130


def fail(message: str) -> int:
    """Print an error message as one line on stderr; return the exit code of bad input."""
    print(f"error: {printable(' '.join(message.split()))}", file=sys.stderr)
    return BAD_INPUT


def interrupted(message: str) -> typer.Exit:
    """Print a message after Ctrl-C; return the exception that ends the command with its exit code."""
    # A second Ctrl-C must not cut the message short: it says how to go on.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    print(f"\n{message}", file=sys.stderr)
    return typer.Exit(INTERRUPTED)


def reason(problem: Exception) -> str:
    """Return the system's message of an error and the name of the file; for a full disk, a way out too."""
    if not isinstance(problem, OSError) or not problem.strerror:
        return str(problem)
    message = problem.strerror + (f" {problem.filename!r}" if problem.filename else "")
    full = problem.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return f"{message}: free space there, or move the folder to another disk" if full else message


def show_lines(lines: Iterable[str], file: TextIO | None = None) -> None:
    """Print lines, by default on stdout, with control characters escaped."""
    for line in lines:
        print(printable(line), file=file)


def stop_garbage_collection() -> None:
    """Stop the garbage collector, as a command that reads runs and ends makes few cycles."""
    gc.disable()


def user_code_fault(problem: BaseException) -> str | None:
    """Return one line for an exception of the user's own code that would hide its cause; None for others.

    These are exceptions that would end the program, such as ``sys.exit``, and any error of a data loader.
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
    """Say how to go on with a study, named ``what``, in a folder, whatever stops the work on it."""
    again = f"finished work is in {str(path)!r}: the same command goes on from there"
    try:
        yield
    except KeyboardInterrupt:
        raise interrupted(f"Interrupted; {again}") from None
    except BrokenPipeError:  # the reader of the tables has closed the pipe
        raise
    except (OSError, sqlite3.Error) as problem:
        raise BadInput(f"the {what} stopped ({reason(problem)}); mend the cause; {again}") from problem
    except BadInput as problem:
        raise BadInput(f"{problem}; {again}") from problem
