"""Long work in steps: how far it is, and tasks side by side in processes of this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

from ticketsearch.workers.spreading import Spread

__all__ = ["Step", "side_by_side"]

T = TypeVar("T")
R = TypeVar("R")


class Step(NamedTuple):
    """How far a work is: of what, how many are done, and how many there are."""

    what: str
    done: int
    total: int


def side_by_side(
    function: Callable[[T], R], tasks: Sequence[T], workers: int, *, gpus: int = 0
) -> Iterator[tuple[int, R]]:
    """Yield ``(index of the task, function(task))`` as tasks finish, of so many processes or of this one.

    See :class:`~ticketsearch.workers.Spread`.
    """
    workers = max(1, min(workers, len(tasks)))
    with Spread("serial" if workers == 1 else "loky", workers, gpus=gpus) as spread:
        yield from spread.run(function, tasks)
