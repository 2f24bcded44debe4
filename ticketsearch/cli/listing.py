"""``list``: the runs in runs/ with their states and main figures, filtered and sorted."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from ticketsearch.cli import completion
from ticketsearch.cli.endings import reason, show_lines, stop_garbage_collection
from ticketsearch.cli.flags import names, option
from ticketsearch.cli.folders import RUNS
from ticketsearch.errors import BadInput, nearest, printable, shown

if TYPE_CHECKING:
    from ticketsearch.runs import RunOverview

__all__ = ["list_"]

Where = Annotated[
    list[str] | None,
    option(
        "--where",
        "Condition on a column or a setting, which all listed runs fulfil, e.g. density=0.02 or "
        "training.steps>100, with =, !=, <, <=, > or >=; the flag may be repeated.",
        metavar="CONDITION",
        complete=completion.keys,
    ),
]
Sort = Annotated[
    str,
    option(
        "--sort",
        "Columns or settings that the runs are sorted by, e.g. density,-accuracy; the largest value comes "
        "first behind a minus sign.",
        default="name",
        metavar="KEY[,-KEY]",
        complete=completion.keys,
    ),
]
Json = Annotated[bool, option("--json", "Print a JSON list with an object for each run.")]

CONDITION = re.compile(r"\s*([\w.]+)\s*(!=|<=|>=|==|=|<|>)\s*(.*?)\s*", re.DOTALL)
SIGNS: dict[str, Callable[[Any, Any], bool]] = {
    **{"=": operator.eq, "==": operator.eq, "!=": operator.ne},
    **{"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge},
}


@dataclass(frozen=True)
class Unreadable:
    """A folder in runs/ that cannot be read as a run, and the reason."""

    name: str
    reason: str
    state: str = "unreadable"


def list_(where: Where = None, sort: Sort = "name", as_json: Json = False) -> None:
    """List the runs in runs/ with their states and main figures, one line each.

    A run is running while a process makes its generations, and finishing while
    it does the final comparison. Without a process a run is finished or
    interrupted. Of conditions on a figure that it lacks, it fulfils != alone.
    """
    stop_garbage_collection()
    from ticketsearch.runs import list_runs

    conditions = [_condition(text) for text in where or []]
    keys = [(_checked(key.removeprefix("-")), key.startswith("-")) for key in names(sort)]
    paths = list_runs(RUNS)
    runs = [_read(path) for path in paths]
    runs = [run for run in runs if all(holds(_value(run, key)) for key, holds in conditions)]
    for key, falling in reversed(keys):
        runs = _sorted(runs, key, falling)
    if as_json:
        print(json.dumps([_record(run) for run in runs], indent=2, allow_nan=False))
    elif runs:
        show_lines(_lines(runs))
    elif paths:
        print(f"None of the {len(paths)} runs in {RUNS}/ fulfils {' and '.join(where or [])}.")
    else:
        print(f"No runs in {RUNS}/ here; `ticketsearch evolve` makes one.")


def _read(path: Path) -> RunOverview | Unreadable:
    """Return a run's overview; a run that cannot be read hides no others."""
    from ticketsearch.runs import read_overview

    name = path.relative_to(RUNS).as_posix()
    try:
        return replace(read_overview(path), name=name)
    except BadInput as problem:
        return Unreadable(name, str(problem))
    except Exception as problem:
        return Unreadable(name, " ".join(reason(problem).split()))


def _lines(runs: Sequence[RunOverview | Unreadable]) -> Iterator[str]:
    """Yield the table of the runs; an unreadable one has its reason in place of figures."""
    from ticketsearch.report.text import run_lines

    width = max(len(printable(run.name)) for run in runs)
    rows = iter(run_lines([run for run in runs if not isinstance(run, Unreadable)], width))
    if heading := next(rows, ""):
        yield heading
    for run in runs:
        if isinstance(run, Unreadable):
            yield f"{printable(run.name):{width}}  {run.state}: {run.reason}"
        else:
            yield next(rows)


def _record(run: RunOverview | Unreadable) -> dict[str, Any]:
    """Return the columns of a run by name; an unreadable one has a reason and no figures."""
    from ticketsearch.runs import OVERVIEW_COLUMNS

    values = {column: getattr(run, column, None) for column in OVERVIEW_COLUMNS}
    return {**values, "reason": run.reason} if isinstance(run, Unreadable) else values


def _condition(text: str) -> tuple[str, Callable[[Any], bool]]:
    """Return the key of a condition such as ``density<0.1``, and a test of the key's value."""
    match = CONDITION.fullmatch(text)
    if match is None:
        raise BadInput(f"--where takes KEY=VALUE, with =, !=, <, <=, > or >=, but got {shown(text)}")
    key, sign, wanted = match.groups()
    compare, number = SIGNS[sign], _number(wanted)

    def holds(value: Any) -> bool:
        if value is None:  # the run has no such figure
            return sign == "!="
        if isinstance(value, str) or (number is None and sign in ("=", "==", "!=")):
            return compare(str(value), wanted)
        if number is None:
            raise BadInput(f"{key} is a number, but --where compares it with {shown(wanted)}; give a number")
        return compare(value, number)

    return _checked(key), holds


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _checked(key: str) -> str:
    """Return a key; raises :class:`BadInput` for one that is no column, setting, or option of a setting."""
    from ticketsearch.runs import OVERVIEW_COLUMNS
    from ticketsearch.settings import Settings, leaves

    known = [*OVERVIEW_COLUMNS, *(name for name, _ in leaves(Settings().model_dump()))]
    option_of = re.fullmatch(r"(\w+\.options)\.\w+", key)
    if key not in known and not (option_of and option_of[1] in known):
        raise BadInput(
            f"unknown key {shown(key)}{nearest(key, known)}: keys are the columns "
            f"{', '.join(OVERVIEW_COLUMNS)}, and the settings, which `ticketsearch settings` lists"
        )
    return key


def _value(run: RunOverview | Unreadable, key: str) -> Any:
    """Return a column or a setting of a run as a number or a text; None where it has none."""
    if hasattr(run, key):
        return getattr(run, key)
    value: Any = None if isinstance(run, Unreadable) else run.settings.model_dump()
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if isinstance(value, list) and value:
        return ",".join(map(str, value))
    if isinstance(value, bool | Mapping | list):
        return json.dumps(value, default=str)
    return value


def _sorted(
    runs: Sequence[RunOverview | Unreadable], key: str, falling: bool
) -> list[RunOverview | Unreadable]:
    """Return runs sorted by a key, those without a value last; numbers come before texts."""

    def rank(run: RunOverview | Unreadable) -> tuple[bool, Any]:
        value = _value(run, key)
        return isinstance(value, str), value

    known = [run for run in runs if _value(run, key) is not None]
    return sorted(known, key=rank, reverse=falling) + [run for run in runs if _value(run, key) is None]
