"""Python objects in place of names: data, a model or a fitness that a search is given."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ticketsearch.datasets import Dataset
from ticketsearch.errors import BadInput
from ticketsearch.models import Factory
from ticketsearch.plugins import OBJECT
from ticketsearch.settings import Settings

__all__ = ["Objects"]

# Most characters of an object's name in the settings.
LONGEST = 40


@dataclass(frozen=True, eq=False)
class Objects:
    """Objects that stand where settings have the name ``object:NAME``; None where the name is resolved.

    Attributes
    ----------
    data : a dataset.
    model : ``factory(input_shape, classes, **options) -> nn.Module``.
    fitness : masks ``(population, weights)`` bool to scores ``(population,)``.
    """

    data: Dataset | None = None
    model: Factory | None = None
    fitness: Callable[..., Any] | None = None

    def names(self) -> dict[str, str]:
        """Return ``{dotted setting: object:NAME}`` of the objects that are given."""
        return {f"{kind}.name": _name(value) for kind, value in vars(self).items() if value is not None}

    def missing(self, settings: Settings) -> dict[str, str]:
        """Return ``{"data", "model" or "fitness": NAME}`` of the objects that settings name and none is."""
        stored = {kind: getattr(settings, kind).name for kind, value in vars(self).items() if value is None}
        return {kind: name.removeprefix(OBJECT) for kind, name in stored.items() if name.startswith(OBJECT)}

    def check(self, settings: Settings) -> None:
        """Raise :class:`BadInput` for an object where settings have another name, and for options of one."""
        for kind, value in vars(self).items():
            if value is None:
                continue
            section, name = getattr(settings, kind), _name(value).removeprefix(OBJECT)
            if not section.name.startswith(OBJECT):
                raise BadInput(
                    f"{kind}.name is {section.name!r} in these settings, which needs no Python object, but "
                    f"got {name!r}; leave {kind}= out"
                )
            if kind != "model" and section.options:
                raise BadInput(
                    f"{kind}.options are for what {kind}.name names, but got the object {name!r}; make the "
                    "object with them"
                )


def _name(value: Any) -> str:
    name = value.name if isinstance(value, Dataset) else getattr(value, "__name__", type(value).__name__)
    return OBJECT + (re.sub(r"[^\w.-]+", "_", str(name)).strip("_")[:LONGEST] or "unnamed")
