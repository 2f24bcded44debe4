"""Callbacks: what a search calls while it runs, for progress, trackers and code of your own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ticketsearch.errors import BadInput
from ticketsearch.evolution import Generation
from ticketsearch.runs import Run

__all__ = ["Callback", "Callbacks"]


class Callback:
    """Base class of callbacks: override the methods that you need.

    An exception of a callback ends the search; all committed generations are safe.
    """

    def on_start(self, run: Run) -> None:
        """Take the run before its next generation."""

    def on_note(self, run: Run, text: str) -> None:
        """Take a sentence on the work that is about to be done."""

    def on_evaluated(self, run: Run, generation: int, done: int, total: int) -> None:
        """Take the number of masks of a generation that have been evaluated, of ``total``, before its end."""

    def on_generation(self, run: Run, generation: Generation) -> None:
        """Take a generation that has been committed to the run."""

    def on_finish(self, run: Run) -> None:
        """Take the run after its final comparison."""


class _OnGeneration(Callback):
    """The callback of a function ``function(run, generation)``."""

    def __init__(self, function: Callable[[Run, Generation], Any]) -> None:
        self.function = function

    def on_generation(self, run: Run, generation: Generation) -> None:
        self.function(run, generation)


class Callbacks(Callback):
    """Several callbacks as one, called in their order.

    Parameters
    ----------
    callbacks : callbacks, or functions ``function(run, generation)``.

    Raises :class:`BadInput` for anything else.
    """

    def __init__(self, callbacks: Iterable[Callback | Callable[[Run, Generation], Any]]) -> None:
        self.callbacks = [_callback(callback) for callback in callbacks]

    def on_start(self, run: Run) -> None:
        """Call each callback."""
        for callback in self.callbacks:
            callback.on_start(run)

    def on_note(self, run: Run, text: str) -> None:
        """Call each callback."""
        for callback in self.callbacks:
            callback.on_note(run, text)

    def on_evaluated(self, run: Run, generation: int, done: int, total: int) -> None:
        """Call each callback."""
        for callback in self.callbacks:
            callback.on_evaluated(run, generation, done, total)

    def on_generation(self, run: Run, generation: Generation) -> None:
        """Call each callback."""
        for callback in self.callbacks:
            callback.on_generation(run, generation)

    def on_finish(self, run: Run) -> None:
        """Call each callback."""
        for callback in self.callbacks:
            callback.on_finish(run)


def _callback(callback: Any) -> Callback:
    if isinstance(callback, Callback):
        return callback
    if callable(callback) and not isinstance(callback, type):
        return _OnGeneration(callback)
    raise BadInput(
        "a callback is a function(run, generation) or an object of a subclass of ticketsearch.Callback, but "
        f"got {callback!r}"
    )
