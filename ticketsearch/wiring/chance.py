"""Random generators while a module runs: their global states, and which of them it draws from."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from ticketsearch.wiring.operations import DROPOUT_FUNCTIONS

__all__ = ["Drawn", "WithoutDropout", "global_states", "state_of"]

# The generators that were drawn from.
Drawn = list[str]


@contextmanager
def global_states(seed: int) -> Iterator[Drawn]:
    """Seed Python's, NumPy's and torch's global generators inside, and restore their states afterwards.

    Yields a list that afterwards names the generators that were drawn from.
    """
    drawn: Drawn = []
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - a module may use it
    with torch.random.fork_rng(devices=[]):
        try:
            random.seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002
            torch.manual_seed(seed)
            before = _states()
            yield drawn
            drawn += [name for name, state in _states().items() if state != before[name]]
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


def state_of(value: object) -> object:
    """Return the state of a plain value or of a random generator; None for any other object."""
    if isinstance(value, int | float | str):
        return value
    if isinstance(value, random.Random):
        return value.getstate()
    if isinstance(value, torch.Generator):
        return bytes(value.get_state().numpy())
    if isinstance(value, np.random.Generator):
        return str(value.bit_generator.state)
    return str(value.get_state()) if isinstance(value, np.random.RandomState) else None


def _states() -> dict[str, Any]:
    legacy: Any = np.random.get_state(legacy=False)  # noqa: NPY002
    inside = {name: str(value) if name != "state" else _numbers(value) for name, value in legacy.items()}
    return {
        "Python's random": random.getstate(),
        "NumPy's random generator": inside,
        "torch's random generator": bytes(torch.get_rng_state().numpy()),
    }


def _numbers(state: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(value.tobytes() if isinstance(value, np.ndarray) else value for value in state.values())


class WithoutDropout(TorchFunctionMode):
    """Inside, dropout functions return their input."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Called by torch for each of its functions."""
        if func in DROPOUT_FUNCTIONS:
            return args[0] if args else (kwargs or {})["input"]
        return func(*args, **(kwargs or {}))
