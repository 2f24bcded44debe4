"""``evolve --seeds`` and ``--sweep``: one run for each seed and value, side by side, read together."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from ticketsearch.cli import completion
from ticketsearch.cli.endings import interrupted, resumable, show_lines
from ticketsearch.cli.flags import option, whole_number
from ticketsearch.cli.folders import RUNS, run_folder
from ticketsearch.errors import BadInput, shown

if TYPE_CHECKING:
    from ticketsearch.sweeps import SweepPlan

__all__ = ["Seeds", "SweepFlags", "Sweeps", "Track", "evolve_sweep", "is_asked"]

Seeds = Annotated[
    str | None,
    option(
        "--seeds",
        "Seeds of a sweep, a run each, e.g. 0-9 or 0,3,5-7. --workers is then the number of runs side by "
        "side, by default one a core or GPU.",
        metavar="SEEDS",
    ),
]
Sweeps = Annotated[
    list[str] | None,
    option(
        "--sweep",
        "Setting and its values, a run each for each seed, e.g. evolution.temperature=0.1,0.3; values that "
        "are lists are written [[50,200],[100]]. The flag may be repeated, for all combinations.",
        metavar="NAME=VALUE,…",
        complete=completion.setting_names,
    ),
]
Track = Annotated[
    list[str] | None,
    option(
        "--track",
        "Tracker of the run's figures, which writes into its folder: tensorboard, mlflow or csv; the flag "
        "may be repeated.",
        metavar="NAME",
    ),
]
# The most seeds of a range, as many as a sweep has runs.
MOST = 10_000


def is_asked(seeds: str | None, sweeps: Sequence[str] | None, resume: str | None) -> bool:
    """Return whether the flags are those of a sweep; ``--resume`` may name one."""
    if seeds is not None or sweeps:
        return True
    if resume is None:
        return False
    from ticketsearch.runs import SWEEP

    return (run_folder(resume) / SWEEP).is_file()


class SweepFlags(NamedTuple):
    """The flags of a sweep, as they are given."""

    seeds: str | None
    sweeps: Sequence[str] | None
    name: str | None
    resume: str | None
    workers: str | None
    track: Sequence[str]
    trust: bool


def evolve_sweep(assignments: Mapping[str, Any], flags: SweepFlags, *, refused: Mapping[str, bool]) -> None:
    """Do the rest of a sweep and print its results; ``refused`` says which flags of single runs are given."""
    for flag, given in refused.items():
        if given:
            raise BadInput(f"{flag} is for a single run, but got a sweep too; leave it out, or run it alone")
    workers = None if flags.workers is None else whole_number("--workers", flags.workers, 0)
    try:
        plan, path = _planned(assignments, flags)
    except KeyboardInterrupt:
        raise interrupted("Interrupted; no run was begun") from None
    from ticketsearch.cli.following import follow
    from ticketsearch.comparison import default_workers
    from ticketsearch.experiment import trackers_of
    from ticketsearch.python import finish_sweep
    from ticketsearch.report.text import sweep_text
    from ticketsearch.sweeps import create_sweep

    trackers_of(flags.track)
    create_sweep(path, plan)
    with resumable("sweep", path):
        count = len(plan.members)
        print(f"Sweep of {count} run{'s' * (count != 1)} in {path}", file=sys.stderr, flush=True)
        sweep = finish_sweep(plan, path, workers or default_workers(plan.settings), flags.track, follow)
        show_lines(sweep_text(sweep).splitlines())
        show_lines([f"Page:   {path / 'sweep.html'}"])
        show_lines([f"Tables: {path / 'runs.csv'}, {path / 'differences.csv'}"])


def _planned(assignments: Mapping[str, Any], flags: SweepFlags) -> tuple[SweepPlan, Path]:
    """Return the plan of a sweep and its folder: those of the flags, or of the sweep to go on with."""
    from ticketsearch.runs import check_name
    from ticketsearch.settings import apply, load

    seeds = None if flags.seeds is None else parsed_seeds(flags.seeds)
    over = parsed_sweeps(flags.sweeps or [])
    if flags.resume is None:
        settings = load(None, assignments.items())
        if flags.name is not None:
            check_name(flags.name)
        from ticketsearch.sweeps import default_name, sweep_plan  # after the checks that take no time

        plan = sweep_plan(settings, [settings.seed] if seeds is None else seeds, over)
        return plan, RUNS / (default_name(plan) if flags.name is None else flags.name)
    from ticketsearch.sweeps import stored_plan, sweep_plan

    path = run_folder(flags.resume)
    stored = stored_plan(path)
    if not flags.trust:
        _check_trust(stored, path)
    settings = apply(stored.settings, assignments.items())
    return sweep_plan(settings, stored.seeds if seeds is None else seeds, over or stored.over), path


def _check_trust(plan: SweepPlan, path: Path) -> None:
    """Raise :class:`BadInput` for a stored plan that names code: it may be anybody's."""
    from ticketsearch.settings import outside

    for member in plan.members:
        for name, text in outside(member.settings).items():
            raise BadInput(
                f"files run no code, but sweep {str(path)!r} names {name} = {shown(text)}; give the command "
                "that began the sweep again, or read that code and add --trust"
            )


def parsed_seeds(text: str) -> list[int]:
    """Return the seeds of a text such as ``0-9`` or ``0,3,5-7``; raises :class:`BadInput` for any other."""
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,20})\s*(?:-\s*(\d{1,20})\s*)?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if last < first:
            raise BadInput(
                f"--seeds takes integers from 0 up and rising ranges, e.g. 0,3,5-7, but got {text!r}"
            )
        if last - first >= MOST:
            raise BadInput(
                f"--seeds takes at most {MOST:,} seeds, but got the range {part.strip()}; give fewer"
            )
        seeds += range(first, last + 1)
    return seeds


def parsed_sweeps(texts: Sequence[str]) -> dict[str, list[Any]]:
    """Return ``{dotted setting: its values}``; raises :class:`BadInput` for a malformed or repeated one."""
    from ticketsearch.settings import parse_value

    over: dict[str, list[Any]] = {}
    for text in texts:
        name, equals, values = (part.strip() for part in text.partition("="))
        if not equals or not name or not values:
            raise BadInput(
                "--sweep takes a setting and its values, e.g. evolution.temperature=0.1,0.3, but got "
                f"{shown(text)}"
            )
        if name in over:
            raise BadInput(f"--sweep takes each setting once, but got {name} twice; give its values together")
        listed = parse_value(values)
        parts = values.split(",")
        if not isinstance(listed, list) and not all(part.strip() for part in parts):
            raise BadInput(f"--sweep takes values with commas between them, but got {shown(text)}")
        over[name] = listed if isinstance(listed, list) else [parse_value(part) for part in parts]
    return over
