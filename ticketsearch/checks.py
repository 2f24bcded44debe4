"""Checks of arguments and settings: types and bounds, with errors on one line.

A function that is decorated with :func:`checked` refuses arguments that are not of their annotations:
``count: Count`` refuses ``"3"``, ``1.5`` and ``10**30``, and so does a setting of that type.
"""

from __future__ import annotations

import functools
import inspect
import math
import os
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import index
from typing import Annotated, Any, Literal, NamedTuple, ParamSpec, TypeVar

import numpy as np
from annotated_types import Interval
from numpy.typing import ArrayLike, NDArray

from ticketsearch.errors import BadInput, shown

__all__ = [
    "LAYERS",
    "SEVERAL",
    "Count",
    "Generations",
    "Members",
    "Orders",
    "Steps",
    "Workers",
    "check",
    "check_count",
    "check_flag",
    "check_pair",
    "checked",
    "finite",
    "is_integer",
    "is_number",
    "real_array",
]

P = ParamSpec("P")
R = TypeVar("R")

# Upper limits: above all useful values, and far below those that fill memory or take a day. Lower limits are
# checked where the values are used.
Members = Annotated[int, Interval(le=1_000_000)]  # of a population
Generations = Annotated[int, Interval(le=1_000_000)]
Steps = Annotated[int, Interval(le=100_000)]  # of a pruning
Orders = Annotated[int, Interval(le=10_000)]  # data orders, initializations, candidates
Count = Annotated[int, Interval(le=1_000_000)]  # draws, restarts, attempts
Workers = Annotated[int, Interval(le=1_024)]
LAYERS, SEVERAL = 1_000, 1_000  # hidden layers of an mlp; densities or methods of one study

# Sources of arguments of these types, for error messages.
SOURCES = {
    "Dataset": "ts.load_dataset and ts.from_arrays make one",
    "Network": "ts.initialize makes one",
    "MaskSpec": "network.spec is one",
    "Generation": "ts.evolve yields them",
    "Ticket": "ts.seed_population makes them",
    "Initialization": "ts.initializations makes them",
    "Comparison": "ts.compare returns one",
    "DensitySchedule": "as ts.DensitySchedule(start=0.5, final=0.05)",
    "Overlaps": "ts.study_pruners returns one",
    "Settings": "ticketsearch.settings.load makes one",
}


class Rule(NamedTuple):
    """A rule for values: its text, a test whether a value keeps it, and the largest number, if any."""

    words: str
    holds: Callable[[Any], bool]
    limit: int | None = None

    def broken(self, value: Any) -> str:
        """Return the part of the rule that a value breaks, or an empty text."""
        if not self.holds(value):
            return self.words
        if self.limit is not None and is_integer(value) and value > self.limit:
            return f"at most {self.limit:,}"
        return ""


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Return a function that refuses arguments that are not of their annotations.

    Arguments with a limit are checked before the call. All others are checked after the function has failed:
    its own messages may be more precise, and masks are then checked once. Raises :class:`BadInput` with the
    argument, its rule and the value; errors that the arguments do not explain pass unchanged.
    """
    parameters = inspect.signature(function).parameters.values()
    places = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    # A generator fails later, outside of this call.
    lazy = str(inspect.signature(function).return_annotation).startswith("Iterator")

    @functools.cache
    def rules() -> dict[str, Rule]:
        named = (p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD))
        by_name = {p.name: _rule(_evaluated(p.annotation, function)) for p in named}
        return {name: rule for name, rule in by_name.items() if rule is not None}

    @functools.cache
    def limited() -> dict[str, Rule]:
        return {name: rule for name, rule in rules().items() if rule.limit is not None}

    def refuse(known: Mapping[str, Rule], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        for name, value in (*zip(places, args, strict=False), *kwargs.items()):
            if name in known and (rule := known[name].broken(value)):
                raise BadInput(f"{name} must be {rule}, but got {shown(value)}")

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        refuse(limited(), args, kwargs)
        try:
            result = function(*args, **kwargs)
        except BadInput:
            raise
        except Exception:
            refuse(rules(), args, kwargs)
            raise
        if lazy:
            refuse(rules(), args, kwargs)
        return result

    return call


def check(name: str, value: object, hint: Any) -> None:
    """Raise :class:`BadInput` for a value that is not of an annotation such as :data:`Steps`."""
    rule = _rule(hint)
    if rule is not None and (broken := rule.broken(value)):
        raise BadInput(f"{name} must be {broken}, but got {shown(value)}")


def is_integer(value: object) -> bool:
    """Whether a value is an integer of Python or NumPy; truth values are not."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Whether a value is a real number of Python or NumPy, infinite or not; truth values are not."""
    return is_integer(value) or isinstance(value, float | np.floating)


