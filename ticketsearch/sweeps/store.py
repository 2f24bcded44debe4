"""The folder of a sweep: ``sweep.json``, its plan, beside a folder for each run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ticketsearch import settings as config
from ticketsearch.errors import BadInput, shown
from ticketsearch.runs import SWEEP
from ticketsearch.storage import refuse_links, write_atomically
from ticketsearch.sweeps.plan import MOST, SweepPlan

__all__ = ["create_sweep", "default_name", "is_sweep", "stored_plan"]

Seed = Annotated[int, Field(ge=0, lt=2**64)]


class _Stored(BaseModel):
    """The content of ``sweep.json``."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    version: Literal[1] = 1
    settings: dict[str, Any]
    seeds: list[Seed] = Field(min_length=1, max_length=MOST)
    over: dict[str, Annotated[list[Any], Field(min_length=1, max_length=MOST)]]


def is_sweep(path: Path) -> bool:
    """Return whether a folder is that of a sweep."""
    return (path / SWEEP).is_file()


def default_name(plan: SweepPlan) -> str:
    """Return the name of a sweep's folder: its settings, data, model and a digest of all other settings.

    More seeds, values or generations do not change it: the sweep goes on in its folder.
    """
    varied = [name.rpartition(".")[2] for name in plan.over] or ["seeds"]
    names = [
        Path(name.partition(":")[0]).stem for name in (plan.settings.data.name, plan.settings.model.name)
    ]
    words = [re.sub(r"[^A-Za-z0-9_]+", "-", word)[:20] for word in ["sweep", *varied[:3], *names]]
    return "-".join([*words, config.settings_digest(plan.settings)[:8]])


def create_sweep(path: Path, plan: SweepPlan) -> None:
    """Make the folder of a plan, or go on with it; more seeds, values and generations are added to it.

    Raises :class:`BadInput` for the folder of another sweep or of something else.
    """
    if is_sweep(path):
        _refuse_changes(path, stored_plan(path), plan)
    elif path.exists() and not _is_empty(path):
        kind = "a run" if (path / "run.sqlite").exists() else "not a sweep"
        raise BadInput(f"{str(path)!r} exists already and is {kind}; choose another --name")
    path.mkdir(parents=True, exist_ok=True)
    refuse_links(path, [SWEEP])
    content = _Stored(
        settings=plan.settings.model_dump(),
        seeds=list(plan.seeds),
        over={name: list(values) for name, values in plan.over.items()},
    )
    write_atomically(path / SWEEP, content.model_dump_json(indent=2) + "\n")


def stored_plan(path: Path) -> SweepPlan:
    """Return the plan of the sweep in a folder; no code that it names is run.

    Raises :class:`BadInput` for a folder without a sweep, and for a file that is not as it was written.
    """
    file = path / SWEEP
    refuse_links(path, [SWEEP])
    try:
        content = _Stored.model_validate(json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise BadInput(f"{str(path)!r} is no sweep: it has no {SWEEP}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise BadInput(f"{str(file)!r} is damaged: {where}: {first['msg']}") from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{str(file)!r} is damaged: it is no JSON") from error
    try:
        settings = config.stored(content.settings)
        plan = SweepPlan(settings, tuple(content.seeds), {k: tuple(v) for k, v in content.over.items()})
        _ = plan.members  # all their settings are valid
    except BadInput as error:
        raise BadInput(f"{str(file)!r} is damaged: {error}") from error
    return plan


def _is_empty(path: Path) -> bool:
    """Return whether a folder is empty; a killed process may have left a hidden file."""
    return path.is_dir() and all(entry.name.startswith(".") for entry in path.iterdir())


def _refuse_changes(path: Path, old: SweepPlan, new: SweepPlan) -> None:
    """Raise :class:`BadInput` unless the new plan has all runs of the old one."""
    differs = config.changes(old.settings, new.settings)
    had, wanted = differs.pop("evolution.generations", (0, 0))
    if wanted < had:
        differs["evolution.generations"] = had, wanted
    for name, values in {**differs, **_changes_of_values(old, new)}.items():
        raise BadInput(
            f"a sweep goes on with its own settings, but {name} is {shown(values[0])} in {str(path)!r} and "
            f"{shown(values[1])} here; give the same, or choose another --name"
        )


def _changes_of_values(old: SweepPlan, new: SweepPlan) -> dict[str, tuple[Any, Any]]:
    """Return the seeds and values that a new plan lacks, by name; seeds and values may be added."""
    if list(old.over) != list(new.over):
        return {"the list of swept settings": (list(old.over), list(new.over))}
    lists = {"the list of seeds": (old.seeds, new.seeds)}
    lists |= {f"the list of values of {name}": (old.over[name], new.over[name]) for name in old.over}
    return {
        name: (list(had), list(wanted))
        for name, (had, wanted) in lists.items()
        if any(value not in wanted for value in had)
    }
