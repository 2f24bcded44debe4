"""Making the run of a search, and opening one to go on with it."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Mapping
from contextlib import suppress
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch

from ticketsearch.datasets import load_dataset
from ticketsearch.errors import BadInput
from ticketsearch.experiment.contenders import cheap_contender
from ticketsearch.experiment.objects import Objects
from ticketsearch.experiment.provenance import environment
from ticketsearch.experiment.search import Search
from ticketsearch.plugins import OBJECT, code_of
from ticketsearch.runs import NameTaken, Run, counting_name
from ticketsearch.settings import Settings, apply, as_list, changes, check_word, outside
from ticketsearch.training import find_device

__all__ = ["create_run", "prepared", "resume"]


def create_run(search: Search, root: Path, name: str | None = None, *, kind: type[Run] = Run) -> Run:
    """Make the run folder ``root/name`` of a search; without a name it gets the next counting one.

    ``kind`` is the class of the run that is returned. Call it when the search is prepared and its first
    population is made: no bad setting leaves a folder.
    Raises :class:`BadInput` for a name that is taken or would leave ``root``.
    """
    settings = search.settings
    here = {**environment(), "device": _device_name(settings.training.device), "engine": search.engine}
    cheap = cheap_contender(settings)
    content = (settings, search.network.spec, search.dataset.fingerprint, here, search.seeds, cheap)
    while name is None:
        with suppress(NameTaken):  # by a search that began at the same moment
            return kind.create(root, counting_name(root, settings), *content)
    return kind.create(root, name, *content)


def resume(
    path: Path,
    assignments: Mapping[str, Any],
    *,
    finish: bool = False,
    trust: bool = False,
    objects: Objects | None = None,
    kind: type[Run] = Run,
) -> tuple[Search | None, Run]:
    """Open a run to go on with it, to another number of generations if that is given.

    ``finish`` ends it with the generations that there are. Any other changed setting is refused. The search
    is None if the run is finished and not extended. A function in a file may be given anew if its file has
    moved. Own code that is not given anew runs if the run is known to be the user's and the code is unchanged
    (:mod:`ticketsearch.settings.trust`), or with ``trust``. ``objects`` are those that the settings name
    ``object:NAME``, and ``kind`` is the class of the run that is returned.

    Raises :class:`BadInput` for changed settings, fewer generations than there are, changed data, and code
    that may not run.
    """
    run = kind.open(path, write=True)
    try:
        settings = apply(run.settings, assignments.items())
        moved = _refuse_changes(run, settings)
        wanted = max(run.progress(), 0) if finish else settings.evolution.generations
        _check_length(run, wanted, finish)
        settings = apply(settings, [("evolution.generations", wanted)])
        if run.finished and wanted == run.settings.evolution.generations:
            return None, run
        if not trust:
            check_word(f"run {run.name!r}", run.settings, run.origin, run.folder, assignments)
        search = prepared(run, settings, objects)
        here = {"device": _device_name(settings.training.device), "engine": search.engine}
        for kind_of, name in here.items():
            if (first := run.environment.get(kind_of, "another engine")) != name:
                warnings.warn(
                    f"run {run.name!r} began on {first} and goes on on {name}: its scores will agree with "
                    f"those of the first {kind_of} to rounding, not to the bit",
                    stacklevel=2,
                )
        if outside(run.settings):
            run.adopt(apply(run.settings, moved.items()))
        if wanted != run.settings.evolution.generations:
            run.plan(wanted)
    except BaseException:
        run.close()
        raise
    return search, run


def prepared(run: Run, settings: Settings, objects: Objects | None = None) -> Search:
    """Return the search of a run, with settings that differ from the run's in its length at most.

    Raises :class:`BadInput` for data or a network that are not those the run began with, and where objects
    are missing.
    """
    objects = objects or Objects()
    if missing := objects.missing(settings):
        given, names = ", ".join(f"{kind}=…" for kind in missing), ", ".join(missing.values())
        raise BadInput(
            f"run {run.name!r} needs the Python objects of its search ({names}), which no file holds: "
            f"ticketsearch.Run.open({str(run.path)!r}).resume({given}) takes them"
        )
    objects.check(settings)
    data, model = (name.removeprefix(OBJECT) for name in (settings.data.name, settings.model.name))
    dataset = objects.data or load_dataset(settings.data.name, **settings.data.options)
    if dataset.fingerprint != run.data_fingerprint:
        raise BadInput(
            f"the data of {data!r} are not those run {run.name!r} began with; "
            "put them back, or start a new run"
        )
    search = Search.prepare(settings, dataset, run.spec, objects)
    if search.network.spec.signature != run.spec.signature:
        raise BadInput(
            f"model {model!r} is not the network that run {run.name!r} began with; "
            "put it back, or start a new run"
        )
    return search


def _refuse_changes(run: Run, settings: Settings) -> dict[str, Any]:
    """Raise :class:`BadInput` for changed settings; return the settings of functions whose files moved."""
    changed = changes(run.settings, settings)
    changed.pop("evolution.generations", None)
    moved = {name: new for name, (old, new) in changed.items() if _moved(old, new)}
    changed = {name: values for name, values in changed.items() if name not in moved}
    if changed:
        name, (old, new) = next(iter(changed.items()))
        raise BadInput(
            f"a run goes on with its own settings, but {name} is {old!r} in {run.name!r} and {new!r} here; "
            "leave it out, or start a new run"
        )
    return moved


def _check_length(run: Run, wanted: int, finish: bool) -> None:
    """Raise :class:`BadInput` for fewer generations than a run has, and for the end of one without any."""
    there = run.progress()
    if finish and there < 0:
        raise BadInput(
            f"run {run.name!r} has no generation yet, so that there is nothing to compare; "
            f"go on with: ticketsearch evolve --resume {run.name}"
        )
    if wanted < there:
        raise BadInput(
            f"run {run.name!r} has {there} generations already, but got {wanted}; give {there} or more"
        )


def _moved(old: Any, new: Any) -> bool:
    """Whether names differ only in the files of own functions."""
    if not isinstance(old, str | list) or not isinstance(new, str | list):
        return False
    pairs = list(zip_longest(as_list(old), as_list(new), fillvalue=""))
    codes = [(code_of(str(a)), code_of(str(b))) for a, b in pairs]
    return all(
        str(a) == str(b) or (x and y and x.is_file and y.is_file and x.function == y.function)
        for (a, b), (x, y) in zip(pairs, codes, strict=True)
    )


def _device_name(name: str) -> str:
    device = find_device(name)
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device} ({platform.processor() or platform.machine()})"