def real_array(what: str, values: Any) -> NDArray[Any]:
    """Return an array of real numbers or truth values; a tensor is detached and copied to the CPU.

    Raises :class:`BadInput` for complex numbers, text, objects and ragged lists.
    """
    try:
        plain = values.detach().cpu() if hasattr(values, "detach") else values
        array = np.asarray(plain)
    except Exception as error:  # an object's own code may raise anything
        reason = str(error).partition("\n")[0].rstrip(".:") or type(error).__name__
        raise BadInput(f"{what} must be an array of numbers, but {reason}") from error
    if array.dtype.kind not in "biuf":
        raise BadInput(f"{what} must be an array of real numbers, but got dtype {array.dtype}: convert it")
    return array


def _evaluated(annotation: Any, function: Callable[..., Any]) -> Any:
    """Return the type of an annotation, Any where it is imported under TYPE_CHECKING."""
    if not isinstance(annotation, str):
        return Any if annotation is inspect.Parameter.empty else annotation
    try:
        return eval(annotation, inspect.unwrap(function).__globals__)  # the package's own text
    except NameError:
        return Any


def _rule(hint: Any) -> Rule | None:
    """Return the rule of an annotation, or None where there is none."""
    plain = {
        int: Rule("an integer", is_integer),
        # A rate may be a truth value, such as the result of a comparison: False is 0, True is 1.
        float: Rule("a number", lambda v: isinstance(v, bool) or (is_number(v) and not math.isnan(v))),
        bool: Rule("True or False", lambda value: isinstance(value, bool | np.bool_)),
        str: Rule("a text", lambda value: isinstance(value, str)),
        type(None): Rule("None", lambda value: value is None),
    }
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any or hint is object:
        return None
    if hint in plain:
        return plain[hint]
    if origin is Annotated:
        return _limited(arguments[0], arguments[1:])
    if origin is Literal:
        words = ", ".join(repr(value) for value in arguments)
        return Rule(f"one of {words}", lambda value: isinstance(value, str) and value in arguments)
    if origin in (typing.Union, types.UnionType):
        return _any_of(arguments)
    if origin is Callable or hint is Callable:
        return Rule("a function", callable)
    if origin in (Sequence, list, Iterable):
        return _several(origin, arguments)
    if origin is tuple and Ellipsis not in arguments:
        return _tuple([_rule(argument) for argument in arguments])
    if origin in (Mapping, dict) or hint is Mapping:
        return Rule("a dictionary", lambda value: isinstance(value, Mapping))
    if origin is np.ndarray:
        return Rule("an array", _is_array)
    if isinstance(hint, type) and getattr(hint, "_is_runtime_protocol", not _is_protocol(hint)):
        return _instance(hint)
    return None


def _is_protocol(kind: type) -> bool:
    return bool(getattr(kind, "_is_protocol", False))


def _instance(kind: type) -> Rule:
    if issubclass(kind, os.PathLike):
        return Rule("a path", lambda value: isinstance(value, os.PathLike))
    name = "Dataset" if kind.__name__ == "Shaped" else kind.__name__
    source = SOURCES.get(name)
    words = f"{'an' if name[0] in 'AEIO' else 'a'} {name}" + (f" ({source})" if source else "")
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        length = len(kind._fields)
        return Rule(words, lambda value: isinstance(value, tuple) and len(value) == length)
    return Rule(words, lambda value: isinstance(value, kind))


