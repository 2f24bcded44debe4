"""Tasks in this process: one after the other, or in threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import Any

from ticketsearch.errors import BadInput
from ticketsearch.workers.attempts import check_stopped, stoppable

__all__ = ["Serial", "Threads"]


class Serial:
    """One worker, this process; tasks run in order, each when its result is asked for."""

    def __init__(self, workers: int, address: str | None, gpus: int) -> None:
        if workers != 1:
            raise BadInput(
                f"backend 'serial' is one worker, but got workers={workers}; take 'threads' or 'loky'"
            )
        self.workers = 1

    def run(self, function: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """Yield ``(index, result)`` in order."""
        for index, task in enumerate(tasks):
            yield index, function(task)

    def close(self) -> None:
        """Close nothing: there is no connection."""


class Threads:
    """Threads of this process, which share its data and the network."""

    def __init__(self, workers: int, address: str | None, gpus: int) -> None:
        self.workers = workers

    def run(self, function: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """Yield ``(index, result)`` as tasks finish; a failure stops the others at their next check."""
        stopped = threading.Event()

        def one(task: Any) -> Any:
            with stoppable(stopped.is_set):
                check_stopped()
                return function(task)

        def stop_after_failure(future: Future[Any]) -> None:
            if not future.cancelled() and future.exception():
                stopped.set()

        # The block ends when all threads have: torch must not compute while Python exits.
        with ThreadPoolExecutor(self.workers) as pool:
            futures = {pool.submit(one, task): index for index, task in enumerate(tasks)}
            try:
                for future in futures:
                    future.add_done_callback(stop_after_failure)
                for future in as_completed(futures):
                    if not stopped.is_set() or not isinstance(future.exception(), InterruptedError):
                        yield futures[future], future.result()
            except BaseException:
                stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def close(self) -> None:
        """Close nothing: threads end with their tasks."""
