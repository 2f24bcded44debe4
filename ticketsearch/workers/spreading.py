"""Running tasks: one interface to threads, processes and clusters."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from ticketsearch.checks import is_integer
from ticketsearch.errors import BadInput, unknown
from ticketsearch.workers.clusters import Dask, Ray
from ticketsearch.workers.local import Serial, Threads
from ticketsearch.workers.processes import Loky

__all__ = ["BACKENDS", "Spread", "check_backend"]

# Largest number of threads or processes; a larger one is a typing error.
MOST_WORKERS = 4096

T = TypeVar("T")
R = TypeVar("R")


class Backend(Protocol):
    """A backend, made of ``(workers, address, gpus)``, which :class:`Spread` has checked."""

    workers: int

    def run(self, function: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """Yield ``(index, result)`` of all tasks as they finish."""

    def close(self) -> None:
        """Release connections."""


# Backends that need an address.
CLUSTERS: dict[str, Callable[[int, str | None, int], Backend]] = {"dask": Dask, "ray": Ray}
BACKENDS: dict[str, Callable[[int, str | None, int], Backend]] = {
    "serial": Serial,
    "threads": Threads,
    "loky": Loky,
    **CLUSTERS,
}


class Spread:
    """Runs a function on many tasks, side by side on the workers of a backend.

    Parameters
    ----------
    backend : ``serial``, this process; ``threads`` of it; ``loky``, processes of this machine; ``dask`` and
        ``ray``, a running cluster.
    workers : number of threads or processes; a cluster uses all its workers.
    address : address of the cluster: the dask scheduler's ``host:port``, the ray head's, or ``auto``.
    gpus : number of GPUs of this machine that loky's processes share, each of which sees one as ``cuda:0``.
        On ray any number above 0 gives each task a GPU; dask's workers have those they were started with.

    Raises :class:`BadInput` for an unknown backend, a number of workers out of range, a missing extra, or a
    cluster that cannot be reached.
    """

    def __init__(
        self, backend: str = "serial", workers: int = 1, *, address: str | None = None, gpus: int = 0
    ) -> None:
        check_backend(backend, workers, address)
        self.backend = backend
        self._backend = BACKENDS[backend](workers, address, gpus)
        self._finalizer = weakref.finalize(self, self._backend.close)

    @property
    def workers(self) -> int:
        """Number of tasks that run at once; of a cluster, when it was connected."""
        return self._backend.workers

    def run(self, function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[tuple[int, R]]:
        """Yield ``(index of the task, function(task))`` as tasks finish.

        No task runs before the first result is requested. Function, tasks and results must be picklable for
        the workers. A task whose worker dies is run again. An error of the function ends the other tasks and
        is raised here. Leaving the iterator early ends them too: processes of loky and ray are killed;
        threads and dask's workers stop where the function calls :func:`check_stopped`.

        Raises :class:`BadInput` for a task of which several workers died.
        """
        yield from self._backend.run(function, tasks)  # a generator, which keeps the connection

    def close(self) -> None:
        """Disconnect from the cluster; also done on garbage collection and at exit."""
        self._finalizer()

    def __enter__(self) -> Spread:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def check_backend(backend: str, workers: int, address: str | None) -> None:
    """Raise :class:`BadInput` for an unknown backend, a number of workers out of range, or a wrong address.

    A cluster needs an address; no other backend takes one.
    """
    if not isinstance(backend, str) or backend not in BACKENDS:
        raise unknown("backend", backend, BACKENDS)
    if not is_integer(workers) or not 1 <= workers <= MOST_WORKERS:
        raise BadInput(
            f"workers must be an integer from 1 to {MOST_WORKERS}, but got {workers!r}; take one a core"
        )
    if backend in CLUSTERS and not address:
        raise BadInput(f"backend {backend!r} needs the address of its cluster, but got none; give host:port")
    if backend not in CLUSTERS and address:
        raise BadInput(
            f"an address is of a cluster, but got {address!r} with backend {backend!r}; "
            f"leave it out, or take {' or '.join(CLUSTERS)}"
        )
