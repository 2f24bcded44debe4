"""The plan of a sweep: random seeds and values of settings; each combination is a run."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from ticketsearch import settings as config
from ticketsearch.errors import BadInput, shown
from ticketsearch.experiment import Search
from ticketsearch.settings import WITHOUT_EFFECT_ON_CONTENT, Settings, value_text

__all__ = ["Member", "SweepPlan", "Values", "combination_text", "sweep_plan"]

# One value of each swept setting: pairs of dotted name and value, in the order of the sweep.
Values = tuple[tuple[str, Any], ...]
# The most runs of a sweep, far above all useful numbers: 0-99999 is a typing error.
MOST = 10_000
# Most characters of the values in a folder's name, of 100 with the seed.
LONGEST = 70
# Settings of members: each is one process with one job, and the processes work side by side.
ALONE = {"training.workers": 1, "training.backend": "loky", "training.address": ""}


class Member(NamedTuple):
    """One run of a sweep: the name of its folder, its values, its seed, and all its settings."""

    name: str
    values: Values
    seed: int
    settings: Settings


@dataclass(frozen=True)
class SweepPlan:
    """The runs of a sweep.

    Attributes
    ----------
    settings : those that all runs have; the seed and the swept settings have their defaults.
    seeds : of the runs, in the order of tables.
    over : ``{dotted setting: its values}``; the runs are of all combinations.
    """

    settings: Settings
    seeds: tuple[int, ...]
    over: Mapping[str, tuple[Any, ...]]

    @property
    def combinations(self) -> list[Values]:
        """All combinations of values, the last setting's changing fastest; a single empty one without any."""
        values = itertools.product(*self.over.values())
        return [tuple(zip(self.over, chosen, strict=True)) for chosen in values]

    @cached_property
    def members(self) -> list[Member]:
        """All runs: those of each combination in the order of the seeds."""
        return list(_members(self))


def combination_text(values: Values) -> str:
    """Return a combination as text, such as ``temperature 0.1, density 0.05``."""
    shorts = _shorts([name for name, _ in values])
    return ", ".join(
        f"{short} {value_text(value) or 'empty'}" for short, (_, value) in zip(shorts, values, strict=True)
    )


def sweep_plan(
    settings: Settings, seeds: Sequence[int], over: Mapping[str, Sequence[Any]] | None = None
) -> SweepPlan:
    """Return the plan of a sweep, after a check of the settings of all its runs.

    Parameters
    ----------
    settings : of all runs; the seed and the swept settings in them are replaced.
    seeds : of the runs of each combination of values; differences are paired by seed.
    over : ``{dotted setting: its values}``.

    Raises :class:`BadInput` for no or equal seeds or values, for a setting that cannot vary, and for values
    with which no run could begin.
    """
    over = dict(over or {})
    _check_several("seeds", seeds)
    for name, values in over.items():
        _check_setting(name)
        _check_several(f"values of {name}", values)
    count = len(seeds) * math.prod(len(values) for values in over.values())
    if count > MOST:
        raise BadInput(f"a sweep has at most {MOST:,} runs, but got {count:,}; give fewer seeds or values")
    if settings.training.address:
        raise BadInput(
            "the runs of a sweep work side by side in processes of this machine, but got training.address "
            f"{settings.training.address!r}; leave it out"
        )
    checked = {name: tuple(_checked(settings, name, value) for value in over[name]) for name in over}
    for name, values in checked.items():
        _check_several(f"values of {name}", values)
    for seed in seeds:
        config.apply(settings, [("seed", seed)])
    plan = SweepPlan(_without(settings, ["seed", *over]), tuple(map(int, seeds)), checked)
    _check_searches(plan)
    return plan


def _check_several(what: str, values: Sequence[Any]) -> None:
    """Raise :class:`BadInput` for anything but a list, for no values, and for equal ones."""
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise BadInput(f"the {what} of a sweep are a list, such as [0, 1], but got {shown(values)}")
    if not len(values):
        raise BadInput(f"a sweep takes at least one of the {what}, but got none; name some")
    texts = [json.dumps(value, sort_keys=True, default=str) for value in values]
    if len(set(texts)) < len(texts):
        twice = next(value for value, text in zip(values, texts, strict=True) if texts.count(text) > 1)
        raise BadInput(
            f"the {what} of a sweep must be different ones, but got {shown(twice)} twice; drop one"
        )


def _check_setting(name: str) -> None:
    """Raise :class:`BadInput` for a setting that cannot vary in a sweep."""
    if name == "seed":
        raise BadInput("the seeds of a sweep are not one of its settings, but got seed; give --seeds 0-9")
    if name in (*WITHOUT_EFFECT_ON_CONTENT, "training.device"):
        raise BadInput(
            f"a sweep compares settings that change the content of a run, but got {name}, which changes its "
            "time at most; leave it out"
        )
    if name.partition(".")[0] == "data":
        raise BadInput(
            f"a sweep compares accuracies on one test set, but got {name}, which changes the data; make a "
            "sweep of each dataset"
        )


def _checked(settings: Settings, name: str, value: Any) -> Any:
    """Return a value as the settings hold it; raises :class:`BadInput` for an invalid one."""
    tree: Any = config.apply(settings, [(name, value)]).model_dump()
    for part in name.split("."):
        tree = tree[part]
    if isinstance(tree, Mapping) and not name.endswith(".options"):
        raise BadInput(f"a sweep varies single settings, but got the section {name!r}; name a setting of it")
    return tree


def _without(settings: Settings, names: Sequence[str]) -> Settings:
    """Return settings in which some have their defaults, or are left out if they are options."""
    tree = settings.model_dump()
    for name in names:
        *sections, key = name.split(".")
        place = tree
        for section in sections:
            place = place.get(section, {})
        place.pop(key, None)
    return config.stored(tree)


def _check_searches(plan: SweepPlan) -> None:
    """Raise :class:`BadInput` for a combination of values that no search can begin with.

    A search checks its settings against each other, the network and the data; seeds make no difference.
    """
    dataset = None
    for member in plan.members[:: len(plan.seeds)]:
        dataset = Search.prepare(member.settings, dataset).dataset


def _members(plan: SweepPlan) -> Iterator[Member]:
    shorts = _shorts(list(plan.over))
    for values in plan.combinations:
        words = [f"{short}-{_word(value)}" for short, (_, value) in zip(shorts, values, strict=True)]
        if len(whole := "-".join(words)) > LONGEST:
            words = [f"{whole[: LONGEST - 7]}_{_digest(whole)}"]
        for seed in plan.seeds:
            assignments = {**dict(values), "seed": seed, **ALONE}
            settings = config.apply(plan.settings, assignments.items())
            yield Member("-".join([*words, f"seed-{seed}"]), values, seed, settings)


def _shorts(names: Sequence[str]) -> list[str]:
    """Return the last parts of dotted names if they differ, else the whole names."""
    parts = [name.rpartition(".")[2] for name in names]
    return parts if len(set(parts)) == len(parts) else list(names)


def _word(value: Any) -> str:
    """Return a value as a part of a folder's name; a text that has other characters gets a digest."""
    text = value_text(value) if not isinstance(value, Mapping) else json.dumps(value, sort_keys=True)
    if re.fullmatch(r"[A-Za-z0-9._]{1,20}", text):
        return text
    word = re.sub(r"[^A-Za-z0-9]+", "_", text.rpartition("/")[2])[:14].strip("_")
    return f"{word}_{_digest(text)}" if word else _digest(text)


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=3).hexdigest()
