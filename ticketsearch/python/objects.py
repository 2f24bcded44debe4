"""Arguments that stand where settings have names: arrays, datasets, factories and fitnesses."""

from __future__ import annotations

from typing import Any

from torch import nn

from ticketsearch.datasets import Dataset, from_arrays
from ticketsearch.errors import BadInput, shown
from ticketsearch.experiment import Objects

__all__ = ["names_of", "objects_of"]

# Name of a dataset of arrays.
ARRAYS = "arrays"


def names_of(**arguments: object) -> dict[str, str]:
    """Return ``{"data.name": name}`` and the like of the arguments that are names."""
    return {f"{kind}.name": value for kind, value in arguments.items() if isinstance(value, str)}


def objects_of(data: Any, model: Any, fitness: Any) -> Objects:
    """Return the objects among arguments that may be names too.

    ``data`` is a dataset, or arrays that :func:`ticketsearch.from_arrays` takes by position, ``model`` a
    factory, ``fitness`` a callable; names and None are left out. Raises :class:`BadInput` for anything else.
    """
    if isinstance(model, nn.Module):
        raise BadInput(
            f"a model is a name or a factory of modules, but got a {type(model).__name__} itself; give "
            "lambda input_shape, classes: module, and schemes=['as_built'] to keep its weights"
        )
    for kind, value in (("model", model), ("fitness", fitness)):
        if value is not None and not isinstance(value, str) and not callable(value):
            raise BadInput(f"a {kind} is a name or a callable, but got {shown(value)}")
    return Objects(
        _dataset(data),
        None if isinstance(model, str) else model,
        None if isinstance(fitness, str) else fitness,
    )


def _dataset(data: Any) -> Dataset | None:
    if isinstance(data, Dataset):
        return data
    if data is None or isinstance(data, str):
        return None
    if not isinstance(data, tuple | list) or len(data) not in (2, 4):
        raise BadInput(
            "data are a name, a ticketsearch.Dataset, or arrays (x, y) or (x, y, x_test, y_test), but got "
            f"{shown(data)}; ticketsearch.from_arrays makes a dataset of other parts"
        )
    return from_arrays(ARRAYS, *data)
