"""Arguments that stand where settings have names: arrays, datasets, factories and fitnesses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from ticketsearch.datasets import Dataset, from_arrays
from ticketsearch.errors import BadInput
from ticketsearch.experiment import Objects

__all__ = ["objects_of"]


def objects_of(data: Any, model: Any, fitness: Callable[..., Any] | None) -> Objects:
    """Return the objects among arguments that may be names too.

    ``data`` is a dataset or arrays ``(x, y)``, ``model`` a factory, ``fitness`` a callable; texts and None are
    left out. Raises :class:`BadInput` for anything else.
    """
    dataset = None
    if isinstance(data, Dataset):
        dataset = data
    elif isinstance(data, tuple) and len(data) == 2:
        dataset = from_arrays("arrays", *data)
    elif data is not None and not isinstance(data, str):
        raise BadInput(
            f"data are a name, a ticketsearch.Dataset or arrays (x, y), but got {type(data).__name__}; "
            "ticketsearch.from_arrays makes a dataset of given parts"
        )
    if isinstance(model, nn.Module):
        raise BadInput(
            f"a model is a name or a factory of modules, but got a {type(model).__name__} itself; give "
            "lambda input_shape, classes: module, and schemes=['as_built'] to keep its weights"
        )
    for kind, value in (("model", model), ("fitness", fitness)):
        if value is not None and not isinstance(value, str) and not callable(value):
            raise BadInput(f"a {kind} is a name or a callable, but got {type(value).__name__}")
    return Objects(
        dataset,
        None if isinstance(model, str) else model,
        None if isinstance(fitness, str) else fitness,
    )
