"""A run in Python: the store of its search, and ways to take its results home."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from numpy.typing import ArrayLike
from torch import Tensor, nn

from ticketsearch import experiment, runs
from ticketsearch.checks import checked, is_integer
from ticketsearch.errors import BadInput, shown
from ticketsearch.experiment import TRAINED, Callback, Callbacks, Objects, Search
from ticketsearch.python.exporting import MaskedModule, check_file, check_format, write_export
from ticketsearch.python.objects import names_of, objects_of
from ticketsearch.python.progress import displayed
from ticketsearch.python.tables import dataframe
from ticketsearch.runs import winner
from ticketsearch.settings import apply, check_word
from ticketsearch.tickets import Ticket, load_trained, trained_transform

if TYPE_CHECKING:
    import pandas

__all__ = ["Run", "complete"]


class Run(runs.Run):
    """A run: its settings, generations, tickets and results, and ways to take them home.

    :func:`ticketsearch.search` returns one, and ``ticketsearch.Run.open("runs/NAME")`` opens any, also one
    that the shell made. It is open for reading, so that several may read it; methods that go on with the
    search write to it while they work. Objects that a search was given in place of names are in no file: the
    run that the search returned holds them, and methods take them again in another process.
    """

    _objects = Objects()
    _search: Search | None = None

    def __repr__(self) -> str:
        try:
            done, planned, best = self.progress(), self.settings.evolution.generations, winner(self)
            state = "finished" if self.finished else f"generation {done} of {planned}"
            state = "no generation yet" if done < 0 else state
        except BadInput:  # its file is closed, or damaged
            return f"Run({shown(self.name, 40)})"
        ticket = f", best ticket {best.number}" if best is not None else ""
        return f"Run({shown(self.name, 40)}, {state}, density {self.settings.seeding.density:g}{ticket})"

    def _repr_html_(self) -> str:
        from ticketsearch.report import run_html

        return run_html(self)

    @property
    def best(self) -> Ticket:
        """The winner of the final comparison.

        Raises :class:`BadInput` before there is one.
        """
        best = winner(self)
        if best is None:
            raise BadInput(
                f"run {self.name!r} has no best ticket before its final comparison; resume() goes on to it, "
                f"and finish() makes it now (at the shell: ticketsearch evolve --resume {self.name} --finish)"
            )
        return best

    def report(self) -> Path:
        """Write the run's page ``report.html`` again, and return its path."""
        from ticketsearch.report import write_report

        return write_report(self)

    @checked
    def dataframe(self, which: str = "tickets") -> pandas.DataFrame:
        """Return a table of the run: ``tickets``, ``generations``, or ``results`` of the final comparison.

        Raises :class:`BadInput` for another table, and where pandas is not installed.
        """
        return dataframe(self, which)

    def trained(
        self,
        which: str | int = "best",
        order: int = 0,
        *,
        data: Any = None,
        model: Any = None,
        fitness: Any = None,
        trust: bool = False,
    ) -> nn.Module:
        """Return the module of a ticket after the final training, in evaluation mode.

        It takes standardized samples: ``run.trained()(run.standardize(x))`` are the logits of raw samples x.

        Parameters
        ----------
        which : ``"best"``, or the number of a ticket.
        order : data order of the training, from 0 on, as in the results on the test set. The network of the
            best ticket and order 0 is read from the run's folder; any other is trained now.
        data, model, fitness : the objects that the search was given, where this run does not hold them.
        trust : whether code that the settings of somebody else's run name may run.

        Raises :class:`BadInput` for a ticket or a data order that the run does not have, and as
        :meth:`resume` does.
        """
        ticket = self._ticket(which)
        orders = self.settings.final.orders
        if not is_integer(order) or not 0 <= order < orders:
            raise BadInput(
                f"a data order of run {self.name!r} is an integer from 0 to {orders - 1}, but got {order!r}"
            )
        search = self._prepared(data, model, fitness, trust)
        if order == 0 and which == "best" and (file := self._trained_file()).is_file():
            return load_trained(file, search.network.factory).module
        return experiment.trained_network(search, ticket, order)

    def compact(
        self,
        which: str | int = "best",
        *,
        data: Any = None,
        model: Any = None,
        fitness: Any = None,
        trust: bool = False,
    ) -> nn.Module:
        """Return the dense network of a ticket's live units, which computes what :meth:`trained` does.

        It is a module of torch alone: see :func:`ticketsearch.compact`. Parameters and errors are those of
        :meth:`trained`. Raises :class:`BadInput` for masking ``gradient``, under which pruned weights are
        not zero.
        """
        return self._masked(which, data, model, fitness, trust).compact()

    @checked
    def export(
        self,
        path: str | Path,
        format: str = "compact",
        *,
        which: str | int = "best",
        data: Any = None,
        model: Any = None,
        fitness: Any = None,
        trust: bool = False,
    ) -> Path:
        """Write the trained network of a ticket to a file, and return its path.

        Parameters
        ----------
        path : the file; an existing one is replaced.
        format : ``torch``, the state dict of :meth:`trained`; ``pruned``, the state dict that
            ``torch.nn.utils.prune`` gives, with ``weight_orig`` and ``weight_mask``; ``compact``, a program
            of torch.export of :meth:`compact`; ``onnx``, the same as ONNX; ``csv``, a row for each kept
            weight, with its layer, its index along each axis and its value.
        which, data, model, fitness, trust : as in :meth:`trained`.

        Raises :class:`BadInput` for an unknown format, a file that cannot be written, a missing extra, and
        as :meth:`compact` does.
        """
        form, path = check_format(format), check_file(path)
        return write_export(self._masked(which, data, model, fitness, trust), path, form)

    def finish(self, **options: Any) -> Self:
        """End the search after its last generation: compare its tickets now, and return this run.

        ``options`` are those of :meth:`resume`. Raises :class:`BadInput` for a run without a generation.
        """
        return self._go_on({}, finish=True, **options)

    @checked
    def resume(
        self,
        generations: int | None = None,
        *,
        data: Any = None,
        model: Any = None,
        fitness: Any = None,
        callbacks: Iterable[Callback | Callable[..., Any]] = (),
        progress: bool | None = None,
        trust: bool = False,
    ) -> Self:
        """Go on with the search to its end, and return this run.

        Parameters
        ----------
        generations : number of generations; by default as planned. A larger one extends the search, and a
            smaller one, down to those there are, ends it early.
        data, model, fitness : the objects that the search was given, where this run does not hold them; or
            the names of functions whose files have moved.
        callbacks, progress : as in :func:`ticketsearch.search`.
        trust : whether code that the settings of somebody else's run name may run.

        Raises :class:`BadInput` for missing objects, other data, another network, fewer generations than
        there are, and a run that another process works on.
        """
        settings = {} if generations is None else {"evolution.generations": generations}
        return self._go_on(
            settings,
            data=data,
            model=model,
            fitness=fitness,
            callbacks=callbacks,
            progress=progress,
            trust=trust,
        )

    def _go_on(
        self,
        settings: Mapping[str, Any],
        *,
        finish: bool = False,
        data: Any = None,
        model: Any = None,
        fitness: Any = None,
        callbacks: Iterable[Callback | Callable[..., Any]] = (),
        progress: bool | None = None,
        trust: bool = False,
    ) -> Self:
        """Go on with the search under other settings, which :meth:`resume` and :meth:`finish` explain."""
        objects = self._given(data, model, fitness)
        assignments = {**settings, **names_of(data=data, model=model, fitness=fitness)}
        self.close()
        try:
            search, run = experiment.resume(
                self.path, assignments, finish=finish, trust=trust, objects=objects, kind=type(self)
            )
            with run:
                if search is not None:
                    with displayed(search.settings.evolution.generations, progress) as display:
                        complete(search, run, Callbacks([display, *callbacks]))
        finally:
            vars(self).update(vars(type(self).open(self.path)))
        if search is None and objects.names():  # those of a finished run are checked too
            self._prepared(data, model, fitness, trust)
        return self if search is None else self.holding(objects, search)

    def holding(self, objects: Objects, search: Search) -> Self:
        """Return this run with its search, and the objects that it was given."""
        self._objects, self._search = objects, search
        return self

    def standardize(self, x: ArrayLike | Tensor) -> Tensor:
        """Return raw samples ``(samples, *input_shape)`` as the networks of this run take them, float32.

        Mean and deviation are those of the training data, which the run's folder holds once it is finished.
        Raises :class:`BadInput` before, and for samples of another shape.
        """
        return trained_transform(self._trained_file())(x)

    def _trained_file(self) -> Path:
        self.best  # noqa: B018 - a run without a best ticket has no file, and its error says more
        return self.path / "tickets" / TRAINED

    def _given(self, data: Any, model: Any, fitness: Any) -> Objects:
        """Return the objects that are given, and those that this run holds."""
        new = {kind: v for kind, v in vars(objects_of(data, model, fitness)).items() if v is not None}
        return Objects(**(vars(self._objects) | new)) if new else self._objects

    def _prepared(self, data: Any, model: Any, fitness: Any, trust: bool) -> Search:
        """Return the search of this run: its data, network and recipes."""
        objects, named = self._given(data, model, fitness), names_of(data=data, model=model, fitness=fitness)
        if self._search is None or named or objects is not self._objects:
            if not trust:
                check_word(f"run {self.name!r}", self.settings, self.origin, self.folder, named)
            search = experiment.prepared(self, apply(self.settings, named.items()), objects)
            self.holding(objects, search)
            return search
        return self._search

    def _masked(self, which: str | int, data: Any, model: Any, fitness: Any, trust: bool) -> MaskedModule:
        """Return a ticket with its trained network, whose pruned weights are zero."""
        if self.settings.training.masking == "gradient":
            raise BadInput(
                f"pruned weights must be zero, but run {self.name!r} has training.masking = 'gradient', "
                "under which they keep their initial values; trained() gives the whole network"
            )
        module = self.trained(which, data=data, model=model, fitness=fitness, trust=trust)
        search = self._prepared(None, None, None, trust)
        return MaskedModule(search.network, self._ticket(which).mask, module)

    def _ticket(self, which: str | int) -> Ticket:
        if isinstance(which, str) and which == "best":
            return self.best
        if not is_integer(which):
            raise BadInput(f"a ticket is 'best' or the number of one, but got {shown(which)}")
        return self.ticket(int(which))


def complete(search: Search, run: runs.Run, callback: Callback) -> None:
    """Do the rest of a search, and write its page; a note on any error says how to go on."""
    from ticketsearch.report import write_report

    try:
        experiment.complete(search, run, callback)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) or not run.unbegun:
            error.add_note(
                "All committed generations are safe: go on with "
                f"ticketsearch.Run.open({str(run.path)!r}).resume()"
            )
        raise
    write_report(run)
