"""Tasks on many machines: a running dask.distributed or ray cluster, reached by its address.

joblib has backends for both, which do not suffice: its dask backend waits forever for a task whose workers
died too often, and its ray backend cannot give results as they finish.
"""

from __future__ import annotations

import importlib
import logging
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ticketsearch.errors import BadInput
from ticketsearch.workers.attempts import DEATHS, attempt, fatal, one_line, result_of, stoppable

__all__ = ["Dask", "Ray"]

# Seconds until an address counts as unreachable, and between checks of a silent cluster.
PATIENCE = 5.0
# Seconds that a cluster may be without workers, since it restarts dead ones.
RECOVERY = 60.0


class Dask:
    """The workers of a dask.distributed cluster, which are best started with ``--nthreads 1``.

    A worker runs one task at a time, however many threads it has.
    """

    def __init__(self, workers: int, address: str | None, gpus: int) -> None:
        self._distributed = _imported("dask", "distributed", "dask.distributed")
        self._address = address
        self._client = self._connect()
        try:
            self._client.wait_for_workers(1, timeout=PATIENCE)
        except TimeoutError as error:
            self.close()
            raise self._without_workers() from error
        self.workers = len(self._client.nthreads())

    def run(self, function: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """Yield ``(index, result)`` as tasks finish; on leaving early, the others are cancelled.

        Raises :class:`BadInput` for a task of which several workers died (the scheduler's setting
        ``allowed-failures`` is their number), and when the scheduler or all workers are lost.
        """
        name = f"ticketsearch-{uuid.uuid4().hex}"
        futures: dict[Any, int] = {}
        try:
            for index, task in enumerate(tasks):
                future = self._client.submit(_attempt_dask, function, task, key=(name, index), pure=False)
                futures[future] = index
            while futures:
                for future in self._finished(list(futures)):
                    index = futures.pop(future)
                    yield index, result_of(self._result(future))
        finally:
            self._client.cancel(list(futures), force=True)

    def close(self) -> None:
        """Disconnect from the cluster, which keeps running."""
        self._client.close()

    def _connect(self) -> Any:
        """Return a client; a server of another kind may accept a connection and never answer."""
        # A client with any other kind of address cannot be closed.
        if not re.fullmatch(r"inproc://.+|((tcp|tls|ucx|wss?)://)?[^/]+:\d+", str(self._address)):
            rule = "an address is host:port or tcp://host:port, not the http address of the dashboard"
            raise _unreachable("dask scheduler", self._address, rule)
        answers: list[Any] = []

        def connect() -> None:
            try:
                client = self._distributed.Client(self._address, timeout=PATIENCE, set_as_default=False)
            except Exception as error:  # the server may answer anything
                answers.append(error)
            else:
                answers.append(client)

        thread = threading.Thread(target=connect, daemon=True)
        thread.start()
        thread.join(2 * PATIENCE)
        answer = answers[0] if answers else "it does not answer"
        if not answers or isinstance(answer, Exception):
            raise _unreachable("dask scheduler", self._address, answer)
        return answer

    def _finished(self, futures: list[Any]) -> list[Any]:
        """Return the finished futures, at least one; wait for it as long as there are workers."""
        seen = time.monotonic()
        while True:
            try:
                with self._client.as_current():
                    return list(self._distributed.wait(futures, PATIENCE, "FIRST_COMPLETED").done)
            except TimeoutError:
                if self._client.nthreads():
                    seen = time.monotonic()
                elif time.monotonic() > seen + RECOVERY:
                    raise self._without_workers() from None
            except self._distributed.CancelledError as error:
                raise self._lost() from error

    def _result(self, future: Any) -> Any:
        try:
            return future.result()
        except self._distributed.KilledWorker as error:
            raise fatal("the scheduler's log says more", error.allowed_failures + 1) from error
        except self._distributed.CancelledError as error:
            raise self._lost() from error
        except Exception as error:  # the task's own errors come as values
            raise _unfit("dask", error) from error

    def _lost(self) -> BadInput:
        # The client would log its failed attempts to reconnect.
        logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
        return BadInput(f"the dask scheduler at {self._address!r} was lost; start it, and resume the run")

    def _without_workers(self) -> BadInput:
        return BadInput(
            f"the dask cluster at {self._address!r} must have workers, but has none; start some with "
            f"`dask worker {self._address} --nthreads 1`"
        )


class Ray:
    """The CPUs of a ray cluster, or its GPUs, each of which runs one task at a time."""

    def __init__(self, workers: int, address: str | None, gpus: int) -> None:
        self._ray = _imported("ray", "ray", "ray")
        self._gpus = gpus
        self._address = address
        self._began = not self._ray.is_initialized()
        if self._began:
            self._connect()
        kind = "GPU" if gpus else "CPU"
        self.workers = int(self._ray.cluster_resources().get(kind, 0))
        if not self.workers:
            self.close()
            raise BadInput(
                f"the ray cluster at {address!r} must have a {kind}, but has none; add a node with one"
            )

    def run(self, function: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """Yield ``(index, result)`` as tasks finish; on leaving early, running ones are killed.

        Raises :class:`BadInput` for a task of which several workers died.
        """
        remote = self._ray.remote(num_cpus=1, num_gpus=1 if self._gpus else 0, max_retries=DEATHS - 1)(
            attempt
        )
        references: dict[Any, int] = {}
        try:
            for index, task in enumerate(tasks):
                references[remote.remote(function, task)] = index
            while references:
                for reference in self._ray.wait(list(references), num_returns=1)[0]:
                    index = references.pop(reference)
                    yield index, result_of(self._result(reference))
        finally:
            for reference in references:
                self._ray.cancel(reference, force=True)

    def close(self) -> None:
        """Disconnect from the cluster, which keeps running, unless it was connected before."""
        if self._began:
            self._ray.shutdown()

    def _connect(self) -> None:
        host, _, port = str(self._address).rpartition("://")[2].rpartition(":")
        try:
            if self._address != "auto":  # ray would retry for minutes
                _greet_grpc(host.strip("[]"), int(port))
            self._ray.init(self._address, log_to_driver=False, logging_level="ERROR")
        except (OSError, ValueError, RuntimeError) as error:
            raise _unreachable("ray cluster", self._address, error) from error

    def _result(self, reference: Any) -> Any:
        errors = self._ray.exceptions
        try:
            return self._ray.get(reference)
        except (errors.WorkerCrashedError, errors.OutOfMemoryError, errors.NodeDiedError) as error:
            raise fatal(type(error).__name__) from error
        except Exception as error:  # the task's own errors come as values
            raise _unfit("ray", error) from error


def _greet_grpc(host: str, port: int) -> None:
    """Raise :class:`OSError` or :class:`ValueError` unless a server with ray's protocol answers.

    gRPC is HTTP/2, which begins with a fixed greeting and a SETTINGS frame (type 4) from both sides.
    https://www.rfc-editor.org/rfc/rfc9113#section-3.4
    """
    with socket.create_connection((host, port), timeout=PATIENCE) as probe:
        if "RAY_USE_TLS" not in os.environ:
            probe.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)))
            if probe.recv(4)[3:] != b"\4":
                raise ValueError("it is a server of another kind")


def _attempt_dask(function: Callable[[Any], Any], task: Any) -> Any:
    """Attempt a task on a dask worker; check_stopped stops it if the scheduler has cancelled it."""
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()

    def cancelled() -> bool:
        state = worker.state.tasks.get(key)
        return state is None or state.state == "cancelled"

    with stoppable(cancelled):
        return attempt(function, task)


def _imported(backend: str, module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise BadInput(
            f'backend {backend!r} needs {package}; pip install "ticketsearch[{backend}]"'
        ) from error


def _unfit(backend: str, error: Exception) -> BadInput:
    return BadInput(
        f"the {backend} cluster cannot run a task ({one_line(error)}); all machines need the Python, "
        "ticketsearch and torch of this one"
    )


def _unreachable(server: str, address: str | None, reason: object) -> BadInput:
    cause = one_line(reason) if isinstance(reason, Exception) else reason
    return BadInput(f"no {server} at {address!r} ({cause}); give the address that it printed when it started")
