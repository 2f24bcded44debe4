"""The command line: it parses, shows progress, prints, and turns bad input into one line and exit code 2.

Each command is in the file of its name, but ``list`` in ``listing``, and ``show`` and ``report`` in ``runs``.
Modules that take long to import (torch, the search, pydantic) are imported by the command that needs them.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import traceback
import warnings
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from typing import Annotated

import typer

from ticketsearch.cli.audit import audit
from ticketsearch.cli.compare import compare
from ticketsearch.cli.docs import docs
from ticketsearch.cli.endings import BAD_INPUT, INTERRUPTED, fail, reason, user_code_fault
from ticketsearch.cli.evolve import evolve
from ticketsearch.cli.examples import epilog
from ticketsearch.cli.export import export
from ticketsearch.cli.flags import SettingsCommand
from ticketsearch.cli.listing import list_
from ticketsearch.cli.overlap import overlap
from ticketsearch.cli.prune import prune
from ticketsearch.cli.runs import report, show
from ticketsearch.cli.settings import settings
from ticketsearch.errors import BadInput

__all__ = ["app", "main"]

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
# Base class of typer's own errors for a bad command line; its module differs between versions.
UsageProblem: type[Exception] = typer.BadParameter.__mro__[2]


class SayStarting(MetaPathFinder):
    """Says that a command starts just before it imports torch, which takes seconds; it finds no module."""

    said = False

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        """Print the line when torch is looked for, once."""
        if fullname == "torch" and not self.said:
            self.said = True
            print("Starting …", file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0 if done, 2 for bad input (one line on stderr), 130 if interrupted."""
    if "torch" not in sys.modules:
        sys.meta_path.insert(0, SayStarting())
    warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
    try:
        code = typer.main.get_command(app).main(arguments, "ticketsearch", standalone_mode=False)
        sys.stdout.flush()
    except UsageProblem as problem:
        message = problem.format_message()  # type: ignore[attr-defined]
        code = fail(message) if message else BAD_INPUT  # without a command, typer has printed the help
    except BadInput as problem:
        code = fail(str(problem))
    except BrokenPipeError:
        code = _reader_gone()
    except (OSError, sqlite3.Error) as problem:
        code = fail(reason(problem))
    except MemoryError as problem:
        code = fail(f"out of memory {problem}; ask for fewer steps, a smaller population or a smaller model")
    except (KeyboardInterrupt, typer.Abort):
        print("Interrupted.", file=sys.stderr)
        code = INTERRUPTED
    except BaseException as problem:
        if isinstance(problem.__context__, BrokenPipeError):  # typer exits by itself
            sys.exit(_reader_gone())
        if isinstance(problem, SystemExit) and _is_completion(problem):
            raise
        line = user_code_fault(problem)
        if line is None:
            raise
        code = fail(line)
    sys.exit(code if isinstance(code, int) else 0)


def _reader_gone() -> int:
    """Return exit code 0 where the reader of the output has closed the pipe, and silence the exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 0


def _is_completion(problem: SystemExit) -> bool:
    """Return whether typer ended the program after it answered or installed the shell's completion."""
    *_, (frame, _) = traceback.walk_tb(problem.__traceback__)
    return str(frame.f_globals.get("__name__", "")).startswith(("typer.", "click."))


def _version(wanted: bool) -> None:
    if wanted:
        from importlib import metadata

        print(f"ticketsearch {metadata.version('ticketsearch')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Search for lottery tickets with a genetic algorithm over pruning masks."""


COMMANDS: tuple[Callable[..., None], ...] = (
    *(evolve, prune, audit, overlap, compare),
    *(list_, show, report, export, settings, docs),
)
for command in COMMANDS:
    name = command.__name__.rstrip("_")
    app.command(name, cls=SettingsCommand, epilog=epilog(name))(command)
