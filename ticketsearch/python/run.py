"""A run in Python: the store of its search, and ways to take its results home."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from ticketsearch import experiment, runs
from ticketsearch.checks import checked, is_integer
from ticketsearch.errors import BadInput
from ticketsearch.experiment import TRAINED, Callback, Callbacks, Objects, Search
from ticketsearch.python.objects import objects_of
from ticketsearch.python.progress import displayed
from ticketsearch.python.tables import dataframe
from ticketsearch.runs import winner
from ticketsearch.settings import check_word
from ticketsearch.tickets import Ticket, load_trained

if TYPE_CHECKING:
    import pandas

__all__ = ["Run", "completed"]


class Run(runs.Run):
    """A run, open for reading: its tickets, generations and results, and ways to take them home.

    ``ts.search`` returns one, and ``ts.Run.open("runs/NAME")`` opens one that the shell made. Objects that
    were given to the search (data, a model's factory, a fitness) are remembered as long as this lives; a run
    that is opened anew takes them as keywords where it needs them.
    """

    _search: Search | None = None

    def __repr__(self) -> str:
        done, planned = self.progress(), self.settings.evolution.generations
        state = "finished" if self.finished else f"{max(done, 0)} of {planned} generations"
        best = self.best
        made = f", best ticket {best.number}" if best is not None else ""
        return f"Run({self.name[:40]!r}, {state}, density {self.settings.seeding.density:g}{made})"

    def _repr_html_(self) -> str:
        from ticketsearch.report import run_html

        return run_html(self)

    @property
    def best(self) -> Ticket | None:
        """The winner of the final comparison, None until the run is finished."""
        return winner(self)

    def report(self) -> Path:
        """Write the run's page, and return its path."""
        from ticketsearch.report import write_report

        return write_report(self)

    @checked
    def dataframe(self, table: str = "tickets") -> pandas.DataFrame:
        """Return a table of the run as a data frame: ``tickets``, ``generations`` or ``results``.

        Raises :class:`BadInput` for another table, and where pandas is not installed.
        """
        return dataframe(self, table)

    def trained(self, which: str | int = "best", order: int = 0, **given: Any) -> nn.Module:
        """Return the trained module of a ticket, in evaluation mode: the final training on a data order.

        Parameters
        ----------
        which : ``"best"``, or the number of a ticket.
        order : number of the data order that test accuracies are reported for, from 0 on. The winner's first
            one is read from its file, others are trained now.
        given : ``data=``, ``model=`` and ``trust=`` as in :meth:`resume`, where the run needs them.

        Raises :class:`BadInput` for an unknown ticket, an order that the run does not have, and for ``best``
        of an unfinished run.
        """
        ticket = self._ticket(which)
        orders = self.settings.final.orders
        if not is_integer(order) or not 0 <= order < orders:
            raise BadInput(f"order must be an integer from 0 to {orders - 1}, but got {order!r}")
        search = self.prepared(**given)
        file = self.path / "tickets" / TRAINED
        if which == "best" and order == 0 and file.is_file():
            return load_trained(file, factory=search.network.factory).module
        return experiment.trained_network(search, ticket, order)

    def finish(self, **given: Any) -> Run:
        """Compare what there is: end the search after its last generation. Returns this run.

        ``given`` are keywords of :meth:`resume`.
        """
        return self.resume(finish=True, **given)

    def resume(
        self,
        generations: int | None = None,
        *,
        finish: bool = False,
        data: Any = None,
        model: Any = None,
        fitness: Callable[..., Any] | None = None,
        callbacks: Iterable[Callback | Callable[..., Any]] = (),
        progress: bool | None = None,
        trust: bool = False,
    ) -> Run:
        """Go on with the search to its end. Returns this run.

        Parameters
        ----------
        generations : number of the last generation, by default as planned; a larger one extends the search.
        finish : whether to begin no further generation.
        data, model, fitness : the objects that the search was given, where this is not the run that it
            returned.
        callbacks, progress, trust : as in :func:`ticketsearch.search`.

        Raises :class:`BadInput` for other data, another network, and a run that another process works on.
        """
        objects = objects_of(data, model, fitness)
        if self._search is not None and not objects.names():
            objects = self._objects()
        assignments = {} if generations is None else {"evolution.generations": generations}
        self.close()
        try:
            options: dict[str, Any] = {"finish": True} if finish else {}
            search, run = experiment.resume(
                self.path, assignments, trust=trust, objects=objects, kind=type(self), **options
            )
            with run:
                if search is not None:
                    completed(search, run, callbacks, progress)
        finally:
            fresh = type(self).open(self.path)
            fresh._search = self._search
            self.__dict__ = fresh.__dict__
        if search is not None:
            self._search = search
        return self

    def prepared(self, data: Any = None, model: Any = None, *, trust: bool = False) -> Search:
        """Return the search of this run: its data, network and recipes.

        Raises :class:`BadInput` as :meth:`resume` does.
        """
        objects = objects_of(data, model, None)
        if self._search is None or objects.names():
            if not trust:
                check_word(f"run {self.name!r}", self.settings, self.origin, self.folder, {})
            self._search = experiment.prepared(self, self.settings, objects)
        return self._search

    def _objects(self) -> Objects:
        """Return the objects of the search that made this run."""
        assert self._search is not None  # the caller has looked
        return self._search.objects

    def _ticket(self, which: str | int) -> Ticket:
        if which == "best":
            best = self.best
            if best is None:
                raise BadInput(
                    f"run {self.name!r} has no best ticket before its final comparison; run.resume() goes on "
                    "to it, run.finish() makes it now"
                )
            return best
        if not is_integer(which):
            raise BadInput(f"a ticket is 'best' or a number, but got {which!r}")
        return self.ticket(int(which))


def completed(
    search: Search,
    run: runs.Run,
    callbacks: Iterable[Callback | Callable[..., Any]],
    progress: bool | None,
) -> None:
    """Do the rest of a search with progress and callbacks, and write its page."""
    from ticketsearch.report import write_report

    with displayed(search.settings.evolution.generations, progress) as display:
        experiment.complete(search, run, Callbacks([*([] if display is None else [display]), *callbacks]))
    write_report(run)
