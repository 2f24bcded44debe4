"""Checks of the frozen options of a search, made when an object is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Any, get_type_hints

from ticketsearch.checks import check
from ticketsearch.errors import BadInput

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["AT_LEAST_0", "AT_LEAST_1", "AT_LEAST_1_OR_NONE", "IN_0_TO_1", "POSITIVE_TO_1", "check_fields"]

# A rule as text, and whether a value of the right type keeps it.
FieldRule = tuple[str, Callable[[Any], bool]]

AT_LEAST_0: FieldRule = (">= 0", lambda value: value >= 0)
AT_LEAST_1: FieldRule = (">= 1", lambda value: value >= 1)
AT_LEAST_1_OR_NONE: FieldRule = (">= 1", lambda value: value is None or value >= 1)
IN_0_TO_1: FieldRule = ("in [0, 1]", lambda value: 0 <= value <= 1)
POSITIVE_TO_1: FieldRule = ("in (0, 1]", lambda value: 0 < value <= 1)


def check_fields(options: DataclassInstance, **rules: FieldRule) -> None:
    """Raise :class:`BadInput` for the first field of another type, or whose rule does not hold."""
    hints = get_type_hints(type(options), include_extras=True)
    for field in fields(options):
        value = getattr(options, field.name)
        check(field.name, value, hints[field.name])
        if field.name in rules:
            rule, holds = rules[field.name]
            if not holds(value):
                raise BadInput(f"{field.name} must be {rule}, but got {value}")
