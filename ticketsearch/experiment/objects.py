"""Python objects in place of names: data, a model or a fitness that a search is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from ticketsearch.datasets import Dataset
from ticketsearch.errors import BadInput
from ticketsearch.models import Factory
from ticketsearch.plugins import OBJECT
from ticketsearch.settings import Settings

__all__ = ["Objects"]

SETTINGS = {"data": "data.name", "model": "model.name", "fitness": "fitness.name"}


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
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return {SETTINGS[kind]: _name(value) for kind, value in given.items() if value is not None}

    def check(self, settings: Settings) -> None:
        """Raise :class:`BadInput` for an object that settings name otherwise."""
        for setting, name in self.names().items():
            section, _, key = setting.partition(".")
            stored = getattr(getattr(settings, section), key)
            if not stored.startswith(OBJECT):
                raise BadInput(
                    f"{setting} of these settings is {stored!r}, which needs no Python object, but got "
                    f"{name.removeprefix(OBJECT)!r}; leave {section}= out"
                )


def _name(value: Any) -> str:
    name = value.name if isinstance(value, Dataset) else getattr(value, "__name__", type(value).__name__)
    return f"{OBJECT}{name}"
