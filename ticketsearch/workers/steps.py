"""Progress of long work, and tasks side by side in processes of this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

from ticketsearch.workers.spreading import Spread

__all__ = ["Step", "side_by_side"]

T = TypeVar("T")
R = TypeVar("R")


class Step(NamedTuple):
    """Progress of long work: the kind of its parts, the number done, and the total."""

    what: str
    done: int
    total: int


def side_by_side(
    function: Callable[[T], R], tasks: Sequence[T], workers: int, *, gpus: int = 0
) -> Iterator[tuple[int, R]]:
    """Yield ``(index of the task, function(task))`` as tasks finish, in ``workers`` processes.

    One worker is this process; ``gpus`` is as for :class:`~ticketsearch.workers.Spread`.
    """
    workers = max(1, min(workers, len(tasks)))
    with Spread("serial" if workers == 1 else "loky", workers, gpus=gpus) as spread:
        yield from spread.run(function, tasks)
