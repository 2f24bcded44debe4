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

from ticketsearch.errors import BadInput
from ticketsearch.experiment.contenders import cheap_contender
from ticketsearch.experiment.provenance import environment
from ticketsearch.experiment.search import Search
from ticketsearch.plugins import code_of
from ticketsearch.runs import NameTaken, Run, counting_name
from ticketsearch.settings import Settings, apply, as_list, changes, check_word, outside
from ticketsearch.training import find_device

__all__ = ["create_run", "resume"]


def create_run(search: Search, root: Path, name: str | None = None) -> Run:
    """Make the run folder ``root/name`` of a search; without a name it gets the next counting one.

    Call it when the search is prepared and its first population is made: no bad setting leaves a folder.
    Raises :class:`BadInput` for a name that is taken or would leave ``root``.
    """
    settings = search.settings
    here = {**environment(), "device": _device_name(settings.training.device)}
    cheap = cheap_contender(settings)
    content = (settings, search.network.spec, search.dataset.fingerprint, here, search.seeds, cheap)
    while name is None:
        with suppress(NameTaken):  # by a search that began at the same moment
            return Run.create(root, counting_name(root, settings), *content)
    return Run.create(root, name, *content)


def resume(
    path: Path, assignments: Mapping[str, Any], *, finish: bool = False, trust: bool = False
) -> tuple[Search | None, Run]:
    """Open a run to go on with it, to another number of generations if that is given.

    ``finish`` ends it with the generations that there are. Any other changed setting is refused. The search
    is None if the run is finished and not extended. A function in a file may be given anew if its file has
    moved. Own code that is not given anew runs if the run is known to be the user's and the code is unchanged
    (:mod:`ticketsearch.settings.trust`), or with ``trust``.

    Raises :class:`BadInput` for changed settings, fewer generations than there are, changed data, and code
    that may not run.
    """
    run = Run.open(path, write=True)
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
        search = Search.prepare(settings, spec=run.spec)
        if search.dataset.fingerprint != run.data_fingerprint:
            raise BadInput(
                f"the data of {settings.data.name!r} are not those run {run.name!r} began with; "
                "put them back, or start a new run"
            )
        if search.network.spec.signature != run.spec.signature:
            raise BadInput(
                f"model {settings.model.name!r} is not the network that run {run.name!r} began with; "
                "put it back, or start a new run"
            )
        if run.environment.get("device") != (device := _device_name(settings.training.device)):
            warnings.warn(
                f"run {run.name!r} began on {run.environment.get('device')} and goes on on {device}: its "
                "scores will agree with those of the first device to rounding, not to the bit",
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
