"""The environment that a result was made in: versions, commit, system and command line."""

from __future__ import annotations

import platform
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

__all__ = ["checkout_commit", "environment"]

PACKAGES = ("ticketsearch", "torch", "numpy", "deap", "networkx", "scipy", "scikit-learn", "joblib")
# The folder that holds the package: a checkout, or site-packages.
ROOT = Path(__file__).resolve().parents[2]
# Seconds that Git may take, so that a slow disk delays no search.
PATIENCE = 5.0


def environment() -> dict[str, str]:
    """Return versions, system and command line of this process and, from a checkout, the commit."""
    commit = checkout_commit(ROOT)
    return {
        **{package: version(package) for package in PACKAGES},
        **({"commit": commit} if commit else {}),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "command": _command(sys.argv),
    }


def _command(arguments: list[str]) -> str:
    """Return the command line of the shell's program, or the name of the Python script."""
    program = Path(arguments[0]).name if arguments else ""
    if program in ("ticketsearch", "__main__.py"):
        return shlex.join(["ticketsearch", *arguments[1:]])
    return f"ticketsearch in {program if program.endswith('.py') else 'Python'}"


def checkout_commit(root: Path) -> str:
    """Return the commit of a checkout, with ``-dirty`` if tracked files differ from it, or an empty text.

    A package installed into an environment that lies inside somebody's repository is no checkout: ``root``
    itself must be the working tree.
    """
    if not (root / ".git").exists():
        return ""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE, check=True, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError):  # no Git, somebody else's folder, or no commit yet
        return ""
    return done.stdout.strip()
