"""The results of a sweep: test accuracies of each combination's contenders by seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ticketsearch.checks import checked
from ticketsearch.errors import shown
from ticketsearch.runs import ContenderRow, Run, contender_rows
from ticketsearch.settings import Settings
from ticketsearch.statistics import Interval, bootstrap
from ticketsearch.sweeps.plan import Member, Values
from ticketsearch.sweeps.run import check_member
from ticketsearch.sweeps.store import stored_plan

__all__ = ["Sweep", "SweepRow", "read_sweep"]


class SweepRow(NamedTuple):
    """The test accuracies of one contender of the final comparisons, with one combination of values.

    Attributes
    ----------
    values : pairs of dotted setting and value.
    contender : as in the table of a run.
    density : kept / total of its masks, the mean over seeds.
    accuracies : by seed, the mean test accuracy over data orders.
    """

    values: Values
    contender: str
    density: float
    accuracies: Mapping[int, float]

    @property
    def accuracy(self) -> Interval:
        """The mean accuracy over seeds, with its interval."""
        return bootstrap(np.array(list(self.accuracies.values())))


@dataclass(frozen=True, eq=False)
class Sweep:
    """The results of a sweep, finished or not.

    Attributes
    ----------
    path : its folder, in which each run has its own.
    settings : those that all runs have.
    seeds : of the runs of each combination.
    over : ``{dotted setting: its values}``.
    rows : by combination, then by contender in the order of a run's table.
    finished, unfinished : names of the runs with and without results.
    """

    path: Path
    settings: Settings
    seeds: tuple[int, ...]
    over: Mapping[str, tuple[Any, ...]]
    rows: tuple[SweepRow, ...] = field(repr=False)
    finished: tuple[str, ...] = ()
    unfinished: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    @property
    def combinations(self) -> list[Values]:
        """The combinations of values that have results."""
        found: list[Values] = []
        for row in self.rows:  # values may be lists, which are no keys
            found += [row.values] if row.values not in found else []
        return found

    def at(self, values: Values) -> list[SweepRow]:
        """Return the rows of a combination."""
        return [row for row in self.rows if row.values == values]

    def __repr__(self) -> str:
        counts = {"seed": len(self.seeds)}
        counts |= {f"value of {name}": len(values) for name, values in self.over.items()}
        counts |= {"unfinished run": len(self.unfinished)} if self.unfinished else {}
        sizes = ", ".join(f"{count} {_plural(noun, count)}" for noun, count in counts.items())
        return f"Sweep({shown(self.name, 40)}, {sizes})"


@checked
def read_sweep(folder: str | Path) -> Sweep:
    """Read the sweep in a folder, finished or not.

    Raises :class:`BadInput` for a folder without one, and for one that holds a run of other settings.
    """
    path = Path(folder)
    plan = stored_plan(path)
    finished: dict[tuple[str, str], tuple[Values, dict[int, ContenderRow]]] = {}
    unfinished = []
    for member in plan.members:
        rows = _rows(path, member)
        if not rows:
            unfinished.append(member.name)
        for row in rows:
            # Values may be lists, which are no keys.
            _, by_seed = finished.setdefault((repr(member.values), row.contender), (member.values, {}))
            by_seed[member.seed] = row
    rows_of_sweep = [
        SweepRow(
            values,
            contender,
            float(np.mean([row.density for row in by_seed.values()])),
            {seed: row.accuracy for seed, row in by_seed.items()},
        )
        for (_, contender), (values, by_seed) in finished.items()
    ]
    done = tuple(member.name for member in plan.members if member.name not in unfinished)
    return Sweep(path, plan.settings, plan.seeds, plan.over, tuple(rows_of_sweep), done, tuple(unfinished))


def _rows(path: Path, member: Member) -> list[ContenderRow]:
    """Return the final table of a member; no row until it is finished."""
    if not (path / member.name).exists():
        return []
    with Run.open(path / member.name) as run:
        check_member(run, member)
        return contender_rows(run) if run.finished else []


def _plural(noun: str, count: int) -> str:
    """Return a noun for a count: "values of x" for several of "value of x"."""
    if count == 1:
        return noun
    first, _, rest = noun.partition(" of ")
    return f"{first}s of {rest}" if rest else f"{noun}s"