def _limited(kind: Any, bounds: tuple[Any, ...]) -> Rule | None:
    rule = _rule(kind)
    limits = [bound.le for bound in bounds if isinstance(bound, Interval) and isinstance(bound.le, int)]
    return rule._replace(limit=limits[0]) if rule is not None and limits else rule


def _any_of(kinds: tuple[Any, ...]) -> Rule | None:
    scalars = set(typing.get_args(ArrayLike))
    rules = []
    if scalars <= set(kinds):  # an ArrayLike has been merged into the union
        rules.append(Rule("an array of numbers", _is_array))
        kinds = tuple(kind for kind in kinds if kind not in scalars)
    for kind in kinds:
        rule = _rule(kind)
        if rule is None:
            return None
        rules.append(rule)
    words = list(dict.fromkeys(rule.words for rule in rules))
    limit = next((rule.limit for rule in rules if rule.limit is not None), None)
    return Rule(" or ".join(words), lambda value: any(rule.holds(value) for rule in rules), limit)


def _tuple(items: Sequence[Rule | None]) -> Rule:
    def holds(value: Any) -> bool:
        if not isinstance(value, tuple | list) or len(value) != len(items):
            return False
        return all(rule is None or rule.holds(item) for rule, item in zip(items, value, strict=True))

    return Rule(f"{len(items)} in a tuple", holds)


def _several(origin: Any, arguments: tuple[Any, ...]) -> Rule:
    item = _rule(arguments[0]) if arguments else None

    def holds(value: Any) -> bool:
        if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
            return False
        if origin is Iterable and not hasattr(value, "__len__"):
            return True
        if origin is not Iterable and not (hasattr(value, "__len__") and hasattr(value, "__getitem__")):
            return False
        if isinstance(value, np.ndarray) and value.ndim != 1:
            return False
        return item is None or all(item.holds(one) for one in value)

    return Rule(f"several, each {item.words}" if item else "several in a list", holds)


def _is_array(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.ndim > 0 and value.dtype.kind in "biufc"
    if isinstance(value, str | bytes | Mapping):
        return False
    try:
        plain = value.detach().cpu() if hasattr(value, "detach") else value
        array = np.asarray(plain)
    except Exception:  # an object's own code may raise anything
        return False
    return array.ndim > 0 and array.dtype.kind in "biufc"


def check_count(what: str, value: int, least: int = 0) -> None:
    """Raise :class:`BadInput` for a value that is no integer, or less than ``least``."""
    try:
        enough = not isinstance(value, bool) and index(value) >= least
    except TypeError:
        enough = False
    if not enough:
        raise BadInput(f"{what} is an integer from {least} up, but got {value!r}")


def check_flag(name: str, value: object) -> None:
    """Raise :class:`BadInput` for anything but True or False, such as the text ``"no"``, which is true."""
    if not isinstance(value, bool):
        raise BadInput(f"{name} must be true or false, but got {value!r}; write {name} = true or false")


def check_pair(what: str, given: object) -> None:
    """Raise :class:`BadInput` unless there are two values, one of the mask and one of the reference."""
    try:
        count = len(given)  # type: ignore[arg-type]
    except TypeError:
        count = 1
    if count != 2:
        raise BadInput(f"{what} are two, those of the mask and those of the reference, but got {count}")


def finite(what: str, values: ArrayLike) -> NDArray[np.float64]:
    """Return values as float64; raises :class:`BadInput` for text, ragged lists, NaN and infinities."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{what} are an array of numbers, but got other things ({error})") from error
    if not np.isfinite(array).all():
        raise BadInput(f"{what} are finite, but got NaN or infinity; mend or leave out what made them")
    return array
