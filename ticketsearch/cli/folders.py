"""The folders of runs, as names at the shell."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ticketsearch.runs import Run

__all__ = ["RUNS", "run_folder", "shell_name"]

RUNS = Path("runs")


def run_folder(run: str) -> Path:
    """Return the folder of a run or sweep that is given by name or path; runs of sweeps are ``SWEEP/RUN``."""
    path = Path(run)
    is_path = len(path.parts) > 1 or (path / "run.sqlite").is_file()
    inside = (RUNS / run / "run.sqlite").is_file() and not path.exists()
    return RUNS / run if inside or not is_path else path


def shell_name(run: Run) -> str:
    """Return the name of a run at the shell: its name, or its path outside runs/."""
    return run.name if run.path.parent == RUNS else str(run.path)
