"""A search from Python, with the settings, the store and the result of ``ticketsearch evolve``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ticketsearch import experiment
from ticketsearch.checks import checked
from ticketsearch.experiment import Callback, Search
from ticketsearch.python.keywords import given_settings
from ticketsearch.python.objects import objects_of
from ticketsearch.python.run import Run, completed
from ticketsearch.runs import check_free
from ticketsearch.settings import Settings, load, objective_settings

__all__ = ["search"]


@checked
def search(  # noqa: PLR0913 - the documented interface
    settings: Settings | Mapping[str, Any] | str | Path | None = None,
    *,
    data: Any = None,
    model: Any = None,
    density: float | None = None,
    fitness: Any = None,
    objective: str | None = None,
    name: str | None = None,
    root: str | Path = "runs",
    callbacks: Iterable[Callback | Callable[..., Any]] = (),
    progress: bool | None = None,
    trust: bool = False,
    **others: Any,
) -> Run:
    """Search for a lottery ticket, as ``ticketsearch evolve`` does: same defaults, store and result.

    Parameters
    ----------
    settings : path of a TOML file, a tree of settings, or None for the defaults.
    data : name of a dataset, a :class:`ticketsearch.Dataset`, or arrays ``(x, y)`` for
        :func:`ticketsearch.from_arrays`.
    model : name of an architecture, or a factory ``(input_shape, classes, **options) -> nn.Module``.
    density : kept / total weights of the masks, in (0, 1].
    fitness : name of a fitness, or a callable from masks ``(population, weights)`` bool to scores
        ``(population,)``, larger is better.
    objective : ``score``, ``front`` or ``strong``: see ``ticketsearch evolve --help``.
    name : name of the run's folder in ``root``; by default data, model and a number.
    root : folder of the runs.
    callbacks : objects of a subclass of :class:`ticketsearch.Callback`, or functions
        ``function(run, generation)``, called after each generation.
    progress : whether to show progress; by default on a terminal and in a notebook.
    trust : whether a settings file in the folder of somebody else's run may name code.
    others : any setting by its dotted name, ``**{"final.steps": 500}``, or by the last part of it,
        ``generations=20``; see the page on settings.

    Returns the finished run, whose page is written. An interrupted search stays in its folder:
    ``ts.Run.open(path).resume()`` goes on with it.

    Raises :class:`BadInput` for any setting or object that cannot be used, before there is a folder.
    """
    keywords = {"data.name": data, "model.name": model, "seeding.density": density, "fitness.name": fitness}
    named = {key: value for key, value in keywords.items() if isinstance(value, str | float | int)}
    objects = objects_of(data, model, fitness)
    given = given_settings(settings, others | named | objects.names(), trust=trust)
    if objective is not None:
        given = objective_settings(objective) | given
    wanted = load(None, given.items())
    if name is not None:
        check_free(Path(root), name)
    prepared = Search.prepare(wanted, objects=objects)
    _ = prepared.first_population  # bad input in it is refused before there is a run
    with experiment.create_run(prepared, Path(root), name, kind=Run) as run:
        completed(prepared, run, callbacks, progress)
    finished = Run.open(run.path)
    finished._search = prepared
    return finished
