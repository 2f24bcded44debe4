"""Devices, and how torch computes on them: threads, precision, determinism."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch

from ticketsearch.errors import BadInput

__all__ = ["find_device", "in_precision", "one_thread", "reproducible", "with_tf32"]


def in_precision(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """Return a context that computes forward passes, and so their gradients, in bfloat16 if asked to."""
    if precision != "bfloat16":
        return nullcontext()
    # Without the cache: inside another autocast it would outlive the step, and the weights it holds.
    return torch.autocast(device.type, dtype=torch.bfloat16, cache_enabled=False)


@contextmanager
def with_tf32(precision: str) -> Iterator[None]:
    """Let CUDA round the factors of products and convolutions to TF32 inside the block, if asked to."""
    if precision != "tf32":
        yield
        return
    backends: Any = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [backend.allow_tf32 for backend in backends]
    for backend in backends:
        backend.allow_tf32 = True
    try:
        yield
    finally:
        for backend, allowed in zip(backends, before, strict=True):
            backend.allow_tf32 = allowed


def find_device(device: str) -> torch.device:
    """Return the device of a name: ``auto`` (CUDA where there is one), ``cpu``, ``cuda`` or ``cuda:N``.

    Raises :class:`BadInput` for another name, or a CUDA device that this machine does not have.
    """
    if not isinstance(device, str):
        raise BadInput(f"a device is auto, cpu, cuda or cuda:N, but got {device!r}")
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        parsed = torch.device(device)
    except (RuntimeError, ValueError):
        parsed = torch.device("meta")
    if parsed.type not in ("cpu", "cuda") or (parsed.type == "cpu" and parsed.index):
        raise BadInput(f"a device is auto, cpu, cuda or cuda:N, but got {device!r}")
    if parsed.type == "cuda" and (parsed.index or 0) >= torch.cuda.device_count():
        raise BadInput(
            f"device {device!r} was asked for, but {torch.cuda.device_count()} CUDA devices are here; take "
            "auto or cpu"
        )
    return parsed


def shared_gpus(device: str) -> int:
    """Return the number of GPUs that processes side by side share: all, or 0 for the CPU or a single GPU."""
    place = find_device(device)
    return torch.cuda.device_count() if place.type == "cuda" and place.index is None else 0


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one CPU thread inside the block.

    With two threads, slices of one product may differ in their last bits.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def reproducible() -> Iterator[None]:
    """Run torch on one CPU thread inside the block, and CUDA convolutions in full precision, one fixed way.

    By default cuDNN rounds to TF32 and adds up gradients in an order that varies from run to run. Autocast
    and modes without gradients, which a caller may have switched on, are off inside.
    """
    cudnn: Any = torch.backends.cudnn
    wanted = {"deterministic": True, "benchmark": False, "allow_tf32": False}
    before = {name: getattr(cudnn, name) for name in wanted}
    plain = (torch.autocast(kind, enabled=False) for kind in ("cpu", "cuda"))
    with one_thread(), torch.inference_mode(False), torch.enable_grad(), ExitStack() as stack:
        for context in plain:
            stack.enter_context(context)
        for name, value in wanted.items():
            setattr(cudnn, name, value)
        try:
            yield
        finally:
            for name, value in before.items():
                setattr(cudnn, name, value)
