"""Tasks in processes of this machine: joblib's loky, an executor of one process for each worker.

An executor that loses a process gives up all of its tasks and cannot say which one it was. With one process
in each, a death costs one task, and it is known whose.
"""

from __future__ import annotations

import atexit
import os
import re
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager, suppress
from itertools import cycle, islice
from multiprocessing import resource_tracker
from typing import Any

import torch
from joblib.externals.loky import ProcessPoolExecutor
from joblib.externals.loky.process_executor import BrokenProcessPool, TerminatedWorkerError

from ticketsearch.workers.attempts import DEATHS, attempt, fatal, result_of

__all__ = ["Loky"]

# A process that has nothing to do for so long ends.
IDLE_SECONDS = 300
THREADS = ("OMP", "MKL", "OPENBLAS", "BLIS", "NUMEXPR", "VECLIB_MAXIMUM")

# Executors without a task, by the process that they are of (a fork cannot use them) and the GPU they see.
# They outlive a run of tasks: starting a process takes seconds, and it keeps the data it has loaded.
_idle: dict[tuple[int, str | None], list[ProcessPoolExecutor]] = {}


class Loky:
    """Processes of this machine; with GPUs, each sees one of them."""

    def __init__(self, workers: int, address: str | None, gpus: int) -> None:
        self.workers = workers
        seen = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = (seen.split(",") if seen else [str(number) for number in range(gpus)])[:gpus]
        self._gpus: list[str | None] = [*names] or [None]

    def run(self, function: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """Yield ``(index, result)`` as they finish; on leaving early, what still runs is killed.

        Raises :class:`BadInput` for a task that took down several processes.
        """
        waiting = deque(range(len(tasks)))
        free = self._places(len(tasks))[::-1]
        busy: dict[Future[Any], tuple[int, str | None, ProcessPoolExecutor]] = {}
        deaths: Counter[int] = Counter()

        def fill() -> None:
            while waiting and free:
                with _interrupts_later():
                    index, place = waiting.popleft(), free.pop()
                    executor, future = _submit(place, function, tasks[index])
                    busy[future] = index, place, executor

        try:
            fill()
            while busy:
                finished = []
                for future in wait(busy, return_when=FIRST_COMPLETED).done:
                    index, place, executor = busy.pop(future)
                    free.append(place)
                    try:
                        finished.append((index, future.result()))
                    except TerminatedWorkerError as error:
                        deaths[index] += 1
                        if deaths[index] == DEATHS:
                            raise fatal(_how(error)) from error
                        waiting.appendleft(index)
                    else:
                        _idle_at(place).append(executor)
                results = [(index, result_of(found)) for index, found in finished]
                fill()
                yield from results
        finally:
            with _interrupts_later():
                _kill([executor for _, _, executor in busy.values()])

    def _places(self, tasks: int) -> list[str | None]:
        """Return the GPU of each process that so many tasks need, or None, as it is in the environment."""
        return list(islice(cycle(self._gpus), min(self.workers, tasks)))

    def close(self) -> None:
        """Processes without a task end by themselves, at the latest with this one."""


def _submit(
    place: str | None, function: Callable[[Any], Any], task: Any
) -> tuple[ProcessPoolExecutor, Future[Any]]:
    """Give a task to a process that has none, or to a new one."""
    while True:
        executor = _idle_at(place).pop() if _idle_at(place) else _start(place)
        try:
            return executor, executor.submit(attempt, function, task)
        except BrokenProcessPool:
            continue  # it died while it was idle


def _idle_at(place: str | None) -> list[ProcessPoolExecutor]:
    return _idle.setdefault((os.getpid(), place), [])


def _start(place: str | None) -> ProcessPoolExecutor:
    environment = {f"{library}_NUM_THREADS": "1" for library in THREADS}
    if place is not None:
        environment["CUDA_VISIBLE_DEVICES"] = place
    return ProcessPoolExecutor(
        1, timeout=IDLE_SECONDS, initializer=_begin, initargs=(os.getpid(),), env=environment
    )


def _kill(executors: Sequence[ProcessPoolExecutor]) -> None:
    """End processes that are at work; all have ended on return.

    ``shutdown(kill_workers=True)`` fails in its own thread where a task was given to it just now.
    """
    queues = [executor._call_queue for executor in executors]
    for executor in executors:
        for pid in list(executor._processes):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    for executor in executors:
        executor.shutdown()
    # A queue's thread must not be about to unlink semaphores when Python exits: they would count as leaked.
    for queue in queues:
        if queue._thread is not None:
            queue._thread.join(1)


@contextmanager
def _interrupts_later() -> Iterator[None]:
    """Let in no Ctrl-C until the block ends, so that every process that was started is known.

    Ctrl-C reaches all processes of a terminal, and a worker would print a traceback. Those that start in the
    block never hear it: they inherit a mask. It is for this process to end them.
    """
    resource_tracker.ensure_running()  # which would lift the mask
    came: list[Any] = []
    here = threading.current_thread() is threading.main_thread() and callable(signal.getsignal(signal.SIGINT))
    handler = signal.signal(signal.SIGINT, lambda *arguments: came.append(arguments)) if here else None
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if callable(handler):
            signal.signal(signal.SIGINT, handler)
            if came:
                handler(*came[0])


def _begin(driver: int) -> None:
    """Prepare a worker process: one thread, a quick exit, and an end with the driver's, even by SIGKILL."""
    torch.set_num_threads(1)
    atexit.register(os._exit, 0)  # the interpreter would take torch apart for half a second
    threading.Thread(target=_end_with, args=(driver,), daemon=True).start()


def _end_with(driver: int) -> None:
    while os.getppid() == driver:
        time.sleep(1)
    os._exit(1)


def _how(error: TerminatedWorkerError) -> str:
    """Return the exit code that the error mentions, ``SIGKILL(-9)``."""
    found = re.search(r"\{(.+?)\}", str(error))
    return found[1] if found else "it does not say why"
