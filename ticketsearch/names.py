"""What a name means: a function listed in a module, or one of the user's own in a file or package."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from ticketsearch.errors import BadInput, nearest, unknown

__all__ = ["check_keywords", "check_options", "listed", "parameters_of", "resolve"]


def listed(module: ModuleType) -> dict[str, Callable[..., Any]]:
    """Return the functions named in a module's ``__all__``: the names its users may give."""
    return {name: getattr(module, name) for name in module.__all__}


def resolve(
    text: str, known: Mapping[str, Callable[..., Any]], kind: str, supplied: tuple[str, ...] = ()
) -> Callable[..., Any]:
    """Return the function that ``text`` names.

    ``name`` is looked up in ``known``. In ``name:argument`` the argument goes to the function's first
    positional parameter that the caller does not itself give (``supplied``). ``file.py:function`` and
    ``package.module:function`` name a function anywhere else.

    Raises :class:`BadInput` for a name that is none of these.
    """
    name, colon, argument = text.partition(":")
    if name in known:
        return _with_argument(known[name], name, argument if colon else None, kind, supplied)
    if text.rpartition(":")[0].endswith(".py"):
        path, _, function = text.rpartition(":")
        return _attribute(_load_file(Path(path), kind), function, text, kind)
    if colon and "." in name and all(part.isidentifier() for part in name.split(".")):
        try:
            module = importlib.import_module(name)
        except Exception as error:  # the module's own code may raise anything
            raise BadInput(f"{kind} {text!r}: cannot import {name!r} ({_one_line(error)})") from error
        return _attribute(module, argument, text, kind)
    raise unknown(kind, name, known, "file.py:function names one of your own")


def check_options(
    function: Callable[..., Any],
    options: Mapping[str, object],
    kind: str,
    name: str,
    supplied: tuple[str, ...] = (),
) -> None:
    """Refuse options that the function does not take, or lacks, before anything is run.

    ``supplied`` names the keywords that its caller gives. Raises :class:`BadInput` naming the first unknown
    or missing option and the known ones.
    """
    parameters = inspect.signature(function).parameters.values()
    bound = function.keywords if isinstance(function, partial) else {}
    known = {
        p.name: p.default
        for p in parameters
        if p.name not in bound and p.name not in supplied
        if p.kind is p.KEYWORD_ONLY or p.default is not p.empty
        if p.kind is not p.VAR_KEYWORD
    }
    anything = any(p.kind is p.VAR_KEYWORD for p in parameters)
    takes = f"it takes {', '.join(known)}" if known else "it takes none"
    for option in options:
        if option not in known and not anything:
            raise BadInput(f"{kind} {name!r} has no option {option!r}{nearest(option, known)}: {takes}")
    for option, default in known.items():
        if default is inspect.Parameter.empty and option not in options:
            raise BadInput(f"{kind} {name!r} needs the option {option!r}: {takes}")


def check_keywords(function: Callable[..., Any], keywords: tuple[str, ...], kind: str, name: str) -> None:
    """Refuse a function that cannot be given these keywords; raises :class:`BadInput` naming the first."""
    parameters = inspect.signature(function).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    for keyword in keywords:
        if keyword not in parameters:
            raise BadInput(
                f"a {kind} is called with {', '.join(keywords)}, but {name!r} takes no {keyword!r}"
            )


def parameters_of(function: Callable[..., Any]) -> frozenset[str]:
    """Return the names of a function's parameters; none of a built-in one that does not tell."""
    try:
        return frozenset(inspect.signature(function).parameters)
    except ValueError:
        return frozenset()


def _with_argument(
    function: Callable[..., Any], name: str, argument: str | None, kind: str, supplied: tuple[str, ...]
) -> Callable[..., Any]:
    positional = [
        parameter
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD and parameter.name not in supplied
    ]
    if argument is None:
        if positional and positional[0].default is positional[0].empty:
            takes = positional[0].name
            raise BadInput(f"{kind} {name!r} needs its {takes}: write {name}:{takes.upper()}")
        return function
    if not positional:
        raise BadInput(f"{kind} {name!r} takes nothing after a colon, but got {name}:{argument}")
    return partial(function, **{positional[0].name: argument})


def _load_file(path: Path, kind: str) -> ModuleType:
    if not path.is_file():
        raise BadInput(f"{kind}: no file {str(path)!r}")
    spec = importlib.util.spec_from_file_location(f"file_{path.stem}", path)
    assert spec is not None  # a .py suffix always finds the source loader
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # A dataclass looks its own module up while it is made. It is listed only that long: worker processes
    # cannot import it by name and so must be sent its functions whole.
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise BadInput(f"{kind}: {str(path)!r} does not load ({_one_line(error)})") from error
    finally:
        del sys.modules[spec.name]
    return module


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _attribute(module: ModuleType, name: str, text: str, kind: str) -> Callable[..., Any]:
    function = getattr(module, name, None)
    if not callable(function):
        callables = [n for n, value in vars(module).items() if callable(value) and not n.startswith("_")]
        raise BadInput(f"{kind} {text!r}: no function {name!r} there{nearest(name, callables)}")
    found: Callable[..., Any] = function
    return found
