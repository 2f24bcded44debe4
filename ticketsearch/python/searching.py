"""A search from Python, with the settings, the store and the result of ``ticketsearch evolve``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ticketsearch import experiment
from ticketsearch.checks import checked
from ticketsearch.experiment import Callback, Callbacks, Objects, Search
from ticketsearch.python.keywords import given_settings
from ticketsearch.python.objects import names_of, objects_of
from ticketsearch.python.progress import displayed
from ticketsearch.python.run import Run, complete
from ticketsearch.runs import check_free
from ticketsearch.settings import Settings, as_list, load, objective_settings

__all__ = ["search"]


@checked
def search(  # noqa: PLR0913 - the documented interface
    settings: Settings | Mapping[str, Any] | str | Path | None = None,
    *,
    data: Any = None,
    model: Any = None,
    density: float | None = None,
    name: str | None = None,
    fitness: Any = None,
    objective: str | None = None,
    root: str | Path = "runs",
    callbacks: Iterable[Callback | Callable[..., Any]] = (),
    progress: bool | None = None,
    trust: bool = False,
    **others: Any,
) -> Run:
    """Search for a lottery ticket as ``ticketsearch evolve`` does, with its defaults, store and result.

    Parameters
    ----------
    settings : path of a TOML file, a mapping such as ``{"evolution": {"generations": 20}}``, settings, or
        None for the defaults.
    data : name of a dataset; a :class:`ticketsearch.Dataset`; or arrays ``(x, y)`` or ``(x, y, x_test,
        y_test)``, of which :func:`ticketsearch.from_arrays` makes one.
    model : name of an architecture, or a factory ``factory(input_shape, classes, **options) -> nn.Module``.
    density : share of the weights that masks keep, in (0, 1].
    name : name of the run's folder in ``root``; by default data, model and a number.
    fitness : name of a fitness, or a callable from masks ``(population, weights)`` bool to scores
        ``(population,)``, larger is better.
    objective : ``score``; ``front``, the Pareto front of score against density; or ``strong``, the accuracy
        of the masked network as it was initialized. Other settings that are given take precedence.
    root : folder of the runs.
    callbacks : objects of subclasses of :class:`ticketsearch.Callback`, or functions
        ``function(run, generation)``, which are called after each generation.
    progress : whether to show progress; None shows it on a terminal and in a notebook.
    trust : whether a settings file in the folder of somebody else's run may name code.
    others : any other setting, by the last part of its name, ``generations=20``, or by its whole name,
        ``**{"final.steps": 500}``. ``steps`` are ``training.steps``.

    Returns
    -------
    The finished run, open for reading; its page and tickets are in its folder. Whatever stops a search, its
    committed generations stay there: ``ticketsearch.Run.open(path).resume()`` goes on.

    Raises :class:`BadInput` for settings and objects that cannot be used, before there is a folder.
    """
    objects = objects_of(data, model, fitness)
    named: dict[str, Any] = names_of(data=data, model=model, fitness=fitness) | objects.names()
    if density is not None:
        named["seeding.density"] = density
    given = given_settings(settings, others | named, trust=trust)
    if objective is not None:
        given = objective_settings(objective) | given
    wanted = load(None, given.items())
    if name is not None:
        check_free(Path(root), name)
    return _searched(wanted, objects, Path(root), name, callbacks, progress)


def _searched(
    wanted: Settings,
    objects: Objects,
    root: Path,
    name: str | None,
    callbacks: Iterable[Callback | Callable[..., Any]],
    progress: bool | None,
) -> Run:
    """Return the run of a new search, after its end."""
    with displayed(wanted.evolution.generations, progress) as display:
        called = Callbacks([display, *callbacks])
        prepared = Search.prepare(wanted, objects=objects)
        methods = " and ".join(as_list(wanted.seeding.method))
        display.say(f"Pruning {wanted.seeding.initializations} initializations with {methods} …")
        _ = prepared.first_population  # bad input in it is refused before there is a run
        with experiment.create_run(prepared, root, name, kind=Run) as run:
            complete(prepared, run, called)
    return Run.open(run.path).holding(objects, prepared)
