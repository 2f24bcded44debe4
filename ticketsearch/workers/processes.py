"""Tasks in processes of this machine: joblib's loky, one executor of one process for each worker.

An executor that loses a process gives up all its tasks and does not name the one that killed it. With one
process in each, a death costs one task, which is known.
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

# Seconds after which an idle process ends.
IDLE_SECONDS = 300
THREADS = ("OMP", "MKL", "OPENBLAS", "BLIS", "NUMEXPR", "VECLIB_MAXIMUM")

# Idle executors, by their parent process (a fork cannot use them) and the GPU they see. They outlive a call:
# starting a process takes seconds, and a process keeps the data it has loaded.
_idle: dict[tuple[int, str | None], list[ProcessPoolExecutor]] = {}


class Loky:
    """Processes of this machine; each sees one GPU, if there are any."""

    def __init__(self, workers: int, address: str | None, gpus: int) -> None:
        self.workers = workers
        seen = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = (seen.split(",") if seen else [str(index) for index in range(gpus)])[:gpus]
        self._gpus: list[str | None] = [*names] or [None]

    def run(self, function: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """Yield ``(index, result)`` as tasks finish; on leaving early, running ones are killed.

        Raises :class:`BadInput` for a task of which several processes died.
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
                results = [(index, result_of(attempted)) for index, attempted in finished]
                fill()
                yield from results
        finally:
            with _interrupts_later():
                _kill([executor for _, _, executor in busy.values()])

    def _places(self, tasks: int) -> list[str | None]:
        """Return the GPU of each process for this many tasks, or None, in the environment's form."""
        return list(islice(cycle(self._gpus), min(self.workers, tasks)))

    def close(self) -> None:
        """Close nothing: idle processes end by themselves, at the latest with this one."""


def _submit(
    place: str | None, function: Callable[[Any], Any], task: Any
) -> tuple[ProcessPoolExecutor, Future[Any]]:
    """Give a task to an idle process, or to a new one."""
    while True:
        executor = _idle_at(place).pop() if _idle_at(place) else _start(place)
        try:
            return executor, executor.submit(attempt, function, task)
        except BrokenProcessPool:
            continue  # the process died while it was idle


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
    """Kill busy processes; all have ended on return.

    ``shutdown(kill_workers=True)`` fails in its own thread right after a task was submitted.
    """
    queues = [executor._call_queue for executor in executors]
    for executor in executors:
        for pid in list(executor._processes):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    for executor in executors:
        executor.shutdown()
    # A queue's thread must unlink its semaphores before Python exits, or they count as leaked.
    for queue in queues:
        if queue._thread is not None:
            queue._thread.join(1)


@contextmanager
def _interrupts_later() -> Iterator[None]:
    """Delay Ctrl-C until the block ends, so that every process that was started is known.

    Ctrl-C reaches all processes of a terminal, and a worker would print a traceback. Processes that start in
    the block inherit its signal mask and never get Ctrl-C; this process ends them.
    """
    resource_tracker.ensure_running()  # here, as it would lift the mask
    caught: list[Any] = []
    here = threading.current_thread() is threading.main_thread() and callable(signal.getsignal(signal.SIGINT))
    handler = signal.signal(signal.SIGINT, lambda *arguments: caught.append(arguments)) if here else None
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if callable(handler):
            signal.signal(signal.SIGINT, handler)
            if caught:
                handler(*caught[0])


def _begin(driver: int) -> None:
    """Prepare a worker process: one thread, a quick exit, and an end with the driver, even one by SIGKILL."""
    torch.set_num_threads(1)
    atexit.register(os._exit, 0)  # the interpreter would tear torch down for half a second
    threading.Thread(target=_end_with, args=(driver,), daemon=True).start()


def _end_with(driver: int) -> None:
    while os.getppid() == driver:
        time.sleep(1)
    os._exit(1)


def _how(error: TerminatedWorkerError) -> str:
    """Return the exit code of an error's message, e.g. ``SIGKILL(-9)``."""
    match = re.search(r"\{(.+?)\}", str(error))
    return match[1] if match else "of an unknown cause"
